"""House rules that a reader would otherwise have to check by hand."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vipd.core import actions, events
from vipd.core.node import HANDLERS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "vipd"
MODULES = sorted(PACKAGE.rglob("*.py"))
CORE = sorted((PACKAGE / "core").glob("*.py"))

MAX_MODULE_LINES = 600
MAX_FUNCTION_LINES = 60

CORE_MAY_IMPORT = {
    "__future__",
    "collections",
    "collections.abc",
    "dataclasses",
    "enum",
    "hashlib",
    "itertools",
    "typing",
}
"""The core has no clock, socket, randomness or logger: nothing that could give it one."""

ENGINE = PACKAGE / "engine" / "dispatch.py"
SIMULATOR = PACKAGE / "sim" / "engine.py"


MAY_CATCH_ALL = {"vipd/sim/__main__.py", "vipd/supervisor/checks/runner.py"}
"""The simulator's command line: a crash must name the seed that replays it. One run of a check:
what fails there is the check's verdict, and a check is the very thing that must not end us."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_every_event_has_a_row_in_the_node() -> None:
    assert set(HANDLERS) == set(events.Event.__args__)


@pytest.mark.parametrize("arms", [ENGINE, SIMULATOR], ids=name_of)
def test_every_action_has_an_arm(arms: Path) -> None:
    used = {node.id for node in ast.walk(tree_of(arms)) if isinstance(node, ast.Name)}
    wanted = {action.__name__ for action in actions.Action.__args__}
    assert wanted - used == set()


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_imports_from_a_short_list(path: Path) -> None:
    foreign = {name for name in imports_of(path) if not name.startswith("vipd.")}
    assert foreign <= CORE_MAY_IMPORT
    ours = {name for name in imports_of(path) if name.startswith("vipd.")}
    allowed = ("vipd.core", "vipd.model", "vipd.snapshots", "vipd.members", "vipd.errors")
    assert all(name.startswith(allowed) for name in ours)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_and_functions_stay_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_MODULE_LINES, f"{lines} lines"
    long = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: n for name, n in long.items() if n > MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_blanket_except(path: Path) -> None:
    """An unknown error must end the process, so that the VIPs are released."""
    if name_of(path) in MAY_CATCH_ALL:
        return
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.ExceptHandler) or isinstance(node.body[-1], ast.Raise):
            continue
        caught = ast.unparse(node.type) if node.type is not None else "everything"
        assert caught not in ("everything", "Exception", "BaseException"), f"line {node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_assert_in_the_product(path: Path) -> None:
    """``python -O`` removes them; what must hold is an ``InvariantViolated``."""
    assert not [node.lineno for node in ast.walk(tree_of(path)) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_left_to_do(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    words = ("FIX" + "ME", "TO" + "DO", "XX" + "X")
    assert [word for word in words if word in text] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    tree = tree_of(path)
    assert not tree.body or ast.get_docstring(tree), "no docstring"


def test_the_standard_library_names_are_what_this_python_has() -> None:
    assert {name.partition(".")[0] for name in CORE_MAY_IMPORT} <= sys.stdlib_module_names
