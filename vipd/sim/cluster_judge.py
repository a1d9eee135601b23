"""What every step of every host of a cluster must keep, by somebody who knows the truth.

*Whole* means: nothing is cut, lost or slow anywhere, no process is frozen or was killed with VIPs
left behind, and that has been so for long enough (``settle_ns``) that nobody can still act on what
was. Only then can plain cluster mode promise one holder; a cut between two nodes means two.

=====================  =========================================================================
two-holders            while the world is whole no VIP is on two hosts, not for a nanosecond; but
                       one that goes by plain VRRP because of a stranger may preempt (one-holder)
term-back              the term that a node reports for a unit never goes back in one life
term-shared            while the world is whole no two nodes are master in the same term
stale-obeyed           what makes its receiver act moves nothing if it has a nonce that was not told
                       lately, is about another life's mastership, or about a term that is over; a
                       heartbeat that was said before its receiver lived is not believed
live-master-replaced   nobody takes over from a master whose adverts get through, but from itself
handover-gap           a planned handover in a quiet cluster: somebody holds the VIPs again within
                       ``gap_ns``
will-late              what is done to the network or the kernel for a mastership is done after the
                       will that covers it was kept
will-incomplete        a dead engine's will names each of its masterships for priority 0 ...
will-unheard           ... and, if somebody fit is known, a successor for it
will-stale             ... in a tombstone that the other nodes accept
will-unfounded         ... and no router that was not master
=====================  =========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vipd.core.actions import AddAddresses, SendAdvert, SendMessage
from vipd.core.events import Event, MessageHeard, MessageRejected
from vipd.core.unit import Unit
from vipd.members import (
    Gift,
    Go,
    Goodbye,
    Heartbeat,
    Nonce,
    Owner,
    Refused,
    Taken,
    Tombstone,
    TransferRequest,
)
from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    ClaimState,
    Duration,
    Instant,
    Note,
    Reason,
    State,
    VipKey,
    format_address,
)
from vipd.sim.cluster_manners import Manners
from vipd.sim.convergence import settle_ns
from vipd.sim.network import ADVERTS
from vipd.sim.plans import MAIN, SIDE, UnitPlan
from vipd.snapshots import PinSnapshot

if TYPE_CHECKING:
    from vipd.sim.engine import FakeEngine
    from vipd.sim.host import Host
    from vipd.sim.scenario import Scenario
    from vipd.sim.world import World

_ACTING = (TransferRequest, Go, Taken, Refused, Tombstone, Goodbye)
_PLANNED = frozenset(
    each.value for each in (Reason.SWITCHOVER, Reason.MAINTENANCE, Reason.PREEMPTED, Reason.STOPPED)
)
_NAMED = frozenset(each.value for each in (Reason.HANDED_OVER, Reason.HANDOVER_FAILED))
_HICCUPS_NS = 70 * MILLISECOND_NS
_SLACK_NS = 100 * MILLISECOND_NS
_RENAMED_NS = 2 * SECOND_NS
_STRANGERS_NS = 60 * SECOND_NS
_TAKES_NS = 30 * MILLISECOND_NS


class Nonces:
    """What one engine told its peers, and when last, by its own clock."""

    def __init__(self) -> None:
        self._told: dict[Nonce, Instant] = {}

    def told(self, nonce: Nonce, now: Instant) -> None:
        self._told[nonce] = now

    def is_stale(self, nonce: Nonce, period_ns: Duration, now: Instant) -> bool:
        told_at = self._told.get(nonce)
        return told_at is None or now - told_at > 2 * period_ns + _SLACK_NS


class ClusterJudge:
    """One for all hosts; ``whole_since`` is kept current by ``look``."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        self.world = world
        self.scenario = scenario
        self.hosts: Sequence[Host] = scenario.hosts
        self.whole_since: Instant = -100 * SECOND_NS  # nothing was broken before the world began
        self.adverts_whole_since: Instant = 0
        self.manners = Manners(world, scenario, self)
        self._nonces: dict[FakeEngine, Nonces] = {}
        self._attempts: dict[tuple[FakeEngine, Owner, str, int], int] = {}
        self._terms: dict[tuple[Owner, str], int] = {}
        self._units: dict[tuple[Owner, str], Unit] = {}
        self._masters: dict[tuple[str, int], FakeEngine] = {}
        self._before: object = None
        self._stale = ""
        self.on_request: Callable[[FakeEngine, TransferRequest], None] = _ignore
        self._vacant: dict[str, Instant] = {}
        self._planned: dict[str, Instant] = {}

    # --- the truth ----------------------------------------------------------------------------

    def look(self) -> None:
        """Is the world whole at this instant? Called in every sweep and at every fault."""
        frozen = any(host.running and not host.lively for host in self.hosts)
        ghosts = any(not host.running and host.holds_tagged() for host in self.hosts)
        refused = any(host.netlink_errno or host.send_errno for host in self.hosts)
        down = any(
            host.up and not host.link_is_up(name) for host in self.hosts for name in (MAIN, SIDE)
        )
        channel = self.scenario.channel
        late = channel.loses or channel.delays
        if frozen or ghosts or refused or late or down or not self.scenario.network.is_whole:
            self.whole_since = self.world.now
        if not self.scenario.network.carries_adverts:
            self.adverts_whole_since = self.world.now

    def is_whole(self, unit: UnitPlan) -> bool:
        self.look()
        slowest = self.scenario.slowest(unit)
        foreign = self.scenario.foreign_at
        quiet = foreign < 0 or self.world.now - foreign > settle_ns(slowest)
        cluster = self.scenario.cluster
        wait_ns = settle_ns(slowest) + (0 if cluster is None else cluster.heartbeat_timeout_ns)
        return quiet and self.world.now - self.whole_since > wait_ns

    @property
    def interval_ns(self) -> Duration:
        cluster = self.scenario.cluster
        return 0 if cluster is None else cluster.heartbeat_interval_ns

    @property
    def nonce_period_ns(self) -> Duration:
        return max(SECOND_NS, 3 * self.interval_ns)

    def pins_of(self, engine: FakeEngine, unit: str) -> list[PinSnapshot]:
        """The pin of a unit as this engine knows it; none or one."""
        cluster = engine.node.snapshot(engine.now()).cluster
        return [] if cluster is None else [pin for pin in cluster.pins if pin.unit == unit]

    def plan(self, name: str) -> UnitPlan | None:
        return next((unit for unit in self.scenario.units if unit.name == name), None)

    # --- holders ------------------------------------------------------------------------------

    def address_changed(self, host: Host, key: VipKey) -> None:
        unit = next((each for each in self.scenario.units if key in each.keys), None)
        if unit is None:
            return
        holders = [each for each in self.hosts if key in each.kernel.tagged]
        if len(holders) > 1 and self._is_plain_tie(unit, holders):
            return
        if len(holders) > 1 and any(self._preempts_plainly(each, unit) for each in holders):
            return
        if len(holders) > 1 and host in holders and self.is_whole(unit):
            names = ", ".join(each.name for each in holders)
            text = f"{format_address(key[1])} of {unit.name} is on {names}"
            self.world.violated("two-holders", text)
        self._judge_gap(unit)

    def _is_plain_tie(self, unit: UnitPlan, holders: list[Host]) -> bool:
        """Hosts that call the unit by different names are no cluster for it: a tie of plain VRRP,
        in which both may stand at once."""
        names = [
            frozenset(name for name in host.engine.node.units if name == unit.name)
            for host in holders
            if host.engine is not None
        ]
        rests = self.world.now - self.scenario.units_changed_at
        tie = len(set(unit.first.priorities)) < len(unit.first.priorities)
        return tie and (len(set(names)) > 1 or rests < _RENAMED_NS)

    def _preempts_plainly(self, host: Host, unit: UnitPlan) -> bool:
        """Did it take the unit as among strangers, a minute after a real one at most?"""
        known = None if host.engine is None else host.engine.node.units.get(unit.name)
        scenario = self.scenario
        lately = scenario.foreign_at >= 0 and self.world.now - scenario.foreign_at < _STRANGERS_NS
        if known is None or (scenario.foreign is None and not lately):
            return False
        return known.election.reason is Reason.LOWER_PRIORITY_MASTER

    def _judge_gap(self, unit: UnitPlan) -> None:
        now = self.world.now
        held = any(unit.keys <= each.kernel.tagged for each in self.hosts)
        if held:
            self._vacant.pop(unit.name, None)
            if unit.name in self._planned:
                began = self._planned.pop(unit.name)
                self.world.coverage["handovers timed"] += 1
                self._measure(now - began)
        elif unit.name not in self._vacant:
            self._vacant[unit.name] = now

    def _measure(self, gap_ns: Duration) -> None:
        worst = self.world.coverage["longest gap, ms"]
        self.world.coverage["longest gap, ms"] = max(worst, gap_ns // MILLISECOND_NS)

    @property
    def gap_ns(self) -> Duration:
        """Two netlink batches, two messages, and the wake-ups that may be late."""
        options = self.scenario.options
        hiccups = _HICCUPS_NS if options.hiccup_chance else 0
        slowest = 3 * self.scenario.network.slowest_ns + 3 * options.netlink_ns[1]
        return _TAKES_NS + slowest + hiccups + options.late_ipv6_ns

    def gives(self, engine: FakeEngine, note: Note) -> None:
        """It leaves MASTER by decision: in a quiet cluster somebody fit takes it at once."""
        unit = self.plan(note.instance)
        if unit is None or note.fields["reason"] not in _PLANNED or not self.is_whole(unit):
            return
        if self._is_quiet(engine, unit):
            self._planned[unit.name] = self.world.now
            self.world.after(self.gap_ns, self._judge_taken, unit, self.world.now)

    def _is_quiet(self, engine: FakeEngine, unit: UnitPlan) -> bool:
        """Nothing else is going on, and another host could take the unit."""
        if not self.scenario.is_quiet:
            return False
        for host in self.hosts:
            other = host.engine
            if other is None or host.engine is engine or host.maintenance:
                continue
            known = other.node.units.get(unit.name)
            disturbed_at = max(host.disturbed_at, engine.host.disturbed_at)
            settled = self.world.now - disturbed_at > 3 * SECOND_NS
            if settled and known is not None and known.election.state is State.BACKUP:
                return True
        return False

    def _judge_taken(self, unit: UnitPlan, since: Instant) -> None:
        if self._planned.get(unit.name) != since:
            return
        del self._planned[unit.name]
        if self.scenario.units_changed_at > since or self.whole_since > since:
            return
        if not self.scenario.is_quiet:
            return
        states = ", ".join(f"{h.name} {_state(h, unit.name)}" for h in self.hosts)
        text = f"nobody holds {unit.name} {self.gap_ns / MILLISECOND_NS:.0f} ms later ({states})"
        self.world.violated("handover-gap", text)

    # --- what is said -------------------------------------------------------------------------

    def started(self, engine: FakeEngine) -> None:
        self._nonces[engine] = Nonces()

    def says(self, engine: FakeEngine, action: SendMessage) -> None:
        message = action.message
        self.manners.says(engine, action)
        if isinstance(message, Heartbeat):
            self._nonces[engine].told(message.nonce, engine.now())
            self._judge_terms(engine, message)
        elif isinstance(message, Go):
            engine.host.on_step(engine, "go-said")
        elif isinstance(message, Taken):
            engine.host.on_step(engine, "taken-said")
        elif isinstance(message, TransferRequest):
            self.on_request(engine, message)

    def _judge_terms(self, engine: FakeEngine, beat: Heartbeat) -> None:
        owner = engine.identity.owner
        for report in beat.units:
            key = (owner, report.unit)
            if engine.node.units.get(report.unit) is not self._units.get(key):
                self._units[key] = engine.node.units[report.unit]  # a reload made it anew
                self._terms.pop(key, None)
            where = f"{engine.host.name} {report.unit}: term {report.term}"
            if report.term < self._terms.get(key, 0):
                self.world.violated("term-back", f"{where}, and {self._terms[key]} before")
            self._terms[key] = report.term
            if report.state is not State.MASTER:
                continue
            first = self._masters.get((report.unit, report.term))
            self._masters[report.unit, report.term] = engine
            unit = self.plan(report.unit)
            if first is None or first is engine or unit is None or not self.is_whole(unit):
                continue
            known = first.node.units.get(report.unit) if first.alive else None
            if self._is_plain_tie(unit, [engine.host, first.host]):
                continue
            if known is not None and known.election.state is State.MASTER:
                self.world.violated("term-shared", f"{where}, and so is {first.host.name}")

    # --- what is heard ------------------------------------------------------------------------

    def hears(
        self, engine: FakeEngine, event: MessageHeard | MessageRejected, sent_at: Instant
    ) -> None:
        """Before the core sees it. ``sent_at``: true time."""
        self._stale = ""
        if isinstance(event, MessageRejected):
            self.world.coverage[f"discarded {event.reason.value}"] += 1
            return
        message = event.received.message
        if isinstance(message, Go):
            engine.host.on_step(engine, "go-heard")
        if isinstance(message, Heartbeat) and event.received.version > 1:
            age_ns = self.world.now - sent_at  # engines count time from their birth by their clock
            if age_ns > engine.now() - engine.born_at + _SLACK_NS:
                self.world.coverage["recordings played to a new life"] += 1
                self._stale = "said before its receiver lived"
                self._before = _members(engine)
        if isinstance(message, _ACTING):
            self._stale = self._why_stale(engine, event)
            if self._stale:
                self.world.coverage["stale messages"] += 1
                self._before = _standing(engine)

    def _why_stale(self, engine: FakeEngine, event: MessageHeard) -> str:
        """Why the message is about nothing that is; empty: it may be about something."""
        message, own = event.received.message, engine.identity.owner
        if not isinstance(message, _ACTING):
            return ""
        if self._nonces[engine].is_stale(message.nonce, self.nonce_period_ns, engine.now()):
            return "a nonce that was not told lately"
        if isinstance(message, TransferRequest | Taken) and message.owner != own:
            return "another life's mastership"
        if isinstance(message, Go | Tombstone):
            over = [gift for gift in message.gifts if self._is_over(engine, message.owner, gift)]
            if over and len(over) == len(message.gifts) and isinstance(message, Go):
                return "a term or an attempt that is over"
        return ""

    def _is_over(self, engine: FakeEngine, owner: Owner, gift: Gift) -> bool:
        key = (engine, owner, gift.unit, gift.term)
        newest = self._attempts[key] = max(self._attempts.get(key, 0), gift.attempt)
        known = self._terms.get((engine.identity.owner, gift.unit), 0)
        return gift.term < known or gift.attempt < newest

    def after(self, engine: FakeEngine, event: Event) -> None:
        if self._stale and isinstance(event, MessageHeard):
            why, self._stale = self._stale, ""
            beat = isinstance(event.received.message, Heartbeat)
            if (_members if beat else _standing)(engine) != self._before:
                kind = type(event.received.message).__name__
                text = f"{engine.host.name}: {kind} of {event.received.sender.node}, {why}"
                self.world.violated("stale-obeyed", text)

    # --- takeovers ----------------------------------------------------------------------------

    def takes(self, engine: FakeEngine, note: Note) -> None:
        """A backup became master: from whom?"""
        unit = self.plan(note.instance)
        self.world.after(0, self.manners.takes, engine, note)
        if note.fields["reason"] in _NAMED or unit is None:
            return
        for host in self.hosts:
            if host is not engine.host and self._is_heard(host, engine.host, unit):
                text = f"{engine.host.name} took {unit.name} ({note.fields['reason']})"
                self.world.violated(
                    "live-master-replaced", f"{text} from {host.name}, whose adverts get through"
                )

    def _is_heard(self, host: Host, by: Host, unit: UnitPlan) -> bool:
        """Has ``host`` been a working master for long, and do its adverts reach ``by``?"""
        twin = host.judge.twins.get(host, {}).get(unit.name)
        known = None if host.engine is None else host.engine.node.units.get(unit.name)
        if twin is None or known is None or not host.lively:
            return False
        now, down = self.world.now, self.scenario.slowest(unit).longest_down_ns
        since = max(twin.became_at, host.disturbed_at, by.disturbed_at)
        since = max(since, self.adverts_whole_since, self.scenario.foreign_at)
        since = max(since, self.scenario.units_changed_at)
        if self.scenario.foreign is not None or now - since < down + SECOND_NS:
            return False
        if known.election.state is not State.MASTER or known.claim.state is not ClaimState.PRESENT:
            return False
        network, cluster = self.scenario.network, self.scenario.cluster
        echoes = cluster is not None and all(each.highest > 1 for each in cluster.speaks)
        if not echoes and not network.is_whole:
            return False  # version 1: nobody can know that its beats are missed
        cut = any(network.is_cut(host, by, m.interface, ADVERTS) for m in unit.members)
        up = all(host.link_is_up(m.interface) for m in unit.members)
        hears = all(by.link_is_up(m.interface) for m in unit.members)
        return up and hears and not cut and not host.send_errno

    # --- the last will ------------------------------------------------------------------------

    def carries_out(self, engine: FakeEngine, order: AddAddresses | SendAdvert) -> None:
        """At the instant at which a mastership touches kernel or network."""
        units = engine.node.units.values()
        unit = next((u for u in units if order.instance in (u.config.name, *u.routers)), None)
        if unit is None or unit.election.state is not State.MASTER:
            return
        missing = _unnamed(engine, unit)
        if missing:
            text = f"{engine.host.name}: {type(order).__name__} of {sorted(missing)} before it"
            self.world.violated("will-late", text)

    def dies(self, engine: FakeEngine) -> None:
        """SIGKILL: what was kept is all that is left of its knowledge."""
        goodbyes = {each.instance for each in engine.will.goodbyes}
        named = {gift.unit for _, stone in engine.will.tombstones for gift in stone.gifts}
        where = engine.host.name
        masters: set[str] = set()
        for name, unit in engine.node.units.items():
            leads = unit.election.state is State.MASTER
            if leads or not unit.is_released:
                masters |= set(unit.routers)
            if not leads:
                continue
            self.world.coverage["wills of masters"] += 1
            missing = _unnamed(engine, unit)
            if missing:
                self.world.violated("will-incomplete", f"{where} {name}: without {sorted(missing)}")
            plan = self.plan(name)
            if plan is not None and self._has_successor(engine, plan):
                if name not in named:
                    self.world.violated("will-unheard", f"{where} {name}: no successor is named")
                self._judge_stones(engine)
        configured = {name for unit in engine.node.units.values() for name in unit.routers}
        masters |= {member.name for member in engine.node.routers()} - configured  # still leaving
        unfounded = goodbyes - masters
        if unfounded:
            self.world.violated("will-unfounded", f"{where}: priority 0 for {sorted(unfounded)}")

    def _judge_stones(self, engine: FakeEngine) -> None:
        """They must be about now for those who get them."""
        for member, stone in engine.will.tombstones:
            receiver = next((h.engine for h in self.hosts if h.name == member), None)
            if receiver is None or receiver.paused:
                continue
            if self._nonces[receiver].is_stale(stone.nonce, self.nonce_period_ns, receiver.now()):
                self.world.violated("will-stale", f"{engine.host.name}: nonce of {member}")

    def _has_successor(self, engine: FakeEngine, unit: UnitPlan) -> bool:
        twin = engine.host.judge.twins[engine.host].get(unit.name)
        young = twin is None or self.world.now - twin.became_at < SECOND_NS
        if young or not self.is_whole(unit):
            return False
        for host in self.hosts:
            if host is engine.host or host.engine is None or host.maintenance:
                continue
            known = host.engine.node.units.get(unit.name)
            changed_at = max(host.disturbed_at, self.scenario.worth_changed_at)
            rests = self.world.now - changed_at > SECOND_NS
            if known is not None and known.election.state is State.BACKUP and rests:
                return True
        return False


def _unnamed(engine: FakeEngine, unit: Unit) -> set[str]:
    """Routers of the unit that could speak, and of which the will says nothing."""
    speaking = {name for name, router in unit.routers.items() if router.source is not None}
    return speaking - {each.instance for each in engine.will.goodbyes}


def _standing(engine: FakeEngine) -> object:
    """All of an engine that a message that acts could move."""
    units = engine.node.units.items()
    cluster = engine.node.snapshot(engine.now()).cluster
    members = () if cluster is None else cluster.members
    return (
        [(name, unit.election.state, unit.claim.state) for name, unit in units],
        [(each.name, each.alive, each.left) for each in members],
    )


def _members(engine: FakeEngine) -> object:
    """What an engine believes of the others."""
    cluster = engine.node.snapshot(engine.now()).cluster
    members = () if cluster is None else cluster.members
    return [(each.name, each.alive, each.last_heard_ns) for each in members if not each.is_self]


def _state(host: Host, name: str) -> str:
    unit = None if host.engine is None else host.engine.node.units.get(name)
    return "down" if unit is None else unit.election.state.value


def _ignore(_engine: FakeEngine, _request: TransferRequest) -> None:
    """Nobody counts requests."""
