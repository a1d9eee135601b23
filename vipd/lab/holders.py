"""Which hosts have an address, by the word of their kernels: who held a VIP, and did two at once.

One process hears the address notifications of *all* hosts on one netlink socket of the switch's
namespace (NETLINK_LISTEN_ALL_NSID). So what happened on two hosts is in the order in which their
kernels said it, however late this process is woken; only how long something lasted depends on
that. The log is text, one line per fact, instants in nanoseconds of CLOCK_BOOTTIME::

    + lb1 192.0.2.100 81234567890123            lb1 has it (also said at each renewal)
    - lb1 192.0.2.100 81234567890123            lb1 has it no more

The hosts must not have the addresses when it begins.
"""

from __future__ import annotations

import argparse
import signal
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType

from vipd.lab.urgent import hurry
from vipd.model import Duration, Instant, format_address

_SOL_NETLINK, _LISTEN_ALL_NSID = 270, 8
_GROUPS = 0x10 | 0x100  # IPv4 and IPv6 addresses
_NEWADDR, _DELADDR = 20, 21
_HEADER, _MESSAGE, _ATTRIBUTE = (
    struct.Struct("=IHHII"),
    struct.Struct("=BBBBI"),
    struct.Struct("=HH"),
)
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NSID = struct.Struct("=i")


# --- what was heard ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Holding:
    """A host has an address from now on, or has it no more."""

    t_ns: Instant
    host: str
    address: str
    has: bool


def read_line(line: str) -> Holding:
    """A line of the log."""
    sign, host, address, instant = line.split()
    return Holding(int(instant), host, address, sign == "+")


def holders(told: Iterable[Holding], address: str) -> Iterator[tuple[Instant, frozenset[str]]]:
    """From when on who had the address, each time that it changed."""
    now: set[str] = set()
    for holding in told:
        if holding.address == address and holding.has != (holding.host in now):
            now ^= {holding.host}
            yield holding.t_ns, frozenset(now)


def held_twice_ns(
    told: Iterable[Holding], address: str, start_ns: Instant, end_ns: Instant
) -> Duration:
    """For how long between the two instants more than one host had the address."""
    total_ns = 0
    since_ns: Instant | None = None
    for t_ns, hosts in holders(told, address):
        if since_ns is not None:
            total_ns += _common_ns(since_ns, t_ns, start_ns, end_ns)
        since_ns = t_ns if len(hosts) > 1 else None
    if since_ns is not None:
        total_ns += _common_ns(since_ns, end_ns, start_ns, end_ns)
    return total_ns


def _common_ns(from_ns: Instant, to_ns: Instant, start_ns: Instant, end_ns: Instant) -> Duration:
    return max(0, min(to_ns, end_ns) - max(from_ns, start_ns))


# --- hearing ----------------------------------------------------------------------------------


def decode(data: bytes) -> Iterator[tuple[bool, bytes]]:
    """The address notifications in what a netlink socket gave: added or not, and the address."""
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if kind in (_NEWADDR, _DELADDR):
            attributes = dict(_attributes(data[_HEADER.size + _MESSAGE.size : length]))
            # a peer address has both; the host's own is the local one
            yield kind == _NEWADDR, attributes.get(_IFA_LOCAL) or attributes[_IFA_ADDRESS]
        data = data[_aligned(length) :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _listen(out_path: str, names: dict[int, str], addresses: Sequence[str]) -> None:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    sock.setsockopt(_SOL_NETLINK, _LISTEN_ALL_NSID, 1)
    sock.bind((0, _GROUPS))
    hurry()
    with open(out_path, "w", buffering=1, encoding="ascii") as out:
        out.write("ready\n")
        while True:
            data, controls, *_ = sock.recvmsg(65536, socket.CMSG_SPACE(_NSID.size))
            now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            # no control message: the switch's own namespace
            host = names.get(_NSID.unpack(controls[0][2])[0]) if controls else None
            for has, packed in decode(data):
                address = format_address(packed)
                if host is not None and address in addresses:
                    out.write(f"{'+' if has else '-'} {host} {address} {now_ns}\n")


def main() -> int:
    """``holders --out FILE --host NAME=NSID ... ADDRESS...``; runs until SIGTERM."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--out", required=True)
    parser.add_argument("--host", action="append", required=True, metavar="NAME=NSID")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    pairs = (entry.rpartition("=") for entry in options.host)
    _listen(options.out, {int(nsid): name for name, _, nsid in pairs}, options.addresses)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
