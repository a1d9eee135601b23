"""Flaps with slow, failing and hanging hooks, and kill -9 in between. The hooks are the witnesses.

Three parts, usable apart (the whole daemon can take the driver's place):

* ``write_hook`` makes a hook that writes into a directory what it was given, looks whether another
  hook of its unit is alive, starts a child, and then misbehaves: slow, failing, hanging.
* ``python -m tests.hooks.torture DIR SEED FLAPS PAUSE_MS`` drives a runner through random roles
  and writes what it told it, and every ``HookEvent``.
* ``judge`` reads all that and says what is wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vipd.duties import HookPlan, HookSet, Occasion
from vipd.model import MILLISECOND_NS, Note, NoteKind
from vipd.supervisor.hooks import HookEvent, HookRunner

UNIT = "web"
STATES = ("MASTER", "BACKUP", "FAULT")
TIMEOUT_MS = 300
RETRIES = 2

HOOK = r"""#!/bin/sh
where={where}
for other in $where/alive/*; do
  # A dead process that nobody has reaped yet has no command line.
  if IFS= read -r line <"/proc/${{other##*/}}/cmdline" 2>/dev/null || [ -n "$line" ]; then
    echo "$VIPD_SEQUENCE beside ${{other##*/}}: $line" >>$where/overlaps
  fi
  line=
done
: >$where/alive/$$
sleep 1000 >/dev/null 2>&1 &
child=$!
: >$where/alive/$child
echo "start $VIPD_SEQUENCE $3 $VIPD_PREVIOUS" >>$where/runs
n=$(od -An -N1 -tu1 /dev/urandom)
status=0
case $((n % 10)) in
  0) status=1 ;;
  1) kill -SEGV $$ ;;
  2) trap '' TERM; sleep 1000 ;;
  3) sleep 1000 ;;
  4|5) sleep 0.1 ;;
esac
kill $child
rm -f $where/alive/$child $where/alive/$$
echo "end $VIPD_SEQUENCE $3 $status" >>$where/runs
exit $status
"""


def write_hook(where: Path) -> Path:
    (where / "alive").mkdir()
    hook = where / "hook"
    hook.write_text(HOOK.format(where=where))
    hook.chmod(0o755)
    return hook


# --- the driver -------------------------------------------------------------------------------


def plan_of(hook: Path) -> HookPlan:
    occasions = (Occasion.MASTER, Occasion.BACKUP, Occasion.FAULT, Occasion.ANY)
    commands = {occasion: (str(hook),) for occasion in occasions}
    return HookPlan(
        UNIT,
        (HookSet("INSTANCE", UNIT, commands, TIMEOUT_MS * MILLISECOND_NS, retries=RETRIES),),
    )


def write_line(path: Path, line: str) -> None:
    """One write, so that a kill cuts no line."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def event_line(event: HookEvent) -> str:
    shown = {
        "occasion": event.occasion.value,
        "state": event.state,
        "sequence": event.sequence,
        "outcome": event.outcome.value,
        "attempts": event.attempts,
    }
    return json.dumps(shown)


async def drive(where: Path, seed: int, flaps: int, pause_s: float) -> None:
    """Tell ``flaps`` roles, each another one than before, and wait until all is quiet."""
    chance = random.Random(seed)
    runner = HookRunner(
        "lb1",
        lambda event: write_line(where / "events", event_line(event)),
        runtime_dir=where / "run",
        state_dir=where,
        retry_pause_s=0.05,
    )
    runner.configure([plan_of(where / "hook")])
    state = "INIT"
    for _ in range(flaps):
        state = chance.choice([other for other in STATES if other != state])
        write_line(where / "told", state)
        fields = {"state": state, "reason": "torture", "priority": 100, "master": ""}
        runner.role(Note(NoteKind.ROLE, UNIT, fields))
        await asyncio.sleep(pause_s * chance.uniform(0, 2))
    while True:
        unit: Any = runner.status()[UNIT]
        if unit["telling"] is None and not unit["queued"]:
            break
        await asyncio.sleep(0.05)


# --- the judge --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    sequence: int
    state: str
    previous: str
    ended: bool


def runs_of(where: Path) -> list[Run]:
    """In the order in which the hooks started. A repeated run appears as often as it ran."""
    runs: list[Run] = []
    for line in (where / "runs").read_text().splitlines():
        what, sequence, state, rest = line.split()
        if what == "start":
            runs.append(Run(int(sequence), state, rest, ended=False))
        else:
            runs[-1] = Run(int(sequence), state, runs[-1].previous, ended=True)
    return runs


def events_of(where: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (where / "events").read_text().splitlines()]


def judge(where: Path, lives: int) -> list[str]:
    """What is wrong, in words. ``lives - 1`` of the drivers were killed."""
    wrong = []
    if (where / "overlaps").exists():
        wrong.append(f"two at once: {(where / 'overlaps').read_text()}")
    runs, events = runs_of(where), events_of(where)
    told = (where / "told").read_text().splitlines()
    if runs[-1].state != told[-1]:
        wrong.append(f"the last hook was told {runs[-1].state}, the last state is {told[-1]}")
    numbers = [run.sequence for run in runs]
    if numbers != sorted(numbers):
        wrong.append(f"out of order: {numbers}")
    wrong += chain_faults(runs, lives)
    reported: dict[int, list[dict[str, Any]]] = {}
    for event in events:
        reported.setdefault(event["sequence"], []).append(event)
    silent = {run.sequence for run in runs} - reported.keys()
    if silent:
        wrong.append(f"ran and was never reported: {sorted(silent)}")
    wrong += _report_faults(reported, len(told), lives)
    return wrong


def chain_faults(runs: list[Run], lives: int) -> list[str]:
    """Each state follows from the one told before it; each life begins at INIT."""
    wrong, before = [], runs[0]
    starts = 1 if runs[0].previous == "INIT" else 0
    for run in runs[1:]:
        if run.sequence == before.sequence:
            continue
        starts += run.previous == "INIT"
        if run.previous not in ("INIT", before.state):
            wrong.append(f"{run} follows {before}")
        before = run
    if starts > lives:
        wrong.append(f"{starts} beginnings in {lives} lives")
    return wrong


def _report_faults(reported: dict[int, list[dict[str, Any]]], told: int, lives: int) -> list[str]:
    """Every state that was told is reported for both of its hooks: it ran, was skipped, or lost.

    The driver writes down what it tells before it tells it: killed in between, it told nothing.
    """
    wrong = []
    if not told - (lives - 1) <= len(reported) <= told:
        wrong.append(f"{told} states told, {len(reported)} reported")
    # A report that was told and not settled when vipd was killed is followed by a second one.
    lost = [number for number, e in reported.items() if e[0]["outcome"] == "lost"]
    if len(lost) > 2 * (lives - 1):
        wrong.append(f"more lost than ran and waited when vipd was killed: {lost}")
    short = {
        number: e
        for number, e in reported.items()
        if {one["occasion"] for one in e} != {e[0]["state"].lower(), "any"}
    }
    if short:
        wrong.append(f"not both hooks reported: {short}")
    return wrong


def main() -> None:
    where, seed, flaps, pause_ms = sys.argv[1:]
    asyncio.run(drive(Path(where), int(seed), int(flaps), int(pause_ms) / 1000))


if __name__ == "__main__":
    main()
