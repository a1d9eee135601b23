"""Probes of this host: files, processes, interfaces.

*Files* are looked at in a thread, because a dead network mount blocks whoever looks.

*Processes* are searched in /proc only while too few are known, in one search for all checks. Those
that were found are held by a pidfd each, which says at once when one dies, and their names are
looked at again in each run: a process can become another program. (The kernel's process events
would also announce new ones, but exist in the host's first network and PID namespaces only, and
wake their reader for every fork on the host, the runs of our own scripts included.)

*Interfaces* come from the kernel's events: a run compares, and asks nothing.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import Callable, Iterable

from vipd.adapters import netlink, processes
from vipd.adapters.netlink import (
    AddressChange,
    AddressRemoval,
    EventSocket,
    KernelChange,
    LinkChange,
    LinkRemoval,
    Overrun,
)
from vipd.adapters.process import open_pidfd
from vipd.duties import FileProbe, InterfaceProbe, ProcessProbe
from vipd.errors import AdapterError
from vipd.model import Address, Link, format_address
from vipd.supervisor.checks.findings import Finding, ProbeFailed, healthy, refusal
from vipd.supervisor.checks.threads import Threads

# --- files ------------------------------------------------------------------------------------

_NUMBER = re.compile(rb"\s*([+-]?\d{1,9})\s*")
_READ_SIZE = 64
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR)


class FileCheck:
    ends_itself = False

    def __init__(self, config: FileProbe, threads: Threads) -> None:
        self._config, self._threads = config, threads

    async def run(self, _timeout_s: float) -> Finding:
        config = self._config
        try:
            if config.number:
                return _number_in(await self._threads.run(self, self._read))
            await self._threads.run(self, self._look)
            exists = True
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise refusal(config.path, error) from error
            exists = False
        if config.number:
            return healthy("there is no file, which counts as 0", 0)
        said = f"{config.path} {'exists' if exists else 'is not there'}"
        if exists is config.absent:
            raise ProbeFailed(said)
        return healthy(said)

    def _look(self) -> None:
        os.stat(self._config.path)

    def _read(self) -> bytes:
        # Without waiting, in case it is a pipe.
        fd = os.open(self._config.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            return os.read(fd, _READ_SIZE)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Nothing is held between runs."""


def _number_in(content: bytes) -> Finding:
    found = _NUMBER.fullmatch(content)
    if found is None:
        raise ProbeFailed("the file does not hold a whole number")
    number = int(found[1])
    return healthy(f"the file holds {number}", number)


# --- processes --------------------------------------------------------------------------------

SCANNED_AT_ONCE = 50
"""Then others get their turn: a host can have thousands of processes."""


TABLE_AGE_S = 0.1
"""So old may a search be: with many checks for what is not there, they share it."""


