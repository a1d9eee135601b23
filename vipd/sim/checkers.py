"""Plain mode's promises about each single host, judged in true time.

=====================  =========================================================================
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

What is promised of all hosts together is in ``convergence.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    Note,
    NoteKind,
    Reason,
    State,
    VipKey,
    format_address,
)
from vipd.sim.cluster_checkers import ClusterCheckers
from vipd.sim.convergence import Convergence, Lasting
from vipd.sim.engine import FakeEngine
from vipd.sim.host import Host
from vipd.sim.judge import Judge, unit_of
from vipd.sim.plans import checks_of
from vipd.sim.reference import LATE_GRACE_NS, Twin
from vipd.sim.scenario import Scenario
from vipd.sim.world import World

SWEEP_NS = 200 * MILLISECOND_NS
REACTION_NS = 700 * MILLISECOND_NS
RETRIED_NS = 3 * SECOND_NS
STALE_NS = 3 * SECOND_NS
LAST_WORD_NS = 1200 * MILLISECOND_NS


class Checkers:
    """Looks at all hosts every ``SWEEP_NS``, and at some things when they happen."""

    def __init__(
        self, world: World, hosts: Sequence[Host], scenario: Scenario, judge: Judge
    ) -> None:
        self.world = world
        self.hosts = hosts
        self.scenario = scenario
        self.judge = judge
        self._lasting = Lasting(world)
        self._lasts = self._lasting.lasts
        self.cluster: ClusterCheckers | None = None
        self.convergence = Convergence(world, hosts, scenario, self._lasting)
        if scenario.cluster is not None:
            self.cluster = ClusterCheckers(world, hosts, scenario, self._lasting)
            self.convergence = self.cluster.convergence
            judge.cluster = self.cluster.judge
        judge.on_note = self._noted
        for host in hosts:
            host.kernel.on_change = lambda key, host=host: judge.address_changed(host, key)  # type: ignore[misc]
            host.kernel.on_expiry = lambda key, host=host: self._expired(host, key)  # type: ignore[misc]
        world.after(SWEEP_NS, self._sweep)

    def _sweep(self) -> None:
        self._lasting.next_sweep()
        for host in self.hosts:
            if not host.running:
                self._judge_dead(host)
            elif host.lively and host.engine is not None:
                self._judge_living(host, host.engine)
        self.convergence.sweep()
        if self.cluster is not None:
            self.cluster.sweep()
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
        slowest = int(interval_ns * (1.53 if twin.is_asking else 1.02)) + 2 * LATE_GRACE_NS
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

    # --- notes --------------------------------------------------------------------------------

    def _noted(self, engine: FakeEngine, note: Note) -> None:
        coverage, fields = self.world.coverage, note.fields
        coverage[f"note {note.kind.value}"] += 1
        if note.kind is NoteKind.HEALTH_STALE:
            silent = engine.now() - self.judge.told[engine.host].health_at
            if silent < STALE_NS:
                text = f"{engine.host.name}: {silent / SECOND_NS:.3f} s"
                self.world.violated("stale-unfounded", text)
        if self.cluster is not None:
            self.cluster.noted(engine, note)
        if note.kind is NoteKind.TRANSITION:
            coverage[f"reason {fields['reason']}"] += 1
            coverage["takeovers"] += fields["to"] == State.MASTER.value
            self.convergence.transition(engine, note)
