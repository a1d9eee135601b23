"""The demo as its user runs it: as root and as nobody in particular, and what it leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from vipd.lab.report import CAPTURE, PROBES, STEPS, judge, read_run

pytestmark = pytest.mark.netns

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 100.0
NOBODY = 65534
# env: what setpriv itself starts still profits from root's capabilities
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env"]
EVENTS = (
    "(a) stop",
    "(b) kill -9",
    "(c) cut off",
    "(d) the proxy dies",
    "(e) kill -9 the engine",
    "(f) vipd switchover",
)


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A copy of the code that everybody can read: a checkout may lie in somebody's home."""
    with tempfile.TemporaryDirectory(prefix="vipd-test-") as name:
        directory = Path(name)
        directory.chmod(0o777)
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "vipd", directory / "vipd", ignore=skip)
        yield directory


def _processes_of(checkout: Path) -> list[str]:
    """Everything that the demo started has inherited its environment, daemons included."""
    mark = f"PYTHONPATH={checkout}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().decode())
            except OSError:
                continue
    return found


def _demo(
    checkout: Path, python: Sequence[str], libraries: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{checkout}:{libraries}",
        "TMPDIR": str(checkout / "tmp"),
    }
    return subprocess.run(
        [*python, "-m", "vipd.lab.demo", "--out", str(checkout / "out")],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * LIMIT_S,
        check=False,
    )


def _check_run(
    checkout: Path, python: Sequence[str] = (sys.executable,), libraries: str = ""
) -> None:
    out, temporary = checkout / "out", checkout / "tmp"
    for directory in (out, temporary):
        directory.mkdir()
        directory.chmod(0o777)
    began = time.monotonic()
    done = _demo(checkout, python, libraries)
    took_s = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    assert took_s < LIMIT_S
    assert _processes_of(checkout) == []
    assert list(temporary.iterdir()) == []
    for event in EVENTS:
        assert event in done.stdout
    assert (out / "table.txt").read_text() in done.stdout
    assert "PIN: web: put on lb2" in done.stdout


@pytest.mark.timeout(240)
def test_the_demo_shows_every_event_and_leaves_nothing(checkout: Path) -> None:
    _check_run(checkout)
    out = checkout / "out"
    assert not [row for row in judge(out) if row.faults]
    table = (out / "table.txt").read_text()
    again = subprocess.run(
        [sys.executable, "-m", "vipd.lab.demo", "--from", str(out)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert again.stdout.strip() == table.strip()
    _check_that_the_table_follows_the_files(out)


def _check_that_the_table_follows_the_files(out: Path) -> None:
    """Without lb2's answers the takeover of web has no holder; without its adverts neither."""
    run = read_run(out / STEPS)
    probes = (out / PROBES).read_text().splitlines(keepends=True)
    vip = run.watched[0].vip
    kept = [line for line in probes if not (line.startswith(f"R {vip}") and "lb2" in line)]
    (out / PROBES).write_text("".join(kept))
    stopped = judge(out)[0]
    assert stopped.cells[0].holder == "nobody"
    assert len(stopped.faults) >= 1
    (out / PROBES).write_text("".join(probes))
    (out / CAPTURE).write_bytes((out / CAPTURE).read_bytes()[:1000])
    assert any("adverts of nobody" in fault for fault in judge(out)[0].faults)


def _python_for_anybody() -> tuple[str, str]:
    """An interpreter that an ordinary user can run, and where it finds our libraries.

    The one that runs this test may live in root's home.
    """
    libraries = str(Path(yaml.__file__).parents[1])
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    program = (
        f"import sys, pyroute2, pydantic, yaml; sys.exit(sys.version[:{len(ours)}] != '{ours}')"
    )
    for candidate in (sys.executable, shutil.which("python3", path="/usr/bin") or sys.executable):
        done = subprocess.run(
            [*AS_NOBODY, candidate, "-c", program],
            env={"PYTHONPATH": libraries},
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            return candidate, libraries
    pytest.fail(f"no Python {ours} that user {NOBODY} can run and that can read {libraries}")


@pytest.mark.realroot
@pytest.mark.timeout(240)
def test_without_root_it_runs_in_a_user_namespace(checkout: Path) -> None:
    python, libraries = _python_for_anybody()
    _check_run(checkout, [*AS_NOBODY, python], libraries)
    assert (checkout / "out" / STEPS).stat().st_uid == NOBODY
