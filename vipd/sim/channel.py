"""The cluster channel between the hosts: encoded datagrams, each copy with its own fate.

A datagram leaves on every pair of addresses of sender and receiver and shares the LAN of its path
with the adverts: what cuts, loses or slows that LAN does it to the channel as well. Beyond that the
channel alone can be cut (``network.CHANNEL``), and what makes its receiver act can be lost or
delayed for itself, because a handover must survive exactly that.

The *recorder* stands for somebody who listens on the wire and cannot forge: it keeps what it heard,
of lives that are over as well, and plays it back to whom it was sent, from where it came.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vipd.model import SECOND_NS, Address, Duration, Instant
from vipd.sim.network import CHANNEL, Network
from vipd.sim.world import World

if TYPE_CHECKING:
    from vipd.sim.host import Host

KIND_AT = 7
"""Where a datagram names its kind, in every version."""

HEARTBEAT, REQUEST, GO, TAKEN, REFUSED, TOMBSTONE, GOODBYE = range(1, 8)
ACTING = frozenset((REQUEST, GO, TAKEN, REFUSED, TOMBSTONE, GOODBYE))
LATE_NS = 4 * SECOND_NS

_RECORDED = 3000


@dataclass(frozen=True, slots=True)
class Carried:
    """One datagram on its way from an address to an address."""

    sender: Host
    receiver: Host
    interface: str
    source: Address
    destination: Address
    data: bytes
    sent_at: Instant

    @property
    def kind(self) -> int:
        return self.data[KIND_AT]


class Channel:
    """``loses`` and ``delays``: what happens to datagrams of these kinds, and how often.

    Until ``late_until`` what was said long ago may arrive, over paths that are cut as well.
    """

    def __init__(self, world: World, network: Network) -> None:
        self.world = world
        self.network = network
        self.loses: dict[int, float] = {}
        self.delays: dict[int, float] = {}
        self.late_until: Instant = 0
        self.recording: deque[Carried] = deque(maxlen=_RECORDED)
        self.acts: deque[Carried] = deque(maxlen=_RECORDED)

    def send(self, datagram: Carried) -> None:
        sender, interface = datagram.sender, datagram.interface
        if not sender.owns(interface, datagram.source) or not sender.link_is_up(interface):
            return
        world, network, kind = self.world, self.network, datagram.kind
        world.coverage["datagrams"] += 1
        if kind in ACTING:
            world.coverage[f"acting {kind}"] += 1
            self.acts.append(datagram)
        else:
            self.recording.append(datagram)
        if network.is_cut(sender, datagram.receiver, interface, CHANNEL):
            return
        if network.loss and world.chance(network.loss):
            world.coverage["datagrams lost"] += 1
            return
        if kind in self.loses and world.chance(self.loses[kind]):
            world.coverage["acting messages lost"] += 1
            return
        copies = 2 if network.duplication and world.chance(network.duplication) else 1
        for _ in range(copies):
            delay = network.delay()
            if kind in self.delays and world.chance(self.delays[kind]):
                world.coverage["acting messages delayed"] += 1
                delay += world.between(0, LATE_NS)
                self.late_until = max(self.late_until, world.now + delay)
            world.after(delay, self._deliver, datagram)

    def replay(self, acts: bool, count: int, within_ns: Duration) -> int:
        """Play back ``count`` datagrams drawn from what was heard; how many of them."""
        heard = self.acts if acts else self.recording
        if not heard:
            return 0
        self.late_until = max(self.late_until, self.world.now + within_ns)
        for _ in range(count):
            datagram = heard[self.world.rng.randrange(len(heard))]
            self.world.after(self.world.between(0, within_ns), self._deliver, datagram)
        self.world.coverage["datagrams replayed"] += count
        return count

    def _deliver(self, datagram: Carried) -> None:
        receiver, interface = datagram.receiver, datagram.interface
        if receiver.link_is_up(interface) and receiver.owns(interface, datagram.destination):
            receiver.datagram_arrives(datagram)
