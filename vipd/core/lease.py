"""Lease: "may I be master?" Here only its ``Unguarded`` twin, for hosts without a quorum.

The election says who *should* be master, the lease who *may*. Without voters nobody can refuse,
so ``Unguarded`` grants every wish at once; it exists so that there is one code path: the claim
starts on ``LeaseGranted`` and the lease goes back only when the kernel holds nothing any more,
with a quorum or without.

States: NONE -> (ASKING ->) HELD -> NONE. ``Unguarded`` never stays in ASKING.
"""

from __future__ import annotations

from vipd.core.signals import LeaseGranted, LeaseReturned, LeaseWanted, Wish
from vipd.core.table import Ignored, Table, complete
from vipd.model import Instant, LeaseState

INPUTS = (LeaseWanted, LeaseReturned)


class Unguarded:
    """The lease of a node that nobody guards: always granted."""

    def __init__(self) -> None:
        self.state = LeaseState.NONE
        self._wishes: list[Wish] = []

    def handle(self, signal: LeaseWanted | LeaseReturned, now: Instant) -> list[Wish]:
        row = TABLE[self.state, type(signal)]
        if not isinstance(row, Ignored):
            row(self, signal, now)
        wishes, self._wishes = self._wishes, []
        return wishes

    def _grant(self, _signal: LeaseWanted, _now: Instant) -> None:
        self.state = LeaseState.HELD
        self._wishes.append(LeaseGranted())

    def _return(self, _signal: LeaseReturned, _now: Instant) -> None:
        self.state = LeaseState.NONE


_NEVER_ASKS = Ignored("the unguarded lease is granted at once and never waits in ASKING")

TABLE: Table = complete(
    {
        (LeaseState.NONE, LeaseWanted): Unguarded._grant,
        (LeaseState.NONE, LeaseReturned): Ignored("nothing to give back"),
        (LeaseState.ASKING, LeaseWanted): _NEVER_ASKS,
        (LeaseState.ASKING, LeaseReturned): _NEVER_ASKS,
        # Wanted again while the release of the last mastership is still under way.
        (LeaseState.HELD, LeaseWanted): Unguarded._grant,
        (LeaseState.HELD, LeaseReturned): Unguarded._return,
    },
    LeaseState,
    INPUTS,
)
