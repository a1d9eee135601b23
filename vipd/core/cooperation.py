"""One unit's part in the cluster: joins watch, handover, preemption and pins to its election.

What it decides: whether an advert counts, when a backup stands, when a master gives its
mastership away and to whom, and which acting messages of others are obeyed. The rules of each
question stand in ``watch.py``, ``handover.py``, ``preemption.py`` and ``pins.py``; DESIGN §5
(cluster mode), QUORUM §7 and §8 (H1 to H4).

Rules that may never break
--------------------------
1. *Terms*: a new mastership has a higher term than any that is known for the unit. A message about
   an older one does nothing.
2. ``Go`` makes a backup master only if it names this node, its term is the newest known, and no
   other member is known to be master.
3. A member's advert counts only if its newest heartbeat agrees, or none came within two beats; its
   priority 0 counts only in the latter case. What its heartbeat reports counts as an advert.
4. Nothing that was given away comes back while its successor may have it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vipd.core.events import AdvertHeard
from vipd.core.handover import Giving, Step
from vipd.core.preemption import Preemption
from vipd.core.roster import Peer
from vipd.core.signals import Appointed, StepDownOrdered, WaitSet
from vipd.core.teller import Teller
from vipd.core.timing import soonest
from vipd.core.watch import Wait, Watch
from vipd.members import (
    Gift,
    Owner,
    RefusalReason,
    UnitReport,
)
from vipd.model import (
    LEAVING_PRIORITY,
    SECOND_NS,
    Address,
    Advert,
    ClaimState,
    Duration,
    FieldValue,
    Instant,
    NoteKind,
    Reason,
    State,
    family_of,
)

if TYPE_CHECKING:
    from vipd.core.cluster import Cluster
    from vipd.core.unit import Unit

FIRST_RETRY_NS = SECOND_NS
LAST_RETRY_NS = 300 * SECOND_NS

_OWN_TROUBLE = frozenset({Reason.CHECK_FAILED, Reason.TRACKED_INTERFACE_DOWN, Reason.ADVERTS_LOST})
"""Left for these, this node's health cost it the mastership (QUORUM H1)."""


