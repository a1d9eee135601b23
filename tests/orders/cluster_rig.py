"""A cluster that is made up, in virtual time: three hosts with what an engine does with orders.

Each ``Host`` is one node with its ``Operator``; ``Cluster`` is the channel between them, on which
everything is known at once. A handover goes as in QUORUM H2, in its outline only: 2 ms to the
successor, 150 ms for one that does not answer, then the next, then the former master again.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.orders.samples import API, NOW_NS, WEB, shot
from vipd.duties import Duties, HookPlan, HookSet, Occasion
from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    ClusterConfig,
    Instant,
    MemberConfig,
    NodeConfig,
    Orders,
    Reason,
    State,
)
from vipd.snapshots import (
    ClusterSnapshot,
    MemberSnapshot,
    PinSnapshot,
    ReportSnapshot,
    Snapshot,
)
from vipd.supervisor.means import Means
from vipd.supervisor.operator import Operator
from vipd.supervisor.orders import OrderFile

WALL = 1_800_000_000.0
TRY_NS = 150 * MILLISECOND_NS
TAKING_NS = 2 * MILLISECOND_NS
LEAVING_S = 2.0
TURNS = 8
"""Of the loop, between two instants: enough for whatever follows from what just happened."""

NODES = tuple(
    MemberConfig(name, (bytes((192, 0, 2, last)),))
    for name, last in (("lb1", 11), ("lb2", 12), ("lb3", 13))
)
CLUSTER = ClusterConfig("edge", NODES, (b"key",), b"12345678")
UNITS = (WEB, API)


@dataclass
class Place:
    """One unit on one host."""

    state: State = State.BACKUP
    priority: int = 100
    reason: str = "master-heard"
    detail: str = ""
    term: int = 1
    since_ns: Instant = NOW_NS - SECOND_NS


@dataclass
class Host:
    name: str
    cluster: Cluster
    places: dict[str, Place]
    alive: bool = True
    left: bool = False
    deaf: bool = False  # named as successor it does nothing, though its heartbeats come
    orders: Orders = field(default_factory=Orders)
    sent: list[Orders] = field(default_factory=list)
    leaves: list[tuple[tuple[str, ...], Reason]] = field(default_factory=list)
    told: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    duties: Duties = field(default_factory=Duties)

    def operator(self, directory: Path) -> Operator:
        config = NodeConfig(self.name, UNITS, cluster=self.cluster.config)
        own = directory / self.name
        own.mkdir(exist_ok=True)
        means = Means(
            snapshot=self.snapshot,
            config=lambda: config,
            nodes=lambda: [member.name for member in NODES],
            leaving=self.leaving,
            duties=lambda: self.duties,
            send=self.send,
            journal=self.journal,
            wall=lambda: WALL + (self.cluster.now_ns - NOW_NS) / SECOND_NS,
            now_ns=lambda: self.cluster.now_ns,
            sleep=self.cluster.sleep,
        )
        return Operator(means, OrderFile(own))

    def journal(self, kind: str, subject: str, fields: Mapping[str, Any]) -> None:
        self.told.append((kind, subject, dict(fields)))

    async def leaving(self, units: Sequence[str], reason: Reason) -> None:
        self.leaves.append((tuple(units), reason))
        await self.cluster.sleep(LEAVING_S)

    def hook(self, unit: str) -> None:
        """Configure a leaving hook."""
        hooks = HookSet("INSTANCE", unit, {Occasion.LEAVING: ("/drain",)}, SECOND_NS)
        self.duties = Duties(hooks=(HookPlan(unit, (hooks,)),))

    def send(self, orders: Orders) -> None:
        """What an engine does with them."""
        self.sent.append(orders)
        known = {order.unit: order.count for order in self.orders.pins}
        news = [order for order in orders.pins if order.count > known.get(order.unit, 0)]
        self.orders = orders
        for order in news:
            self.cluster.pin(order.unit, order.node)
        if orders.maintenance:
            for unit, place in self.places.items():
                able = self.cluster.fit(self, unit)
                if place.state is State.MASTER and able:
                    self.cluster.give(unit, self, "", Reason.MAINTENANCE)

    async def snapshot(self) -> Snapshot:
        return self.cluster.seen_by(self)


class Cluster:
    """``now_ns`` moves when every command that runs sleeps."""

    def __init__(self) -> None:
        self.now_ns = NOW_NS
        self.config = CLUSTER
        self.pins: dict[str, PinSnapshot] = {}
        self.hosts = {
            member.name: Host(member.name, self, {unit.name: Place(priority=100) for unit in UNITS})
            for member in NODES
        }
        first = self.hosts["lb1"]
        for place in first.places.values():
            place.state, place.priority = State.MASTER, 150
        self._due: list[tuple[Instant, int, Callable[[], None]]] = []
        self._serial = 0
        self._sleeping = 0

    # --- time ---------------------------------------------------------------------------------

    def at(self, instant: Instant, act: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._due, (instant, self._serial, act))

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self.at(self.now_ns + int(seconds * SECOND_NS), woken.set)
        self._sleeping += 1
        try:
            await woken.wait()
        finally:
            self._sleeping -= 1

    def run(self, *works: Awaitable[Any]) -> list[Any]:
        """All of them side by side; what each one answered, or the error that it raised."""

        async def all_of_them() -> list[Any]:
            tasks = [asyncio.ensure_future(work) for work in works]
            while not all(task.done() for task in tasks):
                running = sum(not task.done() for task in tasks)
                if self._sleeping == running:
                    self._next()
                for _ in range(TURNS):  # real time passes only while a file is written
                    await asyncio.sleep(0)
            return await asyncio.gather(*tasks, return_exceptions=True)

        return asyncio.run(all_of_them())

    def _next(self) -> None:
        instant, _, act = heapq.heappop(self._due)
        self.now_ns = max(self.now_ns, instant)
        act()

    # --- what engines do ----------------------------------------------------------------------

    def pin(self, unit: str, node: str) -> None:
        known = self.pins.get(unit)
        self.pins[unit] = PinSnapshot(unit, node, 1 if known is None else known.version + 1, None)
        master = self.master(unit)
        if node and master is not None and master.name != node:
            self.give(unit, master, node, Reason.SWITCHOVER)

    def master(self, unit: str) -> Host | None:
        hosts = self.hosts.values()
        return next((h for h in hosts if h.places[unit].state is State.MASTER), None)

    def give(self, unit: str, host: Host, preferred: str, reason: Reason) -> None:
        place = host.places[unit]
        place.state, place.reason, place.since_ns = State.BACKUP, reason.value, self.now_ns
        others = [
            each for each in self.hosts.values() if each is not host and self._fit(each, unit)
        ]
        others.sort(key=lambda each: (each.name == preferred, each.places[unit].priority))
        self._offer(unit, host, others)

    def fit(self, host: Host, unit: str) -> list[Host]:
        """The others that could take it."""
        return [each for each in self.hosts.values() if each is not host and self._fit(each, unit)]

    def _offer(self, unit: str, host: Host, others: list[Host]) -> None:
        if not others:
            self.stand(unit, host, Reason.HANDOVER_FAILED)
            return
        best = others.pop()
        if best.deaf:
            self.at(self.now_ns + TRY_NS, lambda: self._offer(unit, host, others))
        elif not self._fit(best, unit):  # it refuses
            self._offer(unit, host, others)
        else:
            at = self.now_ns + TAKING_NS
            self.at(at, lambda: self._take(unit, best, host, others))

    def _take(self, unit: str, best: Host, host: Host, others: list[Host]) -> None:
        if self._fit(best, unit):
            self.stand(unit, best, Reason.HANDED_OVER)
        else:
            self._offer(unit, host, others)

    def stand(self, unit: str, host: Host, reason: Reason) -> None:
        place = host.places[unit]
        term = 1 + max(each.places[unit].term for each in self.hosts.values())
        for each in self.hosts.values():
            each.places[unit].term = term
        place.state, place.reason, place.since_ns = State.MASTER, reason.value, self.now_ns
        pin = self.pins.get(unit)
        if pin is not None and pin.node not in ("", host.name):
            self.pins[unit] = replace(pin, node="", version=pin.version + 1)

    def _fit(self, host: Host, unit: str) -> bool:
        if not host.alive or host.orders.maintenance:
            return False
        return host.places[unit].state is State.BACKUP

    # --- what is seen -------------------------------------------------------------------------

    def seen_by(self, host: Host) -> Snapshot:
        shots = tuple(
            replace(
                shot(unit, host.places[unit.name].state, since_ns=host.places[unit.name].since_ns),
                reason=Reason(host.places[unit.name].reason),
                detail=host.places[unit.name].detail,
                term=host.places[unit.name].term,
                priority_effective=host.places[unit.name].priority,
            )
            for unit in UNITS
        )
        members = (
            *(self._member(each, each is host) for each in self.hosts.values()),
            MemberSnapshot("wit", True, self.now_ns, is_witness=True),
        )
        seen = ClusterSnapshot("edge", members, {}, tuple(self.pins.values()))
        barred = host.orders.maintenance
        return Snapshot(self.now_ns, host.name, 1, shots, {}, (), barred, seen)

    def _member(self, host: Host, is_self: bool) -> MemberSnapshot:
        heard_ns = self.now_ns - (0 if host.alive else 7 * SECOND_NS)
        units = [
            ReportSnapshot(
                unit, each.state, each.reason, each.detail, each.priority, 100, each.term, ""
            )
            for unit, each in host.places.items()
        ]
        return MemberSnapshot(
            host.name,
            host.alive,
            heard_ns,
            is_self=is_self,
            left=host.left,
            maintenance=host.orders.maintenance,
            units=tuple(units),
        )
