"""What a unit is worth by its tracks, computed once more, and what an engine has been told.

The core's own sums cannot judge the core. Here they are made from the words of the
specification: healthy counts a positive weight, unhealthy a negative one, ``reverse`` turns the
sign; without a weight unhealthy (reversed: healthy) means FAULT; a number counts itself times
the weight, and at -254 means FAULT; what is not known counts nothing; the sum stays within
1..254, and an owner's 255 stays 255.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from vipd.core.events import (
    Configured,
    Deafened,
    Event,
    HealthReported,
    KernelResynced,
    LinkGone,
    LinkSeen,
    OrdersGiven,
    StopRequested,
    Undeafened,
)
from vipd.model import (
    OWNER_PRIORITY,
    Health,
    Instant,
    Link,
    Orders,
    Track,
    TrackKind,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Worth:
    """``sum`` of what counts, whether something means FAULT, whether a verdict is waited for."""

    sum: int = 0
    fault: bool = False
    pending: bool = False

    def priority(self, base: int) -> int:
        return base if base == OWNER_PRIORITY else sorted((1, base + self.sum, 254))[1]


def worth_of(
    tracks: Iterable[Track], verdicts: Mapping[str, Verdict], is_up: Callable[[str], bool]
) -> Worth:
    """``is_up``: does the interface of this name count as up?"""
    total, fault, pending = 0, False, False
    for track in tracks:
        if track.kind is TrackKind.INTERFACE:
            health, number = Health.HEALTHY if is_up(track.name) else Health.UNHEALTHY, None
        else:
            verdict = verdicts.get(track.name)
            health = Health.UNKNOWN if verdict is None else verdict.health
            number = None if verdict is None else verdict.number
        if health is Health.UNKNOWN:
            pending |= track.waits
            continue
        worth, bad = _one(track, health is Health.HEALTHY, number)
        total, fault = total + worth, fault or bad
    return Worth(total, fault, pending)


def _one(track: Track, healthy: bool, number: int | None) -> tuple[int, bool]:
    """(how much it counts, whether it means FAULT)."""
    sign = -1 if track.reverse else 1
    if healthy and number is not None:
        counted = number * sign * (track.weight if track.weight is not None else 1)
        return counted, counted <= -254
    if track.weight is None:
        return 0, healthy == track.reverse
    return sign * (max(track.weight, 0) if healthy else min(track.weight, 0)), False


@dataclass(slots=True)
class Told:
    """All that one engine process has been told and that a unit's worth follows from."""

    synced: bool = False
    stopped: bool = False
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    orders: Orders = field(default_factory=Orders)
    deaf: set[str] = field(default_factory=set)
    links: dict[int, Link] = field(default_factory=dict)
    health_at: Instant = 0
    stale: bool = False

    def learn(self, event: Event, now: Instant) -> None:
        if isinstance(event, HealthReported):
            self.verdicts = {each.check: each for each in event.verdicts}
            self.health_at = now
        elif isinstance(event, OrdersGiven):
            self.orders = event.orders
        elif isinstance(event, Configured):
            self.health_at, self.stale = now, False
        elif isinstance(event, KernelResynced):
            self.synced = True
            self.links = {link.index: link for link in event.links}
        elif isinstance(event, LinkSeen):
            self.links[event.link.index] = event.link
        elif isinstance(event, LinkGone):
            self.links.pop(event.index, None)
        elif isinstance(event, Deafened):
            self.deaf.add(event.instance)
        elif isinstance(event, Undeafened):
            self.deaf.discard(event.instance)
        elif isinstance(event, StopRequested):
            self.stopped = True

    def is_up(self, name: str) -> bool:
        return any(link.name == name and link.up for link in self.links.values())


class Debounced:
    """The tracked interfaces of one unit as they count: a change counts once it has lasted."""

    def __init__(self) -> None:
        self._counts: dict[str, bool] = {}
        self._since: dict[str, Instant] = {}

    def look(
        self,
        tracks: Iterable[Track],
        told: Told,
        now: Instant,
        *,
        due: bool,
        seen_by_core: Mapping[str, bool],
    ) -> None:
        """``due``: timers were served just now, so what lasted long enough counts. A moment
        earlier both are right, and what the core has seen is believed."""
        watched = {t.name: t for t in tracks if t.kind is TrackKind.INTERFACE}
        for name in [name for name in self._counts if name not in watched]:
            del self._counts[name]
            self._since.pop(name, None)
        for name, track in watched.items():
            up = told.is_up(name)
            if self._counts.setdefault(name, up) == up:
                self._since.pop(name, None)
                continue
            since = self._since.setdefault(name, now)
            over = now - since >= track.debounce_ns
            if over and (due or not track.debounce_ns or seen_by_core.get(name) == up):
                self._counts[name] = up
                del self._since[name]

    def is_up(self, name: str) -> bool:
        return self._counts.get(name, False)

    def overdue_ns(self, tracks: Iterable[Track], now: Instant) -> int:
        """For how long a change should have counted by now."""
        waiting = [
            now - self._since[track.name] - track.debounce_ns
            for track in tracks
            if track.kind is TrackKind.INTERFACE and track.name in self._since
        ]
        return max(waiting, default=0)
