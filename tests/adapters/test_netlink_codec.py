"""The hand-written codec against pyroute2, and against nonsense."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from tests.adapters.conftest import packed
from vipd.adapters.netlink_codec import (
    HEADER,
    RTM_GETADDR,
    RTM_GETLINK,
    AddressChange,
    AddressRemoval,
    LinkChange,
    LinkRemoval,
    Message,
    address_add,
    address_delete,
    decode_messages,
    decode_result,
    dump_request,
    link_request,
    number_message,
    removal_of,
    split_messages,
)
from vipd.adapters.netlink_compile import compile_address, compile_promote_secondaries
from vipd.model import HostAddress, Link, Vip

NEWLINK, DELLINK, NEWADDR, DELADDR = 16, 17, 20, 21
UP, RUNNING, LOWER_UP = 0x1, 0x40, 0x10000
ALL_UP = UP | RUNNING | LOWER_UP


def encoded(message: Any, kind: int, fields: dict[str, int], attributes: list[Any]) -> bytes:
    message.update(fields)
    message["attrs"] = attributes
    message["header"] = {"type": kind, "flags": 0, "sequence_number": 0, "pid": 0}
    message.encode()
    return bytes(message.data)


def link_message(kind: int = NEWLINK, family: int = 0, flags: int = ALL_UP, **more: Any) -> bytes:
    attributes = {"IFLA_IFNAME": "eth0", "IFLA_MTU": 9000, "IFLA_ADDRESS": "02:00:00:00:00:01"}
    attributes.update(more)
    wanted = [(name, value) for name, value in attributes.items() if value is not None]
    fields = {"family": family, "ifi_type": 1, "index": 7, "flags": flags, "change": 0}
    return encoded(ifinfmsg(), kind, fields, wanted)


def address_message(kind: int, family: int, fields: dict[str, int], attributes: list[Any]) -> bytes:
    header = {"family": family, "prefixlen": 24, "flags": 0, "scope": 0, "index": 7}
    return encoded(ifaddrmsg(), kind, {**header, **fields}, attributes)


@pytest.mark.parametrize(
    ("flags", "up"),
    [
        (ALL_UP, True),
        (ALL_UP | 0x1002, True),
        (RUNNING | LOWER_UP, False),
        (UP | LOWER_UP, False),
        (UP | RUNNING, False),
        (0, False),
    ],
)
def test_a_link_is_up_by_will_and_with_carrier(flags: int, up: bool) -> None:
    link = Link(7, "eth0", up, bytes.fromhex("020000000001"), 9000)
    assert decode_messages(link_message(flags=flags)) == (LinkChange(link),)


def test_a_link_without_hardware_address() -> None:
    [change] = decode_messages(link_message(IFLA_ADDRESS=None))
    assert change == LinkChange(Link(7, "eth0", True, b"", 9000))


def test_a_link_that_goes() -> None:
    assert decode_messages(link_message(DELLINK)) == (LinkRemoval(7),)


@pytest.mark.parametrize("kind", [NEWLINK, DELLINK])
@pytest.mark.parametrize("family", [socket.AF_BRIDGE, socket.AF_INET6])
def test_messages_about_one_side_of_a_link_are_ignored(kind: int, family: int) -> None:
    assert decode_messages(link_message(kind, family)) == ()


def test_radio_events_and_nameless_links_are_ignored() -> None:
    assert decode_messages(link_message(IFLA_WIRELESS="00")) == ()
    assert decode_messages(link_message(IFLA_IFNAME=None)) == ()


@pytest.mark.parametrize(("kind", "value"), [(NEWADDR, AddressChange), (DELADDR, AddressRemoval)])
@pytest.mark.parametrize(
    ("family", "local", "far"),
    [
        (socket.AF_INET, "192.0.2.1", "192.0.2.9"),
        (socket.AF_INET6, "2001:db8::1", "2001:db8::9"),
    ],
)
def test_an_address_is_the_local_one(
    kind: int, value: type, family: int, local: str, far: str
) -> None:
    attributes = [("IFA_ADDRESS", far), ("IFA_LOCAL", local), ("IFA_PROTO", 86)]
    expected = value(HostAddress(7, packed(local), 24, 86))
    assert decode_messages(address_message(kind, family, {}, attributes)) == (expected,)


def test_an_ipv6_address_comes_without_local() -> None:
    message = address_message(NEWADDR, socket.AF_INET6, {}, [("IFA_ADDRESS", "fe80::1")])
    [change] = decode_messages(message)
    assert change == AddressChange(HostAddress(7, packed("fe80::1"), 24, 0))


@pytest.mark.parametrize(
    ("header", "attribute", "tentative"),
    [(0, 0, False), (0x40, 0, True), (0, 0x40, True), (0, 0x08, True), (0x80, 0x300, False)],
)
def test_tentative_from_either_flags(header: int, attribute: int, tentative: bool) -> None:
    attributes = [("IFA_ADDRESS", "fe80::1"), ("IFA_FLAGS", attribute)]
    [change] = decode_messages(
        address_message(NEWADDR, socket.AF_INET6, {"flags": header}, attributes)
    )
    assert isinstance(change, AddressChange)
    assert change.address.tentative is tentative


def test_several_messages_in_one_datagram() -> None:
    four = address_message(NEWADDR, socket.AF_INET, {}, [("IFA_LOCAL", "192.0.2.1")])
    data = link_message() + b"\0" * (-len(link_message()) % 4) + four + link_message(DELLINK)
    kinds = [type(change) for change in decode_messages(data)]
    assert kinds == [LinkChange, AddressChange, LinkRemoval]


def test_an_address_of_wrong_length_or_family_is_ignored() -> None:
    wrong = address_message(NEWADDR, socket.AF_INET6, {}, [("IFA_LOCAL", "192.0.2.1")])
    body = bytearray(wrong)
    assert decode_messages(bytes(body)) == ()
    body[16] = socket.AF_BRIDGE
    assert decode_messages(bytes(body)) == ()


addresses = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))


@given(
    index=st.integers(1, 2**31 - 1),
    address=addresses,
    prefix=st.integers(0, 128),
    tag=st.integers(0, 255),
    flags=st.integers(0, 0xFFFF),
)
def test_what_pyroute2_encodes_we_decode(
    index: int, address: bytes, prefix: int, tag: int, flags: int
) -> None:
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    text = socket.inet_ntop(family, address)
    data = address_message(
        NEWADDR,
        family,
        {"index": index, "prefixlen": prefix},
        [("IFA_ADDRESS", text), ("IFA_LOCAL", text), ("IFA_FLAGS", flags), ("IFA_PROTO", tag)],
    )
    expected = HostAddress(index, address, prefix, tag, bool(flags & 0x48))
    assert decode_messages(data) == (AddressChange(expected),)


@given(st.binary(max_size=400))
def test_garbage_decodes_to_something_without_raising(data: bytes) -> None:
    decode_messages(data)
    for message in split_messages(data):
        decode_result(message)


@given(
    kind=st.sampled_from([NEWLINK, DELLINK, NEWADDR, DELADDR, 2, 3]),
    body=st.binary(max_size=120),
    lie=st.integers(-20, 20),
)
def test_garbage_behind_a_true_header(kind: int, body: bytes, lie: int) -> None:
    length = max(0, HEADER.size + len(body) + lie)
    data = HEADER.pack(length, kind, 0, 0, 0) + body
    decode_messages(data)
    for message in split_messages(data):
        decode_result(message)


@given(data=st.data())
def test_a_damaged_message_is_read_without_raising(data: st.DataObject) -> None:
    message = bytearray(link_message())
    position = data.draw(st.integers(0, len(message) - 1))
    message[position] = data.draw(st.integers(0, 255))
    decode_messages(bytes(message[: data.draw(st.integers(0, len(message)))]))


def test_results() -> None:
    assert decode_result(Message(2, 0, 1, struct.pack("=i", -99) + bytes(16))) == 99
    assert decode_result(Message(2, 0, 1, bytes(20))) == 0
    assert decode_result(Message(3, 0, 1, bytes(4))) == 0
    assert decode_result(Message(NEWADDR, 0, 1, bytes(20))) is None


# --- requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["192.0.2.100", "2001:db8::100"])
def test_a_patched_template_is_what_pyroute2_would_have_made(address: str) -> None:
    vip = Vip(packed(address), 24, "eth0")
    template = compile_address(vip, lifetime_s=4, tag=86)
    message = ifaddrmsg(address_add(template, 1234, 30))
    message.decode()
    cache = message.get_attr("IFA_CACHEINFO")
    is_ipv4 = ":" not in address
    assert (message["index"], message["prefixlen"]) == (1234, 30)
    assert message["header"]["type"] == NEWADDR
    assert message["header"]["flags"] == 0x1 | 0x100 | 0x400
    assert message.get_attr("IFA_LOCAL") == message.get_attr("IFA_ADDRESS") == address
    assert (cache["ifa_valid"], cache["ifa_preferred"]) == (4, 4 if is_ipv4 else 0)
    assert message.get_attr("IFA_FLAGS") == (0 if is_ipv4 else 0x02)
    assert message.get_attr("IFA_PROTO") == 86

    message = ifaddrmsg(address_delete(template, 1234, 30))
    message.decode()
    assert (message["index"], message["prefixlen"]) == (1234, 30)
    assert message["header"]["type"] == DELADDR
    assert message.get_attr("IFA_LOCAL") == address


@pytest.mark.parametrize("address", ["192.0.2.100", "2001:db8::100"])
def test_the_two_ways_to_delete_are_one(address: str) -> None:
    template = compile_address(Vip(packed(address), 24, "eth0"), lifetime_s=4, tag=86)
    by_hand = removal_of(HostAddress(5, packed(address), 24))
    assert sorted(by_hand) == sorted(address_delete(template, 5, 24))
    assert by_hand[:24] == address_delete(template, 5, 24)[:24]


def test_a_lifetime_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="lifetime"):
        compile_address(Vip(packed("192.0.2.1"), 24, "eth0"), lifetime_s=0, tag=86)


def test_patching_leaves_the_template_alone() -> None:
    template = compile_promote_secondaries()
    before = bytes(template)
    patched = link_request(template, 77)
    assert template == before
    assert struct.unpack_from("=i", patched, 20) == (77,)
    assert patched[:20] + bytes(4) + patched[24:] == before


def test_numbering_sets_and_clears_the_wish_for_an_acknowledgement() -> None:
    buffer = bytearray(dump_request(RTM_GETLINK, 1) * 2)
    half = len(buffer) // 2
    number_message(buffer, half, 0xFFFFFFFF, acknowledge=True)
    first, second = split_messages(bytes(buffer))
    assert (first.flags, first.sequence) == (0x301, 1)
    assert (second.flags, second.sequence) == (0x305, 0xFFFFFFFF)
    number_message(buffer, half, 3, acknowledge=False)
    assert [message.flags for message in split_messages(bytes(buffer))] == [0x301, 0x301]


def test_dump_requests_as_pyroute2_reads_them() -> None:
    links = ifinfmsg(dump_request(RTM_GETLINK, 9))
    links.decode()
    assert (links["header"]["type"], links["header"]["sequence_number"]) == (18, 9)
    assert links.get_attr("IFLA_EXT_MASK") == 8
    addresses = ifaddrmsg(dump_request(RTM_GETADDR, 9))
    addresses.decode()
    assert (addresses["header"]["type"], addresses["family"]) == (22, 0)
