"""The network between the hosts: two LANs that carry encoded bytes, more or less well.

Each receiver gets its own copy with its own fate: lost, duplicated, late (and so out of order).
Cuts are kept per direction, because real switches fail in one direction too, and for one LAN or
for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vipd.model import MILLISECOND_NS, Address, Duration
from vipd.sim.world import World
from vipd.translate import OutgoingAdvert
from vipd.wire.receiver import GROUP_IPV4, GROUP_IPV6

if TYPE_CHECKING:
    from vipd.sim.host import Host

_GROUPS = (GROUP_IPV4, GROUP_IPV6)


class Network:
    """``weather`` values are what the faults set; all zero is a good network."""

    def __init__(self, world: World, delay_ns: tuple[Duration, Duration]) -> None:
        self.world = world
        self.hosts: Sequence[Host] = ()
        self.delay_ns = delay_ns
        self.cuts: dict[tuple[Host, Host, str], int] = {}
        self.loss = 0.0
        self.duplication = 0.0
        self.extra_delay_ns: Duration = 0

    def cut(self, sender: Host, receiver: Host, interface: str = "") -> None:
        """``interface`` empty: on all LANs."""
        self.cuts[sender, receiver, interface] = self.cuts.get((sender, receiver, interface), 0) + 1

    def mend(self, sender: Host, receiver: Host, interface: str = "") -> None:
        self.cuts[sender, receiver, interface] -= 1

    def is_cut(self, sender: Host, receiver: Host, interface: str) -> bool:
        return any(self.cuts.get((sender, receiver, which)) for which in ("", interface))

    def send_advert(self, sender: Host, interface: str, advert: OutgoingAdvert) -> None:
        for receiver in self.hosts:
            if receiver is sender:
                continue
            if advert.destination in _GROUPS or receiver.owns(interface, advert.destination):
                self._carry(sender, receiver, interface, advert)

    def send_announcement(
        self, sender: Host, interface: str, mac: bytes, addresses: tuple[Address, ...]
    ) -> None:
        for receiver in self.hosts:
            if receiver is not sender:
                self._carry(sender, receiver, interface, (mac, addresses))

    def _carry(
        self,
        sender: Host,
        receiver: Host,
        interface: str,
        packet: OutgoingAdvert | tuple[bytes, tuple[Address, ...]],
    ) -> None:
        world = self.world
        if not sender.link_is_up(interface) or self.is_cut(sender, receiver, interface):
            return
        if self.loss and world.chance(self.loss):
            world.coverage["packets lost"] += 1
            return
        copies = 1
        if self.duplication and world.chance(self.duplication):
            world.coverage["packets duplicated"] += 1
            copies = 2
        for _ in range(copies):
            delay = world.between(*self.delay_ns)
            if self.extra_delay_ns:
                delay += world.between(0, self.extra_delay_ns)
            world.after(delay, receiver.arrive, interface, packet)

    @property
    def slowest_ns(self) -> Duration:
        """The longest way of a packet while no fault is active."""
        return self.delay_ns[1] + MILLISECOND_NS
