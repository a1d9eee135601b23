"""Frames between two hosts: announcements go out, other hosts' claims come in."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.adapters.conftest import Namespace, packed, wait_for
from vipd.adapters.frame_socket import (
    ArpListener,
    FrameSender,
    NeighbourListener,
    open_arp_listener,
    open_sender,
)
from vipd.errors import AdapterError

pytestmark = pytest.mark.netns

MAC = bytes.fromhex("020000000001")
ARP_BODY = bytes.fromhex("0001080006040001") + MAC + packed("192.0.2.100") + bytes(6)
ARP_FRAME = b"\xff" * 6 + MAC + b"\x08\x06" + ARP_BODY + packed("192.0.2.100") + bytes(18)
NA_BODY = bytes.fromhex("a0000000") + packed("2001:db8::100") + b"\x02\x01" + MAC


def na_frame(hop_limit: int) -> bytes:
    """An unsolicited Neighbor Advertisement from fe80::1 to all nodes."""
    source, destination = packed("fe80::1"), packed("ff02::1")
    message = b"\x88\0\0\0" + NA_BODY
    pseudo = source + destination + struct.pack(">II", len(message), 58)
    total = sum(struct.unpack(f">{(len(pseudo) + len(message)) // 2}H", pseudo + message))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    message = b"\x88\0" + struct.pack(">H", ~total & 0xFFFF) + NA_BODY
    header = struct.pack(">IHBB", 0x60000000, len(message), 58, hop_limit) + source + destination
    return b"\x33\x33\0\0\0\x01" + MAC + b"\x86\xdd" + header + message


@pytest.fixture
def sender(pair: tuple[Namespace, Namespace]) -> Iterator[FrameSender]:
    with pair[0]:
        made = FrameSender(open_sender())
    yield made
    made.close()


@pytest.fixture
def arp(pair: tuple[Namespace, Namespace]) -> Iterator[ArpListener]:
    with pair[1]:
        made = ArpListener(open_arp_listener())
    yield made
    made.close()


def test_a_frame_goes_out_as_it_is_and_is_heard(
    pair: tuple[Namespace, Namespace], sender: FrameSender, arp: ArpListener
) -> None:
    left, right = pair
    for _again in range(2):  # the second uses what the first one cached
        sender.send(left.link("eth0").index, ARP_FRAME)
        assert wait_for(arp.receive) == (right.link("eth0").index, ARP_FRAME)
    assert arp.receive() is None


def test_one_listener_and_one_sender_serve_all_links(
    pair: tuple[Namespace, Namespace], sender: FrameSender, arp: ArpListener
) -> None:
    left, right = pair
    with left:
        left.run(
            "ip link add wan0 type veth peer name wan1; ip link set wan0 up; ip link set wan1 up"
        )
        listener = ArpListener(open_arp_listener())
    wait_for(lambda: left.link("wan0").up)
    sender.send(left.link("eth0").index, ARP_FRAME)
    sender.send(left.link("wan0").index, ARP_FRAME)
    assert wait_for(arp.receive) == (right.link("eth0").index, ARP_FRAME)
    assert wait_for(listener.receive) == (left.link("wan1").index, ARP_FRAME)
    assert listener.receive() is None, "what we sent ourselves is not heard"
    listener.close()


def test_other_protocols_are_not_heard(
    pair: tuple[Namespace, Namespace], sender: FrameSender, arp: ArpListener
) -> None:
    index = pair[0].link("eth0").index
    sender.send(index, ARP_FRAME[:12] + b"\x88\xb5" + bytes(46))
    sender.send(index, ARP_FRAME)
    received = wait_for(arp.receive)
    assert received[1] == ARP_FRAME
    assert arp.receive() is None


def test_what_the_kernel_sends_is_marked_with_its_protocol(
    pair: tuple[Namespace, Namespace], sender: FrameSender
) -> None:
    """A socket for ARP only sees the frame: the protocol was not left to a guess."""
    left, _right = pair
    with left:
        watcher = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
    watcher.settimeout(5)
    sender.send(left.link("eth0").index, ARP_FRAME)
    frame, address = watcher.recvfrom(2048)
    while frame != ARP_FRAME:
        frame, address = watcher.recvfrom(2048)
    assert address[1] == 0x0806
    watcher.close()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("ip link set eth0 down", errno.ENETDOWN),
        ("ip link del eth0", errno.ENXIO),
        ("nft -f - <<'END'\n"
         "add table netdev t\n"
         "add chain netdev t c { type filter hook egress device eth0 priority 0; }\n"
         "add rule netdev t c drop\n"
         "END", errno.ENOBUFS),
    ],
)  # fmt: skip
def test_a_frame_that_cannot_leave_is_an_error(
    pair: tuple[Namespace, Namespace], sender: FrameSender, command: str, expected: int
) -> None:
    left, _right = pair
    index = left.link("eth0").index
    left.run(command)
    with pytest.raises(AdapterError) as caught:
        sender.send(index, ARP_FRAME)
    assert caught.value.errno == expected


def test_neighbor_advertisements_are_heard_and_nothing_else(
    pair: tuple[Namespace, Namespace], sender: FrameSender
) -> None:
    left, right = pair
    with right:
        listener = NeighbourListener()
    left.run("ping -6 -c 1 -W 2 fe80::2%eth0")  # echoes and solicitations come in on both sides
    right.run("ping -6 -c 1 -W 2 fe80::1%eth0")
    heard = list(iter(listener.receive, None))
    assert {message[0] for _index, _source, message in heard} <= {136}
    index = left.link("eth0").index
    sender.send(index, na_frame(hop_limit=254))  # has passed a router: proves nothing
    sender.send(index, na_frame(hop_limit=255))
    heard_index, source, message = wait_for(listener.receive)
    assert (heard_index, source) == (right.link("eth0").index, packed("fe80::1"))
    assert message[:1] == b"\x88"
    assert message[4:] == NA_BODY
    assert listener.receive() is None
    listener.close()


@pytest.mark.parametrize("count", [3, 300])
def test_many_frames_arrive_in_order(
    pair: tuple[Namespace, Namespace], sender: FrameSender, arp: ArpListener, count: int
) -> None:
    frames = [ARP_FRAME[:28] + n.to_bytes(4) + ARP_FRAME[32:] for n in range(count)]
    for _again in range(2):  # the second uses what the first one laid out
        assert sender.send_many(pair[0].link("eth0").index, frames) == count
        assert [wait_for(arp.receive)[1] for _ in frames] == frames


@pytest.mark.parametrize("count", [3, 300])
def test_frames_for_a_link_that_is_gone_are_refused(
    pair: tuple[Namespace, Namespace], sender: FrameSender, count: int
) -> None:
    assert sender.send_many(9999, [ARP_FRAME] * count) == 0


def test_a_listener_that_is_not_wanted_hears_nothing(
    pair: tuple[Namespace, Namespace], sender: FrameSender, arp: ArpListener
) -> None:
    index = pair[0].link("eth0").index
    arp.listen(False)
    sender.send(index, ARP_FRAME)
    arp.listen(True)
    sender.send(index, ARP_FRAME[:-1] + b"\x01")
    assert wait_for(arp.receive)[1] == ARP_FRAME[:-1] + b"\x01"
    assert arp.receive() is None
