"""What a person sees of a demo or a benchmark: colours on a terminal, plain lines elsewhere.

On a terminal a last line stays at the bottom and shows what is going on right now; a pipe gets
only the lines that stay.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

_PLAIN_GAP = "  "


class Screen:
    """``with Screen() as screen:``; ``line`` stays, ``now`` is replaced by the next ``now``."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, transient=True, refresh_per_second=10)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def line(self, text: str | Text = "") -> None:
        """A line that stays."""
        if self._live is None:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        else:
            self._console.print(text)

    def now(self, text: Text) -> None:
        """What happens right now; only a terminal shows it."""
        if self._live is not None:
            self._live.update(text)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """``heads`` may have two lines; a pipe gets them as one."""
        if self._live is None:
            self.line(plain_table(heads, rows))
            return
        table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        for head in heads:
            table.add_column(head)
        for row in rows:
            table.add_row(*(Text(cell, style=_style(cell)) for cell in row))
        self._console.print(table, soft_wrap=False)


def _style(cell: str) -> str:
    return {"yes": "green", "NO": "bold red", "MISSED": "bold red"}.get(cell, "")


def plain_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under their heads, for a pipe and for files."""
    heads = [head.replace("\n", " ") for head in heads]
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    ruler = ["-" * width for width in widths]
    return "\n".join(
        _PLAIN_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (heads, ruler, *rows)
    )
