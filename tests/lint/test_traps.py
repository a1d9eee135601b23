"""What a configuration does that is hardly meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.lint.rig import EXAMPLE, Config, found, instance, names, one_file
from vipd.lint.findings import Severity
from vipd.lint.report import examine_files

NGINX = {"file": "/run/nginx.pid"}


def config(*track: dict[str, Any], **changes: Any) -> Config:
    checks = {entry["check"]: NGINX for entry in track if "check" in entry}
    return {"instances": {"web": instance(track=list(track), **changes)}, "checks": checks}


def nginx(weight: int, **more: Any) -> dict[str, Any]:
    return {"check": "nginx", "weight": weight, **more}


def test_a_weight_that_is_too_small_with_its_arithmetic(tmp_path: Path) -> None:
    report = one_file(tmp_path, config(nginx(-20)))
    finding = found(report, "weight-too-small")
    assert finding.severity is Severity.WARNING
    assert "150-20=130 on lb1 is still above lb2's 100" in finding.fault.problem
    assert finding.fault.key == "instances.web.track[0]"
    assert "weight: -51 " in finding.fault.cure
    assert "weight-too-small" not in names(one_file(tmp_path, config(nginx(-51))))


def test_an_equal_backup_does_not_take_over(tmp_path: Path) -> None:
    report = one_file(tmp_path, config(nginx(-50)))
    assert (
        "150-50=100 on lb1 only equals lb2's 100" in found(report, "weight-too-small").fault.problem
    )


def test_a_positive_weight_counts_on_the_backup_too(tmp_path: Path) -> None:
    finding = found(one_file(tmp_path, config(nginx(20))), "weight-too-small")
    assert "150 on lb1 is still above lb2's 120" in finding.fault.problem
    assert "weight: 51 " in finding.fault.cure
    assert "weight-too-small" not in names(one_file(tmp_path, config(nginx(51))))


def test_weights_that_only_move_together(tmp_path: Path) -> None:
    report = one_file(tmp_path, config(nginx(-30), {"check": "db", "weight": -30}))
    problems = [each.fault.problem for each in report.findings if each.name == "weight-too-small"]
    assert len(problems) == 2
    assert all("only together with other weights" in problem for problem in problems)


def test_a_weight_with_preempt_false(tmp_path: Path) -> None:
    finding = found(one_file(tmp_path, config(nginx(-60), preempt=False)), "weight-without-preempt")
    assert "150-60=90 on lb1 is below lb2's 100" in finding.fault.problem


def test_a_preempt_delay_that_holds_up_a_weight(tmp_path: Path) -> None:
    report = one_file(tmp_path, config(nginx(-60), preempt_delay="1m"))
    assert "preempt_delay of 1m" in found(report, "preempt-delay-delays-failover").fault.problem
    without = one_file(tmp_path, config({"check": "nginx"}, preempt_delay="1m"))
    assert "preempt-delay-delays-failover" not in names(without)


def test_nobody_left_names_the_track_and_the_cure(tmp_path: Path) -> None:
    finding = found(one_file(tmp_path, config({"check": "nginx"})), "nobody-left")
    assert "nginx fails on all nodes" in finding.fault.problem
    assert "nginx fails on lb1 and lb2 dies" in finding.fault.problem
    assert "weight: -51" in finding.fault.cure


def test_the_cure_of_nobody_left_is_one(tmp_path: Path) -> None:
    report = one_file(tmp_path, config(nginx(-51)))
    assert names(report) == []


def test_the_loss_of_the_own_interface_blames_nobody(tmp_path: Path) -> None:
    assert names(one_file(tmp_path, {"instances": {"web": instance()}})) == []


def test_nobody_although_nothing_failed(tmp_path: Path) -> None:
    # healthy for one, failed for the other: no state of the check is good for both
    both = {
        "web": instance(track=[{"check": "nginx"}]),
        "api": instance(
            vrid=52, vips=["192.0.2.110/24"], track=[{"check": "nginx", "reverse": True}]
        ),
    }
    report = one_file(tmp_path, {"instances": both, "checks": {"nginx": NGINX}})
    finding = found(report, "no-master")
    assert finding.severity is Severity.ERROR
    assert finding.fault.key == "instances.api"
    assert report.failed


def test_equal_priorities_name_the_winner_where_it_is_known(tmp_path: Path) -> None:
    unknown = one_file(tmp_path, config(priority={"lb1": 100, "lb2": 100}))
    assert "do not say which" in found(unknown, "equal-priorities").fault.problem
    source = {"lb1": "192.0.2.11", "lb2": "192.0.2.12"}
    known = one_file(tmp_path, config(priority={"lb1": 100, "lb2": 100}, source=source))
    assert "lb2 (192.0.2.12)" in found(known, "equal-priorities").fault.problem
    assert known.forecast.units[0].normally == ("lb2",)
    sticky = one_file(tmp_path, config(priority={"lb1": 100, "lb2": 100}, preempt=False))
    assert "preempt: false" in found(sticky, "equal-priorities").fault.problem


def test_a_check_that_asks_the_same_from_everywhere(tmp_path: Path) -> None:
    far: Config = {
        "instances": {"web": instance(track=[{"check": "db", "weight": -60}])},
        "checks": {"db": {"tcp": "192.0.2.50:5432"}},
    }
    assert "192.0.2.50:5432" in found(one_file(tmp_path, far), "same-on-all-nodes").fault.problem
    far["checks"]["db"] = {"tcp": "127.0.0.1:5432"}
    assert names(one_file(tmp_path, far)) == []


def test_a_finding_takes_the_place_of_the_files_own_warning(tmp_path: Path) -> None:
    report = one_file(tmp_path, config(nginx(-60), preempt=False))
    assert [str(each) for each in report.warnings if "track[0]" in str(each)] == []


def test_the_example_has_the_warnings_that_its_page_explains() -> None:
    assert names(examine_files([EXAMPLE])) == ["nobody-left"] * 3
