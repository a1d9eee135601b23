"""Election: "do I want to be master?" — RFC 9568 §6.4, RFC 3768 §6.4 for version 2.

What it decides
---------------
From the adverts heard, the silence between them, and the fitness of this host: whether this
node wants to be master of one virtual router. It decides nothing about addresses (``claim``)
nor about permission (``lease``).

Rules that may never break
--------------------------
1. A backup moves only after Down (three of the master's intervals plus its own skew) without a
   good advert, after Skew when the master said priority 0, or after Skew when the very master
   that it followed has lost so much priority that it need not be followed any more
   (docs/decisions/0007).
2. A master yields at once to a higher priority, and to an equal one with the higher address
   (unsigned, §6.4.3). Nothing else makes it yield, ``preempt: false`` does not protect it.
3. Leaving MASTER always wishes the release; entering it always comes from ``LeaseGranted``.
   Both are in one place, so that no pair of states can be forgotten.
4. Whoever leaves by decision (stop, fault, switchover, maintenance) says priority 0. Whoever was
   beaten says so with one last advert of its own priority, so that the winner announces itself
   again.
5. After a silence longer than the shortest takeover time a master says nothing until everything
   that waited in its sockets has been heard; if somebody else was master meanwhile, it goes.
6. A node in maintenance (``barred``) follows masters and never stands itself.

One election may speak for several virtual routers, the members of a group (QUORUM H5). An advert
on any of them is a sign of life of the master, and a better one on any of them ends our
mastership. Only the tie of equal priorities needs rules of its own (``tie.py``).

In a cluster (``cooperation.py``) a backup does not wait for silence: the cluster says until when
(``WaitSet``), or that it is to be master now (``Appointed``).

States
------
INIT (RFC: Initialize), BACKUP, CANDIDATE (wants to be master, asks for the lease), MASTER (RFC:
Active), FAULT (Initialize, held there by a fault). Row numbers F1..F17 are those of the
requirements table in docs/rfc.md.

One timer slot, whose meaning is the state's: BACKUP waits for Active_Down_Timer, MASTER for
Adver_Timer, all others for nothing. A timer of another state can therefore not exist.
"""

from __future__ import annotations

from dataclasses import dataclass

from vipd.core import timing
from vipd.core.events import AdvertHeard, LoopStalled, StallDrained
from vipd.core.signals import (
    AdvertWanted,
    AnnounceWanted,
    Appointed,
    ClaimWanted,
    FaultCleared,
    FaultRaised,
    LeaseGranted,
    LeaseLost,
    LeaseReturned,
    LeaseWanted,
    PriorityChanged,
    ReleaseWanted,
    Started,
    StepDownOrdered,
    Stopped,
    TimerFired,
    WaitSet,
    Wish,
)
from vipd.core.table import Ignored, Table, complete
from vipd.core.tie import Tie, Ties, silence_ns
from vipd.model import (
    LEAVING_PRIORITY,
    MILLISECOND_NS,
    OWNER_PRIORITY,
    SECOND_NS,
    Address,
    Duration,
    Instant,
    Note,
    NoteKind,
    Reason,
    State,
    format_address,
)

REPLY_GAP_NS = 100 * MILLISECOND_NS
"""Answers to losing and leaving adverts: the first at once, then no more often than this."""

REANNOUNCE_GAP_NS = SECOND_NS

INPUTS = (
    Started,
    Stopped,
    FaultRaised,
    FaultCleared,
    AdvertHeard,
    TimerFired,
    PriorityChanged,
    LeaseGranted,
    LeaseLost,
    StepDownOrdered,
    Appointed,
    WaitSet,
    LoopStalled,
    StallDrained,
)


@dataclass(slots=True)
class Standing:
    """What an election knows of its own node; the unit keeps it current.

    ``priority`` is the effective one. ``sources`` are our own addresses by member, in the order
    in which ties are decided. ``silence_ns``: after so long a silence of ours somebody may have
    taken over, if that is sooner than adverts tell (cluster mode).
    """

    version: int
    priority: int
    interval_ns: Duration
    preempt: bool
    preempt_delay_ns: Duration
    sources: dict[str, Address]
    barred: bool = False
    silence_ns: Duration | None = None


