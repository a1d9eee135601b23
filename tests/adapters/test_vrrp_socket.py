"""VRRP sockets between two hosts: what is sent, what is heard, and what is not."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.adapters.conftest import Namespace, packed, wait_for
from vipd.adapters.vrrp_socket import GROUP, VrrpSocket
from vipd.errors import AdapterError
from vipd.model import Datagram, Family

pytestmark = pytest.mark.netns

# The adapter carries bytes: what is in them is the business of vipd.wire. The checksum is wrong
# on purpose, since a bad packet must reach us to be counted.
PAYLOAD = bytes.fromhex("3133960100640000") + b"\xc0\x00\x02\x64"
OWN = {Family.IPV4: packed("192.0.2.1"), Family.IPV6: packed("fe80::1")}
PEER = {Family.IPV4: packed("192.0.2.2"), Family.IPV6: packed("fe80::2")}
FAMILIES = pytest.mark.parametrize("family", list(Family))


class Open:
    """Sockets that are opened inside a namespace and closed after the test."""

    def __init__(self) -> None:
        self._sockets: list[VrrpSocket | socket.socket] = []

    def vrrp(
        self, host: Namespace, family: Family, link: str = "eth0", *, multicast: bool = True
    ) -> VrrpSocket:
        with host:
            made = VrrpSocket(host.link(link), family, multicast=multicast)
        self._sockets.append(made)
        return made

    def capture(self, host: Namespace, ethertype: int) -> socket.socket:
        with host:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            made.bind(("eth0", ethertype))
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


def arrival(sock: VrrpSocket) -> Datagram:
    return wait_for(sock.receive)


def parts(datagram: Datagram) -> tuple[bytes, bytes, int, bytes]:
    """Source, destination, hop limit, VRRP message."""
    if datagram.family is Family.IPV4:
        header = datagram.data[:20]
        assert header[0] == 0x45
        assert struct.unpack_from(">H", header, 2) == (len(datagram.data),)
        return header[12:16], header[16:20], header[8], datagram.data[20:]
    assert datagram.source is not None
    assert datagram.destination is not None
    assert datagram.hop_limit is not None
    return datagram.source, datagram.destination, datagram.hop_limit, datagram.data


@FAMILIES
def test_multicast_and_unicast_arrive_on_one_socket(
    pair: tuple[Namespace, Namespace], opened: Open, family: Family
) -> None:
    left, right = pair
    sender, receiver = opened.vrrp(left, family), opened.vrrp(right, family)
    for destination in (GROUP[family], PEER[family]):
        sender.send(PAYLOAD, OWN[family], destination)
        datagram = arrival(receiver)
        assert datagram.index == right.link("eth0").index
        assert parts(datagram) == (OWN[family], destination, 255, PAYLOAD)
    assert receiver.receive() is None
    assert sender.receive() is None, "our own advert must not come back"


@FAMILIES
def test_without_the_group_only_unicast_arrives(
    pair: tuple[Namespace, Namespace], opened: Open, family: Family
) -> None:
    left, right = pair
    sender = opened.vrrp(left, family)
    receiver = opened.vrrp(right, family, multicast=False)
    # Another program's membership must not let the group in.
    opened.vrrp(right, family)
    sender.send(PAYLOAD, OWN[family], GROUP[family])
    sender.send(PAYLOAD, OWN[family], PEER[family])
    assert parts(arrival(receiver))[1] == PEER[family]
    assert receiver.receive() is None


@FAMILIES
def test_another_group_is_not_received(
    pair: tuple[Namespace, Namespace], opened: Open, family: Family
) -> None:
    left, right = pair
    sender, receiver = opened.vrrp(left, family), opened.vrrp(right, family)
    other = packed("224.0.0.19" if family is Family.IPV4 else "ff02::13")
    kind = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    level, option = (
        (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP)
        if family is Family.IPV4
        else (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP)
    )
    index = right.link("eth0").index
    member = (
        other + bytes(4) + struct.pack("=i", index)
        if family is Family.IPV4
        else other + struct.pack("=i", index)
    )
    with right, socket.socket(kind, socket.SOCK_DGRAM) as joined:
        joined.setsockopt(level, option, member)
        sender.send(PAYLOAD, OWN[family], other)
        sender.send(PAYLOAD, OWN[family], GROUP[family])
        assert parts(arrival(receiver))[1] == GROUP[family]
        assert receiver.receive() is None


@FAMILIES
@pytest.mark.parametrize("unicast", [False, True])
def test_the_header_on_the_wire(
    pair: tuple[Namespace, Namespace], opened: Open, family: Family, unicast: bool
) -> None:
    left, right = pair
    sender = opened.vrrp(left, family)
    capture = opened.capture(right, 0x0800 if family is Family.IPV4 else 0x86DD)
    sender.send(PAYLOAD, OWN[family], PEER[family] if unicast else GROUP[family])

    def vrrp_packet() -> bytes | None:
        try:
            packet = capture.recv(2048)[14:]
        except BlockingIOError:
            return None
        return packet if packet[9 if family is Family.IPV4 else 6] == 112 else None

    packet = wait_for(vrrp_packet)
    if family is Family.IPV4:
        assert packet[1] == 0xC0, "TOS"
        assert packet[8] == 255, "TTL"
    else:
        assert (int.from_bytes(packet[:2], "big") >> 4) & 0xFF == 0xC0, "traffic class"
        assert packet[7] == 255, "hop limit"
        assert packet[40:] == PAYLOAD, "the checksum is ours, not the kernel's"


@FAMILIES
def test_adverts_go_first_in_the_queue(
    pair: tuple[Namespace, Namespace], opened: Open, family: Family
) -> None:
    sender = opened.vrrp(pair[0], family)
    with socket.socket(fileno=os.dup(sender.fileno())) as same:
        assert same.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY) == 7


@FAMILIES
def test_the_source_is_the_one_that_was_asked_for(
    pair: tuple[Namespace, Namespace], opened: Open, family: Family
) -> None:
    """Also when another address of the link would come first by the kernel's rules."""
    left, right = pair
    left.run(
        """
        ip addr add 192.0.2.200/24 dev eth0
        ip addr add 10.0.0.1/8 dev eth0
        ip addr add fe80::aaaa/64 dev eth0 nodad
        """
    )
    sender, receiver = opened.vrrp(left, family), opened.vrrp(right, family)
    sources = ("192.0.2.200", "10.0.0.1", "192.0.2.1")
    if family is Family.IPV6:
        sources = ("fe80::aaaa", "2001:db8::1", "fe80::1")
    for source in sources:
        sender.send(PAYLOAD, packed(source), GROUP[family])
        assert parts(arrival(receiver))[0] == packed(source)


