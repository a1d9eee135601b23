"""IGMP, as far as it answers "who on this link is a member of this group?" (RFC 3376).

A host may ask that without being a multicast router, if what it sends changes nothing for those
who are. So the query is:

* **group-specific**: hosts report this one group; snooping bridges take a querier and a router
  port from general queries only;
* **with the S flag**: multicast routers do not shorten their timers for the group;
* **from 0.0.0.0**, like the proxy queries of a snooping switch (RFC 4541 §2.1.1): the lowest
  address wins the election of queriers, and this is the one that must not stand in it;
* **of version 3**, by its length: an older one would make every host speak that version;
* **with the default robustness and interval**, which hosts take over from what they hear;
* **answered within 0.1 s** (hosts choose a random moment), TTL 1, with the router alert.

Hosts answer with a report of version 3 to 224.0.0.22, or where a router of version 2 was heard
with one of version 2 to the group itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from vipd.adapters.echo import checksum
from vipd.model import Address

_PROTOCOL = 2
_QUERY, _REPORT_V1, _REPORT_V2, _REPORT_V3 = 0x11, 0x12, 0x16, 0x22
_WITHIN_100_MS = 1  # tenths of a second
_SUPPRESS_AND_ROBUSTNESS_2 = 0x08 | 2
_INTERVAL_S = 125
_ROUTER_ALERT = bytes((0x94, 4, 0, 0))
_INTERNETWORK_CONTROL = 0xC0
_EXCLUDING = frozenset({2, 4})  # record types of a member that takes every source
_SOURCES_LISTED = frozenset({1, 5})

_IP_HEADER = struct.Struct("!BBHHHBBH4s4s")
_IGMP_QUERY = struct.Struct("!BBH4sBBH")
_GROUP_RECORD = struct.Struct("!BBH4s")
_SMALLEST_MESSAGE = 8


def query(group: Address) -> bytes:
    """The query as an IPv4 packet, to be sent to ``group``."""
    body = _IGMP_QUERY.pack(
        _QUERY, _WITHIN_100_MS, 0, group, _SUPPRESS_AND_ROBUSTNESS_2, _INTERVAL_S, 0
    )
    length = _IP_HEADER.size + len(_ROUTER_ALERT)
    first, total = 0x40 | length // 4, length + len(body)
    header = _IP_HEADER.pack(
        first, _INTERNETWORK_CONTROL, total, 0, 0, 1, _PROTOCOL, 0, bytes(4), group
    )
    return _summed(header + _ROUTER_ALERT, 10) + _summed(body, 2)


def reporter(packet: bytes, group: Address) -> Address | None:
    """The source of an IPv4 packet of IGMP that reports membership of ``group``, else None."""
    if len(packet) < _IP_HEADER.size:
        return None
    message = packet[(packet[0] & 0x0F) * 4 :]
    if len(message) < _SMALLEST_MESSAGE:
        return None
    if message[0] in (_REPORT_V1, _REPORT_V2):
        groups = {message[4:8]}
    elif message[0] == _REPORT_V3:
        groups = set(_reported_groups(message))
    else:
        return None
    return packet[12:16] if group in groups else None


def _reported_groups(message: bytes) -> Iterable[bytes]:
    """The groups of a version 3 report in which its sender is, not those that it leaves."""
    offset = _SMALLEST_MESSAGE
    for _ in range(int.from_bytes(message[6:8], "big")):
        if offset + _GROUP_RECORD.size > len(message):
            return
        kind, auxiliary, sources, group = _GROUP_RECORD.unpack_from(message, offset)
        if kind in _EXCLUDING or (kind in _SOURCES_LISTED and sources):
            yield group
        offset += _GROUP_RECORD.size + 4 * (sources + auxiliary)


def _summed(data: bytes, place: int) -> bytes:
    """``data`` with its checksum at ``place``, where zeros stand."""
    return data[:place] + checksum(data).to_bytes(2, "big") + data[place + 2 :]
