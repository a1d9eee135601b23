"""The report as plain text: one table for each unit, the worst cases, the findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from vipd.config.types import format_duration
from vipd.lint.faults import Fault, FaultKind
from vipd.lint.forecast import Cell, UnitForecast
from vipd.lint.report import Report, vips_of
from vipd.lint.times import WorstCase
from vipd.model import MILLISECOND_NS, SECOND_NS, Duration

NOBODY = "NOBODY"
PLAYED_IN_PLAIN_MODE = (
    "Played in plain mode: the channel of the cluster makes mastership come back sooner than told "
    "here. The times at worst count it in."
)
HEADINGS = ("if this fails", "master is", "once it is healed", "and if that master dies")


def lines_of(report: Report) -> list[str]:
    lines: list[str] = []
    for unit, cases in report.worst:
        lines += [*_unit(report, unit), "", *_worst(unit, cases), ""]
    if report.forecast.left_out:
        names = ", ".join(report.forecast.left_out)
        lines += [f"Not failed here, because a number is neither good nor bad: {names} (as 0).", ""]
    if any(member.config.cluster for member in report.forecast.cluster.members):
        lines += [PLAYED_IN_PLAIN_MODE, ""]
    lines += [str(finding) for finding in report.findings] or ["No findings."]
    return lines


def _unit(report: Report, unit: UnitForecast) -> Iterator[str]:
    vips = ", ".join(vips_of(report.forecast, unit))
    standings = unit.standings.items()
    priorities = ", ".join(f"{node} {each.effective}" for node, each in standings)
    kind = f"group of {', '.join(unit.plan.instances)}" if unit.plan.is_group else "instance"
    yield f"{unit.plan.name} ({kind}): {vips}; priorities {priorities}"
    yield ""
    rows = [HEADINGS, ("nothing", who(unit.normally), "", "")]
    rows += [_row(unit, fault, cell) for fault, cell in unit.cells.items()]
    yield from _aligned(rows)
    mattering = {_thing(fault) for fault in unit.cells}
    others = dict.fromkeys(map(_thing, report.forecast.faults))
    spared = [name for name in others if name not in mattering]
    if spared:
        yield f"  It does not depend on: {', '.join(spared)}."


def _row(unit: UnitForecast, fault: Fault, cell: Cell) -> tuple[str, str, str, str]:
    return (
        thing_and_place(fault),
        who(cell.masters),
        _healed(unit, cell),
        f"{cell.dies} dies: {who(cell.heirs)}" if cell.dies else "",
    )


def thing_and_place(fault: Fault) -> str:
    if fault.kind is FaultKind.NODE:
        return f"node {fault.node}"
    return f"{_thing(fault)} on {fault.node or 'all nodes'}"


def _thing(fault: Fault) -> str:
    return f"{fault.kind.value} {fault.name}"


def who(masters: Sequence[str]) -> str:
    return " AND ".join(masters) or NOBODY


def _healed(unit: UnitForecast, cell: Cell) -> str:
    if cell.healed == cell.masters:
        return "" if cell.masters == unit.normally else f"{who(cell.healed)} stays"
    after = f" after {about(cell.back_ns)}" if cell.back_ns is not None else ""
    return f"{who(cell.healed)} again{after}"


def about(duration: Duration) -> str:
    """``530ms``, ``3.6s``, ``5m04s``: never less than it is."""
    if duration < SECOND_NS:
        return f"{-(-duration // (10 * MILLISECOND_NS)) * 10}ms"
    tenths = -(-duration // (100 * MILLISECOND_NS))
    if tenths < 600:
        return f"{tenths / 10:.1f}s"
    seconds = -(-duration // SECOND_NS)
    return f"{seconds // 60}m{seconds % 60:02}s"


def _worst(unit: UnitForecast, cases: Iterable[WorstCase]) -> Iterator[str]:
    rows = [
        (
            case.what,
            f"{about(case.longest_ns)} until {case.heir}",
            " + ".join(f"{text} {format_duration(part)}" for text, part in _said(case))
            or case.parts[-1][0],
        )
        for case in cases
    ]
    if rows:
        yield f"  At worst {unit.plan.name} is without its master for:"
        yield from _aligned(rows)
    else:
        yield f"  Nobody takes {unit.plan.name} over from its master."


def _said(case: WorstCase) -> Iterator[tuple[str, Duration]]:
    for text, part in case.parts:
        if part >= MILLISECOND_NS:
            yield text, part // MILLISECOND_NS * MILLISECOND_NS


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        (
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
