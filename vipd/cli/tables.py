"""What ``vipd status`` draws on a terminal: the cells of ``status`` and ``cluster`` in tables.

Imports rich, which takes a tenth of a second: only who draws imports this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vipd.cli import cluster, status

_STYLES = {
    "MASTER": "bold green",
    "BACKUP": "cyan",
    "CANDIDATE": "yellow",
    "INIT": "yellow",
    "FAULT": "bold red",
    "healthy": "green",
    "unknown": "yellow",
    "failed": "bold red",
    "timed-out": "bold red",
    cluster.LOST: "bold red",
    cluster.LEFT: "yellow",
    "-": "yellow",
}

FULL_WIDTH = 110
"""On narrower terminals SINCE is left out, which FOR says too, and the longest words are folded."""

_HEARD_COLUMN, _PATHS_COLUMN, _REMARKS_COLUMN = 1, 2, 5


def screen(
    shown: dict[str, Any], now: float, width: int, most_rows: int | None = None
) -> RenderableType:
    """Everything; with ``most_rows`` long lists are told in brief."""
    parts: list[RenderableType] = [Text(status.node_line(shown), style="dim")]
    parts += [Text(line, style="bold yellow") for line in status.above(shown, now)]
    parts += tables(shown, now, width, most_rows)
    parts += [Text(line, style="bold red") for line in status.below(shown)]
    return Group(*parts)


def tables(
    shown: dict[str, Any], now: float, width: int, most_rows: int | None = None
) -> list[RenderableType]:
    """The cluster where there is one, then instances and checks of this node."""
    parts: list[RenderableType] = []
    if shown.get("cluster"):
        parts += [_nodes(shown), Text(), _units(shown, most_rows)]
        parts += [Text(line, style="bold yellow") for line in cluster.unit_lines(shown, now)]
        parts += [Text(), Text(status.here(shown), style="bold")]
    parts += _instances(shown, now, width, most_rows)
    if shown.get("checks"):
        parts += [Text(), *_checks(shown, now, most_rows)]
    return parts


def _nodes(shown: dict[str, Any]) -> RenderableType:
    rows = [_cells(row) for row in cluster.node_rows(shown)]
    for row in rows:
        heard, paths = row[_HEARD_COLUMN], row[_PATHS_COLUMN]
        heard.stylize(_STYLES.get(heard.plain.partition(" ")[0], ""))
        alive, _, all_of_them = paths.plain.partition("/")
        paths.stylize("" if alive == all_of_them else "yellow")
        row[_REMARKS_COLUMN].stylize("yellow")
    heading = Text(cluster.headline(shown), style="bold")
    return Group(heading, _table(cluster.NODE_HEADINGS, rows, flexible=("MASTER OF", "REMARKS")))


def _units(shown: dict[str, Any], most_rows: int | None) -> RenderableType:
    rows = []
    for block in cluster.blocks(shown, most_rows):
        for number, row in enumerate(block.rows):
            cells = _cells(row if number == 0 else ("", *row[1:]))
            cells[cluster.STATE_COLUMN].stylize(_style_of_state(row.state))
            rows.append(cells)
    return _table(cluster.UNIT_HEADINGS, rows, flexible=("UNIT", "WHY"))


def _style_of_state(state: str) -> str:
    """``MASTER/BACKUP`` of several units in one row has no colour."""
    return _STYLES.get(state, "")


def _instances(
    shown: dict[str, Any], now: float, width: int, most_rows: int | None
) -> list[RenderableType]:
    rows, summary = status.instance_rows(shown, now, most_rows)
    left_out = {status.SINCE_COLUMN} if width < FULL_WIDTH else set()
    table = _table(
        [heading for at, heading in enumerate(status.HEADINGS) if at not in left_out],
        [
            [cell for at, cell in enumerate(_instance_cells(row)) if at not in left_out]
            for row in rows
        ],
        flexible=(status.HEADINGS[status.REASON_COLUMN], status.HEADINGS[status.NEXT_COLUMN]),
        style="dim" if status.staleness(shown) is not None else "",
    )
    parts: list[RenderableType] = [table] if rows or not summary else []
    return parts + ([Text(summary)] if summary else [])


def _instance_cells(row: tuple[str, ...]) -> list[Text]:
    """VIPs that are not where the state says they should be are marked."""
    cells = _cells(row)
    cells[status.STATE_COLUMN].stylize(_STYLES.get(row[status.STATE_COLUMN], ""))
    if not status.has_vips_in_place(row):
        cells[status.VIPS_COLUMN].stylize("yellow")
    return cells


def _checks(shown: dict[str, Any], now: float, most_rows: int | None) -> list[RenderableType]:
    rows, summary = status.check_rows(shown, now, most_rows)
    cells = [_cells(row) for row in rows]
    for row in cells:
        row[status.VERDICT_COLUMN].stylize(_STYLES.get(row[status.VERDICT_COLUMN].plain, ""))
    table = _table(status.CHECK_HEADINGS, cells, flexible=(status.CHECK_HEADINGS[-1],))
    parts: list[RenderableType] = [table] if rows else []
    return parts + ([Text(summary)] if summary else [])


def _cells(row: Iterable[str]) -> list[Text]:
    return [Text(cell) for cell in row]


def _table(
    headings: Sequence[str],
    rows: Iterable[Sequence[Text]],
    flexible: Sequence[str],
    style: str = "",
) -> Table:
    """Columns in ``flexible`` are folded where the terminal is too narrow, the others are not."""
    table = Table(box=None, pad_edge=False, header_style="bold", style=style)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading not in flexible)
    for row in rows:
        table.add_row(*row)
    return table
