"""Cluster mode: ``switchover`` and ``maintenance`` by what the nodes tell each other.

Differences to plain mode, whose commands stand in ``operator``:

* **Nobody is asked who listens**: the cluster view says who could take over (``seats``).
* **A switchover is a pin** (QUORUM H3): the unit belongs on a named node. It may be ordered on any
  node, spreads by heartbeats, and the engine that is master hands over when it sees it. It stands
  until that node fails, its time is over or ``--auto`` clears it. It lives in the engines: should
  all of them end at once, no pin is left.
* **Maintenance** tells the own engine, which hands over by itself (H2).
* **What became of it** is seen in the cluster view. A switchover that failed takes its pin back,
  lest it happens later when nobody expects it; maintenance that nobody relieved is withdrawn.

``leaving`` hooks run for what this node gives away itself. There is no way from one supervisor to
another, so a switchover ordered elsewhere runs none, and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from vipd.duties import Duties, Occasion
from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    ClusterConfig,
    Instant,
    NodeConfig,
    Note,
    NoteKind,
    Reason,
)
from vipd.snapshots import Snapshot
from vipd.supervisor import handover, order_answers, seats
from vipd.supervisor.handover import OPEN, Fate, Outcome
from vipd.supervisor.means import POLL_S, Means
from vipd.supervisor.order_answers import Answer, answer
from vipd.supervisor.orders import OrderBook
from vipd.supervisor.seats import Table

SLACK_NS = 2 * SECOND_NS
ATTEMPT_NS = 150 * MILLISECOND_NS
"""How long the core tries one successor before it names the next (H2)."""


_NEWS = frozenset({NoteKind.HANDOVER, NoteKind.ROLE})


class ClusterCommands:
    """``order`` tells the engine and keeps the file; in words what is wrong with the latter."""

    def __init__(self, means: Means, book: OrderBook, order: Callable[[], Awaitable[str]]) -> None:
        self._means = means
        self._book = book
        self._order = order
        self._news = asyncio.Event()

    def take_note(self, note: Note) -> None:
        """Wakes who watches, so that the answer comes, and measures, with the event."""
        if note.kind in _NEWS:
            self._news.set()

    # --- switchover ---------------------------------------------------------------------------

    async def switchover(
        self, cluster: ClusterConfig, name: str, to: str | None, for_s: float | None
    ) -> Answer:
        """Put a unit on ``to``, or on the best other node. Raises OrderRefused."""
        handover.check_time(for_s)
        before = await self._find(cluster, name)
        target = seats.choose(before, to)
        if before.own.leads and not target.is_self:
            await self._means.leaving((before.unit,), Reason.SWITCHOVER)
            # Draining takes seconds, in which everything may have become different.
            before = await self._find(cluster, name)
            target = seats.choose(before, to)
        if target.leads:
            self._pin(before.unit, target.node, for_s)
            pinned = order_answers.pinned(before.unit, for_s)
            return answer(True, f"{before.unit}: {target.node} is master already; {pinned}")
        return await self._put(cluster, before, target.node, for_s)

    async def _put(
        self, cluster: ClusterConfig, before: Table, to: str, for_s: float | None
    ) -> Answer:
        unit, warning = before.unit, self._warning(before)
        ordered_ns = self._means.now_ns()
        self._pin(unit, to, for_s)
        after, outcome = await self._watch_pin(cluster, before, to, ordered_ns)
        if outcome.fate is Fate.TAKEN:
            stays = after.pinned == to
            then = order_answers.pinned(unit, for_s) if stays else order_answers.NOT_PINNED
            told = f"{order_answers.taken(unit, outcome)}; {then}"
            return answer(stays, told, warning, {unit: outcome})
        waited_ns = self._means.now_ns() - ordered_ns
        told = order_answers.not_put(after, to, outcome, waited_ns)
        if after.pinned == to:
            self._pin(unit, "", None)
            told += "; the switchover was taken back"
        return answer(False, told, warning, {unit: outcome})

    async def release(self, cluster: ClusterConfig, name: str) -> Answer:
        """Clear the pin of a unit, whoever set it."""
        table = await self._find(cluster, name)
        if not table.pinned:
            return answer(True, f"{table.unit}: no switchover stands; nothing to end")
        self._pin(table.unit, "", None)
        decides = f"{table.unit}: pinned on {table.pinned} no more; priorities decide again"
        return answer(True, decides)

    def _pin(self, unit: str, node: str, for_s: float | None) -> None:
        """Not kept in the file: the engines tell each other."""
        self._book.pin(unit, node, for_s)
        self._means.send(self._book.orders())

    def _warning(self, table: Table) -> str:
        master = table.master
        if master is None or master.is_self or not _has_leaving(self._means.duties(), table.unit):
            return ""
        return (
            f"the leaving hooks of {table.unit} were not run: they run where the command is given "
            f"on the master, which was {master.node}"
        )

    async def _watch_pin(
        self, cluster: ClusterConfig, before: Table, to: str, ordered_ns: Instant
    ) -> tuple[Table, Outcome]:
        """Until the unit is on ``to``, or is known not to be."""
        table, outcome = before, OPEN
        async for tables in self._watch(cluster, ordered_ns):
            table = tables.get(before.unit, table)
            outcome = seats.judge_pin(before, table, to, ordered_ns)
            if outcome.fate is not Fate.OPEN:
                break
        return table, outcome

    # --- maintenance --------------------------------------------------------------------------

    async def begin_maintenance(
        self, cluster: ClusterConfig, for_s: float | None, force: bool
    ) -> Answer:
        """Give everything away, and take nothing. Raises OrderRefused."""
        given = await self._given(cluster, force)
        # What nobody can take stays here, so it is not drained.
        going = tuple(unit for unit, table in given.items() if table.candidates())
        if going:
            await self._means.leaving(going, Reason.MAINTENANCE)
            # Draining takes seconds: the other node may be in maintenance as well by now.
            given = await self._given(cluster, force)
        self._book.begin_maintenance(self._means.wall(), for_s)
        ordered_ns = self._means.now_ns()
        trouble = await self._order()
        tables, outcomes = await self._watch_relief(cluster, given, ordered_ns)
        told = [order_answers.relief(tables[unit], outcomes[unit]) for unit in given]
        left = {unit: tables[unit] for unit in given if outcomes[unit].fate is not Fate.TAKEN}
        if left and not force:
            return await self._withdraw(cluster, left, told)
        lasts = f"in maintenance {order_answers.span(for_s)}"
        return answer(True, "; ".join([lasts, *told]), trouble, outcomes)

    async def _given(self, cluster: ClusterConfig, force: bool) -> dict[str, Table]:
        """What this node is master of. Refused if nobody could take one of them."""
        tables = await self._look(cluster)
        given = {unit: table for unit, table in tables.items() if table.own.leads}
        for table in () if force else given.values():
            seats.demand_candidate(table)
        return given

    async def _withdraw(
        self, cluster: ClusterConfig, left: Mapping[str, Table], told: Sequence[str]
    ) -> Answer:
        """Nobody has taken ``left``: better here than nowhere."""
        self._book.maintenance = None
        ordered_ns = self._means.now_ns()
        trouble = await self._order()
        told = [*told, "maintenance was taken back"]
        waiting = {unit for unit, table in left.items() if table.master is None}
        tables = dict(left)
        if waiting:
            async for found in self._watch(cluster, ordered_ns):
                tables |= {unit: found[unit] for unit in waiting & found.keys()}
                if all(tables[unit].master is not None for unit in waiting):
                    break
        told += [order_answers.whose(tables[unit]) for unit in left if unit in waiting]
        return answer(False, "; ".join(told), trouble)

    async def _watch_relief(
        self, cluster: ClusterConfig, given: Mapping[str, Table], ordered_ns: Instant
    ) -> tuple[dict[str, Table], dict[str, Outcome]]:
        """Until each unit has another master, or is back here; or nobody is there to take it."""
        tables, outcomes = dict(given), dict.fromkeys(given, OPEN)
        awaited = {unit for unit, table in given.items() if table.candidates()}
        if not awaited:
            return tables, outcomes
        async for found in self._watch(cluster, ordered_ns):
            for unit in awaited & found.keys():
                tables[unit] = found[unit]
                outcomes[unit] = seats.judge_relief(given[unit], found[unit], ordered_ns)
            awaited = {unit for unit in awaited if outcomes[unit].fate is Fate.OPEN}
            if not awaited:
                break
        return tables, outcomes

    # --- looking ------------------------------------------------------------------------------

    async def _look(self, cluster: ClusterConfig) -> dict[str, Table]:
        return _tables(await self._means.look(), self._means.config(), cluster)

    async def _find(self, cluster: ClusterConfig, name: str) -> Table:
        """The unit of that name, or that has an instance of that name."""
        snapshot, config = await self._means.look(), self._means.config()
        unit = handover.find_unit(handover.units_of(snapshot, config), name)
        return seats.table_of(unit, snapshot, cluster)

    async def _watch(
        self, cluster: ClusterConfig, ordered_ns: Instant
    ) -> AsyncIterator[dict[str, Table]]:
        """The view, again and again, until whatever may come of an order must have come of it."""
        nodes = len(cluster.nodes)
        self._news = asyncio.Event()
        patience_ns = cluster.heartbeat_timeout_ns + nodes * ATTEMPT_NS + SLACK_NS
        while True:
            asked_ns = self._means.now_ns()
            snapshot = await self._means.snapshot()
            # Without a cluster: an engine that has just begun, and knows nobody yet.
            if snapshot is not None and snapshot.now_ns >= ordered_ns and snapshot.cluster:
                yield _tables(snapshot, self._means.config(), cluster)
            if asked_ns - ordered_ns > patience_ns:
                return
            await self._pause()

    async def _pause(self) -> None:
        """Until something happened here, or might have elsewhere."""
        waits = {
            asyncio.ensure_future(self._news.wait()),
            asyncio.ensure_future(self._means.sleep(POLL_S)),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._news.clear()


def _has_leaving(duties: Duties, unit: str) -> bool:
    plans = (plan for plan in duties.hooks if plan.unit == unit)
    return any(Occasion.LEAVING in hooks.commands for plan in plans for hooks in plan.sets)


def _tables(snapshot: Snapshot, config: NodeConfig, cluster: ClusterConfig) -> dict[str, Table]:
    units = handover.units_of(snapshot, config).values()
    return {unit.name: seats.table_of(unit, snapshot, cluster) for unit in units}
