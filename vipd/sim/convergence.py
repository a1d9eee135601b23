"""Who holds what when nothing is broken any more: plain mode's promises about all hosts.

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
=====================  =========================================================================
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
    Reason,
    State,
    VipKey,
    format_address,
)
from vipd.sim.engine import FakeEngine
from vipd.sim.host import Host
from vipd.sim.plans import UnitPlan
from vipd.sim.scenario import Scenario
from vipd.sim.world import World
from vipd.sim.worth import worth_of

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


class Lasting:
    """What was seen in one sweep after the other, and for how long."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._now: dict[Hashable, Instant] = {}
        self._before: dict[Hashable, Instant] = {}

    def next_sweep(self) -> None:
        self._before, self._now = self._now, {}

    def lasts(self, what: Hashable, since: Instant = 0) -> Duration:
        """For how long ``what``, seen in this sweep, was seen in every sweep; from ``since``."""
        start = self._before.get(what, self.world.now)
        self._now[what] = start
        return self.world.now - max(start, since)


class Convergence:
    """Looks at all hosts together. ``fit_since``: since when nobody backs off."""

    def __init__(
        self, world: World, hosts: Sequence[Host], scenario: Scenario, lasting: Lasting
    ) -> None:
        self.world = world
        self.hosts = hosts
        self.scenario = scenario
        self.calm_since: Instant = 0
        self.fit_since: Instant = 0
        self._lasts = lasting.lasts
        self._participants: tuple[object, ...] = ()
        self._timed_faults: dict[tuple[Host, str], int] = {}

    def converge_ns(self, unit: UnitPlan) -> Duration:
        return converge_ns(unit)

    def sweep(self) -> None:
        self._judge_calm()
        for unit in self.scenario.units:
            self._judge_holders(unit)

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
        if now - max(self.calm_since, self.fit_since) > self.converge_ns(slowest):
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
        self._judge_right(unit, candidates, holders[0])

    def _judge_right(self, unit: UnitPlan, candidates: dict[int, int], holder: int) -> None:
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

    # --- transitions --------------------------------------------------------------------------

    def transition(self, engine: FakeEngine, note: Note) -> None:
        reason = note.fields["reason"]
        if reason == Reason.TIE_LOST.value:
            delay = _OVERLAP_NS + self.scenario.handover_ns
            self.world.after(delay, self._judge_tie, note.instance, self.world.now)
        if reason in _TIMED_FAULTS and note.fields["to"] == State.FAULT.value:
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
                wait_ns = self.converge_ns(self.scenario.slowest(unit))
                if not self.scenario.active and calm > wait_ns:
                    self.world.violated("unsettled", f"{unit.name}: {dict(note.fields)}")
