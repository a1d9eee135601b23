"""The demo's table, computed from three files and nothing else.

::

    client-probes.log     the 1 kHz client's log: every probe, every answer    (see client.py)
    switch-frames.pcapng  VRRP and ARP as the switch saw them, by port         (see capture.py)
    steps.json            what the demo did when, and what it expected

Nothing that a daemon said about itself enters. Per step and VIP:

* *outage*: the longest time without an answer that touches the step's window;
* *holder*: who answered in the last part of the window. The switch must agree: of the hosts that
  are not cut off, this one and no other sent an advert of the VIP's router within the last
  interval, and said no goodbye after it.

A step is as expected when every VIP has the one holder that it should have, the outage of a VIP
that had to move is within the time allowed (RFC 9568 §6.1: skew time after a goodbye, master down
interval after silence; before it what a check takes) plus a second for a busy machine, and the
others stayed served.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vipd.lab.capture import read_capture
from vipd.lab.outages import Answer, Outage, longest_outage, read_answers
from vipd.lab.timeline import SeenAdvert, advert_in, milliseconds
from vipd.model import MILLISECOND_NS, SECOND_NS, Duration, Instant

FRAMES = "frames.pcapng"
PROBES, CAPTURE, STEPS = "client-probes.log", f"switch-{FRAMES}", "steps.json"
TABLE = "table.txt"

SLACK_NS = SECOND_NS
"""A busy machine, not the daemon, may add this; a real fault costs seconds."""

_FINAL_NS = 300 * MILLISECOND_NS
_LATE_NS = 200 * MILLISECOND_NS  # an advert may be late by this


@dataclass(frozen=True, slots=True)
class Watched:
    """A virtual router whose VIP the client asks."""

    name: str
    vip: str
    vrid: int
    interval_ns: Duration


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was done to the pair; ``allowed`` is the time, by router that moves.

    ``holders`` is who should have each router afterwards, ``cut`` who was off the network then.
    """

    title: str
    start_ns: Instant
    end_ns: Instant
    holders: Mapping[str, str]
    allowed: Mapping[str, Duration]
    cut: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """What a demo did: the content of ``steps.json``."""

    clock_offset_ns: Duration
    watched: tuple[Watched, ...]
    steps: tuple[Step, ...]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Cell:
    """A VIP in a step."""

    router: str
    outage: Outage
    allowed_ns: Duration | None
    holder: str
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    cells: tuple[Cell, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        return tuple(f"{self.title}: {fault}" for cell in self.cells for fault in cell.faults)


def read_run(path: Path) -> Run:
    """``steps.json`` as it was written."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Run(
        clock_offset_ns=content["clock_offset_ns"],
        watched=tuple(Watched(**entry) for entry in content["watched"]),
        steps=tuple(Step(**{**entry, "cut": tuple(entry["cut"])}) for entry in content["steps"]),
    )


def judge(directory: Path) -> tuple[Row, ...]:
    """The table, from the files in a directory."""
    run = read_run(directory / STEPS)
    answers = read_answers(directory / PROBES)
    frames = read_capture(directory / CAPTURE, run.clock_offset_ns)
    adverts = [advert for advert in map(advert_in, frames) if advert is not None]
    return tuple(
        Row(
            step.title,
            tuple(
                _cell(step, watched, answers.get(watched.vip, []), adverts)
                for watched in run.watched
            ),
        )
        for step in run.steps
    )


def _cell(
    step: Step, watched: Watched, answers: Sequence[Answer], adverts: Sequence[SeenAdvert]
) -> Cell:
    outage = longest_outage(answers, step.start_ns, step.end_ns)
    serving = _serving(step, answers)
    speaking = _speaking(step, watched, adverts)
    allowed_ns = step.allowed.get(watched.name)
    faults = []
    expected = {step.holders[watched.name]}
    if serving != expected:
        faults.append(f"{watched.vip} is served by {_names(serving)}, not by {_names(expected)}")
    if speaking != expected:
        faults.append(f"{watched.name}: adverts of {_names(speaking)}, not of {_names(expected)}")
    if outage.length_ns > (allowed_ns or 0) + SLACK_NS:
        faults.append(f"{watched.vip} was unserved for {milliseconds(outage.length_ns)}")
    return Cell(watched.name, outage, allowed_ns, _names(serving), tuple(faults))


def _names(hosts: set[str]) -> str:
    return " and ".join(sorted(hosts)) or "nobody"


def _serving(step: Step, answers: Sequence[Answer]) -> set[str]:
    since_ns = step.end_ns - _FINAL_NS
    return {answer.host for answer in answers if since_ns < answer.received_ns <= step.end_ns}


def _speaking(step: Step, watched: Watched, adverts: Sequence[SeenAdvert]) -> set[str]:
    """The connected hosts that are masters at the end of a step, by their adverts."""
    since_ns = step.end_ns - watched.interval_ns - _LATE_NS
    latest = {
        advert.port: advert
        for advert in adverts
        if advert.vrid == watched.vrid and since_ns < advert.t_ns <= step.end_ns
    }
    return {port for port, advert in latest.items() if advert.priority > 0 and port not in step.cut}


# --- what is shown ----------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells."""
    names = [cell.router for cell in rows[0].cells]
    heads = ["event", *(f"{name}\noutage" for name in names), "allowed"]
    heads += [*(f"{name}\nat" for name in names), "ok"]
    return heads, [_cells(row) for row in rows]


def _cells(row: Row) -> list[str]:
    allowed = [
        f"{cell.router} {milliseconds(cell.allowed_ns)}" for cell in row.cells if cell.allowed_ns
    ]
    return [
        row.title,
        *(milliseconds(cell.outage.length_ns) for cell in row.cells),
        ", ".join(allowed) or "-",
        *(cell.holder for cell in row.cells),
        "NO" if row.faults else "yes",
    ]
