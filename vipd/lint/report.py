"""The whole answer: forecast, worst cases and findings, and its JSON form.

The JSON is what the replay on real daemons reads: ``rows`` has one entry for every fault, with a
cell for *every* unit. In a cell, ``master`` lists who has the VIPs; an empty list is nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vipd.config.context import KeyReader
from vipd.errors import ConfigFault
from vipd.lint.channel import channel_mismatches
from vipd.lint.faults import Fault, FaultKind
from vipd.lint.findings import Finding, Severity
from vipd.lint.forecast import Cell, Forecast, UnitForecast, forecast
from vipd.lint.members import load_cluster
from vipd.lint.mismatches import mismatches
from vipd.lint.times import WorstCase, worst_cases
from vipd.lint.traps import traps
from vipd.model import SECOND_NS, Duration, format_address


@dataclass(frozen=True, slots=True)
class Report:
    forecast: Forecast
    worst: tuple[tuple[UnitForecast, tuple[WorstCase, ...]], ...]
    findings: tuple[Finding, ...]
    warnings: tuple[ConfigFault, ...]  # of the files one by one

    @property
    def failed(self) -> bool:
        return any(each.severity is Severity.ERROR for each in self.findings)


def examine_files(
    files: Sequence[Path],
    node: str | None = None,
    host: str = "",
    read_keys: KeyReader | None = None,
) -> Report:
    """Read, play and judge; ``node`` and ``host`` name the first of several files.

    Raises ConfigError when a file is not good by itself.
    """
    cluster = load_cluster(files, node, host, read_keys)
    foreseen = forecast(cluster)
    network = dict(foreseen.network)
    findings = (*mismatches(cluster, network), *channel_mismatches(cluster), *traps(foreseen))
    ordered = sorted(findings, key=lambda each: each.severity is not Severity.ERROR)
    worst = tuple((unit, tuple(worst_cases(foreseen, unit))) for unit in foreseen.units)
    judged = {_place(each.fault) for each in ordered}
    warnings = tuple(each for each in cluster.warnings if _place(each) not in judged)
    return Report(foreseen, worst, tuple(ordered), warnings)


def _place(fault: ConfigFault) -> tuple[str, int, str]:
    return (fault.file, fault.line, fault.key)


# --- JSON -------------------------------------------------------------------------------------


def as_json(report: Report) -> dict[str, Any]:
    units = report.forecast.units
    return {
        "nodes": [member.name for member in report.forecast.cluster.members],
        "units": {unit.plan.name: _unit(report.forecast, unit) for unit in units},
        "rows": [
            {
                "fault": _fault(fault),
                "cells": {unit.plan.name: _cell(unit.cell(fault)) for unit in units},
            }
            for fault in report.forecast.faults
        ],
        "worst_cases": {
            unit.plan.name: [_worst(case) for case in cases] for unit, cases in report.worst
        },
        "left_out": list(report.forecast.left_out),
        "findings": [
            {
                "severity": each.severity.value,
                "name": each.name,
                "file": each.fault.file,
                "line": each.fault.line,
                "key": each.fault.key,
                "problem": each.fault.problem,
                "cure": each.fault.cure,
            }
            for each in report.findings
        ],
        "warnings": [str(warning) for warning in report.warnings],
    }


def _unit(foreseen: Forecast, unit: UnitForecast) -> dict[str, Any]:
    return {
        "instances": list(unit.plan.instances),
        "vips": vips_of(foreseen, unit),
        "master": list(unit.normally),
        "priorities": {node: each.effective for node, each in unit.standings.items()},
    }


def vips_of(foreseen: Forecast, unit: UnitForecast) -> list[str]:
    """The VIPs of the unit on any node, in order."""
    found = (
        format_address(vip.address)
        for name in unit.plan.instances
        for _member, config in foreseen.cluster.having(name)
        for vip in config.vips
    )
    return list(dict.fromkeys(found))


def _fault(fault: Fault) -> dict[str, Any]:
    nodes: str | None = fault.node or None  # null: on all nodes
    name = None if fault.kind is FaultKind.NODE else fault.name
    return {"kind": fault.kind.value, "name": name, "node": nodes}


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "master": list(cell.masters),
        "after_s": _seconds(cell.after_ns),
        "healed": list(cell.healed),
        "back_s": _seconds(cell.back_ns),
        "then_dies": cell.dies or None,
        "heir": list(cell.heirs) if cell.dies else None,
        "priorities": {node: each.effective for node, each in cell.standings.items()},
    }


def _worst(case: WorstCase) -> dict[str, Any]:
    return {
        "what": case.what,
        "heir": case.heir,
        "longest_s": _seconds(case.longest_ns),
        "parts": [{"what": text, "s": _seconds(part)} for text, part in case.parts],
    }


def _seconds(duration: Duration | None) -> float | None:
    return None if duration is None else round(duration / SECOND_NS, 6)
