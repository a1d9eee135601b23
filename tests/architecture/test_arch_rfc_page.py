"""docs/rfc.md names tests that exist, and all of the required rows."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "rfc.md").read_text(encoding="utf-8")


def known_tests() -> set[str]:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    return set(re.findall(r"def test_(\w+)", text))


def test_every_test_named_on_the_page_exists() -> None:
    named = {name for name in re.findall(r"`([a-z0-9_]+)`", PAGE) if name.count("_") >= 2}
    handlers = {name for name in named if name.startswith("_")}
    assert named - handlers - known_tests() - {"preempt_delay", "auth_hmac"} == set()


def test_every_row_of_the_state_machine_is_there() -> None:
    rows = [*(f"F{n}" for n in range(1, 18)), *(f"FSM-{n}" for n in range(1, 9))]
    rows += [*(f"D{n}" for n in range(1, 16)), *(f"TMR-{n}" for n in range(1, 5))]
    missing = [row for row in rows if not re.search(rf"^\| {row}\b", PAGE, re.MULTILINE)]
    assert missing == []
