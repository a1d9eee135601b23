"""How the commands write times, and lines beneath one another."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

_DAY_S = 86_400


def span(seconds: float) -> str:
    """``0.6s``, ``42s``, ``4m12s``, ``3h05m``, ``12d4h``: two figures are enough."""
    seconds = max(seconds, 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < _DAY_S:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // _DAY_S}d{whole % _DAY_S // 3600}h"


def moment(wall: float, now: float) -> str:
    """Local time of day; with the date once it is a day ago."""
    form = "%H:%M:%S" if abs(now - wall) < _DAY_S else "%Y-%m-%d %H:%M:%S"
    return time.strftime(form, time.localtime(wall))


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns as wide as they need to be, two blanks apart, nothing cut off."""
    table = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
