"""Guards the engine: starts it, listens to it, and cleans up when it dies.

Rules
-----
1. The engine's death is noticed by whatever comes first: the end of the channel or its pidfd.
   What it left on the host is removed *before* the next engine starts.
2. An engine that is silent for longer than ``engine_timeout`` is killed first, then the same.
   Silence is counted only over time in which this loop itself ran: a supervisor that was frozen
   together with its engine must not kill it on waking.
3. Engines that keep dying are started with a growing delay, so that a fault that kills each one
   does not make the VIP flap. One that lived long enough starts anew at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from vipd.adapters import frame_socket
from vipd.adapters.clock import boottime_ns
from vipd.adapters.process import open_pidfd, signal_pidfd
from vipd.errors import AdapterError
from vipd.ipc import (
    Channel,
    ChannelClosed,
    EngineState,
    Hello,
    Message,
    MessageRefused,
    ToEngine,
    socket_pair,
)
from vipd.model import SECOND_NS, Duration, Instant

START_TIMEOUT_NS = 10 * SECOND_NS
"""An engine that has not said Hello by then will not do so any more."""

LONG_LIFE_NS = 60 * SECOND_NS
BACKOFF_FIRST_NS = SECOND_NS // 10
BACKOFF_LAST_NS = 10 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Death:
    """How an engine ended. ``status``: exit code, or minus the signal that ended it."""

    pid: int
    status: int
    killed_for_silence: bool


class Silence:
    """How long the engine has said nothing, in time in which we ourselves were on time."""

    def __init__(self, now: Instant) -> None:
        self._last: Instant = now
        self.silent_ns: Duration = 0

    def heard(self, now: Instant) -> None:
        self.silent_ns, self._last = 0, now

    def tick(self, now: Instant, step_ns: Duration) -> None:
        """Called after ``step_ns``; a later call means that we slept, and counts as one step."""
        self.silent_ns += min(now - self._last, step_ns)
        self._last = now


class EngineGuard:
    """One engine after another."""

    def __init__(
        self,
        hear: Callable[[Message], None],
        died: Callable[[Death], None],
        inherited: tuple[int, ...],
    ) -> None:
        self._hear = hear
        self._died = died
        self._inherited = inherited
        self._frames = frame_socket.open_sender()
        self._arp = frame_socket.open_arp_listener()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._pidfd = -1
        self._started: Instant = 0
        self._silence: Silence | None = None
        self._timeout_ns: Duration = 0
        self._greeted = False
        self._killed_for_silence = False
        self._backoff_ns: Duration = 0
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None

    # --- starting -----------------------------------------------------------------------------

    def start(self, state: EngineState, timeout_ns: Duration) -> None:
        """Start an engine and give it its state. Raises AdapterError."""
        ours, theirs = socket_pair()
        passed = (theirs.fileno(), self._frames.fileno(), self._arp.fileno())
        command = [sys.executable, "-m", "vipd.engine", *map(str, passed)]
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=(*passed, *self._inherited),
                stdin=subprocess.DEVNULL,
                process_group=0,  # a Ctrl-C at the terminal is the supervisor's to answer
            )
        except OSError as error:
            ours.close()
            raise AdapterError(
                f"starting the engine: {error.strerror}", error.errno or 0
            ) from error
        finally:
            theirs.close()
        self._channel = Channel(ours)
        self._pidfd = open_pidfd(self._process.pid)
        self._started = boottime_ns()
        self._greeted = self._killed_for_silence = False
        self._timeout_ns = timeout_ns
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._read)
        loop.add_reader(self._pidfd, self._bury)
        self._watch = loop.create_task(self._watch_silence())
        self.send(state)

    def allow_silence(self, timeout_ns: Duration) -> None:
        """Another ``engine_timeout`` for the engine that lives."""
        self._timeout_ns = timeout_ns

    def send(self, message: ToEngine) -> bool:
        """False: there is no engine, or it does not read."""
        if self._channel is None:
            return False
        try:
            return self._channel.send(message)
        except ChannelClosed:
            return False  # its death is on the way

    def next_delay_ns(self) -> Duration:
        """How long to wait before the next start; grows with every short life."""
        if boottime_ns() - self._started > LONG_LIFE_NS:
            self._backoff_ns = 0
        delay_ns = self._backoff_ns
        self._backoff_ns = min(max(2 * delay_ns, BACKOFF_FIRST_NS), BACKOFF_LAST_NS)
        return delay_ns

    def kill(self) -> None:
        """SIGKILL, through the pidfd: never another process. The death is told as usual."""
        if self._process is not None:
            signal_pidfd(self._pidfd, signal.SIGKILL)

    # --- listening ----------------------------------------------------------------------------

    def _read(self) -> None:
        """Everything that waits; the end of the channel is the fastest sign of a death."""
        while self._channel is not None:
            try:
                message = self._channel.receive()
            except ChannelClosed:
                asyncio.get_running_loop().remove_reader(self._channel.fileno())
                # It may have closed the channel without dying: without it, it must not go on.
                self.kill()
                return
            except MessageRefused:
                self.kill()
                return
            if message is None:
                return
            if self._silence is not None:
                self._silence.heard(boottime_ns())
            self._greeted = self._greeted or isinstance(message, Hello)
            self._hear(message)

    async def _watch_silence(self) -> None:
        self._silence = silence = Silence(boottime_ns())
        while True:
            step_ns = max(self._timeout_ns // 8, 1)
            await asyncio.sleep(step_ns / SECOND_NS)
            silence.tick(boottime_ns(), step_ns)
            allowed_ns = self._timeout_ns if self._greeted else START_TIMEOUT_NS
            if silence.silent_ns > allowed_ns:
                self._killed_for_silence = True
                self.kill()
                return

    # --- death --------------------------------------------------------------------------------

    def _bury(self) -> None:
        """The pidfd says dead: hear its last words, reap it, and tell."""
        process, channel = self._process, self._channel
        if process is None or channel is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        self._read()
        loop.remove_reader(channel.fileno())
        if self._watch is not None:
            self._watch.cancel()
        status = process.wait()
        os.close(self._pidfd)
        channel.close()
        self._process, self._channel, self._silence = None, None, None
        self._died(Death(process.pid, status, self._killed_for_silence))
