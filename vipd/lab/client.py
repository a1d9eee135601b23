"""The lab's client: asks every VIP a thousand times a second and writes down who answered when.

One process in the client's namespace. Its log is text, one line per fact, instants in
nanoseconds of CLOCK_BOOTTIME::

    S 192.0.2.100 17 81234567890123             probe 17 sent
    R 192.0.2.100 17 81234568012345 lb1         its answer came, from lb1
    E 192.0.2.100 18 81234569000000 113         probe 18 could not be sent (errno)

``outages.py`` reads it. An answer counts at the instant of its coming: a probe that waited in an
ARP queue and was answered late did not serve its user earlier.
"""

from __future__ import annotations

import argparse
import gc
import select
import signal
import socket
import sys
import time
from types import FrameType

from vipd.lab.server import UDP_PORT
from vipd.lab.urgent import hurry

_FLUSH_EVERY_NS = 50_000_000


class _Probe:
    """The socket to one VIP. Connected, so that only the VIP itself can answer."""

    def __init__(self, vip: str) -> None:
        self.vip = vip
        self.family = socket.AF_INET6 if ":" in vip else socket.AF_INET
        self.socket = self._connect()

    def _connect(self) -> socket.socket | None:
        sock = socket.socket(self.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect((self.vip, UDP_PORT))
        except OSError:
            sock.close()
            return None  # no route right now; tried again with the next probe
        return sock

    def send(self, sequence: int, now_ns: int) -> str:
        self.socket = self.socket or self._connect()
        try:
            if self.socket is None:
                return f"E {self.vip} {sequence} {now_ns} 0\n"
            self.socket.send(sequence.to_bytes(8, "big"))
        except OSError as error:  # also what the network said about an earlier probe
            return f"E {self.vip} {sequence} {now_ns} {error.errno}\n"
        return f"S {self.vip} {sequence} {now_ns}\n"

    def receive(self) -> list[str]:
        lines: list[str] = []
        while self.socket is not None:
            try:
                data = self.socket.recv(256)
            except BlockingIOError:
                break
            except OSError:
                continue  # refused or unreachable: the probe's line already says it was sent
            now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            sequence, name = int.from_bytes(data[:8], "big"), data[8:].decode()
            lines.append(f"R {self.vip} {sequence} {now_ns} {name}\n")
        return lines


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _loop(probes: list[_Probe], interval_ns: int, out_path: str) -> None:
    with open(out_path, "a", buffering=1 << 16) as out:
        due_ns = flushed_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        sequence = 0
        while True:
            now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            if now_ns >= due_ns:
                for probe in probes:
                    out.write(probe.send(sequence, now_ns))
                sequence += 1
                due_ns = max(due_ns + interval_ns, now_ns)  # late probes are not made up for
            if now_ns - flushed_ns > _FLUSH_EVERY_NS:
                out.flush()
                flushed_ns = now_ns
            sockets = [probe.socket for probe in probes if probe.socket is not None]
            # select, not epoll: its timeout is not rounded up to a whole millisecond
            wait_s = max(0, due_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) / 1e9
            if select.select(sockets, (), (), wait_s)[0]:
                for probe in probes:
                    out.writelines(probe.receive())


def main() -> int:
    """``client --out FILE VIP...``; runs until SIGTERM."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("vips", nargs="+")
    parser.add_argument("--out", required=True)
    parser.add_argument("--rate", type=int, default=1000, help="probes per second and VIP")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    probes = [_Probe(vip) for vip in options.vips]
    gc.freeze()
    hurry()
    _loop(probes, 1_000_000_000 // options.rate, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
