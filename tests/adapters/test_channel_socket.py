"""The channel's sockets between two hosts: paths, missing addresses, and errors that do no harm."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from tests.adapters.conftest import Namespace, packed, wait_for
from vipd.adapters.channel_socket import ChannelSocket
from vipd.errors import AdapterError
from vipd.model import Address

pytestmark = pytest.mark.netns

PORT = 3112
LEFT, RIGHT = ("192.0.2.1", "2001:db8::1"), ("192.0.2.2", "2001:db8::2")
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
LONGEST = b"x" * 1200


class Open:
    def __init__(self) -> None:
        self._sockets: list[ChannelSocket | socket.socket] = []

    def channel(self, host: Namespace, address: str, port: int = PORT) -> ChannelSocket:
        with host:
            made = ChannelSocket(packed(address), port)
        self._sockets.append(made)
        return made

    def capture(self, host: Namespace, ethertype: int) -> socket.socket:
        with host:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            made.bind(("eth0", ethertype))
        self._sockets.append(made)
        return made

    def stranger(self, host: Namespace, address: str) -> socket.socket:
        with host:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            made = socket.socket(family, socket.SOCK_DGRAM)
            made.bind((address, 0))
        self._sockets.append(made)
        return made

    def close(self) -> None:
        for made in self._sockets:
            made.close()


@pytest.fixture
def opened() -> Iterator[Open]:
    made = Open()
    yield made
    made.close()


def arrival(sock: ChannelSocket) -> tuple[bytes, Address]:
    return wait_for(sock.receive)


def sent(capture: socket.socket, match: bytes) -> bytes:
    """The captured frame that ends with ``match``."""

    def look() -> bytes | None:
        try:
            frame = capture.recv(2048)
        except BlockingIOError:
            return None
        return frame if frame.endswith(match) else None

    return wait_for(look)


@FAMILIES
def test_what_is_sent_arrives_with_its_source(
    pair: tuple[Namespace, Namespace], opened: Open, family: int
) -> None:
    left, right = pair
    here, there = opened.channel(left, LEFT[family]), opened.channel(right, RIGHT[family])
    assert there.receive() is None
    here.send(LONGEST, there.own)
    assert arrival(there) == (LONGEST, here.own)
    there.send(b"back", here.own)
    assert arrival(here) == (b"back", there.own)
    assert not here.refused


@FAMILIES
def test_each_address_of_a_host_is_a_path_of_its_own(
    pair: tuple[Namespace, Namespace], opened: Open, family: int
) -> None:
    left, right = pair
    second = ("192.0.2.11", "2001:db8::11")[family]
    left.run(f"ip addr add {second}/{(24, 64)[family]} dev eth0 {('', 'nodad')[family]}")
    here = [opened.channel(left, address) for address in (LEFT[family], second)]
    there = opened.channel(right, RIGHT[family])
    for sock in here:
        sock.send(b"by", there.own)
        assert arrival(there) == (b"by", sock.own)
    there.send(b"to the second", packed(second))
    assert arrival(here[1]) == (b"to the second", there.own)
    assert here[0].receive() is None


@FAMILIES
def test_the_address_may_come_go_and_come_back(
    pair: tuple[Namespace, Namespace], opened: Open, family: int
) -> None:
    left, right = pair
    late = ("192.0.2.9", "2001:db8::9")[family]
    with_prefix = f"{late}/{(24, 64)[family]} dev eth0"
    here, there = opened.channel(left, late), opened.channel(right, RIGHT[family])
    for _ in range(2):
        there.send(b"too early", here.own)
        left.run(f"ip addr add {with_prefix} {('', 'nodad')[family]}")

        def heard() -> bool:  # a neighbour that did not answer is asked again after a second
            here.send(b"now", there.own)
            there.send(b"you too", here.own)
            return here.receive() is not None and there.receive() is not None

        wait_for(heard)
        left.run(f"ip addr del {with_prefix}")


def test_without_its_address_an_ipv4_socket_sends_nothing(
    pair: tuple[Namespace, Namespace], opened: Open
) -> None:
    here = opened.channel(pair[0], "192.0.2.9")
    here.send(b"from nobody", packed(RIGHT[0]))
    assert sum(here.refused.values()) == 1


@FAMILIES
def test_precedence_and_no_pieces(
    pair: tuple[Namespace, Namespace], opened: Open, family: int
) -> None:
    left, right = pair
    here = opened.channel(left, LEFT[family])
    opened.channel(right, RIGHT[family])
    capture = opened.capture(right, (0x0800, 0x86DD)[family])
    here.send(LONGEST, packed(RIGHT[family]))
    header = sent(capture, LONGEST)[14:]
    if family == 0:
        assert header[1] == 0xC0
        assert header[6] & 0x40, "DF"
        ports = header[20:24]
    else:
        assert int.from_bytes(header[:4], "big") >> 20 & 0xFF == 0xC0
        ports = header[40:44]
    assert ports == PORT.to_bytes(2, "big") * 2


@FAMILIES
def test_more_than_the_link_carries_is_refused_and_counted(
    pair: tuple[Namespace, Namespace], opened: Open, family: int
) -> None:
    here = opened.channel(pair[0], LEFT[family])
    here.send(b"x" * 1600, packed(RIGHT[family]))
    assert here.refused == {errno.EMSGSIZE: 1}


@FAMILIES
def test_a_peer_that_is_not_there_is_harmless(
    pair: tuple[Namespace, Namespace], opened: Open, family: int
) -> None:
    left, right = pair
    here = opened.channel(left, LEFT[family])
    capture = opened.capture(left, (0x0800, 0x86DD)[family])
    for _ in range(3):
        here.send(b"anybody?", packed(RIGHT[family]))
        # The other host's ICMP "port unreachable" quotes what we sent.
        sent(capture, b"anybody?")
    there = opened.channel(right, RIGHT[family])
    there.send(b"now", here.own)
    assert arrival(here) == (b"now", there.own)


@FAMILIES
def test_no_route_and_a_link_that_is_down_are_counted(
    pair: tuple[Namespace, Namespace], opened: Open, family: int
) -> None:
    left, _right = pair
    here = opened.channel(left, LEFT[family])
    here.send(b"nowhere", packed(("203.0.113.1", "2001:db8:f::1")[family]))
    assert here.refused == {errno.ENETUNREACH: 1}
    left.run("ip link set eth0 down")
    here.send(b"nowhere", packed(RIGHT[family]))
    assert sum(here.refused.values()) == 2


@FAMILIES
def test_too_long_and_empty_datagrams_arrive_as_such(
    pair: tuple[Namespace, Namespace], opened: Open, family: int
) -> None:
    left, right = pair
    there = opened.channel(right, RIGHT[family])
    stranger = opened.stranger(left, LEFT[family])
    for data, length in ((b"x" * 60_000, 2048), (b"", 0), (b"x", 1)):
        stranger.sendto(data, (RIGHT[family], PORT))
        heard, source = arrival(there)
        assert (len(heard), source) == (length, packed(LEFT[family]))


def test_a_link_local_address_and_a_taken_port_are_refused(
    namespace: Namespace, opened: Open
) -> None:
    with pytest.raises(AdapterError) as link_local:
        opened.channel(namespace, "fe80::1")
    assert link_local.value.errno == errno.EINVAL
    opened.channel(namespace, "127.0.0.1")
    with pytest.raises(AdapterError) as taken:
        opened.channel(namespace, "127.0.0.1")
    assert taken.value.errno == errno.EADDRINUSE
    opened.channel(namespace, "127.0.0.1", PORT + 1)
    opened.channel(namespace, "127.0.0.2")
