"""Work in pieces: which VIPs one netlink batch carries, and whose turn it is to be renewed.

One batch is one uninterruptible system call: 1000 IPv6 addresses in one would hold an advert up
for over a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from vipd.model import SECOND_NS, Duration, Family, Instant, Vip

CHUNK = {Family.IPV4: 128, Family.IPV6: 16}
"""VIPs per netlink batch: about 1.5 ms (IPv4) and, at 1000 addresses, 40 ms (IPv6)."""


def chunks_of(vips: Iterable[Vip]) -> list[tuple[Vip, ...]]:
    """``vips`` in order, cut into runs of one family, each at most one batch long."""
    chunks: list[tuple[Vip, ...]] = []
    for _width, run in groupby(vips, key=lambda vip: len(vip.address)):
        members = tuple(run)
        size = CHUNK[members[0].family]
        chunks.extend(members[at : at + size] for at in range(0, len(members), size))
    return chunks


class Renewals:
    """All VIPs once within a third of their lifetime, a chunk at a time, evenly spread."""

    def __init__(self) -> None:
        self.deadline: Instant | None = None
        self._chunks: list[tuple[Vip, ...]] = []
        self._step_ns: Duration = 0
        self._next = 0

    def begin(
        self, vips: Iterable[Vip], lifetime_s: int, now: Instant, *, at_once: bool = False
    ) -> None:
        """Plan a new round; ``at_once`` where what is there may have waited for long."""
        self._chunks = chunks_of(vips)
        self._step_ns = lifetime_s * SECOND_NS // 3 // max(1, len(self._chunks))
        self._next = 0
        first = now if at_once else now + self._step_ns
        self.deadline = first if self._chunks else None

    def stop(self) -> None:
        self.deadline = None

    def due(self, now: Instant) -> tuple[Vip, ...]:
        """The chunk whose turn it is; plans the next turn."""
        if self.deadline is None or now < self.deadline:
            return ()
        chunk = self._chunks[self._next]
        self._next = (self._next + 1) % len(self._chunks)
        self.deadline = now + self._step_ns
        return chunk
