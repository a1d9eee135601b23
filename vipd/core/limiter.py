"""Two small counters over time: notes that repeat themselves, incidents that add up.

A note is admitted once per key and period, with a count of what was held back. Keys must be
drawn from a fixed set (instance, kind, reason), never from what a packet says: a spoofed source
must neither reset the limiter nor grow its table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

from vipd.model import SECOND_NS, Duration, Instant

PERIOD_NS = 60 * SECOND_NS


class NoteLimiter:
    def __init__(self, period_ns: Duration = PERIOD_NS) -> None:
        self._period_ns = period_ns
        self._held_back: dict[Hashable, tuple[Instant, int]] = {}

    def admit(self, key: Hashable, now: Instant) -> int | None:
        """None: keep silent. Else speak, and say how many were held back since last time."""
        until, count = self._held_back.get(key, (now, 0))
        if now < until:
            self._held_back[key] = (until, count + 1)
            return None
        self._held_back[key] = (now + self._period_ns, 0)
        return count


class IncidentCounter:
    """More than ``limit`` incidents within ``window_ns`` are too many."""

    def __init__(self, limit: int, window_ns: Duration) -> None:
        self._limit = limit
        self._window_ns = window_ns
        self._at: deque[Instant] = deque()

    def is_one_too_many(self, now: Instant) -> bool:
        """Count one incident; True starts the count anew."""
        self._at.append(now)
        while now - self._at[0] > self._window_ns:
            self._at.popleft()
        if len(self._at) <= self._limit:
            return False
        self._at.clear()
        return True
