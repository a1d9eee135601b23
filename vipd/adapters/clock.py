"""The only reader of the clock, and the one timer that the engine sleeps on.

CLOCK_BOOTTIME, because it goes on while the machine is suspended: a lease that ended during the
suspension must be seen as ended afterwards. CLOCK_MONOTONIC would hide that time, the wall clock
jumps. A timerfd rather than the timeout of the selector, because epoll rounds its timeout up to
whole milliseconds: every advert would be about a millisecond late.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time

from vipd.errors import AdapterError
from vipd.model import SECOND_NS, Instant

_TFD_TIMER_ABSTIME = 1
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


_libc.timerfd_settime.argtypes = (
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(_TimerSpec),
    ctypes.c_void_p,
)


def boottime_ns() -> Instant:
    """Now: nanoseconds on CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class DeadlineTimer:
    """A file descriptor that becomes readable when an absolute instant has come.

    There is one deadline at a time: ``arm`` replaces the earlier one. After a wake-up call
    ``acknowledge``, or the descriptor stays readable.
    """

    def __init__(self) -> None:
        flags = _TFD_NONBLOCK | _TFD_CLOEXEC
        self._fd: int = _libc.timerfd_create(time.CLOCK_BOOTTIME, flags)
        if self._fd < 0:
            number = ctypes.get_errno()
            raise AdapterError(f"timerfd_create: {os.strerror(number)}", number)
        self._armed: Instant | None = None

    def fileno(self) -> int:
        return self._fd

    def arm(self, instant: Instant | None) -> None:
        """Wake at ``instant`` (at once if it is past), or never for None.

        Arming the same instant again costs no system call: the loop arms in every turn.
        """
        if instant == self._armed:
            return
        # A value of zero would disarm, so the earliest instant is one nanosecond.
        value_ns = 0 if instant is None else max(1, instant)
        spec = _TimerSpec(value=_TimeSpec(value_ns // SECOND_NS, value_ns % SECOND_NS))
        if _libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None) < 0:
            number = ctypes.get_errno()
            raise AdapterError(f"timerfd_settime: {os.strerror(number)}", number)
        self._armed = instant

    def acknowledge(self) -> None:
        """Forget the expiry, if there was one; the timer is then disarmed."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
            self._armed = None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
