"""What happens to the hosts: faults drawn one after the other, then everything is mended.

Each fault kind is one method that breaks something and returns how to mend it. A fault is
*active* until it is mended; ``changed_at`` is when one last began or ended. In the heal phase
nothing new breaks, and every daemon that is down is started.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from vipd.model import (
    MILLISECOND_NS,
    OWNER_PRIORITY,
    SECOND_NS,
    Duration,
    Instant,
    NodeConfig,
    VipKey,
)
from vipd.sim import reloads
from vipd.sim.channel import Channel
from vipd.sim.cluster_faults import ClusterFaults, Tripwire
from vipd.sim.cluster_plans import ClusterPlan
from vipd.sim.foreign import ForeignRouter
from vipd.sim.host import ENGINE_TIMEOUT_NS, Host
from vipd.sim.kernel_faults import Fault, KernelFaults, Mend, nothing
from vipd.sim.mastership_faults import MastershipFaults
from vipd.sim.network import Network
from vipd.sim.options import Options
from vipd.sim.plans import GroupPlan, InstancePlan, UnitPlan, units_of
from vipd.sim.world import World

_GENTLE = frozenset(("pin", "maintenance", "stop", "rolling-restart", "check-flips"))
_ROUGH_NS = 5 * SECOND_NS
"""So long after anything else a cluster may still be busy with it."""


class Scenario(KernelFaults, MastershipFaults, ClusterFaults):
    """Draws and plays the faults of one run; holds the configuration as it is desired now."""

    def __init__(self, world: World, options: Options, network: Network) -> None:
        self.world = world
        self.options = options
        self.network = network
        self.channel = Channel(world, network)
        self.cluster: ClusterPlan | None = options.cluster
        self.tripwire: Tripwire | None = None
        self.foreign_at: Instant = -1
        self.foreign: ForeignRouter | None = None
        self.units_changed_at: Instant = 0
        self.worth_changed_at: Instant = 0
        self.renumbered = False
        self.on_change: Callable[[], None] = nothing
        self._rough = 0
        self._rough_at: Instant = 0
        self.hosts: Sequence[Host] = ()
        self.instances: tuple[InstancePlan, ...] = options.instances
        self.groups: tuple[GroupPlan, ...] = options.groups
        self.generation = 0
        self.active = 0
        self.changed_at: Instant = 0
        self._units: tuple[UnitPlan, ...] = ()
        self.vip_keys: set[VipKey] = set()
        self.foreign_twice: dict[Host, set[VipKey]] = {}
        self.longest_lifetime_s = 0
        self._foreign_once: dict[Host, set[VipKey]] = {}
        self._slowest: dict[int, InstancePlan] = {}
        self._mends: dict[int, Mend] = {}
        self._count = 0
        self.healing = False
        self._mend_network: list[Mend] = []
        self._remember()

    def config(self, host: int) -> NodeConfig:
        plans, cluster = self.options.hosts, None
        if self.cluster is not None:
            missed = self.hosts[host].drifted
            cluster = self.cluster.config_for(plans, -1 if missed else self.generation)
        return NodeConfig(
            plans[host].name,
            tuple(plan.config_for(host, plans) for plan in self.instances),
            self.generation,
            tuple(group.config_for(host) for group in self.groups),
            cluster,
        )

    @property
    def units(self) -> tuple[UnitPlan, ...]:
        return self._units

    def slowest(self, unit: UnitPlan) -> UnitPlan:
        """The unit with the slowest interval that any of its routers had in this run."""
        places = {plan.name: at for at, plan in enumerate(self.instances)}
        members = tuple(self._slowest[places[member.name]] for member in unit.members)
        return replace(unit, members=members)

    @property
    def handover_ns(self) -> Duration:
        """Network and kernel, there and back, while no fault is active."""
        return 2 * self.network.slowest_ns + 4 * self.options.netlink_ns[1]

    @property
    def is_quiet(self) -> bool:
        """Nothing is going on, but perhaps for one thing that a cluster should hardly notice."""
        rests = self.world.now - self._rough_at > _ROUGH_NS
        return rests and not self._rough and self.active <= 1

    def changed(self) -> None:
        super().changed()
        self.on_change()

    def _verdict_changed(self) -> None:
        self.worth_changed_at = self.world.now
        self.changed()

    def _remember(self) -> None:
        self.changed()
        self.units_changed_at = self.worth_changed_at = self.world.now
        self._units = units_of(self.instances, self.groups)
        self.vip_keys = {key for unit in self._units for key in unit.keys}
        slowest: dict[int, InstancePlan] = {}
        for at, plan in enumerate(self.instances):  # names and VRIDs may change, places do not
            known = self._slowest.get(at, plan)
            intervals = tuple(map(max, known.intervals_ns, plan.intervals_ns))
            slowest[at] = replace(plan, intervals_ns=intervals)
        self._slowest = slowest
        lifetimes = [plan.lifetime_s for plan in self.instances]
        self.longest_lifetime_s = max(self.longest_lifetime_s, *lifetimes)

    # --- phases -------------------------------------------------------------------------------

    def begin(self) -> None:
        for at, host in enumerate(self.hosts):
            self.foreign_twice[host] = set()
            host.knows(self.options.checks, self.options.first_verdict_ns)
            host.on_verdict = self._verdict_changed
            host.owned = tuple(
                (vip.interface, vip.address, vip.prefix)
                for plan in self.instances
                if plan.priorities[at] == OWNER_PRIORITY
                for vip in plan.vips
            )
            if self.cluster is not None:
                host.channel, host.paths = self.channel, self.cluster.paths
                host.speaks = self.cluster.speaks[at]
                host.on_step = self.step
            host.boot()
            self.world.after(self.world.between(0, 2 * SECOND_NS), host.start)
        self._plan_next()

    def heal(self) -> None:
        """End of the fault phase: everything works from now on."""
        self.healing = True
        self.tripwire = None
        for number in list(self._mends):
            self._end(number)
        for host in self.hosts:
            host.reboot()
            host.thaw()
            host.start()
        self.leave_verdicts_and_orders()
        if self.cluster is not None:
            self.leave_pins()

    def _plan_next(self) -> None:
        gap = self.options.fault_gap_ns
        self.world.after(self.world.between(gap // 4, 2 * gap), self._strike)

    def _strike(self) -> None:
        if self.healing:
            return
        kind = self.world.rng.choice(self.options.fault_kinds)
        host = self.world.rng.choice(self.hosts)
        if self.world.chance(0.6):
            host = self._busy_host()
        self.changed()
        others = [each for each in self.hosts if each is not host]
        for chosen in (host, *others):  # not every host can have every fault at any time
            fault = getattr(self, "_" + kind.replace("-", "_"))(chosen)
            if fault is not None:
                self._begin(kind, fault, chosen)
                break
        self._plan_next()

    def _busy_host(self) -> Host:
        """A host with VIPs, if there is one: faults are most interesting where the master is."""
        holders = [host for host in self.hosts if host.holds_tagged()]
        return self.world.rng.choice(holders or list(self.hosts))

    def _begin(self, kind: str, fault: tuple[Duration, Mend], host: Host) -> None:
        duration, mend = fault
        self.world.coverage[f"fault {kind}"] += 1
        self.world.trace("FAULT", f"{kind} {host.name} for {duration / SECOND_NS:.3f} s")
        self._count += 1
        self.active += 1
        self.changed()
        number = self._count
        if kind not in _GENTLE:
            self._rough += 1
            self._rough_at = self.world.now
            mend = self._smoothing(mend)
        self._mends[number] = mend
        self.world.after(duration, self._end, number)

    def _smoothing(self, mend: Mend) -> Mend:
        def mend_and_rest() -> None:
            self._rough -= 1
            self._rough_at = self.world.now
            mend()

        return mend_and_rest

    def _end(self, number: int) -> None:
        mend = self._mends.pop(number, None)
        if mend is not None:
            self.world.trace("FAULT", f"number {number} ends")
            self.active -= 1
            self.changed()
            mend()

    # --- the network --------------------------------------------------------------------------

    def _cut(self, host: Host) -> Fault:
        return self._cut_links([(host, o) for o in self.hosts] + [(o, host) for o in self.hosts])

    def _one_way_cut(self, host: Host) -> Fault:
        others = [other for other in self.hosts if other is not host]
        other = self.world.rng.choice(others)
        pair = (host, other) if self.world.chance(0.5) else (other, host)
        return self._cut_links([pair])

    def _cut_links(self, links: list[tuple[Host, Host]]) -> Fault:
        for sender, receiver in links:
            self.network.cut(sender, receiver)

        def mend() -> None:
            for sender, receiver in links:
                self.network.mend(sender, receiver)

        return self.world.span(200, 12_000), mend

    def _loss(self, _host: Host) -> Fault:
        self.network.loss = self.world.rng.choice((0.1, 0.3, 0.6, 0.9))
        return self.world.span(1000, 10_000), lambda: setattr(self.network, "loss", 0.0)

    def _slow_network(self, _host: Host) -> Fault:
        network = self.network
        network.extra_delay_ns = self.world.rng.choice((20, 200, 1500)) * MILLISECOND_NS
        network.duplication = self.world.rng.choice((0.0, 0.2, 0.8))

        def mend() -> None:
            network.extra_delay_ns, network.duplication = 0, 0.0

        # The last slow packet may still be under way when the network is good again.
        return self.world.span(1000, 10_000), mend

    # --- processes and machines ---------------------------------------------------------------

    def _engine_crash(self, host: Host) -> Fault:
        if not host.lively:
            return None
        host.engine_crashes()
        return 1500 * MILLISECOND_NS, host.start

    def _engine_hang(self, host: Host) -> Fault:
        if not host.lively:
            return None
        host.engine_hangs()
        return ENGINE_TIMEOUT_NS + 1500 * MILLISECOND_NS, host.start

    def _supervisor_death(self, host: Host) -> Fault:
        if not host.lively:
            return None
        host.stop()
        return self.world.span(1000, 3000), lambda: self._start_when_ended(host)

    def _stop(self, host: Host) -> Fault:
        if not host.lively:
            return None
        host.stop()
        host.start_later(self.world.span(3000, 12_000))
        return 500 * MILLISECOND_NS, nothing

    def _start_when_ended(self, host: Host) -> None:
        """A daemon that still releases is ended by the service manager (``TimeoutStopSec``)."""
        if host.running and host.stopped and not self.healing:
            self.world.after(SECOND_NS, self._start_when_ended, host)
            return
        if host.running and host.stopped:
            host.kill_both()
        host.start()

    def _kill_both(self, host: Host) -> Fault:
        if not host.running:
            return None
        host.kill_both()
        return self.world.span(100, 9000), host.start

    def _host_crash(self, host: Host) -> Fault:
        if not host.up:
            return None
        host.crash()
        if self.world.chance(0.5):
            return self.world.span(1000, 9000), host.reboot
        self.world.after(self.world.span(4000, 12_000), self._reboot_later, host)
        return 500 * MILLISECOND_NS, nothing

    def _reboot_later(self, host: Host) -> None:
        host.reboot()

    def _pause(self, host: Host) -> Fault:
        """One host's processes freeze, or all of them: virtual machines on one machine."""
        if not host.lively:
            return None
        frozen = list(self.hosts) if self.world.chance(0.25) else [host]
        for each in frozen:
            each.pause()

        def mend() -> None:
            for each in frozen:
                each.thaw()

        return self.world.span(5, 8000), mend

    # --- reloads ------------------------------------------------------------------------------

    def _reload(self, changed: reloads.Desired | None, checks: Sequence[str] = ()) -> Fault:
        """All hosts take the new configuration over, one after the other; ``checks`` are new."""
        if changed is None:
            return None
        self.instances, self.groups = changed
        self.generation += 1
        self._remember()
        for host in self.hosts:
            delay = self.world.between(0, 1500 * MILLISECOND_NS)
            self.world.after(delay, self._reload_on, host, checks)
        return 1600 * MILLISECOND_NS, nothing

    def reload_cluster(self, plan: ClusterPlan) -> Fault:
        """All hosts take the new section over, one after the other."""
        self.cluster = plan
        return self._reload((self.instances, self.groups))

    def _reload_on(self, host: Host, checks: Sequence[str]) -> None:
        self.units_changed_at = self.worth_changed_at = self.world.now
        if host.supervisor is not None:
            for check in checks:
                host.supervisor.begins_anew(check)
        host.reload()
        self.changed()

    def _reload_drawn(self, change: reloads.Change) -> Fault:
        desired = (self.instances, self.groups)
        return self._reload(reloads.changed_unit(desired, change, self.world.rng))

    def _reload_vips(self, _host: Host) -> Fault:
        return self._reload_drawn(reloads.other_vips)

    def _reload_priority(self, _host: Host) -> Fault:
        return self._reload_drawn(reloads.other_priorities)

    def _reload_interval(self, _host: Host) -> Fault:
        return self._reload_drawn(reloads.other_interval)

    def _reload_identity(self, _host: Host) -> Fault:
        return self._reload_drawn(reloads.other_identity)

    def _reload_name(self, _host: Host) -> Fault:
        return self._reload(reloads.renamed((self.instances, self.groups), self.world.rng))

    def _reload_tracks(self, _host: Host) -> Fault:
        """Something else is tracked; often its check is a new one."""
        if not self.options.tracks:
            return None
        desired = (self.instances, self.groups)
        news = [check.name for check in self.options.checks if self.world.chance(0.3)]
        changed = reloads.other_tracks(desired, self.options.tracks, self.world.rng)
        return self._reload(changed, news)

    def _reload_group(self, _host: Host) -> Fault:
        return self._reload(reloads.regrouped((self.instances, self.groups), self.world.rng))
