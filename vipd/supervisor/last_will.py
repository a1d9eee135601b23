"""Carries a dead engine's last will out: VIPs gone, then tombstones, then priority 0.

The order is rule L1 of ``vipd.will``: a node that hears a tombstone takes over at once, so it must
not be sent before the kernel has answered that the addresses are gone. If it refuses, nothing is
sent at all: the peers then wait for the silence, and by that time the addresses' lifetime is over.

A dead engine's host still serves: the kernel answers for its addresses until they are removed.
From then on until the next master announces itself nobody does. So all that can be done before is
done before (reading the will, opening the sockets), and between the kernel's answer and the last
datagram there is nothing but sending. The sockets are opened only now: the engine had bound the
same addresses and ports, which are free since it is dead.

Who calls this must know that the owner is dead (L2): its supervisor by the pidfd, everybody else
by the lock on the page.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from vipd.adapters.channel_socket import ChannelSocket
from vipd.adapters.clock import boottime_ns
from vipd.adapters.page import find_page
from vipd.adapters.vrrp_socket import VrrpSocket
from vipd.errors import AdapterError
from vipd.model import (
    Address,
    Duration,
    Family,
    Link,
    family_of,
    format_address,
)
from vipd.supervisor import leftovers
from vipd.will import FILE_NAME, PAGE_SIZE, Goodbye, Page, Tombstone, Will

_Socket = TypeVar("_Socket", ChannelSocket, VrrpSocket)


@dataclass(frozen=True, slots=True)
class Execution:
    """What was done. ``told``: members that a tombstone was sent to, ``goodbyes``: instances
    that said priority 0; ``refusals``: what could not be sent; durations from the call on.
    """

    owner: str = ""
    removed: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    goodbyes: tuple[str, ...] = ()
    too_late: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    left_out: int = 0
    prepared_ns: Duration = 0
    removed_ns: Duration = 0
    sent_ns: Duration = 0


def execute(page: Page | None, runtime_dir: Path) -> Execution:
    """Remove the addresses that are left, then send what ``page`` says; its owner is dead.

    Raises AdapterError when an address could not be removed; then nothing was sent, and the will
    is still there for the next attempt.
    """
    try:
        will = None if page is None else page.read()
    except AdapterError as error:
        return Execution(removed=leftovers.remove_listed(runtime_dir), refusals=(str(error),))
    if page is None or will is None:
        return Execution(removed=leftovers.remove_listed(runtime_dir))
    return _execute(will, page, runtime_dir)


def _execute(will: Will, page: Page, runtime_dir: Path) -> Execution:
    begin = boottime_ns()
    with ExitStack() as stack:
        sender = _Sender(stack)
        sender.prepare(will)
        prepared = boottime_ns()
        removed = leftovers.remove_listed(runtime_dir)
        gone = boottime_ns()
        for tombstone in will.tombstones:
            sender.send_tombstone(tombstone)
        age_ns = gone - page.last_turn
        timely = [each for each in will.goodbyes if _is_timely(each, age_ns)]
        for goodbye in timely:
            sender.send_goodbye(goodbye)
        sent = boottime_ns()
        # Once more: nobody repeats a datagram of the dead, and a second copy does nothing.
        for tombstone in will.tombstones:
            sender.send_tombstone(tombstone)
        refusals = sender.refusals()
    # A second goodbye would hurry the backups of whoever is master by then.
    page.clear()
    return Execution(
        owner=f"{page.owner.node}/{page.owner.incarnation}",
        removed=removed,
        told=_distinct(each.to for each in will.tombstones),
        goodbyes=_distinct(each.instance for each in timely),
        too_late=_distinct(each.instance for each in will.goodbyes if not _is_timely(each, age_ns)),
        refusals=refusals,
        left_out=will.left_out,
        prepared_ns=prepared - begin,
        removed_ns=gone - begin,
        sent_ns=sent - begin,
    )


def execute_left(runtime_dir: Path) -> Execution:
    """The same for a dead daemon, by the page that it left, if it left one.

    Only while holding the node's name. Raises AdapterError, also if the page's owner lives.
    """
    found = find_page(runtime_dir / FILE_NAME, PAGE_SIZE)
    return execute(None if found is None else Page(found.buffer), runtime_dir)


def _is_timely(goodbye: Goodbye, age_ns: Duration) -> bool:
    return 0 <= age_ns <= goodbye.good_for_ns


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


class _Sender:
    """The sockets that a will needs, one for each source. What is refused is kept for the log:
    one path that works is enough for a member.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._channels: dict[tuple[Address, int], ChannelSocket | None] = {}
        self._links: dict[tuple[int, Family], VrrpSocket | None] = {}
        self._refusals: dict[str, None] = {}

    def prepare(self, will: Will) -> None:
        """Open everything; nobody waits yet."""
        ends = {(here, each.port) for each in will.tombstones for here, _there in each.paths}
        for here, port in ends:
            self._channels[here, port] = self._open(partial(ChannelSocket, here, port))
        for key in {(each.index, family_of(each.source)) for each in will.goodbyes}:
            self._links[key] = self._open(partial(_vrrp_socket, *key))

    def _open(self, opening: Callable[[], _Socket]) -> _Socket | None:
        try:
            sock = opening()
        except AdapterError as error:
            self._refusals[str(error)] = None
            return None
        self._stack.callback(sock.close)
        return sock

    def send_tombstone(self, tombstone: Tombstone) -> None:
        for here, there in tombstone.paths:
            sock = self._channels[here, tombstone.port]
            if sock is not None:
                sock.send(tombstone.datagram, there)

    def send_goodbye(self, goodbye: Goodbye) -> None:
        sock = self._links[goodbye.index, family_of(goodbye.source)]
        try:
            if sock is not None:
                sock.send(goodbye.payload, goodbye.source, goodbye.destination)
        except AdapterError as error:
            self._refusals[f"priority 0 of {goodbye.instance}: {error}"] = None

    def refusals(self) -> tuple[str, ...]:
        for sock in self._channels.values():
            if sock is None:
                continue
            where = format_address(sock.own)
            for number, count in sock.refused.items():
                self._refusals[f"{count} tombstones from {where}: {os.strerror(number)}"] = None
        return tuple(self._refusals)


def _vrrp_socket(index: int, family: Family) -> VrrpSocket:
    # For sending the index is all that counts of a link.
    return VrrpSocket(Link(index, f"link {index}", True, b""), family, multicast=False)
