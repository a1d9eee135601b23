"""Runs one program of the operator's: a check or a hook. Nothing that it does harms vipd.

Rules
-----
1. No shell: the words of the command are the arguments. The program is an absolute path.
2. It runs as ``user`` (``adapters.spawn`` says what it inherits: nothing). As root only if nobody
   but root can change what runs (``adapters.trusted_path``); that is judged at every run.
3. The run ends when the program ends. What it left running in the background is not waited for, and
   loses its output. If the program failed, that is killed: it will be run again, and must not meet
   the rest of itself.
4. At the timeout its process group gets SIGTERM, and SIGKILL when the program has ended, at the
   latest after ``grace_s``. A run whose waiting task is cancelled is killed at once.
5. Time in which we did not run ourselves does not count: a program that was frozen together with
   us gets as much again, once.
6. The first ``output_limit`` bytes of output are kept. What follows is read slowly enough that a
   flood costs us nothing (the writer waits), and fast enough that a chatty program ends in time.

A program that SIGKILL does not end hangs in the kernel and never runs a line of its own again: the
run is given up with status None, and reaped when it dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vipd.adapters import spawn
from vipd.adapters.trusted_path import first_bytes, untrusted_component
from vipd.errors import AdapterError, VipdError
from vipd.model import MILLISECOND_NS, SECOND_NS, Duration

KILL_WAIT_S = 1.0
"""How long after SIGKILL a run is given up."""

LATE_S = 0.1
"""A timeout that is noticed later than this was noticed by a loop that did not run."""

LISTEN_S = 0.05
CHUNK = 64 * 1024  # the size of a pipe
PAUSE_S = 0.02  # with CHUNK: 3 MB/s
_EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_MAGIC = (b"#!", b"\x7fE")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class ScriptRefused(VipdError):
    """The program was not started; the message names the reason and the cure."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. ``status``: exit code, or minus the signal that ended it.

    None: it could not be killed (it hangs in the kernel), which is a time-out too.
    """

    status: int | None
    timed_out: bool
    output: str
    elapsed_ns: Duration


async def run(
    command: Sequence[str],
    *,
    user: str | None,
    environment: Mapping[str, str],
    timeout_s: float,
    grace_s: float = 2.0,
    output_limit: int = 4096,
    started: Callable[[int], None] | None = None,
) -> Outcome:
    """Run ``command`` to its end or its timeout. Raises ScriptRefused if it was not started.

    ``started`` is told the process, which leads its own session and process group, before the
    program begins: if we die in between, it never does.
    """
    if any("\0" in word for word in command):
        raise ScriptRefused("a null byte in the command; remove it")
    account = _judge(command[0], user)
    begin_ns = time.monotonic_ns()
    child = _start(command, account, environment, output_limit, started)
    try:
        in_time = await child.ended(timeout_s)
        late_s = (time.monotonic_ns() - begin_ns) / SECOND_NS - timeout_s
        if not in_time and late_s > LATE_S:
            in_time = await child.ended(min(late_s, timeout_s))
        if not in_time:
            child.signal(signal.SIGTERM)
            await child.ended(grace_s)
            child.signal(signal.SIGKILL)
            await child.ended(KILL_WAIT_S)
    finally:
        status, output = child.close()
    return Outcome(status, not in_time, output, time.monotonic_ns() - begin_ns)


# --- before the start -------------------------------------------------------------------------


def _judge(program: str, user: str | None) -> spawn.Account:
    """Whose account it runs as. Raises ScriptRefused."""
    if not program.startswith("/"):
        raise ScriptRefused(f"{program} is no absolute path; write the whole path")
    _judge_file(program)
    try:
        account = spawn.account_of(user)
    except AdapterError as error:
        raise ScriptRefused(f"{program}: {error}") from error
    if account.uid == 0:
        fault = untrusted_component(program)
        if fault is not None:
            cure = "let root alone write to the whole path, or name a `user`"
            raise ScriptRefused(f"root must not run {program}: {fault}; {cure}")
    return account


def _judge_file(program: str) -> None:
    """What can be said better here than by a failed exec. Raises ScriptRefused."""
    try:
        mode = os.stat(program).st_mode
        if not stat.S_ISREG(mode):
            raise ScriptRefused(f"{program} is no regular file")
        if not mode & _EXECUTABLE:
            raise ScriptRefused(f"{program} is not executable; chmod +x")
        start = first_bytes(program)[:2]
    except PermissionError:
        return  # the account may be allowed what we are not
    except OSError as error:
        raise ScriptRefused(f"{program}: {error.strerror}") from error
    if start not in _MAGIC:  # setpriv, like a shell, would give it to a shell
        raise ScriptRefused(f"{program} is no binary and does not begin with #!; begin it with #!")


def _start(
    command: Sequence[str],
    account: spawn.Account,
    environment: Mapping[str, str],
    limit: int,
    started: Callable[[int], None] | None,
) -> _Child:
    with contextlib.ExitStack() as ends:
        ours, theirs = os.pipe()
        ends.callback(os.close, theirs)
        gate = None
        if started is not None:
            gate, opener = os.pipe()
            ends.callback(os.close, gate)
            ends.callback(os.close, opener)
        try:
            pid = spawn.start(command, account, environment, theirs, gate)
        except AdapterError as error:
            os.close(ours)
            raise ScriptRefused(str(error)) from error
        child = _Child(pid, ours, limit)
        if started is not None:
            started(pid)
            os.write(opener, b"\n")
        return child


# --- while it runs ----------------------------------------------------------------------------


class _Child:
    """A started program. Nothing reaps it but this, so its number stays its own until then."""

    def __init__(self, pid: int, pipe: int, limit: int) -> None:
        self.pid = pid
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._kept = bytearray()
        self._pipe = pipe
        os.set_blocking(pipe, False)
        # Most programs are over sooner, with output that waits in the pipe: read at the end.
        self._resume: asyncio.TimerHandle | None = self._loop.call_later(LISTEN_S, self._listen)
        self._pidfd = os.pidfd_open(pid)
        self._has_ended = False
        self._waiting: asyncio.Future[None] | None = None
        self._loop.add_reader(self._pidfd, self._note_end)

    async def ended(self, within_s: float) -> bool:
        """Has it ended within the time? One future and one timer: hundreds run every second."""
        if not self._has_ended:
            self._waiting = self._loop.create_future()
            timer = self._loop.call_later(within_s, self._wake)
            try:
                await self._waiting
            finally:
                timer.cancel()
                self._waiting = None
        return self._has_ended

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def signal(self, number: signal.Signals) -> None:
        """To the whole group; only before ``close``."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return  # all dead, or all of another user by the program's own doing

    def close(self) -> tuple[int | None, str]:
        """Exit status and output; a program that still runs is killed and forgotten."""
        if not self._has_ended or _look(self._pidfd, os.WNOWAIT) != 0:
            self.signal(signal.SIGKILL)
        self._read_rest()
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)
        self._loop.remove_reader(self._pidfd)
        status = _look(self._pidfd)
        if status is None:
            self._loop.add_reader(self._pidfd, _bury_later, self._loop, self._pidfd)
        else:
            os.close(self._pidfd)
        return status, _UNPRINTABLE.sub("\ufffd", self._kept.decode(errors="replace"))

    def _note_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._has_ended = True
        self._wake()

    # --- output -------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._loop.add_reader(self._pipe, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._pipe, CHUNK)
        except BlockingIOError:  # after a pause
            self._listen()
            return
        if self._keep(data):
            return
        self._loop.remove_reader(self._pipe)
        if data:
            self._resume = self._loop.call_later(PAUSE_S, self._read)

    def _keep(self, data: bytes) -> bool:
        """False when no more is wanted: enough is kept, or the other end is closed."""
        self._kept += data[: self._limit - len(self._kept)]
        return bool(data) and len(self._kept) < self._limit

    def _read_rest(self) -> None:
        try:
            while self._keep(os.read(self._pipe, CHUNK)):
                pass
        except BlockingIOError:
            return  # somebody in the background holds the other end


def _look(pidfd: int, without_reaping: int = 0) -> int | None:
    """Exit code, or minus the signal; None while it lives."""
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | without_reaping)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _bury_later(loop: asyncio.AbstractEventLoop, pidfd: int) -> None:
    _look(pidfd)
    loop.remove_reader(pidfd)
    os.close(pidfd)


def describe(outcome: Outcome) -> str:
    """In words: "ok", "exit status 3", "killed by SIGSEGV", "timed out after 10.0 s"."""
    if outcome.timed_out:
        return f"timed out after {outcome.elapsed_ns / SECOND_NS:.1f} s"
    if outcome.status is None or outcome.status > 0:
        return f"exit status {outcome.status}"
    if outcome.status < 0:
        return f"killed by {signal.Signals(-outcome.status).name}"
    return "ok"


def elapsed_ms(outcome: Outcome) -> int:
    return outcome.elapsed_ns // MILLISECOND_NS
