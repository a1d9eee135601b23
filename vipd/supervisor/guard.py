"""Guards the engine: starts it, listens to it, and cleans up when it dies.

Rules
-----
1. The engine is dead when its pidfd says so. Then its last will comes first (``dead``), before its
   last words are heard, before anything is logged, and *before* the next engine starts: until the
   will is done nobody serves.
2. It lives as long as the instant in the shared page changes: it writes that of each turn of its
   loop. If it is silent for longer than ``engine_timeout`` it is killed first, then the same.
   Silence is counted only over time in which this loop itself ran: a supervisor that was frozen
   together with its engine must not kill it on waking. So it looks often, and one look counts for
   one step at most: a rare look could not tell whether anybody was scheduled meanwhile.
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
from vipd.adapters.page import PageFile
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
from vipd.will import Page

START_TIMEOUT_NS = 10 * SECOND_NS
"""An engine that has not said Hello by then will not do so any more."""

LOOKS = 8
"""How often within ``engine_timeout`` the guard looks for a sign of life."""

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
        dead: Callable[[], None],
        died: Callable[[Death], None],
        name_fd: int,
        page_file: PageFile,
    ) -> None:
        """``dead`` is called at once, ``died`` when everything about the death is known."""
        self.page = Page(page_file.buffer)
        self._hear = hear
        self._dead = dead
        self._died = died
        self._name_fd = name_fd
        self._page_file = page_file
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
        self._next_look: asyncio.TimerHandle | None = None
        self._last_turn: Instant = 0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None

    @property
    def healthy(self) -> bool:
        """There is an engine, and it gives signs of life; not so one that outlives a SIGKILL."""
        silence = self._silence
        return silence is not None and silence.silent_ns <= self._allowed_ns

    @property
    def _allowed_ns(self) -> Duration:
        return self._timeout_ns if self._greeted else START_TIMEOUT_NS

    # --- starting -----------------------------------------------------------------------------

    def start(self, state: EngineState, timeout_ns: Duration) -> None:
        """Start an engine and give it its state. Raises AdapterError."""
        ours, theirs = socket_pair()
        frame_socket.silence(self._arp)  # what the engine before did not hear is history
        self.page.begin(state.owner)
        shared = (self._frames.fileno(), self._arp.fileno(), self._page_file.fd)
        passed = (theirs.fileno(), *shared)
        command = [sys.executable, "-m", "vipd.engine", *map(str, passed)]
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=(*passed, self._name_fd),
                stdin=subprocess.DEVNULL,
                # A Ctrl-C at the terminal is the supervisor's to answer; and a session of its own
                # is a scheduling group of its own.
                start_new_session=True,
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
        self._silence, self._last_turn = Silence(self._started), self.page.last_turn
        self._look_again()
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
            if isinstance(message, Hello) and self._silence is not None:
                self._greeted = True
                self._silence.heard(boottime_ns())
            self._hear(message)

    def _look_again(self) -> None:
        step_ns = max(self._timeout_ns // LOOKS, 1)
        loop = asyncio.get_running_loop()
        self._next_look = loop.call_later(step_ns / SECOND_NS, self._look, step_ns)

    def _look(self, step_ns: Duration) -> None:
        """Has the engine's loop turned since the last look?"""
        silence, last_turn = self._silence, self.page.last_turn
        if silence is None:
            return
        if last_turn != self._last_turn:
            self._last_turn = last_turn
            silence.heard(boottime_ns())
        else:
            silence.tick(boottime_ns(), step_ns)
        if silence.silent_ns > self._allowed_ns and not self._killed_for_silence:
            self._killed_for_silence = True
            self.kill()
        self._look_again()

    # --- death --------------------------------------------------------------------------------

    def _bury(self) -> None:
        """The pidfd says dead: its will at once; then hear its last words, reap it, and tell."""
        process, channel = self._process, self._channel
        if process is None or channel is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        self._dead()
        self._read()
        loop.remove_reader(channel.fileno())
        if self._next_look is not None:
            self._next_look.cancel()
        status = process.wait()
        os.close(self._pidfd)
        channel.close()
        self._process, self._channel, self._silence = None, None, None
        self._died(Death(process.pid, status, self._killed_for_silence))
