"""The daemon's life: start, reload, the engine's deaths, stop.

Order at start: the node's name (one vipd per network namespace), what an earlier run left
behind, configuration, checks and hooks, the control socket, the engine. At stop: the ``leaving``
hooks, the engine releases and ends, the ``stop`` hooks, then we. Until the engine is dead nobody
else touches the host's addresses.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from vipd import __version__
from vipd.adapters.clock import boottime_ns
from vipd.adapters.identity import NOBODY, Identities
from vipd.adapters.journal_entry import Query
from vipd.adapters.page import create_page
from vipd.adapters.process import freeze_gc, hurry
from vipd.adapters.systemd import ServiceManager
from vipd.errors import AdapterError
from vipd.ipc import (
    EXIT_REPLACED,
    Compiled,
    EngineState,
    Hello,
    Message,
    Noted,
    OrdersState,
    SnapshotGiven,
    SnapshotWanted,
    StateApplied,
    StopWanted,
    ToEngine,
)
from vipd.model import SECOND_NS, InstanceConfig, NodeConfig, Orders, Reason
from vipd.snapshots import Snapshot
from vipd.supervisor import entries, last_will, leftovers, log, tellings
from vipd.supervisor.alarms import IDENTITY_NOT_KEPT
from vipd.supervisor.control import ASKER, SOCKET_NAME, ControlServer
from vipd.supervisor.guard import Death, EngineGuard
from vipd.supervisor.hooks import LONGEST_LEAVING_S
from vipd.supervisor.loader import ConfigurationRefused, load_again
from vipd.supervisor.means import Means
from vipd.supervisor.operator import Operator
from vipd.supervisor.orders import OrderFile
from vipd.supervisor.staff import STOP_BUDGET_S, Staff
from vipd.supervisor.status import node_status
from vipd.will import FILE_NAME, PAGE_SIZE

STOP_TIMEOUT_S = 4.0
"""Below the unit's TimeoutStopSec: an engine that does not release by then is killed."""

SNAPSHOT_TIMEOUT_S = 1.0
INSIST_AGAIN_S = 0.05

EXIT_OK, EXIT_FAILED = 0, 1


