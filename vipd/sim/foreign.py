"""A router of another make on the LAN, as keepalived would be: it obeys the RFC and nothing else.

It has one virtual router in common with the hosts, and speaks while it believes itself to be
master: from its start on, until it hears an advert of a priority that is not lower than its own,
and again when nobody has said anything better for three intervals and its skew.
"""

from __future__ import annotations

from vipd.model import SECOND_NS, Advert, ChecksumForm, Family, Instant, parse_address
from vipd.sim.network import Network
from vipd.sim.plans import InstancePlan
from vipd.sim.world import World
from vipd.translate import OutgoingAdvert
from vipd.wire import vrrp
from vipd.wire.receiver import group_of

_SOURCES = {Family.IPV4: parse_address("192.0.2.77"), Family.IPV6: parse_address("fe80::77")}


class ForeignRouter:
    """Takes part in the election of ``plan`` until ``leave``."""

    def __init__(self, world: World, network: Network, plan: InstancePlan, priority: int) -> None:
        self.world = world
        self.network = network
        self.plan = plan
        self.priority = priority
        self.source = _SOURCES[plan.family]
        self.spoke_at: Instant = -100 * SECOND_NS
        self.times = 0
        self._silent_until: Instant = 0
        self._gone = False
        network.listener = self._hear
        self._speak()

    def leave(self) -> None:
        self._gone = True

    def _hear(self, interface: str, packet: OutgoingAdvert) -> None:
        if interface != self.plan.interface or packet.family is not self.plan.family:
            return
        vrid, _ = vrrp.peek(packet.arrive(0))
        if vrid == self.plan.vrid and packet.payload[2] >= self.priority:
            interval_ns = self.plan.slowest_ns
            skew_ns = (256 - self.priority) * interval_ns // 256
            self._silent_until = self.world.now + 3 * interval_ns + skew_ns

    def _speak(self) -> None:
        if self._gone:
            return
        if self.world.now >= self._silent_until:
            self.world.coverage["foreign adverts"] += 1
            self.spoke_at = self.world.now
            self.times += 1
            self.network.inject(self.plan.interface, self._packet())
        self.world.after(self.plan.slowest_ns, self._speak)

    def _packet(self) -> OutgoingAdvert:
        plan = self.plan
        addresses = tuple(vip.address for vip in plan.vips if vip.advertise)
        advert = Advert(plan.version, plan.vrid, self.priority, plan.slowest_ns, addresses)
        form = ChecksumForm.PSEUDO if plan.checksum is ChecksumForm.AUTO else plan.checksum
        destination = group_of(plan.family)
        payload = vrrp.encode(
            advert,
            source=self.source,
            destination=destination,
            form=form,
            auth_secret=plan.auth_secret,
        )
        return OutgoingAdvert(plan.family, 0, self.source, destination, payload)
