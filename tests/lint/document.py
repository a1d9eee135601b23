"""The part of docs/lint.md that the lint itself writes; ``python -m tests.lint.document`` does."""

from __future__ import annotations

from pathlib import Path

from tests.lint.rig import EXAMPLE
from vipd.lint.render import lines_of
from vipd.lint.report import examine_files

PAGE = Path(__file__).parents[2] / "docs" / "lint.md"
ROOT = Path(__file__).parents[2]
FILE_BEGIN, FILE_END = "<!-- the example begins -->", "<!-- the example ends -->"
BEGIN, END = "<!-- the answer begins -->", "<!-- the answer ends -->"


def written(page: str) -> str:
    """The page with the example and today's answer to it."""
    example = EXAMPLE.read_text(encoding="utf-8")
    page = _between(page, FILE_BEGIN, FILE_END, f"```yaml\n{example}```")
    answer = "\n".join(lines_of(examine_files([EXAMPLE])))
    answer = answer.replace(str(EXAMPLE), str(EXAMPLE.relative_to(ROOT)))
    return _between(page, BEGIN, END, f"```text\n{answer}\n```")


def _between(page: str, begin: str, end: str, text: str) -> str:
    head, _, rest = page.partition(begin)
    _, found, tail = rest.partition(end)
    if not found:
        raise ValueError(f"{PAGE} has no {begin} ... {end}")
    return f"{head}{begin}\n\n{text}\n\n{end}{tail}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
