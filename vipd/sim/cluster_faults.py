"""Faults of a cluster: its channel, its handovers, its operators.

Each method breaks something and returns for how long, and how it is mended. What makes hosts act
(``channel.ACTING``) is lost, late, or played back by somebody who recorded it; operators contradict
each other; processes and hosts die at a chosen step of a handover (``Tripwire``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vipd.model import MILLISECOND_NS, SECOND_NS, Instant
from vipd.sim import cluster_plans
from vipd.sim.channel import ACTING, GO, Channel
from vipd.sim.cluster_plans import ClusterPlan
from vipd.sim.foreign import ForeignRouter
from vipd.sim.host import Host
from vipd.sim.kernel_faults import Fault, Mend, nothing
from vipd.sim.network import ADVERTS, CHANNEL, Network
from vipd.sim.options import Options
from vipd.sim.plans import MAIN, UnitPlan
from vipd.sim.world import World

if TYPE_CHECKING:
    from vipd.sim.engine import FakeEngine

STEPS = ("leaving", "released", "go-said", "go-heard", "taken-said")
VICTIMS = ("engine", "hang", "supervisor", "both", "host")


@dataclass(slots=True)
class Tripwire:
    """Kill ``victim`` on the ``giver``'s host, or on another one, as soon as ``step`` happens."""

    step: str
    victim: str
    giver: bool


