"""docs/lint.md shows what the lint says today."""

from __future__ import annotations

import re

from tests.lint.document import PAGE, ROOT, written

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_shows_the_answer_of_today() -> None:
    assert written(TEXT) == TEXT, "run: python -m tests.lint.document"


def test_every_finding_is_explained() -> None:
    sources = sorted((ROOT / "vipd" / "lint").glob("*.py"))
    code = "".join(path.read_text(encoding="utf-8") for path in sources)
    names = set(re.findall(r'(?:ERROR|WARNING|severity|Aspect\(),?\s*"([a-z-]+)"', code))
    assert len(names) > 20
    explained = set(re.findall(r"`([a-z-]+)`", TEXT))
    assert names - explained == set()
