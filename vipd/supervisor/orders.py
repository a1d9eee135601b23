"""What an operator ordered of this node beyond its configuration, and how it is kept.

All of them are state that the core is told, whole, again and again (``Orders``):

* **Maintenance**: give every mastership away and take none, until ``--for`` is over or it is
  ended.
* **A hold** of a unit: its mastership was given away by ``switchover``, so it does not take it
  back from a living master, whatever ``preempt`` says. It ends when its time is over, when this
  node is master of the unit again (the other one was lost, so the reason is gone), or by
  ``switchover --auto``.
* **A count of step-downs** for each unit. One that grew is the order to leave MASTER; the count
  makes sure that repeating the state does not repeat the order.
* **Pins**, in cluster mode instead of the two before: the last one that was ordered here for each
  unit, with its count. What pins stand is known to the engines, which tell each other.

The counts go on in either mode: an engine that found one again higher than it left it would take
that for an order.

All but the pins survive a restart and a reboot in ``state_dir/orders.json``. Ends are instants of
the wall clock, the only one that goes on while the host is off: a clock that is set back makes an
order last longer. The file is replaced atomically; one that cannot be read is set aside, and
nothing is ordered then. An order whose file cannot be written acts all the same, and its answer
says that it will not survive a restart.

Pure but for ``OrderFile``: instants come from outside.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vipd.errors import VipdError
from vipd.model import SECOND_NS, Orders, PinOrder

FILE_NAME = "orders.json"
DAMAGED_SUFFIX = ".damaged"
_FORM = 1


@dataclass(slots=True)
class Term:
    """An order in force: seconds of the wall clock; ``until`` None: until somebody ends it."""

    since: float
    until: float | None = None

    def is_over(self, now: float) -> bool:
        return self.until is not None and now >= self.until


@dataclass(slots=True)
class Hold(Term):
    """``left``: the unit was seen not to be master since, so that being it again ends the hold.

    The note that it became master may be older than the order, and arrive after it.
    """

    left: bool = False


@dataclass(slots=True)
class OrderBook:
    """All orders of this node."""

    maintenance: Term | None = None
    holds: dict[str, Hold] = field(default_factory=dict)
    step_downs: dict[str, int] = field(default_factory=dict)
    pins: dict[str, PinOrder] = field(default_factory=dict)

    def orders(self) -> Orders:
        """What the engine is told."""
        return Orders(
            maintenance=self.maintenance is not None,
            held=tuple(sorted(self.holds)),
            step_downs=tuple(sorted(self.step_downs.items())),
            pins=tuple(self.pins[unit] for unit in sorted(self.pins)),
        )

    def begin_maintenance(self, now: float, for_s: float | None) -> None:
        """Begin it, or give what goes on another end."""
        since = now if self.maintenance is None else self.maintenance.since
        self.maintenance = Term(since, _end(now, for_s))

    def step_down(self, unit: str, now: float, for_s: float | None) -> None:
        """Give mastership of ``unit`` away, and do not take it back."""
        self.step_downs[unit] = self.step_downs.get(unit, 0) + 1
        self.holds[unit] = Hold(now, _end(now, for_s))

    def end_hold(self, unit: str) -> bool:
        """True if there was one."""
        return self.holds.pop(unit, None) is not None

    def pin(self, unit: str, node: str, for_s: float | None) -> None:
        """Put ``unit`` on ``node``; empty: nowhere any more."""
        last = self.pins.get(unit)
        count = 1 if last is None else last.count + 1
        for_ns = 0 if for_s is None else max(1, round(for_s * SECOND_NS))
        self.pins[unit] = PinOrder(unit, node, count, for_ns)

    def see_role(self, unit: str, *, is_master: bool) -> bool:
        """What the engine says that ``unit`` is; True if that ended its hold."""
        hold = self.holds.get(unit)
        if hold is None:
            return False
        if is_master and hold.left:
            return self.end_hold(unit)
        hold.left = hold.left or not is_master
        return False

    def expire(self, now: float) -> tuple[str, ...]:
        """End what is over; the units whose holds ended, and "" for maintenance."""
        ended = [unit for unit, hold in self.holds.items() if hold.is_over(now)]
        for unit in ended:
            self.end_hold(unit)
        if self.maintenance is not None and self.maintenance.is_over(now):
            self.maintenance = None
            ended.insert(0, "")
        return tuple(ended)

    def next_end(self) -> float | None:
        terms = [*self.holds.values(), *([] if self.maintenance is None else [self.maintenance])]
        return min((term.until for term in terms if term.until is not None), default=None)

    def retain(self, units: Collection[str]) -> tuple[str, ...]:
        """Forget units that do not exist any more; those that were held."""
        gone = tuple(unit for unit in self.holds if unit not in units)
        self.holds = {unit: hold for unit, hold in self.holds.items() if unit in units}
        self.step_downs = {unit: count for unit, count in self.step_downs.items() if unit in units}
        self.pins = {unit: order for unit, order in self.pins.items() if unit in units}
        return gone

    # --- text ---------------------------------------------------------------------------------

    def to_json(self) -> str:
        value = {
            "form": _FORM,
            "maintenance": None if self.maintenance is None else _term_to_value(self.maintenance),
            "holds": {unit: _term_to_value(hold) for unit, hold in self.holds.items()},
            "step_downs": self.step_downs,
        }
        return json.dumps(value, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> OrderBook:
        """Raises ValueError for anything but what ``to_json`` writes."""
        value = json.loads(text)
        if not isinstance(value, dict) or value.get("form") != _FORM:
            raise ValueError("no orders of this form")
        maintenance = value.get("maintenance")
        counts = _mapping(value, "step_downs")
        if not all(type(count) is int for count in counts.values()):
            raise ValueError("step_downs holds what is no number")
        return cls(
            maintenance=None if maintenance is None else Term(*_term_of(maintenance)),
            # Whoever reads this has just started, and is master of nothing yet.
            holds={
                unit: Hold(*_term_of(term), left=True)
                for unit, term in _mapping(value, "holds").items()
            },
            step_downs=dict(counts),
        )


def _end(now: float, for_s: float | None) -> float | None:
    return None if for_s is None else now + for_s


def _term_to_value(term: Term) -> dict[str, float | None]:
    return {"since": term.since, "until": term.until}


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    if not isinstance(found, dict):
        raise ValueError(f"{key} is no object")
    return found


def _term_of(value: object) -> tuple[float, float | None]:
    if not isinstance(value, dict):
        raise ValueError("a term is no object")
    until = value.get("until")
    return _instant_of(value.get("since")), None if until is None else _instant_of(until)


def _instant_of(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ValueError(f"{value!r} is no instant")


class OrdersNotKept(VipdError):
    """The file could not be read or written; what is ordered acts all the same."""


class OrderFile:
    """``state_dir/orders.json``. Reads and writes wait for the disk: not for the event loop."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME

    def load(self) -> tuple[OrderBook, str]:
        """The orders, and in words what was wrong with the file, empty if nothing was."""
        try:
            return OrderBook.from_json(self.path.read_text(encoding="utf-8")), ""
        except FileNotFoundError:
            return OrderBook(), ""
        except OSError as error:
            return OrderBook(), f"{self.path} cannot be read: {error.strerror}; nothing is ordered"
        except ValueError as error:
            aside = self.path.with_name(FILE_NAME + DAMAGED_SUFFIX)
            with contextlib.suppress(OSError):
                self.path.replace(aside)
            return OrderBook(), f"{self.path} is damaged ({error}); set aside as {aside.name}"

    def save(self, text: str) -> None:
        """Replace the file, so that a crash leaves the old one or the new one.

        Raises OrdersNotKept.
        """
        draft = self.path.with_name(FILE_NAME + ".new")
        try:
            with draft.open("w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(self.path)
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise OrdersNotKept(f"{self.path}: {error.strerror}") from error
