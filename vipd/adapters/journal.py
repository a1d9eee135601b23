"""The journal: what happened on this node, kept over restarts, in nobody's way.

The supervisor guards the engine with a timeout of 200 ms, so its loop must never wait for a disk.
Hence two halves:

* ``Journal`` lives in the loop. ``add`` puts an entry into a ring in memory, which answers the
  live questions, and into a bounded queue. It never waits and never fails.
* ``_Writer`` is a thread. It alone touches the file (``journal_file``), one transaction for all
  that is queued. SQLite gives the interpreter up while it waits.

Rules that may never break
--------------------------
1. The loop touches no file, and takes the lock only for moments in which nobody waits for one.
2. What cannot be written costs the entry, never the daemon: a full, read-only or hanging disk is
   an answer of ``failing`` (the alarm ``journal-not-written``); what no longer fits into the queue
   is ``dropped``, the oldest first, counted, and told in the journal once it is written again.
3. Ids grow, also over restarts and over the loss of the file, so a follower who names the last id
   it saw misses nothing. They are the wall clock's milliseconds where that grows; gaps mean
   nothing.
4. At the end nobody waits longer than ``CLOSE_PATIENCE_S`` for the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vipd.adapters.clock import boottime_ns
from vipd.adapters.journal_entry import LONGEST_WAIT_S, Entry, Query
from vipd.adapters.journal_file import FileDamaged, JournalFile, set_aside
from vipd.errors import AdapterError

MOST_REMEMBERED = 2000
"""The ring: about a megabyte."""

MOST_QUEUED = 2000
MOST_AT_ONCE = 256
MOST_TEXT = 4096
"""Characters of one text; what a hook wrote is cut at as many."""

RETRY_S = 1.0
STUCK_S = 10.0
READ_PATIENCE_S = 2.0
CLOSE_PATIENCE_S = 1.0

KIND = "journal"
"""The kind of entries by which the journal speaks about itself."""

_Answer = Callable[[list[Entry] | None], None]


class Journal:
    """The loop's half. Every method belongs to the thread of the loop."""

    def __init__(self, path: Path, open_file: Callable[[Path], JournalFile]) -> None:
        self.path = path
        self._loop = asyncio.get_running_loop()
        self._ring: deque[Entry] = deque(maxlen=MOST_REMEMBERED)
        self._whole = False  # nothing older than the ring is anywhere else
        self._last_id = int(time.time() * 1000)
        self._lost_told = 0
        self._ending = False
        self._loaded = False  # until then the file, read in its turn, has to be asked
        self._arrived = asyncio.Event()
        self._writer = _Writer(path, open_file, self._from_thread)

    @classmethod
    def open(cls, path: Path, open_file: Callable[[Path], JournalFile] = JournalFile) -> Journal:
        """Start the thread, in a running loop; what it finds in the file arrives later."""
        journal = cls(path, open_file)
        journal._writer.start(journal._load)
        return journal

    # --- writing ------------------------------------------------------------------------------

    def add(self, kind: str, subject: str, fields: Mapping[str, Any], cause: str = "") -> int:
        """Note that something happened, now; returns its id."""
        self._tell_loss()
        return self._add(kind, subject, fields, cause)

    def _add(self, kind: str, subject: str, fields: Mapping[str, Any], cause: str) -> int:
        now = time.time()
        self._last_id = max(self._last_id + 1, int(now * 1000))
        cut = {key: _cut(value) for key, value in fields.items()}
        entry = Entry(
            id=self._last_id,
            time=now,
            boottime_ns=boottime_ns(),
            kind=_cut(kind),
            subject=_cut(subject),
            cause=_cut(cause),
            fields=json.dumps(cut, default=str),
        )
        if len(self._ring) == MOST_REMEMBERED:
            self._whole = False
        self._ring.append(entry)
        self._writer.put(entry)
        self._wake_waiting()
        return entry.id

    def _wake_waiting(self) -> None:
        self._arrived.set()
        self._arrived = asyncio.Event()

    def _tell_loss(self) -> None:
        if self.dropped > self._lost_told and self.failing is None:
            lost, self._lost_told = self.dropped - self._lost_told, self.dropped
            fields = {"text": f"{lost} entries were never written to {self.path}", "lost": lost}
            self._add(KIND, "", fields, "the disk did not take them")

    @property
    def dropped(self) -> int:
        """Entries that will never be in the file."""
        return self._writer.dropped

    @property
    def failing(self) -> str | None:
        """Why entries are not written just now; None while all is well. Cheap: poll it."""
        return self._writer.failing

    @property
    def written(self) -> int:
        """The newest id of this run that the file has; 0 before the first."""
        return self._writer.written

    async def kept(self) -> None:
        """When the file has all that was added so far, or is not to be expected to have it soon."""
        wanted = self._last_id
        until = self._loop.time() + CLOSE_PATIENCE_S
        while self.written < wanted and self.failing is None and self._loop.time() < until:
            await asyncio.sleep(0.005)

    def end_waiting(self) -> None:
        """Answer all who wait for an entry, now and from now on: the daemon is about to end."""
        self._ending = True
        self._wake_waiting()

    async def close(self) -> None:
        """Write what waits, if the disk takes it in time."""
        self._writer.stop()
        until = self._loop.time() + CLOSE_PATIENCE_S
        while self._writer.alive and self._loop.time() < until:
            await asyncio.sleep(0.005)

    # --- reading ------------------------------------------------------------------------------

    def newest(self, subjects: tuple[str, ...], most: int) -> list[dict[str, Any]]:
        """The newest ``most`` entries about ``subjects`` in memory, the oldest first."""
        query = Query(limit=most, subjects=subjects)
        return [entry.as_values() for entry in query.cut(self._matching(query))]

    def after(self, after: int, since: float | None, limit: int) -> list[dict[str, Any]]:
        """The first ``limit`` entries in memory behind the id ``after``."""
        query = Query(limit=limit, after=after, since=since)
        return [entry.as_values() for entry in query.cut(self._matching(query))]

    async def answer(self, query: Query, wait_s: float = 0.0) -> dict[str, Any]:
        """What ``GET /events`` answers: ``events``, and ``last`` to ask on from.

        Where the ring does not reach back far enough the thread reads the file; if the disk does
        not answer in time, what is in memory must do.
        """
        entries = await self._fetch(query)
        if not entries and wait_s > 0:
            await self.wait_after(self._last_id, wait_s)
            entries = await self._fetch(query)
        page_is_full = query.after is not None and len(entries) == query.limit
        last = entries[-1].id if page_is_full else self._last_id
        return {"events": [entry.as_values() for entry in entries], "last": last}

    async def wait_after(self, after: int, seconds: float) -> bool:
        """Until there is an entry behind the id ``after``; False if none came in time."""
        until = self._loop.time() + min(seconds, LONGEST_WAIT_S)
        while self._last_id <= after:
            left_s = until - self._loop.time()
            if left_s <= 0 or self._ending:
                return False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left_s)
        return True

    async def _fetch(self, query: Query) -> list[Entry]:
        """No await follows the last look at the ring: nothing is missed in between."""
        matching = self._matching(query)
        if self._ring_suffices(query, len(matching)):
            return query.cut(matching)
        older = await self._read_file(query)
        newest = older[-1].id if older else 0
        known = {entry.id for entry in older}
        behind = [
            entry
            for entry in self._matching(query)
            if entry.id not in known and (query.after is None or entry.id > newest)
        ]
        if query.after is not None and len(older) == query.limit:
            return older
        return query.cut(sorted((*older, *behind), key=lambda entry: entry.id))

    def _matching(self, query: Query) -> list[Entry]:
        return [entry for entry in self._ring if query.admits(entry)]

    def _ring_suffices(self, query: Query, found: int) -> bool:
        if self._whole:
            return True
        if not self._ring or not self._loaded:
            return False
        oldest = self._ring[0]
        if query.after is not None:
            return query.after >= oldest.id
        return found >= query.limit or (query.since is not None and query.since > oldest.time)

    async def _read_file(self, query: Query) -> list[Entry]:
        future: asyncio.Future[list[Entry] | None] = self._loop.create_future()

        def answer(entries: list[Entry] | None) -> None:
            if not future.done():
                future.set_result(entries)

        self._writer.ask(query, answer)
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(future, READ_PATIENCE_S) or []
        return []

    # --- what the thread says -----------------------------------------------------------------

    def _from_thread(self, function: Callable[..., Any], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(function, *arguments)

    def _load(self, entries: list[Entry], damage: str) -> None:
        """What the file has from earlier runs; older than all that was added since."""
        first = self._ring[0].id if self._ring else None
        older = [entry for entry in entries if first is None or entry.id < first]
        room = MOST_REMEMBERED - len(self._ring)
        self._whole = len(entries) < MOST_REMEMBERED and len(older) <= room
        self._ring.extendleft(reversed(older[-room:] if room else []))
        self._last_id = max([self._last_id, *(entry.id for entry in entries[-1:])])
        self._loaded = True
        if damage:
            self._add(KIND, "", {"text": damage}, "the file was damaged")


def _cut(value: Any) -> Any:
    """Texts of bounded length and without halves of characters; others as they are."""
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"


class _Writer:
    """The thread's half: the queue, and the file behind it."""

    def __init__(
        self, path: Path, open_file: Callable[[Path], JournalFile], tell: Callable[..., None]
    ) -> None:
        self.dropped = 0
        self.written = 0
        self._path = path
        self._open_file = open_file
        self._tell = tell
        self._wake = threading.Condition()
        self._queue: deque[Entry] = deque()
        self._batch: list[Entry] = []  # taken from the queue, and not in the file yet
        self._questions: deque[tuple[Query, _Answer]] = deque()
        self._closing = False
        self._error: str | None = None
        self._retry_at = 0.0
        self._waiting_since: float | None = None
        self._file: JournalFile | None = None
        self._load: Callable[[list[Entry], str], None] = lambda _earlier, _damage: None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    # --- called by the loop -------------------------------------------------------------------

    def start(self, load: Callable[[list[Entry], str], None]) -> None:
        self._load = load
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def failing(self) -> str | None:
        since = self._waiting_since
        if self._error is None and since is not None and time.monotonic() - since > STUCK_S:
            return f"{self._path}: the disk does not answer"
        return self._error

    def put(self, entry: Entry) -> None:
        with self._wake:
            if len(self._queue) >= MOST_QUEUED:
                self._queue.popleft()
                self.dropped += 1
            self._queue.append(entry)
            if self._waiting_since is None:
                self._waiting_since = time.monotonic()
            self._wake.notify()

    def ask(self, query: Query, answer: _Answer) -> None:
        with self._wake:
            self._questions.append((query, answer))
            self._wake.notify()

    def stop(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        # Signals are the loop's; here they would only interrupt the disk.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        with contextlib.suppress(AdapterError):
            self._opened()  # what earlier runs left is wanted at once
        while True:
            closing = self._await_work()
            while self._questions:
                self._reply(*self._questions.popleft())
            if self._batch and (closing or time.monotonic() >= self._retry_at):
                self._write()
            if closing and (self._error is not None or not (self._batch or self._queue)):
                break
        if self._file is not None:
            self._file.close()

    def _await_work(self) -> bool:
        """True when the end is wanted."""
        with self._wake:
            while True:
                if not self._batch:
                    most = min(len(self._queue), MOST_AT_ONCE)
                    self._batch = [self._queue.popleft() for _ in range(most)]
                left_s = self._retry_at - time.monotonic() if self._batch else None
                if self._closing or self._questions or (left_s is not None and left_s <= 0):
                    return self._closing
                self._wake.wait(left_s)

    def _write(self) -> None:
        try:
            try:
                self._opened().append(self._batch)
            except FileDamaged as error:
                self._start_anew(error).append(self._batch)
        except AdapterError as error:
            self._fail(error)
            return
        self.written = self._batch[-1].id
        self._batch = []
        self._error = None
        with self._wake:
            self._waiting_since = time.monotonic() if self._queue else None

    def _reply(self, query: Query, answer: _Answer) -> None:
        """A question that the disk does not answer is no reason for an alarm; a write will be."""
        found = None
        with contextlib.suppress(AdapterError):
            found = self._opened().read(query)
        self._tell(answer, found)

    def _opened(self) -> JournalFile:
        if self._file is not None:
            return self._file
        try:
            self._file = self._open_file(self._path)
            earlier = self._file.read(Query(limit=MOST_REMEMBERED))
        except FileDamaged as error:
            return self._start_anew(error)
        except AdapterError as error:
            self._fail(error)
            raise
        self._tell(self._load, earlier, "")
        return self._file

    def _start_anew(self, error: FileDamaged) -> JournalFile:
        self._shut()
        try:
            aside = set_aside(self._path)
            self._file = self._open_file(self._path)
        except AdapterError as failure:
            self._fail(failure)
            raise
        self._tell(self._load, [], f"{error}; set aside as {aside}, a new one is started")
        return self._file

    def _fail(self, error: AdapterError) -> None:
        self._error = str(error)
        self._retry_at = time.monotonic() + RETRY_S
        self._shut()

    def _shut(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
