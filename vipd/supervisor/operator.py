"""Carries an operator's commands through: ``vipd maintenance`` and ``vipd switchover``.

What follows is plain mode; in cluster mode ``pins`` does it. The order of a command: look (a fresh
snapshot), refuse what cannot be (``handover``), ask who listens (``listeners``), run the hooks for
*leaving* while this node still serves, order, watch until another master is heard, answer. One
command at a time; what ends an order by itself (its time, or this node being master again) needs
no command.

If nobody takes over, a switchover heals itself: the core takes mastership again after its own
takeover time. Maintenance would leave the VIPs without a host, so it is taken back, unless
``--force`` said that the operator wants it anyway.

Everything that this class touches comes in as ``Means``, so it runs in virtual time in tests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from vipd.adapters.listeners import Listeners
from vipd.errors import AdapterError
from vipd.model import (
    Address,
    InstanceConfig,
    Instant,
    Note,
    NoteKind,
    Orders,
    Reason,
    State,
    family_of,
    parse_address,
)
from vipd.supervisor import handover
from vipd.supervisor.handover import Fate, OrderRefused, Outcome, UnitView
from vipd.supervisor.means import POLL_S, Means
from vipd.supervisor.order_answers import Answer, answer, fate_of, held, recovery, span, spell
from vipd.supervisor.orders import OrderFile, OrdersNotKept
from vipd.supervisor.pins import ClusterCommands

LISTENERS_TIMEOUT_S = 1.0
SAVE_TIMEOUT_S = 2.0
LONGEST_SLEEP_S = 10.0
"""The wall clock may be set meanwhile: an end that it skipped is found within this time."""

MOST_HEARD = 8


class Operator:
    """Made before the engine starts, which is started with ``orders``. ``run`` until the end."""

    def __init__(self, means: Means, file: OrderFile) -> None:
        self._means = means
        self._file = file
        self._log = structlog.get_logger()
        self._book, trouble = file.load()
        self._busy = asyncio.Lock()
        self._saving = asyncio.Lock()
        # A thread of its own: a disk that hangs shall hold up nobody else's work.
        self._disk = ThreadPoolExecutor(1, "orders")
        self._changed = asyncio.Event()
        self._unsaved = False
        self._heard: dict[str, tuple[str, ...]] = {}
        self._cluster = ClusterCommands(means, self._book, self._order)
        if trouble:
            self._log.error("orders-not-read", error=trouble)
        # What ended while nobody ran must not reach the engine.
        self._note_ends(self._book.expire(means.wall()))
        self._end_holds_of_plain_mode()

    @property
    def orders(self) -> Orders:
        """What an engine that starts now has to know."""
        return self._book.orders()

    def status(self) -> Answer:
        """For ``vipd status --json``: instants of the wall clock, None where there is no end."""
        maintenance = self._book.maintenance
        return {
            "maintenance": None
            if maintenance is None
            else {"since": maintenance.since, "until": maintenance.until},
            "holds": {
                unit: {"since": hold.since, "until": hold.until}
                for unit, hold in self._book.holds.items()
            },
        }

    # --- what happens by itself ---------------------------------------------------------------

    def configure(self, units: Collection[str]) -> None:
        """The units of the configuration that is in force now."""
        for unit in self._book.retain(units):
            self._tell_end(unit, "the configuration has it no more")
            self._touch()
        self._end_holds_of_plain_mode()

    def _end_holds_of_plain_mode(self) -> None:
        """A cluster has pins instead, and nobody could end a hold there."""
        if self._means.config().cluster is None:
            return
        for unit in tuple(self._book.holds):
            self._book.end_hold(unit)
            self._tell_end(unit, "in a cluster, pins say where a unit belongs")
            self._touch()

    def take_note(self, note: Note) -> None:
        """Holds end by what the engine says; and who was heard may be asked later."""
        fields = note.fields
        self._cluster.take_note(note)
        if note.kind is NoteKind.TRANSITION and fields.get("master"):
            self._remember(note.instance, str(fields["master"]))
        if note.kind is not NoteKind.ROLE:
            return
        is_master = fields.get("state") == State.MASTER.value
        if not is_master and fields.get("master"):
            self._remember(note.instance, str(fields["master"]))
        if self._book.see_role(note.instance, is_master=is_master):
            self._tell_end(note.instance, "this node is master again")
            self._touch()

    def _remember(self, unit: str, address: str) -> None:
        others = [known for known in self._heard.get(unit, ()) if known != address]
        self._heard[unit] = (*others, address)[-MOST_HEARD:]

    async def run(self) -> None:
        """Ends what has its time, and keeps the file up to date. Until cancelled."""
        while True:
            self._changed.clear()
            self._note_ends(self._book.expire(self._means.wall()))
            if self._unsaved:
                self._unsaved = False
                await self._save()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._nap_s())

    def _nap_s(self) -> float | None:
        end = self._book.next_end()
        if end is None:
            return None
        return min(max(end - self._means.wall(), 0.01), LONGEST_SLEEP_S)

    def _note_ends(self, ended: Sequence[str]) -> None:
        for unit in ended:
            self._tell_end(unit, "its time is over")
        if ended:
            self._touch()

    def _tell_end(self, unit: str, cause: str) -> None:
        what = "hold-ended" if unit else "maintenance-ended"
        self._log.info(what, unit=unit, cause=cause)
        self._means.journal(what, unit, {"cause": cause})

    def _touch(self) -> None:
        """The orders changed by themselves: tell the engine now, the file soon."""
        self._means.send(self._book.orders())
        self._unsaved = True
        self._changed.set()

    async def _order(self) -> str:
        """The orders changed by a command: tell the engine, then the file; see ``_save``."""
        self._means.send(self._book.orders())
        self._changed.set()  # the next end may be sooner now
        return await self._save()

    async def _save(self) -> str:
        """Write the file; in words what is wrong, empty if nothing is."""
        loop = asyncio.get_running_loop()
        async with self._saving:
            work = loop.run_in_executor(self._disk, self._file.save, self._book.to_json())
            try:
                await asyncio.wait_for(work, SAVE_TIMEOUT_S)
            except OrdersNotKept as error:
                trouble = str(error)
            except TimeoutError:
                trouble = f"{self._file.path}: the disk does not answer"
            else:
                return ""
        self._log.error("orders-not-kept", error=trouble)
        return f"it will not survive a restart: {trouble}"

    # --- the commands -------------------------------------------------------------------------

    async def switchover(
        self, name: str, to: str | None, auto: bool, for_s: float | None, force: bool
    ) -> Answer:
        """Give mastership of a unit away; ``auto``: end its hold. Raises OrderRefused."""
        command = spell(f"switchover {name}", for_s, force, auto=auto, to=to)
        async with self._busy:
            return await self._told(command, name, self._switchover(name, to, auto, for_s, force))

    async def maintenance(self, on: bool, for_s: float | None, force: bool) -> Answer:
        """Begin or end maintenance. Raises OrderRefused."""
        command = spell(f"maintenance {'on' if on else 'off'}", for_s, force)
        async with self._busy:
            work = self._begin_maintenance(for_s, force) if on else self._end_maintenance()
            return await self._told(command, "", work)

    async def _told(self, command: str, subject: str, work: Awaitable[Answer]) -> Answer:
        """Carry a command out, and keep in log and journal what was asked and answered."""
        try:
            said = await work
        except OrderRefused as error:
            self._tell(command, subject, "refused", str(error))
            raise
        result = "done" if said["done"] else "failed"
        self._tell(command, subject, result, said["sentence"])
        return said

    def _tell(self, command: str, subject: str, result: str, sentence: str) -> None:
        fields = {"command": command, "result": result, "answer": sentence}
        self._log.info("command", **fields)
        self._means.journal("command", subject, fields)

    async def _switchover(
        self, name: str, to: str | None, auto: bool, for_s: float | None, force: bool
    ) -> Answer:
        if auto and (to is not None or for_s is not None):
            raise OrderRefused("--auto ends a switchover: it goes with neither --to nor --for")
        cluster = self._means.config().cluster
        if cluster is not None:
            if auto:
                return await self._cluster.release(cluster, name)
            return await self._cluster.switchover(cluster, name, to, for_s)
        handover.check_time(for_s)
        unit = handover.find_unit(await self._units(), name)
        if auto:
            return await self._release(unit)
        node, nodes = self._means.config().node, self._means.nodes()
        handover.check_switchover(unit, node, nodes, to)
        await self._demand_successor((unit,), force)
        await self._means.leaving((unit.name,), Reason.SWITCHOVER)
        # Draining takes seconds, in which mastership may have gone by itself.
        handover.check_switchover(handover.find_unit(await self._units(), name), node, nodes, to)
        self._book.step_down(unit.name, self._means.wall(), for_s)
        ordered_ns = self._means.now_ns()
        trouble = await self._order()
        outcome = (await self._watch((unit,), ordered_ns))[unit.name]
        if outcome.fate is Fate.TAKEN:
            sentence = f"{fate_of(unit, outcome)}; {held(unit.name, for_s)}"
            return answer(True, sentence, trouble, {unit.name: outcome})
        if outcome.fate is Fate.BACK and self._book.end_hold(unit.name):
            await self._order()
        return answer(False, fate_of(unit, outcome), "", {unit.name: outcome})

    async def _release(self, unit: UnitView) -> Answer:
        if not self._book.end_hold(unit.name):
            return answer(True, f"{unit.name}: no switchover stands; nothing to end")
        trouble = await self._order()
        return answer(True, f"{unit.name}: the configuration decides again who preempts", trouble)

    async def _begin_maintenance(self, for_s: float | None, force: bool) -> Answer:
        handover.check_time(for_s)
        if self._book.maintenance is not None:
            self._book.begin_maintenance(self._means.wall(), for_s)
            trouble = await self._order()
            return answer(True, f"in maintenance already, now {span(for_s)}", trouble)
        cluster = self._means.config().cluster
        if cluster is not None:
            return await self._cluster.begin_maintenance(cluster, for_s, force)
        units = (await self._units()).values()
        handover.check_maintenance(units, force)
        given = tuple(unit for unit in units if unit.leads and not unit.is_owner)
        await self._demand_successor(given, force)
        if given:
            await self._means.leaving(tuple(unit.name for unit in given), Reason.MAINTENANCE)
        self._book.begin_maintenance(self._means.wall(), for_s)
        ordered_ns = self._means.now_ns()
        trouble = await self._order()
        outcomes = await self._watch(given, ordered_ns)
        left = [unit for unit in given if outcomes[unit.name].fate is not Fate.TAKEN]
        told = [fate_of(unit, outcomes[unit.name]) for unit in given]
        if left and not force:
            return await self._take_back(left, told, outcomes)
        return answer(True, "; ".join([f"in maintenance {span(for_s)}", *told]), trouble, outcomes)

    async def _take_back(
        self, left: Sequence[UnitView], told: Sequence[str], outcomes: dict[str, Outcome]
    ) -> Answer:
        """Nobody has the VIPs of ``left``: better here than nowhere."""
        self._book.maintenance = None
        ordered_ns = self._means.now_ns()
        await self._order()
        after = await self._watch(left, ordered_ns)
        told = [*told, "maintenance was taken back", *(recovery(u, after[u.name]) for u in left)]
        return answer(False, "; ".join(told), "", outcomes)

    async def _end_maintenance(self) -> Answer:
        if self._book.maintenance is None:
            return answer(True, "not in maintenance; nothing to end")
        self._book.maintenance = None
        return answer(True, "maintenance is over; priorities decide again", await self._order())

    # --- looking ------------------------------------------------------------------------------

    async def _units(self) -> Mapping[str, UnitView]:
        return handover.units_of(await self._means.look(), self._means.config())

    async def _demand_successor(self, units: Sequence[UnitView], force: bool) -> None:
        """Raises OrderRefused if one of ``units`` has nobody who could take it over."""
        questions: dict[tuple[object, ...], asyncio.Task[Listeners]] = {}
        asked: list[tuple[UnitView, str, asyncio.Task[Listeners]]] = []
        for unit in units:
            for shot, config in zip(unit.members, unit.configs, strict=True):
                known = self._known(unit, config)
                key = (config.interface, config.family, config.unicast_peers, known)
                if key not in questions:
                    questions[key] = asyncio.ensure_future(self._ask(config, shot.source, known))
                asked.append((unit, config.name, questions[key]))
        await asyncio.gather(*questions.values())
        for unit in units:
            answers = {name: task.result() for owner, name, task in asked if owner is unit}
            heard = self._heard.get(unit.name, ())
            words = handover.check_successor(unit, answers, heard, force)
            self._log.info("successor", unit=unit.name, found=words)

    def _known(self, unit: UnitView, config: InstanceConfig) -> tuple[Address, ...]:
        """Who else speaks VRRP for this instance, as far as this node can know."""
        heard = (parse_address(text) for text in self._heard.get(unit.name, ()))
        known = (*heard, *self._means.neighbours(config.name))
        return tuple(dict.fromkeys(one for one in known if family_of(one) is config.family))

    async def _ask(
        self, config: InstanceConfig, source: str, known: tuple[Address, ...]
    ) -> Listeners:
        try:
            return await self._means.find(
                config.interface,
                config.family,
                parse_address(source) if source else None,
                config.unicast_peers,
                LISTENERS_TIMEOUT_S,
                heard=known,
            )
        except AdapterError as error:
            return Listeners((), f"could not ask: {error}")

    async def _watch(self, units: Sequence[UnitView], ordered_ns: Instant) -> dict[str, Outcome]:
        """Until each unit has another master, or is back here, or waited longer than VRRP does."""
        outcomes = {unit.name: handover.OPEN for unit in units}
        patience_ns = max((unit.patience_ns for unit in units), default=0)
        while True:
            now_ns = self._means.now_ns()
            snapshot = await self._means.snapshot()
            if snapshot is not None and snapshot.now_ns >= ordered_ns:
                found = handover.units_of(snapshot, self._means.config())
                for name in outcomes.keys() & found.keys():
                    if outcomes[name].fate is Fate.OPEN:
                        outcomes[name] = handover.judge_outcome(found[name], ordered_ns)
            waiting = any(outcome.fate is Fate.OPEN for outcome in outcomes.values())
            if not waiting or now_ns - ordered_ns > patience_ns:
                return outcomes
            await self._means.sleep(POLL_S)
