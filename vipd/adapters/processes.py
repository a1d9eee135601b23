"""Processes by name, from /proc.

A process has a name if the kernel's name for it (``comm``, 15 bytes at most) or the file name of
its program is that name. Of a longer name only the first 15 bytes can be compared with ``comm``,
which is believed only if the program's own file name does not begin in the same way: it is then an
interpreter, whose ``comm`` is the script's.

Only files are read that never wait for the process: ``cmdline`` does, while it is in page faults.

Not counted: the dead that nobody has reaped, and descendants of our own. A check that runs
``/etc/vipd/checks/haproxy`` would else prove that haproxy runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

COMM_LENGTH = 15
_DEPTH = 32
_DEAD = ("Z", "X", "x")


def _read(path: str) -> bytes:
    """Empty for a process that is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 1024)
    except OSError:
        return b""
    finally:
        os.close(fd)


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def names_of(pid: int) -> tuple[str, str]:
    """(comm, file name of the program); empty where there is none, as in the kernel's threads."""
    comm = _read(f"/proc/{pid}/comm").rstrip(b"\n")
    try:
        program = os.readlink(b"/proc/%d/exe" % pid)
    except OSError:
        program = b""
    # The file may have been replaced, by an upgrade for example.
    program = program.removesuffix(b" (deleted)").rpartition(b"/")[2]
    return os.fsdecode(comm), os.fsdecode(program)


def has_name(names: tuple[str, str], wanted: str) -> bool:
    comm, program = names
    if wanted in (comm, program):
        return True
    beginning = os.fsdecode(os.fsencode(wanted)[:COMM_LENGTH])
    return beginning != wanted and comm == beginning and not program.startswith(beginning)


def _state_and_parent(pid: int) -> tuple[str, int]:
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    if len(fields) < 2:
        return "X", 0
    return fields[0].decode(), int(fields[1])


def _ancestors(parent: int) -> Iterator[int]:
    for _step in range(_DEPTH):
        if parent <= 1:
            return
        yield parent
        parent = _state_and_parent(parent)[1]


def counts(pid: int) -> bool:
    """It lives, and is not ours."""
    state, parent = _state_and_parent(pid)
    return state not in _DEAD and os.getpid() not in _ancestors(parent)
