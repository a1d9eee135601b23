"""Is there another host that listens to VRRP on this link, right now?

A master that is to give its mastership away wants to know whether anybody could take it. In plain
VRRP a backup never says a word, so it has to be asked, in a way that changes nothing for it or
for the network. Three questions, by what the instance uses:

=================  ===========================================================================
IPv4 multicast     An IGMPv3 query for the one group 224.0.0.18: the kernel of every member
                   answers with a membership report (RFC 3376 §5.2), whatever its VRRP daemon.
IPv6 multicast     An echo request to ff02::12: the kernel of every member answers (RFC 4443
                   §4.2), unless ``echo_ignore_multicast`` is set there.
one known host     A unicast peer, or a router heard earlier: it answers an echo request, and
                   does not answer a datagram of protocol 112 with "protocol unreachable"
                   (IPv6: "unknown next header"), so some socket took the datagram.
=================  ===========================================================================

Why it disturbs nobody
----------------------
* The query is *group-specific* and goes to members of the group only; ``igmp`` says why each of
  its fields can change nothing.
* The echo request has hop limit 1 and goes to members of the group only.
* The datagram of protocol 112 is no advert, three times over: TTL 254 (RFC 9568 §7.1: discarded
  unless it is 255), VRID 0, which no router can have, version and type 0. Its receiver counts it
  as discarded, and that is all.
* Nothing joins a group, so our own host reports nothing. Only the card's filter is opened for
  the address that reports go to.

What the answer proves
----------------------
That another host's *kernel* listens. A daemon that is frozen looks like a living one, its socket
is open. A backup of another VRID on the same link looks like ours. And silence is no proof of
absence: a snooping switch sends reports to the ports of multicast routers only (Linux bridges do
so with version 2, that is on links with a querier of version 2; switches may with version 3, too),
a firewall may drop the echo, and a host may be told not to report link-local groups
(``igmp_link_local_mcast_reports``). That is why routers that were heard earlier are asked in
person as well. The answer is advice to an operator who can overrule it, never an input of the
election. docs/maintenance.md has what was measured.

A unicast peer that does not refuse is believed only after ``DOUBT_S``. This host's own adverts to
it are refused as well, and use up what it may refuse (Linux: six, then one a second for each
asker), so that none is left for the question. But each refusal that is sent comes to the socket
that asks, whichever datagram it answers: of adverts more frequent than one a second one is
refused within a second, and less frequent ones use nothing up.

Nothing here blocks: the sockets are read by the event loop, and closed by a thread, because a
packet socket's end waits for an RCU grace period.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from vipd.adapters import bpf, netlink
from vipd.adapters.igmp import query, reporter
from vipd.adapters.listener_direct import DirectQuestion, EchoTalk, icmp_socket
from vipd.errors import AdapterError, PermissionMissing
from vipd.model import Address, Family, Link, format_address

ATTEMPTS = 3
"""A question or its answer may be lost, like every multicast."""

GRACE_S = 0.03
"""After the first answer: what left at the same time (a refusal, a second host) arrives by then."""

DOUBT_S = 1.1
"""For a refusal of a unicast peer that has used up those it may send."""

MOST_AT_ONCE = 64

GROUP = socket.inet_pton(socket.AF_INET, "224.0.0.18")
_GROUP6 = socket.inet_pton(socket.AF_INET6, "ff02::12")
_GROUP4_MAC = bytes.fromhex("01005e000012")
_REPORTS_MAC = bytes.fromhex("01005e000016")  # 224.0.0.22, where version 3 reports go

# <linux/if_packet.h>, <linux/if_ether.h>
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_MULTICAST = 263, 1, 0
_PACKET_OUTGOING = 4
_ETH_P_IP = 0x0800
_LARGEST_PACKET = 65_535

_PACKET_MEMBERSHIP = struct.Struct("=iHH8s")
_PKTINFO6 = struct.Struct("=16si")

# IP header, byte 9: the protocol
_ONLY_IGMP = (
    bpf.load_byte(bpf.NETWORK_HEADER + 9),
    bpf.skip_unless_equal(socket.IPPROTO_IGMP, 1),
    bpf.ACCEPT,
    bpf.DROP,
)


@dataclass(frozen=True, slots=True)
class Listeners:
    """The other hosts that listen, as far as one was found, and what was asked, in words.

    ``found`` are addresses, or the MAC of a host that answers without one. The search ends with
    the first answer, so they need not be all.
    """

    found: tuple[str, ...]
    asked: str


async def find_listeners(
    interface: str,
    family: Family,
    source: Address | None,
    unicast_peers: Sequence[Address] = (),
    timeout_s: float = 1.0,
    *,
    heard: Sequence[Address] = (),
) -> Listeners:
    """Ask, at most ``timeout_s`` long; ``DOUBT_S`` longer if a unicast peer is found.

    ``heard``: routers whose adverts were heard earlier. With ``unicast_peers`` nobody else is
    asked, without it the group and ``heard``. Raises AdapterError where nothing can be asked.
    """
    links, addresses = netlink.dump()
    link = next((link for link in links if link.name == interface), None)
    if link is None:
        raise AdapterError(f"there is no interface {interface}", errno.ENODEV)
    own = {address.address for address in addresses}
    directly = [peer for peer in unicast_peers or heard if peer not in own]
    questions: list[_Question] = []
    try:
        try:
            if not unicast_peers and family is Family.IPV4:
                questions.append(_GroupQuery(link, own, {other.mac for other in links}))
            elif not unicast_peers:
                questions.append(_GroupEcho(link, source, own))
            questions.extend(DirectQuestion(link, source, peer) for peer in directly)
        except OSError as error:
            raise _refused(f"asking for VRRP listeners on {interface}", error) from error
        found = await _ask(questions, timeout_s)
        if found and unicast_peers:
            await asyncio.sleep(DOUBT_S)
            found = _judge(questions)
        return Listeners(found, "; ".join(question.words for question in questions))
    finally:
        sockets = [sock for question in questions for sock in question.sockets]
        await asyncio.to_thread(_close, sockets)


# --- asking -----------------------------------------------------------------------------------


class _Question(Protocol):
    """``ask`` sends it, ``hear`` reads what came at one of its sockets, ``found`` judges.

    ``refused``: the answer was a clear no, so that asking again is of no use.
    """

    sockets: tuple[socket.socket, ...]
    words: str
    refused: bool

    def ask(self) -> None: ...
    def hear(self, sock: socket.socket) -> bool: ...
    def found(self) -> tuple[str, ...]: ...


async def _ask(questions: Sequence[_Question], timeout_s: float) -> tuple[str, ...]:
    """Ask everybody, again and again, until somebody is found or the time is up."""
    loop = asyncio.get_running_loop()
    answered = asyncio.Event()
    pairs = [(question, sock) for question in questions for sock in question.sockets]

    def hear(question: _Question, sock: socket.socket) -> None:
        if _drain(question, sock):
            answered.set()

    for question, sock in pairs:
        loop.add_reader(sock, hear, question, sock)
    try:
        for _attempt in range(ATTEMPTS):
            asked = [question for question in questions if not question.refused]
            if not asked:
                break
            for question in asked:
                with contextlib.suppress(OSError):  # no route, no neighbour: no answer
                    question.ask()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(answered.wait(), timeout_s / ATTEMPTS)
                await asyncio.sleep(GRACE_S)
            answered.clear()
            if found := _judge(questions):
                return found
        return ()
    finally:
        for _question, sock in pairs:
            loop.remove_reader(sock)


def _judge(questions: Sequence[_Question]) -> tuple[str, ...]:
    """Who was found, by all that has come by now."""
    for question in questions:
        for sock in question.sockets:
            _drain(question, sock)
    return tuple(dict.fromkeys(who for question in questions for who in question.found()))


def _drain(question: _Question, sock: socket.socket) -> bool:
    """Read what waits, within reason; whether anything was an answer."""
    answer = False
    for _ in range(MOST_AT_ONCE):
        try:
            answer |= question.hear(sock)
        except BlockingIOError:
            break
        except OSError:
            continue  # the error that a socket reports is gone once it was reported
    return answer


def _close(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _refused(what: str, error: OSError) -> AdapterError:
    if isinstance(error, PermissionError):
        cure = "run as root, or with CAP_NET_RAW and CAP_NET_ADMIN"
        return PermissionMissing(f"{what}: {error.strerror}; {cure}", error.errno or 0)
    return AdapterError(f"{what}: {error.strerror}", error.errno or 0)


# --- the group, IPv4 --------------------------------------------------------------------------


class _GroupQuery:
    """IGMPv3: who is a member of 224.0.0.18?"""

    refused = False

    def __init__(self, link: Link, own: set[Address], own_macs: set[bytes]) -> None:
        self.words = f"asked for the members of 224.0.0.18 on {link.name} (IGMP)"
        self._link = link
        self._own, self._own_macs = own, own_macs
        self._found: dict[str, None] = {}
        # Of no protocol until the filter stands, so that nothing else gets in before.
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
        self.sockets: tuple[socket.socket, ...] = (sock,)
        try:
            bpf.attach(sock, _ONLY_IGMP)
            for mac in (_REPORTS_MAC, _GROUP4_MAC):
                membership = _PACKET_MEMBERSHIP.pack(
                    link.index, _PACKET_MR_MULTICAST, len(mac), mac
                )
                sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
            sock.bind((link.name, _ETH_P_IP))
        except OSError:
            sock.close()
            raise

    def ask(self) -> None:
        self.sockets[0].sendto(query(GROUP), (self._link.name, _ETH_P_IP, 0, 0, _GROUP4_MAC))

    def hear(self, sock: socket.socket) -> bool:
        packet, (_name, _protocol, kind, _type, mac) = sock.recvfrom(_LARGEST_PACKET)
        source = reporter(packet, GROUP)
        ours = kind == _PACKET_OUTGOING or mac in self._own_macs or source in self._own
        if source is None or ours:
            return False
        self._found[format_address(source) if any(source) else mac.hex(":")] = None
        return True

    def found(self) -> tuple[str, ...]:
        return tuple(self._found)


# --- the group, IPv6 --------------------------------------------------------------------------


class _GroupEcho:
    """An echo request to ff02::12."""

    refused = False

    def __init__(self, link: Link, source: Address | None, own: set[Address]) -> None:
        self.words = f"sent an echo request to ff02::12 on {link.name}"
        self._link = link
        self._own = own
        self._echo = EchoTalk(Family.IPV6)
        self._found: dict[str, None] = {}
        sock = icmp_socket(Family.IPV6, link)
        self.sockets: tuple[socket.socket, ...] = (sock,)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
        self._info = _PKTINFO6.pack(source or bytes(16), link.index)

    def ask(self) -> None:
        target = (format_address(_GROUP6), 0, 0, self._link.index)
        ancillary = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, self._info)]
        self.sockets[0].sendmsg([self._echo.request()], ancillary, 0, target)

    def hear(self, sock: socket.socket) -> bool:
        packet, sender = sock.recvfrom(_LARGEST_PACKET)
        source = socket.inet_pton(socket.AF_INET6, sender[0].partition("%")[0])
        if source in self._own or not self._echo.is_answer(packet):
            return False
        self._found[format_address(source)] = None
        return True

    def found(self) -> tuple[str, ...]:
        return tuple(self._found)
