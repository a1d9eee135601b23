"""Plain mode's promises, judged in true time.

What "all hosts hear one another within the RFC time" means here
----------------------------------------------------------------
It is *calm* while no fault is active, every host whose processes are gone holds no VIP of theirs
any more, and no process was started, stopped or reconfigured. ``calm_since`` is the last instant
at which that was not so. For one router let

    Down   = the longest silence any host may wait through: 3 intervals and the skew of priority 0
             (one interval, v2: one second), of the slowest interval configured in the run
    settle = Down + one interval + 300 ms (network, kernel, late wake-ups), + 3 % (clock drift)

Calm is also counted from the last verdict of a check and the last word of an operator. A host is
a *candidate* for a unit (a group, or a router in none) if its daemon runs, is not in maintenance,
and no track means FAULT or is still waited for, by the checks as they are.

=====================  =========================================================================
one-holder             calm for ``settle``: no VIP is on two hosts, but for the moment in which
                       one takes over from the other (100 ms, network, kernel)
exactly-one            calm for 2 Down + 2 intervals + preempt_delay + debounce + 1 s: each unit's
                       VIPs are all on exactly one host, which is a candidate (no candidate: on
                       none) ...
right-one              ... and no other candidate has a higher effective priority, ``preempt``, and
                       is not held
unsettled              after that nothing changes any more
both-yielded           who yields in a tie yields to somebody: 100 ms (network, kernel) later, if
                       nothing else happened, there is a master
members-differ         status shows members of one group in different states
dead-holder            no VIP stays longer than its lifetime + 1 s on a host without processes
idle-holder            a living host with a working kernel keeps no VIP of ours for longer than
                       0.7 s outside MASTER, and no VIP of nobody's either (3 s later if the
                       kernel refused its removal)
master-misses          a MASTER with a working kernel lacks none of its VIPs for longer than 0.7 s,
                       whoever took it
lifetime-ended         no VIP ends by its lifetime under a living MASTER with a working kernel
unannounced            what a MASTER holds is announced within 0.7 s of its appearance
last-word              after a losing advert the VIPs are announced again within 1.2 s
mute-master            nobody stays MASTER whose link is down, or whose adverts the kernel refuses
                       (three intervals + 0.7 s)
pace                   a MASTER with a working kernel is never silent for longer than its interval
goodbye-missing        0.7 s after a mastership was given away by decision, no priority 0 was said
stale-unsaid           nothing was heard of checks that count for 3 s, and no alarm was raised
stale-unfounded        ... or it was raised too early
=====================  =========================================================================

An owner (255) holds its VIPs while it is MASTER: its addresses are the host's own. Times on one
host count from its last disturbance (start, thaw, refusal by the kernel, reload).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from vipd.model import (
    MILLISECOND_NS,
    OWNER_PRIORITY,
    SECOND_NS,
    Duration,
    Instant,
    Note,
    NoteKind,
    Reason,
    State,
    VipKey,
    format_address,
)
from vipd.sim.engine import FakeEngine
from vipd.sim.host import Host
from vipd.sim.judge import Judge, unit_of
from vipd.sim.plans import UnitPlan, checks_of
from vipd.sim.reference import LATE_GRACE_NS, Twin
from vipd.sim.scenario import Scenario
from vipd.sim.world import World
from vipd.sim.worth import worth_of

SWEEP_NS = 200 * MILLISECOND_NS
REACTION_NS = 700 * MILLISECOND_NS
RETRIED_NS = 3 * SECOND_NS
STALE_NS = 3 * SECOND_NS
LAST_WORD_NS = 1200 * MILLISECOND_NS
_MARGIN_NS = 300 * MILLISECOND_NS
_OVERLAP_NS = 100 * MILLISECOND_NS
_TIMED_FAULTS = {
    Reason.CLAIM_REFUSED.value,
    Reason.ADDRESS_VANISHES.value,
    Reason.SEND_REFUSED.value,
}


def settle_ns(unit: UnitPlan) -> Duration:
    return int((unit.longest_down_ns + unit.slowest_ns + _MARGIN_NS) * 1.03)


def converge_ns(unit: UnitPlan) -> Duration:
    """How long the right host may take, at worst: wait, be passed over, wait again, take."""
    wait = 2 * unit.longest_down_ns + 2 * unit.slowest_ns + unit.first.preempt_delay_ns
    return int((wait + unit.longest_debounce_ns + SECOND_NS) * 1.03)


class Checkers:
    """Looks at all hosts every ``SWEEP_NS``, and at some things when they happen."""

    def __init__(
        self, world: World, hosts: Sequence[Host], scenario: Scenario, judge: Judge
    ) -> None:
        self.world = world
        self.hosts = hosts
        self.scenario = scenario
        self.judge = judge
        self.calm_since: Instant = 0
        self.fit_since: Instant = 0
        self._participants: tuple[object, ...] = ()
        self._lasting: dict[Hashable, Instant] = {}
        self._was_lasting: dict[Hashable, Instant] = {}
        self._timed_faults: dict[tuple[Host, str], int] = {}
        judge.on_note = self._noted
        for host in hosts:
            host.kernel.on_change = lambda key, host=host: judge.address_changed(host, key)  # type: ignore[misc]
            host.kernel.on_expiry = lambda key, host=host: self._expired(host, key)  # type: ignore[misc]
        world.after(SWEEP_NS, self._sweep)

    def _lasts(self, what: Hashable, since: Instant = 0) -> Duration:
        """For how long ``what``, seen in this sweep, was seen in every sweep; from ``since``."""
        start = self._was_lasting.get(what, self.world.now)
        self._lasting[what] = start
        return self.world.now - max(start, since)

    def _sweep(self) -> None:
        self._was_lasting, self._lasting = self._lasting, {}
        for host in self.hosts:
            if not host.running:
                self._judge_dead(host)
            elif host.lively and host.engine is not None:
                self._judge_living(host, host.engine)
        self._judge_calm()
        for unit in self.scenario.units:
            self._judge_holders(unit)
        self.world.after(SWEEP_NS, self._sweep)

    # --- one host -----------------------------------------------------------------------------

    def _judge_dead(self, host: Host) -> None:
        for interface, address in host.kernel.tagged:
            lifetime_s = self.scenario.longest_lifetime_s
            if self.world.now - host.died_at > (lifetime_s + 1) * SECOND_NS:
                self.world.violated(
                    "dead-holder",
                    f"{host.name}: {format_address(address)} on {interface} outlived its lifetime",
                )

    def _judge_living(self, host: Host, engine: FakeEngine) -> None:
        covered: set[VipKey] = set()
        troubled = bool(host.netlink_errno) or engine.overflowing
        twins = self.judge.twins[host]
        for name, unit in engine.node.units.items():
            twin = twins.get(name)
            if twin is None:
                continue
            if unit.election.state is State.MASTER:
                covered |= twin.keys
                if not troubled:
                    self._judge_held(host, twin)
                self._judge_master(host, twin)
            twin.judge_lateness(engine.now(), LATE_GRACE_NS)
            if not troubled:
                self._judge_role(host, twin)
        self._judge_health(host, engine)
        if not troubled:
            self._judge_idle(host, engine, covered)
            self._judge_goodbyes(host, engine)

    def _judge_role(self, host: Host, twin: Twin) -> None:
        state, name = twin.unit.election.state, twin.unit.config.name
        agrees = twin.keys <= host.kernel.present
        if state is not State.MASTER:
            agrees = state is not State.CANDIDATE and not twin.keys & host.kernel.tagged
        last = self.judge.roles.last(host, name)
        if not agrees or last is state:
            return
        if self._lasts(("role", host, name, state), host.disturbed_at) > REACTION_NS:
            twin.fail("role-missed", f"{state.value}, the last role is {last.value}")

    def _judge_health(self, host: Host, engine: FakeEngine) -> None:
        told = self.judge.told[host]
        silent = engine.now() - told.health_at
        tracked = any(checks_of(unit.config.tracks) for unit in engine.node.units.values())
        if tracked and not told.stale and silent > STALE_NS + 2 * LATE_GRACE_NS:
            self.world.violated("stale-unsaid", f"{host.name}: {silent / SECOND_NS:.3f} s")

    def _judge_goodbyes(self, host: Host, engine: FakeEngine) -> None:
        for (owing, name), since in self.judge.owes_goodbye.items():
            unit = unit_of(engine, name) if owing is host else None
            if unit is None or unit.routers[name].source is None:
                continue
            if not host.link_is_up(unit.routers[name].config.interface):
                continue
            if self._lasts(("goodbye", host, name, since), host.disturbed_at) > REACTION_NS:
                text = f"{host.name} {name} gave its mastership away in silence"
                self.world.violated("goodbye-missing", text)

    def _judge_held(self, host: Host, twin: Twin) -> None:
        for key in twin.keys - host.kernel.present:
            if self._lasts(("missing", host, key), host.disturbed_at) > REACTION_NS:
                twin.fail("master-misses", f"{format_address(key[1])} has been missing")
        for key, since in self.judge.unannounced[host].items():
            waits = self.world.now - max(since, host.disturbed_at)
            if key in twin.keys and waits > REACTION_NS:
                twin.fail("unannounced", f"{format_address(key[1])} was not announced")

    def _judge_master(self, host: Host, twin: Twin) -> None:
        now, interval_ns = self.world.now, twin.unit.config.leader.advert_interval_ns
        since = max(twin.became_at, host.disturbed_at)
        silent = now - max(since, host.clock.true(twin.sent_at))
        slowest = int(interval_ns * 1.02) + 2 * LATE_GRACE_NS
        if not host.send_errno and silent > slowest:
            twin.fail("pace", f"MASTER, and silent for {silent / MILLISECOND_NS:.3f} ms")
        self._judge_mute(host, twin)
        owes = twin.owes_word_since
        if owes is not None and now - max(owes, since) > LAST_WORD_NS:
            twin.fail("last-word", "somebody else spoke for the VIPs, and was not answered")

    def _judge_mute(self, host: Host, twin: Twin) -> None:
        """A master that nobody can hear must stop being one (F15)."""
        config = twin.unit.config
        interval_ns = max(config.leader.advert_interval_ns, twin.slowest_ns)
        down = any(not host.link_is_up(member.interface) for member in config.members)
        limits = {
            "a link of it is down": (down, REACTION_NS),
            "its adverts are refused": (
                bool(host.send_errno),
                int(3.2 * interval_ns) + REACTION_NS,
            ),
        }
        for why, (is_so, limit) in limits.items():
            since = max(twin.became_at, host.disturbed_at)
            if is_so and self._lasts((why, host, config.name), since) > limit:
                twin.fail("mute-master", f"still MASTER although {why}")

    def _judge_idle(self, host: Host, engine: FakeEngine, covered: set[VipKey]) -> None:
        refused = host.stray_refused_at >= host.disturbed_at - RETRIED_NS
        limit = REACTION_NS + (RETRIED_NS if refused else 0)
        for key in sorted(host.kernel.tagged - covered):
            if self._lasts(("idle", host, key), host.disturbed_at) > limit:
                self._keeps(host, key, "ours")
        if host.owned or not host.kernel.foreign & self.scenario.vip_keys:
            return
        for key in sorted(host.kernel.foreign & self.scenario.vip_keys - covered):
            if self._may_be_kept(host, engine, key):
                continue
            if self._lasts(("foreign", host, key), host.disturbed_at) > limit:
                self._keeps(host, key, "nobody's")

    def _keeps(self, host: Host, key: VipKey, whose: str) -> None:
        text = f"{host.name} is no MASTER of {format_address(key[1])} ({whose}) and keeps it"
        self.world.violated("idle-holder", text)

    def _may_be_kept(self, host: Host, engine: FakeEngine, key: VipKey) -> bool:
        """A VIP that came back, or whose removal was refused, is somebody else's: FAULT."""
        if key in self.scenario.foreign_twice[host]:
            return True
        refused = host.stray_refused_at >= 0
        return refused and any(
            Reason.FOREIGN_ADDRESS in unit.faults for unit in engine.node.units.values()
        )

    def _expired(self, host: Host, key: VipKey) -> None:
        engine = host.engine
        if engine is None or engine.paused or host.netlink_errno:
            return
        healthy = self.world.now - host.disturbed_at
        for name, unit in engine.node.units.items():
            if key not in {vip.key for vip in unit.config.vips}:
                continue
            held = unit.election.state is State.MASTER
            twin = self.judge.twins[host].get(name)
            long_enough = healthy > self.scenario.longest_lifetime_s * SECOND_NS
            if held and twin and long_enough and self.world.now - twin.became_at > SECOND_NS:
                twin.fail("lifetime-ended", f"{format_address(key[1])} was not renewed")

    # --- all hosts ----------------------------------------------------------------------------

    def _judge_calm(self) -> None:
        participants = tuple(host.engine for host in self.hosts)
        ghosts = any(not host.running and host.holds_tagged() for host in self.hosts)
        frozen = any(host.running and not host.lively for host in self.hosts)
        if self.scenario.active or ghosts or frozen or participants != self._participants:
            self.calm_since = self.world.now
        self._participants = participants
        self.calm_since = max(self.calm_since, self.scenario.changed_at)

    def _holdings(self, unit: UnitPlan) -> list[frozenset[VipKey]]:
        """Which VIPs of a unit each host holds."""
        found = []
        for at, host in enumerate(self.hosts):
            if unit.first.priorities[at] != OWNER_PRIORITY:
                found.append(unit.keys & host.kernel.tagged)
            else:
                owns = self._state(host, unit.name) is State.MASTER
                found.append(unit.keys if owns else frozenset())
        return found

    def _state(self, host: Host, name: str) -> State:
        unit = None if host.engine is None else host.engine.node.units.get(name)
        return State.INIT if unit is None else unit.election.state

    def _judge_holders(self, unit: UnitPlan) -> None:
        now, slowest = self.world.now, self.scenario.slowest(unit)
        calm = now - self.calm_since
        if calm < settle_ns(slowest):
            return
        holdings = self._holdings(unit)
        held: set[VipKey] = set()
        for holding in holdings:
            for key in sorted(holding & held):
                lasts = self._lasts(("two", key), self.calm_since + settle_ns(slowest))
                if lasts > _OVERLAP_NS + self.scenario.handover_ns:
                    text = f"{format_address(key[1])} of {unit.name} is on two hosts"
                    self.world.violated("one-holder", f"{text} ({self._states(unit)})")
            held |= holding
        if now - max(self.calm_since, self.fit_since) > converge_ns(slowest):
            self._judge_converged(unit, holdings)

    def _states(self, unit: UnitPlan) -> str:
        return ", ".join(f"{h.name} {self._state(h, unit.name).value}" for h in self.hosts)

    def _candidates(self, unit: UnitPlan) -> dict[int, int]:
        """The hosts that may be master now, with their effective priorities."""
        found = {}
        for at, host in enumerate(self.hosts):
            base = unit.first.priorities[at]
            barred = host.maintenance and base != OWNER_PRIORITY
            if host.supervisor is None or not host.running or barred:
                continue
            worth = worth_of(unit.track, host.supervisor.verdicts, host.link_is_up)
            if not worth.fault and not worth.pending:
                found[at] = worth.priority(base)
        return found

    def _judge_converged(self, unit: UnitPlan, holdings: list[frozenset[VipKey]]) -> None:
        if not any(host.running for host in self.hosts):
            return
        self.world.coverage["convergence judged"] += 1
        candidates = self._candidates(unit)
        holders = [at for at, holding in enumerate(holdings) if holding]
        names = [self.hosts[at].name for at in holders]
        if not candidates:
            self.world.coverage["convergence judged: nobody may"] += 1
            if holders:
                self.world.violated("exactly-one", f"{unit.name}: {names}, and nobody may")
            return
        whole = len(holders) == 1 and unit.keys in holdings and holders[0] in candidates
        if not whole:
            text = f"{unit.name} is on {names} ({self._states(unit)})"
            self.world.violated("exactly-one", text)
        if len(unit.members) > 1:
            self._judge_members(unit)
        holder = holders[0]
        for at, priority in candidates.items():
            host, owner = self.hosts[at], unit.first.priorities[at] == OWNER_PRIORITY
            takes = owner or (unit.first.preempt[at] and unit.name not in host.held)
            if priority > candidates[holder] and takes:
                text = f"{unit.name} is on {self.hosts[holder].name}, not on {host.name}"
                self.world.violated("right-one", text)

    def _judge_members(self, unit: UnitPlan) -> None:
        self.world.coverage["convergence judged: groups"] += 1
        for host in self.hosts:
            if host.engine is None:
                continue
            shots = host.engine.node.snapshot(host.engine.now()).instances
            states = {shot.state for shot in shots if shot.unit == unit.name}
            if states != {self._state(host, unit.name)}:
                text = f"{host.name} {unit.name}: {sorted(state.value for state in states)}"
                self.world.violated("members-differ", text)

    # --- notes --------------------------------------------------------------------------------

    def _noted(self, engine: FakeEngine, note: Note) -> None:
        coverage, fields = self.world.coverage, note.fields
        coverage[f"note {note.kind.value}"] += 1
        if note.kind is NoteKind.HEALTH_STALE:
            silent = engine.now() - self.judge.told[engine.host].health_at
            if silent < STALE_NS:
                text = f"{engine.host.name}: {silent / SECOND_NS:.3f} s"
                self.world.violated("stale-unfounded", text)
        if note.kind is not NoteKind.TRANSITION:
            return
        coverage[f"reason {fields['reason']}"] += 1
        if fields["to"] == State.MASTER.value:
            coverage["takeovers"] += 1
        if fields["reason"] == Reason.TIE_LOST.value:
            delay = _OVERLAP_NS + self.scenario.handover_ns
            self.world.after(delay, self._judge_tie, note.instance, self.world.now)
        if fields["reason"] in _TIMED_FAULTS and fields["to"] == State.FAULT.value:
            self._backed_off(engine.host, note.instance)
        self._judge_unrest(note)

    def _judge_tie(self, unit: str, yielded_at: Instant) -> None:
        """Old packets and frozen hosts may deceive; without them somebody stays master."""
        old = "slow-network" in self.scenario.options.fault_kinds
        disturbed = max(host.disturbed_at for host in self.hosts) > yielded_at - 2 * SECOND_NS
        moved = self.scenario.changed_at > yielded_at or self.scenario.active
        if old or disturbed or moved or not all(host.lively for host in self.hosts):
            return
        self.world.coverage["ties judged"] += 1
        if not any(self._state(host, unit) is State.MASTER for host in self.hosts):
            self.world.violated("both-yielded", f"{unit}: everybody yielded, nobody is master")

    def _backed_off(self, host: Host, name: str) -> None:
        """A refused claim is retried after 1, 2, 4 ... s: the host is unfit until then."""
        times = self._timed_faults[host, name] = self._timed_faults.get((host, name), 0) + 1
        backoff_s = min(60, 2 ** (times - 1))
        self.fit_since = max(self.fit_since, self.world.now + int(backoff_s * 1.02 * SECOND_NS))

    def _judge_unrest(self, note: Note) -> None:
        for unit in self.scenario.units:
            if unit.name == note.instance:
                changed_at = max(host.disturbed_at for host in self.hosts)
                changed_at = max(changed_at, self.scenario.changed_at)
                calm = self.world.now - max(self.calm_since, self.fit_since, changed_at)
                if not self.scenario.active and calm > converge_ns(self.scenario.slowest(unit)):
                    self.world.violated("unsettled", f"{unit.name}: {dict(note.fields)}")
