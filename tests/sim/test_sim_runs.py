"""The simulator itself: same seed, same run; promises kept over a batch; failures that replay."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter

import pytest

from vipd.model import SECOND_NS
from vipd.sim.__main__ import KEPT, UNTRIED, VIOLATED, main
from vipd.sim.coverage import MINIMA_PER_100_RUNS, report, too_little
from vipd.sim.run import run

SEEDS = range(9000, 9200)


def digest(seed: int) -> str:
    return hashlib.sha256("\n".join(run(seed, tracing=True).trace).encode()).hexdigest()


@pytest.mark.parametrize("seed", [3, 8, 145, 1493])
def test_same_seed_same_trace(seed: int) -> None:
    assert digest(seed) == digest(seed)


def test_other_seed_other_trace() -> None:
    assert digest(3) != digest(4)


def test_the_order_of_sets_never_shows() -> None:
    """String hashes differ between processes; nothing that happens may depend on them."""
    program = "from tests.sim.test_sim_runs import digest\nprint(*map(digest, (3, 8, 21, 40)))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": value},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for value in ("0", "1", "77")
    }
    assert len(seen) == 1


def test_tracing_changes_nothing() -> None:
    plain, traced = run(21), run(21, tracing=True)
    assert plain.coverage == traced.coverage
    assert plain.simulated_ns == traced.simulated_ns
    assert not plain.trace
    assert traced.trace


@pytest.mark.timeout(400)
def test_every_promise_is_kept_and_enough_is_tried() -> None:
    coverage: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
    runs: Counter[bool] = Counter()
    for seed in SEEDS:
        result = run(seed)
        assert result.violation is None, f"seed {seed}: {result.violation}"
        cluster = result.options.cluster is not None
        coverage[cluster] += result.coverage
        runs[cluster] += 1
    assert min(runs.values()) > len(SEEDS) // 3
    for cluster, tried in coverage.items():
        assert too_little(tried, runs[cluster], cluster=cluster) == []


@pytest.mark.parametrize("nodes", [2, 3])
def test_the_number_of_nodes_can_be_fixed(nodes: int) -> None:
    result = run(5, nodes, cluster=False)
    assert len(result.options.hosts) == nodes
    assert result.violation is None
    assert result.simulated_ns > 25 * SECOND_NS


def test_options_are_printed_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "12", "--mode", "plain"]) == KEPT
    printed = capsys.readouterr().out
    for word in ("seed 12", "priorities=", "vips=", "fault_kinds", "clock_drift_ppb", "delay_ns"):
        assert word in printed


def test_a_violation_is_named_and_replays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vipd.core.timing.skew_ns", lambda *_: 0)
    assert main(["--seed", "1", "--mode", "plain", "--quiet"]) == VIOLATED
    first = capsys.readouterr().out
    assert "VIOLATED seed 1: early-takeover: " in first
    assert "replay: python -m vipd.sim --seed 1 --mode plain --trace" in first
    assert "CHECKER  early-takeover" in first
    assert main(["--seed", "1", "--mode", "plain", "--quiet"]) == VIOLATED
    assert capsys.readouterr().out == first


def test_runs_that_try_too_little_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vipd.sim.__main__.MINIMUM_RUNS", 1)
    monkeypatch.setitem(MINIMA_PER_100_RUNS, "takeovers", 10**6)
    assert main(["--seed", "1", "--mode", "plain", "--quiet"]) == UNTRIED
    assert "tried too little: takeovers" in capsys.readouterr().out


def test_coverage_names_what_is_missing() -> None:
    full = Counter(MINIMA_PER_100_RUNS)
    assert too_little(full, 100) == []
    full["goodbyes"] = 0
    assert too_little(full, 100) == ["goodbyes: 0 of at least 50"]
    assert "goodbyes" in report(full)
