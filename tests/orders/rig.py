"""An operator's commands before a host that is made up, in virtual time.

``Rig`` is the daemon of one node: it takes orders, lets its units leave, and hears a peer take
over if there is one, each at its moment on a clock that only ``sleep`` moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.orders.samples import MASTER_DOWN_NS, NOW_NS, PEER, node, shot
from vipd.adapters.listeners import Listeners
from vipd.errors import AdapterError
from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    Address,
    Family,
    InstanceConfig,
    Instant,
    Note,
    NoteKind,
    Orders,
    Reason,
    State,
)
from vipd.snapshots import InstanceSnapshot, Snapshot
from vipd.supervisor.means import Means
from vipd.supervisor.operator import Operator
from vipd.supervisor.orders import OrderFile

WALL = 1_800_000_000.0
TAKEOVER_NS = 613 * MILLISECOND_NS


@dataclass
class Unit:
    members: tuple[InstanceConfig, ...]
    state: State = State.MASTER
    since_ns: Instant = NOW_NS - SECOND_NS
    left_ns: Instant | None = None
    counted: int = 0


@dataclass
class Rig:
    """``peer``: somebody takes over; ``listening``: somebody says so when asked."""

    directory: Path
    units: dict[str, Unit]
    peer: bool = True
    listening: bool = True
    answers: bool = True
    cannot_ask: bool = False
    nodes: tuple[str, ...] = ("lb1", "lb2")
    now_ns: Instant = NOW_NS
    sent: list[Orders] = field(default_factory=list)
    left: list[tuple[tuple[str, ...], Reason]] = field(default_factory=list)
    told: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    asked: list[tuple[str, Family, tuple[Address, ...], tuple[Address, ...]]] = field(
        default_factory=list
    )
    lost_while_leaving: bool = False

    def operator(self) -> Operator:
        means = Means(
            snapshot=self.snapshot,
            config=lambda: node(*(one for unit in self.units.values() for one in unit.members)),
            nodes=lambda: self.nodes,
            leaving=self.leaving,
            send=self.send,
            journal=self.journal,
            find=self.find,
            wall=self.wall,
            now_ns=lambda: self.now_ns,
            sleep=self.sleep,
        )
        return Operator(means, OrderFile(self.directory))

    def wall(self) -> float:
        return WALL + (self.now_ns - NOW_NS) / SECOND_NS

    async def sleep(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND_NS)
        await asyncio.sleep(0)

    def journal(self, kind: str, subject: str, fields: Mapping[str, Any]) -> None:
        self.told.append((kind, subject, dict(fields)))

    async def leaving(self, units: Sequence[str], reason: Reason) -> None:
        self.left.append((tuple(units), reason))
        await self.sleep(2.0)
        if self.lost_while_leaving:
            for name in units:
                self.units[name].state = State.FAULT

    async def find(
        self,
        interface: str,
        family: Family,
        source: Address | None,
        unicast_peers: Sequence[Address],
        timeout_s: float,
        *,
        heard: Sequence[Address],
    ) -> Listeners:
        self.asked.append((interface, family, tuple(unicast_peers), tuple(heard)))
        if self.cannot_ask:
            raise AdapterError(f"there is no interface {interface}")
        await self.sleep(0.1)
        return Listeners(("192.0.2.12",) if self.listening else (), "asked around")

    def send(self, orders: Orders) -> None:
        """What the core does with them."""
        self.sent.append(orders)
        counts = dict(orders.step_downs)
        for name, unit in self.units.items():
            ordered = counts.get(name, 0) > unit.counted
            unit.counted = counts.get(name, 0)
            if unit.state is State.MASTER and (ordered or orders.maintenance):
                unit.state, unit.since_ns, unit.left_ns = State.BACKUP, self.now_ns + 1, self.now_ns

    async def snapshot(self) -> Snapshot | None:
        if not self.answers:
            return None
        barred = bool(self.sent) and self.sent[-1].maintenance
        shots: list[InstanceSnapshot] = []
        for name, unit in self.units.items():
            heard_ns = None
            if unit.left_ns is not None and unit.state is State.BACKUP:
                heard_ns = self._takeover(unit, unit.left_ns, barred)
            shots += [
                shot(
                    config,
                    unit.state,
                    unit=name,
                    since_ns=unit.since_ns,
                    master=PEER if heard_ns else None,
                    heard_ns=heard_ns,
                )
                for config in unit.members
            ]
        return Snapshot(self.now_ns, "lb1", 1, tuple(shots), {})

    def _takeover(self, unit: Unit, left_ns: Instant, barred: bool) -> Instant | None:
        """When the peer was heard; without one the unit comes back by itself, unless barred."""
        if self.peer:
            heard_ns = left_ns + TAKEOVER_NS
            return heard_ns if heard_ns <= self.now_ns else None
        if not barred and self.now_ns >= left_ns + MASTER_DOWN_NS:
            unit.state, unit.since_ns = State.MASTER, self.now_ns + 1
        return None


def role(unit: str, state: State, master: str = "") -> Note:
    return Note(NoteKind.ROLE, unit, {"state": state.value, "master": master})
