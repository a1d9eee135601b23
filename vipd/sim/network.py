"""The network between the hosts: LANs that carry encoded bytes, more or less well.

Each receiver gets its own copy with its own fate: lost, duplicated, late (and so out of order).
Cuts are kept per direction, because real switches fail in one direction too, for one LAN or for
all of them, and for everything or for one kind of traffic (filters fail like that).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from vipd.model import MILLISECOND_NS, Address, Duration
from vipd.sim.world import World
from vipd.translate import OutgoingAdvert
from vipd.wire.receiver import GROUP_IPV4, GROUP_IPV6

if TYPE_CHECKING:
    from vipd.sim.host import Host

_GROUPS = (GROUP_IPV4, GROUP_IPV6)

ADVERTS, CHANNEL = "adverts", "channel"
"""Kinds of traffic that may be cut alone. Announcements go the way of the adverts."""


Listener: TypeAlias = Callable[[str, OutgoingAdvert], None]


class Network:
    """``weather`` values are what the faults set; all zero is a good network.

    ``listener`` is somebody else on the LANs, who hears every advert that leaves a host.
    """

    def __init__(self, world: World, delay_ns: tuple[Duration, Duration]) -> None:
        self.world = world
        self.hosts: Sequence[Host] = ()
        self.delay_ns = delay_ns
        self.cuts: dict[tuple[Host, Host, str, str], int] = {}
        self.listener: Listener = _nobody
        self.loss = 0.0
        self.duplication = 0.0
        self.extra_delay_ns: Duration = 0

    def cut(self, sender: Host, receiver: Host, interface: str = "", traffic: str = "") -> None:
        """``interface`` empty: on all LANs; ``traffic`` empty: whatever it is."""
        what = (sender, receiver, interface, traffic)
        self.cuts[what] = self.cuts.get(what, 0) + 1

    def mend(self, sender: Host, receiver: Host, interface: str = "", traffic: str = "") -> None:
        self.cuts[sender, receiver, interface, traffic] -= 1

    def is_cut(self, sender: Host, receiver: Host, interface: str, traffic: str = ADVERTS) -> bool:
        cuts = self.cuts
        return bool(cuts) and any(
            cuts.get((sender, receiver, which, what))
            for which in ("", interface)
            for what in ("", traffic)
        )

    def delay(self) -> Duration:
        """How long one copy is under way."""
        delay = self.world.between(*self.delay_ns)
        if self.extra_delay_ns:
            delay += self.world.between(0, self.extra_delay_ns)
        return delay

    @property
    def carries_adverts(self) -> bool:
        """All of them, everywhere, and in time."""
        cut = any(count for (*_, traffic), count in self.cuts.items() if traffic != CHANNEL)
        return not (self.loss or self.extra_delay_ns or cut)

    @property
    def is_whole(self) -> bool:
        """Nothing is cut, lost or held up anywhere."""
        return not (self.loss or self.extra_delay_ns or any(self.cuts.values()))

    def send_advert(self, sender: Host, interface: str, advert: OutgoingAdvert) -> None:
        self.listener(interface, advert)
        for receiver in self.hosts:
            if receiver is sender:
                continue
            if advert.destination in _GROUPS or receiver.owns(interface, advert.destination):
                self._carry(sender, receiver, interface, advert)

    def inject(self, interface: str, advert: OutgoingAdvert) -> None:
        """Somebody else on the LAN speaks."""
        for receiver in self.hosts:
            self.world.after(self.delay(), receiver.arrive, interface, advert)

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
            world.after(self.delay(), receiver.arrive, interface, packet)

    @property
    def slowest_ns(self) -> Duration:
        """The longest way of a packet while no fault is active."""
        return self.delay_ns[1] + MILLISECOND_NS


def _nobody(_interface: str, _advert: OutgoingAdvert) -> None:
    """Nobody else listens."""
