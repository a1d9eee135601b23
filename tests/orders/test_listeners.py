"""Who listens to VRRP, asked of real kernels.

Silence takes the whole time that is given, so it is short here; nothing else depends on time.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.adapters.conftest import Namespace, packed
from vipd.adapters.listeners import Listeners, find_listeners
from vipd.adapters.vrrp_socket import VrrpSocket
from vipd.errors import AdapterError
from vipd.model import Family

pytestmark = pytest.mark.netns

Pair = tuple[Namespace, Namespace]
GROUP = {Family.IPV4: "224.0.0.18", Family.IPV6: "ff02::12"}
PEER = {Family.IPV4: "192.0.2.2", Family.IPV6: "fe80::2"}
FAMILIES = [Family.IPV4, Family.IPV6]
SILENCE_S = 0.4


def ask(host: Namespace, family: Family, timeout_s: float = 1.0, **options: Any) -> Listeners:
    with host:
        return asyncio.run(find_listeners("eth0", family, None, timeout_s=timeout_s, **options))


@contextmanager
def listening(host: Namespace, family: Family, *, multicast: bool = True) -> Iterator[None]:
    """A VRRP daemon as far as its kernel shows it."""
    with host:
        sock = VrrpSocket(host.link("eth0"), family, multicast=multicast)
    try:
        yield
    finally:
        sock.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_listener_is_found(pair: Pair, family: Family) -> None:
    with listening(pair[1], family):
        assert ask(pair[0], family).found == (PEER[family],)


@pytest.mark.parametrize("family", FAMILIES)
def test_nobody_listens(pair: Pair, family: Family) -> None:
    answer = ask(pair[0], family, SILENCE_S)
    assert answer.found == ()
    assert GROUP[family] in answer.asked


@pytest.mark.parametrize("family", FAMILIES)
def test_this_host_itself_is_nobody(pair: Pair, family: Family) -> None:
    with listening(pair[0], family):
        assert ask(pair[0], family, SILENCE_S).found == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_daemon_that_ended_is_nobody(pair: Pair, family: Family) -> None:
    with listening(pair[1], family):
        pass
    assert ask(pair[0], family, SILENCE_S).found == ()


def test_a_second_link_to_the_same_network_is_this_host(pair: Pair) -> None:
    """Its reports come in by the first link, and its echo replies too."""
    left, right = pair
    right.run(
        """
        ip link add br0 type bridge
        ip link set br0 up
        ip link set eth0 master br0
        """
    )
    theirs = f"/proc/{os.getpid()}/fd/{right.fd}"
    left.run(f"ip link add eth1 type veth peer name port netns {theirs}")
    left.run("ip link set eth1 up; ip addr add 192.0.2.9/24 dev eth1")
    right.run("ip link set port master br0; ip link set port up")
    with left:
        sock = VrrpSocket(left.link("eth1"), Family.IPV4, multicast=True)
    try:
        assert ask(left, Family.IPV4, SILENCE_S).found == ()
    finally:
        sock.close()


@pytest.mark.parametrize("version", [1, 2])
def test_a_host_that_speaks_an_older_version(pair: Pair, version: int) -> None:
    pair[1].run(f"sysctl -qw net.ipv4.conf.eth0.force_igmp_version={version}")
    with listening(pair[1], Family.IPV4):
        # version 1 chooses its moment within 10 s, whatever the query says
        found = ask(pair[0], Family.IPV4, 12.0 if version == 1 else 1.0).found
    assert found == ("192.0.2.2",)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_unicast_peer_takes_vrrp(pair: Pair, family: Family) -> None:
    with listening(pair[1], family, multicast=False):
        answer = ask(pair[0], family, unicast_peers=(packed(PEER[family]),))
    assert answer.found == (PEER[family],)
    assert GROUP[family] not in answer.asked


@pytest.mark.parametrize("family", FAMILIES)
def test_a_unicast_peer_that_lives_but_refuses_vrrp(pair: Pair, family: Family) -> None:
    assert ask(pair[0], family, unicast_peers=(packed(PEER[family]),)).found == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_refusal_ends_the_search(pair: Pair, family: Family) -> None:
    """Asking again would use up the refusals that the host may send."""

    async def timed() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        peer = (packed(PEER[family]),)
        await find_listeners("eth0", family, None, peer, timeout_s=30.0)
        return loop.time() - began

    with pair[0]:
        assert asyncio.run(timed()) < 15


@contextmanager
def adverts(host: Namespace, family: Family) -> Iterator[None]:
    """Of a master, to its unicast peer: so many that nothing is left of what that may refuse."""
    ended = threading.Event()
    with host:
        kind = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
        sock = socket.socket(kind, socket.SOCK_RAW, 112)
        scope = (0, 0, socket.if_nametoindex("eth0")) if family is Family.IPV6 else (0,)

    def send() -> None:
        while not ended.wait(0.1):
            sock.sendto(bytes(12), (PEER[family], *scope))

    for _ in range(20):
        sock.sendto(bytes(12), (PEER[family], *scope))
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        ended.set()
        sender.join()
        sock.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_adverts_that_are_refused_hide_no_refusal(pair: Pair, family: Family) -> None:
    with adverts(pair[0], family):
        assert ask(pair[0], family, unicast_peers=(packed(PEER[family]),)).found == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_unicast_peer_that_is_down(pair: Pair, family: Family) -> None:
    with listening(pair[1], family, multicast=False):
        pair[1].run("ip link set eth0 down")
        peer = (packed(PEER[family]),)
        assert ask(pair[0], family, SILENCE_S, unicast_peers=peer).found == ()


def test_one_of_several_peers_is_enough(pair: Pair) -> None:
    with listening(pair[1], Family.IPV4, multicast=False):
        peers = (packed("192.0.2.77"), packed("192.0.2.2"), packed("192.0.2.1"))
        assert ask(pair[0], Family.IPV4, unicast_peers=peers).found == ("192.0.2.2",)


def test_a_router_heard_earlier_is_asked_where_its_report_does_not_come(pair: Pair) -> None:
    pair[1].run("sysctl -qw net.ipv4.igmp_link_local_mcast_reports=0")
    heard = (packed("192.0.2.2"),)
    with listening(pair[1], Family.IPV4):
        assert ask(pair[0], Family.IPV4, SILENCE_S).found == ()
        assert ask(pair[0], Family.IPV4, SILENCE_S, heard=heard).found == ("192.0.2.2",)


def test_an_interface_that_is_not_there(pair: Pair) -> None:
    with pair[0], pytest.raises(AdapterError, match="no interface eth9"):
        asyncio.run(find_listeners("eth9", Family.IPV4, None))


def test_a_link_that_is_down_is_silence(pair: Pair) -> None:
    pair[0].run("ip link set eth0 down")
    for family in FAMILIES:
        assert ask(pair[0], family, SILENCE_S).found == ()


def test_the_loop_goes_on_meanwhile(pair: Pair) -> None:
    """Nothing in it takes long: the supervisor's loop guards the engine."""

    async def longest_turn() -> float:
        loop = asyncio.get_running_loop()
        search = asyncio.ensure_future(find_listeners("eth0", Family.IPV4, None))
        longest, before = 0.0, loop.time()
        while not search.done():
            await asyncio.sleep(0.001)
            now = loop.time()
            longest, before = max(longest, now - before), now
        return longest

    with pair[0]:
        assert asyncio.run(longest_turn()) < 0.2


