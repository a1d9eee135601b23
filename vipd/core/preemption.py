"""Asking the master for its mastership (QUORUM H1, H4): when, and when not again.

A better node never takes: it asks, and the master, which knows more, hands over or refuses. So two
nodes that see the world differently cannot take it from each other in turn.

1. It asks when it has been the better one, fit and allowed to preempt, for ``preempt_delay``; after
   its own health cost it the mastership, or its engine died, for at least ``AFTER_TROUBLE_NS``.
2. What was refused, or not answered, is asked again after 1 s, then 2 s, ... up to 5 minutes.
3. A new master, a new priority of either, or a new pin is a new question: it is asked at once.
"""

from __future__ import annotations

from vipd.core.timing import soonest
from vipd.model import MILLISECOND_NS, SECOND_NS, Duration, Instant

ANSWER_NS = 300 * MILLISECOND_NS
FIRST_BACK_OFF_NS = SECOND_NS
LAST_BACK_OFF_NS = 300 * SECOND_NS
AFTER_TROUBLE_NS = 5 * SECOND_NS


class Preemption:
    """One unit's wish to be master instead of another node."""

    def __init__(self) -> None:
        self.better_since: Instant | None = None
        self.refused_for = ""
        self._question: object = None
        self._asked_at: Instant | None = None
        self._not_before: Instant = 0
        self._back_off_ns: Duration = 0
        self._due: Instant | None = None

    def trouble(self, now: Instant) -> None:
        """Our own health cost us the mastership, or the engine before this one died."""
        self._not_before = now + AFTER_TROUBLE_NS

    def idle(self) -> None:
        """We are not the better one, or may not ask."""
        self.better_since = self._question = self._asked_at = self._due = None
        self.refused_for = ""

    def want(self, question: object, delay_ns: Duration, now: Instant) -> bool:
        """We are better than the master that ``question`` names; True: ask now."""
        if self.better_since is None:
            self.better_since = now
        if question != self._question:
            self._question, self._asked_at, self._back_off_ns = question, None, 0
            self.refused_for = ""
            self._due = max(self.better_since + delay_ns, self._not_before)
        if self._asked_at is not None:
            if now < self._asked_at + ANSWER_NS:
                return False
            self.refused("no answer", self._asked_at + ANSWER_NS)
        if self._due is None or now < self._due:
            return False
        self._asked_at = now
        return True

    def refused(self, reason: str, now: Instant) -> None:
        """Not now. One question has one answer, however many datagrams say so."""
        if self._asked_at is None:
            return
        self._asked_at = None
        self.refused_for = reason
        self._back_off_ns = min(max(2 * self._back_off_ns, FIRST_BACK_OFF_NS), LAST_BACK_OFF_NS)
        self._due = now + self._back_off_ns

    @property
    def asks_at(self) -> Instant | None:
        """When it asks (again); None: it has no wish, or waits for the answer."""
        return self._due if self._asked_at is None else None

    @property
    def deadline(self) -> Instant | None:
        answer = None if self._asked_at is None else self._asked_at + ANSWER_NS
        return answer if answer is not None else soonest(self._due)
