"""Tracking: what checks and interfaces are worth to a unit.

What it decides: from the health vector and the state of links, how much is added to the base
priority, by name; which tracks make mastership impossible (FAULT); and which verdicts must be
waited for before this node may become master. Nothing else: what follows is the election's.

Rules that may never break
--------------------------
1. What is not known contributes nothing and is no fault. A track that ``waits`` keeps a unit
   that is not master from starting; it never ends a mastership.
2. The effective priority is base + contributions, clamped to 1..254: 0 means "I leave" and 255
   "I own the addresses" (RFC 9568 §5.2.4), and no sum may say either. The address owner's 255
   is never changed.
3. The signs are keepalived's: a positive weight is added while healthy, a negative one taken off
   while failed; ``reverse`` turns the sign. Without a weight failure (reversed: health) is FAULT.
4. A number is worth number * weight; at -254 or below it means FAULT, as in keepalived.

An interface that flaps may be *debounced*: it counts as what it was until it has been something
else for ``debounce_ns`` without a break.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from vipd.model import (
    OWNER_PRIORITY,
    Contribution,
    Duration,
    Health,
    Instant,
    Reason,
    Track,
    TrackKind,
    Verdict,
)
from vipd.snapshots import TrackSnapshot

LOWEST_PRIORITY, HIGHEST_PRIORITY = 1, 254
FAULT_NUMBER = -254


def effective_priority(base: int, contributions: Iterable[Contribution]) -> int:
    """Rule 2."""
    if base == OWNER_PRIORITY:
        return base
    total = base + sum(part.weight for part in contributions)
    return max(LOWEST_PRIORITY, min(HIGHEST_PRIORITY, total))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the tracks of a unit amount to now. ``faults``: reason -> names of what failed."""

    tracks: tuple[TrackSnapshot, ...] = ()
    faults: tuple[tuple[Reason, str], ...] = ()
    pending: str = ""

    @property
    def contributions(self) -> tuple[Contribution, ...]:
        """By name; those that are worth nothing now are left out."""
        return tuple(
            Contribution(each.label, each.contribution) for each in self.tracks if each.contribution
        )


class Tracker:
    """The tracks of one unit."""

    def __init__(self, tracks: tuple[Track, ...]) -> None:
        self._tracks = tracks
        self._links: dict[str, _DebouncedLink] = {}

    def retrack(self, tracks: tuple[Track, ...]) -> None:
        """Other tracks since a reload; what is known of interfaces stays."""
        self._tracks = tracks
        names = {track.name for track in tracks if track.kind is TrackKind.INTERFACE}
        self._links = {name: link for name, link in self._links.items() if name in names}

    @property
    def interfaces(self) -> frozenset[str]:
        return frozenset(each.name for each in self._tracks if each.kind is TrackKind.INTERFACE)

    @property
    def needs_checks(self) -> bool:
        return any(each.kind is TrackKind.CHECK for each in self._tracks)

    @property
    def deadline(self) -> Instant | None:
        """When a change of an interface will have lasted long enough to count."""
        if not self._links:
            return None
        instants = [link.due for link in self._links.values() if link.due is not None]
        return min(instants, default=None)

    def judge(
        self, verdicts: Mapping[str, Verdict], is_up: Callable[[str], bool], now: Instant
    ) -> Judgement:
        """Everything anew; ``is_up`` tells of an interface by name."""
        shots: list[TrackSnapshot] = []
        failed: dict[Reason, list[str]] = {}
        pending: list[str] = []
        for track in self._tracks:
            if track.kind is TrackKind.INTERFACE:
                up = self._link_is_up(track.name, is_up(track.name), track.debounce_ns, now)
                verdict = Verdict(track.name, Health.HEALTHY if up else Health.UNHEALTHY)
            else:
                verdict = verdicts.get(track.name, Verdict(track.name, Health.UNKNOWN))
            shots.append(_weigh(track, verdict))
            if _is_fault(track, verdict):
                failed.setdefault(_fault_reason(track), []).append(track.name)
            if track.waits and verdict.health is Health.UNKNOWN:
                pending.append(track.name)
        faults = tuple((reason, ", ".join(names)) for reason, names in failed.items())
        return Judgement(tuple(shots), faults, ", ".join(pending))

    def _link_is_up(self, name: str, up: bool, debounce_ns: Duration, now: Instant) -> bool:
        link = self._links.get(name)
        if link is None:
            link = self._links[name] = _DebouncedLink(up)
        return link.judge(up, debounce_ns, now)


class _DebouncedLink:
    """One interface as it counts; ``due`` is when the other state will count."""

    def __init__(self, up: bool) -> None:
        self._counts_up = up
        self.due: Instant | None = None

    def judge(self, up: bool, debounce_ns: Duration, now: Instant) -> bool:
        if up == self._counts_up:
            self.due = None
        elif self.due is None and debounce_ns:
            self.due = now + debounce_ns
        elif self.due is None or now >= self.due:
            self._counts_up, self.due = up, None
        return self._counts_up


def _weigh(track: Track, verdict: Verdict) -> TrackSnapshot:
    worth = 0
    sign = -1 if track.reverse else 1
    if verdict.health is Health.HEALTHY and verdict.number is not None:
        worth = sign * verdict.number * (1 if track.weight is None else track.weight)
    elif track.weight is not None:
        counts = Health.HEALTHY if track.weight > 0 else Health.UNHEALTHY
        worth = sign * track.weight if verdict.health is counts else 0
    return TrackSnapshot(
        label=track.label,
        kind=track.kind,
        health=verdict.health,
        weight=track.weight,
        reverse=track.reverse,
        contribution=worth,
        number=verdict.number,
    )


def _is_fault(track: Track, verdict: Verdict) -> bool:
    """Rules 3 and 4."""
    if verdict.health is Health.HEALTHY and verdict.number is not None:
        return _weigh(track, verdict).contribution <= FAULT_NUMBER
    if track.weight is not None:
        return False
    return verdict.health is (Health.HEALTHY if track.reverse else Health.UNHEALTHY)


def _fault_reason(track: Track) -> Reason:
    if track.kind is TrackKind.INTERFACE:
        return Reason.TRACKED_INTERFACE_DOWN
    return Reason.CHECK_FAILED


def names_of_change(before: Judgement, after: Judgement) -> str:
    """Which contributions differ, in words."""
    changed = {*before.contributions} ^ {*after.contributions}
    return ", ".join(sorted({part.name for part in changed}))
