"""How the three machines hold their transitions: as data, with silence made explicit.

A table maps (state, input type) to a handler. Every pair is there: one that does nothing is an
``Ignored`` with its reason. ``complete`` is checked at import, so a machine with a hole cannot
even be loaded; tests and the diagrams in docs/ read the same tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from vipd.errors import InvariantViolated


@dataclass(frozen=True, slots=True)
class Ignored:
    """This input does nothing in this state, on purpose; ``why`` says why that is right."""

    why: str


Handler: TypeAlias = Callable[[Any, Any, int], None]
Row: TypeAlias = Handler | Ignored
Table: TypeAlias = Mapping[tuple[Enum, type], Row]


def complete(table: Table, states: type[Enum], inputs: tuple[type, ...]) -> Table:
    """Return ``table`` if it has exactly one row for each state and input."""
    wanted = {(state, kind) for state in states for kind in inputs}
    if holes := wanted - set(table):
        raise InvariantViolated(f"no row for {sorted(str(hole) for hole in holes)}")
    if strays := set(table) - wanted:
        raise InvariantViolated(f"row for an unknown input: {sorted(map(str, strays))}")
    return table
