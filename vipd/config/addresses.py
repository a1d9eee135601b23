"""Addresses that no host can have, whatever a file says."""

from __future__ import annotations

from vipd.model import Address, Family, family_of


def why_unusable(address: Address, prefix: int) -> str:
    """What the address is instead of a host's, or nothing."""
    bits = len(address) * 8
    value = int.from_bytes(address, "big")
    is_v4 = family_of(address) is Family.IPV4
    if value == 0:
        return "the unspecified address"
    if address[0] == 127 if is_v4 else value == 1:
        return "a loopback address"
    if address[0] & 0xF0 == 0xE0 if is_v4 else address[0] == 0xFF:
        return "a multicast address"
    if is_v4 and address[0] == 0:
        return "an address of 0.0.0.0/8, which no host can have"
    if value == 0xFFFFFFFF and is_v4:
        return "the broadcast address"
    if prefix >= bits - 1:  # RFC 3021, RFC 6164: a pair of hosts, or one
        return ""
    host_bits = value & ((1 << bits - prefix) - 1)
    if host_bits == 0:
        return "the address of its network" if is_v4 else "its subnet's router anycast address"
    if is_v4 and host_bits == (1 << bits - prefix) - 1:
        return "the broadcast address of its network"
    return ""
