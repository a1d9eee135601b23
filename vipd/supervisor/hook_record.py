"""What hooks must know about earlier lives of vipd: the number of this life, and what still ran.

*Sequence numbers* grow over restarts without being written at each change: a number is
``life * 1 000 000 + n``. A life is numbered by the wall clock in seconds, or one more than the last
life where that is not larger. So it grows even where nothing can be written, as long as the clock
does not go back.

*Runs*: from before a hook's first instruction until its end is reported, a file in
``runtime_dir/hooks`` names it and its session. A life that finds such a file knows that its
predecessor was killed meanwhile. Neither file is worth failing
for: a full disk costs the cleaning up after the next kill -9, not the hook.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from vipd.adapters.session import Session

PER_LIFE = 1_000_000
_LIFE = "hooks-life"
_RUNS = "hooks"


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


class Records:
    """The runs that go on: one file for each unit, for it runs one hook at a time."""

    def __init__(self, runtime_dir: Path) -> None:
        self._directory = runtime_dir / _RUNS

    def add(self, run: Run, session: Session) -> None:
        with contextlib.suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        record = {"run": asdict(run), "session": asdict(session)}
        _write(self._path(run.unit), json.dumps(record))

    def remove(self, unit: str) -> None:
        _remove(self._path(unit))

    def _path(self, unit: str) -> Path:
        return self._directory / f"{quote(unit, safe='')}.json"

    def found(self) -> list[tuple[Run, Session]]:
        """What an earlier life left; what cannot be read is removed."""
        paths: list[Path] = []
        with contextlib.suppress(OSError):
            paths = sorted(self._directory.glob("*.json"))
        left = []
        for path in paths:
            try:
                data = json.loads(path.read_text())
                run = Run(**data["run"] | {"command": tuple(data["run"]["command"])})
                left.append((run, Session(**data["session"])))
            except (OSError, ValueError, KeyError, TypeError):
                _remove(path)
        return left


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = path.with_suffix(".new")
    with contextlib.suppress(OSError):
        temporary.write_text(text)
        os.replace(temporary, path)
