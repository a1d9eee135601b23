"""``vipd events``: what happened on this node, from the journal.

A daemon that lives is asked; it has the newest entries in memory, whatever its disk does. Without
one the file is read, as the daemon left it: after a crash this is the first question.

``--follow`` goes on over a restart of the daemon, because ids of entries grow over restarts, too.
"""

from __future__ import annotations

import json
import re
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from vipd.cli.client import ask, control_socket, journal_file
from vipd.cli.configuration import DEFAULT_CONFIG, ConfigOption
from vipd.cli.telling import told
from vipd.errors import DaemonAbsent, VipdError

SHOWN = 50
"""Entries without ``-n`` and ``--since``: a screen."""

PAGE = 1000
WAIT_S = 25.0
ANSWER_S = 10.0
AGAIN_S = 0.5

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}

NameArgument = Annotated[
    str | None,
    typer.Argument(help="An instance, group or check. Default: everything.", metavar="[INSTANCE]"),
]
FollowOption = Annotated[bool, typer.Option("-f", "--follow", help="Go on with what happens next.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", help="From then on: 30m, 2h, 1d ago, or an ISO time.")
]
NumberOption = Annotated[
    int | None,
    typer.Option("-n", min=0, help=f"The newest so many. Default: {SHOWN}, or all with --since."),
]

app = typer.Typer()


@app.callback()
def _group() -> None:
    """Commands that ask what happened."""


@app.command("events")
def events(
    name: NameArgument = None,
    follow: FollowOption = False,
    as_json: JsonOption = False,
    since: SinceOption = None,
    number: NumberOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Show what happened: transitions, verdicts, hooks, commands, alarms, with cause and time."""
    start = None if since is None else _moment(since, time.time())
    most = SHOWN if number is None and start is None else number
    try:
        last = _show_past(config, name, start, most, as_json)
        if follow:
            _follow(control_socket(config), name, last, as_json)
    except KeyboardInterrupt:
        return  # the way to end it


def _moment(text: str, now: float) -> float:
    """``2h`` (ago) or an ISO time, local where it names no zone, as Unix time."""
    if (found := _SPAN.fullmatch(text)) is not None:
        return now - float(found[1]) * _UNITS[found[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as error:
        example = "a span with unit (30m, 2h, 1d) or a time (2026-05-01T14:00)"
        raise typer.BadParameter(
            f"{text!r} is no time; write {example}", param_hint="--since"
        ) from (error)


def _show_past(
    config: Path, name: str | None, since: float | None, most: int | None, as_json: bool
) -> int:
    """Print what happened; returns the id to go on from."""
    try:
        path = control_socket(config)
        found, last = _from_daemon(path, _subjects(path, name), since, most)
    except DaemonAbsent as absence:
        found, last = _from_file(config, name, since, most, absence)
        print(f"vipd: {absence}; this is what was written until then", file=sys.stderr)
    _show(found, as_json)
    return last


def _show(entries: list[dict[str, Any]], as_json: bool) -> None:
    for entry in entries:
        print(json.dumps(entry) if as_json else line(entry), flush=True)


def line(entry: dict[str, Any]) -> str:
    """An entry in plain words."""
    wall = entry["time"]
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall))
    return f"{clock}.{int(wall % 1 * 1000):03d}  {told(entry)}"


# --- the daemon -------------------------------------------------------------------------------


def _subjects(path: Path, name: str | None) -> tuple[str, ...]:
    """Whatever moves ``name``: itself, its group or members, and the checks that are tracked."""
    if name is None:
        return ()
    subjects = [name]
    for instance, values in ask(path, "/status")["instances"].items():
        unit = values.get("unit", instance)
        if name in (instance, unit):
            checks = [track["name"] for track in values.get("tracks", ()) if _is_check(track)]
            subjects += [unit, *([instance] if name == unit else []), *checks]
    return tuple(dict.fromkeys(subjects))


def _is_check(track: dict[str, Any]) -> bool:
    return bool(track["kind"] == "check")


def _target(subjects: tuple[str, ...], **parameters: Any) -> str:
    given = {key: value for key, value in parameters.items() if value is not None}
    if subjects:
        given["subject"] = ",".join(subjects)
    return f"/events?{urlencode(given)}"


def _from_daemon(
    path: Path, subjects: tuple[str, ...], since: float | None, most: int | None
) -> tuple[list[dict[str, Any]], int]:
    if most is not None and most <= PAGE:
        answer = ask(path, _target(subjects, since=since, limit=max(most, 1)), ANSWER_S)
        return answer["events"] if most else [], answer["last"]
    found: list[dict[str, Any]] = []
    last, is_page_full = 0, True
    while is_page_full:
        answer = ask(path, _target(subjects, after=last, since=since, limit=PAGE), ANSWER_S)
        found += answer["events"]
        last, is_page_full = answer["last"], len(answer["events"]) == PAGE
    return found if most is None else found[-most:], last


def _follow(path: Path, name: str | None, last: int, as_json: bool) -> None:
    """For ever. A daemon that is away is waited for, and said to be once."""
    subjects: tuple[str, ...] | None = None
    is_absent = False
    while True:
        try:
            if subjects is None:
                subjects = _subjects(path, name)
            target = _target(subjects, after=last, limit=PAGE, wait=WAIT_S)
            answer = ask(path, target, WAIT_S + ANSWER_S)
        except DaemonAbsent as absence:
            if not is_absent:
                print(f"vipd: {absence}; waiting for it", file=sys.stderr)
            is_absent, subjects = True, None
            time.sleep(AGAIN_S)
            continue
        is_absent = False
        last = answer["last"]
        _show(answer["events"], as_json)


# --- the file ---------------------------------------------------------------------------------


def _from_file(
    config: Path, name: str | None, since: float | None, most: int | None, absence: DaemonAbsent
) -> tuple[list[dict[str, Any]], int]:
    from vipd.adapters.journal_entry import Query
    from vipd.adapters.journal_file import read_copy

    path = journal_file(config)
    everything = 2**53
    query = Query(
        limit=everything if most is None else most,
        since=since,
        subjects=() if name is None else (name,),
    )
    try:
        found = read_copy(path, query)
        newest = read_copy(path, Query(limit=1))
    except VipdError as error:
        raise DaemonAbsent(f"{absence}, and its journal cannot be read: {error}") from error
    return [entry.as_values() for entry in found], newest[0].id if newest else 0
