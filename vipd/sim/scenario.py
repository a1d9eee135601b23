"""What happens to the hosts: faults drawn one after the other, then everything is mended.

Each fault kind is one method that breaks something and returns how to mend it. A fault is
*active* until it is mended; ``changed_at`` is when one last began or ended. In the heal phase
nothing new breaks, and every daemon that is down is started.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

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
from vipd.sim.host import ENGINE_TIMEOUT_NS, Host
from vipd.sim.kernel_faults import Fault, KernelFaults, Mend, nothing
from vipd.sim.network import Network
from vipd.sim.options import InstancePlan, Options
from vipd.sim.world import World

Change: TypeAlias = Callable[[InstancePlan, int, random.Random], InstancePlan]


class Scenario(KernelFaults):
    """Draws and plays the faults of one run; holds the configuration as it is desired now."""

    def __init__(self, world: World, options: Options, network: Network) -> None:
        self.world = world
        self.options = options
        self.network = network
        self.hosts: Sequence[Host] = ()
        self.instances: tuple[InstancePlan, ...] = options.instances
        self.generation = 0
        self.active = 0
        self.changed_at: Instant = 0
        self.keys: dict[str, frozenset[VipKey]] = {}
        self.vip_keys: set[VipKey] = set()
        self.foreign_twice: dict[Host, set[VipKey]] = {}
        self.longest_lifetime_s = 0
        self._foreign_once: dict[Host, set[VipKey]] = {}
        self._slowest: dict[str, InstancePlan] = {}
        self._mends: dict[int, Mend] = {}
        self._count = 0
        self.healing = False
        self._mend_network: list[Mend] = []
        self._remember()

    def config(self, host: int) -> NodeConfig:
        plans = self.options.hosts
        return NodeConfig(
            plans[host].name,
            tuple(plan.config_for(host, plans) for plan in self.instances),
            self.generation,
        )

    def slowest(self, plan: InstancePlan) -> InstancePlan:
        """The plan with the slowest interval that it had in this run."""
        return self._slowest[plan.name]

    @property
    def handover_ns(self) -> Duration:
        """Network and kernel, there and back, while no fault is active."""
        return 2 * self.network.slowest_ns + 4 * self.options.netlink_ns[1]

    def _remember(self) -> None:
        self.changed_at = self.world.now
        self.keys = {plan.name: frozenset(v.key for v in plan.vips) for plan in self.instances}
        self.vip_keys = {key for keys in self.keys.values() for key in keys}
        for plan in self.instances:
            known = self._slowest.get(plan.name, plan)
            intervals = tuple(map(max, known.intervals_ns, plan.intervals_ns))
            self._slowest[plan.name] = replace(plan, intervals_ns=intervals)
        lifetimes = [plan.lifetime_s for plan in self.instances]
        self.longest_lifetime_s = max(self.longest_lifetime_s, *lifetimes)

    # --- phases -------------------------------------------------------------------------------

    def begin(self) -> None:
        for at, host in enumerate(self.hosts):
            self.foreign_twice[host] = set()
            host.owned = tuple(
                (vip.interface, vip.address, vip.prefix)
                for plan in self.instances
                if plan.priorities[at] == OWNER_PRIORITY
                for vip in plan.vips
            )
            host.boot()
            self.world.after(self.world.between(0, 2 * SECOND_NS), host.start)
        self._plan_next()

    def heal(self) -> None:
        """End of the fault phase: everything works from now on."""
        self.healing = True
        for number in list(self._mends):
            self._end(number)
        for host in self.hosts:
            host.reboot()
            host.thaw()
            host.start()

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
        self.changed_at = self.world.now
        self._begin(kind, getattr(self, "_" + kind.replace("-", "_"))(host), host)
        self._plan_next()

    def _busy_host(self) -> Host:
        """A host with VIPs, if there is one: faults are most interesting where the master is."""
        holders = [host for host in self.hosts if host.holds_tagged()]
        return self.world.rng.choice(holders or list(self.hosts))

    def _begin(self, kind: str, fault: Fault, host: Host) -> None:
        if fault is None:
            return
        duration, mend = fault
        self.world.coverage[f"fault {kind}"] += 1
        self.world.trace("FAULT", f"{kind} {host.name} for {duration / SECOND_NS:.3f} s")
        self._count += 1
        self.active += 1
        self.changed_at = self.world.now
        number = self._count
        self._mends[number] = mend
        self.world.after(duration, self._end, number)

    def _end(self, number: int) -> None:
        mend = self._mends.pop(number, None)
        if mend is not None:
            self.world.trace("FAULT", f"number {number} ends")
            self.active -= 1
            self.changed_at = self.world.now
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

    def _reload(self, changed: InstancePlan, at: int) -> Fault:
        """All hosts take the new configuration over, one after the other."""
        self.instances = (*self.instances[:at], changed, *self.instances[at + 1 :])
        self.generation += 1
        self._remember()
        for host in self.hosts:
            self.world.after(self.world.between(0, 1500 * MILLISECOND_NS), self._reload_on, host)
        return 1600 * MILLISECOND_NS, nothing

    def _reload_on(self, host: Host) -> None:
        host.reload()
        self.changed_at = self.world.now

    def _pick(self) -> tuple[int, InstancePlan] | None:
        plain = [
            (at, plan)
            for at, plan in enumerate(self.instances)
            if OWNER_PRIORITY not in plan.priorities
        ]
        return self.world.rng.choice(plain) if plain else None

    def _reload_drawn(self, change: Change) -> Fault:
        picked = self._pick()
        if picked is None:
            return None
        at, plan = picked
        return self._reload(change(plan, at, self.world.rng), at)

    def _reload_vips(self, _host: Host) -> Fault:
        return self._reload_drawn(reloads.other_vips)

    def _reload_priority(self, _host: Host) -> Fault:
        return self._reload_drawn(reloads.other_priorities)

    def _reload_interval(self, _host: Host) -> Fault:
        return self._reload_drawn(reloads.other_interval)

    def _reload_identity(self, _host: Host) -> Fault:
        return self._reload_drawn(reloads.other_identity)
