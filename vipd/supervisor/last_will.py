"""Carries a dead engine's last will out: VIPs gone, then tombstones, then priority 0.

The order is rule L1 of ``vipd.will``: a node that hears a tombstone takes over at once, so it must
not be sent before the kernel has answered that the addresses are gone. If it refuses, nothing is
sent at all: the peers then wait for the silence, and by that time the addresses' lifetime is over.

Everything here is done in one go, because this time is the time without service. It waits for
nothing, asks for as little as it can, and opens the few sockets that it needs only now: the
engine had bound the same addresses and ports, and they are free since it is dead.

Who calls this must know that the owner is dead (L2): its supervisor by the pidfd, everybody else
by the lock on the page.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from vipd.adapters.channel_socket import ChannelSocket
from vipd.adapters.clock import boottime_ns
from vipd.adapters.page import find_page
from vipd.adapters.vrrp_socket import VrrpSocket
from vipd.errors import AdapterError
from vipd.model import (
    MILLISECOND_NS,
    Address,
    Duration,
    Family,
    Link,
    family_of,
    format_address,
)
from vipd.supervisor import leftovers
from vipd.will import FILE_NAME, PAGE_SIZE, Goodbye, Page, Tombstone


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
    removed_ns: Duration = 0
    sent_ns: Duration = 0

    def tell(self, left_by: str) -> None:
        """Into the log, afterwards."""
        leftovers.tell(self.removed, left_by)
        if not self.told and not self.goodbyes and not self.refusals and not self.too_late:
            return
        structlog.get_logger().warning(
            "last-will",
            left_by=left_by,
            owner=self.owner,
            told=list(self.told),
            goodbyes=list(self.goodbyes),
            too_late=list(self.too_late),
            refusals=list(self.refusals),
            left_out=self.left_out,
            removed_ms=self.removed_ns / MILLISECOND_NS,
            sent_ms=self.sent_ns / MILLISECOND_NS,
        )


def execute(page: Page | None, runtime_dir: Path) -> Execution:
    """Remove the addresses that are left, then send what ``page`` says; its owner is dead.

    Raises AdapterError when an address could not be removed; then nothing was sent, and the will
    is still there for the next attempt.
    """
    begin = boottime_ns()
    removed = leftovers.remove_listed(runtime_dir)
    removed_ns = boottime_ns() - begin
    try:
        will = None if page is None else page.read()
    except AdapterError as error:
        return Execution("", removed, refusals=(str(error),), removed_ns=removed_ns)
    if page is None or will is None:
        return Execution("", removed, removed_ns=removed_ns)
    age_ns = boottime_ns() - page.last_turn
    refusals = _send_tombstones(will.tombstones)
    timely = [each for each in will.goodbyes if 0 <= age_ns <= each.good_for_ns]
    late = [each for each in will.goodbyes if not 0 <= age_ns <= each.good_for_ns]
    refusals += _send_goodbyes(timely)
    sent_ns = boottime_ns() - begin
    # A second goodbye would hurry the backups of whoever is master by then.
    page.clear()
    return Execution(
        f"{page.owner.node}/{page.owner.incarnation}",
        removed,
        _distinct(each.to for each in will.tombstones),
        _distinct(each.instance for each in timely),
        _distinct(each.instance for each in late),
        tuple(refusals),
        will.left_out,
        removed_ns,
        sent_ns,
    )


def execute_left(runtime_dir: Path) -> Execution:
    """The same for a dead daemon, by the page that it left, if it left one.

    Only while holding the node's name. Raises AdapterError, also if the page's owner lives.
    """
    found = find_page(runtime_dir / FILE_NAME, PAGE_SIZE)
    return execute(None if found is None else Page(found.buffer), runtime_dir)


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


# --- sending ----------------------------------------------------------------------------------


def _send_tombstones(tombstones: Iterable[Tombstone]) -> list[str]:
    """On every path; returns what was refused. One path that works is enough for its member."""
    sockets: dict[tuple[Address, int], ChannelSocket] = {}
    refusals: dict[str, None] = {}
    for each in tombstones:
        for source, destination in each.paths:
            try:
                sock = sockets.get((source, each.port))
                if sock is None:
                    sock = sockets[source, each.port] = ChannelSocket(source, each.port)
                sock.send(each.datagram, destination)
            except AdapterError as error:
                refusals[str(error)] = None
    for sock in sockets.values():
        for number, count in sock.refused.items():
            where = format_address(sock.own)
            refusals[f"{count} tombstones from {where}: {os.strerror(number)}"] = None
        sock.close()
    return list(refusals)


def _send_goodbyes(goodbyes: Iterable[Goodbye]) -> list[str]:
    sockets: dict[tuple[int, Family], VrrpSocket] = {}
    refusals: list[str] = []
    for each in goodbyes:
        key = (each.index, family_of(each.source))
        try:
            sock = sockets.get(key)
            if sock is None:
                sock = sockets[key] = _sender(*key)
            sock.send(each.payload, each.source, each.destination)
        except AdapterError as error:
            refusals.append(f"priority 0 of {each.instance}: {error}")
    for sock in sockets.values():
        sock.close()
    return refusals


def _sender(index: int, family: Family) -> VrrpSocket:
    # For sending the index is all that counts of a link.
    return VrrpSocket(Link(index, f"link {index}", True, b""), family, multicast=False)
