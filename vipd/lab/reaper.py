"""The process that leaves nothing behind, whatever ends the lab's owner.

It holds the lab's namespaces and a pipe from the owner. When the pipe ends (the owner closed the
lab, raised, was killed) every process that lives in one of the namespaces is killed, wherever it
stands in the process tree, and the lab's directory is removed. An orderly end takes the same way,
so the way is always tested. Membership is by namespace, not by parentage: daemons fork, orphans
forget their parents, but nobody leaves a namespace by accident.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path

_PATIENCE_S = 5.0
_PAUSE_S = 0.005


def members(inodes: Collection[int]) -> list[int]:
    """The processes of which the main thread lives in one of these namespaces."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            inode = os.stat(f"/proc/{entry}/ns/net").st_ino
        except OSError:
            continue  # gone meanwhile, a zombie, or not ours to see
        if inode in inodes:
            found.append(int(entry))
    return found


def reap(inodes: Collection[int], spare: Collection[int]) -> bool:
    """Kill all members until there are none; False when some would not die."""
    give_up = time.monotonic() + _PATIENCE_S
    while time.monotonic() < give_up:
        alive = [pid for pid in members(inodes) if pid not in spare]
        if not alive:
            return True
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(_PAUSE_S)
    return False


def main() -> int:
    """``reaper DIRECTORY FD...``; ends when standard input ends."""
    directory, descriptors = Path(sys.argv[1]), [int(text) for text in sys.argv[2:]]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the owner decides, by closing the pipe
    inodes = {os.fstat(descriptor).st_ino for descriptor in descriptors}
    spare = {os.getpid(), os.getppid()}
    sys.stdin.buffer.read()
    clean = reap(inodes, spare)
    shutil.rmtree(directory, ignore_errors=True)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
