"""One vipd per network namespace: the bound abstract socket ``@vipd``.

An abstract name belongs to the network namespace, which is just what two daemons would fight
over, and the kernel frees it when the last descriptor is closed: no stale lock file, whatever
dies. Supervisor and engine hold the same open socket (the engine inherits it by descriptor), so
the name is free only when both are dead. Hooks and checks never inherit it.

Who holds a taken name is found in /proc: after the supervisor's death the holder is an engine,
which did not create the socket, so its credentials would name the wrong process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from vipd.errors import AdapterError, NameTaken

NAME = "vipd"


def acquire_name(name: str = NAME) -> socket.socket:
    """The bound socket; close it, or end, to free the name. Raises NameTaken."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(f"\0{name}")
    except OSError as error:
        sock.close()
        if error.errno != errno.EADDRINUSE:
            raise AdapterError(f"the name @{name}: {error.strerror}", error.errno or 0) from error
        pids = name_holders(name)
        who = f"process {', '.join(map(str, pids))}" if pids else "a process that is not visible"
        message = f"another vipd lives in this network namespace: {who} holds @{name}"
        raise NameTaken(message, errno.EADDRINUSE) from error
    return sock


def name_holders(name: str = NAME) -> tuple[int, ...]:
    """The processes that hold the name, as far as /proc shows them, in ascending order."""
    inode = _inode_of(name)
    if inode is None:
        return ()
    link = f"socket:[{inode}]"
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return tuple(sorted(pid for pid in pids if _has_open(pid, link)))


def _inode_of(name: str) -> int | None:
    # Not /proc/net: that is the main thread's view, and this thread may be elsewhere.
    with open("/proc/thread-self/net/unix", encoding="utf-8", errors="replace") as table:
        for line in table:
            fields = line.split()
            if len(fields) == 8 and fields[7] == f"@{name}":
                return int(fields[6])
    return None


def _has_open(pid: int, link: str) -> bool:
    # Processes end while we look, and some may not be looked into: both hold nothing for us.
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") == link:
                    return True
    return False
