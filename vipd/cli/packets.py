"""What ``vipd watch`` shows of a captured frame: adverts, and who says where an address is.

Scapy takes the packets apart, so that the view does not depend on vipd's own parser: a packet
that vipd refuses is shown too, with what is odd about it. Only the checksum is judged here, in
both forms, because scapy knows one form of the VRRPv3 IPv4 checksum and calls the other one bad.

Frames are judged as they are on the wire. Of ARP and Neighbor Discovery only announcements are
shown: an ARP whose sender asks for, or tells of, its own address, and an NA that nobody solicited.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from scapy.layers.inet import IP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vrrp import VRRP, VRRPv3

from vipd.model import LEAVING_PRIORITY, OWNER_PRIORITY, parse_address
from vipd.wire.checksum import pseudo_header, residue

VRRP_PROTOCOL = 112
_ETHERNET_LENGTH = 14
_IPV6_LENGTH = 40
_AUTH_PASS = 1
_AUTH_LENGTH = 8
_HMAC_TRAILER = 28

PSEUDO = "A"
PLAIN = "B"
BOTH = "A=B"
SIMPLE = "ok"
BAD = "bad"


@dataclass(frozen=True, slots=True)
class Seen:
    """One packet. ``kind``: advert | arp | na; ``values`` in the order in which they are shown."""

    kind: str
    mac: str
    source: str
    values: dict[str, Any]
    remarks: list[str] = field(default_factory=list)


def decode(frame: bytes) -> Seen | None:
    """What the Ethernet frame says; None if it is nothing that is watched."""
    if len(frame) < _ETHERNET_LENGTH:
        return None
    packet = Ether(frame)
    if ARP in packet:
        return _arp(packet)
    if ICMPv6ND_NA in packet:
        return _neighbour(packet)
    if IP in packet and packet[IP].proto == VRRP_PROTOCOL:
        ip = packet[IP]
        start = _ETHERNET_LENGTH + (ip.ihl or 5) * 4
        return _advert(packet, ip, ip.ttl, frame[start : _ETHERNET_LENGTH + (ip.len or 0)])
    if IPv6 in packet and packet[IPv6].nh == VRRP_PROTOCOL:
        ip = packet[IPv6]
        start = _ETHERNET_LENGTH + _IPV6_LENGTH
        return _advert(packet, ip, ip.hlim, frame[start : start + (ip.plen or 0)])
    return None


# --- adverts ------------------------------------------------------------------------------------


def _advert(packet: Any, ip: Any, ttl: int, message: bytes) -> Seen:
    layer = next((packet[kind] for kind in (VRRPv3, VRRP) if kind in packet), None)
    if layer is None or len(message) < 8:
        return Seen("advert", packet.src, ip.src, {}, [f"cut off: {len(message)} bytes"])
    addresses = list(layer.addrlist) if isinstance(layer.addrlist, list) else []
    values = {
        "destination": ip.dst,
        "version": layer.version,
        "vrid": layer.vrid,
        "priority": layer.priority,
        "interval_ms": layer.adv * (10 if layer.version == 3 else 1000),
        "addresses": addresses,
        "checksum": checksum_form(ip.src, ip.dst, layer.version, message),
    }
    remarks = _remarks_of(layer, len(addresses), values["checksum"], message, ip.version)
    if ttl != 255:
        remarks.append(f"TTL {ttl}: refused by every router")
    return Seen("advert", packet.src, ip.src, values, remarks)


def checksum_form(source: str, destination: str, version: int, message: bytes) -> str:
    """Which sum the message carries: ``A`` with pseudo header, ``B`` without, or neither.

    Only VRRPv3 over IPv4 has two forms; elsewhere it is ``ok`` or ``bad``.
    """
    plain = residue(message)
    if version == 2:
        return SIMPLE if plain == 0 else BAD
    packed = parse_address(source), parse_address(destination)
    with_pseudo = (plain + pseudo_header(*packed, VRRP_PROTOCOL, len(message))) % 0xFFFF
    if len(packed[0]) == 16:
        return SIMPLE if with_pseudo == 0 else BAD
    forms = {(True, True): BOTH, (True, False): PSEUDO, (False, True): PLAIN}
    return forms.get((with_pseudo == 0, plain == 0), BAD)


def _remarks_of(layer: Any, listed: int, form: str, message: bytes, ip_version: int) -> list[str]:
    remarks = []
    if layer.priority == LEAVING_PRIORITY:
        remarks.append("leaving")
    if layer.priority == OWNER_PRIORITY:
        remarks.append("address owner")
    if form == BAD:
        remarks.append("bad checksum")
    if layer.type != 1:
        remarks.append(f"type {layer.type} is no advert")
    if layer.adv == 0:
        remarks.append("interval 0")
    authenticates = layer.version == 2
    if authenticates and layer.authtype == _AUTH_PASS:
        remarks.append("clear-text password")
    trailer = _AUTH_LENGTH if authenticates else 0
    expected = 8 + layer.ipcount * (4 if ip_version == 4 else 16) + trailer
    if len(message) < expected or listed < layer.ipcount:
        remarks.append(f"cut off: {len(message)} of {expected} bytes")
    elif len(message) > expected:
        extra = len(message) - expected
        hint = ", the size of keepalived's auth_hmac" if extra == _HMAC_TRAILER else ""
        remarks.append(f"{extra} bytes too many{hint}")
    return remarks


# --- announcements ------------------------------------------------------------------------------


def _arp(packet: Any) -> Seen | None:
    arp = packet[ARP]
    if arp.psrc != arp.pdst or arp.psrc == "0.0.0.0":
        return None
    values = {"operation": "reply" if arp.op == 2 else "request", "address": arp.psrc}
    return Seen("arp", arp.hwsrc, arp.psrc, values, _forged(packet.src, arp.hwsrc))


def _neighbour(packet: Any) -> Seen | None:
    advertisement = packet[ICMPv6ND_NA]
    if advertisement.S:
        return None
    mac = packet.src
    if ICMPv6NDOptDstLLAddr in packet:
        mac = packet[ICMPv6NDOptDstLLAddr].lladdr
    values = {"operation": "unsolicited", "address": advertisement.tgt}
    remarks = _forged(packet.src, mac)
    if not advertisement.O:
        remarks.append("without override")
    return Seen("na", mac, packet[IPv6].src, values, remarks)


def _forged(frame_mac: str, told_mac: str) -> list[str]:
    return [] if frame_mac == told_mac else [f"sent by {frame_mac}"]