class Supervisor:
    def __init__(self, path: Path, compiled: Compiled, name: socket.socket) -> None:
        self._path = path
        self._compiled = compiled
        self._runtime_dir = Path(compiled.runtime_dir)
        self._fixed = {"runtime_dir": compiled.runtime_dir, "state_dir": compiled.state_dir}
        self._reloading = asyncio.Lock()
        self._log = structlog.get_logger()
        self._manager = ServiceManager()
        page_file = create_page(self._runtime_dir / FILE_NAME, PAGE_SIZE)
        self._guard = EngineGuard(
            self._hear, self._engine_dead, self._engine_died, name.fileno(), page_file
        )
        self._will_done = True
        self._control = ControlServer(self, self._runtime_dir / SOCKET_NAME)
        self._stopping = asyncio.Event()
        self._engine_gone = asyncio.Event()
        self._identities = Identities(Path(compiled.state_dir))
        self._identity = NOBODY
        self._started = boottime_ns()
        self._obtained: dict[str, str] = {}
        self._restart: asyncio.TimerHandle | None = None
        self._restarts = 0
        self._snapshot: Snapshot | None = None
        self._waiting: dict[int, asyncio.Future[Snapshot]] = {}
        self._requests = 0
        self._exit = EXIT_OK
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def _config(self) -> NodeConfig:
        return self._compiled.state.config

    # --- life ---------------------------------------------------------------------------------

    async def run(self) -> int:
        """Until a signal ends it; returns the exit code."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unexpected)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_by_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        hurry(self._compiled.state.realtime)
        self._carry_out_will("an earlier run")
        leftovers.remember(self._runtime_dir, [self._config])
        self._staff = Staff(
            self._config.node, self._runtime_dir, Path(self._compiled.state_dir), self._insist
        )
        self._operator = self._make_operator()
        self._staff.configure(self._compiled.duties)
        self._staff.watch(IDENTITY_NOT_KEPT, str(self._identities.path), self._identities.not_kept)
        # Before the engine: what can be refused is refused before anything is claimed.
        await self._control.start()
        self._start_engine()
        freeze_gc()  # no long collection when the engine dies
        watchdog = loop.create_task(self._feed_watchdog())
        orders = loop.create_task(self._operator.run())
        await self._stopping.wait()
        self._manager.stopping()
        self._manager.needs(LONGEST_LEAVING_S + STOP_TIMEOUT_S + STOP_BUDGET_S)
        orders.cancel()
        await self._staff.leaving(_units_of(self._config), Reason.STOPPED.value)
        await self._stop_engine()
        await self._control.stop()
        await self._staff.stop()
        watchdog.cancel()
        return self._exit

    def _wanted(self) -> EngineState:
        """All that an engine must know, as it is now."""
        return replace(
            self._compiled.state,
            owner=self._identity.owner,
            seed=self._identity.seed,
            after_death=self._restarts > 0,
            health=self._staff.verdicts(),
            orders=self._operator.orders,
        )

    def _make_operator(self) -> Operator:
        means = Means(
            snapshot=self._take_snapshot,
            config=lambda: self._config,
            nodes=lambda: self._compiled.nodes,
            neighbours=lambda instance: self._compiled.neighbours.get(instance, ()),
            duties=lambda: self._compiled.duties,
            leaving=lambda units, reason: self._staff.leaving(units, reason.value),
            send=self._send_orders,
            journal=self._record_order,
        )
        return Operator(means, OrderFile(Path(self._compiled.state_dir)))

    def _record_order(self, kind: str, subject: str, fields: Mapping[str, Any]) -> None:
        """A command with who gave it, or an order that ended by itself, with why."""
        if kind == entries.COMMAND:
            text = f"{fields['command']}: {fields['answer']}"
            self._staff.record(entries.command(text, ASKER.get(), subject, **fields))
        else:
            self._staff.journal.add(kind, subject, fields, str(fields.get("cause", "")))

    def _send_orders(self, _orders: Orders) -> None:
        """Those of the instant at which the engine has room for them."""
        self._insist(lambda: OrdersState(self._operator.orders))

    async def _stop_engine(self) -> None:
        """A clean release by the engine; by us, if it does not do it in time."""
        if self._guard.alive:
            self._insist(lambda: StopWanted(Reason.STOPPED))
            try:
                await asyncio.wait_for(self._engine_gone.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                self._log.error("engine-did-not-stop", pid=self._guard.pid)
                self._guard.kill()
                await self._engine_gone.wait()
        if not self._will_done:
            self._carry_out_will("the engine")

    async def _feed_watchdog(self) -> None:
        interval_ns = self._manager.watchdog_interval_ns
        if interval_ns is None:
            return
        while True:
            if self._does_its_duty():
                self._manager.alive()
            await asyncio.sleep(interval_ns / 3 / SECOND_NS)

    def _does_its_duty(self) -> bool:
        """Only a supervisor with a healthy engine, or about to start one, is worth keeping.

        An engine that is silent and does not even die is beyond our means.

        The back-off may be as long as the watchdog: if it counted as idleness, a host whose
        engines keep dying would start them ever faster instead of ever slower.
        """
        return self._guard.healthy or self._restart is not None or self._stopping.is_set()

    # --- the engine ---------------------------------------------------------------------------

    def _hear(self, message: Message) -> None:
        if isinstance(message, Noted):
            self._staff.dropped += message.dropped
            for note in message.notes:
                self._staff.note(note)
                self._operator.take_note(note)
        elif isinstance(message, SnapshotGiven):
            self._snapshot = message.snapshot
            self._staff.alarms_of(message.snapshot)
            future = self._waiting.pop(message.request, None)
            if future is not None and not future.done():
                future.set_result(message.snapshot)
        elif isinstance(message, Hello):
            self._obtained = dict(message.obtained)
            self._log.info("engine-started", pid=message.pid, **self._obtained)
        elif isinstance(message, StateApplied):
            if message.generation == self._config.generation:
                self._guard.allow_silence(self._compiled.engine_timeout_ns)
            self._staff.engine_works(self._guard.pid)
            # From now on status has something to show, even if this engine dies the next moment.
            self._guard.send(SnapshotWanted(0))
            self._say_ready()

    def _say_ready(self) -> None:
        config = self._config
        self._manager.ready(f"{len(config.instances)} instances, generation {config.generation}")

    def _engine_dead(self) -> None:
        """Its VIPs have no master now: nothing comes before this."""
        self._carry_out_will("the dead engine")

    def _engine_died(self, death: Death) -> None:
        self._engine_gone.set()
        if self._stopping.is_set():
            return
        cause = "silent for too long" if death.killed_for_silence else "it ended by itself"
        self._log.error("engine-died", pid=death.pid, status=death.status, cause=cause)
        self._staff.engine_died(cause, death.pid, death.status)
        if death.status == EXIT_REPLACED:
            self._fail("vipd-replaced", AdapterError("vipd was replaced on disk; starting anew"))
            return
        self._restarts += 1
        delay_s = self._guard.next_delay_ns() / SECOND_NS
        self._restart = asyncio.get_running_loop().call_later(delay_s, self._start_again)

    def _start_engine(self) -> None:
        """Every engine is a life of its own; what is sent to it later says the same one again."""
        self._identity = self._identities.draw(self._config.node)
        if self._identity.kept:
            self._log.warning("identity-trouble", problem=self._identity.kept)
        self._guard.start(self._wanted(), self._compiled.engine_timeout_ns)

    def _start_again(self) -> None:
        self._restart = None
        if self._stopping.is_set():
            return
        self._engine_gone.clear()
        try:
            self._start_engine()
        except AdapterError as error:
            self._fail("engine-not-started", error)

    def _carry_out_will(self, whose: str) -> None:
        try:
            execution = last_will.execute(self._guard.page, self._runtime_dir)
        except AdapterError as error:
            self._will_done = False
            self._fail("addresses-not-removed", error)
            return
        self._will_done = True
        tellings.will_executed(execution, whose)

    def _fail(self, what: str, error: AdapterError) -> None:
        """We cannot do our duty: end, so that the service manager starts us anew."""
        self._log.error(what, error=str(error))
        self._exit = EXIT_FAILED
        self._stopping.set()

    def _unexpected(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What asyncio would only log. In our own callbacks it means a guard that may be blind."""
        error = context.get("exception")
        self._log.error("unexpected", what=context["message"], error=repr(error))
        if isinstance(error, Exception) and not {"transport", "protocol"} & context.keys():
            self._exit = EXIT_FAILED
            self._stopping.set()

    # --- reload -------------------------------------------------------------------------------

    def _reload_by_signal(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload_and_log())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload_and_log(self) -> None:
        try:
            await self.reload()
        except ConfigurationRefused as error:
            for fault in error.faults:
                self._log.error("configuration-refused", fault=fault)
        except AdapterError as error:
            self._log.error("configuration-not-read", error=str(error))

    async def reload(self) -> tuple[str, ...]:
        """Take the file over; raises ConfigurationRefused, and then nothing has changed."""
        async with self._reloading:
            self._manager.reloading()
            try:
                generation = self._config.generation + 1
                compiled = await self._load_again(generation)
                leaving = _units_that_leave(self._config, compiled.state.config)
                await self._staff.leaving(leaving, Reason.REMOVED.value)
                self._take_over(compiled)
            finally:
                self._say_ready()
        return compiled.changes

    async def _load_again(self, generation: int) -> Compiled:
        config, duties = self._config, self._compiled.duties
        try:
            return await load_again(self._path, generation, config, duties)
        except ConfigurationRefused as error:
            self._staff.record(
                entries.configuration("refused", generation, error.faults, ASKER.get())
            )
            raise

    def _take_over(self, compiled: Compiled) -> None:
        # They hold the control socket and the journal, which cannot move under a running daemon.
        for key, kept in self._fixed.items():
            if getattr(compiled, key) != kept:
                self._log.warning("restart-needed", key=key, kept=kept)
        leftovers.remember(self._runtime_dir, [self._config, compiled.state.config])
        # How often the engine says that it lives follows its timeout, from when it has read this.
        old_ns, new_ns = self._compiled.engine_timeout_ns, compiled.engine_timeout_ns
        self._guard.allow_silence(max(old_ns, new_ns))
        self._compiled = compiled
        self._staff.configure(compiled.duties)
        self._operator.configure(tuple(_units_of(self._config)))
        self._insist(self._wanted)
        log.configure(compiled.log_level, compiled.log_format)
        for warning in compiled.warnings:
            self._log.warning("configuration-warning", warning=warning)
        generation = compiled.state.config.generation
        self._log.info("reloaded", generation=generation, changes=list(compiled.changes))
        self._staff.record(
            entries.configuration("reloaded", generation, compiled.changes, ASKER.get())
        )

    def _insist(self, message: Callable[[], ToEngine]) -> None:
        """Until the engine has taken it: one that does not read just now shall not miss it."""
        if self._guard.alive and not self._guard.send(message()):
            asyncio.get_running_loop().call_later(INSIST_AGAIN_S, self._insist, message)

    # --- what the control socket asks ---------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        snapshot = await self._take_snapshot()
        status: dict[str, Any] = {"node": self._config.node, "instances": {}}
        if snapshot is not None:
            status = node_status(snapshot, time.time(), self._config.cluster)
        return status | {
            "version": __version__,
            "uptime_s": (boottime_ns() - self._started) / SECOND_NS,
            "age_ms": None if snapshot is None else (boottime_ns() - snapshot.now_ns) / 1e6,
            "engine": {"pid": self._guard.pid, "restarts": self._restarts, **self._obtained},
            "configuration": {"file": str(self._path), "generation": self._config.generation},
            **self._operator.status(),
            "notes_dropped": self._staff.dropped,
            "log_lines_lost": log.STREAM.lost,
            **self._staff.status(),
        }

    def happened(self, instance: str, most: int) -> list[dict[str, Any]]:
        """The newest entries about the instance, its group, what they track, and the node."""
        groups = [group for group in self._config.groups if instance in group.instances]
        members = {instance, *(name for group in groups for name in group.instances)}
        instances = [each for each in self._config.instances if each.name in members]
        tracks = [*(group.track for group in groups), *(each.track for each in instances)]
        tracked = {track.name for several in tracks for track in several}
        subjects = {instance, "", *(group.name for group in groups), *tracked}
        return self._staff.happened(tuple(subjects), most)

    def end_waiting(self) -> None:
        self._staff.end_waiting()

    async def maintenance(self, on: bool, for_s: float | None, force: bool) -> dict[str, Any]:
        return await self._operator.maintenance(on, for_s, force)

    async def switchover(
        self, name: str, to: str | None, auto: bool, for_s: float | None, force: bool
    ) -> dict[str, Any]:
        return await self._operator.switchover(name, to, auto, for_s, force)

    async def events(self, query: Query, wait_s: float) -> dict[str, Any]:
        return await self._staff.events(query, wait_s)

    async def _take_snapshot(self) -> Snapshot | None:
        """A fresh one; an old one, whose age the status shows, if the engine does not answer."""
        self._requests += 1
        request = self._requests
        future: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()
        self._waiting[request] = future
        if not self._guard.send(SnapshotWanted(request)):
            del self._waiting[request]
            return self._snapshot
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(future, SNAPSHOT_TIMEOUT_S)
        self._waiting.pop(request, None)
        return self._snapshot


