"""checksum.py against a naive twin: RFC 1071 §4.1 word by word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipd.wire.checksum import internet_checksum, pseudo_header, residue


def naive_checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = 0
    for at in range(0, len(data), 2):
        total += data[at] << 8 | data[at + 1]
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@given(st.binary(max_size=200).filter(any))
def test_equals_the_naive_sum(data: bytes) -> None:
    assert internet_checksum(data) == naive_checksum(data)


@given(st.binary(min_size=2, max_size=100).filter(any))
def test_data_with_its_checksum_has_residue_zero(data: bytes) -> None:
    even = data + b"\0" if len(data) % 2 else data
    assert residue(even + internet_checksum(even).to_bytes(2, "big")) == 0


@given(st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4), st.binary(min_size=1))
def test_ipv4_pseudo_header_equals_the_bytes_in_front(src: bytes, dst: bytes, data: bytes) -> None:
    head = src + dst + b"\0\x70" + len(data).to_bytes(2, "big")
    pseudo = pseudo_header(src, dst, 112, len(data))
    assert internet_checksum(data, pseudo) == naive_checksum(head + data)


@given(
    st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16), st.binary(min_size=1)
)
def test_ipv6_pseudo_header_equals_the_bytes_in_front(src: bytes, dst: bytes, data: bytes) -> None:
    head = src + dst + len(data).to_bytes(4, "big") + b"\0\0\0\x3a"
    pseudo = pseudo_header(src, dst, 58, len(data))
    assert internet_checksum(data, pseudo) == naive_checksum(head + data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("2133960100010000c00002640000000000000000", 0x8665),  # checklist, section 3
        ("3133960100640000c0000264", 0x7602),
        ("0001f203f4f5f6f7", 0x220D),  # RFC 1071 §3
        ("ffff", 0x0000),
    ],
)
def test_worked_examples(data: str, expected: int) -> None:
    assert internet_checksum(bytes.fromhex(data)) == expected
