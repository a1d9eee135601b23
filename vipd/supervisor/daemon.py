"""The daemon's life: start, reload, the engine's deaths, stop.

Order at start: configuration, the node's name (one vipd per network namespace), what an earlier
run left behind, the engine, the control socket. At stop: the engine releases and ends, then we.
Until the engine is dead nobody else touches the host's addresses.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import structlog

from vipd import __version__
from vipd.adapters.clock import boottime_ns
from vipd.adapters.hostfacts import read_host
from vipd.adapters.systemd import ServiceManager
from vipd.config.diff import plan
from vipd.config.load import HostFacts, Loaded, load
from vipd.errors import AdapterError, ConfigError
from vipd.ipc import (
    EngineState,
    Hello,
    Message,
    Noted,
    SnapshotGiven,
    SnapshotWanted,
    StateApplied,
    StopWanted,
)
from vipd.model import SECOND_NS, Note, Reason, Snapshot
from vipd.supervisor import leftovers, log
from vipd.supervisor.compile import engine_state
from vipd.supervisor.control import SOCKET_NAME, ControlServer
from vipd.supervisor.guard import Death, EngineGuard
from vipd.supervisor.history import History
from vipd.supervisor.status import node_status

STOP_TIMEOUT_S = 4.0
"""Below the unit's TimeoutStopSec: an engine that does not release by then is killed."""

SNAPSHOT_TIMEOUT_S = 1.0

EXIT_OK, EXIT_FAILED = 0, 1


