"""``vipd status``: the node, and in cluster mode the whole cluster, on one screen; and a check for
monitoring.

On a terminal coloured tables: nodes and units of the cluster, instances and checks of this node;
elsewhere the same cells as plain text, one of them a line. Above stands maintenance, below what is
wrong: faults and alarms. What the engine said is shown with its age as soon as that is no longer
the present: a table that looks alive while the engine is silent is worse than none.

Of a cluster with many units a terminal is shown what needs an eye, and the rest in sums
(``vipd.cli.cluster``); ``--all`` lists everything, and so does a pipe, because it may lead to grep.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from vipd.cli import cluster
from vipd.cli.client import accepted, control_socket, request
from vipd.cli.configuration import DEFAULT_CONFIG, ConfigOption
from vipd.cli.prospects import maintenance
from vipd.cli.wording import aligned, moment, span

STALE_MS = 1000.0
"""The daemon waits so long for a fresh answer of its engine before it gives the last one."""

HEADINGS = ("INSTANCE", "STATE", "FOR", "SINCE", "REASON", "PRIO", "MASTER", "VIPS", "NEXT")
STATE_COLUMN, SINCE_COLUMN, REASON_COLUMN, VIPS_COLUMN, NEXT_COLUMN = 1, 3, 4, 7, 8
CHECK_HEADINGS = ("CHECK", "VERDICT", "FOR", "LAST", "DETAIL")
VERDICT_COLUMN = 1

MOST_ROWS = 40
"""More rows of units than this are told in brief on a terminal: two screens of the usual height."""

_ORDINARY = ("MASTER", "BACKUP")
_FINE = "healthy"

JsonOption = Annotated[bool, typer.Option("--json", help="Print the daemon's own JSON.")]
CheckOption = Annotated[
    bool, typer.Option("--check", help="Exit 1 if anything is wrong, and say what.")
]
AllOption = Annotated[
    bool, typer.Option("--all", help="List every unit and instance, however many there are.")
]
WatchOption = Annotated[
    bool, typer.Option("--watch", help="Go on showing it, live, until q or Ctrl-C. On a terminal.")
]

app = typer.Typer()


@app.callback()
def _group() -> None:
    """Commands that ask the daemon how it is."""


@app.command("status")
def status(
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
    check: CheckOption = False,
    everything: AllOption = False,
    watch: WatchOption = False,
) -> None:
    """Show every node of the cluster, and of this one every instance: state, reason, priority."""
    path = control_socket(config)
    if watch:
        _watch(path, everything, excluded=as_json or check)
        return
    answer = accepted(request(path, "GET", "/status"))
    shown = answer.value
    if as_json:
        print(answer.text)
    elif sys.stdout.isatty():
        _draw(shown, time.time(), everything)
    else:
        print("\n".join(plain(shown, time.time())))
    if check and (troubles := wrong(shown)):
        for trouble in troubles:
            print(f"wrong: {trouble}", file=sys.stderr)
        raise typer.Exit(1)


def _watch(path: Path, everything: bool, *, excluded: bool) -> None:
    if excluded:
        raise typer.BadParameter("cannot be combined with --json or --check", param_hint="--watch")
    if not sys.stdout.isatty():
        instead = "elsewhere ask again and again: `vipd status`, or `vipd status --json`"
        raise typer.BadParameter(f"draws on a terminal; {instead}", param_hint="--watch")
    from vipd.cli.board import run

    run(path, everything)


def _draw(shown: dict[str, Any], now: float, everything: bool) -> None:
    from rich.console import Console

    from vipd.cli.tables import screen

    console = Console(highlight=False)
    brief = bool(shown.get("cluster")) and not everything
    console.print(screen(shown, now, console.width, MOST_ROWS if brief else None))


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
    lines = [node_line(shown), *above(shown, now)]
    if shown.get("cluster"):
        lines += _plain_cluster(shown, now)
    if shown["instances"]:
        lines += aligned([HEADINGS, *_rows(shown, now)])
    else:
        lines.append("no instances")
    if shown.get("checks"):
        lines += ["", *aligned([CHECK_HEADINGS, *_check_rows(shown, now)])]
    return [*lines, *below(shown)]


def _plain_cluster(shown: dict[str, Any], now: float) -> list[str]:
    units = [row for block in cluster.blocks(shown) for row in block.rows]
    return [
        cluster.headline(shown),
        *aligned([cluster.NODE_HEADINGS, *cluster.node_rows(shown)]),
        "",
        *aligned([cluster.UNIT_HEADINGS, *units]),
        *cluster.unit_lines(shown, now),
        "",
        here(shown),
    ]


def here(shown: dict[str, Any]) -> str:
    """Above the tables that are only about this node."""
    return f"on this node, {shown['node']}:"


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


def instance_rows(
    shown: dict[str, Any], now: float, most_rows: int | None = None
) -> tuple[list[tuple[str, ...]], str]:
    """All; of more than ``most_rows`` those that need an eye, and the others in a sentence."""
    rows = list(_rows(shown, now))
    if most_rows is None or len(rows) <= most_rows:
        return rows, "" if rows else "no instances"
    odd = [row for row in rows if row[STATE_COLUMN] not in _ORDINARY or not has_vips_in_place(row)]
    states = Counter(row[STATE_COLUMN] for row in rows if row not in odd)
    fine = ", ".join(f"{count} {state}" for state, count in states.items())
    return odd, f"{fine}, all VIPs as they should be; `vipd status --all` lists them" * bool(states)


def has_vips_in_place(row: tuple[str, ...]) -> bool:
    """A master holds all of its VIPs, everybody else none."""
    held, _, listed = row[VIPS_COLUMN].partition("/")
    return held == (listed if row[STATE_COLUMN] == "MASTER" else "0")


def check_rows(
    shown: dict[str, Any], now: float, most_rows: int | None = None
) -> tuple[list[tuple[str, ...]], str]:
    """As ``instance_rows``."""
    rows = list(_check_rows(shown, now))
    if most_rows is None or len(rows) <= most_rows:
        return rows, ""
    odd = [row for row in rows if row[VERDICT_COLUMN] != _FINE]
    return odd, f"{len(rows) - len(odd)} checks are healthy; `vipd status --all` lists them"


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


def above(shown: dict[str, Any], now: float) -> list[str]:
    text = maintenance(shown, now)
    return [] if text is None else [f"MAINTENANCE: {text}"]


def below(shown: dict[str, Any], *, with_cures: bool = True) -> list[str]:
    lines = [] if (text := staleness(shown)) is None else [f"STALE: {text}"]
    lines += [
        f"FAULT: {name}: {fault_text(instance)}"
        for name, instance in shown["instances"].items()
        if instance["state"] == "FAULT"
    ]
    return lines + _alarm_lines(shown, with_cures=with_cures)


def _alarm_lines(shown: dict[str, Any], *, with_cures: bool) -> list[str]:
    """Alarms that say the same of several subjects are one line; a cure stands once."""
    alike: dict[tuple[str, str], list[str]] = {}
    cures: dict[str, str] = {}
    for alarm in shown["alarms"]:
        key = (alarm["name"], alarm.get("detail") or "")
        alike.setdefault(key, []).append(alarm.get("subject") or "")
        if with_cures:
            cures[alarm["name"]] = alarm.get("cure") or ""
    lines = []
    for (name, detail), subjects in alike.items():
        words = (cluster.listed(filter(None, subjects)), detail, cures.pop(name, ""))
        lines.append(": ".join(["ALARM", name, *filter(None, words)]))
    return lines
