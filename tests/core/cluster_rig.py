"""Several nodes in one virtual world: real cores, the real codec, a network that does as told."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.core.rig import MS, FakeKernel, S, router
from vipd.core.actions import (
    Action,
    AddAddresses,
    Announce,
    Finished,
    KeepWill,
    OpenGate,
    RemoveAddresses,
    RemoveStray,
    RenewAddresses,
    ResyncKernel,
    SendAdvert,
    SendMessage,
    ShutGate,
)
from vipd.core.events import (
    AdvertHeard,
    AdvertSent,
    Configured,
    DeadlinePassed,
    Event,
    GateOpened,
    GateShut,
    HealthReported,
    Identified,
    LoopStalled,
    MessageHeard,
    MessageRejected,
    OrdersGiven,
    StallDrained,
    StopRequested,
)
from vipd.core.node import Node
from vipd.core.unit import Unit
from vipd.members import Message, Owner
from vipd.model import (
    Address,
    ClusterConfig,
    GroupConfig,
    HostAddress,
    InstanceConfig,
    Instant,
    MemberConfig,
    NodeConfig,
    Note,
    NoteKind,
    Orders,
    PinOrder,
    State,
    parse_address,
)
from vipd.translate_channel import ChannelTranslator

KEY = bytes(range(32))
LATENCY_NS = 200_000
NETLINK_NS = 200_000


def address_of(number: int) -> Address:
    return parse_address(f"192.0.2.{10 + number}")


class Member:
    """One node of the world."""

    def __init__(self, world: World, number: int, priority: int, life: int = 1) -> None:
        self.world, self.number = world, number
        self.name = f"lb{number}"
        self.priority = priority
        self.life = life
        self.node = Node()
        self.kernel = FakeKernel()
        own = HostAddress(2, address_of(number), 24)
        for entry in list(self.kernel.addresses.values()):
            self.kernel.drop(entry)
        self.kernel.put(own)
        self.channel = ChannelTranslator()
        self.owner = Owner(self.name, life, 1000 * number + life)
        self.log: list[tuple[Instant, Action]] = []
        self.will = KeepWill((), ())
        self.alive = True
        self.orders = Orders()
        self.after_death = False
        self.backlog: list[Event] | None = None
        self._frozen_at: Instant = 0
        self._armed: Instant | None = None

    def start(self) -> None:
        seed = bytes([self.number, self.life]) * 16
        self.feed(Identified(self.owner, seed, "test", self.after_death))
        self.feed(OrdersGiven(self.orders))
        self.feed(HealthReported(()))
        self.configure()
        self.feed(self.kernel.dump())

    def configure(self) -> None:
        config = self.world.config_of(self)
        assert config.cluster is not None
        self.channel.configure(config.cluster, self.owner)
        self.feed(Configured(config))

    def feed(self, event: Event) -> None:
        if not self.alive:
            return
        if self.backlog is not None:
            self.backlog.append(event)
            return
        now = self.world.now
        for action in self.node.handle(event, now):
            self.log.append((now, action))
            self._carry_out(action)
        due = self.node.deadline()
        if due is not None and (self._armed is None or due < self._armed or self._armed < now):
            self._armed = due
            self.world.at(max(due, now), self._wake, due)

    def _wake(self, armed: Instant) -> None:
        if armed != self._armed or not self.alive:
            return
        self._armed = None
        if self.backlog is not None:
            return
        due = self.node.deadline()
        if due is not None and due <= self.world.now:
            self.feed(DeadlinePassed())
        else:
            self.feed_nothing()

    def feed_nothing(self) -> None:
        due = self.node.deadline()
        if due is not None:
            self._armed = due
            self.world.at(due, self._wake, due)

    def _carry_out(self, action: Action) -> None:
        world = self.world
        if isinstance(action, SendAdvert):
            world.advert(self, action)
            world.after(0, self.feed, AdvertSent(action.instance))
        elif isinstance(action, AddAddresses | RenewAddresses | RemoveAddresses):
            world.after(NETLINK_NS, self._apply, action)
        elif isinstance(action, RemoveStray):
            for each in action.addresses:
                for event in self.kernel.drop(each):
                    world.after(0, self.feed, event)
        elif isinstance(action, OpenGate):
            world.after(0, self.feed, GateOpened(action.instance))
        elif isinstance(action, ShutGate):
            world.after(0, self.feed, GateShut(action.instance))
        elif isinstance(action, ResyncKernel):
            world.after(0, self.feed, self.kernel.dump())
        elif isinstance(action, SendMessage):
            world.say(self, action)
        elif isinstance(action, KeepWill):
            self.will = action
        elif isinstance(action, Finished):
            self.alive = False
        else:
            assert isinstance(action, Note | Announce)

    def _apply(self, action: AddAddresses | RenewAddresses | RemoveAddresses) -> None:
        if self.alive:
            for event in self.kernel.apply(action):
                self.feed(event)
            self.world.watch_holders()

    # --- what is asked of it ------------------------------------------------------------------

    @property
    def unit(self) -> Unit:
        return self.node.units["web"]

    @property
    def state(self) -> State:
        return self.unit.election.state

    @property
    def holds(self) -> bool:
        return any(entry.tag for entry in self.kernel.addresses.values())

    def order(self, **changes: Any) -> None:
        self.orders = replace(self.orders, **changes)
        self.feed(OrdersGiven(self.orders))

    def pin(self, node: str, count: int, for_ns: int = 0, unit: str = "web") -> None:
        self.order(pins=(PinOrder(unit, node, count, for_ns),))

    def stop(self) -> None:
        self.feed(StopRequested())

    def die(self, after_ns: int = MS) -> None:
        """SIGKILL of the engine; its supervisor carries the will out."""
        self.alive = False
        self.world.after(after_ns, self._last_will)

    def _last_will(self) -> None:
        for entry in [each for each in self.kernel.addresses.values() if each.tag]:
            self.kernel.drop(entry)
        self.world.watch_holders()
        for outgoing in self.channel.will(self.will):
            self.world.carry(self, outgoing.to, outgoing.datagram)
        for goodbye in self.will.goodbyes:
            self.world.advert(self, goodbye)

    def freeze(self) -> None:
        """SIGSTOP: what comes waits in the sockets."""
        self.backlog, self._frozen_at = [], self.world.now

    def thaw(self) -> None:
        """As the engine does it: first what waited in the sockets, then everything else."""
        backlog, self.backlog = self.backlog or [], None
        late_ns = self.world.now - self._frozen_at
        self.feed(LoopStalled(late_ns))
        for kinds in ((AdvertHeard,), (MessageHeard, MessageRejected)):
            for event in backlog:
                if isinstance(event, kinds):
                    self.feed(event)
        self.feed(StallDrained())
        for event in backlog:
            if not isinstance(event, AdvertHeard | MessageHeard | MessageRejected):
                self.feed(event)

    def vanish(self) -> None:
        """Power failure: everything is gone, and nobody says so."""
        self.alive = False
        for entry in [each for each in self.kernel.addresses.values() if each.tag]:
            self.kernel.drop(entry)
        self.world.watch_holders()

    def said(self, kind: type) -> list[tuple[Instant, Message]]:
        return [
            (at, action.message)
            for at, action in self.log
            if isinstance(action, SendMessage) and isinstance(action.message, kind)
        ]

    def notes(self, kind: NoteKind) -> list[Note]:
        return [
            action for _, action in self.log if isinstance(action, Note) and action.kind is kind
        ]


class World:
    """Time, the network, and a judge: ``holders`` are (instant, names) at each change."""

    def __init__(
        self,
        *priorities: int,
        interval_ns: int = S,
        timeout_ns: int = 300 * MS,
        beat_ns: int = 100 * MS,
        **instance: Any,
    ) -> None:
        self.now: Instant = 1000 * S
        self.timeout_ns = timeout_ns
        self.beat_ns = beat_ns
        self.interval_ns = interval_ns
        self.instance = instance
        self.groups: tuple[GroupConfig, ...] = ()
        self.extra: tuple[InstanceConfig, ...] = ()
        self.cut_channel: set[tuple[str, str]] = set()
        self.cut_wire: set[tuple[str, str]] = set()
        self.lose: Callable[[Member, str, bytes], bool] = lambda sender, to, datagram: False
        self.delay: Callable[[Member, str, bytes], int] = lambda sender, to, datagram: 0
        self.carried: list[tuple[Member, str, bytes]] = []
        self.holders: list[tuple[Instant, tuple[str, ...]]] = []
        self._queue: list[tuple[Instant, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self.members = {
            f"lb{number}": Member(self, number, priority)
            for number, priority in enumerate(priorities, 1)
        }

    def __getitem__(self, name: str) -> Member:
        return self.members[name]

    def config_of(self, member: Member) -> NodeConfig:
        cluster = ClusterConfig(
            name="edge",
            nodes=tuple(
                MemberConfig(each.name, (address_of(each.number),))
                for each in self.members.values()
            ),
            keys=(KEY,),
            digest=bytes(8),
            heartbeat_interval_ns=self.beat_ns,
            heartbeat_timeout_ns=self.timeout_ns,
        )
        changes = {"advert_interval_ns": self.interval_ns, **self.instance}
        web = replace(router(), priority=member.priority, source=None, **changes)
        return NodeConfig(member.name, (web, *self.extra), 1, self.groups, cluster)

    # --- time ---------------------------------------------------------------------------------

    def at(self, when: Instant, call: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heapq.heappush(self._queue, (max(when, self.now), self._count, call, args))

    def after(self, delay: int, call: Callable[..., None], *args: Any) -> None:
        self.at(self.now + delay, call, *args)

    def run(self, duration_ns: int) -> None:
        end = self.now + duration_ns
        while self._queue and self._queue[0][0] <= end:
            self.now, _, call, args = heapq.heappop(self._queue)
            call(*args)
        self.now = end

    def start(self, *names: str, settle_ns: int = 6 * S) -> None:
        for name in names or self.members:
            self.members[name].start()
        self.run(settle_ns)

    def restart(self, name: str, *, after_death: bool = False) -> Member:
        old = self.members[name]
        new = Member(self, old.number, old.priority, old.life + 1)
        new.orders, new.after_death = old.orders, after_death
        self.members[name] = new
        new.start()
        return new

    # --- the network --------------------------------------------------------------------------

    def advert(self, sender: Member, action: SendAdvert) -> None:
        heard = AdvertHeard(action.instance, action.source, action.advert)
        for receiver in list(self.members.values()):
            if receiver is not sender and (sender.name, receiver.name) not in self.cut_wire:
                self.after(LATENCY_NS, receiver.feed, heard)

    def say(self, sender: Member, action: SendMessage) -> None:
        for outgoing in sender.channel.encode(action):
            self.carry(sender, outgoing.to, outgoing.datagram)

    def carry(self, sender: Member, to: str, datagram: bytes) -> None:
        self.carried.append((sender, to, datagram))
        if (sender.name, to) in self.cut_channel or self.lose(sender, to, datagram):
            return
        delay = LATENCY_NS + self.delay(sender, to, datagram)
        self.after(delay, self.deliver, sender.number, to, datagram)

    def deliver(self, number: int, to: str, datagram: bytes) -> None:
        receiver = self.members[to]
        if receiver.alive:
            source, own = address_of(number), address_of(receiver.number)
            receiver.feed(receiver.channel.receive(datagram, source, own))

    def isolate(self, name: str) -> None:
        for other in self.members:
            for pair in ((name, other), (other, name)):
                self.cut_wire.add(pair)
                self.cut_channel.add(pair)

    # --- the judge ----------------------------------------------------------------------------

    def watch_holders(self) -> None:
        names = tuple(name for name, each in self.members.items() if each.holds)
        if not self.holders or self.holders[-1][1] != names:
            self.holders.append((self.now, names))

    @property
    def masters(self) -> list[str]:
        return [
            name for name, each in self.members.items() if each.alive and each.state is State.MASTER
        ]

    def gap_ns(self, since: Instant) -> int:
        """The longest time without a holder that began after ``since``."""
        longest = 0
        for (at, names), (until, _) in zip(
            self.holders, [*self.holders[1:], (self.now, ())], strict=True
        ):
            if not names and at >= since:
                longest = max(longest, until - at)
        return longest

    def overlaps(self, since: Instant = 0) -> list[tuple[Instant, tuple[str, ...]]]:
        return [(at, names) for at, names in self.holders if len(names) > 1 and at >= since]
