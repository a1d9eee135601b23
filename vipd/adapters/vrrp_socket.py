"""Sending and receiving VRRP: one raw socket (IP protocol 112) per link and family.

One socket serves every instance of its link and family, multicast and unicast alike: a raw
socket hears each packet of its protocol once, so a socket per instance would decode everything
as often as there are instances. The rules (RFC 9568 §5.1, checklist ENC-*):

* **Only this link, only our group** (ENC-12). Bound to the link by index: the same VRID on
  another link is another virtual router. Memberships of other programs must not let their groups
  in: IP_MULTICAST_ALL is off. IPv6 heeds IPV6_MULTICAST_ALL only on sockets that are bound to an
  address, so there a filter does it.
* **TTL or hop limit 255**, multicast and unicast (ENC-1, ENC-2): receivers discard all else.
* **Not looped back** (ENC-9): our own advert must never reach our own election.
* **The source is chosen per packet** (ENC-5), never by the routing table, which may prefer an
  address that was added later, or a VIP.
* **Precedence**: TOS / traffic class 0xC0 and SO_PRIORITY 7 (ENC-11), so that a full transmit
  queue does not look like a dead master.
* **The checksum is ours**, in both families. IPV6_CHECKSUM stays off: with it the kernel drops
  a bad packet before we could count it.

A membership dies with the link. A link that comes back has another index: open a new socket
(ENC-14). Down and up again, or a new name, changes nothing.
"""

from __future__ import annotations

import socket
import struct

from vipd.adapters import bpf
from vipd.adapters.sockopt import set_receive_buffer
from vipd.errors import AdapterError, PermissionMissing
from vipd.model import Address, Datagram, Family, Link, format_address

VRRP_PROTOCOL = 112
GROUP = {
    Family.IPV4: socket.inet_pton(socket.AF_INET, "224.0.0.18"),
    Family.IPV6: socket.inet_pton(socket.AF_INET6, "ff02::12"),
}

_HOP_LIMIT = 255
_INTERNETWORK_CONTROL = 0xC0
_HIGHEST_PRIORITY = 7
_LARGEST_PACKET = 65_535
# Room for what arrives while the engine is stalled: a packet costs the kernel under 1 KiB, so
# this is seconds of a link with hundreds of virtual routers.
_RECEIVE_BUFFER = 4 * 1024 * 1024

# <linux/in.h>, <linux/in6.h>, <asm-generic/socket.h>
_SO_BINDTOIFINDEX = 62
_IP_PKTINFO = 8
_IP_MULTICAST_ALL = 49
_IPV6_CHECKSUM_OFF = -1

_ANCILLARY_SPACE = 256
_PKTINFO4 = struct.Struct("=i4s4s")  # link index, source address, destination in the header
_PKTINFO6 = struct.Struct("=16si")  # address, link index
_MEMBERSHIP4 = struct.Struct("=4s4si")  # group, local address, link index
_MEMBERSHIP6 = struct.Struct("=16si")  # group, link index


class VrrpSocket:
    """VRRP packets of one family on one link. ``multicast`` false: unicast peers only."""

    def __init__(self, link: Link, family: Family, *, multicast: bool) -> None:
        self.link = link
        self.family = family
        self._socket = _open(family)
        try:
            _set_common_options(self._socket, link)
            if family is Family.IPV4:
                _set_ipv4_options(self._socket, link, multicast)
            else:
                _set_ipv6_options(self._socket, link, multicast)
        except OSError as error:
            self._socket.close()
            raise _refused(f"a VRRP socket on {link.name}", error) from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def receive(self) -> Datagram | None:
        """The next datagram, or None when none waits."""
        try:
            if self.family is Family.IPV4:
                packet = self._socket.recv(_LARGEST_PACKET)
                return Datagram(Family.IPV4, self.link.index, packet)
            return self._receive_ipv6()
        except BlockingIOError:
            return None
        except OSError as error:
            raise _refused(f"receiving on {self.link.name}", error) from error

    def _receive_ipv6(self) -> Datagram:
        payload, ancillary, _flags, sender = self._socket.recvmsg(_LARGEST_PACKET, _ANCILLARY_SPACE)
        destination: Address | None = None
        hop_limit: int | None = None
        for level, kind, data in ancillary:
            if level != socket.IPPROTO_IPV6:
                continue
            if kind == socket.IPV6_PKTINFO and len(data) >= _PKTINFO6.size:
                destination = _PKTINFO6.unpack_from(data)[0]
            elif kind == socket.IPV6_HOPLIMIT and len(data) >= 4:
                hop_limit = struct.unpack_from("=i", data)[0]
        source = socket.inet_pton(socket.AF_INET6, sender[0])
        return Datagram(Family.IPV6, self.link.index, payload, source, destination, hop_limit)

    def send(self, payload: bytes, source: Address, destination: Address) -> None:
        """Send a VRRP message, checksum included; the kernel adds the IP header.

        Raises AdapterError: ENETUNREACH (IPv4) or EINVAL (IPv6) when ``source`` is no address of
        this host, or not any more.
        """
        target: tuple[str, int] | tuple[str, int, int, int]
        if self.family is Family.IPV4:
            info = _PKTINFO4.pack(self.link.index, source, bytes(4))
            ancillary = [(socket.IPPROTO_IP, _IP_PKTINFO, info)]
            target = (format_address(destination), 0)
        else:
            info = _PKTINFO6.pack(source, self.link.index)
            ancillary = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)]
            target = (format_address(destination), 0, 0, self.link.index)
        try:
            self._socket.sendmsg([payload], ancillary, 0, target)
        except OSError as error:
            what = f"sending from {format_address(source)} on {self.link.name}"
            raise _refused(what, error) from error


