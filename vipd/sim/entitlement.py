"""May this unit be master at all, with which priority, and what was it ordered? By another hand.

Followed from what the engine of its host has been told (``worth.Told``), and compared with the
core after every step that could move it:

=====================  =========================================================================
priority               the effective priority is base + what the tracks count now
fault-ignored          a track means FAULT, and the unit is not in FAULT
fault-unfounded        FAULT because of a track, and no track means FAULT
starts-unasked         it takes part although the first verdict of a check is waited for
not-started            INIT, although nothing is waited for
barred-master          MASTER in maintenance
deaf-master            it takes part although one of its routers cannot hear
=====================  =========================================================================
"""

from __future__ import annotations

from collections.abc import Callable

from vipd.core.events import (
    AddressesApplied,
    Configured,
    DeadlinePassed,
    Deafened,
    Event,
    HealthReported,
    KernelResynced,
    LinkGone,
    LinkSeen,
    OrdersGiven,
    Undeafened,
)
from vipd.core.unit import Unit
from vipd.model import Health, Instant, Reason, State, TrackKind
from vipd.sim.worth import Debounced, Told, Worth, worth_of

MOVES_WORTH = (
    AddressesApplied,
    Configured,
    DeadlinePassed,
    Deafened,
    HealthReported,
    KernelResynced,
    LinkGone,
    LinkSeen,
    OrdersGiven,
    Undeafened,
)
_TRACK_FAULTS = (Reason.CHECK_FAILED, Reason.TRACKED_INTERFACE_DOWN)


class Entitlement:
    """One unit on one host. ``ordered``: the step just seen tells it to give mastership away.

    ``may_return``: in maintenance it may be master, if nobody took what it gave (a cluster).
    """

    def __init__(self, unit: Unit, told: Told, fail: Callable[[str, str], None]) -> None:
        self.unit = unit
        self.told = told
        self.worth = Worth()
        self.ordered = False
        self.may_return = False
        self._fail = fail
        self._debounced = Debounced()
        self._step_downs = self._count()

    def _count(self) -> int:
        return dict(self.told.orders.step_downs).get(self.unit.config.name, 0)

    @property
    def priority(self) -> int:
        return self.worth.priority(self.unit.config.leader.priority)

    @property
    def barred(self) -> bool:
        return self.told.orders.maintenance and not self.unit.config.is_owner

    @property
    def held(self) -> bool:
        return self.unit.config.name in self.told.orders.held and not self.unit.config.is_owner

    @property
    def preempts(self) -> bool:
        return self.unit.config.leader.preempt and not self.held and not self.barred

    def look(self, event: Event, now: Instant) -> None:
        """``event`` has been handled; ``told`` knows it."""
        self.ordered = False
        if type(event) is OrdersGiven:
            before, self._step_downs = self._step_downs, self._count()
            grown = self._step_downs > before and not self.unit.config.is_owner
            self.ordered = grown or self.barred
        if not self.told.synced or self.told.stopped:
            return
        tracks = self.unit.config.tracks
        seen = {
            shot.label.removeprefix("interface "): shot.health is Health.HEALTHY
            for shot in self.unit.judgement.tracks
            if shot.kind is TrackKind.INTERFACE
        }
        served = type(event) is DeadlinePassed
        self._debounced.look(tracks, self.told, now, due=served, seen_by_core=seen)
        self.worth = worth_of(tracks, self.told.verdicts, self._debounced.is_up)

    def overdue_ns(self, now: Instant) -> int:
        """For how long a debounced change should have counted by now."""
        return self._debounced.overdue_ns(self.unit.config.tracks, now)

    def judge(self) -> None:
        if not self.told.synced or self.told.stopped:
            return
        election, worth = self.unit.election, self.worth
        state, core = election.state, election.standing.priority
        if core != self.priority:
            self._fail("priority", f"{core} is in force, by the tracks it is {self.priority}")
        if worth.fault and state is not State.FAULT:
            self._fail("fault-ignored", f"{state.value} although a track means FAULT")
        if state is State.FAULT and election.reason in _TRACK_FAULTS and not worth.fault:
            self._fail("fault-unfounded", f"{election.reason.value}: {election.detail}")
        if worth.pending and state in (State.BACKUP, State.CANDIDATE):
            self._fail("starts-unasked", f"{state.value} before the first verdict")
        if state is State.INIT and not worth.pending:
            self._fail("not-started", "INIT, and nothing is waited for")
        if state is State.MASTER and self.barred and not self.may_return:
            self._fail("barred-master", "MASTER in maintenance")
        deaf = self.told.deaf.intersection(self.unit.routers)
        if deaf and state is not State.FAULT:
            self._fail("deaf-master", f"{state.value} although {sorted(deaf)} cannot hear")
