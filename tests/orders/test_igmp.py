"""The question that IGMP is asked, byte by byte, and the reports that answer it.

The judges are scapy for the IP header, RFC 3376 §4.1 for the message, and, in ``test_listeners``,
the kernel that answers.
"""

from __future__ import annotations

import socket
import struct

import pytest
from scapy.layers.inet import IP, IPOption_Router_Alert

from vipd.adapters.igmp import query, reporter

GROUP = socket.inet_aton("224.0.0.18")
OTHER = socket.inet_aton("239.1.1.1")
MEMBER = socket.inet_aton("192.0.2.12")
INCLUDE, EXCLUDE, TO_INCLUDE, TO_EXCLUDE = 1, 2, 3, 4


def ones_complement_sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return total % 0xFFFF


def test_the_ip_header_of_the_query() -> None:
    judged = IP(query(GROUP))
    assert (judged.src, judged.dst, judged.ttl, judged.tos) == ("0.0.0.0", "224.0.0.18", 1, 0xC0)
    assert (judged.proto, judged.len, judged.ihl, judged.frag) == (2, 36, 6, 0)
    assert isinstance(judged.options[0], IPOption_Router_Alert)
    assert ones_complement_sum(query(GROUP)[:24]) == 0


def test_the_message_of_the_query() -> None:
    message = query(GROUP)[24:]
    assert ones_complement_sum(message) == 0
    assert message[:2] == bytes((0x11, 1))  # a query, to be answered within 0.1 s
    assert message[4:8] == GROUP
    assert message[8:] == bytes((0b1010, 125, 0, 0))  # S, robustness 2; 125 s; no sources


def packet(message: bytes, dst: str = "224.0.0.22") -> bytes:
    options = [IPOption_Router_Alert()]
    return bytes(IP(src="192.0.2.12", dst=dst, proto=2, options=options) / message)


def record(kind: int, group: bytes, sources: int = 0, auxiliary: int = 0) -> bytes:
    rest = bytes(4 * (sources + auxiliary))
    return struct.pack("!BBH4s", kind, auxiliary, sources, group) + rest


def report(*records: bytes) -> bytes:
    return packet(struct.pack("!BBHHH", 0x22, 0, 0, 0, len(records)) + b"".join(records))


def old_message(kind: int, group: bytes) -> bytes:
    return packet(struct.pack("!BBH4s", kind, 0, 0, group), socket.inet_ntoa(group))


@pytest.mark.parametrize("kind", [EXCLUDE, TO_EXCLUDE])
def test_a_member_reports(kind: int) -> None:
    assert reporter(report(record(kind, GROUP)), GROUP) == MEMBER


def test_a_member_of_some_sources_only_is_one() -> None:
    assert reporter(report(record(INCLUDE, GROUP, sources=1)), GROUP) == MEMBER


def test_records_before_ours_are_stepped_over() -> None:
    others = (record(INCLUDE, OTHER, sources=2), record(EXCLUDE, OTHER, auxiliary=3))
    assert reporter(report(*others, record(TO_EXCLUDE, GROUP)), GROUP) == MEMBER


@pytest.mark.parametrize("kind", [0x12, 0x16])
def test_a_member_that_speaks_an_older_version(kind: int) -> None:
    assert reporter(old_message(kind, GROUP), GROUP) == MEMBER


@pytest.mark.parametrize(
    "data",
    [
        report(record(TO_INCLUDE, GROUP)),
        report(record(INCLUDE, GROUP)),
        report(record(EXCLUDE, OTHER)),
        report(),
        old_message(0x16, OTHER),
        old_message(0x17, GROUP),  # it leaves
        query(GROUP),
        report(record(EXCLUDE, GROUP))[:-3],
        query(GROUP)[:26],
        b"\x4f" + bytes(19),
        b"",
    ],
)
def test_what_is_no_report_of_a_member(data: bytes) -> None:
    assert reporter(data, GROUP) is None