def test_what_is_sent_is_nothing_that_vrrp_would_take(pair: Pair) -> None:
    """All that the other host's VRRP socket gets, of both kinds of question."""
    left, right = pair
    with listening(right, Family.IPV4):
        with right:
            spy = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 112)
            index = right.link("eth0").index
        with spy:
            membership = struct.pack("=4s4si", packed("224.0.0.18"), bytes(4), index)
            spy.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            ask(left, Family.IPV4)
            ask(left, Family.IPV4, unicast_peers=(packed("192.0.2.2"),))
            packet = spy.recv(2048)
            with pytest.raises(BlockingIOError):
                spy.recv(2048)
    assert packet[8] == 254  # the TTL
    assert packet[20:] == bytes(8)  # version, type, VRID: 0


def test_asking_joins_no_group(pair: Pair) -> None:
    """Or this host would report, and snooping switches would learn something."""
    watch = "grep -c . /proc/net/igmp; grep -c . /proc/net/igmp6"
    before = pair[0].run(watch)
    counts: list[str] = []

    async def look() -> None:
        search = asyncio.ensure_future(find_listeners("eth0", Family.IPV4, None, timeout_s=0.3))
        await asyncio.sleep(0.1)
        with open("/proc/thread-self/net/igmp", encoding="ascii") as groups:
            counts.append(str(len(groups.readlines())))
        await search

    with pair[0]:
        asyncio.run(look())
    assert counts == [before.split()[0]]
