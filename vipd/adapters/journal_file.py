"""The file of the journal: one SQLite table that is appended to, kept small, and read.

What is decided here, and why
-----------------------------
*WAL, exclusive, ``synchronous=NORMAL``.* A commit appends to the write-ahead log: one ``write``,
no ``fsync``. After a kill -9 the kernel still has what was written, so no committed entry is lost
and the next opening replays the log. A power cut may cost the last seconds (until the kernel
writes back), never the file; who was master then is told by the other hosts' journals. FULL would
wait for the disk at each commit, and a disk that hangs would keep a dying supervisor's sockets
open for as long. The log is checkpointed, with an ``fsync``, about once in a megabyte.

*Exclusive*, because WAL otherwise maps a ``-shm`` file into the process: a failing disk would turn
an access to it into SIGBUS, in the process that guards the engine. The price: nobody else opens
the file while the daemon lives. Readers take a copy of file and log, which is what a crash would
leave, and open that (``read_copy``).

*16 MiB.* An entry takes 130 to 300 bytes, so that is 50 000 and more: years of a quiet host, more
than half a day of a check that flaps each second, on a partition that others need as well. Twelve
are for the table, the rest for one batch and the log. When they are full the oldest quarter goes;
deleted pages are used again, so the file needs no vacuum.

*30 days*, but the newest thousand entries stay however old: on a quiet host the last change of
mastership is worth more than a rule, and a clock that once jumps ahead must not wipe everything.

*A damaged file* is set aside as ``journal.db.damaged`` (one, the newest, so that damage cannot
fill the disk either) and a new one is started.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vipd.adapters.journal_entry import Entry, Query
from vipd.errors import AdapterError

FILE_NAME = "journal.db"

MOST_TABLE_BYTES = 12 * 1024 * 1024
MOST_LOG_BYTES = 1024 * 1024
PAGE_BYTES = 4096
OLDEST_S = 30 * 86_400.0
ALWAYS_KEPT = 1000

_VERSION = 1
_BUSY_S = 1.0
_CACHE_KIB = 256
_COLUMNS = "id, time, boottime_ns, kind, subject, cause, fields"
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BESIDE = ("-wal", "-shm", "-journal")
_SHARED_MEMORY = "/dev/shm"


class FileDamaged(AdapterError):
    """The file is no journal (any more)."""


class JournalFile:
    """The open file. Every method may wait for the disk, and raises AdapterError."""

    def __init__(self, path: Path) -> None:
        try:
            # SQLite would let the umask decide; hooks may have written what is not for all.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise AdapterError(f"{path}: {error.strerror}", error.errno or 0) from error
        with _translated(path):
            self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        self._path = path
        try:
            with _translated(path):
                self._prepare()
        except AdapterError:
            self.close()
            raise

    def _prepare(self) -> None:
        for pragma in (
            "locking_mode=EXCLUSIVE",
            f"page_size={PAGE_BYTES}",
            "journal_mode=WAL",
            "synchronous=NORMAL",
            f"wal_autocheckpoint={MOST_LOG_BYTES // PAGE_BYTES}",
            f"journal_size_limit={MOST_LOG_BYTES}",
            f"cache_size=-{_CACHE_KIB}",
            "temp_store=MEMORY",
        ):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        version = self._number("PRAGMA user_version")
        if version == 0 and self._number("SELECT count(*) FROM sqlite_master") == 0:
            self._create()
        elif version != _VERSION:
            raise FileDamaged(f"{self._path}: its version is {version}, not {_VERSION}")
        found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise FileDamaged(f"{self._path}: {found}")
        self._forget_old()

    def _create(self) -> None:
        # No index but the id's: the oldest entries then lie together, and go page by page.
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(
            "CREATE TABLE entries (id INTEGER PRIMARY KEY, time REAL, boottime_ns INTEGER, "
            "kind TEXT, subject TEXT, cause TEXT, fields TEXT)"
        )
        self._db.execute(f"PRAGMA user_version={_VERSION}")
        self._db.execute("COMMIT")

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def append(self, entries: Iterable[Entry]) -> None:
        """All of them in one transaction. After an error none is written: close, open anew."""
        with _translated(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            newest = self._number("SELECT max(id) FROM entries")
            for entry in entries:
                # An id that is taken (a clock set back while the file was out of reach) makes
                # way for the next free one: the entry matters more than its number.
                number = entry.id if entry.id > newest else None
                self._db.execute(
                    f"INSERT INTO entries ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(number, entry.time, entry.boottime_ns, entry.kind),
                        *(entry.subject, entry.cause, entry.fields),
                    ),
                )
                newest = max(newest + 1, entry.id)
            self._db.execute("COMMIT")
            if self._used_bytes() > MOST_TABLE_BYTES:
                self._forget_quarter()

    def read(self, query: Query) -> list[Entry]:
        with _translated(self._path):
            return _select(self._db, query)

    def _number(self, statement: str) -> int:
        return int(self._db.execute(statement).fetchone()[0] or 0)

    def _used_bytes(self) -> int:
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return pages * PAGE_BYTES

    def _forget_quarter(self) -> None:
        quarter = self._number("SELECT count(*) FROM entries") // 4
        self._db.execute(
            "DELETE FROM entries WHERE id < (SELECT id FROM entries ORDER BY id LIMIT 1 OFFSET ?)",
            (quarter,),
        )

    def _forget_old(self) -> None:
        self._db.execute(
            "DELETE FROM entries WHERE time < ? AND id < "
            "(SELECT id FROM entries ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (time.time() - OLDEST_S, ALWAYS_KEPT - 1),
        )


def _select(db: sqlite3.Connection, query: Query) -> list[Entry]:
    wanted = ["id > ?", "time >= ?"]
    values: list[Any] = [query.after or 0, query.since or 0.0]
    if query.subjects:
        wanted.append(f"subject IN ({', '.join('?' * len(query.subjects))})")
        values += query.subjects
    order = "DESC" if query.after is None else "ASC"
    statement = (
        f"SELECT {_COLUMNS} FROM entries WHERE {' AND '.join(wanted)} ORDER BY id {order} LIMIT ?"
    )
    found = [Entry(*row) for row in db.execute(statement, (*values, query.limit))]
    return found[::-1] if query.after is None else found


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        # The lowest byte is the kind, the others refine it.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        kind = FileDamaged if code in _DAMAGE else AdapterError
        raise kind(f"{path}: {error}") from error


def set_aside(path: Path) -> Path:
    """Out of the way with a damaged file and its log; returns its new name."""
    aside = path.with_name(f"{path.name}.damaged")
    try:
        for suffix in _BESIDE:
            aside.with_name(aside.name + suffix).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}{suffix}", f"{aside}{suffix}")
        os.replace(path, aside)
    except OSError as error:
        raise AdapterError(f"{path}: {error.strerror}", error.errno or 0) from error
    return aside


def read_copy(path: Path, query: Query) -> list[Entry]:
    """Read the journal of a daemon that is not there, or does not answer.

    From a copy in memory: the reader must not change what a crash left, and the disk may be full
    or read-only. A daemon that lives answers itself, so nothing moves while it is copied.
    """
    parent = _SHARED_MEMORY if os.path.isdir(_SHARED_MEMORY) else None
    try:
        with tempfile.TemporaryDirectory(prefix="vipd-journal-", dir=parent) as directory:
            copy = Path(directory) / FILE_NAME
            shutil.copyfile(path, copy)
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{path}-wal", f"{copy}-wal")
            with _translated(path), contextlib.closing(sqlite3.connect(copy)) as db:
                return _select(db, query)
    except OSError as error:
        raise AdapterError(f"{path}: {error.strerror}", error.errno or 0) from error
