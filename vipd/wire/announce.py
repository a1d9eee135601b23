"""Announcements of a VIP's place: gratuitous ARP and unsolicited Neighbor Advertisement.

Whole Ethernet frames, so that one packet socket per link sends both and the kernel's own
neighbour state has no say in them.

* IPv4 (RFC 9568 §6.4.1, RFC 5227 §3): an ARP *request* that asks for the VIP and names it as its
  own sender, to everybody. The target hardware address is ignored by receivers; all ones, as
  keepalived sends.
* IPv6 (RFC 9568 §6.4.2, RFC 4861 §4.4, §7.2.6): an NA from the VIP to all nodes, Override set,
  Solicited clear, with the target link-layer address. The Router flag says whether this host
  forwards: a host that claims to be a router would enter its neighbours' default router lists.

The parsers read what others announce: "this MAC has that address". They never raise; what is not
such a statement is None.
"""

from __future__ import annotations

import struct

from vipd.model import Address, parse_address
from vipd.wire.checksum import internet_checksum, pseudo_header

BROADCAST_MAC = b"\xff" * 6
ALL_NODES = parse_address("ff02::1")
ALL_NODES_MAC = bytes.fromhex("333300000001")
ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV6 = 0x86DD

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_FIXED = (1, 0x0800, 6, 4)  # Ethernet, IPv4, and the lengths of their addresses
_ARP_REQUEST = 1
_ARP_REPLY = 2
_ETHERNET_MINIMUM = 60
_IPV6 = struct.Struct("!IHBB16s16s")
_IPV6_VERSION = 6 << 28
_ICMPV6 = 58
_HOP_LIMIT = 255
_ADVERTISEMENT = struct.Struct("!BBHI16sBB6s")
_ADVERTISEMENT_TYPE = 136
_ADVERTISEMENT_LENGTH = 24  # without options
_ROUTER = 1 << 31
_OVERRIDE = 1 << 29
_TARGET_LINK_LAYER = 2
_NOBODY_IPV4 = bytes(4)
_NOBODY_IPV6 = bytes(16)


def gratuitous_arp(mac: bytes, address: Address) -> bytes:
    """The frame that tells the link: ``address`` is at ``mac`` (padded to 60 bytes)."""
    frame = _ETHERNET.pack(BROADCAST_MAC, mac, ETHERTYPE_ARP) + _ARP.pack(
        *_ARP_FIXED, _ARP_REQUEST, mac, address, BROADCAST_MAC, address
    )
    return frame.ljust(_ETHERNET_MINIMUM, b"\0")


def neighbour_advertisement(mac: bytes, address: Address, *, router: bool) -> bytes:
    """The frame that tells the link: ``address`` is at ``mac``; ``router``: this host forwards."""
    flags = _OVERRIDE | (_ROUTER if router else 0)
    length = _ADVERTISEMENT.size
    fields = (flags, address, _TARGET_LINK_LAYER, 1, mac)
    total = internet_checksum(
        _ADVERTISEMENT.pack(_ADVERTISEMENT_TYPE, 0, 0, *fields),
        pseudo_header(address, ALL_NODES, _ICMPV6, length),
    )
    return (
        _ETHERNET.pack(ALL_NODES_MAC, mac, ETHERTYPE_IPV6)
        + _IPV6.pack(_IPV6_VERSION, length, _ICMPV6, _HOP_LIMIT, address, ALL_NODES)
        + _ADVERTISEMENT.pack(_ADVERTISEMENT_TYPE, 0, total, *fields)
    )


def announcement(mac: bytes, address: Address, *, router: bool) -> bytes:
    """The announcement frame of the address's family."""
    if len(address) == 4:
        return gratuitous_arp(mac, address)
    return neighbour_advertisement(mac, address, router=router)


def arp_claim(frame: bytes) -> tuple[bytes, Address] | None:
    """(MAC, address) that the sender of an ARP frame says is its own; None for a mere probe."""
    if len(frame) < _ETHERNET.size + _ARP.size:
        return None
    if _ETHERNET.unpack_from(frame)[2] != ETHERTYPE_ARP:
        return None
    hardware, protocol, mac_length, address_length, operation, mac, address, _, _ = (
        _ARP.unpack_from(frame, _ETHERNET.size)
    )
    if (hardware, protocol, mac_length, address_length) != _ARP_FIXED:
        return None
    if operation not in (_ARP_REQUEST, _ARP_REPLY) or address == _NOBODY_IPV4:
        return None
    return mac, address


def neighbour_claim(icmpv6_payload: bytes, source: Address) -> tuple[bytes, Address] | None:
    """(MAC, address) that a Neighbor Advertisement from ``source`` states.

    None without a target link-layer option, and for what RFC 4861 §7.1.2 tells to ignore. (The
    kernel has checked the checksum before a raw socket sees the message.)
    """
    if len(icmpv6_payload) < _ADVERTISEMENT_LENGTH or len(source) != 16:
        return None
    if icmpv6_payload[0] != _ADVERTISEMENT_TYPE or icmpv6_payload[1] != 0:
        return None
    target = icmpv6_payload[8:24]
    if target[0] == 0xFF or source[0] == 0xFF or source == _NOBODY_IPV6:
        return None
    mac = _target_mac(icmpv6_payload)
    return None if mac is None else (mac, target)


def _target_mac(payload: bytes) -> bytes | None:
    """The target link-layer address among the options; None if absent or the options are bad."""
    at = _ADVERTISEMENT_LENGTH
    mac = None
    while at < len(payload):
        length = payload[at + 1] * 8 if at + 1 < len(payload) else 0
        if length == 0 or at + length > len(payload):
            return None
        if payload[at] == _TARGET_LINK_LAYER and length == 8:
            mac = payload[at + 2 : at + 8]
        at += length
    return mac
