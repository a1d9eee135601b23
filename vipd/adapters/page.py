"""The file of the last will: memory that two processes share and that outlives both.

Two things that a mapped file can do to its readers are ruled out here:

* **A full file system.** A page that was never written has no memory yet, and writing to it when
  there is none left ends the process (SIGBUS). So all of it is allocated when it is created.
* **A reader for whom its owner is not dead** (rule L2 of ``vipd.will``). The owner holds a lock on
  the open file, which the engine inherits; so nobody else gets it while one of the two lives, not
  even a process of another network namespace, where the name ``@vipd`` is free.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path

from vipd.errors import AdapterError


class PageFile:
    """The mapped file; ``fd`` is for the engine to inherit. It keeps the lock until closed."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, size)
        self.buffer = memoryview(self._map)

    def close(self) -> None:
        """Give the lock up, once no other process has it. Views of ``buffer`` must be gone."""
        self.buffer.release()
        self._map.close()
        os.close(self.fd)


def create_page(path: Path, size: int) -> PageFile:
    """The file, made where there is none of this size; its contents are as they were left.

    Raises AdapterError, also when its owner lives.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        _lock(fd)
        if os.fstat(fd).st_size != size:
            os.ftruncate(fd, 0)
        os.posix_fallocate(fd, 0, size)
        return PageFile(fd, size)
    except OSError as error:
        os.close(fd)
        raise _refused(path, error) from error


def find_page(path: Path, size: int) -> PageFile | None:
    """The file that a dead daemon left, None where there is none of this size.

    Raises AdapterError, also when its owner lives.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(path, error) from error
    try:
        _lock(fd)
        if os.fstat(fd).st_size == size:
            return PageFile(fd, size)
    except OSError as error:
        os.close(fd)
        raise _refused(path, error) from error
    os.close(fd)
    return None


def inherited_page(fd: int, size: int) -> PageFile:
    """The engine's view of what its supervisor created."""
    return PageFile(fd, size)


def _lock(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OSError(errno.EBUSY, "another vipd lives that uses it") from error


def _refused(path: Path, error: OSError) -> AdapterError:
    return AdapterError(f"{path}: {error.strerror}", error.errno or 0)
