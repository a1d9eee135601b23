"""Entries of the journal, and questions to it: values that know no file.

``parse_query`` is the one reader of the parameters of ``GET /events``:

========  =====================================================================================
after     the id of the last entry that the asker has seen: the first ``limit`` entries behind it
since     Unix time: entries from then on
limit     at most so many; without ``after`` the newest
subject   names with commas between them: entries about these only
wait      seconds to wait for an entry if there is none yet
========  =====================================================================================
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_ANSWERED = 1000
"""Entries in one answer: more would keep the daemon's loop busy with JSON for long."""

LONGEST_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. ``fields`` is a JSON object, ``time`` the wall clock's."""

    id: int
    time: float
    boottime_ns: int
    kind: str
    subject: str
    cause: str
    fields: str

    def as_values(self) -> dict[str, Any]:
        """As ``GET /events`` and ``vipd events --json`` show it."""
        return {
            "id": self.id,
            "time": self.time,
            "boottime_ns": self.boottime_ns,
            "kind": self.kind,
            "subject": self.subject,
            "cause": self.cause,
            "fields": json.loads(self.fields),
        }


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries. With ``after`` the first ``limit`` behind that id, else the newest ones;
    in both cases the oldest comes first. No ``subjects``: of all.
    """

    limit: int
    after: int | None = None
    since: float | None = None
    subjects: tuple[str, ...] = ()

    def admits(self, entry: Entry) -> bool:
        return (
            (self.after is None or entry.id > self.after)
            and (self.since is None or entry.time >= self.since)
            and (not self.subjects or entry.subject in self.subjects)
        )

    def cut(self, entries: Sequence[Entry]) -> list[Entry]:
        """Of ``entries`` in order, as many as are wanted, from the end that is wanted."""
        return list(entries[-self.limit :] if self.after is None else entries[: self.limit])


def parse_query(parameters: Mapping[str, str]) -> tuple[Query, float]:
    """The question, and how many seconds its asker would wait.

    Raises ValueError with a sentence for parameters that are none.
    """
    after = _number(parameters, "after")
    limit = _number(parameters, "limit")
    subjects = tuple(name for name in parameters.get("subject", "").split(",") if name)
    query = Query(
        limit=MOST_ANSWERED if limit is None else max(1, min(int(limit), MOST_ANSWERED)),
        after=None if after is None else int(after),
        since=_number(parameters, "since"),
        subjects=subjects,
    )
    return query, min(_number(parameters, "wait") or 0.0, LONGEST_WAIT_S)


def _number(parameters: Mapping[str, str], name: str) -> float | None:
    text = parameters.get(name)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < 2**53:
        raise ValueError(f"{name}={text}: a number from 0 is wanted")
    return number
