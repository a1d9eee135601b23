"""An ideal world: the real core of every node, one perfect network, kernels that refuse nothing.

Time is virtual and every step takes none of it, packets excepted (``FLIGHT_NS``): what is measured
here is what VRRP's own timers cost. Adverts travel as bytes through the real translator, so that
nodes which do not understand each other on the wire do not understand each other here.

One stage plays one unit: units share no election, so playing them apart gives the same and is
faster by far. Chance there is none.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from vipd.core.actions import (
    Action,
    AddAddresses,
    Announce,
    Finished,
    OpenGate,
    RemoveAddresses,
    RemoveStray,
    RenewAddresses,
    ResyncKernel,
    SendAdvert,
    ShutGate,
)
from vipd.core.events import (
    AddressesApplied,
    AdvertFailed,
    AdvertSent,
    Configured,
    DeadlinePassed,
    Event,
    GateOpened,
    GateShut,
    HealthReported,
    KernelResynced,
)
from vipd.core.node import Node
from vipd.model import (
    ADDRESS_TAG,
    MICROSECOND_NS,
    SECOND_NS,
    Address,
    Duration,
    Health,
    Instant,
    NodeConfig,
    Note,
    Verdict,
    VipKey,
)
from vipd.sim.kernel import ENODEV, FakeKernel
from vipd.sim.world import World
from vipd.snapshots import InstanceSnapshot
from vipd.translate import OutgoingAdvert, Translator
from vipd.wire.receiver import GROUP_IPV4, GROUP_IPV6

FLIGHT_NS = 50 * MICROSECOND_NS
HEALTH_EVERY_NS = SECOND_NS
"""The supervisor repeats the health vector this often; its silence would be an alarm."""

_Order = AddAddresses | RenewAddresses | RemoveAddresses


class Player:
    """One host of the stage: kernel, health, and the engine while it lives."""

    def __init__(
        self,
        stage: Stage,
        config: NodeConfig,
        addresses: Mapping[str, Sequence[tuple[Address, int]]],
        health: Mapping[str, Health],
        numbers: Iterable[str],
    ) -> None:
        self.stage = stage
        self.name = config.node
        self.config = config
        self.health = dict(health)
        self.kernel = FakeKernel(stage.world, config.node)
        self.node: Node | None = None
        self._addresses = addresses
        self._numbers = frozenset(numbers)
        self._translator = Translator()
        self._inbox: deque[Event] = deque()
        self._handling = False
        self._armed: Instant | None = None
        self._life = 0

    # --- life ---------------------------------------------------------------------------------

    def boot(self) -> None:
        self._life += 1
        self._armed = None
        self._inbox.clear()
        position = self.stage.position(self.name)
        for number, (interface, entries) in enumerate(self._addresses.items()):
            self.kernel.create_link(interface, bytes((2, 0, 0, 0, number, position)))
            for address, prefix in entries:
                self.kernel.add(interface, address, prefix, tag=0, lifetime_s=None)
        self.node = Node()
        self._translator = Translator()
        self.kernel.emit = self.feed
        self.kernel.on_change = self.stage.presence_changed
        self.feed(Configured(self.config))
        self._report_health(self._life)
        self.feed(KernelResynced(*self.kernel.dump()))

    def die(self) -> None:
        """Power failure: nothing is left, and nobody is told."""
        self._life += 1
        self.node = None
        self._inbox.clear()
        self.kernel.clear()

    @property
    def alive(self) -> bool:
        return self.node is not None

    def set_link(self, interface: str, *, up: bool) -> None:
        self.kernel.set_link(interface, up=up, admin=False)

    def set_health(self, check: str, health: Health) -> None:
        self.health[check] = health
        if self.alive:
            self.feed(self._health_report())

    def _report_health(self, life: int) -> None:
        if life == self._life and self.health:
            self.feed(self._health_report())
            self.stage.world.after(HEALTH_EVERY_NS, self._report_health, life)

    def _health_report(self) -> HealthReported:
        return HealthReported(
            tuple(
                Verdict(name, health, 0 if name in self._numbers else None)
                for name, health in self.health.items()
            )
        )

    # --- what it has --------------------------------------------------------------------------

    def holds(self, vips: Iterable[VipKey]) -> bool:
        return self.alive and all(key in self.kernel.present for key in vips)

    def snapshots(self) -> dict[str, InstanceSnapshot]:
        """By instance; empty while the node is dead."""
        if self.node is None:
            return {}
        return {each.name: each for each in self.node.snapshot(self.stage.world.now).instances}

    # --- the engine ---------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        self._inbox.append(event)
        if self._handling:
            return
        self._handling = True
        while self._inbox and self.node is not None:
            self._handle(self.node, self._inbox.popleft())
        self._handling = False
        self._arm()

    def _handle(self, node: Node, event: Event) -> None:
        if isinstance(event, Configured):
            self._translator.configure(event.config)
        else:
            self._translator.observe(event)
        for action in node.handle(event, self.stage.world.now):
            self._carry_out(action)

    def _arm(self) -> None:
        due = None if self.node is None else self.node.deadline()
        if due is None or (self._armed is not None and self._armed <= due):
            return
        self._armed = due
        self.stage.world.at(due, self._wake, due, self._life)

    def _wake(self, armed: Instant, life: int) -> None:
        if life != self._life or armed != self._armed or self.node is None:
            return
        self._armed = None
        due = self.node.deadline()
        if due is not None and due <= self.stage.world.now:
            self.feed(DeadlinePassed())
        else:
            self._arm()

    def arrive(self, interface: str, advert: OutgoingAdvert) -> None:
        link = self.kernel.links.get(interface)
        if self.node is None or link is None or not link.up:
            return
        event = self._translator.receive(advert.arrive(link.index))
        if event is not None:
            self.feed(event)

    # --- actions ------------------------------------------------------------------------------

    def _carry_out(self, action: Action) -> None:
        match action:
            case SendAdvert():
                self._send(action)
            case AddAddresses() | RenewAddresses() | RemoveAddresses():
                self._inbox.append(AddressesApplied(action, self._apply(action)))
            case RemoveStray():
                for address in action.addresses:
                    self.kernel.remove_entry(address)
            case OpenGate():
                self._inbox.append(GateOpened(action.instance))
            case ShutGate():
                self._inbox.append(GateShut(action.instance))
            case ResyncKernel():
                self._inbox.append(KernelResynced(*self.kernel.dump()))
            case Announce() | Note() | Finished():
                pass  # nobody's caches are played, and nobody is stopped

    def _send(self, action: SendAdvert) -> None:
        interface = action.config.interface
        link = self.kernel.links.get(interface)
        if link is None:
            self._inbox.append(AdvertFailed(action.instance, ENODEV))
            return
        if link.up:
            for advert in self._translator.encode(action):
                self.stage.send(self, interface, advert)
        self._inbox.append(AdvertSent(action.instance))

    def _apply(self, order: _Order) -> tuple[tuple[int, int], ...]:
        failures = []
        for position, vip in enumerate(order.vips):
            if isinstance(order, RemoveAddresses):
                errno = self.kernel.remove(vip.interface, vip.address, vip.prefix)
            else:
                errno = self.kernel.add(
                    vip.interface, vip.address, vip.prefix, tag=ADDRESS_TAG, lifetime_s=None
                )
            if errno:
                failures.append((position, errno))
        return tuple(failures)


class Stage:
    """All players, the network between them, and the clock."""

    def __init__(self, network: Mapping[tuple[str, str], int]) -> None:
        self.world = World(random.Random(0))
        self.players: dict[str, Player] = {}
        self.changed_at: Instant = 0
        self._network = network

    def enter(self, player: Player) -> None:
        self.players[player.name] = player

    def position(self, name: str) -> int:
        return list(self.players).index(name)

    def presence_changed(self, _vip: VipKey) -> None:
        """An address came or went on some host."""
        self.changed_at = self.world.now

    def run(self, duration: Duration) -> None:
        self.world.run_until(self.world.now + duration)

    def send(self, sender: Player, interface: str, advert: OutgoingAdvert) -> None:
        to_all = advert.destination in (GROUP_IPV4, GROUP_IPV6)
        own_network = self._network.get((sender.name, interface))
        for player in self.players.values():
            if player is sender:
                continue
            for name, link in player.kernel.links.items():
                if to_all:
                    reached = self._network.get((player.name, name)) == own_network
                else:
                    reached = player.kernel.has_own(link.index, advert.destination)
                if reached:
                    self.world.after(FLIGHT_NS, player.arrive, name, advert)