class ProcessTable:
    """All processes with their names."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._search: asyncio.Task[dict[int, tuple[str, str]]] | None = None
        self._began = 0.0

    async def names(self, not_before: float) -> dict[int, tuple[str, str]]:
        """By a search that began then or later: an earlier one may have passed what is new."""
        while self._search is not None and self._began < not_before and not self._search.done():
            await asyncio.wait([self._search])
        if self._search is None or self._began < not_before:
            self._began = self._loop.time()
            self._search = self._loop.create_task(self._look_at_all())
        return await asyncio.shield(self._search)

    async def _look_at_all(self) -> dict[int, tuple[str, str]]:
        found = {}
        for number, pid in enumerate(processes.all_pids(), start=1):
            found[pid] = processes.names_of(pid)
            if number % SCANNED_AT_ONCE == 0:
                await asyncio.sleep(0)
        return found


class ProcessCheck:
    ends_itself = False

    def __init__(
        self, config: ProcessProbe, table: ProcessTable, nudge: Callable[[], None]
    ) -> None:
        self._config, self._table, self._nudge = config, table, nudge
        self._loop = asyncio.get_running_loop()
        self._watched: dict[int, int] = {}  # pid -> pidfd
        self._last_death = 0.0

    async def run(self, _timeout_s: float) -> Finding:
        name, count = self._config.name, self._config.count
        for pid in list(self._watched):
            if not processes.has_name(processes.names_of(pid), name):
                self._drop(pid)
        if len(self._watched) < count:
            not_before = max(self._last_death, self._loop.time() - TABLE_AGE_S)
            found = await self._table.names(not_before)
            self._watch(pid for pid, names in found.items() if processes.has_name(names, name))
        running = sorted(self._watched)
        if len(running) < count:
            wanted = f" of {count}" if count > 1 else ""
            raise ProbeFailed(f"{len(running) or 'no'} {name}{wanted} running")
        shown = ", ".join(map(str, running[:5])) + (", …" if len(running) > 5 else "")
        return healthy(f"process{'es' if count > 1 else ''} {shown}")

    def _watch(self, pids: Iterable[int]) -> None:
        """Hold as many as are needed. The pidfd first: what is looked at then is that process."""
        for pid in pids:
            if len(self._watched) >= self._config.count:
                return
            if pid in self._watched:
                continue
            try:
                pidfd = open_pidfd(pid)
            except AdapterError as error:
                if error.errno in (errno.ESRCH, errno.EINVAL):
                    continue
                raise refusal(f"process {pid}", OSError(error.errno, str(error))) from error
            named = processes.has_name(processes.names_of(pid), self._config.name)
            if not named or not processes.counts(pid):
                os.close(pidfd)
                continue
            self._watched[pid] = pidfd
            self._loop.add_reader(pidfd, self._died, pid)

    def _drop(self, pid: int) -> None:
        pidfd = self._watched.pop(pid)
        self._loop.remove_reader(pidfd)
        os.close(pidfd)

    def _died(self, pid: int) -> None:
        self._drop(pid)
        self._last_death = self._loop.time()
        self._nudge()

    def close(self) -> None:
        for pid in list(self._watched):
            self._drop(pid)


# --- interfaces -------------------------------------------------------------------------------

_READ_AT_ONCE = 64


class LinkTable:
    """The host's links and addresses, kept up to date by the kernel's events.

    Raises AdapterError if the kernel does not tell. If it stops telling later, ``failure`` says
    why; the table is of no use then, and the next run of a check opens another one.
    """

    def __init__(self) -> None:
        self.failure = ""
        self._listeners: list[Callable[[], None]] = []
        self._links: dict[int, Link] = {}
        self._usable: set[tuple[int, Address]] = set()
        self._loop = asyncio.get_running_loop()
        # Events first: what changes during the dump is heard, too.
        self._events = EventSocket()
        self._fill()
        self._loop.add_reader(self._events.fileno(), self._read)

    def _fill(self) -> None:
        links, addresses = netlink.dump()
        self._links = {link.index: link for link in links}
        self._usable = {address.key for address in addresses if not address.tentative}

    def _read(self) -> None:
        try:
            self._take_waiting()
        except AdapterError as error:
            self.failure = str(error)
            self.close()
        for listener in tuple(self._listeners):
            listener()

    def _take_waiting(self) -> None:
        """What waits, but not for ever: others want their turn, too."""
        for _datagram in range(_READ_AT_ONCE):
            try:
                changes = self._events.receive()
            except Overrun:
                self._fill()
                return
            if changes is None:
                return
            for change in changes:
                self._take(change)

    def _take(self, change: KernelChange) -> None:
        if isinstance(change, LinkChange):
            self._links[change.link.index] = change.link
        elif isinstance(change, LinkRemoval):
            self._links.pop(change.index, None)
            self._usable = {key for key in self._usable if key[0] != change.index}
        elif isinstance(change, AddressChange) and not change.address.tentative:
            self._usable.add(change.address.key)
        elif isinstance(change, AddressChange | AddressRemoval):
            self._usable.discard(change.address.key)

    def find(self, name: str) -> Link | None:
        return next((link for link in self._links.values() if link.name == name), None)

    def has_address(self, link: Link, address: Address) -> bool:
        return (link.index, address) in self._usable

    def listen(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

    def close(self) -> None:
        if self._events.fileno() >= 0:
            self._loop.remove_reader(self._events.fileno())
            self._events.close()


class InterfaceCheck:
    ends_itself = False

    def __init__(
        self,
        config: InterfaceProbe,
        table: Callable[[], LinkTable],
        nudge: Callable[[], None],
    ) -> None:
        self._config, self._open, self._nudge = config, table, nudge
        self._table: LinkTable | None = None
        self._told: str | None = None

    async def run(self, _timeout_s: float) -> Finding:
        if self._table is None or self._table.failure:
            try:
                self._table = self._open()
            except AdapterError as error:
                raise ProbeFailed(str(error)) from error
            self._table.listen(self._compare)
        self._told = problem = self._problem(self._table)
        if problem:
            raise ProbeFailed(problem)
        address = self._config.address
        has = f" with {format_address(address)}" if address is not None else ""
        return healthy(f"{self._config.interface} is up{has}")

    def _problem(self, table: LinkTable) -> str:
        if table.failure:
            return table.failure
        name, address = self._config.interface, self._config.address
        link = table.find(name)
        if link is None:
            return f"there is no interface {name}"
        if not link.up:
            return f"{name} is down, or has no carrier"
        if address is not None and not table.has_address(link, address):
            return f"{name} does not have {format_address(address)}"
        return ""

    def _compare(self) -> None:
        if self._table is not None and self._problem(self._table) != self._told:
            self._nudge()

    def close(self) -> None:
        if self._table is not None:
            self._table.forget(self._compare)