def _units_of(config: NodeConfig) -> dict[str, frozenset[InstanceConfig]]:
    """The units by name: groups, and instances that are in none."""
    group_of = {name: group.name for group in config.groups for name in group.instances}
    units: dict[str, set[InstanceConfig]] = {}
    for instance in config.instances:
        units.setdefault(group_of.get(instance.name, instance.name), set()).add(instance)
    return {name: frozenset(members) for name, members in units.items()}


def _units_that_leave(old: NodeConfig, new: NodeConfig) -> list[str]:
    """Units that a reload takes away, or makes other routers of: they release first."""

    def routers(members: frozenset[InstanceConfig]) -> frozenset[object]:
        return frozenset((each.name, each.router_key, each.unicast_peers) for each in members)

    stays = {name: routers(members) for name, members in _units_of(new).items()}
    before = {name: routers(members) for name, members in _units_of(old).items()}
    return [name for name, members in before.items() if stays.get(name) != members]


def prepare_directories(compiled: Compiled) -> None:
    """Raises AdapterError with the directory and the cure."""
    for directory in (Path(compiled.runtime_dir), Path(compiled.state_dir)):
        try:
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            message = f"the directory {directory}: {error.strerror}; create it, or name another"
            raise AdapterError(message, error.errno or 0) from error
    if not os.access(compiled.runtime_dir, os.W_OK):
        raise AdapterError(f"the directory {compiled.runtime_dir} is not writable")
