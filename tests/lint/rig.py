"""Small clusters as files, and the few questions that the tests ask of a report."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vipd.lint.faults import Fault, FaultKind
from vipd.lint.findings import Finding
from vipd.lint.forecast import Cell, UnitForecast
from vipd.lint.report import Report, examine_files

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "three-nodes.yaml"

Config = dict[str, Any]


def instance(**changes: Any) -> Config:
    return {
        "interface": "eth0",
        "vrid": 51,
        "priority": {"lb1": 150, "lb2": 100},
        "vips": ["192.0.2.100/24"],
        **changes,
    }


def one_file(folder: Path, config: Config) -> Report:
    """One file for all nodes that it names."""
    path = folder / "vipd.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    path.chmod(0o600)
    return examine_files([path])


def files(folder: Path, **configs: Config) -> Report:
    """One file for each node, named as the keyword."""
    paths = []
    for node, config in configs.items():
        path = folder / f"{node}.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        path.chmod(0o600)
        paths.append(path)
    return examine_files(paths)


def pair(folder: Path, one: Mapping[str, Any], two: Mapping[str, Any], **top: Any) -> Report:
    """``lb1`` (150) and ``lb2`` (100) with one instance ``web`` that differs as said."""
    first: Config = {"instances": {"web": instance(priority=150, **one)}, **copy.deepcopy(top)}
    second: Config = {"instances": {"web": instance(priority=100, **two)}, **copy.deepcopy(top)}
    return files(folder, lb1=first, lb2=second)


def unit_of(report: Report, name: str = "web") -> UnitForecast:
    return next(each for each in report.forecast.units if each.plan.name == name)


def check(name: str, node: str = "") -> Fault:
    return Fault(FaultKind.CHECK, name, node)


def interface(name: str, node: str = "") -> Fault:
    return Fault(FaultKind.INTERFACE, name, node)


def dead(node: str) -> Fault:
    return Fault(FaultKind.NODE, node, node)


def cell(report: Report, fault: Fault, unit: str = "web") -> Cell:
    assert fault in report.forecast.faults
    return unit_of(report, unit).cell(fault)


def masters(report: Report, fault: Fault, unit: str = "web") -> tuple[str, ...]:
    return cell(report, fault, unit).masters


def found(report: Report, name: str) -> Finding:
    """The only finding of this name."""
    (finding,) = [each for each in report.findings if each.name == name]
    return finding


def names(report: Report) -> list[str]:
    return [each.name for each in report.findings]
