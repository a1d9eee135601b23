"""``vipd status``: the whole node on one screen, and as a check for monitoring.

On a terminal coloured tables, of the instances and of the checks; elsewhere the same cells as plain
text, one of them a line. Above stands maintenance, below what is wrong: faults and alarms. What
the engine said is shown with its age as soon as that is no longer the present: a table that looks
alive while the engine is silent is worse than none.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vipd.cli.client import accepted, control_socket, request
from vipd.cli.configuration import DEFAULT_CONFIG, ConfigOption
from vipd.cli.prospects import maintenance
from vipd.cli.wording import aligned, moment, span

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

STALE_MS = 1000.0
"""The daemon waits so long for a fresh answer of its engine before it gives the last one."""

_HEADINGS = ("INSTANCE", "STATE", "FOR", "SINCE", "REASON", "PRIO", "MASTER", "VIPS", "NEXT")
_STATE_COLUMN, _SINCE_COLUMN, _REASON_COLUMN, _VIPS_COLUMN, _NEXT_COLUMN = 1, 3, 4, 7, 8
_CHECK_HEADINGS = ("CHECK", "VERDICT", "FOR", "LAST", "DETAIL")
_VERDICT_COLUMN, _DETAIL_COLUMN = 1, 4
_FULL_WIDTH = 110
"""On narrower terminals SINCE is left out, which FOR says too, and the longest words are folded."""

_STYLES = {
    "MASTER": "bold green",
    "BACKUP": "cyan",
    "CANDIDATE": "yellow",
    "INIT": "yellow",
    "FAULT": "bold red",
    "healthy": "green",
    "unknown": "yellow",
    "failed": "bold red",
    "timed-out": "bold red",
}

JsonOption = Annotated[bool, typer.Option("--json", help="Print the daemon's own JSON.")]
CheckOption = Annotated[
    bool, typer.Option("--check", help="Exit 1 if anything is wrong, and say what.")
]

app = typer.Typer()


@app.callback()
def _group() -> None:
    """Commands that ask the daemon how it is."""


@app.command("status")
def status(
    config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False, check: CheckOption = False
) -> None:
    """Show every instance: state, reason, priority, master, VIPs, and what comes next."""
    answer = accepted(request(control_socket(config), "GET", "/status"))
    shown = answer.value
    if as_json:
        print(answer.text)
    elif sys.stdout.isatty():
        _show_table(shown, time.time())
    else:
        print("\n".join(plain(shown, time.time())))
    if check and (troubles := wrong(shown)):
        for trouble in troubles:
            print(f"wrong: {trouble}", file=sys.stderr)
        raise typer.Exit(1)


def wrong(shown: dict[str, Any]) -> list[str]:
    """What ``--check`` fails for, one line each."""
    found = []
    if (text := staleness(shown)) is not None:
        found.append(text)
    for alarm in shown["alarms"]:
        about = ": ".join(filter(None, (alarm.get("subject"), alarm.get("detail"))))
        found.append(f"alarm {alarm['name']}{f' ({about})' if about else ''}")
    for name, instance in shown["instances"].items():
        if instance["state"] == "FAULT":
            found.append(f"{name} is in FAULT: {fault_text(instance)}")
    return found


def staleness(shown: dict[str, Any]) -> str | None:
    """A sentence if what is shown is not the present."""
    age_ms = shown["age_ms"]
    if age_ms is None:
        return "the engine has not said anything yet"
    if age_ms > STALE_MS:
        return f"the engine does not answer; this is what it said {span(age_ms / 1000)} ago"
    return None


def fault_text(instance: dict[str, Any]) -> str:
    """All faults; the one that decides comes first."""
    return ", ".join(instance["faults"]) or f"{instance['reason']}: {instance['detail']}"


def plain(shown: dict[str, Any], now: float) -> list[str]:
    """Everything as lines of text."""
    lines = [node_line(shown), *_above(shown, now)]
    if shown["instances"]:
        lines += aligned([_HEADINGS, *_rows(shown, now)])
    else:
        lines.append("no instances")
    if shown.get("checks"):
        lines += ["", *aligned([_CHECK_HEADINGS, *_check_rows(shown, now)])]
    return [*lines, *_below(shown)]


def node_line(shown: dict[str, Any]) -> str:
    """Who answers, and in what shape it is itself."""
    engine, configuration = shown["engine"], shown["configuration"]
    restarts = engine["restarts"]
    parts = [
        f"{shown['node']}: vipd {shown['version']}",
        f"up {span(shown['uptime_s'])}",
        "no engine" if engine["pid"] is None else f"engine {engine['pid']}",
        f"{restarts} engine restart{'' if restarts == 1 else 's'}",
        f"realtime: {engine.get('realtime', 'not known yet')}",
        f"memory: {engine.get('memory', 'not known yet')}",
        f"configuration {configuration['generation']} of {configuration['file']}",
    ]
    return ", ".join(parts)


def _rows(shown: dict[str, Any], now: float) -> Iterator[tuple[str, ...]]:
    age_ms = shown["age_ms"] or 0.0
    for name, instance in shown["instances"].items():
        group = instance.get("group")
        yield (
            name if group is None else f"{name} [{group}]",
            instance["state"],
            span(now - instance["since"]),
            moment(instance["since"], now),
            instance["reason"],
            _priority(instance["priority"]),
            _master(instance),
            _vips(instance["vips"]),
            upcoming(instance, age_ms),
        )


def _check_rows(shown: dict[str, Any], now: float) -> Iterator[tuple[str, ...]]:
    for name, check in shown["checks"].items():
        last_ms = check.get("last_ms")
        stale = "stale: " if check.get("stale") else ""
        number = f"{check['number']}: " if check.get("number") is not None else ""
        yield (
            name,
            str(check["verdict"]),
            span(now - check["since"]),
            "" if last_ms is None else f"{last_ms:.1f}ms",
            f"{stale}{number}{check.get('detail', '')}",
        )


def _priority(priority: dict[str, Any]) -> str:
    base, effective = priority["base"], priority["effective"]
    return str(effective) if base == effective else f"{effective} (base {base})"


def _master(instance: dict[str, Any]) -> str:
    master = instance["master"]
    if instance["state"] == "MASTER":
        return "this host"
    if master is None:
        return "none heard"
    return f"{master['node'] or master['address']} ({master['priority']})"


def _vips(vips: list[dict[str, Any]]) -> str:
    return f"{sum(vip['present'] for vip in vips)}/{len(vips)}"


def upcoming(instance: dict[str, Any], age_ms: float) -> str:
    """What the instance does next unless something happens."""
    timers = instance["timers"]
    if timers["next_in_ms"] is None:
        return "waits for the faults to end" if instance["state"] == "FAULT" else ""
    what = timers["next"].partition(" unless ")[0]
    return f"{what} in {span((timers['next_in_ms'] - age_ms) / 1000)}"


def _above(shown: dict[str, Any], now: float) -> list[str]:
    text = maintenance(shown, now)
    return [] if text is None else [f"MAINTENANCE: {text}"]


def _below(shown: dict[str, Any]) -> list[str]:
    lines = [] if (text := staleness(shown)) is None else [f"STALE: {text}"]
    lines += [
        f"FAULT: {name}: {fault_text(instance)}"
        for name, instance in shown["instances"].items()
        if instance["state"] == "FAULT"
    ]
    for alarm in shown["alarms"]:
        words = (alarm.get("subject"), alarm.get("detail"), alarm.get("cure"))
        lines.append(": ".join(["ALARM", alarm["name"], *filter(None, words)]))
    return lines


def _show_table(shown: dict[str, Any], now: float) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text(node_line(shown), style="dim"))
    for line in _above(shown, now):
        console.print(Text(line, style="bold yellow"))
    left_out = {_SINCE_COLUMN} if console.width < _FULL_WIDTH else set()
    _print_table(
        console,
        [heading for at, heading in enumerate(_HEADINGS) if at not in left_out],
        [
            [cell for at, cell in enumerate(_styled(row, Text)) if at not in left_out]
            for row in _rows(shown, now)
        ],
        flexible={_HEADINGS[_REASON_COLUMN], _HEADINGS[_NEXT_COLUMN]},
        style="dim" if staleness(shown) is not None else "",
    )
    if shown.get("checks"):
        console.print()
        rows = [[Text(cell) for cell in row] for row in _check_rows(shown, now)]
        for row in rows:
            row[_VERDICT_COLUMN].stylize(_STYLES.get(row[_VERDICT_COLUMN].plain, ""))
        _print_table(console, _CHECK_HEADINGS, rows, flexible={_CHECK_HEADINGS[_DETAIL_COLUMN]})
    for line in _below(shown):
        console.print(Text(line, style="bold red"))


def _print_table(
    console: Console,
    headings: Sequence[str],
    rows: list[list[Text]],
    flexible: set[str],
    style: str = "",
) -> None:
    """Columns in ``flexible`` are folded where the terminal is too narrow, the others are not."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", style=style)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading not in flexible)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _styled(row: tuple[str, ...], text: type[Text]) -> list[Text]:
    """The cells; VIPs that are not where the state says they should be are marked."""
    cells = [text(cell) for cell in row]
    state = row[_STATE_COLUMN]
    cells[_STATE_COLUMN].stylize(_STYLES.get(state, ""))
    held, _, listed = row[_VIPS_COLUMN].partition("/")
    if held != (listed if state == "MASTER" else "0"):
        cells[_VIPS_COLUMN].stylize("yellow")
    return cells
