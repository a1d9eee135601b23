"""What a process obtains for itself. Tried in children, since it cannot be given back."""

from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vipd.adapters.process import (
    freeze_gc,
    open_pidfd,
    raise_priority,
    signal_pidfd,
)
from vipd.errors import AdapterError

pytestmark = pytest.mark.netns  # needs root, or the like


def in_child(code: str) -> str:
    prelude = "import os; from vipd.adapters.process import *; "
    return subprocess.run(
        [sys.executable, "-c", prelude + code], capture_output=True, text=True, check=True
    ).stdout.strip()


def unprivileged(code: str) -> str:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536)); "
    return in_child(f"{limit} os.setuid(65534); {code}")


@pytest.mark.realroot
def test_auto_is_the_highest_nice_level() -> None:
    code = "print(raise_priority('auto'), os.getpriority(os.PRIO_PROCESS, 0), sep='|')"
    assert in_child(code) == "nice -20|-20"


def test_off_changes_nothing() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert raise_priority("off") == "normal"
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


@pytest.mark.realroot
def test_round_robin_or_the_reason_why_not() -> None:
    """A cgroup without real-time budget refuses it, even to root: both answers must be true."""
    obtained, policy = in_child(
        "print(raise_priority('rr'), os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK, sep='|')"
    ).split("|")
    if int(policy) == os.SCHED_RR:
        assert obtained == "SCHED_RR 50"
    else:
        assert obtained.startswith("nice -20, SCHED_RR refused: ")


@pytest.mark.realroot
def test_who_hurries_is_ahead_of_ordinary_programs_and_its_children_are_not() -> None:
    shows = "print(os.getpriority(os.PRIO_PROCESS, 0), end='|', flush=True)"
    in_grandchild = f"import os; {shows}"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {in_grandchild!r}])"
    assert in_child(f"hurry('auto'); {shows}; {child}") == "-10|0|"
    assert in_child(f"hurry('off'); {shows}; {child}") == "0|0|"


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="realtime"):
        raise_priority("fast")


@pytest.mark.realroot
def test_without_privilege_the_answer_says_what_is_missing() -> None:
    assert "CAP_SYS_NICE" in unprivileged("print(raise_priority('auto'))")
    answer = unprivileged("print(raise_priority('rr'))")
    assert answer.startswith("normal, nice refused")
    assert "SCHED_RR refused" in answer
    assert unprivileged("print(lock_memory())").startswith("not locked: ")


@pytest.mark.realroot
def test_memory_is_locked() -> None:
    code = "print(lock_memory()); print(open('/proc/self/status').read())"
    answer, status = in_child(code).split("\n", 1)
    [locked] = [line.split()[1] for line in status.splitlines() if line.startswith("VmLck:")]
    assert answer == "locked"
    assert int(locked) > 0


def test_rights_that_are_not_kept_are_gone_for_good() -> None:
    code = """
from vipd.adapters.process import keep_capabilities
keep_capabilities((12, 13, 40))
keep_capabilities(range(41))
print(open("/proc/self/status").read())
"""
    before = capabilities(Path("/proc/self/status").read_text())
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = capabilities(told.stdout)
    wanted = 1 << 12 | 1 << 13 | 1 << 40
    assert after == (before[0] & wanted, before[1] & wanted, 0)


def capabilities(status: str) -> tuple[int, int, int]:
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    effective, permitted, inheritable = (int(fields[f"Cap{k}"], 16) for k in ("Eff", "Prm", "Inh"))
    return effective, permitted, inheritable


def test_frozen_objects_are_out_of_sight() -> None:
    freeze_gc()
    try:
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_a_pidfd_signals_and_tells_of_the_death() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    pidfd = open_pidfd(child.pid)
    assert select.select([pidfd], [], [], 0)[0] == []
    assert signal_pidfd(pidfd, signal.SIGKILL)
    assert select.select([pidfd], [], [], 5)[0] == [pidfd]
    child.communicate()
    assert not signal_pidfd(pidfd, signal.SIGKILL), "dead, and never another process"
    os.close(pidfd)
    with pytest.raises(AdapterError, match=str(child.pid)):
        open_pidfd(child.pid)
