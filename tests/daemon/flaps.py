"""Mastership that flaps under misbehaving hooks on whole daemons, and a judge of what came of it.

``lb1`` (priority 100) and ``lb2`` (200) each follow a file: while it is there the node is in FAULT.
So the file of ``lb1`` moves it between FAULT and the rest, that of ``lb2`` between MASTER and
BACKUP. The hooks are those of ``tests.hooks.torture``: slow, failing, crashing, hanging; they write
down what they were given, and whether another hook of their unit was alive.

The judge knows three things: what the hooks wrote, what ``vipd events`` tells, and what the kernel
holds in the end. Each role that the journal has was told to hooks, skipped or lost, and says so.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, groupby, pairwise
from pathlib import Path
from typing import Any

from tests.daemon.rig import Daemon, kill, router
from tests.hooks import torture
from vipd.lab.hosts import wait_for
from vipd.lab.netns import Lab

INTERVAL_MS = 20
SETTLE_S = 45.0
"""A hook that hangs takes 2.3 s, and has retries with growing pauses."""

STRIKES = 2
LEFT_ALONE = ("stopped", "removed-from-configuration")
RAN = ("ok", "failed", "timed-out")
GROUP = "edge"


class Flapper(Daemon):
    """A daemon whose hooks misbehave. ``unit``: what moves."""

    unit = "web"

    @property
    def where(self) -> Path:
        """What the hooks write."""
        return self.host.directory / "hooks"

    @property
    def gate(self) -> Path:
        """There: FAULT."""
        return self.host.directory / "down"

    def toggle(self) -> None:
        if self.gate.exists():
            self.gate.unlink()
        else:
            self.gate.touch()

    def journal(self) -> list[dict[str, Any]]:
        told = self.cli("events", "--json", "-n", "100000").stdout
        return [json.loads(line) for line in told.splitlines()]

    def role(self) -> str:
        """From the kernel and the file, not from vipd."""
        if self.gate.exists():
            return "FAULT"
        return "MASTER" if self.holds() else "BACKUP"

    def answers(self) -> bool:
        """The newest daemon does, and its engine has been asked."""
        try:
            return self.state() != "INIT"
        except (OSError, KeyError):
            return False

    def runs(self) -> int:
        """How many began so far."""
        runs = self.where / "runs"
        return runs.read_text().count("start") if runs.exists() else 0

    def is_quiet(self) -> bool:
        shown = self.status()["hooks"][self.unit]
        return shown["telling"] is None and not shown["queued"]


def _flapper(lab: Lab, name: str, priority: int, in_group: bool) -> Flapper:
    host = lab[name]
    where = host.directory / "hooks"
    where.mkdir()
    hook = str(torture.write_hook(where))
    notify = dict.fromkeys(("master", "backup", "fault", "any"), hook)
    duty = {
        "track": [{"check": "gate"}],
        "notify": {**notify, "timeout": f"{torture.TIMEOUT_MS}ms", "retries": 1},
    }
    gate = {"file": str(host.directory / "down"), "absent": True, "interval": "20ms"}
    extra: dict[str, Any] = {"checks": {"gate": {**gate, "rise": 1, "fall": 1}}}
    web = router(priority, interval_ms=INTERVAL_MS)
    if not in_group:
        return Flapper(host, web, extra, (), {"web": duty})
    api = router(priority, ("192.0.2.101/24",), INTERVAL_MS, vrid=52)
    extra["groups"] = {GROUP: {"instances": ["web", "api"], **duty}}
    flapper = Flapper(host, web, extra, (("api", api),), {"api": {"notify": {"any": hook}}})
    flapper.unit = GROUP
    return flapper


@contextmanager
def flappers(in_group: bool) -> Iterator[tuple[Flapper, Flapper]]:
    """Both run, and their first state is told."""
    with Lab(["lb1", "lb2"]) as lab:
        one, two = (_flapper(lab, name, *rest, in_group) for name, *rest in _NODES)
        for each in (one, two):
            each.start()
        for each in (one, two):
            each.wait_ready()
        two.wait_holds()
        yield one, two


_NODES = (("lb1", 100), ("lb2", 200))


def flap(
    one: Flapper, two: Flapper, seed: int, flaps: int, strike: Callable[[Flapper], None]
) -> None:
    """About ten a second. ``strike`` twice at ``one``, each time at a life that has run hooks.

    Ends when nothing moves any more.
    """
    chance = random.Random(seed)
    wait_for(one.runs, SETTLE_S, "no hook runs")
    struck, runs = 0, 0
    for number in count():
        if struck < STRIKES and number > flaps * (struck + 1) / 3 and one.runs() > runs:
            strike(one)
            struck, runs = struck + 1, one.runs()
        if struck == STRIKES and number >= flaps:
            break
        chance.choice((one, two)).toggle()
        time.sleep(chance.uniform(0, 0.2))
    wait_for(one.answers, SETTLE_S, f"does not answer: {one.log}")
    wait_for(lambda: _rests(one, two), SETTLE_S, f"it does not come to rest:\n{one.log}")


def _rests(*all_of_them: Flapper) -> bool:
    """Hooks and roles, over more time than a takeover and a check take."""

    def seen() -> list[object]:
        return [(each.role(), each.state(), each.is_quiet(), each.runs()) for each in all_of_them]

    before = seen()
    time.sleep(20 * INTERVAL_MS / 1000)
    return before == seen() and all(each.is_quiet() for each in all_of_them)


def kill_both(victim: Flapper) -> None:
    victim.kill()
    victim.start()


def kill_supervisor(victim: Flapper) -> None:
    """Its engine may still be busy with its end when the next one starts."""
    kill(victim.supervisor, signal.SIGKILL)
    victim.process.wait()
    victim.start()


def kill_engine(victim: Flapper) -> None:
    kill(victim.wait_engine(), signal.SIGKILL)


# --- the judge --------------------------------------------------------------------------------


def judge(node: Flapper, lives: int, steps: int = 2) -> list[str]:
    """What is wrong, in words; ``steps``: hooks for each role."""
    wrong = []
    overlaps = node.where / "overlaps"
    if overlaps.exists():
        wrong.append(f"two at once: {overlaps.read_text()}")
    runs, journal = torture.runs_of(node.where), node.journal()
    if runs[-1].state != node.role():
        wrong.append(f"the last hook was told {runs[-1].state}, the node is {node.role()}")
    numbers = [run.sequence for run in runs]
    if numbers != sorted(numbers):
        wrong.append(f"out of order: {numbers}")
    wrong += torture.chain_faults(runs, lives)
    entries = [entry for entry in journal if entry["kind"] == "hook"]
    hooks = [{"entry": entry, **entry["fields"]} for entry in entries]
    wrong += _run_faults(runs, hooks) + _role_faults(roles_of(journal, node.unit), hooks, steps)
    ids = [entry["id"] for entry in journal]
    if any(a >= b for a, b in pairwise(ids)):
        wrong.append(f"ids of events do not grow: {ids}")
    return wrong


def _run_faults(runs: list[torture.Run], hooks: list[dict[str, Any]]) -> list[str]:
    """What the files say and what the journal says are the same runs."""
    wrong = []
    for sequence, found in groupby(runs, lambda run: run.sequence):
        ran = len(list(found))
        told = [hook for hook in hooks if hook["sequence"] == sequence]
        attempts = sum(hook["attempt"] for hook in told if hook["result"] in RAN)
        lost = any(hook["result"] == "lost" for hook in told)
        if not told:
            wrong.append(f"{sequence} ran {ran} times, and no event says so")
        elif ran > attempts and not lost:
            wrong.append(f"{sequence} ran {ran} times, events tell {attempts}: {told}")
    unseen = {hook["sequence"] for hook in hooks if hook["result"] == "ok"}
    unseen -= {run.sequence for run in runs}
    if unseen:
        wrong.append(f"said to have run, and did not: {sorted(unseen)}")
    return wrong


def roles_of(journal: list[dict[str, Any]], unit: str) -> list[list[str]]:
    """The roles that hooks must have been told, by life: each that is another one than before.

    A life begins at INIT. An engine that died as master makes a repetition news.
    """
    lives: list[list[str]] = [[]]
    state, interrupted = "INIT", False
    for entry in journal:
        fields = entry["fields"]
        if entry["kind"] == "daemon" and fields["text"].startswith("started"):
            state, interrupted = "INIT", False
            lives.append([])
        elif entry["kind"] == "engine" and fields["text"] == "died":
            interrupted = state == "MASTER"
        elif entry["kind"] == "role" and entry["subject"] == unit:
            if fields["state"] == state and not interrupted:
                continue
            state, interrupted = fields["state"], False
            if fields["reason"] not in LEFT_ALONE:
                lives[-1].append(state)
    return lives


def _may_be_told(lives: list[list[str]]) -> list[list[str]]:
    """Whoever is killed between a role and its hook has told nobody; its next life begins anew."""
    ways: list[list[str]] = [[]]
    for life in lives[:-1]:
        ways = [way + told for way in ways for told in (life, life[:-1])]
    return [way + lives[-1] for way in ways]


def _role_faults(roles: list[list[str]], hooks: list[dict[str, Any]], steps: int) -> list[str]:
    """Each role has its events, for each of its hooks, in order; none is lost silently."""
    wrong = []
    found: dict[int, list[dict[str, Any]]] = {}
    for hook in hooks:
        found.setdefault(hook["sequence"], []).append(hook)
    told = [(sequence, found[sequence][0]["state"]) for sequence in sorted(found)]
    if [state for _, state in told] not in _may_be_told(roles):
        wrong.append(f"roles and events differ:\nroles  {roles}\nevents {told}")
    short = [
        (sequence, [(one["occasion"], one["result"], one["detail"]) for one in each])
        for sequence, each in found.items()
        if len({(one["name"], one["occasion"]) for one in each})
        != (steps if each[0]["state"] != "INIT" else steps - 1)
    ]
    if short:
        wrong.append(f"not all hooks of a role have an event: {short}")
    return wrong
