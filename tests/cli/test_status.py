"""``vipd status``: what it shows, as text, table and JSON, and what ``--check`` fails for."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.cli.conftest import BACKUP, FAULT, MASTER, PROGRAM, FakeDaemon, vipd
from vipd.cli.app import app
from vipd.cli.wording import moment, span
from vipd.model import Health, State, TrackKind
from vipd.snapshots import TrackSnapshot


def status(daemon: FakeDaemon, *options: str) -> str:
    result = CliRunner().invoke(app, ["status", "--config", str(daemon.config), *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_one_line_for_the_node_and_one_for_each_instance(daemon: FakeDaemon) -> None:
    node, heading, web, api = status(daemon).splitlines()
    assert node == (
        "lb2: vipd 1.2.3, up 1h05m, engine 77, 2 engine restarts, realtime: nice -20, "
        "memory: locked, configuration 3 of /etc/vipd.yaml"
    )
    assert heading.split() == [
        *("INSTANCE", "STATE", "FOR", "SINCE", "REASON", "PRIO", "MASTER", "VIPS", "NEXT")
    ]
    clock = r"\d\d:\d\d:\d\d"
    assert re.fullmatch(
        rf"web +BACKUP +4m12s +{clock} +higher-priority-heard +100 +192\.0\.2\.11 \(150\) +"
        r"0/2 +takes over in 3\.2s",
        web,
    )
    assert re.fullmatch(
        rf"api +MASTER +4m12s +{clock} +master-silent +150 +this host +1/1 +"
        r"next advert in 0\.6s",
        api,
    )


def test_columns_are_aligned_and_nothing_is_cut(daemon: FakeDaemon) -> None:
    daemon.instances = [replace(BACKUP, name="n" * 120), MASTER]
    heading, *rows = status(daemon).splitlines()[1:]
    for word, column in (("BACKUP", rows[0]), ("MASTER", rows[1])):
        assert column.index(word) == heading.index("STATE")
    assert "n" * 120 in rows[0]


def test_a_weighed_priority_shows_its_base(daemon: FakeDaemon) -> None:
    daemon.instances = [replace(BACKUP, priority_effective=40)]
    assert " 40 (base 100) " in status(daemon)


def check(**values: Any) -> dict[str, Any]:
    return {"verdict": "healthy", "since": time.time() - 60, "last_ms": 1.234, "detail": "200"} | (
        values
    )


def test_each_check_has_a_line_below_the_instances(daemon: FakeDaemon) -> None:
    hangs = {"verdict": "timed-out", "detail": "no end within 500 ms", "stale": True}
    daemon.more = {
        "checks": {
            "nginx": check(),
            "db": check(**hangs, last_ms=None),
            "load": check(number=-7, detail="/run/load"),
        }
    }
    heading, *rows = status(daemon).splitlines()[5:]
    assert heading.split() == ["CHECK", "VERDICT", "FOR", "LAST", "DETAIL"]
    assert [row.split(maxsplit=3) for row in rows] == [
        ["nginx", "healthy", "1m00s", "1.2ms  200"],
        ["db", "timed-out", "1m00s", "stale: no end within 500 ms"],
        ["load", "healthy", "1m00s", "1.2ms  -7: /run/load"],
    ]


def test_maintenance_stands_above_everything(daemon: FakeDaemon) -> None:
    since = time.time() - 60
    daemon.more = {"maintenance": {"since": since, "until": since + 1800, "by": "uid 0"}}
    clock = r"\d\d:\d\d:\d\d"
    assert re.fullmatch(
        rf"MAINTENANCE: this node takes no mastership, since {clock}, until {clock} \(by uid 0\)",
        status(daemon).splitlines()[1],
    )
    daemon.more = {"maintenance": {"since": since, "until": None, "by": "uid 0"}}
    assert "until it is ended (by uid 0)" in status(daemon)


def test_an_instance_names_its_group(daemon: FakeDaemon) -> None:
    daemon.instances = [replace(BACKUP, unit="edge"), replace(MASTER, unit="api")]
    rows = status(daemon).splitlines()[2:]
    assert [row.partition("  ")[0] for row in rows] == ["web [edge]", "api"]


def test_json_has_the_tracks_and_what_the_unit_is(daemon: FakeDaemon) -> None:
    track = TrackSnapshot("nginx", TrackKind.CHECK, Health.UNHEALTHY, -60, False, -60)
    daemon.instances = [replace(BACKUP, unit="edge", tracks=(track,), held=True, preempt=False)]
    shown = json.loads(status(daemon, "--json"))["instances"]["web"]
    assert (shown["unit"], shown["group"]) == ("edge", "edge")
    assert (shown["held"], shown["preempt"]) == (True, False)
    assert shown["tracks"] == [
        {
            **{"name": "nginx", "kind": "check", "health": "unhealthy", "number": None},
            **{"weight": -60, "reverse": False, "contribution": -60},
        }
    ]


def test_faults_are_told_below(daemon: FakeDaemon) -> None:
    daemon.instances = [FAULT]
    lines = status(daemon).splitlines()
    assert "none heard" in lines[2]
    assert lines[2].endswith("waits for the faults to end")
    assert lines[3] == "FAULT: db: interface-down: eth1, vip-keeps-vanishing: 192.0.2.102/24"


def test_old_news_is_marked_by_its_age(daemon: FakeDaemon) -> None:
    daemon.more = {"age_ms": 12_000.0}
    output = status(daemon)
    assert "STALE: the engine does not answer; this is what it said 12s ago" in output
    assert "takes over in 0.0s" in output  # its time has come long ago


def test_before_the_engine_has_spoken(daemon: FakeDaemon) -> None:
    daemon.more = {"age_ms": None, "instances": {}, "engine": {"pid": None, "restarts": 0}}
    output = status(daemon)
    assert "no engine, 0 engine restarts, realtime: not known yet" in output
    assert "no instances" in output
    assert "STALE: the engine has not said anything yet" in output


def test_json_is_the_daemons_own(daemon: FakeDaemon) -> None:
    shown = json.loads(status(daemon, "--json"))
    assert shown["instances"]["api"]["state"] == "MASTER"
    assert shown["counters"]["web"]["discarded"]["ttl"] == 0
    assert list(shown["engine"]) == ["pid", "restarts", "realtime", "memory"]


ALARM = {"name": "foreign-master", "since": 0, "subject": "web", "detail": "192.0.2.7", "cure": "x"}


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_check_says_what_is_wrong_and_exits_1(daemon: FakeDaemon, form: tuple[str, ...]) -> None:
    daemon.instances = [MASTER, FAULT]
    daemon.more = {"alarms": [ALARM], "age_ms": 2_500.0}
    result = vipd("status", "--check", *form, "--config", daemon.config)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "wrong: the engine does not answer; this is what it said 2.5s ago",
        "wrong: alarm foreign-master (web: 192.0.2.7)",
        "wrong: db is in FAULT: interface-down: eth1, vip-keeps-vanishing: 192.0.2.102/24",
    ]
    assert "ALARM: foreign-master: web: 192.0.2.7: x" in result.stdout or form


def test_alarms_that_say_the_same_are_one_line_and_a_cure_stands_once(daemon: FakeDaemon) -> None:
    subjects = [f"v{number}" for number in range(9)]
    other = ALARM | {"subject": "x", "detail": "192.0.2.8"}
    daemon.more = {"alarms": [*(ALARM | {"subject": each} for each in subjects), other]}
    assert status(daemon).splitlines()[-2:] == [
        "ALARM: foreign-master: v0, v1, v2, v3, v4, v5 and 3 more: 192.0.2.7: x",
        "ALARM: foreign-master: x: 192.0.2.8",
    ]


def test_check_of_a_healthy_node_is_silent(daemon: FakeDaemon) -> None:
    result = vipd("status", "--check", "--config", daemon.config)
    assert (result.returncode, result.stderr) == (0, "")


def test_without_check_trouble_is_no_failure(daemon: FakeDaemon) -> None:
    daemon.instances = [FAULT]
    assert vipd("status", "--config", daemon.config).returncode == 0


def on_terminal(daemon: FakeDaemon, columns: int) -> str:
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "COLUMNS": str(columns)}
    command = [*PROGRAM, "status", "--config", str(daemon.config)]
    subprocess.run(command, stdout=theirs, env=environment, timeout=60, check=True)
    os.close(theirs)
    output = os.read(ours, 65_536).decode()
    os.close(ours)
    return output


def test_a_terminal_gets_a_coloured_table(daemon: FakeDaemon) -> None:
    half = replace(MASTER, name="half", vips=(*MASTER.vips, BACKUP.vips[0]))
    daemon.instances = [BACKUP, MASTER, FAULT, replace(BACKUP, name="x", state=State.INIT), half]
    output = on_terminal(daemon, 200)
    assert "\x1b[1;32mMASTER\x1b[0m" in output
    assert "\x1b[36mBACKUP\x1b[0m" in output
    assert "\x1b[1;31mFAULT\x1b[0m" in output
    assert output.count("\x1b[33m1/2") == 1
    assert "\x1b[33m1/1" not in output
    assert "SINCE" in output


def test_a_terminal_gets_the_checks_in_colours(daemon: FakeDaemon) -> None:
    daemon.more = {
        "checks": {"nginx": check(), "db": check(verdict="failed", detail="refused")},
        "maintenance": {"since": time.time(), "until": None, "by": "uid 0"},
    }
    output = on_terminal(daemon, 120)
    assert "\x1b[32mhealthy\x1b[0m" in output
    assert "\x1b[1;31mfailed\x1b[0m" in output
    assert "\x1b[1;33mMAINTENANCE: this node takes no mastership" in output


def test_a_narrow_terminal_keeps_the_values_whole(daemon: FakeDaemon) -> None:
    output = on_terminal(daemon, 80)
    assert "SINCE" not in output
    assert "192.0.2.11 (150)" in output
    assert "4m12s" in output


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0s"),
        (0.04, "0.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.6, "1m00s"),
        (252, "4m12s"),
        (3900, "1h05m"),
        (86_400 * 12 + 3600 * 4, "12d4h"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_moment_of_another_day_has_its_date() -> None:
    assert re.fullmatch(r"\d\d:\d\d:\d\d", moment(1e9, 1e9 + 100))
    assert re.fullmatch(r"2001-09-0\d \d\d:\d\d:\d\d", moment(1e9, 1e9 + 100_000))


def test_monitoring_is_cheap(daemon: FakeDaemon) -> None:
    """A check that runs every few seconds loads no large library but typer's own (pydantic)."""
    program = (
        "import sys\nfrom vipd.cli.app import app\n"
        f"app(['status', '--check', '--config', {str(daemon.config)!r}], standalone_mode=False)\n"
        "print({'pyroute2', 'scapy', 'aiohttp', 'structlog'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.splitlines()[-1] == "set()"
