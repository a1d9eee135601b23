"""True time and chance: one event queue, one seeded source of randomness, one trace.

Everything that happens in a run happens in the order of this queue, in true nanoseconds; hosts
see their own drifting clocks only. All chance comes from ``World.rng``, so that the same seed
gives the same run, event for event.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from vipd.model import MILLISECOND_NS, SECOND_NS, Duration, Instant


class Violation(Exception):
    """A promise was broken: which one, and how. Not an error of the simulator."""

    def __init__(self, checker: str, text: str, now: Instant) -> None:
        super().__init__(f"{checker}: {text} (at {now / SECOND_NS:.6f} s)")
        self.checker = checker


class World:
    """The queue of one run. ``now`` is true time; only checkers may judge by it."""

    def __init__(self, rng: random.Random, *, tracing: bool = False) -> None:
        self.now: Instant = 0
        self.rng = rng
        self.tracing = tracing
        self.lines: list[str] = []
        self.coverage: Counter[str] = Counter()
        self._queue: list[tuple[Instant, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, when: Instant, call: Callable[..., None], *args: Any) -> None:
        """Call ``call(*args)`` at true time ``when``; equal instants keep the order of asking."""
        self._count += 1
        heapq.heappush(self._queue, (max(when, self.now), self._count, call, args))

    def after(self, delay: Duration, call: Callable[..., None], *args: Any) -> None:
        self.at(self.now + delay, call, *args)

    def run_until(self, end: Instant) -> None:
        queue, pop = self._queue, heapq.heappop
        while queue and queue[0][0] <= end:
            self.now, _, call, args = pop(queue)
            call(*args)
        self.now = end

    def between(self, low: Duration, high: Duration) -> Duration:
        """A drawn duration, both ends included; cheaper than ``randint``."""
        return low + int(self.rng.random() * (high - low + 1))

    def span(self, low_ms: int, high_ms: int) -> Duration:
        """Mostly short, sometimes long."""
        share = self.rng.random() ** 2
        return int((low_ms + share * (high_ms - low_ms)) * MILLISECOND_NS)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def trace(self, who: str, what: object) -> None:
        """Keep one line; callers ask ``tracing`` first where building the text costs time."""
        if self.tracing:
            self.lines.append(f"{self.now / SECOND_NS:+12.6f} {who:<8} {what}")

    def violated(self, checker: str, text: str) -> None:
        self.trace("CHECKER", f"{checker}: {text}")
        raise Violation(checker, text, self.now)
