"""announce.py: bytes of the checklist, scapy as judge, parsers that never raise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from wire_samples import GARP_HEX, MAC, MAC6, NA_HEX, VECTORS, VIP4, VIPS6, read_pcap

from vipd.model import format_address
from vipd.wire.announce import (
    announcement,
    arp_claim,
    gratuitous_arp,
    neighbour_advertisement,
    neighbour_claim,
)

macs = st.binary(min_size=6, max_size=6)
addresses4 = st.binary(min_size=4, max_size=4).filter(any)
addresses6 = st.binary(min_size=16, max_size=16).filter(lambda a: a[0] != 0xFF and any(a))


def mac_text(mac: bytes) -> str:
    return mac.hex(":")


def test_frames_are_those_of_the_checklist() -> None:
    frame = gratuitous_arp(MAC, VIP4)
    assert frame.hex() == GARP_HEX + "00" * 18
    assert len(frame) == 60
    assert neighbour_advertisement(MAC6, VIPS6[0], router=True).hex() == NA_HEX


def test_frames_are_those_of_good_pcap() -> None:
    frames = [frame[:86] for frame in read_pcap(VECTORS / "good.pcap")]
    assert any(frame.startswith(gratuitous_arp(MAC, VIP4)[:42]) for frame in frames)
    assert neighbour_advertisement(MAC6, VIPS6[0], router=True) in frames


@given(macs, addresses4)
def test_scapy_builds_the_same_arp(mac: bytes, address: bytes) -> None:
    text, sender = format_address(address), mac_text(mac)
    built = Ether(src=sender, dst="ff:ff:ff:ff:ff:ff") / ARP(
        op=1, hwsrc=sender, psrc=text, hwdst="ff:ff:ff:ff:ff:ff", pdst=text
    )
    assert gratuitous_arp(mac, address)[:42] == bytes(built)


@given(macs, addresses6, st.booleans())
def test_scapy_builds_the_same_advertisement(mac: bytes, address: bytes, router: bool) -> None:
    text, sender = format_address(address), mac_text(mac)
    built = (
        Ether(src=sender, dst="33:33:00:00:00:01")
        / IPv6(src=text, dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(R=int(router), S=0, O=1, tgt=text)
        / ICMPv6NDOptDstLLAddr(lladdr=sender)
    )
    assert neighbour_advertisement(mac, address, router=router) == bytes(built)


@given(macs, addresses4, addresses6, st.booleans())
def test_what_we_announce_is_read_as_a_claim(
    mac: bytes, address4: bytes, address6: bytes, router: bool
) -> None:
    assert arp_claim(announcement(mac, address4, router=router)) == (mac, address4)
    frame = announcement(mac, address6, router=router)
    assert neighbour_claim(frame[54:], frame[22:38]) == (mac, address6)


def test_an_arp_reply_claims_and_a_probe_does_not() -> None:
    reply = bytes(Ether() / ARP(op=2, hwsrc=mac_text(MAC), psrc="192.0.2.100", pdst="192.0.2.1"))
    assert arp_claim(reply) == (MAC, VIP4)
    probe = bytes(Ether() / ARP(op=1, hwsrc=mac_text(MAC), psrc="0.0.0.0", pdst="192.0.2.100"))
    assert arp_claim(probe) is None


@pytest.mark.parametrize(("at", "value"), [(12, 0x86), (15, 6), (16, 9), (18, 8), (19, 6), (21, 3)])
def test_other_arp_frames_claim_nothing(at: int, value: int) -> None:
    frame = bytearray(gratuitous_arp(MAC, VIP4))
    frame[at] = value
    assert arp_claim(bytes(frame)) is None


NA = bytes.fromhex(NA_HEX)[54:]
SOURCE = VIPS6[0]


@pytest.mark.parametrize(
    ("payload", "source"),
    [
        (NA[:24], SOURCE),  # no option
        (NA[:23], SOURCE),
        (NA[:31], SOURCE),  # an option that runs over the end
        (NA[:25] + b"\0" + NA[26:], SOURCE),  # an option of length 0
        (NA[:24] + b"\x0e" + NA[25:], SOURCE),  # another option only
        (NA + b"\x02", SOURCE),  # half an option behind it
        (b"\x87" + NA[1:], SOURCE),  # a solicitation
        (NA[:1] + b"\x01" + NA[2:], SOURCE),
        (NA[:8] + b"\xff\x02" + NA[10:], SOURCE),  # for a group
        (NA, bytes(16)),
        (NA, b"\xff\x02" + bytes(14)),
        (NA, VIP4),
    ],
)
def test_other_icmpv6_claims_nothing(payload: bytes, source: bytes) -> None:
    assert neighbour_claim(payload, source) is None


def test_the_mac_is_found_behind_other_options() -> None:
    nonce = b"\x0e\x01" + bytes(6)
    assert neighbour_claim(NA[:24] + nonce + NA[24:], SOURCE) == (MAC6, SOURCE)


@given(st.binary(max_size=100), st.binary(max_size=20))
def test_parsers_never_raise(data: bytes, source: bytes) -> None:
    arp_claim(data)
    neighbour_claim(data, source)
    arp_claim(bytes(12) + b"\x08\x06" + data)
    neighbour_claim(b"\x88\0" + data, SOURCE)
