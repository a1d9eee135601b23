"""The story of a lab as it happens: what the client and the switch saw, one readable line each.

Two followers read files that other processes are still writing - the client's log and the
switch's capture - and turn them into facts. Nothing here asks a daemon: who is master is told by
adverts on a switch port, who serves a VIP by the answers that the client got.

A fact belongs to the instant at which it happened, which is known a little later: a silence has
to last before it is one, and the client flushes its log every 50 ms. So facts are given out in
the order of their instants, ``LAG_NS`` after them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from vipd.lab.capture import Frame, read_capture
from vipd.lab.hosts import now_ns
from vipd.lab.peers import Router
from vipd.model import MILLISECOND_NS, Duration, Instant

LAG_NS = 150 * MILLISECOND_NS

SILENCE_NS = 25 * MILLISECOND_NS
"""Below this a gap between answers is the noise of a busy machine."""

_BURST_NS = 1_200 * MILLISECOND_NS  # announcements of one claim are repeated for a second
_LATE_NS = 100 * MILLISECOND_NS
_ETHERTYPE_IPV4, _ETHERTYPE_ARP = b"\x08\x00", b"\x08\x06"
_VRRP, _VRRP_AT_LEAST = 112, 8
_ARP_END = 42


class Source(Enum):
    """Whose eyes a fact was seen with."""

    CLIENT = "client"
    WIRE = "wire"
    KERNEL = "kernel"


class Mood(Enum):
    """How a fact should look to a reader in a hurry."""

    PLAIN = "plain"
    BAD = "bad"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the story."""

    t_ns: Instant
    source: Source
    text: str
    mood: Mood = Mood.PLAIN


@dataclass(frozen=True, slots=True)
class SeenAdvert:
    """An advert as the switch saw it; ``port`` is the host that sent it."""

    t_ns: Instant
    port: str
    vrid: int
    priority: int


def advert_in(frame: Frame) -> SeenAdvert | None:
    """The VRRP advert over IPv4 in a captured frame, if it is one."""
    data = frame.data
    if data[12:14] != _ETHERTYPE_IPV4 or len(data) < 34 or data[23] != _VRRP:
        return None
    start = 14 + (data[14] & 0x0F) * 4
    if len(data) < start + _VRRP_AT_LEAST:
        return None
    return SeenAdvert(frame.t_ns, frame.interface, data[start + 1], data[start + 2])


def announced_in(frame: Frame) -> str | None:
    """The address that a gratuitous ARP announces, if the frame is one."""
    data = frame.data
    if data[12:14] != _ETHERTYPE_ARP or len(data) < _ARP_END or data[28:32] != data[38:42]:
        return None
    return socket.inet_ntoa(data[28:32])


def milliseconds(duration_ns: Duration) -> str:
    """Short enough for a line: tenths only where they matter."""
    value = duration_ns / MILLISECOND_NS
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


