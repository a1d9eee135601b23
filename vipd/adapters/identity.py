"""Who an engine is: drawn before every start, and the counter of lives that is kept for it.

One life of an engine is (node, incarnation, nonce). Peers discard what an earlier life says, so an
incarnation must be higher than all before it, whatever happened meanwhile:

1. It is max(the one kept + 1, wall clock in seconds, the last one of this process + 1). Any of the
   three may fail: the file may be lost, the clock may be set back, this process is new. All three
   must fail before a life gets a number of the past, and its nonce still tells it from the other.
2. It is written and fsynced *before* the engine may speak, atomically: a power cut leaves the old
   number or the new one.
3. **A disk never stops or delays an engine.** All file work is done in a thread that is waited for
   ``LIMIT_S`` at most. What could not be kept is tried again, off the engine's way, whenever
   ``not_kept`` is asked, and said there in words until it is.

The nonce, and the seed from which the engine derives what it tells its peers, are the kernel's
randomness and never written anywhere.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vipd.members import Owner

FILE_NAME = "incarnation"
LIMIT_S = 0.05
NONCE_BYTES = 8
SEED_BYTES = 32

_LONGEST = 32  # more than any number we write
_HIGHEST = 2**63  # what is higher was not counted up to by us


@dataclass(frozen=True, slots=True)
class Identity:
    """``kept`` says what was wrong with the file, in words; empty: nothing was."""

    owner: Owner
    seed: bytes = field(repr=False)
    kept: str = ""


NOBODY = Identity(Owner("", 0, 0), b"")
"""Before the first engine."""


class Identities:
    """Draws one life after another for the engines of one supervisor."""

    def __init__(
        self, state_dir: Path, wall_s: Callable[[], float] = time.time, limit_s: float = LIMIT_S
    ) -> None:
        self.path = state_dir / FILE_NAME
        self._wall_s = wall_s
        self._limit_s = limit_s
        self._given = 0
        self._attempt: _Attempt | None = None

    def draw(self, node: str) -> Identity:
        """A new life. Takes ``limit_s`` at most and never fails."""
        floor = max(int(self._wall_s()), self._given + 1)
        attempt = self._try_to_keep(floor, above=True)
        attempt.wait(self._limit_s)
        # What the thread has decided by now counts, also if it has not been written yet.
        self._given = max(floor, attempt.incarnation)
        nonce = int.from_bytes(os.urandom(NONCE_BYTES), "big")
        seed = os.urandom(SEED_BYTES)
        return Identity(Owner(node, self._given, nonce), seed, self._trouble() or attempt.remark)

    def not_kept(self) -> str | None:
        """What is wrong now, None if the newest life is kept; then nothing else happens.

        Else it is tried again, and the next call tells how that went.
        """
        trouble = self._trouble()
        if trouble is not None:
            self._try_to_keep(self._given, above=False)
        return trouble

    def _try_to_keep(self, floor: int, *, above: bool) -> _Attempt:
        """One attempt at a time: a disk that hangs would collect threads."""
        if self._attempt is None or self._attempt.is_over:
            self._attempt = _Attempt(self.path, floor, above=above)
            self._attempt.start()
        return self._attempt

    def _trouble(self) -> str | None:
        attempt = self._attempt
        if attempt is None:
            return None
        if not attempt.is_over:
            return f"{self.path}: the disk does not answer"
        if attempt.error:
            return f"{self.path}: {attempt.error}"
        if attempt.incarnation > self._given:
            # It was read too late, and the clock had been set back.
            return (
                f"{self.path} holds {attempt.incarnation}, and the engine runs as {self._given}: "
                "its peers take it for an earlier life"
            )
        if attempt.incarnation < self._given:
            return f"{self.path}: the disk answered too late"
        return None


class _Attempt:
    """Read, decide, write; in a thread, because any of it may hang.

    ``above``: a new life, which is more than what the file holds; else at least that.
    ``incarnation`` is 0 until it is decided.
    """

    def __init__(self, path: Path, floor: int, *, above: bool) -> None:
        self.incarnation = 0
        self.remark = ""
        self.error = ""
        self._path = path
        self._floor = floor
        self._above = above
        self._over = threading.Event()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def start(self) -> None:
        try:
            # A daemon thread: one that hangs in the kernel does not keep the process alive.
            threading.Thread(target=self._run, name="incarnation", daemon=True).start()
        except RuntimeError as error:  # no room for another thread
            self.error = str(error)
            self._over.set()

    def wait(self, limit_s: float) -> None:
        self._over.wait(limit_s)

    def _run(self) -> None:
        try:
            kept, self.remark = _read(self._path)
            self.incarnation = max(kept + 1 if self._above else kept, self._floor)
            if kept != self.incarnation:
                _write(self._path, self.incarnation)
        except OSError as error:
            self.error = error.strerror or str(error)
        finally:
            self._over.set()


def _read(path: Path) -> tuple[int, str]:
    """The number that was kept, and what was wrong with the file. Raises OSError."""
    try:
        # NONBLOCK: a FIFO in the place of the file is damage, nothing to wait for.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return 0, ""  # the first life
    try:
        data = b""
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            data = os.read(descriptor, _LONGEST)
    finally:
        os.close(descriptor)
    text = data.removesuffix(b"\n")
    if text.isdigit() and int(text) < _HIGHEST:
        return int(text), ""
    return 0, f"{path} was damaged; lives are counted from the clock again"


def _write(path: Path, incarnation: int) -> None:
    """Replace the file: old number or new one, also after a power cut. Raises OSError."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(draft, flags, 0o644), "wb") as file:
            file.write(b"%d\n" % incarnation)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)  # a full disk needs the room
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