@dataclass(frozen=True, slots=True)
class KnownMaster:
    source: Address
    priority: int


class Election:
    """The election of one virtual router on this node."""

    def __init__(self, standing: Standing, now: Instant) -> None:
        self.standing = standing
        self.state = State.INIT
        self.since: Instant = now
        self.reason = Reason.STARTUP
        self.detail = ""
        self._timer: Instant | None = None
        self._until: Instant | None = None
        self.learned_interval_ns = standing.interval_ns
        self.master: KnownMaster | None = None
        self.last_heard: Instant | None = None
        self._followed: dict[str, KnownMaster] = {}
        self._ties = Ties()
        self._takeover_reason = Reason.MASTER_SILENT
        self._preempt_from: Instant | None = None
        self._reply_allowed_at: Instant = now
        self._suspended = False
        self._spoke_at: Instant = now
        self._wishes: list[Wish] = []

    def handle(self, signal: object, now: Instant) -> list[Wish]:
        """Apply one input; returns the wishes that follow from it, in order."""
        row = TABLE[self.state, type(signal)]
        if not isinstance(row, Ignored):
            row(self, signal, now)
        wishes, self._wishes = self._wishes, []
        return wishes

    @property
    def deadline(self) -> Instant | None:
        """When ``TimerFired`` is due. In a cluster a backup waits for what the cluster says."""
        return self._timer if self._until is None else self._until

    @property
    def suspended(self) -> bool:
        """True between a dangerous stall and the end of reading what was missed."""
        return self._suspended

    @property
    def skew_ns(self) -> Duration:
        return timing.skew_ns(
            self.standing.version, self.standing.priority, self.learned_interval_ns
        )

    @property
    def master_down_ns(self) -> Duration:
        return timing.master_down_ns(
            self.standing.version, self.standing.priority, self.learned_interval_ns
        )

    # --- moving: the only writer of ``state`` -------------------------------------------------

    def _move(
        self,
        new: State,
        reason: Reason,
        now: Instant,
        detail: str = "",
        master: KnownMaster | None = None,
    ) -> None:
        old = self.state
        self.state, self.since, self.reason, self.detail = new, now, reason, detail
        self._suspended = False
        self._preempt_from = self._until = None
        self._followed.clear()
        if new is State.BACKUP:
            self._takeover_reason = Reason.MASTER_SILENT
        else:
            self._timer = None
        if new is not State.CANDIDATE:
            self.master = master
        self._wishes.append(
            Note(
                NoteKind.TRANSITION,
                "",
                {
                    "from": old.value,
                    "to": new.value,
                    "reason": reason.value,
                    "detail": detail,
                    "priority": self.standing.priority,
                    "master": "" if self.master is None else format_address(self.master.source),
                },
            )
        )

    def _enter_backup(
        self, reason: Reason, now: Instant, detail: str = "", master: KnownMaster | None = None
    ) -> None:
        self._move(State.BACKUP, reason, now, detail, master)
        self._timer = now + self.master_down_ns

    def _follow_into_backup(self, reason: Reason, heard: AdvertHeard, now: Instant) -> None:
        """To BACKUP of the master that was just heard."""
        master = KnownMaster(heard.source, heard.advert.priority)
        self._enter_backup(reason, now, _describe(heard), master)
        self._follow(heard, now)

    def _leave(self, new: State, reason: Reason, now: Instant, detail: str = "") -> None:
        """To INIT or FAULT from any state: gives up whatever the old state had."""
        old = self.state
        self._move(new, reason, now, detail)
        if old is State.MASTER:
            self._wishes.append(ReleaseWanted(goodbye=True))
        elif old is State.CANDIDATE:
            self._wishes.append(LeaseReturned())

    # --- starting, stopping, faults -----------------------------------------------------------

    def _start(self, signal: Started, now: Instant) -> None:
        """F1, F2, F16."""
        self.learned_interval_ns = self.standing.interval_ns
        if self.standing.priority == OWNER_PRIORITY:
            self._stand(Reason.ADDRESS_OWNER, now)
        else:
            self._enter_backup(signal.reason, now)

    def _recover(self, _signal: FaultCleared, now: Instant) -> None:
        self._start(Started(Reason.RECOVERED), now)

    def _stop(self, signal: Stopped, now: Instant) -> None:
        """F4, F9."""
        self._leave(State.INIT, signal.reason, now, signal.detail)

    def _fail(self, signal: FaultRaised, now: Instant) -> None:
        """F15."""
        self._leave(State.FAULT, signal.reason, now, signal.detail)

    def _keep_out(self, signal: Stopped, _now: Instant) -> None:
        """Still not started, for another reason."""
        self.reason, self.detail = signal.reason, signal.detail

    def _step_down(self, signal: StepDownOrdered, now: Instant) -> None:
        """The operator gives our mastership away: break before make, as for a stop."""
        self._enter_backup(signal.reason, now)
        self._wishes.append(ReleaseWanted(goodbye=True))

    def _withdraw(self, signal: StepDownOrdered, now: Instant) -> None:
        self._enter_backup(signal.reason, now)
        self._wishes.append(LeaseReturned())

    def _update_fault(self, signal: FaultRaised, _now: Instant) -> None:
        self.reason, self.detail = signal.reason, signal.detail

    # --- BACKUP and CANDIDATE -----------------------------------------------------------------

    def _stand(self, reason: Reason, now: Instant) -> None:
        self._move(State.CANDIDATE, reason, now)
        self._wishes.append(LeaseWanted())

    def _backup_times_out(self, _signal: TimerFired, now: Instant) -> None:
        """F5: nobody better is alive."""
        self._until = None
        if self.standing.barred:
            self.master = None
            self.learned_interval_ns = self.standing.interval_ns
            self._timer = now + self.master_down_ns
        else:
            self._stand(self._takeover_reason, now)

    def _appoint(self, signal: Appointed, now: Instant) -> None:
        """Neither silence nor Skew: the cluster knows that nobody holds the VIPs."""
        self._move(State.CANDIDATE, signal.reason, now, signal.detail)
        self._wishes.append(LeaseWanted())

    def _wait(self, signal: WaitSet, _now: Instant) -> None:
        self._until = signal.until
        if signal.until is not None:
            self._takeover_reason = signal.reason

    def _backup_hears(self, heard: AdvertHeard, now: Instant) -> None:
        self.last_heard = now
        if heard.advert.priority == LEAVING_PRIORITY:  # F6: learn nothing from it
            self._timer = now + self.skew_ns
            self._takeover_reason = Reason.MASTER_LEFT
            return
        self.master = KnownMaster(heard.source, heard.advert.priority)
        if self._yields_to(heard, now):  # F7
            self._follow(heard, now)
        else:  # F8: the timer keeps running
            self._takeover_reason = Reason.LOWER_PRIORITY_MASTER
            if self._has_fallen(heard):  # rule 1
                soon = now + self.skew_ns
                self._timer = soon if self._timer is None else min(self._timer, soon)

    def _has_fallen(self, heard: AdvertHeard) -> bool:
        """Is it the master that we followed, with less than it had then?"""
        followed = self._followed.get(heard.instance)
        if followed is None or followed.source != heard.source:
            return False
        return heard.advert.priority < followed.priority

    def _candidate_hears(self, heard: AdvertHeard, now: Instant) -> None:
        self.last_heard = now
        if heard.advert.priority == LEAVING_PRIORITY or not self._yields_to(heard, now):
            return
        self._follow_into_backup(Reason.MASTER_HEARD, heard, now)
        self._wishes.append(LeaseReturned())

    def _yields_to(self, heard: AdvertHeard, now: Instant) -> bool:
        """Does a backup accept this master? No address tie-break here: equal is good enough."""
        own = self.standing
        if heard.advert.priority >= own.priority:
            self._preempt_from = None
            return True
        if own.priority == OWNER_PRIORITY:  # FSM-2: the owner always preempts
            return False
        if own.barred or not own.preempt:  # rule 6
            return True
        if own.preempt_delay_ns == 0:
            return False
        if self._preempt_from is None:
            self._preempt_from = now + own.preempt_delay_ns
        return now < self._preempt_from

    def _follow(self, heard: AdvertHeard, now: Instant) -> None:
        # Version 2 learns nothing, but its own interval may be another one since a reload.
        learns = self.standing.version == 3
        self.learned_interval_ns = heard.advert.interval_ns if learns else self.standing.interval_ns
        self._takeover_reason = Reason.MASTER_SILENT
        self._followed[heard.instance] = KnownMaster(heard.source, heard.advert.priority)
        self._timer = now + self.master_down_ns

    def _become_master(self, _signal: LeaseGranted, now: Instant) -> None:
        """F5, F1: the claim sends the first advert, it owns the order."""
        self._move(State.MASTER, self.reason, now, self.detail)
        self.learned_interval_ns = self.standing.interval_ns
        self._timer = now + self.standing.interval_ns
        self._spoke_at = now
        self._ties = Ties()
        self._wishes.append(ClaimWanted())

    def _lease_refused(self, _signal: LeaseLost, now: Instant) -> None:
        self._enter_backup(Reason.LEASE_LOST, now)

    def _give_lease_back(self, _signal: LeaseGranted, _now: Instant) -> None:
        self._wishes.append(LeaseReturned())

    # --- MASTER -------------------------------------------------------------------------------

    def _advertise(self, _signal: TimerFired, now: Instant) -> None:
        """F10. From the nominal instant, so that a late wake-up does not slow the pace down."""
        interval_ns = self.standing.interval_ns
        nominal = (self._timer or now) + interval_ns
        self._timer = nominal if nominal > now else now + interval_ns
        self._speak(now)

    def _master_hears(self, heard: AdvertHeard, now: Instant) -> None:
        self.last_heard = now
        own, priority = self.standing, heard.advert.priority
        if self._suspended:
            self._hear_after_stall(heard, now)
        elif priority == LEAVING_PRIORITY:  # F11
            self._reply(now)
        elif priority > own.priority:  # F12
            self._yield(Reason.HIGHER_PRIORITY_HEARD, heard, now)
        elif priority == own.priority and self._loses_tie(heard, now):  # F12
            self._yield(Reason.TIE_LOST, heard, now)
        elif priority == own.priority and self._is_own(heard):  # F14
            self._wishes.append(
                Note(
                    NoteKind.DUPLICATE_ADDRESS,
                    "",
                    {"source": format_address(heard.source), "priority": priority},
                )
            )
        else:  # F13
            self._reply(now)
            self._wishes.append(AnnounceWanted(REANNOUNCE_GAP_NS))

    def _is_own(self, heard: AdvertHeard) -> bool:
        return heard.source == self.standing.sources.get(heard.instance)

    def _loses_tie(self, heard: AdvertHeard, now: Instant) -> bool:
        if self._is_own(heard):
            return False
        own = self.standing
        interval_ns = max(own.interval_ns, heard.advert.interval_ns)
        tie = self._ties.judge(heard.instance, heard.source, own.sources, interval_ns, now)
        if tie is Tie.ASK:
            self._speak(now)
            self._ties.asked_at = now
            self._timer = self._reply_allowed_at = now + silence_ns(own.interval_ns)
        return tie is Tie.YIELD

    def _yield(self, reason: Reason, heard: AdvertHeard, now: Instant) -> None:
        """F12, with one last advert: it is how the winner learns that it had a rival.

        Two masters that were cut off from each other both answered for the VIPs. If the better
        one is heard first, it would never hear of the other, never announce again, and clients
        would go on asking us (docs/decisions/0006).
        """
        asked = reason is Reason.TIE_LOST and self._ties.asked_at is not None
        self._speak(now, only=heard.instance if asked else "")
        self._follow_into_backup(reason, heard, now)
        self._wishes.append(ReleaseWanted(goodbye=False))

    def _speak(self, now: Instant, only: str = "") -> None:
        self._spoke_at = now
        self._ties.asked_at = None
        self._wishes.append(AdvertWanted(only=only))

    def _reply(self, now: Instant) -> None:
        """Answer at once, but not to a flood: the timer is restarted only when we do send."""
        if now < self._reply_allowed_at:
            return
        interval_ns = self.standing.interval_ns
        self._reply_allowed_at = now + min(interval_ns, REPLY_GAP_NS)
        self._timer = now + interval_ns
        self._speak(now)

    def _priority_changed(self, _signal: PriorityChanged, now: Instant) -> None:
        self.learned_interval_ns = self.standing.interval_ns
        if self._suspended:
            return  # the advert that ends the suspension carries it
        self._timer = now + self.standing.interval_ns
        self._speak(now)

    def _master_lease_lost(self, _signal: LeaseLost, now: Instant) -> None:
        self._enter_backup(Reason.LEASE_LOST, now)
        self._wishes.append(ReleaseWanted(goodbye=False))

    # --- stalls (rule 5) ----------------------------------------------------------------------

    def was_heard(self, now: Instant) -> None:
        """A heartbeat said just now that we are master: that is no silence."""
        self._spoke_at = now

    def may_be_replaced(self, now: Instant) -> bool:
        """Was this master silent for so long that a peer may have taken over?"""
        floor_ns = timing.takeover_floor_ns(self.standing.interval_ns)
        if self.standing.silence_ns is not None:
            floor_ns = min(floor_ns, self.standing.silence_ns)
        return self.state is State.MASTER and now - self._spoke_at >= floor_ns

    def _stalled(self, _stall: LoopStalled, now: Instant) -> None:
        if self.may_be_replaced(now):
            self._suspended = True
            self._timer = None

    def _hear_after_stall(self, heard: AdvertHeard, now: Instant) -> None:
        """Any priority counts: whoever spoke as master during our stall holds the VIPs now."""
        if heard.advert.priority == LEAVING_PRIORITY or self._is_own(heard):
            return
        self._enter_backup(Reason.OVERTAKEN_WHILE_STALLED, now, _describe(heard))
        self._wishes.append(ReleaseWanted(goodbye=False))
        self._backup_hears(heard, now)

    def _stall_over(self, _signal: StallDrained, now: Instant) -> None:
        if not self._suspended:
            return
        self._suspended = False
        self._timer = now + self.standing.interval_ns
        self._speak(now)
        self._wishes.append(AnnounceWanted(REANNOUNCE_GAP_NS))