@FAMILIES
def test_a_source_that_is_not_ours_is_refused(
    pair: tuple[Namespace, Namespace], opened: Open, family: Family
) -> None:
    sender = opened.vrrp(pair[0], family)
    foreign = packed("192.0.2.77" if family is Family.IPV4 else "fe80::77")
    with pytest.raises(AdapterError) as caught:
        sender.send(PAYLOAD, foreign, GROUP[family])
    expected = errno.ENETUNREACH if family is Family.IPV4 else errno.EINVAL
    assert caught.value.errno == expected


@FAMILIES
def test_a_link_that_is_down_refuses(
    pair: tuple[Namespace, Namespace], opened: Open, family: Family
) -> None:
    left, _right = pair
    sender = opened.vrrp(left, family)
    left.run("ip link set eth0 down")
    with pytest.raises(AdapterError) as caught:
        sender.send(PAYLOAD, OWN[family], GROUP[family])
    assert caught.value.errno
    assert sender.receive() is None


@FAMILIES
def test_a_lower_hop_limit_arrives_visibly(
    pair: tuple[Namespace, Namespace], opened: Open, family: Family
) -> None:
    left, right = pair
    receiver = opened.vrrp(right, family)
    kind = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    with left, socket.socket(kind, socket.SOCK_RAW, 112) as plain:
        if family is Family.IPV4:
            plain.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 254)
            plain.sendto(PAYLOAD, ("192.0.2.2", 0))
        else:
            plain.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 254)
            plain.sendto(PAYLOAD, ("fe80::2", 0, 0, left.link("eth0").index))
    assert parts(arrival(receiver))[2] == 254


@FAMILIES
def test_another_link_is_another_world(
    pair: tuple[Namespace, Namespace], opened: Open, family: Family
) -> None:
    left, right = pair
    right.run("ip link add other type veth peer name far; ip link set far up; ip link set other up")
    sender = opened.vrrp(left, family)
    receiver, elsewhere = opened.vrrp(right, family), opened.vrrp(right, family, "other")
    sender.send(PAYLOAD, OWN[family], GROUP[family])
    arrival(receiver)
    assert elsewhere.receive() is None


@FAMILIES
def test_the_membership_survives_down_up_and_a_new_name(
    pair: tuple[Namespace, Namespace], opened: Open, family: Family
) -> None:
    left, right = pair
    sender, receiver = opened.vrrp(left, family), opened.vrrp(right, family)
    right.run("ip link set eth0 down; ip link set eth0 name wan0; ip link set wan0 up")
    wait_for(lambda: right.link("wan0").up and left.link("eth0").up)

    def heard() -> Datagram | None:
        # The far end's queue may open a moment after its carrier is reported.
        sender.send(PAYLOAD, OWN[family], GROUP[family])
        return receiver.receive()

    assert parts(wait_for(heard))[1] == GROUP[family]