def _open(family: Family) -> socket.socket:
    kind = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    try:
        sock = socket.socket(kind, socket.SOCK_RAW | socket.SOCK_NONBLOCK, VRRP_PROTOCOL)
    except OSError as error:
        raise _refused("a raw socket for VRRP", error) from error
    return sock


def _set_common_options(sock: socket.socket, link: Link) -> None:
    # By index, not by name: a rename between the kernel's word and this call binds no other link.
    sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, link.index)
    set_receive_buffer(sock, _RECEIVE_BUFFER)


def _set_ipv4_options(sock: socket.socket, link: Link, multicast: bool) -> None:
    ip = socket.IPPROTO_IP
    sock.setsockopt(ip, _IP_MULTICAST_ALL, 0)
    sock.setsockopt(ip, socket.IP_MULTICAST_LOOP, 0)
    sock.setsockopt(ip, socket.IP_MULTICAST_TTL, _HOP_LIMIT)
    sock.setsockopt(ip, socket.IP_TTL, _HOP_LIMIT)
    sock.setsockopt(ip, socket.IP_TOS, _INTERNETWORK_CONTROL)
    # After IP_TOS, which sets the priority as well, to a lower one.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _HIGHEST_PRIORITY)
    if multicast:
        membership = _MEMBERSHIP4.pack(GROUP[Family.IPV4], bytes(4), link.index)
        sock.setsockopt(ip, socket.IP_ADD_MEMBERSHIP, membership)


def _set_ipv6_options(sock: socket.socket, link: Link, multicast: bool) -> None:
    ip6 = socket.IPPROTO_IPV6
    bpf.attach(sock, _ipv6_destination_filter(multicast))
    sock.setsockopt(ip6, socket.IPV6_MULTICAST_LOOP, 0)
    sock.setsockopt(ip6, socket.IPV6_MULTICAST_IF, link.index)
    sock.setsockopt(ip6, socket.IPV6_MULTICAST_HOPS, _HOP_LIMIT)
    sock.setsockopt(ip6, socket.IPV6_UNICAST_HOPS, _HOP_LIMIT)
    sock.setsockopt(ip6, socket.IPV6_TCLASS, _INTERNETWORK_CONTROL)
    sock.setsockopt(ip6, socket.IPV6_RECVPKTINFO, 1)
    sock.setsockopt(ip6, socket.IPV6_RECVHOPLIMIT, 1)
    sock.setsockopt(ip6, socket.IPV6_CHECKSUM, _IPV6_CHECKSUM_OFF)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _HIGHEST_PRIORITY)
    if multicast:
        membership = _MEMBERSHIP6.pack(GROUP[Family.IPV6], link.index)
        sock.setsockopt(ip6, socket.IPV6_JOIN_GROUP, membership)


def _ipv6_destination_filter(multicast: bool) -> tuple[bpf.Instruction, ...]:
    """Accept unicast; accept our group if ``multicast``; drop every other group."""
    destination = bpf.NETWORK_HEADER + 24
    if not multicast:
        return (bpf.load_byte(destination), bpf.skip_unless_equal(0xFF, 1), bpf.DROP, bpf.ACCEPT)
    group: list[bpf.Instruction] = []
    for position, (word,) in enumerate(struct.iter_unpack(">I", GROUP[Family.IPV6])):
        to_the_drop = 2 * (3 - position) + 1  # over the rest of the comparison and the accept
        group.append(bpf.load_word(destination + 4 * position))
        group.append(bpf.skip_unless_equal(word, to_the_drop))
    to_the_accept = bpf.skip_unless_equal(0xFF, len(group))
    return (bpf.load_byte(destination), to_the_accept, *group, bpf.ACCEPT, bpf.DROP)


def _refused(what: str, error: OSError) -> AdapterError:
    if isinstance(error, PermissionError):
        cure = "run as root, or with CAP_NET_RAW and CAP_NET_ADMIN"
        return PermissionMissing(f"{what}: {error.strerror}; {cure}", error.errno or 0)
    return AdapterError(f"{what}: {error.strerror}", error.errno or 0)