class Supervisor:
    def __init__(self, path: Path, loaded: Loaded, name: socket.socket) -> None:
        self._path = path
        self._loaded = loaded
        self._generation = 1
        self._state = engine_state(loaded, self._generation)
        self._log = structlog.get_logger()
        self._history = History()
        self._manager = ServiceManager()
        self._guard = EngineGuard(self._hear, self._engine_died, (name.fileno(),))
        self._control = ControlServer(self, loaded.runtime_dir / SOCKET_NAME)
        self._stopping = asyncio.Event()
        self._engine_gone = asyncio.Event()
        self._started = boottime_ns()
        self._obtained: dict[str, str] = {}
        self._restarts = 0
        self._ready = False
        self._snapshot: Snapshot | None = None
        self._waiting: dict[int, asyncio.Future[Snapshot]] = {}
        self._requests = 0
        self._exit = EXIT_OK

    # --- life ---------------------------------------------------------------------------------

    async def run(self) -> int:
        """Until a signal ends it; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_by_signal)
        self._remove_leftovers("an earlier run")
        leftovers.remember(self._loaded.runtime_dir, [self._loaded.node_config])
        self._guard.start(self._state, self._loaded.engine_timeout_ns)
        await self._control.start()
        watchdog = loop.create_task(self._feed_watchdog())
        await self._stopping.wait()
        self._manager.stopping()
        watchdog.cancel()
        await self._stop_engine()
        await self._control.stop()
        return self._exit

    async def _stop_engine(self) -> None:
        """A clean release by the engine; by us, if it does not do it in time."""
        if self._guard.alive:
            self._guard.send(StopWanted(Reason.STOPPED))
            try:
                await asyncio.wait_for(self._engine_gone.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                self._log.error("engine-did-not-stop", pid=self._guard.pid)
                self._guard.kill()
                await self._engine_gone.wait()
        self._remove_leftovers("the engine")

    async def _feed_watchdog(self) -> None:
        interval_ns = self._manager.watchdog_interval_ns
        if interval_ns is None:
            return
        while True:
            # Only a supervisor with a living engine is worth keeping.
            if self._guard.alive:
                self._manager.alive()
            await asyncio.sleep(interval_ns / 3 / SECOND_NS)

    # --- the engine ---------------------------------------------------------------------------

    def _hear(self, message: Message) -> None:
        if isinstance(message, Noted):
            self._history.dropped += message.dropped
            for note in message.notes:
                self._take_note(note)
        elif isinstance(message, SnapshotGiven):
            self._snapshot = message.snapshot
            future = self._waiting.pop(message.request, None)
            if future is not None and not future.done():
                future.set_result(message.snapshot)
        elif isinstance(message, Hello):
            self._obtained = dict(message.obtained)
            self._log.info("engine-started", pid=message.pid, **self._obtained)
        elif isinstance(message, StateApplied):
            self._say_ready()

    def _take_note(self, note: Note) -> None:
        self._history.add(note)
        log.render(note)

    def _say_ready(self) -> None:
        count = len(self._loaded.node_config.instances)
        self._manager.ready(f"{count} instances, configuration {self._generation}")
        self._ready = True

    def _engine_died(self, death: Death) -> None:
        self._engine_gone.set()
        if self._stopping.is_set():
            return
        cause = "silent for too long" if death.killed_for_silence else "it ended by itself"
        self._log.error("engine-died", pid=death.pid, status=death.status, cause=cause)
        self._remove_leftovers("the dead engine")
        self._restarts += 1
        delay_ns = self._guard.next_delay_ns()
        asyncio.get_running_loop().call_later(delay_ns / SECOND_NS, self._start_again)

    def _start_again(self) -> None:
        if self._stopping.is_set():
            return
        self._engine_gone.clear()
        try:
            self._guard.start(self._state, self._loaded.engine_timeout_ns)
        except AdapterError as error:
            self._fail("engine-not-started", error)

    def _remove_leftovers(self, whose: str) -> None:
        listed = leftovers.remembered(self._loaded.runtime_dir)
        try:
            removed = leftovers.remove(listed)
        except AdapterError as error:
            self._fail("addresses-not-removed", error)
            return
        if removed:
            self._log.warning("addresses-removed", left_by=whose, addresses=list(removed))

    def _fail(self, what: str, error: AdapterError) -> None:
        """We cannot do our duty: end, so that the service manager starts us anew."""
        self._log.error(what, error=str(error))
        self._exit = EXIT_FAILED
        self._stopping.set()

    # --- reload -------------------------------------------------------------------------------

    def _reload_by_signal(self) -> None:
        try:
            self.reload()
        except ConfigError as error:
            for fault in error.faults:
                self._log.error("configuration-refused", fault=str(fault))

    def reload(self) -> tuple[str, ...]:
        """Take the file over; raises ConfigError, and then nothing has changed."""
        self._manager.reloading()
        try:
            loaded = load(self._path, facts=host_facts(), node=None)
            old, self._loaded = self._loaded, self._keep_fixed(loaded)
        finally:
            self._say_ready()
        self._generation += 1
        self._state = engine_state(self._loaded, self._generation)
        configs = [old.node_config, self._loaded.node_config]
        leftovers.remember(self._loaded.runtime_dir, configs)
        self._guard.send(self._state)
        log.configure(self._loaded.log.level, self._loaded.log.format)
        changes = plan(old.node_config, self._loaded.node_config)
        self._log.info("reloaded", generation=self._generation, changes=list(changes))
        return changes

    def _keep_fixed(self, loaded: Loaded) -> Loaded:
        """``runtime_dir`` holds the control socket and cannot move under a running daemon."""
        if loaded.runtime_dir != self._loaded.runtime_dir:
            self._log.warning(
                "restart-needed", key="runtime_dir", kept=str(self._loaded.runtime_dir)
            )
        return loaded

    # --- what the control socket asks ---------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        snapshot = await self._take_snapshot()
        status: dict[str, Any] = {"node": self._loaded.node_config.node, "instances": {}}
        if snapshot is not None:
            status = node_status(snapshot, time.time())
        return status | {
            "version": __version__,
            "uptime_s": (boottime_ns() - self._started) / SECOND_NS,
            "age_ms": None if snapshot is None else (boottime_ns() - snapshot.now_ns) / 1e6,
            "engine": {"pid": self._guard.pid, "restarts": self._restarts, **self._obtained},
            "configuration": {"file": str(self._path), "generation": self._generation},
            "alarms": [],
            "maintenance": None,
            "notes_dropped": self._history.dropped,
        }

    def happened(self, instance: str, most: int) -> list[dict[str, Any]]:
        return self._history.of(instance, most)

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


def host_facts() -> HostFacts | None:
    """This host's links and addresses, None where they cannot be read."""
    try:
        return HostFacts(*read_host())
    except AdapterError:
        return None


def prepare_directories(loaded: Loaded) -> None:
    """Raises AdapterError with the directory and the cure."""
    for directory in (loaded.runtime_dir, loaded.state_dir):
        try:
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            message = f"the directory {directory}: {error.strerror}; create it, or name another"
            raise AdapterError(message, error.errno or 0) from error
    if not os.access(loaded.runtime_dir, os.W_OK):
        raise AdapterError(f"the directory {loaded.runtime_dir} is not writable")


__all__ = ["EngineState", "Supervisor", "host_facts", "prepare_directories"]
