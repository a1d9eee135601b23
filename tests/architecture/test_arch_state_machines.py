"""docs/state-machines.md shows the tables that run."""

from __future__ import annotations

from tests.architecture.draw import PAGE, draw


def test_the_page_is_what_the_tables_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == draw(), "run scripts/draw-tables"
