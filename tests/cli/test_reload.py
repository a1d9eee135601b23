"""``vipd reload``: the plan, or the faults."""

from __future__ import annotations

from tests.cli.conftest import FakeDaemon, vipd
from vipd.errors import AdapterError
from vipd.supervisor.loader import ConfigurationRefused


def test_the_plan_is_printed(daemon: FakeDaemon) -> None:
    daemon.plan = ("web: priority 100 -> 150", "api: kept, unchanged")
    result = vipd("reload", "--config", daemon.config)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "web: priority 100 -> 150\napi: kept, unchanged\n"


def test_faults_of_the_file_are_exit_2(daemon: FakeDaemon) -> None:
    faults = ("vipd.yaml:3: instances: x; y", "vipd.yaml:9: fence: x; y")
    daemon.refusal = ConfigurationRefused(faults)
    result = vipd("reload", "--config", daemon.config)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines() == list(faults)


def test_what_is_not_the_files_fault_is_exit_1(daemon: FakeDaemon) -> None:
    daemon.refusal = AdapterError("the disk is full")
    result = vipd("reload", "--config", daemon.config)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "vipd: the daemon answers 500: the disk is full\n"
