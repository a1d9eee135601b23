"""The rows of ``cluster``: what one event cost the client, and whether two hosts held the VIP.

An event is repeated; one that goes wrong (nobody serves for ten seconds, the command fails, the
cluster does not come to rest) is no sample, stands in the row as failed, and no goal is met then.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from vipd.lab.bench.figures import quantile, short

P50, P99 = 0.5, 0.99


@dataclass(frozen=True, slots=True)
class Sample:
    """One event: the client's outage, for how long two hosts had the VIP, and how often a host
    answered again after another one had.
    """

    outage_ms: float
    held_twice_ms: float
    answered_again: int


def total(parts: Collection[Sample]) -> Sample:
    """An event of several moves, one after the other."""
    return Sample(
        sum(part.outage_ms for part in parts),
        sum(part.held_twice_ms for part in parts),
        sum(part.answered_again for part in parts),
    )


@dataclass(frozen=True, slots=True)
class Goal:
    """What the client's outage may be, in milliseconds."""

    p50_ms: float
    p99_ms: float

    def __str__(self) -> str:
        return f"≤ {short(self.p50_ms)} / {short(self.p99_ms)}"


@dataclass(slots=True)
class Tally:
    """The samples of one kind of event so far, and the machine's load at each."""

    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        self.samples.append(sample)
        self.loads.append(os.getloadavg()[0])

    @property
    def outages_ms(self) -> list[float]:
        return sorted(sample.outage_ms for sample in self.samples)

    @property
    def held_twice_ms(self) -> float:
        """The longest time that two hosts had the VIP."""
        return max((sample.held_twice_ms for sample in self.samples), default=0.0)

    @property
    def answered_again(self) -> int:
        return sum(sample.answered_again for sample in self.samples)

    def as_json(self) -> dict[str, Any]:
        return {
            "samples": [asdict(sample) for sample in self.samples],
            "failures": self.failures,
            "loads": self.loads,
        }


@dataclass(frozen=True, slots=True)
class EventFigure:
    """One row. ``goal`` None: for information. ``one_holder``: two at once miss every goal."""

    heads: ClassVar[tuple[str, ...]] = (
        "client outage in ms",
        "goal\np50 / p99",
        "vipd\np50",
        "p99",
        "worst",
        "n",
        "two\nholders",
        "keepalived\np50 (n)",
        "load",
        "met",
    )

    name: str
    what: str
    vipd: Tally
    keepalived: Tally
    goal: Goal | None
    one_holder: bool = True

    @property
    def met(self) -> bool | None:
        """None: there is no goal."""
        if self.goal is None:
            return None
        outages_ms = self.vipd.outages_ms
        return (
            bool(outages_ms)
            and not self.vipd.failures
            and quantile(outages_ms, P50) <= self.goal.p50_ms
            and quantile(outages_ms, P99) <= self.goal.p99_ms
            and not (self.one_holder and self._two_holders)
        )

    @property
    def went_wrong(self) -> tuple[str, ...]:
        """The events that are no samples, of either daemon."""
        return (*self.vipd.failures, *self.keepalived.failures)

    @property
    def _two_holders(self) -> bool:
        return self.vipd.held_twice_ms > 0 or self.vipd.answered_again > 0

    def row(self) -> list[str]:
        outages_ms = self.vipd.outages_ms
        shares = (P50, P99, 1.0)
        shown = (
            [short(quantile(outages_ms, share)) for share in shares] if outages_ms else ["-"] * 3
        )
        load = f"{statistics.mean(self.vipd.loads):.1f}" if self.vipd.loads else "-"
        met = {True: "yes", False: "MISSED", None: ""}[self.met]
        goal = "" if self.goal is None else str(self.goal)
        rival = self._rival()
        return [self.what, goal, *shown, _count(self.vipd), _holders(self.vipd), rival, load, met]

    def _rival(self) -> str:
        outages_ms = self.keepalived.outages_ms
        if not outages_ms:
            return f"- {_count(self.keepalived)}" if self.keepalived.failures else "-"
        twice = ", two holders" if self.keepalived.held_twice_ms else ""
        return f"{short(quantile(outages_ms, P50))} ({_count(self.keepalived)}){twice}"

    def sentence(self) -> str:
        what, goal, p50, p99, worst, count, holders, rival, load, met = self.row()
        return (
            f"{what.strip()}: p50 {p50}, p99 {p99}, worst {worst} ms of {count}"
            f"{f', goal {goal}: {met}' if goal else ''}; two holders {holders}; "
            f"keepalived {rival}; load {load}"
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": self.what.strip(),
            "goal_ms": None if self.goal is None else asdict(self.goal),
            "vipd": self.vipd.as_json(),
            "keepalived": self.keepalived.as_json(),
            "met": self.met,
        }


def _count(tally: Tally) -> str:
    failed = f" + {len(tally.failures)} FAILED" if tally.failures else ""
    return f"{len(tally.samples)}{failed}"


def _holders(tally: Tally) -> str:
    again = f", {tally.answered_again} answered again" if tally.answered_again else ""
    return (f"{short(tally.held_twice_ms)} ms" if tally.held_twice_ms else "0") + again
