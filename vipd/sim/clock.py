"""A host's CLOCK_BOOTTIME: starts anywhere and runs a little too fast or too slow."""

from __future__ import annotations

from vipd.model import Instant

_BILLION = 1_000_000_000


class DriftingClock:
    """``drift_ppb``: parts per billion; 10_000_000 is one per cent too fast."""

    def __init__(self, offset_ns: int, drift_ppb: int) -> None:
        self.offset_ns = offset_ns
        self.drift_ppb = drift_ppb

    def local(self, true: Instant) -> Instant:
        return self.offset_ns + true + true * self.drift_ppb // _BILLION

    def true(self, local: Instant) -> Instant:
        """The first true instant at which the clock shows ``local`` or more."""
        guess = (local - self.offset_ns) * _BILLION // (_BILLION + self.drift_ppb)
        while self.local(guess) < local:
            guess += 1
        return guess
