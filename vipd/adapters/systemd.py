"""Talks to the service manager: sd_notify(3), without libsystemd.

Every message is one datagram to the socket named by NOTIFY_SOCKET. It is sent without waiting
and its loss is ignored: the service manager may be absent, but must never delay us.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from vipd.model import Duration

_MICROSECOND_NS = 1_000


class ServiceManager:
    """What systemd (or anything that speaks its protocol) is told, and what it asks for."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ is how the environment spells the NUL of an abstract name.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_ns = _watchdog_ns(environment)

    @property
    def present(self) -> bool:
        return bool(self._address)

    @property
    def watchdog_interval_ns(self) -> Duration | None:
        """We are killed after this long without ``alive``; None: nobody watches."""
        return self._watchdog_ns

    def ready(self, status: str) -> bool:
        """Start-up, or a reload, is complete."""
        return self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> bool:
        """A reload begins; say ``ready`` at its end.

        Type=notify-reload needs the instant, to tell this reload from an earlier one.
        """
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // _MICROSECOND_NS
        return self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def stopping(self) -> bool:
        return self._send("STOPPING=1")

    def needs(self, seconds: float) -> bool:
        """The stop may take so long from now, whatever the unit's TimeoutStopSec says."""
        return self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def alive(self) -> bool:
        return self._send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """One line for ``systemctl status``."""
        return self._send(f"STATUS={text}")

    def _send(self, *assignments: str) -> bool:
        """True when the datagram was taken."""
        if not self._address:
            return False
        # A newline inside a value would start another assignment.
        lines = (assignment.replace("\n", " ") for assignment in assignments)
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        with socket.socket(socket.AF_UNIX, kind) as sock:
            try:
                sock.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                return False
        return True


def _watchdog_ns(environment: Mapping[str, str]) -> Duration | None:
    """From WATCHDOG_USEC; WATCHDOG_PID, where set, says which process is meant."""
    try:
        interval_us = int(environment.get("WATCHDOG_USEC", "0"))
        pid = int(environment.get("WATCHDOG_PID", str(os.getpid())))
    except ValueError:
        return None
    if interval_us <= 0 or pid != os.getpid():
        return None
    return interval_us * _MICROSECOND_NS
