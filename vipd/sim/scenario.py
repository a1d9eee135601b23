"""What happens to the hosts: faults drawn one after the other, then everything is mended.

Each fault kind is one method that breaks something and returns how to mend it. A fault is
*active* until it is mended; ``changed_at`` is when one last began or ended. In the heal phase
nothing new breaks, and every daemon that is down is started.
"""

from __future__ import annotations

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
    parse_address,
)
from vipd.sim.host import ENGINE_TIMEOUT_NS, Host
from vipd.sim.network import Network
from vipd.sim.options import MAIN, SIDE, InstancePlan, Options, main_vip
from vipd.sim.world import World

Mend: TypeAlias = Callable[[], None]
Fault: TypeAlias = tuple[Duration, Mend] | None
"""For how long, and how it ends; None: nothing could be broken."""

_EPERM, _ENOBUFS = 1, 105


class Scenario:
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
        self._healing = False
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
        self._healing = True
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
        if self._healing:
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

    def _span(self, low_ms: int, high_ms: int) -> Duration:
        """Mostly short, sometimes long."""
        share = self.world.rng.random() ** 2
        return int((low_ms + share * (high_ms - low_ms)) * MILLISECOND_NS)

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

        return self._span(200, 12_000), mend

    def _loss(self, _host: Host) -> Fault:
        self.network.loss = self.world.rng.choice((0.1, 0.3, 0.6, 0.9))
        return self._span(1000, 10_000), lambda: setattr(self.network, "loss", 0.0)

    def _slow_network(self, _host: Host) -> Fault:
        network = self.network
        network.extra_delay_ns = self.world.rng.choice((20, 200, 1500)) * MILLISECOND_NS
        network.duplication = self.world.rng.choice((0.0, 0.2, 0.8))

        def mend() -> None:
            network.extra_delay_ns, network.duplication = 0, 0.0

        # The last slow packet may still be under way when the network is good again.
        return self._span(1000, 10_000), mend

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
        return self._span(1000, 3000), lambda: self._start_when_ended(host)

    def _stop(self, host: Host) -> Fault:
        if not host.lively:
            return None
        host.stop()
        host.start_later(self._span(3000, 12_000))
        return 500 * MILLISECOND_NS, _nothing

    def _start_when_ended(self, host: Host) -> None:
        """A daemon that still releases is ended by the service manager (``TimeoutStopSec``)."""
        if host.running and host.stopped and not self._healing:
            self.world.after(SECOND_NS, self._start_when_ended, host)
            return
        if host.running and host.stopped:
            host.kill_both()
        host.start()

    def _kill_both(self, host: Host) -> Fault:
        if not host.running:
            return None
        host.kill_both()
        return self._span(100, 9000), host.start

    def _host_crash(self, host: Host) -> Fault:
        if not host.up:
            return None
        host.crash()
        if self.world.chance(0.5):
            return self._span(1000, 9000), host.reboot
        self.world.after(self._span(4000, 12_000), self._reboot_later, host)
        return 500 * MILLISECOND_NS, _nothing

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

        return self._span(5, 8000), mend

    # --- the kernel ---------------------------------------------------------------------------

    def _netlink_refuses(self, host: Host) -> Fault:
        """Orders are refused; often at the moment in which a VIP has to be put back."""
        host.netlink_errno = self.world.rng.choice((_EPERM, _ENOBUFS))
        keys = sorted(host.kernel.tagged & self.vip_keys)
        if keys and self.world.chance(0.4):
            self._delete(host, [self.world.rng.choice(keys)])

        def mend() -> None:
            host.netlink_errno = 0
            host.disturbed()

        return self._span(100, 2500), mend

    def _send_refused(self, host: Host) -> Fault:
        host.send_errno = self.world.rng.choice((_EPERM, _ENOBUFS))

        def mend() -> None:
            host.send_errno = 0
            host.disturbed()

        return self._span(100, 4000), mend

    def _netlink_overflow(self, host: Host) -> Fault:
        """Events are lost; often just those that say that a VIP is back."""
        engine = host.engine
        if engine is None:
            return None
        keys = sorted(host.kernel.tagged & self.vip_keys)
        if keys and self.world.chance(0.5):
            self._delete(host, [self.world.rng.choice(keys)])
        engine.overflowing = True

        def mend() -> None:
            host.disturbed()
            if engine.alive:
                engine.overflowed()

        return self._span(10, 500), mend

    def _address_deleted(self, host: Host) -> Fault:
        keys = sorted(host.kernel.tagged & self.vip_keys)
        if not keys:
            return None
        chosen = self.world.rng.sample(keys, self.world.rng.randint(1, len(keys)))
        times = self.world.rng.choice((1, 1, 1, 2, 9))
        for number in range(times):
            self.world.after(number * 300 * MILLISECOND_NS, self._delete, host, chosen)
        return times * 300 * MILLISECOND_NS, _nothing

    def _delete(self, host: Host, keys: list[VipKey]) -> None:
        for key in keys:
            if host.kernel.has(key) and not host.owned:
                self.world.coverage["addresses deleted"] += 1
                host.kernel.delete_vip(key)

    def _foreign_address(self, host: Host) -> Fault:
        """Somebody adds a VIP by hand to a host that does not hold it."""
        keys = sorted(key for key in self.vip_keys if not host.kernel.has(key))
        if not keys or host.owned or not host.up:
            return None
        key = self.world.rng.choice(keys)
        if key[0] not in host.kernel.links:
            return None
        if key in self.foreign_twice[host]:
            return None
        if key in self._foreign_once.setdefault(host, set()):
            self.foreign_twice[host].add(key)
        self._foreign_once[host].add(key)
        again = self.world.chance(0.3)
        prefix = self.world.rng.choice((24, 32)) if len(key[1]) == 4 else 64
        self._add_foreign(host, key, prefix)
        if again:
            self.world.after(2 * SECOND_NS, self._add_foreign_again, host, key, prefix)
            return 4 * SECOND_NS, lambda: self._remove_foreign(host, key, prefix)
        return 2 * SECOND_NS, lambda: self._remove_foreign(host, key, prefix)

    def _add_foreign(self, host: Host, key: VipKey, prefix: int) -> None:
        if not host.kernel.has(key):
            host.kernel.add(key[0], key[1], prefix, tag=0, lifetime_s=None)

    def _add_foreign_again(self, host: Host, key: VipKey, prefix: int) -> None:
        self.foreign_twice[host].add(key)
        self._add_foreign(host, key, prefix)

    def _remove_foreign(self, host: Host, key: VipKey, prefix: int) -> None:
        if key in host.kernel.foreign and key not in host.kernel.tagged:
            host.kernel.remove(key[0], key[1], prefix)

    def _link_down(self, host: Host) -> Fault:
        name = MAIN if self.world.chance(0.8) else SIDE
        if not host.link_is_up(name):
            return None
        host.kernel.set_link(name, up=False, admin=self.world.chance(0.5))
        return self._span(50, 6000), lambda: host.link_restored(name)

    def _link_recreated(self, host: Host) -> Fault:
        name = MAIN if self.world.chance(0.8) else SIDE
        if name not in host.kernel.links:
            return None
        host.kernel.delete_link(name)
        return self._span(5, 4000), lambda: host.recreate_link(name)

    def _second_address(self, host: Host) -> Fault:
        """A lower address comes and goes; a dump may list it first."""
        lower = parse_address("192.0.2.2"), parse_address("fe80::2")
        for address, prefix in zip(lower, (24, 64), strict=True):
            host.kernel.add(MAIN, address, prefix, tag=0, lifetime_s=None)
        host.disturbed()
        if host.engine is not None and self.world.chance(0.6):
            host.engine.overflowed()

        def mend() -> None:
            for address, prefix in zip(lower, (24, 64), strict=True):
                host.kernel.remove(MAIN, address, prefix)
            host.disturbed()

        return self._span(500, 8000), mend

    def _new_mac(self, host: Host) -> Fault:
        mac = bytes((2, 1, 0, 0, 0, self.world.rng.randint(1, 250)))
        host.kernel.set_mac(MAIN, mac)
        return 100 * MILLISECOND_NS, _nothing

    # --- reloads ------------------------------------------------------------------------------

    def _reload(self, changed: InstancePlan, at: int) -> Fault:
        """All hosts take the new configuration over, one after the other."""
        self.instances = (*self.instances[:at], changed, *self.instances[at + 1 :])
        self.generation += 1
        self._remember()
        for host in self.hosts:
            self.world.after(self.world.between(0, 1500 * MILLISECOND_NS), self._reload_on, host)
        return 1600 * MILLISECOND_NS, _nothing

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

    def _reload_vips(self, _host: Host) -> Fault:
        picked = self._pick()
        if picked is None:
            return None
        at, plan = picked
        extra = [vip for vip in plan.vips if not vip.advertise]
        count = self.world.rng.choice((1, 2, 3, 6, 12))
        first = [main_vip(plan.family, at, number) for number in range(count)]
        if count > 2 and self.world.chance(0.5):
            del first[1 + self.world.between(0, count - 2)]
        return self._reload(replace(plan, vips=(*first, *extra)), at)

    def _reload_priority(self, _host: Host) -> Fault:
        picked = self._pick()
        if picked is None:
            return None
        at, plan = picked
        priorities = list(plan.priorities)
        self.world.rng.shuffle(priorities)
        priorities[0] = self.world.rng.randint(1, 254)
        return self._reload(replace(plan, priorities=tuple(priorities)), at)

    def _reload_interval(self, _host: Host) -> Fault:
        picked = self._pick()
        if picked is None:
            return None
        at, plan = picked
        choices = (1000, 2000, 3000) if plan.version == 2 else (100, 300, 1000, 1500)
        interval = self.world.rng.choice(choices) * MILLISECOND_NS
        return self._reload(replace(plan, intervals_ns=(interval,) * len(self.hosts)), at)

    def _reload_identity(self, _host: Host) -> Fault:
        """Another VRID: the router leaves, and its successor of the same name starts."""
        picked = self._pick()
        if picked is None:
            return None
        at, plan = picked
        return self._reload(replace(plan, vrid=plan.vrid % 250 + 4), at)


def _nothing() -> None:
    """The fault was over at once."""
