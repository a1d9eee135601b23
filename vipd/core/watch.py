"""When does this node take over in a cluster? (DESIGN §5, cluster mode.)

A pure judgement on what is known: the book of members, whose adverts were heard, and how this node
ranks among those that could be master. The result is an instant, or None: the election's own
timer (RFC 9568) counts.

Rules, the first that applies
-----------------------------
1. Somebody who is no member speaks for the virtual router: RFC timers, as among strangers.
2. A member's last word is that it is master:
   a. its channel is silent, but its adverts came on for longer than two beats: the channel is
      cut, not the master: RFC timers;
   b. else it is lost ``heartbeat_timeout`` after the last sign of it, heartbeat or advert; not
      before 3 1/4 beats, for by then the adverts of one whose channel alone is cut have come
      (``cluster.py``, rule 3: it sees the cut after two beats, and speaks with the third).
3. Nobody is master, and every node says so, or has said that it is gone: somebody has to stand.
   Not before a handover that may be under way has had its time (``handover.py``).
4. Else there is a node of which nothing is known, and it may be master: RFC timers.

In 2b and 3 the best of those that are fit goes at once, each next one ``STEP_NS`` later: by then
the heartbeat of the first has told the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from vipd.core.handover import TRY_NS
from vipd.core.roster import Peer, Roster, lost_after_ns
from vipd.model import MILLISECOND_NS, SECOND_NS, Address, Duration, Instant, Reason

STEP_NS = 50 * MILLISECOND_NS
GRACE_NS = 100 * MILLISECOND_NS
MOST_UNKNOWN = 16
FOREIGN_NS = 60 * SECOND_NS
"""For so long after a stranger's advert RFC timers count."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Take over at ``until`` unless something is heard."""

    until: Instant
    reason: Reason
    meaning: str


class Watch:
    """One unit's look at the cluster. ``adverts``: when those of a node were last heard."""

    def __init__(self, unit: str, roster: Roster) -> None:
        self.unit = unit
        self.adverts: dict[str, Instant] = {}
        self.foreign_until: Instant | None = None
        self.foreign_source: Address = b""
        self.foreign_since: Instant = 0
        self._roster = roster
        self._unknown: dict[Address, Instant] = {}
        self._doubt_until: Instant = 0
        self._vacant_since: Instant | None = None
        self._fit: frozenset[str] = frozenset()
        self._fewer_since: Instant = 0

    def is_stranger(self, source: Address, interval_ns: Duration, now: Instant) -> bool:
        """An advert of no member's, and not of one whose next beat will tell its new address.

        Until that is known somebody speaks whom the cluster cannot answer for: rule 1.
        """
        self._doubt_until = now + max(3 * interval_ns, 3 * self._roster.interval_ns)
        if len(self._unknown) >= MOST_UNKNOWN and source not in self._unknown:
            self._unknown.clear()
        first = self._unknown.setdefault(source, now)
        return now - first > 2 * self._roster.interval_ns

    def hear_stranger(self, source: Address, now: Instant) -> None:
        if not self.hears_strangers(now):
            self.foreign_since = now
        self.foreign_until, self.foreign_source = now + FOREIGN_NS, source

    def begin_anew(self) -> None:
        """This node was master meanwhile: what was vacant before is history."""
        self._vacant_since = None

    def hears_strangers(self, now: Instant) -> bool:
        return self.foreign_until is not None and now < self.foreign_until

    def rank(self, priority: int) -> int:
        """How many of the fit are better than this node with ``priority``."""
        roster = self._roster
        own = (priority, roster.address)
        return sum(roster.rank_of(peer, self.unit) > own for peer in roster.fit_for(self.unit))

    def judge(self, priority: int, term: int, now: Instant) -> Wait | None:
        """Rules 1 to 4, for a backup of ``priority`` whose own last mastership was ``term``."""
        master = self._roster.master_of(self.unit, term)
        if master is not None:
            self._vacant_since = None
        if self.hears_strangers(now) or now < self._doubt_until:
            return None
        if master is not None:
            return self._while_master(master, priority)
        if not self._roster.all_report(self.unit):
            self._vacant_since = None
            return None
        fit, before = frozenset(peer.name for peer in self._roster.fit_for(self.unit)), self._fit
        self._fit = fit
        if self._vacant_since is None or not fit <= before:
            # All count from the same instant: that at which the last one of them became fit.
            self._vacant_since = now
        elif fit != before:
            # The rank moved. Who is gone may have stood meanwhile, and has a step's time to say so.
            self._fewer_since = now
        grace_ns = (len(self._roster.peers) + 1) * TRY_NS + GRACE_NS
        begin = max(self._vacant_since + grace_ns, self._fewer_since + STEP_NS)
        until = begin + self.rank(priority) * STEP_NS
        return Wait(until, Reason.MASTER_LEFT, "takes over unless another node does")

    def _while_master(self, master: Peer, priority: int) -> Wait | None:
        heard = master.last_heard or 0
        advert = self.adverts.get(master.name, 0)
        pace_ns = self._roster.pace_of(master)
        if advert > heard + 2 * pace_ns:
            return None
        lost = max(heard, advert) + max(self._roster.timeout_of(master), lost_after_ns(pace_ns))
        until = lost + self.rank(priority) * STEP_NS
        return Wait(until, Reason.MASTER_SILENT, f"takes over unless {master.name} is heard")
