"""What the benchmark reports: samples of two daemons, their ratio, a goal and whether it is met.

A figure is judged by its own rule, which sees both samples; what cannot be compared (keepalived
has no such thing, or it never ended) has no ratio.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

VIPD, KEEPALIVED = "vipd", "keepalived"
KINDS = (VIPD, KEEPALIVED)


class MeasurementFailed(Exception):
    """The measurement itself went wrong: there is no figure to judge."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The values of one daemon. ``endless``: it lasted longer than it was watched."""

    values: tuple[float, ...]
    endless: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def most(self) -> float:
        return max(self.values)


Judgement = Callable[[Samples, Samples], bool]
Progress = Callable[[str], None]


class Row(Protocol):
    """What a measurement yields: a row of the table with these heads."""

    heads: ClassVar[tuple[str, ...]]

    @property
    def went_wrong(self) -> tuple[str, ...]: ...
    def row(self) -> list[str]: ...
    def sentence(self) -> str: ...
    def as_json(self) -> dict[str, Any]: ...


Measurement = Callable[[Progress], Iterator[Row]]


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table. ``judge`` None: for information, nothing to be met."""

    heads: ClassVar[tuple[str, ...]] = (
        "measure",
        "vipd\nmedian (max)",
        "keepalived\nmedian (max)",
        "ratio",
        "goal",
        "met",
    )
    name: str
    what: str
    unit: str
    vipd: Samples
    keepalived: Samples
    goal: str = ""
    judge: Judgement | None = None

    @property
    def went_wrong(self) -> tuple[str, ...]:
        """Nothing: what goes wrong ends the measurement, and there is no figure."""
        return ()

    @property
    def ratio(self) -> float | None:
        if self.keepalived.endless or self.vipd.endless or not self.keepalived.median:
            return None
        return self.vipd.median / self.keepalived.median

    @property
    def met(self) -> bool | None:
        return None if self.judge is None else self.judge(self.vipd, self.keepalived)

    def row(self) -> list[str]:
        """The cells of the table."""
        ratio = "-" if self.ratio is None else _ratio(self.ratio)
        met = {True: "yes", False: "NO", None: ""}[self.met]
        shown = [self._shown(samples) for samples in (self.vipd, self.keepalived)]
        return [self.what, *shown, ratio, self.goal, met]

    def sentence(self) -> str:
        """What is told while the table is not ready."""
        what, vipd, keepalived, *_ = self.row()
        return f"{what.strip()}: vipd {vipd}, keepalived {keepalived}"

    def _shown(self, samples: Samples) -> str:
        if samples.endless:
            return f"> {short(samples.most)} {self.unit}"
        most = f" ({short(samples.most)})" if len(samples.values) > 1 else ""
        return f"{short(samples.median)}{most} {self.unit}".rstrip()

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            VIPD: {"values": list(self.vipd.values), "endless": self.vipd.endless},
            KEEPALIVED: {
                "values": list(self.keepalived.values),
                "endless": self.keepalived.endless,
            },
            "ratio": self.ratio,
            "goal": self.goal,
            "met": self.met,
        }


def _ratio(value: float) -> str:
    """Two decimals, unless nothing would be left."""
    return f"{value:.2f}" if value >= 0.01 or value == 0 else f"{value:.1g}"


def short(value: float) -> str:
    """Three digits that matter."""
    if value >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def quantile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that this share of the values does not exceed."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def at_most_times(factor: float) -> Judgement:
    """vipd's median is at most ``factor`` times keepalived's."""
    return lambda vipd, keepalived: vipd.median <= factor * keepalived.median


def at_most(limit: float) -> Judgement:
    """Every value of vipd is within an absolute limit, and none was endless."""
    return lambda vipd, _keepalived: not vipd.endless and vipd.most <= limit


def at_most_more(extra: float) -> Judgement:
    """vipd's median is at most ``extra`` above keepalived's."""
    return lambda vipd, keepalived: vipd.median <= keepalived.median + extra


def samples(values: Sequence[float], endless: bool = False) -> Samples:
    if not values:
        raise MeasurementFailed("not a single value was measured")
    return Samples(tuple(values), endless)
