"""When a master announces its VIPs: bursts, refreshes, and the last word after a rival.

A burst follows every claim and every sign that somebody else spoke for our VIPs (a losing
advert, a foreign ARP, an own stall): switches and neighbours believe whoever spoke last, so the
last word must be ours. A burst is cut into turns, so that a thousand frames delay no advert.

An answer to a rival that comes too soon after the last one waits for its gap: it neither ends the
burst that is running nor gets lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from vipd.model import MILLISECOND_NS, SECOND_NS, Duration, Instant, Vip

FRAMES_PER_TURN = 128

BURST_AT_NS = tuple(ms * MILLISECOND_NS for ms in (0, 20, 100, 500, 1000))
"""When a burst repeats itself; repeats beyond these follow once a second."""


class AnnouncementPlan:
    """The schedule of one instance's announcements. ``deadline`` None: nothing is planned."""

    def __init__(self, count: int, refresh_ns: Duration) -> None:
        self.count = count
        self.refresh_ns = refresh_ns
        self.deadline: Instant | None = None
        self._base: Instant = 0
        self._step = 0
        self._rest: deque[Vip] = deque()
        self._answered_at: dict[Duration, Instant] = {}
        self._asked: set[Duration] = set()
        self._answer_at: Instant | None = None

    def begin(self, now: Instant, *, first_sent: bool) -> None:
        """Start a burst; with ``first_sent`` its first round is on the wire already."""
        self._base, self._step = now, int(first_sent)
        self._rest.clear()
        self._answer_at = None  # this burst is the answer
        self._asked.clear()
        self.deadline = self._next(now)

    def answer_rival(self, now: Instant, gap_ns: Duration) -> None:
        """Burst at once, or as soon as ``gap_ns`` have passed since the last such burst.

        Each kind of sign has its own gap and is limited by its own kind only: the losing advert
        that a beaten rival says last must not wait because its ARP was answered just before.
        """
        last = self._answered_at.get(gap_ns)
        start = now if last is None else max(now, last + gap_ns)
        self._asked.add(gap_ns)
        if self._answer_at is None or start < self._answer_at:
            self._answer_at = start
        if self.deadline is None or self._answer_at < self.deadline:
            self.deadline = self._answer_at

    def stop(self) -> None:
        self.deadline = None
        self._answer_at = None
        self._answered_at.clear()
        self._asked.clear()
        self._rest.clear()

    def due(self, now: Instant, held: Iterable[Vip]) -> tuple[Vip, ...]:
        """The frames of this turn; plans the next turn. ``held``: what the kernel has."""
        if self.deadline is None or now < self.deadline:
            return ()
        if self._answer_at is not None and now >= self._answer_at:
            self._answered_at |= dict.fromkeys(self._asked, now)
            self.begin(now, first_sent=False)
        if not self._rest:
            self._rest.extend(held)
        count = min(FRAMES_PER_TURN, len(self._rest))
        frames = tuple(self._rest.popleft() for _ in range(count))
        if self._rest:
            self.deadline = now
        else:
            self._step += 1
            self.deadline = self._next(now)
        return frames

    def _next(self, now: Instant) -> Instant | None:
        instants = (self._next_round(now), self._answer_at)
        return min((at for at in instants if at is not None), default=None)

    def _next_round(self, now: Instant) -> Instant | None:
        if self._step < len(BURST_AT_NS) and self._step < self.count:
            return self._base + BURST_AT_NS[self._step]
        if self._step < self.count:
            return self._base + (self._step - len(BURST_AT_NS) + 2) * SECOND_NS
        if self.refresh_ns:
            return now + self.refresh_ns
        return None
