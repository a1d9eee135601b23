"""``vipd explain``: what moves an instance, and what would move it."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.cli.conftest import BACKUP, MASTER, FakeDaemon
from vipd.cli.app import app
from vipd.cli.prospects import arithmetic, prospects
from vipd.core.track import Tracker, effective_priority
from vipd.model import Contribution, Health, Reason, State, Track, TrackKind, Verdict
from vipd.snapshots import InstanceSnapshot, MasterSnapshot
from vipd.supervisor.status import instance_status

BOTH = (Health.HEALTHY, Health.UNHEALTHY)


def weighed(
    shot: InstanceSnapshot, *tracks: tuple[Track, Health, int | None], base: int = 150
) -> InstanceSnapshot:
    """``shot`` as the core weighs these tracks."""
    verdicts = {track.name: Verdict(track.name, health, number) for track, health, number in tracks}
    judged = Tracker(tuple(track for track, *_ in tracks)).judge(
        verdicts, lambda name: verdicts[name].health is Health.HEALTHY, 0
    )
    return replace(
        shot,
        tracks=judged.tracks,
        contributions=judged.contributions,
        priority_base=base,
        priority_effective=effective_priority(base, judged.contributions),
    )


def check(name: str = "nginx", weight: int | None = -60, **more: Any) -> Track:
    return Track(TrackKind.CHECK, name, weight, **more)


def told(shot: InstanceSnapshot, label: str, **shown: Any) -> list[str]:
    values = instance_status(shot, 0, 0.0)
    given = {"instances": {shot.name: values}} | shown
    return [text for found, text in prospects(shot.name, values, given, 0.0) if found == label]


def explain(daemon: FakeDaemon, name: str) -> str:
    result = CliRunner().invoke(app, ["explain", name, "--config", str(daemon.config)])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("weight", [-60, 60, -254, 253, 1])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("health", BOTH)
def test_the_priority_that_is_foretold_is_the_one_that_comes(
    weight: int, reverse: bool, health: Health
) -> None:
    """Whatever the core would make of the other health, that is what explain says."""
    other = next(each for each in BOTH if each is not health)
    second = (check("db", 30), Health.HEALTHY, None)
    track = check(weight=weight, reverse=reverse)
    (text, _) = told(weighed(MASTER, (track, health, None), second), "what if")
    comes = weighed(MASTER, (track, other, None), second).priority_effective
    assert text.partition(": ")[2].split(";")[0].rstrip(".") == f"priority {comes}"


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("health", BOTH)
def test_the_fault_that_is_foretold_is_the_one_that_comes(reverse: bool, health: Health) -> None:
    other = next(each for each in BOTH if each is not health)
    track = check(weight=None, reverse=reverse)
    judged = Tracker((track,)).judge({"nginx": Verdict("nginx", other)}, lambda _: True, 0)
    (text,) = told(weighed(MASTER, (track, health, None)), "what if")
    assert ("FAULT" in text) is bool(judged.faults)


def test_a_master_says_what_would_cost_its_mastership() -> None:
    shot = weighed(
        MASTER,
        (check(), Health.HEALTHY, None),
        (check("drain", 5, reverse=True), Health.UNHEALTHY, None),
        (Track(TrackKind.INTERFACE, "eth1"), Health.HEALTHY, None),
    )
    assert told(shot, "what if") == [
        "if nginx fails: priority 90; a backup above 90 takes the mastership (at 90: by address).",
        "if drain is healthy again: priority 145; a backup above 145 takes the mastership "
        "(at 145: by address).",
        "if interface eth1 fails: FAULT, and its mastership goes to any other host.",
    ]


def test_a_backup_measures_itself_against_its_master() -> None:
    following = replace(BACKUP, master=MasterSnapshot("", "192.0.2.11", 120))
    low = weighed(following, (check(), Health.UNHEALTHY, None))
    assert told(low, "what if") == [
        "if nginx is healthy again: priority 150, above the master's 120: it takes over."
    ]
    patient = replace(low, preempt=False)
    assert told(patient, "what if") == [
        "if nginx is healthy again: priority 150, above the master's 120."
    ]
    high = weighed(following, (check(), Health.HEALTHY, None))
    assert told(high, "what if") == [
        "if nginx fails: priority 90, no longer above the master's 120."
    ]
    slight = weighed(following, (check(weight=-10), Health.UNHEALTHY, None), base=100)
    assert told(slight, "what if") == [
        "if nginx is healthy again: priority 100, not above the master's 120 either way."
    ]


def test_nothing_is_foretold_of_what_is_not_known() -> None:
    unknown = weighed(BACKUP, (check(), Health.UNKNOWN, None))
    assert told(unknown, "what if") == [
        "before the first verdict of nginx nobody knows what it will be worth."
    ]
    number = weighed(BACKUP, (check("load", 2), Health.HEALTHY, -7))
    assert told(number, "what if") == []
    assert told(number, "tracks") == ["load: healthy, its number -7 times 2 is worth -14."]


def test_tracks_come_with_their_verdict_and_their_worth() -> None:
    shot = weighed(
        MASTER,
        (check(), Health.UNHEALTHY, None),
        (check("drain", None, reverse=True), Health.UNHEALTHY, None),
        (Track(TrackKind.INTERFACE, "eth1", 20), Health.HEALTHY, None),
    )
    verdict = {"verdict": "timed-out", "since": -12.0, "detail": "no end within 500 ms"}
    assert told(shot, "tracks", checks={"nginx": verdict}) == [
        "nginx: timed-out for 12s (no end within 500 ms), weight -60, worth -60 now.",
        "drain: unhealthy, without a weight: FAULT while healthy.",
        "interface eth1: healthy, weight +20, worth +20 now.",
    ]


def priority(base: int, effective: int, *weights: int) -> str:
    parts = [Contribution(f"c{weight}", weight) for weight in weights]
    shot = replace(
        BACKUP, priority_base=base, priority_effective=effective, contributions=tuple(parts)
    )
    return arithmetic(instance_status(shot, 0, 0.0)["priority"])


def test_the_sum_is_shown_and_where_it_is_out_of_bounds() -> None:
    assert priority(150, 150) == "150, as configured."
    assert priority(150, 95, -60, 5) == "95: 150 as configured, c-60 -60, c5 +5."
    assert priority(50, 1, -60) == "1: 50 as configured, c-60 -60 = -10, kept within 1 to 254."
    assert priority(255, 255, -60) == "255: 255 as configured, c-60 -60; 255 stays 255."


def test_a_better_backup_owes_a_reason(daemon: FakeDaemon) -> None:
    better = replace(BACKUP, priority_base=200, priority_effective=200)
    daemon.instances = [replace(better, preempt=False)]
    assert "stays back its priority 200 is above the master's 150, but `preempt: false`" in (
        explain(daemon, "web")
    )
    daemon.instances = [better]
    assert "takes over by itself, at once or when `preempt_delay`" in explain(daemon, "web")
    daemon.instances = [replace(better, held=True)]
    assert "stays back its mastership was given away on purpose" in explain(daemon, "web")
    assert "priority decides again by `vipd switchover web --auto`." in explain(daemon, "web")
    daemon.more = {"holds": {"web": {"since": 0.0, "until": time.time() + 60}}}
    assert re.search(r"decides again at \d\d:\d\d:\d\d, or by", explain(daemon, "web"))
    daemon.instances = [BACKUP]
    assert "stays back" not in explain(daemon, "web")


def test_maintenance_is_told_and_how_it_ends(daemon: FakeDaemon) -> None:
    daemon.instances = [
        replace(BACKUP, reason=Reason.MAINTENANCE, detail="", priority_effective=200)
    ]
    daemon.more = {"maintenance": {"since": time.time(), "until": None, "by": "uid 0"}}
    text = explain(daemon, "web")
    assert "why maintenance: This node is in maintenance" in text
    assert "until it is ended (by uid 0). `vipd maintenance off` ends it." in text
    assert "stays back" not in text


def test_a_member_names_its_group_and_who_is_in_it(daemon: FakeDaemon) -> None:
    daemon.instances = [replace(BACKUP, unit="edge"), replace(MASTER, unit="edge")]
    assert "group edge, with api: its members are master, backup" in explain(daemon, "web")
    daemon.instances = [replace(BACKUP, unit="edge")]
    assert "group edge, alone: its members" in explain(daemon, "web")
    daemon.instances = [replace(BACKUP, unit="web")]
    assert "group" not in explain(daemon, "web")


def test_who_waits_for_a_verdict_says_for_which(daemon: FakeDaemon) -> None:
    waiting = replace(BACKUP, state=State.INIT, reason=Reason.CHECK_PENDING, detail="nginx")
    daemon.instances = [replace(waiting, deadline_ns=None, master=None)]
    text = explain(daemon, "web")
    assert "why waiting-for-checks (nginx): A check has not given its first verdict" in text
    assert "waits for the first verdict of nginx; then it starts as a backup." in text


def test_alarms_about_it_and_what_it_tracks_are_told(daemon: FakeDaemon) -> None:
    shot = weighed(BACKUP, (check(), Health.HEALTHY, None))
    daemon.instances = [replace(shot, unit="edge")]
    failed = {"name": "hook-failed", "subject": "edge", "detail": "exit 3", "cure": "Mend it."}
    stale = {"name": "stale-checks", "subject": "nginx", "detail": "hangs", "cure": "Look."}
    other = {"name": "hook-failed", "subject": "api", "detail": "x", "cure": "y"}
    since = time.time() - 60
    daemon.more = {"alarms": [each | {"since": since} for each in (failed, stale, other)]}
    text = explain(daemon, "web")
    assert "alarm hook-failed for 1m00s: exit 3. Mend it." in text
    assert "stale-checks for 1m00s: hangs. Look." in text
    assert text.count("hook-failed") == 1
