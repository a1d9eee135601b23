"""What ``vipd watch`` reads in a frame: in frames that scapy builds, and in damaged ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vrrp import VRRP, VRRPv3
from scapy.packet import Packet, Raw

from vipd.cli.packets import Seen, checksum_form, decode
from vipd.model import parse_address
from vipd.wire.announce import gratuitous_arp, neighbour_advertisement

MAC = "02:00:00:00:00:01"
ETHERNET = Ether(src=MAC, dst="01:00:5e:00:00:12")
IPV4 = IP(src="192.0.2.11", dst="224.0.0.18", ttl=255, proto=112)
IPV6 = IPv6(src="fe80::11", dst="ff02::12", hlim=255, nh=112)


def frame(*layers: Packet) -> bytes:
    packet = ETHERNET
    for layer in layers:
        packet = packet / layer
    return bytes(packet)


def seen(data: bytes) -> Seen:
    found = decode(data)
    assert found is not None
    return found


def v3(**fields: object) -> VRRPv3:
    given = {"vrid": 51, "priority": 150, "adv": 100, "addrlist": ["192.0.2.100", "192.0.2.101"]}
    return VRRPv3(**{**given, **fields})


def test_a_v3_advert() -> None:
    found = seen(frame(IPV4, v3()))
    assert found == Seen(
        "advert",
        MAC,
        "192.0.2.11",
        {
            "destination": "224.0.0.18",
            "version": 3,
            "vrid": 51,
            "priority": 150,
            "interval_ms": 1000,
            "addresses": ["192.0.2.100", "192.0.2.101"],
            "checksum": "A",
        },
        [],
    )


def test_the_form_without_pseudo_header_is_as_good() -> None:
    # Checklist G3 and G4: one advert in both forms.
    plain = "45c0002000010000ff70188fc000020be00000123133960100647602c0000264"
    pseudo = "45c0002000010000ff70188fc000020be0000012313396010064d367c0000264"
    for text, form in ((plain, "B"), (pseudo, "A")):
        found = seen(bytes(ETHERNET / b"")[:12] + b"\x08\x00" + bytes.fromhex(text))
        assert (found.values["checksum"], found.remarks) == (form, [])


def test_a_sum_that_is_right_both_ways() -> None:
    # 0.0.0.0 -> 255.255.255.116 with length 16: the pseudo header adds 65535 twice, which is 0.
    message = bytes.fromhex("3133960100640000c0000264")
    for low in range(65_536):
        summed = message[:6] + low.to_bytes(2, "big") + message[8:]
        if checksum_form("0.0.0.0", "255.255.255.131", 3, summed) == "A=B":
            return
    raise AssertionError("no sum fits both forms")


@pytest.mark.parametrize(
    ("layers", "remarks"),
    [
        ((IPV4, v3(priority=0)), ["leaving"]),
        ((IPV4, v3(priority=255)), ["address owner"]),
        ((IPV4, v3(chksum=1)), ["bad checksum"]),
        ((IPV4, v3(adv=0)), ["interval 0"]),
        ((IPV4, v3(type=2)), ["type 2 is no advert"]),
        ((IP(src="192.0.2.11", dst="224.0.0.18", ttl=64, proto=112), v3()),
         ["TTL 64: refused by every router"]),
        ((IPV4, VRRP(vrid=1, adv=1, authtype=1, auth1=7, addrlist=["192.0.2.1"])),
         ["clear-text password"]),
        ((IPV4, v3(ipcount=3, chksum=0)), ["bad checksum", "cut off: 16 of 20 bytes"]),
        ((IPV4, Raw(b"\x31\x01")), ["cut off: 2 bytes"]),
    ],
)  # fmt: skip
def test_remarks(layers: tuple[Packet, ...], remarks: list[str]) -> None:
    assert seen(frame(*layers)).remarks == remarks


def test_the_hmac_trailer_of_keepalived_is_named() -> None:
    advert = bytes(IPV4 / v3())[20:]
    found = seen(frame(IPV4, Raw(advert + bytes(28))))
    assert "28 bytes too many, the size of keepalived's auth_hmac" in found.remarks


def test_v2_and_v6() -> None:
    two = seen(frame(IPV4, VRRP(vrid=1, priority=9, adv=3, addrlist=["192.0.2.1"])))
    assert (two.values["version"], two.values["interval_ms"]) == (2, 3000)
    assert (two.values["checksum"], two.values["addresses"]) == ("ok", ["192.0.2.1"])
    six = seen(frame(IPV6, v3(adv=10, addrlist=["fe80::100", "2001:db8::100"])))
    assert (six.source, six.values["interval_ms"], six.values["checksum"]) == (
        "fe80::11",
        100,
        "ok",
    )
    assert six.values["addresses"] == ["fe80::100", "2001:db8::100"]
    bad = seen(frame(IPV6, v3(chksum=5, addrlist=["fe80::100"])))
    assert bad.values["checksum"] == "bad"


def test_padding_of_the_frame_is_no_part_of_the_advert() -> None:
    one = frame(IPV4, v3(addrlist=["192.0.2.100"]))
    assert seen(one.ljust(60, b"\0")).remarks == []


def test_announcements_of_vipd_itself() -> None:
    mac = bytes.fromhex("020000000001")
    arp = seen(gratuitous_arp(mac, parse_address("192.0.2.100")))
    values = {"operation": "request", "address": "192.0.2.100"}
    assert arp == Seen("arp", MAC, "192.0.2.100", values)
    address = parse_address("2001:db8::100")
    na = seen(neighbour_advertisement(mac, address, router=False))
    assert (na.kind, na.mac, na.values["address"], na.remarks) == ("na", MAC, "2001:db8::100", [])


def test_announcements_that_are_odd() -> None:
    other = "02:00:00:00:00:02"
    arp = seen(frame(ARP(op=2, hwsrc=other, psrc="192.0.2.9", pdst="192.0.2.9")))
    assert (arp.mac, arp.values["operation"]) == (other, "reply")
    assert arp.remarks == [f"sent by {MAC}"]
    layers = (
        IPv6(src="fe80::1", dst="ff02::1", hlim=255),
        ICMPv6ND_NA(tgt="fe80::1", R=0, S=0, O=0),
        ICMPv6NDOptDstLLAddr(lladdr=MAC),
    )
    assert seen(frame(*layers)).remarks == ["without override"]


@pytest.mark.parametrize(
    "layers",
    [
        (ARP(psrc="192.0.2.1", pdst="192.0.2.2"),),
        (ARP(psrc="0.0.0.0", pdst="0.0.0.0"),),
        (IPv6(src="fe80::1", dst="fe80::2"), ICMPv6ND_NA(tgt="fe80::1", S=1)),
        (IPv6(src="fe80::1", dst="fe80::2"), ICMPv6ND_NS(tgt="fe80::2")),
        (IP(dst="192.0.2.1"), UDP(dport=53)),
        (Raw(b""),),
    ],
)
def test_everything_else_is_passed_over(layers: tuple[Packet, ...]) -> None:
    assert decode(frame(*layers)) is None


@given(st.binary(max_size=80), st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x08\x06"]))
def test_any_bytes_are_survived(data: bytes, ethertype: bytes) -> None:
    decode(bytes(12) + ethertype + data)


@given(st.data())
def test_any_damage_of_an_advert_is_survived(data: st.DataObject) -> None:
    whole = bytearray(frame(IPV4, v3()))
    cut = data.draw(st.integers(0, len(whole)))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    decode(bytes(whole[:cut]))
