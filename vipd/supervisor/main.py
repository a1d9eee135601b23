"""``python -m vipd.supervisor --config FILE``: what ``vipd run`` becomes.

Exit codes: 0 stopped as asked, 1 failed, 2 bad configuration.

The first thing after the node's name is to remove what an earlier run left behind: reading the
configuration takes a second, it may be refused, and nobody answers for those addresses.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

from vipd.adapters.lock import acquire_name, name_holders
from vipd.adapters.process import leave, open_pidfd, signal_pidfd
from vipd.errors import AdapterError, NameTaken
from vipd.ipc import Compiled
from vipd.supervisor import leftovers, log, tellings
from vipd.supervisor.daemon import Supervisor, prepare_directories
from vipd.supervisor.loader import ConfigurationRefused, load_first

EXIT_FAILED, EXIT_BAD_CONFIGURATION = 1, 2

ORPHAN_GRACE_S = 1.0
"""An engine whose supervisor died releases by itself; it is ended only if it does not."""

DEATH_S = 2.0
"""Then it is dying: its files are out of sight already, and the name is not free yet."""


def take_name() -> socket.socket:
    """The node's name. An orphaned engine that holds it is given time to end, then ended."""
    begin = time.monotonic()
    while True:
        try:
            return acquire_name()
        except NameTaken:
            holders, waited_s = name_holders(), time.monotonic() - begin
            if not all(_is_orphaned_engine(pid) for pid in holders):
                raise
            if waited_s > ORPHAN_GRACE_S + DEATH_S:
                raise
            if waited_s > ORPHAN_GRACE_S:
                for pid in holders:
                    _end_orphan(pid)
            time.sleep(0.02)


def _is_orphaned_engine(pid: int) -> bool:
    """An engine whose parent is not a supervisor any more."""
    return b"vipd.engine" in _command(pid) and b"vipd.supervisor" not in _command(_parent(pid))


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _parent(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def _end_orphan(pid: int) -> None:
    """Looked at again once the pidfd is open: until then, its number may become another's."""
    try:
        pidfd = open_pidfd(pid)
    except AdapterError:
        return  # it ended by itself
    try:
        if pid in name_holders() and _is_orphaned_engine(pid):
            signal_pidfd(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)


async def _run(path: Path, compiled: Compiled, name: socket.socket) -> int:
    return await Supervisor(path, compiled, name).run()


def main(arguments: list[str]) -> int:
    path = Path(arguments[arguments.index("--config") + 1])
    # A reload that is asked for while we start must not end us; it is made up for.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        name = take_name()
        removed = leftovers.remove_tagged()
        compiled = load_first(path)
        for warning in compiled.warnings:
            _complain(f"warning: {warning}")
        log.configure(compiled.log_level, compiled.log_format)
        tellings.addresses_removed(removed, "an earlier run")
        prepare_directories(compiled)
        return asyncio.run(_run(path, compiled, name))
    except ConfigurationRefused as error:
        _complain(str(error))
        return EXIT_BAD_CONFIGURATION
    except AdapterError as error:
        _complain(f"vipd: {error}")
        return EXIT_FAILED


def _complain(line: str) -> None:
    """Before there is a log, or when there will be none."""
    sys.stderr.write(f"{line}\n")


def entry() -> None:
    leave(main(sys.argv[1:]))
