"""Every note has a level; a handover that went wrong is a warning."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs

from vipd.model import Note, NoteKind
from vipd.supervisor.log import render


@pytest.fixture(autouse=True)
def every_level() -> Iterator[None]:
    """Whatever another test configured."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("kind", NoteKind)
def test_every_note_is_one_line(kind: NoteKind) -> None:
    with capture_logs() as lines:
        render(Note(kind, "web", {"reason": "startup", "held_back": 0, "detail": ""}))
    assert [(line["event"], line["instance"]) for line in lines] == [(kind.value, "web")]
    assert "held_back" not in lines[0]
    assert "detail" not in lines[0]


@pytest.mark.parametrize(
    ("step", "level"),
    [("offered", "info"), ("taken", "info"), ("refused", "warning"), ("failed", "warning")],
)
def test_a_handover_that_goes_wrong_is_a_warning(step: str, level: str) -> None:
    with capture_logs() as lines:
        render(Note(NoteKind.HANDOVER, "web", {"step": step, "node": "lb2", "term": 7}))
    assert [line["log_level"] for line in lines] == [level]
