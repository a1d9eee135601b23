"""Giving mastership away: the leaving master names its successor (QUORUM H2).

What it decides: to whom our mastership goes, and when to try the next one.

    PENDING   our VIPs are still on the host: nothing is said yet
    OFFERING  they are gone: ``Go`` to the successor, every 10 ms, until it says that it has taken
              it, or is seen to be master; after 150 ms, or at its refusal, the next one
    over      taken, or nobody took it: then we stand again ourselves, if that is possible

Rules
-----
1. Nothing is offered before the kernel says that our VIPs are gone.
2. Every node is offered it once. The best of those that are fit now is next, one that was asked
   for by name first.
3. ``Go`` goes to all: a higher attempt takes it back from the one before, wherever the datagrams
   of that are.
4. It ends in bounded time, whatever is lost: ``TRY_NS`` for each node.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from vipd.model import MILLISECOND_NS, Instant, Reason

REPEAT_NS = 10 * MILLISECOND_NS
TRY_NS = 150 * MILLISECOND_NS

RETURNS = frozenset({Reason.SWITCHOVER, Reason.MAINTENANCE, Reason.PREEMPTED, Reason.ADVERTS_LOST})
"""Left for these reasons, a node can be master again if nobody takes it."""


class Step(Enum):
    PENDING = "pending"
    OFFERING = "offering"


@dataclass(slots=True)
class Giving:
    """One mastership on its way to somebody else. ``preferred``: asked for by name, or empty."""

    term: int
    reason: Reason
    preferred: str = ""
    step: Step = Step.PENDING
    attempt: int = 0
    successor: str = ""
    tried: set[str] = field(default_factory=set)
    next_go: Instant = 0
    next_candidate: Instant = 0

    @property
    def may_return(self) -> bool:
        return self.reason in RETURNS

    @property
    def deadline(self) -> Instant | None:
        if self.step is Step.PENDING:
            return None
        return min(self.next_go, self.next_candidate)

    def choose(self, fit: list[str]) -> str:
        """The next one of ``fit`` (the best first); empty: all were tried."""
        left = [name for name in fit if name not in self.tried]
        if self.preferred in left:
            return self.preferred
        return left[0] if left else ""

    def offer(self, successor: str, now: Instant) -> None:
        self.step = Step.OFFERING
        self.attempt += 1
        self.successor = successor
        self.tried.add(successor)
        self.next_go = now
        self.next_candidate = now + TRY_NS

    def said(self, now: Instant) -> None:
        """``Go`` was sent just now."""
        self.next_go = now + REPEAT_NS

    def longest_rest_ns(self, fit: int) -> int:
        """After this it is over in any case; ``fit``: how many could still take it."""
        return (fit + 1) * TRY_NS
