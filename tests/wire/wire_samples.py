"""Packets and receivers that the wire tests share; frames are cut as sockets do it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vipd.model import (
    ADDRESS_TAG,
    SECOND_NS,
    Datagram,
    Family,
    HostAddress,
    InstanceConfig,
    Link,
    NodeConfig,
    Vip,
    parse_address,
)
from vipd.wire.receiver import Receiver, receiver_for

VECTORS = Path(__file__).parent.parent / "vectors"

MAC = bytes.fromhex("00005e000133")
MAC6 = bytes.fromhex("00005e000233")
SECRET = b"s3cr3t\0\0"
VIP4 = parse_address("192.0.2.100")
VIPS6 = (parse_address("fe80::100"), parse_address("2001:db8::100"))
OWN4, PEER4 = parse_address("192.0.2.10"), parse_address("192.0.2.11")
OWN6, PEER6 = parse_address("fe80::10"), parse_address("fe80::11")

ETH0 = Link(2, "eth0", True, bytes.fromhex("02000000000a"))
LINKS = (Link(1, "lo", True, bytes(6)), ETH0)
ADDRESSES = (
    HostAddress(2, OWN4, 24),
    HostAddress(2, OWN6, 64),
    HostAddress(2, VIP4, 32, ADDRESS_TAG),
)

# Checklist section 5, IP layer.
GOOD = {
    "G1": "45c0002800010000ff701887c000020be00000122133960100018665c00002640000000000000000",
    "G2": "45c0002800010000ff701887c000020be00000122133960101017b4bc00002647333637233740000",
    "G3": "45c0002000010000ff70188fc000020be00000123133960100647602c0000264",
    "G4": "45c0002000010000ff70188fc000020be0000012313396010064d367c0000264",
    "G5": "6c000000002870fffe800000000000000000000000000011ff0200000000000000000000000000123133"
    "960200640bedfe80000000000000000000000000010020010db8000000000000000000000100",
    "G6": "45c0002000010000ff70188fc000020be00000123133000100646968c0000264",
    "G7": "45c0002400010000ff70188bc000020be00000123133fe0200fa4b05c0000264c0000265",
    "G8": "45c0002800010000ff701887c000020be00000122133000100011c66c00002640000000000000000",
    "K2": "45c0002800010000ff701888c000020ae0000012213364010001b865c00002640000000000000000",
    "K3": "45c0002000010000ff701890c000020ae00000123133640100640569c0000264",
}
K6_MESSAGE = bytes.fromhex(
    "3133640200643deefe80000000000000000000000000010020010db8000000000000000000000100"
)
# The NA and GARP of checklist section 5.
GARP_HEX = "ffffffffffff00005e0001330806000108000604000100005e000133c0000264ffffffffffffc0000264"
NA_HEX = (
    "33330000000100005e00023386dd6000000000203afffe800000000000000000000000000100"
    "ff0200000000000000000000000000018800776aa0000000"
    "fe800000000000000000000000000100020100005e000233"
)


def packet(name: str) -> bytes:
    return bytes.fromhex(GOOD[name])


def datagram(ip_packet: bytes, index: int = 2) -> Datagram:
    """What a raw socket gives for an IP packet."""
    if ip_packet[0] >> 4 != 6:
        return Datagram(Family.IPV4, index, ip_packet)
    length = int.from_bytes(ip_packet[4:6], "big")
    message = ip_packet[40 : 40 + length]
    return Datagram(Family.IPV6, index, message, ip_packet[8:24], ip_packet[24:40], ip_packet[7])


def config(family: Family = Family.IPV4, version: int = 3, **changes: object) -> InstanceConfig:
    """The receiver of the vectors: VRID 51, priority 100, one second."""
    addresses = (VIP4,) if family is Family.IPV4 else VIPS6
    base = InstanceConfig(
        name=f"v{version}-{family.value}",
        interface="eth0",
        vrid=51,
        version=version,
        family=family,
        priority=100,
        advert_interval_ns=SECOND_NS,
        vips=tuple(Vip(address, 24 if len(address) == 4 else 64, "eth0") for address in addresses),
        address_lifetime_s=4,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def receiver(of: InstanceConfig) -> Receiver:
    if of.family is Family.IPV4:
        return receiver_for(of, (OWN4,), ((OWN4, 24),))
    return receiver_for(of, (OWN6,), ((OWN6, 64),))


V2 = config(version=2)
V2_PASS = config(version=2, auth_secret=SECRET)
V3 = config()
V6 = config(Family.IPV6)
RECEIVERS = {"v2 no-auth": V2, "v2 PASS s3cr3t": V2_PASS, "v3 IPv4": V3, "v3 IPv6": V6}


def node(*instances: InstanceConfig) -> NodeConfig:
    return NodeConfig("lb1", instances)


@dataclass(frozen=True)
class Vector:
    id: str
    receiver: str
    frame: bytes
    expect: str
    expect_compat: str
    reason: str

    @property
    def datagram(self) -> Datagram:
        return datagram(self.frame[14:])

    @property
    def config(self) -> InstanceConfig:
        return RECEIVERS[self.receiver]


def vectors() -> list[Vector]:
    entries = json.loads((VECTORS / "vectors.json").read_text())["vectors"]
    return [
        Vector(
            entry["id"],
            entry["receiver"],
            bytes.fromhex(entry["frame"]),
            entry["expect"],
            entry["expect_compat"],
            entry["reason"],
        )
        for entry in entries
    ]


def read_pcap(path: Path) -> Iterator[bytes]:
    """The Ethernet frames of a classic little-endian pcap file."""
    data = path.read_bytes()
    magic, link_type = struct.unpack_from("<I", data)[0], struct.unpack_from("<I", data, 20)[0]
    if magic not in (0xA1B2C3D4, 0xA1B23C4D) or link_type != 1:
        raise ValueError(f"{path}: not an Ethernet pcap file")
    at = 24
    while at < len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        yield data[at + 16 : at + 16 + size]
        at += 16 + size
