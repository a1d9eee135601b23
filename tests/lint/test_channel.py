"""Nodes in cluster mode: what their sections say differently, and how much faster they are."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.lint.rig import check, dead, files, found, instance, masters, names, one_file
from vipd.adapters.keyfile import read_keys, write_keys
from vipd.lint import forecast
from vipd.lint.findings import Finding, Severity
from vipd.lint.render import PLAYED_IN_PLAIN_MODE, lines_of
from vipd.lint.report import Report, as_json, examine_files
from vipd.lint.stage import Stage
from vipd.lint.times import WorstCase
from vipd.model import MILLISECOND_NS, SECOND_NS, ClusterConfig, NodeConfig

MS = MILLISECOND_NS
CLUSTER: dict[str, Any] = {
    "name": "edge",
    "key_file": "cluster.key",
    "nodes": {"lb1": "192.0.2.11", "lb2": "192.0.2.12"},
}
WEIGHTY = {"track": [{"check": "nginx", "weight": -60}]}
CHECKS = {"nginx": {"file": "/run/nginx.pid", "interval": "100ms", "timeout": "50ms", "fall": 2}}


def config(priority: object, **cluster: Any) -> dict[str, Any]:
    section = {**copy.deepcopy(CLUSTER), **cluster}
    return {"instances": {"web": instance(priority=priority)}, "cluster": section}


def pair(folder: Path, **cluster: Any) -> Report:
    """``lb2`` whose section differs as said."""
    return files(folder, lb1=config(150), lb2=config(100, **cluster))


def one(folder: Path, *, cluster: object = CLUSTER, **changes: Any) -> Report:
    top = {"instances": {"web": instance(**changes)}, "checks": CHECKS}
    return one_file(folder, top if cluster is None else {**top, "cluster": cluster})


def worst(report: Report) -> dict[str, WorstCase]:
    ((_unit, cases),) = report.worst
    return {case.what: case for case in cases}


# --- findings ------------------------------------------------------------------------------------


def test_equal_sections_are_no_finding(tmp_path: Path) -> None:
    assert names(pair(tmp_path)) == []
    assert names(pair(tmp_path, port=3112, heartbeat_timeout="1s")) == []


@pytest.mark.parametrize(
    ("change", "name", "key", "values"),
    [
        ({"name": "rim"}, "cluster-name-differs", "cluster.name", "rim on lb2, edge on lb1"),
        ({"port": 4000}, "cluster-port-differs", "cluster.port", "4000 on lb2, 3112 on lb1"),
        (
            {"heartbeat_interval": "50ms"},
            "heartbeat-interval-differs",
            "cluster.heartbeat_interval",
            "50ms on lb2, 100ms on lb1",
        ),
        (
            {"heartbeat_timeout": "300ms"},
            "heartbeat-timeout-differs",
            "cluster.heartbeat_timeout",
            "300ms on lb2, 1s on lb1",
        ),
        (
            {"nodes": {"lb1": "192.0.2.11", "lb2": "192.0.2.13"}},
            "cluster-members-differ",
            "cluster.nodes.lb2",
            "lb2: 192.0.2.13 on lb2, 192.0.2.12 on lb1",
        ),
        (
            {"nodes": {**CLUSTER["nodes"], "lb3": "192.0.2.13"}},
            "cluster-members-differ",
            "cluster.nodes.lb3",
            "lb3: 192.0.2.13 on lb2, not there on lb1",
        ),
        (
            {"witnesses": {"wit": "192.0.2.21"}},
            "cluster-members-differ",
            "cluster.witnesses.wit",
            "wit: 192.0.2.21 on lb2, not there on lb1",
        ),
    ],
)
def test_what_differs_is_told_with_both_values(
    tmp_path: Path, change: dict[str, Any], name: str, key: str, values: str
) -> None:
    report = pair(tmp_path, **change)
    finding = found(report, name)
    assert finding.severity is Severity.WARNING
    assert not report.failed
    assert finding.fault.file.endswith("lb2.yaml")
    assert finding.fault.key == key
    assert values in finding.fault.problem
    assert "lb1.yaml:" in finding.fault.cure
    assert names(report) == [name]


def test_a_node_without_the_section(tmp_path: Path) -> None:
    plain = config(100)
    del plain["cluster"]
    report = files(tmp_path, lb1=config(150), lb2=plain)
    finding = found(report, "cluster-missing")
    assert finding.fault.file.endswith("lb2.yaml")
    assert "lb2 is in plain mode, lb1 in cluster mode" in finding.fault.problem
    assert worst(report)["lb1 dies"].longest_ns > 3 * SECOND_NS


def test_the_first_node_may_be_the_one_without(tmp_path: Path) -> None:
    plain = config(150)
    del plain["cluster"]
    report = files(tmp_path, lb1=plain, lb2=config(100))
    assert found(report, "cluster-missing").fault.file.endswith("lb1.yaml")
    assert worst(report)["lb1 dies"].longest_ns > 3 * SECOND_NS


ONE, TWO, THREE = (bytes([number]) * 32 for number in (1, 2, 3))


def with_keys(folder: Path, first: tuple[bytes, ...], second: tuple[bytes, ...]) -> Report:
    files(folder, lb1=config(150, key_file="one.key"), lb2=config(100, key_file="two.key"))
    for name, keys in (("one.key", first), ("two.key", second)):
        if keys:
            write_keys(folder / name, keys, replace=True)
    return examine_files([folder / "lb1.yaml", folder / "lb2.yaml"], read_keys=read_keys)


@pytest.mark.parametrize(
    ("first", "second", "deaf"),
    [
        ((ONE,), (ONE,), []),
        ((ONE, TWO), (ONE,), []),
        ((ONE, TWO), (TWO, ONE), []),
        ((TWO, ONE), (ONE,), ["lb2"]),
        ((ONE,), (TWO, THREE), ["lb1", "lb2"]),
        ((ONE,), (), []),  # the other host's file is not here
    ],
)
def test_who_cannot_verify_whom(
    tmp_path: Path, first: tuple[bytes, ...], second: tuple[bytes, ...], deaf: list[str]
) -> None:
    report = with_keys(tmp_path, first, second)
    assert set(names(report)) <= {"cluster-keys-differ"}
    texts = [each.fault.problem for each in report.findings]
    assert sorted(text.rsplit(": ", 1)[1].split()[0] for text in texts) == deaf
    assert all(each.fault.file.endswith(f"{node}.yaml") for each, node in _told(report))
    assert not any(key.hex() in text for key in (ONE, TWO, THREE) for text in texts)


def _told(report: Report) -> list[tuple[Finding, str]]:
    return [(each, each.fault.problem.rsplit(": ", 1)[1].split()[0]) for each in report.findings]


# --- the forecast --------------------------------------------------------------------------------


def test_who_is_master_is_what_plain_mode_says(tmp_path: Path) -> None:
    plain, cooperating = (one(tmp_path, cluster=each, **WEIGHTY) for each in (None, CLUSTER))
    assert as_json(plain)["rows"] == as_json(cooperating)["rows"]
    assert masters(cooperating, dead("lb1")) == ("lb2",)
    assert masters(cooperating, check("nginx", "lb1")) == ("lb2",)


def test_every_node_is_played_in_plain_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[ClusterConfig | None] = []

    class Noted(forecast.Player):
        def __init__(self, stage: Stage, config: NodeConfig, *more: Any) -> None:
            played.append(config.cluster)
            super().__init__(stage, config, *more)

    monkeypatch.setattr(forecast, "Player", Noted)
    one(tmp_path)
    assert set(played) == {None}


def test_it_is_said_that_plain_mode_was_played(tmp_path: Path) -> None:
    assert PLAYED_IN_PLAIN_MODE in lines_of(one(tmp_path))
    assert PLAYED_IN_PLAIN_MODE not in lines_of(one(tmp_path, cluster=None))


def test_worst_cases_count_the_channel_in(tmp_path: Path) -> None:
    timed = {**CLUSTER, "heartbeat_timeout": "300ms"}
    cases = worst(one(tmp_path, cluster=timed, **WEIGHTY))
    assert cases["lb1 dies"].parts == (("heartbeat_timeout", 300 * MS),)
    assert cases["lb1 is stopped"].longest_ns == 0
    assert cases["nginx fails on lb1"].longest_ns == 250 * MS
    assert cases["eth0 goes down on lb1"].longest_ns == 300 * MS
    text = "\n".join(lines_of(one(tmp_path, cluster=timed, **WEIGHTY)))
    assert "lb1 dies               300ms until lb2  heartbeat_timeout 300ms" in text
    assert "lb1 is stopped         0ms until lb2    the successor is named" in text


def test_a_delay_still_counts_where_the_old_master_lives(tmp_path: Path) -> None:
    cases = worst(one(tmp_path, preempt_delay="30s", **WEIGHTY))
    assert cases["nginx fails on lb1"].longest_ns == 30 * SECOND_NS + 250 * MS
    assert cases["lb1 dies"].longest_ns == SECOND_NS
