"""Finds and ends what an earlier life of vipd left running: a session, named without doubt.

A number of a process proves nothing after its death: it is given to another one. A session is
named here by four things: the boot, the number space (a container has its own), the leader's
number, and when the leader started. The kernel gives a number to no new process while a session of
that number has members, so

* a process of that number that started at another time: the session is gone, leave it alone;
* no process of that number: what is left in the session belongs to it.

A process that left the session (``setsid``, what daemons do) is not found, on purpose: a hook may
start a service that must live on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_DEAD = ("Z", "X")


@dataclass(frozen=True, slots=True)
class Session:
    """A process that leads its own session, and what it started there."""

    boot: str
    space: int
    leader: int
    started: int  # clock ticks since the boot


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    state: str
    session: int
    started: int


def session_of(leader: int) -> Session:
    """The session that the living or unreaped process ``leader`` leads.

    Raises ProcessLookupError.
    """
    process = _look_at(leader)
    if process is None:
        raise ProcessLookupError(f"there is no process {leader}")
    return Session(_boot(), _space(), leader, process.started)


def members(session: Session) -> list[int]:
    """The living processes of ``session``."""
    if (session.boot, session.space) != (_boot(), _space()):
        return []
    leader = _look_at(session.leader)
    if leader is not None and leader.started != session.started:
        return []
    return [
        process.pid
        for process in _all()
        if process.session == session.leader and process.state not in _DEAD
    ]


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue  # dead meanwhile; or not ours to end, by the program's own doing


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _space() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def _all() -> Iterator[_Process]:
    for entry in os.listdir(_PROC):
        if entry.isdecimal():
            process = _look_at(int(entry))
            if process is not None:
                yield process


def _look_at(pid: int) -> _Process | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name in brackets may hold anything, brackets too: what counts is behind the last one.
    fields = text[text.rindex(")") + 2 :].split()
    return _Process(pid, fields[0], int(fields[3]), int(fields[19]))
