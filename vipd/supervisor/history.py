"""What happened lately, for ``explain``: the newest notes with their wall-clock time."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from vipd.model import Note
from vipd.supervisor import entries

MOST_KEPT = 1000


class History:
    def __init__(self) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=MOST_KEPT)
        self.dropped = 0

    def add(self, note: Note) -> None:
        self._entries.append({"time": time.time(), **entries.note(note)._asdict()})

    def of(self, instance: str, most: int) -> list[dict[str, Any]]:
        """The newest ``most`` entries of ``instance`` and of the node itself, oldest first."""
        found = [entry for entry in self._entries if entry["subject"] in (instance, "")]
        return found[-most:]
