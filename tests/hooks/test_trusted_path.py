"""Which paths root may run. Real files, real owners: needs root."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vipd.adapters.trusted_path import untrusted_component

NOBODY = 65534


@pytest.fixture
def tree() -> Iterator[Path]:
    """A program in a directory that root alone can write to, below a sticky one."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "hooks").mkdir(mode=0o755)
        program(root / "hooks" / "run")
        yield root


def program(path: Path, first_line: str = "#!/bin/sh") -> Path:
    path.write_text(f"{first_line}\n")
    path.chmod(0o755)
    return path


def test_root_may_run_what_only_root_can_change(tree: Path) -> None:
    assert untrusted_component("/bin/true") is None
    assert untrusted_component("/usr/bin/../bin/./env") is None
    assert untrusted_component(str(tree / "hooks" / "run")) is None


def test_a_link_that_root_made_is_followed(tree: Path) -> None:
    (tree / "to-hooks").symlink_to("hooks")
    (tree / "hooks" / "link").symlink_to("../to-hooks/run")
    assert untrusted_component(str(tree / "hooks" / "link")) is None


def writable_by_others(tree: Path) -> Path:
    (tree / "hooks").chmod(0o757)
    return tree / "hooks"


def writable_by_group(tree: Path) -> Path:
    (tree / "hooks").chmod(0o775)
    return tree / "hooks"


def program_writable_by_others(tree: Path) -> Path:
    (tree / "hooks" / "run").chmod(0o757)
    return tree / "hooks" / "run"


def program_sticky_and_writable(tree: Path) -> Path:
    """The sticky bit protects the entries of a directory; on a file it means nothing."""
    (tree / "hooks" / "run").chmod(0o757 | stat.S_ISVTX)
    return tree / "hooks" / "run"


def program_of_another(tree: Path) -> Path:
    os.chown(tree / "hooks" / "run", NOBODY, 0)
    return tree / "hooks" / "run"


def program_of_another_in_a_sticky_directory(tree: Path) -> Path:
    (tree / "hooks").chmod(0o1777)
    os.chown(tree / "hooks" / "run", NOBODY, 0)
    return tree / "hooks" / "run"


def directory_of_another(tree: Path) -> Path:
    os.chown(tree, NOBODY, 0)
    return tree


def sticky_directory_of_another(tree: Path) -> Path:
    (tree / "hooks").chmod(0o1777)
    os.chown(tree / "hooks", NOBODY, 0)
    return tree / "hooks"


def not_executable(tree: Path) -> Path:
    (tree / "hooks" / "run").chmod(0o644)
    return tree / "hooks" / "run"


def missing(tree: Path) -> Path:
    (tree / "hooks" / "run").unlink()
    return tree / "hooks" / "run"


def a_directory(tree: Path) -> Path:
    (tree / "hooks" / "run").unlink()
    (tree / "hooks" / "run").mkdir()
    return tree / "hooks" / "run"


def link_of_another(tree: Path) -> Path:
    (tree / "hooks" / "run").rename(tree / "hooks" / "real")
    (tree / "hooks" / "run").symlink_to("real")
    os.chown(tree / "hooks" / "run", NOBODY, 0, follow_symlinks=False)
    return tree / "hooks" / "run"


def link_into_an_open_directory(tree: Path) -> Path:
    (tree / "open").mkdir()
    (tree / "open").chmod(0o757)
    program(tree / "open" / "real")
    (tree / "hooks" / "run").unlink()
    (tree / "hooks" / "run").symlink_to("../open/real")
    return tree / "open"


def link_through_an_open_directory(tree: Path) -> Path:
    """The way back by ".." does not excuse the directory that was walked through."""
    (tree / "open").mkdir()
    (tree / "open").chmod(0o757)
    (tree / "open" / "sub").symlink_to(tree / "hooks")
    (tree / "link").symlink_to("open/sub/real")
    program(tree / "hooks" / "real")
    (tree / "hooks" / "run").unlink()
    (tree / "hooks" / "run").symlink_to(tree / "link")
    return tree / "open"


def link_round_in_circles(tree: Path) -> Path:
    (tree / "hooks" / "run").unlink()
    (tree / "hooks" / "run").symlink_to("run")
    return tree / "hooks" / "run"


def interpreter_of_another(tree: Path) -> Path:
    interpreter = program(tree / "hooks" / "shell")
    os.chown(interpreter, NOBODY, 0)
    program(tree / "hooks" / "run", f"#! {interpreter} -e")
    return interpreter


def interpreter_without_a_path(tree: Path) -> Path:
    program(tree / "hooks" / "run", "#!sh")
    return tree / "hooks" / "run"


@pytest.mark.parametrize(
    "spoil",
    [
        writable_by_others,
        writable_by_group,
        program_writable_by_others,
        program_sticky_and_writable,
        program_of_another,
        program_of_another_in_a_sticky_directory,
        directory_of_another,
        sticky_directory_of_another,
        not_executable,
        missing,
        a_directory,
        link_of_another,
        link_into_an_open_directory,
        link_through_an_open_directory,
        link_round_in_circles,
        interpreter_of_another,
        interpreter_without_a_path,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_the_component_at_fault_is_named(tree: Path, spoil: Callable[[Path], Path]) -> None:
    culprit = spoil(tree)
    fault = untrusted_component(str(tree / "hooks" / "run"))
    assert fault is not None
    assert fault.split(" ")[0].rstrip(":") == str(culprit), fault


def test_a_relative_path_is_refused() -> None:
    fault = untrusted_component("bin/true")
    assert fault is not None
    assert "absolute" in fault
