"""Faults of one host's kernel: refusals, lost messages, addresses and links that others move.

Each method breaks something on ``host`` and returns for how long, and how it is mended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from vipd.model import MILLISECOND_NS, SECOND_NS, Duration, VipKey, parse_address
from vipd.sim.host import Host
from vipd.sim.plans import MAIN, SIDE
from vipd.sim.world import World

Mend: TypeAlias = Callable[[], None]
Fault: TypeAlias = tuple[Duration, Mend] | None
"""For how long, and how it ends; None: nothing could be broken."""

_EPERM, _ENOBUFS = 1, 105


def nothing() -> None:
    """The fault was over at once."""


class KernelFaults:
    """Part of ``Scenario``, which gives it the world and the VIPs as they are configured now."""

    world: World
    healing: bool
    renumbered: bool
    vip_keys: set[VipKey]
    foreign_twice: dict[Host, set[VipKey]]
    _foreign_once: dict[Host, set[VipKey]]

    def _netlink_refuses(self, host: Host) -> Fault:
        """Orders are refused; often at the moment in which a VIP has to be put back."""
        host.netlink_errno = self.world.rng.choice((_EPERM, _ENOBUFS))
        keys = sorted(host.kernel.tagged & self.vip_keys)
        if keys and self.world.chance(0.4):
            self._delete(host, [self.world.rng.choice(keys)])

        def mend() -> None:
            host.netlink_errno = 0
            host.disturbed()

        return self.world.span(100, 2500), mend

    def _send_refused(self, host: Host) -> Fault:
        host.send_errno = self.world.rng.choice((_EPERM, _ENOBUFS))

        def mend() -> None:
            host.send_errno = 0
            host.disturbed()

        return self.world.span(100, 4000), mend

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

        return self.world.span(10, 500), mend

    def _address_deleted(self, host: Host) -> Fault:
        keys = sorted(host.kernel.tagged & self.vip_keys)
        if not keys:
            return None
        chosen = self.world.rng.sample(keys, self.world.rng.randint(1, len(keys)))
        times = self.world.rng.choice((1, 1, 1, 2, 9))
        for number in range(times):
            self.world.after(number * 300 * MILLISECOND_NS, self._delete, host, chosen)
        return times * 300 * MILLISECOND_NS, nothing

    def _delete(self, host: Host, keys: list[VipKey]) -> None:
        for key in keys:
            if host.kernel.has(key) and not host.owned and not self.healing:
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
        if self.healing:
            return
        self.foreign_twice[host].add(key)
        self._add_foreign(host, key, prefix)

    def _remove_foreign(self, host: Host, key: VipKey, prefix: int) -> None:
        if key in host.kernel.foreign and key not in host.kernel.tagged:
            host.kernel.remove(key[0], key[1], prefix)

    def _link_down(self, host: Host) -> Fault:
        name = MAIN if self.world.chance(0.65) else SIDE
        if not host.link_is_up(name):
            return None
        host.kernel.set_link(name, up=False, admin=self.world.chance(0.5))
        return self.world.span(50, 6000), lambda: host.link_restored(name)

    def _link_recreated(self, host: Host) -> Fault:
        name = MAIN if self.world.chance(0.65) else SIDE
        if name not in host.kernel.links:
            return None
        host.kernel.delete_link(name)
        return self.world.span(5, 4000), lambda: host.recreate_link(name)

    def _second_address(self, host: Host) -> Fault:
        """A lower address comes and goes; a dump may list it first. Or it is the only one."""
        lower = parse_address("192.0.2.2"), parse_address("fe80::2")
        for address, prefix in zip(lower, (24, 64), strict=True):
            host.kernel.add(MAIN, address, prefix, tag=0, lifetime_s=None)
        renumbered = self.world.chance(0.3)
        self.renumbered |= renumbered
        if renumbered:
            host.kernel.remove(MAIN, host.plan.ipv4, 24)
        host.disturbed()
        if host.engine is not None and self.world.chance(0.6):
            host.engine.overflowed()

        def mend() -> None:
            if renumbered and host.up:
                host.kernel.add(MAIN, host.plan.ipv4, 24, tag=0, lifetime_s=None)
            for address, prefix in zip(lower, (24, 64), strict=True):
                host.kernel.remove(MAIN, address, prefix)
            host.disturbed()

        return self.world.span(500, 8000), mend

    def _new_mac(self, host: Host) -> Fault:
        mac = bytes((2, 1, 0, 0, 0, self.world.rng.randint(1, 250)))
        host.kernel.set_mac(MAIN, mac)
        return 100 * MILLISECOND_NS, nothing
