"""What a process asks of the system for itself: memory, priority, and hold of another process.

None of this is needed to be correct, only to be on time, so nothing here fails: each function
returns in words what was obtained, and ``status`` shows it.

``realtime: auto`` is nice -20, not SCHED_RR: on a kernel without preemption a real-time task is
not moved away from a CPU that is stuck in a long system call, so its 99th percentile is better
and its maximum far worse. In a cgroup without real-time budget, SCHED_RR is refused even to root.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import signal
import struct
import sys
from collections.abc import Iterable
from typing import NoReturn

from vipd.errors import AdapterError

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_NICEST, _HURRIED = -20, -10
_CAPABILITY_VERSION = 0x20080522
_CAPABILITY_SETS = struct.Struct("6I")  # effective, permitted, inheritable; then bits 32 to 63
_ROUND_ROBIN_PRIORITY = 50
_AUTOGROUP = "/proc/self/autogroup"

_libc = ctypes.CDLL(None, use_errno=True)


def lock_memory() -> str:
    """Keep what the process uses in memory, so that no deadline waits for a disk.

    MCL_ONFAULT locks pages when they are first used, and not all that the libraries reserve.
    """
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0:
        return "locked"
    return f"not locked: {_explain(ctypes.get_errno(), 'CAP_IPC_LOCK')}"


def raise_priority(mode: str) -> str:
    """Carry out ``realtime: auto | off | rr``; returns what was obtained."""
    if mode == "off":
        return "normal"
    if mode == "auto":
        return _be_nicest()
    if mode != "rr":
        raise ValueError(f"unknown realtime mode {mode!r}")
    # Reset on fork: hooks and checks must not inherit it.
    policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
    try:
        os.sched_setscheduler(0, policy, os.sched_param(_ROUND_ROBIN_PRIORITY))
    except OSError as error:
        refusal = _explain(error.errno or 0, "CAP_SYS_NICE or a real-time budget of the cgroup")
        return f"{_be_nicest()}, SCHED_RR refused: {refusal}"
    return f"SCHED_RR {_ROUND_ROBIN_PRIORITY}"


def hurry(mode: str) -> None:
    """For the supervisor: ahead of ordinary programs, behind the engine; its children are neither.

    It acts when the engine dies, which is when the machine may be at its busiest.
    """
    if mode == "off":
        return
    with contextlib.suppress(OSError):  # as punctual as it can be
        # Reset on fork: hooks, checks and the journal's thread begin as ordinary programs.
        policy = os.SCHED_OTHER | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, _HURRIED)
        _weigh_session(_HURRIED)


def _be_nicest() -> str:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICEST)
    except OSError as error:
        return f"normal, nice refused: {_explain(error.errno or 0, 'CAP_SYS_NICE')}"
    _weigh_session(_NICEST)
    return f"nice {_NICEST}"


def _weigh_session(nice: int) -> None:
    """The same for our session, where the kernel schedules by sessions (autogroup, sched(7)).

    Without that a nice value counts among the processes of one session only. Not for a session
    that others are in, too: a shell's.
    """
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError), open(_AUTOGROUP, "w", encoding="ascii") as group:
            group.write(str(nice))


def _explain(number: int, missing: str) -> str:
    text = os.strerror(number)
    hint = number in (errno.EPERM, errno.EACCES, errno.ENOMEM)
    return f"{text} (needs {missing})" if hint else text


def keep_capabilities(kept: Iterable[int]) -> None:
    """Give up every right but ``kept`` (numbers of capability(7)), as far as we have them.

    The supervisor may start programs as other users; the process that reads the wire need not.
    """
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    rights = ctypes.create_string_buffer(_CAPABILITY_SETS.size)
    if _libc.capget(header, rights) != 0:
        return
    wanted = sum(1 << number for number in kept)
    low, high = wanted & 0xFFFF_FFFF, wanted >> 32
    effective, permitted, _inherited, *others = _CAPABILITY_SETS.unpack(rights.raw)
    fewer = (effective & low, permitted & low, 0, others[0] & high, others[1] & high, 0)
    _libc.capset(header, _CAPABILITY_SETS.pack(*fewer))


def freeze_gc() -> None:
    """Take all that lives now out of the garbage collector's sight: later runs are short.

    And rare: a claim of a thousand VIPs makes ten thousand objects, none of them garbage.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def leave(status: int) -> NoReturn:
    """End now. Everything is released and told; the interpreter is not taken apart.

    That would take 100 ms of CPU, on a host whose proxy still has connections to finish.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def open_pidfd(pid: int) -> int:
    """A descriptor for process ``pid``: readable when it is dead, never another process."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise AdapterError(f"process {pid}: {error.strerror}", error.errno or 0) from error


def signal_pidfd(pidfd: int, number: signal.Signals) -> bool:
    """Send a signal through a pidfd; False when the process is dead already."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise AdapterError(
            f"signalling through a pidfd: {error.strerror}", error.errno or 0
        ) from error
    return True
