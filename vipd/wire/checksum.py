"""The Internet checksum (RFC 1071) and its pseudo headers, as arithmetic modulo 65535.

A one's complement sum of 16-bit words is a sum modulo 2**16 - 1. Since 2**16 is 1 in that
arithmetic, a whole byte string read as one big number has the same residue as the sum of its
words: one division in C replaces a loop in Python. For the same reason a pseudo header can be
added as plain numbers, in any order and at any width.

Data that carries a correct checksum has residue 0. (The one's complement sum is then 0xFFFF;
it would be 0 for nothing but zeros, which no packet here consists of.)
"""

from __future__ import annotations

from vipd.model import Address

_MODULUS = 0xFFFF


def residue(data: bytes) -> int:
    """One's complement sum of the 16-bit words of ``data``, 0..0xFFFE; an odd end is padded."""
    number = int.from_bytes(data, "big")
    return (number << 8 if len(data) & 1 else number) % _MODULUS


def pseudo_header(source: Address, destination: Address, protocol: int, length: int) -> int:
    """What a pseudo header adds to the sum, not yet reduced.

    IPv4 (RFC 5798 as keepalived reads it): source, destination, zero, protocol, 16-bit length.
    IPv6 (RFC 8200 §8.1): source, destination, 32-bit length, three zeros, next header. The zeros
    and the order make no difference, so both are this one sum.
    """
    return int.from_bytes(source + destination, "big") + protocol + length


def internet_checksum(data: bytes, pseudo: int = 0) -> int:
    """The value for the checksum field of ``data``, in which that field is zero."""
    return -(residue(data) + pseudo) % _MODULUS