class ClusterFaults:
    """Part of ``Scenario``, which gives it the world, the hosts and the units."""

    world: World
    options: Options
    network: Network
    channel: Channel
    hosts: Sequence[Host]
    cluster: ClusterPlan | None
    healing: bool
    tripwire: Tripwire | None
    foreign_at: Instant
    foreign: ForeignRouter | None

    @property
    def units(self) -> tuple[UnitPlan, ...]:
        raise NotImplementedError

    def changed(self) -> None:
        raise NotImplementedError

    def reload_cluster(self, plan: ClusterPlan) -> Fault:
        raise NotImplementedError

    # --- operators ----------------------------------------------------------------------------

    def pin(self, operator: Host, unit: str, node: str, for_ns: int = 0) -> None:
        """``vipd switchover`` on any host; ``node`` empty: ``--auto``."""
        if operator.supervisor is not None and not self.healing:
            self.changed()
            self.world.coverage["pins ordered"] += 1
            operator.supervisor.order_pin(unit, node, for_ns)

    def _anybody(self) -> Host:
        return self.world.rng.choice(self.hosts)

    def _unit(self) -> str:
        return self.world.rng.choice(self.units).name

    def _pin(self, host: Host) -> Fault:
        unit, rng = self._unit(), self.world.rng
        others = [each for each in self.hosts if each is not host]
        target = host if self.world.chance(0.2) else rng.choice(others)
        self.pin(self._anybody(), unit, target.name, rng.choice((0, 0, 3, 8)) * SECOND_NS)
        return self.world.span(300, 6000), lambda: self._unpin(unit)

    def _unpin(self, unit: str) -> None:
        if self.world.chance(0.5):
            self.pin(self._anybody(), unit, "")

    def leave_pins(self) -> None:
        """Not every unit belongs to the best node in the end."""
        for unit in self.units:
            supervisor = self._anybody().supervisor
            if supervisor is not None and self.world.chance(0.4):
                supervisor.order_pin(unit.name, self._anybody().name, 0)

    def _two_pins(self, _host: Host) -> Fault:
        """Two operators on two hosts at the same moment, each for another node."""
        unit = self._unit()
        first, second = self.world.rng.sample(list(self.hosts), 2)
        self.pin(first, unit, first.name)
        self.world.after(
            self.world.between(0, 30 * MILLISECOND_NS), self.pin, second, unit, second.name
        )
        return self.world.span(500, 5000), lambda: self._unpin(unit)

    def _pin_storm(self, _host: Host) -> Fault:
        unit, at = self._unit(), 0
        for _ in range(self.world.rng.randint(4, 14)):
            at += self.world.span(5, 500)
            self.world.after(at, self.pin, self._anybody(), unit, self._anybody().name)
        return at + 500 * MILLISECOND_NS, lambda: self._unpin(unit)

    def _two_maintenances(self, host: Host) -> Fault:
        other = self.world.rng.choice([each for each in self.hosts if each is not host])
        chosen = [each for each in (host, other) if not each.maintenance]
        for each in chosen:
            each.maintenance = True
            each.tell_orders()

        def mend() -> None:
            for each in chosen:
                each.maintenance = False
                each.tell_orders()

        return self.world.span(500, 6000), mend

    # --- messages that make hosts act -----------------------------------------------------------

    def _kinds(self) -> list[int]:
        kinds = sorted(ACTING)
        return self.world.rng.sample(kinds, self.world.rng.randint(1, len(kinds)))

    def _acts_lost(self, host: Host) -> Fault:
        share = self.world.rng.choice((0.5, 0.9, 1.0))
        kinds = [GO] if self.world.chance(0.4) else self._kinds()
        self.channel.loses = dict.fromkeys(kinds, share)
        self._pin(host)
        return self.world.span(500, 8000), self.channel.loses.clear

    def _acts_late(self, host: Host) -> Fault:
        share = self.world.rng.choice((0.2, 0.6, 1.0))
        self.channel.delays = dict.fromkeys(self._kinds(), share)
        self._pin(host)
        return self.world.span(500, 8000), self.channel.delays.clear

    def _replays(self, host: Host) -> Fault:
        """Somebody plays back what was said, and best to a host that has just forgotten it."""
        if self.world.chance(0.4) and host.running:
            host.kill_both()
            host.start_later(self.world.span(50, 2000))
        acts = self.world.chance(0.7)
        lasts = self.world.span(300, 6000)
        if not self.channel.replay(acts, self.world.rng.randint(1, 60), lasts):
            return None
        return lasts, nothing

    # --- the network ----------------------------------------------------------------------------

    def _cut_traffic(self, traffic: str, *, both: bool, interface: str = "") -> Fault:
        one, other = self.world.rng.sample(list(self.hosts), 2)
        pairs = [(one, other)]
        if both:
            pairs = [(a, b) for a in self.hosts for b in self.hosts if a is not b]
        for sender, receiver in pairs:
            self.network.cut(sender, receiver, interface, traffic)

        def mend() -> None:
            for sender, receiver in pairs:
                self.network.mend(sender, receiver, interface, traffic)

        return self.world.span(200, 9000), mend

    def _channel_cut(self, _host: Host) -> Fault:
        return self._cut_traffic(CHANNEL, both=True)

    def _channel_cut_one_way(self, _host: Host) -> Fault:
        return self._cut_traffic(CHANNEL, both=False)

    def _adverts_cut(self, _host: Host) -> Fault:
        return self._cut_traffic(ADVERTS, both=True)

    def _adverts_cut_one_way(self, _host: Host) -> Fault:
        return self._cut_traffic(ADVERTS, both=False)

    def _path_cut(self, _host: Host) -> Fault:
        """One of the channel's paths."""
        if self.cluster is None:
            return None
        path = self.world.rng.choice(self.cluster.paths)
        cut = self._cut_traffic(CHANNEL, both=self.world.chance(0.6), interface=path)
        return None if cut is None else (self.world.span(2000, 14_000), cut[1])

    # --- deaths ---------------------------------------------------------------------------------

    def _killed_in_handover(self, host: Host) -> Fault:
        """A handover begins, and somebody dies at one of its steps."""
        rng = self.world.rng
        self.tripwire = Tripwire(rng.choice(STEPS), rng.choice(VICTIMS), self.world.chance(0.5))
        if self.world.chance(0.2):
            host.stop()
            host.start_later(self.world.span(2000, 5000))
        else:
            self._pin(host)

        def mend() -> None:
            self.tripwire = None
            for each in self.hosts:
                each.reboot()
                if not each.running:
                    each.start()

        return self.world.span(2000, 5000), mend

    def step(self, engine: FakeEngine, step: str) -> None:
        """A handover came to ``step`` on this engine's host."""
        self.world.coverage[f"step {step}"] += 1
        wire = self.tripwire
        if wire is None or wire.step != step:
            return
        self.tripwire = None
        gives = step in ("leaving", "released", "go-said")
        host = engine.host
        if gives != wire.giver:
            host = self.world.rng.choice([each for each in self.hosts if each is not host])
        self.world.coverage[f"killed at {step}"] += 1
        self.world.after(self.world.between(0, 2 * MILLISECOND_NS), self._kill, host, wire.victim)

    def _kill(self, host: Host, victim: str) -> None:
        self.world.trace("FAULT", f"{host.name}: {victim} dies")
        if victim == "engine":
            host.engine_crashes()
        elif victim == "hang":
            host.engine_hangs()
        elif victim == "supervisor":
            host.stop()
        elif victim == "both":
            host.kill_both()
        else:
            host.crash()
        self.changed()

    def _flaps_in_handover(self, host: Host) -> Fault:
        """Priorities move while mastership does."""
        if not self.options.checks:
            return None
        self._pin(host)
        check, at = self.world.rng.choice(self.options.checks), 0
        for _ in range(self.world.rng.randint(2, 8)):
            at += self.world.span(1, 300)
            self.world.after(at, self._flip_somewhere, check)
        return at + self.world.span(100, 3000), lambda: self._at_rest(check)

    def _flip_somewhere(self, check: object) -> None:
        if not self.healing:
            self._flip(self._anybody(), check)  # type: ignore[attr-defined]

    def _at_rest(self, check: object) -> None:
        for each in self.hosts:
            each.turns(self.at_rest(check))  # type: ignore[attr-defined]

    def _counter_lost(self, host: Host) -> Fault:
        """The file with the restart counter is gone; only the wall clock is left."""
        host.kept_incarnation = 0
        if not host.running:
            return None
        host.kill_both()
        return self.world.span(50, 3000), host.start

    def _rolling_restart(self, _host: Host) -> Fault:
        at = 0
        for each in self.hosts:
            self.world.after(at, self._restart, each)
            at += 2 * SECOND_NS + self.world.span(500, 4000)
        return at, nothing

    def _restart(self, host: Host) -> None:
        if not self.healing and host.lively:
            self.changed()
            host.stop()
            host.start_later(self.world.span(300, 2000))

    # --- others -------------------------------------------------------------------------------

    def _foreign_speaker(self, _host: Host) -> Fault:
        plans = [m for unit in self.units for m in unit.members if not m.unicast]
        plans = [plan for plan in plans if plan.interface == MAIN]
        if not plans:
            return None
        plan = self.world.rng.choice(plans)
        priority = self.world.rng.choice((1, 60, 120, 254))
        router = ForeignRouter(self.world, self.network, plan, priority)
        self.foreign = router

        def mend() -> None:
            router.leave()
            self.foreign = None
            self.foreign_at = self.world.now

        return self.world.span(2000, 9000), mend

    # --- reloads --------------------------------------------------------------------------------

    def _reload_cluster(self, _host: Host) -> Fault:
        if self.cluster is None:
            return None
        return self.reload_cluster(cluster_plans.other_timing(self.cluster, self.world.rng))

    def _reload_keys(self, _host: Host) -> Fault:
        """Add, swap, retire: each step on all hosts before the next one."""
        if self.cluster is None:
            return None
        at = 0
        for number in range(3):
            self.world.after(at, self._key_step, number)
            at += 2 * SECOND_NS
        return at, nothing

    def _key_step(self, number: int) -> None:
        if self.cluster is not None:  # also while healing: half a rotation is no configuration
            self.changed()
            self.reload_cluster(cluster_plans.key_step(self.cluster, number))

    def _reload_nodes(self, _host: Host) -> Fault:
        """A node joins the file that nobody has installed yet; or it leaves it again."""
        if self.cluster is None:
            return None
        plan = self.cluster
        return self.reload_cluster(replace(plan, ghost=not plan.ghost, edition=plan.edition + 1))

    def _drift(self, host: Host) -> Fault:
        """One host misses a reload."""
        host.drifted = True
        host.reload()
        mend: Mend = lambda: self._drift_ends(host)  # noqa: E731
        return self.world.span(2000, 14_000), mend

    def _drift_ends(self, host: Host) -> None:
        host.drifted = False
        host.reload()