def _describe(heard: AdvertHeard) -> str:
    return f"{format_address(heard.source)} priority {heard.advert.priority}"


_NOT_STARTED = Ignored("not started: an advert proves nothing to a router that takes no part (F3)")
_NO_TIMER = Ignored("this state has no timer")
_NOT_ASKED = Ignored("no lease is asked for or held")
_NOTHING_SENT = Ignored("only a master can have been overtaken while it stalled")
_NOTHING_TO_GIVE = Ignored("it has no mastership to give away")
_NOT_FIT = Ignored("it takes no part, and the cluster is told so")
_WAITS_FOR_NOBODY = Ignored("only a backup waits for the end of a master")
_NEXT_TIMER = Ignored("the priority counts from the next timer on (F17)")

TABLE: Table = complete(
    {
        (State.INIT, Started): Election._start,
        (State.INIT, Stopped): Election._keep_out,
        (State.INIT, FaultRaised): Election._fail,
        (State.INIT, FaultCleared): Ignored("a fault that ends does not start a stopped router"),
        (State.INIT, AdvertHeard): _NOT_STARTED,
        (State.INIT, TimerFired): _NO_TIMER,
        (State.INIT, PriorityChanged): _NEXT_TIMER,
        (State.INIT, LeaseGranted): Election._give_lease_back,
        (State.INIT, LeaseLost): _NOT_ASKED,
        (State.INIT, StepDownOrdered): _NOTHING_TO_GIVE,
        (State.INIT, Appointed): _NOT_FIT,
        (State.INIT, WaitSet): _WAITS_FOR_NOBODY,
        (State.INIT, LoopStalled): _NOTHING_SENT,
        (State.INIT, StallDrained): _NOTHING_SENT,
        (State.BACKUP, Started): Ignored("already started"),
        (State.BACKUP, Stopped): Election._stop,
        (State.BACKUP, FaultRaised): Election._fail,
        (State.BACKUP, FaultCleared): Ignored("no fault stood"),
        (State.BACKUP, AdvertHeard): Election._backup_hears,
        (State.BACKUP, TimerFired): Election._backup_times_out,
        (State.BACKUP, PriorityChanged): _NEXT_TIMER,
        (State.BACKUP, LeaseGranted): Election._give_lease_back,
        (State.BACKUP, LeaseLost): _NOT_ASKED,
        (State.BACKUP, StepDownOrdered): _NOTHING_TO_GIVE,
        (State.BACKUP, Appointed): Election._appoint,
        (State.BACKUP, WaitSet): Election._wait,
        (State.BACKUP, LoopStalled): _NOTHING_SENT,
        (State.BACKUP, StallDrained): _NOTHING_SENT,
        (State.CANDIDATE, Started): Ignored("already started"),
        (State.CANDIDATE, Stopped): Election._stop,
        (State.CANDIDATE, FaultRaised): Election._fail,
        (State.CANDIDATE, FaultCleared): Ignored("no fault stood"),
        (State.CANDIDATE, AdvertHeard): Election._candidate_hears,
        (State.CANDIDATE, TimerFired): _NO_TIMER,
        (State.CANDIDATE, PriorityChanged): _NEXT_TIMER,
        (State.CANDIDATE, LeaseGranted): Election._become_master,
        (State.CANDIDATE, LeaseLost): Election._lease_refused,
        (State.CANDIDATE, StepDownOrdered): Election._withdraw,
        (State.CANDIDATE, Appointed): Ignored("it asks for the lease already"),
        (State.CANDIDATE, WaitSet): _WAITS_FOR_NOBODY,
        (State.CANDIDATE, LoopStalled): _NOTHING_SENT,
        (State.CANDIDATE, StallDrained): _NOTHING_SENT,
        (State.MASTER, Started): Ignored("already started"),
        (State.MASTER, Stopped): Election._stop,
        (State.MASTER, FaultRaised): Election._fail,
        (State.MASTER, FaultCleared): Ignored("no fault stood"),
        (State.MASTER, AdvertHeard): Election._master_hears,
        (State.MASTER, TimerFired): Election._advertise,
        (State.MASTER, PriorityChanged): Election._priority_changed,
        (State.MASTER, LeaseGranted): Ignored("already granted"),
        (State.MASTER, LeaseLost): Election._master_lease_lost,
        (State.MASTER, StepDownOrdered): Election._step_down,
        (State.MASTER, Appointed): Ignored("it is master already"),
        (State.MASTER, WaitSet): _WAITS_FOR_NOBODY,
        (State.MASTER, LoopStalled): Election._stalled,
        (State.MASTER, StallDrained): Election._stall_over,
        (State.FAULT, Started): Ignored("a fault stands: its end starts the router"),
        (State.FAULT, Stopped): Election._stop,
        (State.FAULT, FaultRaised): Election._update_fault,
        (State.FAULT, FaultCleared): Election._recover,
        (State.FAULT, AdvertHeard): _NOT_STARTED,
        (State.FAULT, TimerFired): _NO_TIMER,
        (State.FAULT, PriorityChanged): _NEXT_TIMER,
        (State.FAULT, LeaseGranted): Election._give_lease_back,
        (State.FAULT, LeaseLost): _NOT_ASKED,
        (State.FAULT, StepDownOrdered): _NOTHING_TO_GIVE,
        (State.FAULT, Appointed): _NOT_FIT,
        (State.FAULT, WaitSet): _WAITS_FOR_NOBODY,
        (State.FAULT, LoopStalled): _NOTHING_SENT,
        (State.FAULT, StallDrained): _NOTHING_SENT,
    },
    State,
    INPUTS,
)
