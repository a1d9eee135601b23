"""One unit on this node: joins election, lease and claim of an instance or a group.

What it decides: nothing by itself. It passes the wishes of one machine to the next and turns the
rest into actions, keeps the faults (which the election sees as one), counts, and limits notes.
All members of a group go through it together: what hits one (a link, an advert that cannot be
sent) hits the unit (QUORUM H5).

Faults (``faults.py``) follow from the host, from its health, or from what the kernel refused.
Mastership is impossible while any fault stands. A unit that waits for the first verdict of a
check stays in INIT, or master if it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from vipd.core import invariants
from vipd.core.actions import Action, RemoveStray
from vipd.core.announcement import AnnouncementPlan
from vipd.core.claim import Claim
from vipd.core.cluster import Cluster
from vipd.core.cooperation import Cooperation
from vipd.core.counters import Counters
from vipd.core.election import Election, Standing
from vipd.core.events import (
    AddressesApplied,
    AdvertFailed,
    AdvertHeard,
    AdvertRejected,
    Deafened,
    GateOpened,
    GateShut,
    LoopStalled,
    RivalAnnounced,
    StallDrained,
    Undeafened,
)
from vipd.core.faults import TimedFaults, level_faults
from vipd.core.foreign import ForeignWatch
from vipd.core.host import HostView
from vipd.core.kernel_actions import kernel_action
from vipd.core.lease import Unguarded
from vipd.core.role import Role
from vipd.core.router import SEND_FAILURE_LIMIT, Router
from vipd.core.signals import (
    AdvertWanted,
    AnnounceWanted,
    ClaimGivenUp,
    ClaimWanted,
    FaultCleared,
    FaultRaised,
    FramesWanted,
    LeaseGranted,
    LeaseLost,
    LeaseReturned,
    LeaseWanted,
    PresenceResynced,
    PriorityChanged,
    Released,
    ReleaseWanted,
    Started,
    StepDownOrdered,
    Stopped,
    TimerFired,
    VipGone,
    VipsChanged,
    VipSeen,
    WaitSet,
    Wish,
)
from vipd.core.teller import Teller, fields_of
from vipd.core.timing import soonest
from vipd.core.track import Judgement, Tracker, effective_priority, names_of_change
from vipd.core.units import UnitConfig
from vipd.model import (
    LEAVING_PRIORITY,
    SECOND_NS,
    Address,
    ClaimState,
    FieldValue,
    Instant,
    Link,
    Note,
    NoteKind,
    Orders,
    Reason,
    State,
    Verdict,
    Vip,
    VipKey,
    format_address,
)

RIVAL_GAP_NS = 10 * SECOND_NS
"""RFC 5227 §2.4 DEFEND_INTERVAL."""

_FROM_THE_WIRE = (NoteKind.DUPLICATE_ADDRESS,)
"""Notes of the machines that any peer can cause as often as it likes."""

_TO_ELECTION = (LeaseGranted, LeaseLost)
_TO_CLAIM = (ClaimWanted, ReleaseWanted, AnnounceWanted)


class Unit:
    """One unit. All methods take ``now`` and append to the node's list of actions.

    ``verdicts`` is the node's health vector, kept current by the node.
    """

    def __init__(
        self,
        config: UnitConfig,
        host: HostView,
        verdicts: Mapping[str, Verdict],
        orders: Orders,
        vip_addresses: frozenset[Address],
        actions: list[Action],
        now: Instant,
    ) -> None:
        self.config = config
        self.counters = Counters()
        self.vip_addresses = vip_addresses
        self.routers = {each.name: Router(each, actions) for each in config.members}
        self.judgement = Judgement()
        self.held = False
        self.sources: tuple[Address | None, ...] = (None,)
        self.lacks_source = True
        self._host = host
        self._verdicts = verdicts
        self._actions = actions
        self._know_vips()
        self._tracker = Tracker(config.tracks)
        self._step_downs = dict(orders.step_downs).get(config.name, 0)
        self._faults: dict[Reason, str] = {}
        self._timed = TimedFaults()
        self._foreign = ForeignWatch()
        self._begun = False
        self._stopped = False
        self._teller = Teller(config.name, self.counters, actions)
        self._role = Role(self._teller)
        self._orders = orders
        self.coop: Cooperation | None = None
        self._pending: deque[tuple[Election | Unguarded | Claim, Any]] = deque()
        self.election = Election(self._standing(config.priority, orders), now)
        self.lease = Unguarded()
        self.claim = Claim(
            config.vips,
            owner=config.is_owner,
            lifetime_s=config.address_lifetime_s,
            announcements=AnnouncementPlan(config.announce_count, config.announce_refresh_ns),
        )

    # --- the cluster --------------------------------------------------------------------------

    def join(self, cluster: Cluster | None, now: Instant) -> None:
        if cluster is not (None if self.coop is None else self.coop.cluster):
            self.coop = None if cluster is None else Cooperation(self, cluster, self._teller)
            self.stand_as_configured()
            self._feed(self.election, WaitSet(None), now)  # whatever another cluster said

    def stand_as_configured(self) -> None:
        self.election.standing = self._standing(self.election.standing.priority, self._orders)

    def follow(self, now: Instant) -> None:
        if self.coop is not None and self._begun:
            self.coop.follow(now)

    @property
    def is_done(self) -> bool:
        return self.is_released and (self.coop is None or not self.coop.is_giving)

    def feed_election(self, signal: Any, now: Instant) -> None:
        self._feed(self.election, signal, now)
        self._stay_out(now)

    def advertise(self) -> None:
        self._act(AdvertWanted())

    # --- life ---------------------------------------------------------------------------------

    def start(self, now: Instant) -> None:
        self._begun = True
        self.resync(now)

    def stop(self, reason: Reason, now: Instant) -> None:
        self._stopped = True
        self._faults.clear()
        self._timed = TimedFaults()
        self._foreign = ForeignWatch()
        self._tracker = Tracker(())
        self._feed(self.election, Stopped(reason), now)

    @property
    def vip_keys(self) -> set[VipKey]:
        """The configured VIPs, and those that a reload took away while they leave."""
        return {*self._vips, *self.claim.retired}

    def uses(self, links: set[str]) -> bool:
        """Is anything of this unit on one of ``links``, or still to go from there?"""
        if not links.isdisjoint(self.interfaces) or not links.isdisjoint(self._tracker.interfaces):
            return True
        return any(name in links for name, _ in self.claim.retired)

    @property
    def is_released(self) -> bool:
        return self.claim.state is ClaimState.ABSENT

    @property
    def needs_checks(self) -> bool:
        return self._tracker.needs_checks

    @property
    def faults(self) -> dict[Reason, str]:
        return self._faults

    def deadline(self) -> Instant | None:
        return soonest(
            self.election.deadline,
            self.claim.deadline,
            self._foreign.deadline,
            self._tracker.deadline,
            self._timed.deadline,
            None if self.coop is None else self.coop.deadline,
        )

    def fire(self, now: Instant) -> None:
        """Whatever is due: first what decides whether we may speak, and with which priority."""
        over = self._timed.drop(now)
        if overdue := self._foreign.overdue(now):
            self._review_foreign(overdue, now)
        due = self._tracker.deadline
        if over or overdue or (due is not None and now >= due):
            self.judge(now)
        self.follow(now)  # what the cluster heard meanwhile may have moved the deadline
        due = self.election.deadline
        if due is not None and now >= due:
            self._feed(self.election, TimerFired(), now)
        due = self.claim.deadline
        if due is not None and now >= due:
            self._feed(self.claim, TimerFired(), now)
        if self.coop is not None:
            self.coop.fire(now)

    def _know_vips(self) -> None:
        self._vips = {vip.key: vip for vip in self.config.vips}
        self.interfaces = frozenset(
            [member.interface for member in self.config.members]
            + [vip.interface for vip in self.config.vips]
        )

    def _standing(self, priority: int, orders: Orders) -> Standing:
        config, coop = self.config, self.coop
        self._orders = orders
        cooperates = coop is not None and coop.is_among_members
        self.held = config.name in orders.held and not config.is_owner and coop is None
        return Standing(
            version=config.leader.version,
            priority=priority,
            interval_ns=config.leader.advert_interval_ns,
            # In a cluster the better node asks for mastership, it never takes it (QUORUM H1).
            preempt=config.leader.preempt and not self.held and not cooperates,
            preempt_delay_ns=config.leader.preempt_delay_ns,
            sources={m.name: self.routers[m.name].source or b"" for m in config.tie_order()},
            barred=orders.maintenance and not config.is_owner,
            silence_ns=None if coop is None else coop.cluster.config.heartbeat_timeout_ns,
        )

    # --- reload and orders --------------------------------------------------------------------

    def can_become(self, config: UnitConfig) -> bool:
        """True if ``config`` is still this unit, so that it can change in place."""
        return config.is_group == self.config.is_group and config.identity == self.config.identity

    def reconfigure(
        self, config: UnitConfig, orders: Orders, elsewhere: set[VipKey], now: Instant
    ) -> None:
        """Take ``config`` over. VIPs that another unit has now (``elsewhere``) stay put."""
        old, self.config = self.config, config
        self._know_vips()
        for member in config.members:
            self.routers[member.name].reconfigure(member)
        self._tracker.retrack(config.tracks)
        was = self.election.standing.priority
        priority = effective_priority(config.priority, self.judgement.contributions)
        self.election.standing = self._standing(priority, orders)
        if priority != was:
            fields: dict[str, FieldValue] = {"was": was, "because": "configuration"}
            self._teller.tell(NoteKind.PRIORITY_CHANGED, {"priority": priority, **fields})
        self.claim.lifetime_s = config.address_lifetime_s
        plan = self.claim.announcements
        plan.count, plan.refresh_ns = config.announce_count, config.announce_refresh_ns
        moved = not elsewhere.isdisjoint(self.claim.retired)
        lifetime_changed = config.address_lifetime_s != old.address_lifetime_s
        if config.vips != old.vips or moved or lifetime_changed:
            self._change_vips(old.vips, elsewhere, now)
        if config != old:
            self.judge(now, news=True)

    def let_go_of(self, elsewhere: set[VipKey], now: Instant) -> None:
        """This unit is about to be removed: what others have now is not its to take away."""
        config = self.config.without(frozenset(elsewhere))
        if config.vips != self.config.vips or not elsewhere.isdisjoint(self.claim.retired):
            self.config = config
            self._know_vips()
            if self.coop is not None:
                self.coop.forgoes = True
            for member in config.members:
                self.routers[member.name].lose_vips(member)
            self._feed(self.claim, VipsChanged(config.vips, (), frozenset(elsewhere)), now)

    def _change_vips(self, old: tuple[Vip, ...], elsewhere: set[VipKey], now: Instant) -> None:
        retired = tuple(
            vip for vip in old if vip.key not in self._vips and vip.key not in elsewhere
        )
        self._foreign.limit_to(self._vips)
        self._feed(self.claim, VipsChanged(self.config.vips, retired, frozenset(elsewhere)), now)

    def obey(self, orders: Orders, now: Instant) -> None:
        """What the operator wants; the address owner cannot give its own addresses away."""
        count = dict(orders.step_downs).get(self.config.name, 0)
        ordered, self._step_downs = count > self._step_downs, count
        self.election.standing = self._standing(self.election.standing.priority, orders)
        if self.coop is not None:
            self.follow(now)
        elif self.election.standing.barred:
            self._feed(self.election, StepDownOrdered(Reason.MAINTENANCE), now)
        elif ordered and not self.config.is_owner:
            self._feed(self.election, StepDownOrdered(Reason.SWITCHOVER), now)
        self._stay_out(now)

    def _stay_out(self, now: Instant) -> None:
        """A check that a reload brought does not end a mastership, but no next one begins."""
        if self.judgement.pending and self.election.state is State.BACKUP:
            self._feed(self.election, Stopped(Reason.CHECK_PENDING, self.judgement.pending), now)

    # --- the wire -----------------------------------------------------------------------------

    def hear(self, heard: AdvertHeard, now: Instant) -> None:
        self.routers[heard.instance].count(heard, now)
        for remark in heard.remarks:
            fields = {"remark": remark.value, "source": format_address(heard.source)}
            self._teller.limited(
                NoteKind.ADVERT_REMARKED, remark.value, fields, now, heard.instance
            )
        if self.coop is None or self.coop.counts(heard, now):
            self._feed(self.election, heard, now)
        self._stay_out(now)

    def reject(self, rejected: AdvertRejected, now: Instant) -> None:
        self.routers[rejected.instance].counters.discard(rejected.reason)
        fields, word = fields_of(rejected), rejected.reason.value
        self._teller.limited(NoteKind.ADVERT_DISCARDED, word, fields, now, rejected.instance)

    def sent(self, name: str) -> None:
        router = self.routers[name]
        router.counters.add("adverts_sent")
        router.send_failures = 0

    def send_failed(self, failed: AdvertFailed, now: Instant) -> None:
        router = self.routers[failed.instance]
        router.counters.add("adverts_failed")
        if self.election.state is State.MASTER:  # a goodbye that failed costs nobody anything
            router.send_failures += 1
        fields: dict[str, str | int] = {"errno": failed.errno, "in_a_row": router.send_failures}
        self._teller.limited(NoteKind.SEND_FAILED, "", fields, now, failed.instance)
        if router.send_failures >= SEND_FAILURE_LIMIT:
            router.send_failures = 0
            self._raise_timed(Reason.SEND_REFUSED, f"errno {failed.errno}", now)

    def hearing_changed(self, event: Deafened | Undeafened, now: Instant) -> None:
        """A router that cannot hear would call every master dead."""
        errno = event.errno if isinstance(event, Deafened) else 0
        router = self.routers[event.instance]
        router.deaf = f"{router.config.interface}: errno {errno}" if errno else ""
        self.judge(now)

    def rival(self, rival: RivalAnnounced, now: Instant) -> None:
        """Somebody else answers for our VIP: say it louder, never give it up for that."""
        if self.claim.state is not ClaimState.PRESENT:
            return
        self.counters.add("rival_announcements")
        fields: dict[str, str | int] = {
            "address": format_address(rival.address),
            "mac": rival.mac.hex(":"),
        }
        self._teller.limited(NoteKind.RIVAL_ANNOUNCED, "", fields, now)
        self._feed(self.claim, AnnounceWanted(RIVAL_GAP_NS), now)

    def stalled(self, stall: LoopStalled, now: Instant) -> None:
        self._feed(self.election, stall, now)

    def stall_over(self, drained: StallDrained, now: Instant) -> None:
        self._feed(self.election, drained, now)

    # --- the kernel ---------------------------------------------------------------------------

    def applied(self, applied: AddressesApplied, now: Instant) -> None:
        self._feed(self.claim, applied, now)

    def gate(self, event: GateOpened | GateShut, now: Instant) -> None:
        self._feed(self.claim, event, now)

    def _vip(self, key: VipKey) -> Vip | None:
        return self._vips.get(key) or self.claim.retired.get(key)

    def vip_seen(self, key: VipKey, now: Instant) -> None:
        vip = self._vip(key)
        if vip is None:
            return  # retired, gone, and put there again by somebody else
        self._feed(self.claim, VipSeen(vip), now)
        if self.config.is_owner:
            self.judge(now)
        elif self.is_released and not self._stopped:
            self._review_foreign([key], now)
            if self._foreign.kept:
                self.judge(now)

    def vip_gone(self, key: VipKey, now: Instant) -> None:
        vip = self._vip(key)
        if vip is None:
            return
        self._feed(self.claim, VipGone(vip), now)
        if self._foreign.gone(key) or self.config.is_owner:
            self.judge(now)

    def link_changed(self, old: Link | None, new: Link, now: Instant) -> None:
        if old is not None and old.mac != new.mac and old.up and new.up:
            self._feed(self.claim, AnnounceWanted(0), now)

    def resync(self, now: Instant) -> None:
        """After a dump, or a change of links: look at everything anew."""
        if self._level_faults():
            self.judge(now)  # leave first: nothing is put back on a link that is gone
        self._feed(self.claim, PresenceResynced(self._present_keys()), now)
        if self.is_released and not self.config.is_owner and not self._stopped:
            self._review_foreign(self._vips, now)
        self.judge(now)

    def judge(self, now: Instant, *, news: bool = False) -> None:
        """Sources, priority and faults anew, from the host and its health as they are.

        In this order: whoever starts waits by its effective priority, and a master says what is
        new (``news``: its configuration is) only if it still is one.
        """
        if not self._begun or self._stopped:
            return
        for router in self.routers.values():
            if router.look_for_source(self._host, self.vip_addresses):
                news |= self._take_source(router)
        before = self.judgement
        self.judgement = self._tracker.judge(self._verdicts, self._host.is_up, now)
        if self.judgement != before:
            news |= self._weigh(before)
        self._change_faults(self._standing_faults(), now)
        if news:
            self._feed(self.election, PriorityChanged(), now)

    def _weigh(self, before: Judgement) -> bool:
        """The effective priority; True if it changed, which is advertised at once."""
        contributions = self.judgement.contributions
        was = self.election.standing.priority
        priority = effective_priority(self.config.priority, contributions)
        if priority == was:
            return False
        self.election.standing.priority = priority
        because = names_of_change(before, self.judgement)
        fields: dict[str, FieldValue] = {"priority": priority, "was": was, "because": because}
        self._teller.tell(NoteKind.PRIORITY_CHANGED, fields)
        return True

    def _take_source(self, router: Router) -> bool:
        """True if peers know us by another address."""
        self.sources = tuple(each.source for each in self.routers.values())
        self.lacks_source = None in self.sources
        if router.source is None:
            return False
        self.election.standing.sources[router.config.name] = router.source
        if router.spoke_from is None:
            return False
        old, new = format_address(router.spoke_from), format_address(router.source)
        self._teller.tell(NoteKind.SOURCE_CHANGED, {"old": old, "new": new}, router.config.name)
        return True

    def _standing_faults(self) -> dict[Reason, str]:
        return {**self._level_faults(), **dict(self.judgement.faults), **self._timed.standing}

    def _level_faults(self) -> dict[Reason, str]:
        routers = self.routers.values()
        return level_faults(self.config, self.interfaces, routers, self._foreign.kept, self._host)

    def _present_keys(self) -> frozenset[VipKey]:
        return frozenset(key for key in self.vip_keys if self._host.has(key))

    def _review_foreign(self, keys: Iterable[VipKey], now: Instant) -> None:
        """VIPs that are on this host although we do not hold them (``foreign.py``)."""
        for key in keys:
            entries = self._host.entries(key) if self.is_released else ()
            if remove := self._foreign.look(self._vips[key], entries, self._teller, now):
                self._actions.append(RemoveStray(remove))

    # --- faults -------------------------------------------------------------------------------

    def _raise_timed(self, reason: Reason, detail: str, now: Instant) -> None:
        self._timed.add(reason, detail, now)
        self._change_faults({**self._faults, reason: detail}, now)

    def _change_faults(self, faults: dict[Reason, str], now: Instant) -> None:
        """What stands in the way, to the election: faults, then verdicts that are waited for."""
        if self._stopped:
            return
        news, self._faults = faults != self._faults, faults
        state, pending = self.election.state, self.judgement.pending
        if faults:
            if news:
                reason, detail = next(iter(faults.items()))
                self._feed(self.election, FaultRaised(reason, detail), now)
        elif pending and state is not State.MASTER:
            self._feed(self.election, Stopped(Reason.CHECK_PENDING, pending), now)
        elif state is State.FAULT:
            self._feed(self.election, FaultCleared(), now)
        elif state is State.INIT:
            first = self.election.reason in (Reason.STARTUP, Reason.CHECK_PENDING)
            reason = Reason.STARTUP if first else Reason.RECOVERED
            self._feed(self.election, Started(reason), now)

    # --- the machines -------------------------------------------------------------------------

    def _feed(self, machine: Election | Unguarded | Claim, signal: Any, now: Instant) -> None:
        """Give one input to one machine and carry the wishes round until none is left."""
        self._pending.append((machine, signal))
        if len(self._pending) > 1:
            return  # a wish led back here: the loop below takes it in turn
        while self._pending:
            target, current = self._pending[0]
            for wish in target.handle(current, now):
                self._fulfil(wish, now)
            self._pending.popleft()
        invariants.check(self.config.name, self.election, self.lease.state, self.claim)
        self._role.tell(self.election, self.claim.state, self.master_address)

    def _fulfil(self, wish: Wish, now: Instant) -> None:
        if isinstance(wish, Note) and wish.kind in _FROM_THE_WIRE:
            self._teller.limited(wish.kind, "", dict(wish.fields), now)
        elif isinstance(wish, Note):
            self._teller.say(wish)
        elif isinstance(wish, _TO_ELECTION):
            self._pending.append((self.election, wish))
        elif isinstance(wish, _TO_CLAIM):
            if self.coop is not None and isinstance(wish, ClaimWanted):
                self.coop.became_master()
            elif self.coop is not None and isinstance(wish, ReleaseWanted) and wish.goodbye:
                self.coop.leaving(now)
            self._pending.append((self.claim, wish))
        elif isinstance(wish, LeaseWanted):
            self._pending.append((self.lease, wish))
        elif isinstance(wish, LeaseReturned):
            # While the kernel still holds something, ``Released`` gives the lease back.
            if self.is_released:
                self._pending.append((self.lease, wish))
        elif isinstance(wish, Released):
            if self.election.state not in (State.CANDIDATE, State.MASTER):
                self._pending.append((self.lease, LeaseReturned()))
            if self.coop is not None:
                self.coop.released(now)
        elif isinstance(wish, ClaimGivenUp):
            self._claim_given_up(wish, now)
        else:
            self._act(wish)

    def _claim_given_up(self, wish: ClaimGivenUp, now: Instant) -> None:
        if self.config.is_owner:
            self._change_faults(self._faults | {wish.reason: wish.detail}, now)
        else:
            self._teller.tell(NoteKind.CLAIM_REFUSED, {"detail": wish.detail})
            self._raise_timed(wish.reason, wish.detail, now)

    def _act(self, wish: Wish) -> None:
        if isinstance(wish, AdvertWanted):
            priority = LEAVING_PRIORITY if wish.leaving else self.election.standing.priority
            for router in [self.routers[wish.only]] if wish.only else self.routers.values():
                router.say(priority)
            return
        if isinstance(wish, FramesWanted):
            self.counters.add("announcements", len(wish.vips))
        self._actions.append(kernel_action(self.config.name, wish, self._place))

    def _place(self, vips: Iterable[Vip]) -> tuple[Vip, ...]:
        return self._host.place(vips, self.vip_addresses)

    @property
    def master_address(self) -> str:
        """Who is master as far as we know: ourselves, or whom the election knows."""
        if self.election.state is State.MASTER:
            source = self.routers[self.config.leader.name].source
        else:
            known = self.election.master
            source = None if known is None else known.source
        return "" if source is None else format_address(source)