class Cooperation:
    """What one unit knows and wants of the cluster; made anew when cluster mode begins."""

    def __init__(self, unit: Unit, cluster: Cluster, teller: Teller) -> None:
        self.unit = unit
        self.cluster = cluster
        self._teller = teller
        self.name = unit.config.name
        self.term = 0
        self.forgoes = False
        self._met = cluster.roster.met_anybody
        self._highest = 0
        self.giving: Giving | None = None
        self.watch = Watch(self.name, cluster.roster)
        self.preemption = Preemption()
        self.meaning = ""
        self.heard_on: dict[tuple[str, str], Instant] = {}
        self.masters_since: dict[str, Instant] = {}
        if cluster.troubled:
            self.preemption.trouble(cluster.since)
        self._preferred = ""
        self._taken_for: tuple[Owner, int] | None = None
        self._attempts: dict[tuple[Owner, int], int] = {}
        self._refused: dict[tuple[Owner, int], int] = {}
        self._wait: Wait | None = None
        self._give_at: Instant = 0
        self._give_back_off_ns: Duration = 0
        self._gave_for: object = None

    # --- what is known ------------------------------------------------------------------------

    @property
    def is_giving(self) -> bool:
        return self.giving is not None

    @property
    def known_term(self) -> int:
        """The highest there ever was: a member that left takes no term back."""
        self._highest = max(self._highest, self.term, self.cluster.roster.highest_term(self.name))
        return self._highest

    @property
    def is_among_members(self) -> bool:
        """Do the cluster's rules decide? Not next to strangers, nor before a member was met."""
        return self.watch.foreign_until is None and self._met

    @property
    def handing_to(self) -> str:
        return "" if self.giving is None else self.giving.successor

    def master(self) -> Peer | None:
        """Who is master by its own word, if not we; a lost one is none."""
        peer = self.cluster.roster.master_of(self.name, self.term)
        return peer if peer is not None and peer.alive else None

    @property
    def state(self) -> State:
        return self.unit.election.state

    def _fit(self) -> list[str]:
        return [peer.name for peer in self.cluster.roster.fit_for(self.name)]

    def successor(self) -> str:
        """Who gets it if we go now; empty: nobody could."""
        fit = self._fit()
        pinned = self.cluster.pins.of(self.name).node
        if pinned in fit:
            return pinned
        return fit[0] if fit else ""

    def report(self, now: Instant) -> UnitReport:
        """What our heartbeats say of the unit."""
        election = self.unit.election
        master = self.cluster.roster.master_of(self.name, self.term)
        leads = election.state is State.MASTER
        name = self.cluster.own if leads else ""
        if not leads and master is not None and master.alive:
            name = master.name
        return UnitReport(
            unit=self.name,
            state=election.state,
            reason=election.reason,
            priority=election.standing.priority,
            priority_base=self.unit.config.priority,
            term=self.term if leads else self.known_term,
            master=name,
            detail=election.detail,
            wants_preempt=self.preemption.better_since is not None,
            pin=self.cluster.pins.told(self.name, now),
        )

    def gift(self) -> Gift | None:
        """What the last will says of the unit; None: nothing of it is on this host."""
        giving = self.giving
        if self.state is not State.MASTER and self.unit.is_released and giving is None:
            return None
        successor = self.successor() if giving is None else giving.successor or self.successor()
        if not successor:
            return None
        term, attempt = (self.term, 1) if giving is None else (giving.term, giving.attempt + 1)
        return Gift(self.name, term, attempt, successor)

    @property
    def adverts_limit_ns(self) -> Duration:
        """Adverts of a master that are unheard for so long do not arrive."""
        interval_ns = self.unit.config.leader.advert_interval_ns
        return 3 * interval_ns + self.cluster.config.heartbeat_timeout_ns

    def misses_adverts_of(self, master: Peer, now: Instant) -> bool:
        """Do its adverts not come here, although it is master for long enough?

        Then this end of the network may be the broken one: no reason to ask for mastership.
        """
        return now - self.unheard_since(master, now) >= self.adverts_limit_ns

    def unheard_since(self, master: Peer, now: Instant) -> Instant:
        heard = self.watch.adverts.get(master.name, 0)
        return max(heard, self.masters_since.get(master.name, now))

    def deaf_peers(self, now: Instant) -> list[str]:
        """Who hears our heartbeats, and does not hear the adverts that this master sends."""
        if now - self.unit.election.since < self.adverts_limit_ns:
            return []
        leader, own = self.unit.config.leader.name, self.cluster.own
        deaf = []
        for peer in self.cluster.roster.alive():
            heard = peer.hearings.get((leader, own))
            knows = self.name in peer.units and peer.version > 0
            if knows and (heard is None or now - heard >= self.adverts_limit_ns):
                deaf.append(peer.name)
        return deaf

    def _hears_more(self, now: Instant) -> str:
        """Who is deaf to our adverts and hears more other nodes on that network than we do.

        Then it is our end of the network that is broken, as far as anybody can tell.
        """
        deaf = self.deaf_peers(now)
        if not deaf:
            return ""
        interface = self.unit.config.leader.interface
        names = self.cluster.instances_on(interface)
        after = now - self.adverts_limit_ns
        here = self.cluster.heard_here(names, after)
        for name in self._fit():
            hearings = self.cluster.roster.peers[name].hearings.items()
            there = {node for (instance, node), at in hearings if instance in names and at > after}
            if name in deaf and len(there - {self.cluster.own}) > len(here):
                return name
        return ""

    # --- adverts ------------------------------------------------------------------------------

    def counts(self, heard: AdvertHeard, now: Instant) -> bool:
        """Does an advert from the wire count for the election (rule 3)?"""
        roster = self.cluster.roster
        peer = roster.speaker(heard.source)
        leaving = heard.advert.priority == LEAVING_PRIORITY
        if peer is None:
            interval_ns = self.unit.config.leader.advert_interval_ns
            stranger = self.watch.is_stranger(heard.source, interval_ns, now)
            if stranger and not leaving and roster.knows_speakers(heard.instance, now):
                self._hear_stranger(heard.source, now)
            return not (leaving and self._has_fresh_master(now))
        if not leaving:
            self.watch.adverts[peer.name] = now
            self.heard_on[heard.instance, peer.name] = now
        if not roster.is_fresh(peer, now):
            return not (leaving and peer.left)
        if self.name not in peer.units:
            return not leaving  # by its configuration another unit: plain VRRP between us
        return not leaving and peer.reports(self.name, State.MASTER) is not None

    def _has_fresh_master(self, now: Instant) -> bool:
        """Then an unknown source that leaves may be whose mastership that one has by now: a
        member's whose adverts are not known, because version 1 does not tell them."""
        master = self.master()
        return master is not None and self.cluster.roster.is_fresh(master, now)

    def _hear_stranger(self, source: Address, now: Instant) -> None:
        new = not self.watch.hears_strangers(now)
        self.watch.hear_stranger(source, now)
        if new:
            self.unit.stand_as_configured()

    # --- reports of others --------------------------------------------------------------------

    def hear_report(self, peer: Peer, report: UnitReport, now: Instant) -> None:
        if report.state is not State.MASTER:
            self.masters_since.pop(peer.name, None)
            if self.state is State.MASTER and report.term > self.term:
                self.term = report.term + 1
            return
        self.masters_since.setdefault(peer.name, now)
        if self.giving is not None and report.term > self.giving.term:
            self._given(peer.name)
        self._hear_as_advert(peer, report, now)
        if self.state is State.MASTER and report.term >= self.term:
            self.term = report.term + 1  # we are the better one: the other one yields

    def _hear_as_advert(self, peer: Peer, report: UnitReport, now: Instant) -> None:
        if report.priority == LEAVING_PRIORITY:
            return
        leader = self.unit.config.leader
        source = peer.sources.get(leader.name)
        if source is None:
            own = [a for a in peer.config.addresses if family_of(a) is leader.family]
            source = own[0] if own else peer.config.addresses[0]
        advert = Advert(leader.version, leader.vrid, report.priority, leader.advert_interval_ns, ())
        self.unit.feed_election(AdvertHeard(leader.name, source, advert), now)

    # --- becoming master ----------------------------------------------------------------------

    def became_master(self) -> None:
        self.term = self.known_term + 1
        self.giving = self._wait = None
        self.watch.begin_anew()
        self._preferred = ""
        self.preemption.idle()
        self._end_pin()

    def _end_pin(self) -> None:
        """Pins, rule 3. Who was pinned and gave us its mastership has left its place on purpose: a
        newer pin, if that was why, is on its way."""
        pinned = self.cluster.pins.of(self.name).node
        if pinned in ("", self.cluster.own):
            return
        if self.unit.election.reason is Reason.HANDOVER_FAILED:
            because = f"{pinned} did not take it"
        elif pinned not in self._fit():
            because = f"{pinned} is not fit, or gave it away"
        else:
            return
        self.cluster.pins.clear(self.name)
        self._tell_pin(because)

    def hear_gift(
        self, peer: Peer, owner: Owner, gift: Gift, now: Instant, *, dead: bool = False
    ) -> RefusalReason | None:
        """``Go``, or a tombstone of a ``dead`` owner. None: taken, or not for us."""
        key = (owner, gift.term)
        newest = self._attempts.get(key, 0)
        self._attempts = {key: max(newest, gift.attempt)}
        if gift.successor != self.cluster.own:
            return None
        if self.state is State.MASTER and self._taken_for == key:
            return None
        refusal = self._refusal(peer, gift, newest)
        if gift.attempt <= self._refused.get(key, 0):
            refusal = RefusalReason.STALE  # who was told no goes on to the next one
        if refusal is not None:
            self._refused = {key: max(gift.attempt, self._refused.get(key, 0))}
            self._tell_step("declined", peer.name, gift.term, refusal.value)
            return refusal
        self._taken_for = key
        report = peer.units.get(self.name)
        if report is not None and report.state is State.MASTER:
            # Whether it could be master again only its next beat tells.
            peer.units[self.name] = replace(report, state=State.INIT)
        self.term = max(self.term, gift.term)
        detail = f"by {peer.name}" if not dead else f"by the last will of {peer.name}"
        self.unit.feed_election(Appointed(Reason.HANDED_OVER, detail), now)
        return None if self.state is State.MASTER else RefusalReason.OTHER

    def _refusal(self, peer: Peer, gift: Gift, newest: int) -> RefusalReason | None:
        others = [
            each
            for each in self.cluster.roster.alive()
            if each is not peer and each.reports(self.name, State.MASTER)
        ]
        if gift.attempt < newest or gift.term < self.known_term or others:
            return RefusalReason.STALE
        if self.giving is not None or self.state in (State.MASTER, State.CANDIDATE):
            return RefusalReason.BUSY
        if self.unit.election.standing.barred:
            return RefusalReason.MAINTENANCE
        if self.state is not State.BACKUP or self.unit.judgement.pending:
            return RefusalReason.FAULT
        return None

    # --- giving mastership away ---------------------------------------------------------------

    def give(self, reason: Reason, preferred: str, now: Instant) -> None:
        """Leave MASTER; what follows begins with ``leaving``."""
        self._preferred = preferred
        self.unit.feed_election(StepDownOrdered(reason), now)

    def leaving(self, now: Instant) -> None:
        """The election has left MASTER by decision, the VIPs are still there.

        Who ``forgoes`` a handover has let go of VIPs that another unit of this host has now: nobody
        else may have them before that unit gives them away.
        """
        if self.forgoes:
            return
        election = self.unit.election
        preferred = self._preferred or self.cluster.pins.of(self.name).node
        self.giving = Giving(self.term, election.reason, preferred)
        self._preferred = ""
        if election.reason in _OWN_TROUBLE or self._has_fallen:
            self.preemption.trouble(now)

    @property
    def _has_fallen(self) -> bool:
        """Did its own tracks take its priority, so that another one was better?"""
        election = self.unit.election
        fallen = election.standing.priority < self.unit.config.priority
        return election.reason is Reason.PREEMPTED and fallen

    def released(self, now: Instant) -> None:
        """The kernel holds nothing any more: now somebody else may."""
        if self.giving is not None and self.giving.step is Step.PENDING:
            self._offer_next(now)

    def _offer_next(self, now: Instant) -> None:
        giving = self.giving
        if giving is None:
            return
        chosen = giving.choose(self._fit())
        if not chosen:
            self._nobody_took_it(giving, now)
            return
        giving.offer(chosen, now)
        self._tell_step("offered", chosen, giving.term)
        self._go(giving, now)

    def _go(self, giving: Giving, now: Instant) -> None:
        giving.said(now)
        gift = Gift(self.name, giving.term, giving.attempt, giving.successor)
        self.cluster.offer(gift)

    def _given(self, node: str) -> None:
        if self.giving is not None:
            self._tell_step("taken", node, self.giving.term)
            self.giving = None
            self._give_back_off_ns = 0

    def _nobody_took_it(self, giving: Giving, now: Instant) -> None:
        self.giving = None
        tried = ", ".join(sorted(giving.tried)) or "nobody is fit"
        self._tell_step("failed", "", giving.term, tried)
        self._give_back_off_ns = min(max(2 * self._give_back_off_ns, FIRST_RETRY_NS), LAST_RETRY_NS)
        self._give_at = now + self._give_back_off_ns
        if giving.may_return and self.state is State.BACKUP:
            detail = f"{giving.reason.value}: {tried}"
            self.unit.feed_election(Appointed(Reason.HANDOVER_FAILED, detail), now)
            self.cluster.beat_at_once(now)  # a ``Go`` of ours may still be on its way

    def hear_taken(self, peer: Peer, term: int) -> bool:
        if self.giving is None or self.giving.term != term:
            return False
        report = peer.units.get(self.name)
        if report is not None:
            # Its next beat will say so, too; until then nobody else is to stand.
            newest = max(report.term, term + 1)
            peer.units[self.name] = replace(report, state=State.MASTER, term=newest)
        self._given(peer.name)
        return True

    def hear_refusal(self, peer: Peer, term: int, reason: RefusalReason, now: Instant) -> bool:
        """The answer no: to our ``Go``, or to our wish."""
        giving = self.giving
        if giving is not None and giving.term == term and giving.successor == peer.name:
            self._tell_step("refused", peer.name, term, reason.value)
            self._offer_next(now)
            return True
        if self.state is State.BACKUP and term == self.cluster.roster.highest_term(self.name):
            self.preemption.refused(reason.value, now)
            return True
        return False

    def hear_wish(self, peer: Peer, term: int, priority: int, now: Instant) -> RefusalReason | None:
        """Another node would be the better master (H1). None: it gets it."""
        standing = self.unit.election.standing
        pinned = self.cluster.pins.of(self.name).node
        if self.giving is not None or self.unit.claim.state is ClaimState.ADDING:
            return RefusalReason.BUSY
        if self.state is not State.MASTER or term != self.term:
            return RefusalReason.STALE
        if pinned == self.cluster.own:
            return RefusalReason.PINNED
        if peer.name not in self._fit():
            return RefusalReason.MAINTENANCE if peer.maintenance else RefusalReason.FAULT
        if priority <= standing.priority:
            return RefusalReason.NOT_BETTER
        if now < self._give_at and self._gave_for == peer.name:
            return RefusalReason.BACK_OFF
        self._gave_for = peer.name
        self.give(Reason.PREEMPTED, peer.name, now)
        return None

    # --- after anything happened --------------------------------------------------------------

    def follow(self, now: Instant) -> None:
        """Look at everything anew: what this state of ours has to do."""
        if self._met != self.cluster.roster.met_anybody:
            self._met = self.cluster.roster.met_anybody
            self.unit.stand_as_configured()
        if self.state is State.MASTER:
            self._consider_giving(now)
        if self.state is not State.BACKUP or self.unit.election.standing.barred:
            self.watch.begin_anew()
        if self.state is State.BACKUP:
            self._set_wait(now)
            self._consider_asking(now)
        else:
            self.meaning = ""
            self.preemption.idle()

    def _set_wait(self, now: Instant) -> None:
        election = self.unit.election
        wait = self.watch.judge(election.standing.priority, self.term, now)
        if self.giving is not None:
            rest_ns = self.giving.longest_rest_ns(len(self._fit()))
            wait = Wait(now + rest_ns, Reason.MASTER_LEFT, "waits for its successor")
        elif election.standing.barred:
            wait = None
        self.meaning = "" if wait is None else wait.meaning
        until = None if wait is None else wait.until
        if wait != self._wait or (until is not None and election.deadline != until):
            self._wait = wait
            reason = Reason.MASTER_SILENT if wait is None else wait.reason
            self.unit.feed_election(WaitSet(until, reason), now)

    def _consider_asking(self, now: Instant) -> None:
        standing, config = self.unit.election.standing, self.unit.config.leader
        roster, pinned = self.cluster.roster, self.cluster.pins.of(self.name).node
        master = roster.master_of(self.name, self.term)
        report = None if master is None or not master.alive else master.units[self.name]
        if (
            master is None
            or report is None
            or self.giving is not None
            or not config.preempt
            or standing.barred
            or pinned not in ("", self.cluster.own)
            or standing.priority <= report.priority
            or self.watch.hears_strangers(now)
            or self.misses_adverts_of(master, now)
        ):
            self.preemption.idle()
            return
        question = (master.owner, report.term, report.priority, standing.priority)
        if self.preemption.want(question, config.preempt_delay_ns, now):
            self.cluster.wish(master, self.name, report.term, standing.priority)

    def _consider_giving(self, now: Instant) -> None:
        """What makes a master give its mastership away by itself: a pin, maintenance."""
        unit = self.unit
        if unit.claim.state is not ClaimState.PRESENT or unit.election.suspended:
            return
        pinned = self.cluster.pins.of(self.name)
        fit = self._fit()
        if pinned.node in fit:
            wanted: tuple[Reason, str, object] = (Reason.SWITCHOVER, pinned.node, pinned)
        elif unit.election.standing.barred and fit:
            wanted = (Reason.MAINTENANCE, "", tuple(fit))
        elif better := self._hears_more(now):
            wanted = (Reason.ADVERTS_LOST, better, better)
        else:
            return
        reason, node, key = wanted
        if key != self._gave_for:
            self._gave_for, self._give_at, self._give_back_off_ns = key, 0, 0
        if now >= self._give_at:
            self.give(reason, node, now)

    def fire(self, now: Instant) -> None:
        """Whatever of the handover is due."""
        self._settle(now)
        giving = self.giving
        if giving is None or giving.step is Step.PENDING:
            return
        if now >= giving.next_candidate:
            self._offer_next(now)
        elif now >= giving.next_go:
            self._go(giving, now)

    @property
    def deadline(self) -> Instant | None:
        due = None if self.giving is None else self.giving.deadline
        asking = self.preemption.deadline if self.state is State.BACKUP else None
        again = self._give_at if self.state is State.MASTER and self._give_at else None
        return soonest(due, asking, again, self.watch.foreign_until)

    def _settle(self, now: Instant) -> None:
        """What is over must not be due again."""
        if self._give_at and now >= self._give_at:
            self._give_at = 0
        if self.watch.foreign_until is not None and now >= self.watch.foreign_until:
            self.watch.foreign_until = None
            self.unit.stand_as_configured()

    # --- being heard ----------------------------------------------------------------------------

    def speak_up(self, now: Instant) -> None:
        """Adverts at the pace of the beats: somebody may not hear us on the channel."""
        election = self.unit.election
        pace_ns = self.cluster.config.heartbeat_interval_ns
        leads = election.state is State.MASTER and not election.suspended
        if leads and self.unit.config.leader.advert_interval_ns > pace_ns:
            self.unit.advertise()
            self.was_told(now)

    def was_told(self, now: Instant) -> None:
        """The cluster was told just now what we are: that is no silence."""
        if not self.unit.election.suspended:
            self.unit.election.was_heard(now)

    # --- telling ------------------------------------------------------------------------------

    def _tell_step(self, step: str, node: str, term: int, detail: str = "") -> None:
        fields: dict[str, FieldValue] = {
            "step": step,
            "node": node,
            "term": term,
            "detail": detail,
        }
        self._teller.tell(NoteKind.HANDOVER, fields)

    def pinned(self, because: str) -> None:
        """The pin of this unit is another one now."""
        self._tell_pin(because)

    def _tell_pin(self, because: str) -> None:
        pin = self.cluster.pins.of(self.name)
        fields: dict[str, FieldValue] = {
            "node": pin.node,
            "version": pin.version,
            "because": because,
        }
        self._teller.tell(NoteKind.PIN, fields)
