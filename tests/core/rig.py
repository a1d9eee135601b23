"""A node in virtual time on a fake kernel that obeys its orders, at once or when told to.

``Rig`` is the engine's loop without an engine: it feeds an event, carries the actions out on the
fake kernel, and feeds the results back in the order that ``actions.py`` promises. With
``rig.obeys = False`` the orders wait in ``rig.orders`` until ``rig.carry_out_next``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from vipd.core.actions import (
    Action,
    AddAddresses,
    Finished,
    KeepWill,
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
    AddressGone,
    AddressSeen,
    AdvertFailed,
    AdvertHeard,
    AdvertSent,
    Configured,
    DeadlinePassed,
    Event,
    GateOpened,
    GateShut,
    KernelResynced,
    LinkGone,
    LinkSeen,
    StopRequested,
)
from vipd.core.node import Node
from vipd.core.unit import Unit
from vipd.model import (
    ADDRESS_TAG,
    MILLISECOND_NS,
    SECOND_NS,
    Address,
    Advert,
    Family,
    GroupConfig,
    HostAddress,
    InstanceConfig,
    Instant,
    Link,
    NodeConfig,
    Note,
    NoteKind,
    State,
    Vip,
    parse_address,
)

A = TypeVar("A")

MS = MILLISECOND_NS
S = SECOND_NS
ENODEV, EADDRNOTAVAIL, EPERM = 19, 99, 1

ETH0 = Link(2, "eth0", True, bytes.fromhex("020000000001"))
ETH1 = Link(3, "eth1", True, bytes.fromhex("020000000002"))

OWN = {Family.IPV4: parse_address("192.0.2.11"), Family.IPV6: parse_address("fe80::11")}
LOWER = {Family.IPV4: parse_address("192.0.2.9"), Family.IPV6: parse_address("fe80::9")}
HIGHER = {Family.IPV4: parse_address("192.0.2.200"), Family.IPV6: parse_address("fe80::80")}


def vip(text: str = "192.0.2.100/24", interface: str = "eth0", *, advertise: bool = True) -> Vip:
    address, _, prefix = text.partition("/")
    return Vip(parse_address(address), int(prefix), interface, advertise)


def many_vips(family: Family, count: int) -> tuple[Vip, ...]:
    if family is Family.IPV4:
        return tuple(vip(f"198.18.{at // 250}.{at % 250 + 1}/16") for at in range(count))
    return tuple(vip(f"2001:db8::{at + 1:x}/64") for at in range(count))


def router(family: Family = Family.IPV4, **changes: Any) -> InstanceConfig:
    standard = vip() if family is Family.IPV4 else vip("2001:db8::100/64")
    config = InstanceConfig(
        name="web",
        interface="eth0",
        vrid=51,
        version=3,
        family=family,
        priority=100,
        advert_interval_ns=S,
        vips=(standard,),
        address_lifetime_s=6,
    )
    return replace(config, **changes)


def advert(priority: int, interval_ns: int = S, version: int = 3) -> Advert:
    return Advert(version, 51, priority, interval_ns, (parse_address("192.0.2.100"),))


class FakeKernel:
    """Links and addresses; says what changed, as the event socket does."""

    def __init__(self) -> None:
        self.links = {ETH0.index: ETH0, ETH1.index: ETH1}
        self.addresses: dict[tuple[int, Address, int], HostAddress] = {}
        for text, prefix in (("192.0.2.11", 24), ("fe80::11", 64)):
            self.put(HostAddress(2, parse_address(text), prefix))
        self.put(HostAddress(3, parse_address("203.0.113.11"), 24))
        self.refusals: dict[tuple[type, Address], int] = {}

    @staticmethod
    def entry(address: HostAddress) -> tuple[int, Address, int]:
        ipv4 = len(address.address) == 4
        return (address.index, address.address, address.prefix if ipv4 else 0)

    def put(self, address: HostAddress) -> list[Event]:
        self.addresses[self.entry(address)] = address
        return [AddressSeen(address)]

    def drop(self, address: HostAddress) -> list[Event]:
        gone = self.addresses.pop(self.entry(address), None)
        return [] if gone is None else [AddressGone(gone)]

    def index_of(self, name: str) -> int | None:
        return next((link.index for link in self.links.values() if link.name == name), None)

    def dump(self) -> KernelResynced:
        return KernelResynced(tuple(self.links.values()), tuple(self.addresses.values()))

    def apply(self, action: AddAddresses | RenewAddresses | RemoveAddresses) -> list[Event]:
        events: list[Event] = []
        failures = []
        for position, each in enumerate(action.vips):
            errno = self._refusal(action, each)
            if errno:
                failures.append((position, errno))
                continue
            address = HostAddress(self.index_of(each.interface) or 0, each.address, each.prefix)
            if isinstance(action, RemoveAddresses):
                events += self.drop(address)
            else:
                events += self.put(replace(address, tag=ADDRESS_TAG))
        return [*events, AddressesApplied(action, tuple(failures))]

    def _refusal(self, action: object, each: Vip) -> int:
        index = self.index_of(each.interface)
        if index is None:
            return ENODEV
        if refused := self.refusals.get((type(action), each.address)):
            return refused
        there = self.entry(HostAddress(index, each.address, each.prefix)) in self.addresses
        return EADDRNOTAVAIL if isinstance(action, RemoveAddresses) and not there else 0

    def has(self, address: Address) -> bool:
        return any(entry.address == address for entry in self.addresses.values())


class Rig:
    """One node; ``log`` holds (instant, action) of everything that it asked for."""

    def __init__(self, *configs: InstanceConfig, sync: bool = True) -> None:
        self.node = Node()
        self.kernel = FakeKernel()
        self.now: Instant = 1000 * S
        self.log: list[tuple[Instant, Action]] = []
        self.orders: deque[Action] = deque()
        self.obeys = True
        self.send_errno = 0
        self.on_action: Callable[[Action], None] = lambda action: None
        self.generation = 0
        self._queue: deque[Event] = deque()
        self._working = False
        if configs:
            self.configure(*configs)
        if sync:
            self.feed(self.kernel.dump())

    # --- driving ------------------------------------------------------------------------------

    def configure(
        self, *configs: InstanceConfig, groups: tuple[GroupConfig, ...] = ()
    ) -> list[Action]:
        self.generation += 1
        return self.feed(Configured(NodeConfig("lb1", configs, self.generation, groups)))

    def feed(self, *events: Event) -> list[Action]:
        """Feed events and everything that follows from them now; returns all the actions."""
        start = len(self.log)
        self._queue.extend(events)
        if not self._working:
            self._working = True
            while self._queue:
                for action in self.node.handle(self._queue.popleft(), self.now):
                    self._take(action)
            self._working = False
        return [action for _, action in self.log[start:]]

    def _take(self, action: Action) -> None:
        self.log.append((self.now, action))
        self.on_action(action)
        if self.obeys:
            self._queue.extend(self.carry_out(action))
        elif not isinstance(action, Note | Finished):
            self.orders.append(action)

    def carry_out(self, action: Action) -> list[Event]:
        if isinstance(action, SendAdvert):
            if self.send_errno:
                return [AdvertFailed(action.instance, self.send_errno)]
            return [AdvertSent(action.instance)]
        if isinstance(action, AddAddresses | RenewAddresses | RemoveAddresses):
            return self.kernel.apply(action)
        if isinstance(action, RemoveStray):
            return [event for each in action.addresses for event in self.kernel.drop(each)]
        if isinstance(action, OpenGate):
            return [GateOpened(action.instance)]
        if isinstance(action, ShutGate):
            return [GateShut(action.instance)]
        if isinstance(action, ResyncKernel):
            return [self.kernel.dump()]
        return []

    def carry_out_next(self, kind: type) -> list[Action]:
        """The next waiting order of this kind is carried out and answered."""
        order = next(order for order in self.orders if isinstance(order, kind))
        self.orders.remove(order)
        return self.feed(*self.carry_out(order))

    def run(self, duration_ns: int) -> list[Action]:
        """Let virtual time pass; every deadline is met exactly."""
        start, end = len(self.log), self.now + duration_ns
        for _ in range(100_000):
            due = self.node.deadline()
            if due is None or due > end:
                self.now = end
                return [action for _, action in self.log[start:]]
            self.now = max(self.now, due)
            self.feed(DeadlinePassed())
        raise AssertionError("the node's deadline does not move on")

    def hear(
        self, priority: int, source: Address | None = None, interval_ns: int = S, name: str = "web"
    ) -> list[Action]:
        config = self.instance(name).config.leader
        source = LOWER[config.family] if source is None else source
        heard = advert(priority, interval_ns, config.version)
        return self.feed(AdvertHeard(name, source, heard))

    def become_master(self, name: str = "web") -> list[Action]:
        actions = self.run(self.instance(name).election.master_down_ns)
        assert self.state(name) is State.MASTER
        return actions

    def stop(self) -> list[Action]:
        return self.feed(StopRequested())

    def see_link(self, link: Link) -> list[Action]:
        self.kernel.links[link.index] = link
        return self.feed(LinkSeen(link))

    def lose_link(self, index: int) -> list[Action]:
        del self.kernel.links[index]
        for each in [each for each in self.kernel.addresses.values() if each.index == index]:
            self.kernel.drop(each)
        return self.feed(LinkGone(index))

    def put(self, text: str, *, index: int = 2, tag: int = 0) -> list[Action]:
        address, _, prefix = text.partition("/")
        put = HostAddress(index, parse_address(address), int(prefix), tag)
        return self.feed(*self.kernel.put(put))

    def take_away(self, address: Address) -> list[Action]:
        """Somebody's ``ip addr del``."""
        found = [each for each in self.kernel.addresses.values() if each.address == address]
        return self.feed(*(event for each in found for event in self.kernel.drop(each)))

    # --- looking ------------------------------------------------------------------------------

    def instance(self, name: str = "web") -> Unit:
        return self.node.units[name]

    def state(self, name: str = "web") -> State:
        return self.instance(name).election.state

    def counters(self, name: str = "web") -> dict[str, int]:
        """As status shows them."""
        shots = self.node.snapshot(self.now).instances
        return dict(next(shot for shot in shots if shot.name == name).counters)

    def holds(self, *vips: Vip) -> bool:
        return all(self.kernel.has(each.address) for each in vips)

    @property
    def log_actions(self) -> list[Action]:
        return [action for _, action in self.log]

    def times_of(self, kind: NoteKind) -> list[tuple[Instant, Note]]:
        return [(at, note) for at, note in self.times(Note) if note.kind is kind]

    def times(self, kind: type[A]) -> list[tuple[Instant, A]]:
        return [(at, action) for at, action in self.log if isinstance(action, kind)]


def only(actions: Iterable[object], kind: type[A]) -> list[A]:
    return [action for action in actions if isinstance(action, kind)]


def kinds(actions: Iterable[object]) -> list[str]:
    """The names of the actions in order, notes and the last will left out."""
    return [type(each).__name__ for each in actions if not isinstance(each, Note | KeepWill)]


def notes(actions: Iterable[object], kind: NoteKind) -> list[Note]:
    return [note for note in only(actions, Note) if note.kind is kind]


def priorities(actions: Iterable[object]) -> list[int]:
    return [sent.advert.priority for sent in only(actions, SendAdvert)]