class ClientFollower:
    """Reads the client's log on from where it stopped. ``serving`` is who answered last."""

    def __init__(self, path: Path, names: Mapping[str, str]) -> None:
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115 - closed by close()
        self._names = names
        self._rest = b""
        self._last: dict[str, Instant] = {}
        self._silent: set[str] = set()
        self.serving: dict[str, str] = {}
        self.serving_since: dict[str, Instant] = {}

    def close(self) -> None:
        self._file.close()

    def read(self) -> list[Fact]:
        """The facts in what was written since the last call."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        facts: list[Fact] = []
        for line in lines:
            kind, vip, _, instant, *host = line.decode().split()
            if kind == "R":
                facts += self._answered(vip, int(instant), host[0])
            else:
                facts += self._asked(vip, int(instant))
        return facts

    def _asked(self, vip: str, t_ns: Instant) -> list[Fact]:
        last_ns = self._last.get(vip)
        if last_ns is None or vip in self._silent or t_ns - last_ns < SILENCE_NS:
            return []
        self._silent.add(vip)
        text = f"{self._name(vip)}: {self.serving.pop(vip)} answers no more"
        return [Fact(last_ns, Source.CLIENT, text, Mood.BAD)]

    def _answered(self, vip: str, t_ns: Instant, host: str) -> list[Fact]:
        last_ns, was = self._last.get(vip), self.serving.get(vip)
        self._last[vip] = t_ns
        if was == host:
            return []
        self.serving[vip] = host
        self.serving_since[vip] = t_ns
        name = self._name(vip)
        if last_ns is None:
            return [Fact(t_ns, Source.CLIENT, f"{name}: answers come from {host}", Mood.GOOD)]
        gap = milliseconds(t_ns - last_ns)
        self._silent.discard(vip)
        text = f"{name}: {host} answers, after {gap} without service"
        return [Fact(t_ns, Source.CLIENT, text, Mood.GOOD)]

    def _name(self, vip: str) -> str:
        return f"{self._names[vip]} {vip}"


class WireFollower:
    """Reads the switch's capture: who starts to advertise, who says goodbye, who announces."""

    def __init__(
        self, path: Path, clock_offset_ns: Duration, routers: Mapping[str, Router]
    ) -> None:
        self._path = path
        self._offset_ns = clock_offset_ns
        self._names = {router.vrid: name for name, router in routers.items()}
        self._intervals = {router.vrid: router.interval_ns for router in routers.values()}
        self._vips = {vip: name for name, router in routers.items() for vip in router.addresses}
        self._until_ns: Instant = 0
        self._spoke: dict[tuple[str, int], Instant] = {}
        self._announced: dict[tuple[str, str], Instant] = {}

    def read(self, until_ns: Instant) -> list[Fact]:
        """The facts between the last call and an instant that the capture has surely reached."""
        frames = read_capture(self._path, self._offset_ns)
        facts: list[Fact] = []
        for frame in frames:
            if self._until_ns < frame.t_ns <= until_ns:
                facts += self._judge(frame)
        self._until_ns = until_ns
        return facts

    def last_advert_ns(self, port: str, vrid: int) -> Instant:
        """The newest advert of a host that was read so far; 0 if there is none."""
        return self._spoke.get((port, vrid), 0)

    def _judge(self, frame: Frame) -> list[Fact]:
        advert = advert_in(frame)
        if advert is not None and advert.vrid in self._names:
            return self._advertised(advert)
        address = announced_in(frame)
        return self._announce(frame, address) if address in self._vips and address else []

    def _advertised(self, advert: SeenAdvert) -> list[Fact]:
        name, key = self._names[advert.vrid], (advert.port, advert.vrid)
        if advert.priority == 0:
            self._spoke.pop(key, None)
            text = f"{name}: {advert.port} says that it leaves (priority 0)"
            return [Fact(advert.t_ns, Source.WIRE, text)]
        last_ns = self._spoke.get(key, 0)
        self._spoke[key] = advert.t_ns
        # older than this, the last advert belongs to an earlier mastership
        if advert.t_ns - last_ns < self._intervals[advert.vrid] * 3 // 2 + _LATE_NS:
            return []
        text = f"{name}: {advert.port} speaks as master (priority {advert.priority})"
        return [Fact(advert.t_ns, Source.WIRE, text)]

    def _announce(self, frame: Frame, address: str) -> list[Fact]:
        key = (frame.interface, address)
        last_ns = self._announced.get(key, 0)
        self._announced[key] = frame.t_ns
        if frame.t_ns - last_ns < _BURST_NS:
            return []
        text = f"{self._vips[address]}: {frame.interface} announces {address} (gratuitous ARP)"
        return [Fact(frame.t_ns, Source.WIRE, text)]


class Timeline:
    """Both followers, and facts added by hand, in the order in which things happened."""

    def __init__(self, client: ClientFollower, wire: WireFollower) -> None:
        self.client = client
        self.wire = wire
        self._waiting: list[Fact] = []

    def add(self, facts: Iterable[Fact]) -> None:
        self._waiting.extend(facts)

    def due(self, until_ns: Instant | None = None) -> list[Fact]:
        """What can be told by now."""
        until_ns = now_ns() - LAG_NS if until_ns is None else until_ns
        self._waiting += self.client.read()
        self._waiting += self.wire.read(until_ns)
        told = sorted(
            (fact for fact in self._waiting if fact.t_ns <= until_ns), key=lambda fact: fact.t_ns
        )
        self._waiting = [fact for fact in self._waiting if fact.t_ns > until_ns]
        return told

    def served_steadily(self, vip: str, host: str, for_ns: Duration) -> bool:
        """The client has got answers from this host, and no other, for that long."""
        serving = self.client.serving.get(vip) == host
        return serving and now_ns() - self.client.serving_since[vip] >= for_ns
