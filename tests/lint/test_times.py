"""Worst cases: the sum is right, and what is played stays within it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.lint.rig import EXAMPLE, check, dead, instance, interface, one_file
from vipd.lint.faults import Fault, FaultKind
from vipd.lint.report import Report, examine_files
from vipd.lint.times import WorstCase
from vipd.model import MILLISECOND_NS, SECOND_NS

MS = MILLISECOND_NS
CHECKS = {"nginx": {"file": "/run/nginx.pid", "interval": "100ms", "timeout": "50ms", "fall": 2}}


def cases(report: Report, unit: str = "web") -> dict[str, WorstCase]:
    (found,) = [each for forecast, each in report.worst if forecast.plan.name == unit]
    return {case.what: case for case in found}


def example(tmp_path: Path, *track: dict[str, Any], **changes: Any) -> Report:
    web = instance(track=list(track), **changes)
    return one_file(tmp_path, {"instances": {"web": web}, "checks": CHECKS})


def test_the_sums(tmp_path: Path) -> None:
    skew_ns = 156 * SECOND_NS // 256
    worst = cases(
        example(
            tmp_path, {"check": "nginx", "weight": -60}, {"interface": "eth1", "debounce": "2s"}
        )
    )
    assert worst["lb1 dies"].longest_ns == pytest.approx(3 * SECOND_NS + skew_ns, abs=MS)
    assert worst["lb1 is stopped"].longest_ns == pytest.approx(skew_ns, abs=MS)
    assert worst["nginx fails on lb1"].longest_ns == pytest.approx(250 * MS + skew_ns, abs=MS)
    assert worst["eth1 goes down on lb1"].longest_ns == pytest.approx(
        2 * SECOND_NS + skew_ns, abs=MS
    )
    assert worst["eth0 goes down on lb1"].longest_ns == worst["lb1 dies"].longest_ns
    assert {case.heir for case in worst.values()} == {"lb2"}


def test_version_2_skews_by_the_second(tmp_path: Path) -> None:
    worst = cases(example(tmp_path, version=2, advert_interval="2s"))
    skew_ns = 156 * SECOND_NS // 256
    assert worst["lb1 dies"].longest_ns == pytest.approx(6 * SECOND_NS + skew_ns, abs=MS)


def test_a_delay_counts_where_the_old_master_lives(tmp_path: Path) -> None:
    track = {"check": "nginx", "weight": -60}
    worst = cases(example(tmp_path, track, preempt_delay="30s"))
    assert worst["nginx fails on lb1"].longest_ns > 33 * SECOND_NS
    assert worst["lb1 dies"].longest_ns < 4 * SECOND_NS


def test_what_does_not_move_mastership_has_no_worst_case(tmp_path: Path) -> None:
    assert "nginx fails on lb1" not in cases(example(tmp_path, {"check": "nginx", "weight": -20}))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"version": 2},
        {"advert_interval": "100ms"},
        {"preempt_delay": "30s"},
        {"preempt_delay": "5m", "advert_interval": "100ms"},
        {"preempt": False},
    ],
    ids=str,
)
def test_the_stage_is_never_slower_than_the_worst_case(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    tracks = [
        {"check": "nginx", "weight": -60},
        {"interface": "eth1", "debounce": "200ms"},
        {"interface": "eth2", "weight": -60},
    ]
    report = example(tmp_path, *tracks, **changes)
    worst = cases(report)
    (unit,) = report.forecast.units
    faults = [dead("lb1"), check("nginx", "lb1")]
    faults += [interface(name, "lb1") for name in ("eth0", "eth1", "eth2")]
    judged = 0
    for fault in faults:
        played_ns = unit.cell(fault).after_ns
        if played_ns is not None:
            judged += 1
            assert played_ns <= worst[_what(fault)].longest_ns + MS, fault
    assert judged >= 3


def _what(fault: Fault) -> str:
    return f"{fault.node} dies" if fault.kind is FaultKind.NODE else str(fault)


def test_the_worst_cases_of_the_example() -> None:
    worst = cases(examine_files([EXAMPLE]), "api")
    assert {case.heir for case in worst.values()} == {"lb3"}
    assert set(worst) == {
        "lb2 dies",
        "lb2 is stopped",
        "nginx fails on lb2",
        "gateway fails on lb2",
        "eth0 goes down on lb2",
    }
