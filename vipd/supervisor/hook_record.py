"""What hooks must know about earlier lives of vipd: the number of this life, and what still ran.

*Sequence numbers* grow over restarts without being written at each change: a number is
``life * 1 000 000 + n``. A life is numbered by the wall clock in seconds, or one more than the last
life where that is not larger. So it grows even where nothing can be written, as long as the clock
does not go back.

*Debts*: from the instant at which a hook is due until what became of it is kept by the journal, a
file in ``runtime_dir/hooks`` names it; and from before its first instruction, its session. A life
that finds such a file knows that its predecessor was killed meanwhile, what to end, and what to
report as lost. Neither file is worth failing for: a full disk costs the cleaning up after the next
kill -9, not the hook.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vipd.adapters.session import Session

PER_LIFE = 1_000_000
_LIFE = "hooks-life"
_RUNS = "hooks"
_LEFT = ".left"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one hook."""

    unit: str
    name: str
    occasion: str
    state: str
    sequence: int
    command: tuple[str, ...]


def begin_life(state_dir: Path) -> int:
    """The first sequence number of this life."""
    path = state_dir / _LIFE
    last = 0
    with contextlib.suppress(OSError, ValueError):
        last = int(path.read_text())
    life = max(last + 1, int(time.time()))
    _write(path, str(life))
    return life * PER_LIFE


@dataclass(frozen=True, slots=True)
class Debt:
    """What an earlier life owes a report of; ``session``: where the first of ``runs`` ran."""

    runs: tuple[Run, ...]
    session: Session | None


class Records:
    """One file for each unit."""

    def __init__(self, runtime_dir: Path) -> None:
        self._directory = runtime_dir / _RUNS

    def write(self, unit: str, debt: Debt) -> None:
        """Replace what is on record of ``unit``; nothing stays of a unit that owes nothing."""
        path = self._path(unit)
        if not debt.runs:
            _remove(path)
            return
        with contextlib.suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        session = None if debt.session is None else asdict(debt.session)
        _write(path, json.dumps({"runs": [asdict(run) for run in debt.runs], "session": session}))

    def _path(self, unit: str) -> Path:
        return self._directory / f"{quote(unit, safe='')}.json"

    def take(self) -> list[Debt]:
        """What earlier lives left. It is set aside, where this life does not write."""
        with contextlib.suppress(OSError):
            for path in self._directory.glob("*.json"):
                path.rename(path.with_suffix(f".{time.time_ns()}{_LEFT}"))
        left = []
        for path in self._left():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                left.append(_debt_of(json.loads(path.read_text())))
        return left

    def forget(self) -> None:
        """What was taken is reported, all of it."""
        for path in self._left():
            _remove(path)

    def _left(self) -> list[Path]:
        with contextlib.suppress(OSError):
            return sorted(self._directory.glob(f"*{_LEFT}"))
        return []


def _debt_of(value: dict[str, Any]) -> Debt:
    runs = tuple(Run(**run | {"command": tuple(run["command"])}) for run in value["runs"])
    return Debt(runs, None if value["session"] is None else Session(**value["session"]))


class Ledger:
    """What one unit owes a report of. ``kept`` returns when all that was reported is on disk."""

    def __init__(self, unit: str, records: Records, kept: Callable[[], Awaitable[None]]) -> None:
        self._unit = unit
        self._records = records
        self._kept = kept
        self._due: tuple[Run, ...] = ()
        self._session: Session | None = None
        self._reported: list[Run] = []
        self._written = Debt((), None)
        self._keeping: asyncio.Task[None] | None = None

    def owe(self, due: Sequence[Run], session: Session | None) -> None:
        """All that is due now; the first one runs in ``session``."""
        self._due, self._session = tuple(due), session
        self._write()

    def report(self, run: Run) -> None:
        """It was told to the journal, which may take a moment to keep it."""
        self._reported.append(run)
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Nothing is due any more."""
        self._due = ()
        if self._keeping is not None:
            await self._keeping
        self._write()

    async def _keep(self) -> None:
        while self._reported:
            told = len(self._reported)
            await self._kept()
            del self._reported[:told]
            self._write()

    def _write(self) -> None:
        behind = tuple(run for run in self._reported if run not in self._due)
        debt = Debt(self._due + behind, self._session if self._due else None)
        if debt != self._written:
            self._written = debt
            self._records.write(self._unit, debt)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = path.with_suffix(".new")
    with contextlib.suppress(OSError):
        temporary.write_text(text)
        os.replace(temporary, path)
