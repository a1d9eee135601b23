"""The operating guide knows every word that an operator can meet."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path

import pytest

from vipd.cli.app import COMMANDS
from vipd.core.counters import COUNTED
from vipd.members import ChannelDiscard
from vipd.model import DiscardReason, NoteKind, Reason, Remark, State
from vipd.supervisor.alarms import CURES

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
CLUSTER_GUIDE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
IN_CODE = set(re.findall(r"`([^`\n]+)`", GUIDE))


@pytest.mark.parametrize("kind", [Reason, DiscardReason, ChannelDiscard, Remark, NoteKind, State])
def test_every_word_is_in_the_guide(kind: type[Enum]) -> None:
    assert {word.value for word in kind} - IN_CODE == set()


def test_every_alarm_is_in_a_guide() -> None:
    assert set(CURES) - IN_CODE - set(re.findall(r"`([^`\n]+)`", CLUSTER_GUIDE)) == set()


def test_every_counter_is_in_the_guide() -> None:
    assert set(COUNTED) - IN_CODE == set()


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [command for command in COMMANDS if f"vipd {command}" not in readme]
    assert missing == []


@pytest.mark.parametrize(
    "name",
    sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    ),
)
def test_links_between_documents_lead_somewhere(name: str) -> None:
    path = ROOT / name
    targets = re.findall(r"\]\(([^)#:]+)[^):]*\)", path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []
