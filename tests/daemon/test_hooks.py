"""Hooks on the whole daemon: torture first, then each promise by itself.

The witnesses are the files that the hooks write, the kernels and captured frames.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.daemon import flaps
from tests.daemon.flaps import Flapper
from tests.daemon.rig import (
    MS,
    PATIENCE_S,
    VIP,
    Daemon,
    Recorder,
    Wire,
    is_alive,
    kill,
    router,
    sleep_ms,
)
from vipd.lab.hosts import now_ns, wait_for
from vipd.lab.netns import Lab

pytestmark = pytest.mark.netns

OCCASIONS = ("master", "backup", "fault", "stop", "leaving")
TELL = """#!/bin/sh
# What it was told, and whether the VIP is here.
here=without
[ -z "$(ip -o -4 address show to {vip})" ] || here=with
echo "$VIPD_PREVIOUS>$VIPD_STATE $here $VIPD_REASON" >>{where}/told
"""


@pytest.mark.parametrize(
    ("seed", "strike", "lives", "in_group"),
    [
        (1, flaps.kill_both, 3, False),
        (2, flaps.kill_supervisor, 3, True),
        (3, flaps.kill_engine, 1, False),
        (4, flaps.kill_both, 3, True),
    ],
)
def test_the_last_hook_equals_the_final_state_whatever_flaps_and_dies(
    seed: int, strike: Callable[[Flapper], None], lives: int, in_group: bool
) -> None:
    with flaps.flappers(in_group) as (one, two):
        flaps.flap(one, two, seed, 100, strike)
        steps = 3 if in_group else 2
        assert flaps.judge(one, lives, steps) == []
        assert flaps.judge(two, 1, steps) == []


# --- the scene --------------------------------------------------------------------------------


class Hooked(Daemon):
    """``special``: what the hook of an occasion does after it has told."""

    special: dict[str, str]
    settings: dict[str, Any]

    @property
    def told(self) -> list[str]:
        """Lines of the hooks: ``PREVIOUS>STATE with|without REASON``."""
        path = self.host.directory / "told"
        return path.read_text().splitlines() if path.exists() else []

    def wait_told(self, line: str, count: int = 1) -> None:
        def seen() -> bool:
            return self.told.count(line) >= count

        try:
            wait_for(seen, PATIENCE_S, f"not told: {line}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; {self.told}\n{self.log.read_text()}") from None

    def hook(self, occasion: str) -> Path:
        return self.host.directory / f"hook-{occasion}"

    def write_hook(self, occasion: str, more: str = "") -> str:
        path = self.hook(occasion)
        path.write_text(TELL.format(vip=VIP, where=self.host.directory) + more + "\n")
        path.chmod(0o755)
        return str(path)

    def configuration(self) -> dict[str, object]:
        notify = {each: self.write_hook(each, self.special.get(each, "")) for each in OCCASIONS}
        duty = {"notify": {**notify, **self.settings}, "track": [{"check": "gate"}]}
        self._more = {"web": duty}
        return super().configuration()

    @property
    def gate(self) -> Path:
        return self.host.directory / "down"

    def journal(self, kind: str = "") -> list[dict[str, Any]]:
        told = self.cli("events", "--json", "-n", "1000", check=False).stdout
        entries = [json.loads(line) for line in told.splitlines()]
        return [entry for entry in entries if kind in ("", entry["kind"])]

    def hooks(self, occasion: str) -> list[dict[str, Any]]:
        """What the journal has of the hooks of one occasion."""
        fields: list[dict[str, Any]] = [entry["fields"] for entry in self.journal("hook")]
        return [each for each in fields if each["occasion"] == occasion]

    def alarms(self) -> list[str]:
        return [alarm["name"] for alarm in self.status()["alarms"]]


@contextmanager
def hooked(
    special: dict[str, str] | None = None,
    settings: dict[str, Any] | None = None,
    *,
    peer: bool = True,
) -> Iterator[tuple[Lab, Hooked, Daemon]]:
    """``lb1`` has the hooks, and is master; ``lb2``, without any, is its backup, if it runs."""
    with Lab(["lb1", "lb2"]) as lab:
        check = {"file": str(lab["lb1"].directory / "down"), "absent": True, "interval": "50ms"}
        extra: dict[str, object] = {"checks": {"gate": {**check, "rise": 1, "fall": 1}}}
        one = Hooked(lab["lb1"], router(150, interval_ms=100), extra)
        one.special, one.settings = special or {}, settings or {}
        two = Daemon(lab["lb2"], router(100, interval_ms=100))
        one.start()
        one.wait_ready()
        one.wait_holds()
        if peer:
            two.start()
            two.wait_ready()
        yield lab, one, two


# --- nothing waits for a hook -----------------------------------------------------------------

HANG = "trap '' TERM; echo $$ >>$(dirname $0)/pids; sleep 1000"


def test_a_hook_that_hangs_delays_no_advert_and_no_release() -> None:
    with hooked({"master": HANG}, {"timeout": "30s"}) as (lab, one, two):
        wire, kernel = Wire(lab, "lb1"), Recorder(one.host)
        one.wait_told("BACKUP>MASTER with master-silent")
        begin = now_ns()
        sleep_ms(2000)
        assert wire.largest_gap_ms("lb1", begin, now_ns()) < 340  # or lb2 would be master
        assert not two.holds_any()
        down = now_ns()
        one.gate.touch()
        two.wait_holds()
        goodbye = wire.wait_advert("lb1", down, priority=0)
        gone = next(event for event in kernel.addresses(VIP, down) if not event.added)
        assert gone.t_ns - down < 1000 * MS
        assert goodbye.t_ns - down < 1000 * MS
        assert one.status()["hooks"]["web"]["telling"] == "MASTER"
        assert one.status()["hooks"]["web"]["queued"] == ["FAULT"]


def test_a_hook_that_hangs_delays_the_end_by_its_share_and_the_stop_hook_runs() -> None:
    with hooked({"master": HANG}, {"timeout": "30s"}) as (_lab, one, two):
        wait_for((one.host.directory / "pids").exists, PATIENCE_S, "no hook")
        begin = time.monotonic()
        one.stop()
        two.wait_holds()
        released_s = time.monotonic() - begin
        assert one.wait() == 0
        # Up to five seconds for leaving, which the hung hook eats, and as many for the stop.
        assert released_s < 8 > time.monotonic() - begin - released_s
        assert one.told[-1] == "MASTER>STOP without stopped"
        (pid,) = (one.host.directory / "pids").read_text().split()
        assert not is_alive(int(pid))
        results = [(h["occasion"], h["result"]) for h in map(_fields, one.journal("hook"))]
        assert results[-3:] == [("leaving", "skipped"), ("master", "failed"), ("stop", "ok")]


def _fields(entry: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = entry["fields"]
    return fields


# --- leaving and stop -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "reason"),
    [(("switchover", "web"), "switchover"), (("maintenance", "on"), "maintenance")],
)
def test_leaving_runs_while_the_vip_is_still_here(command: tuple[str, ...], reason: str) -> None:
    with hooked({"leaving": "sleep 0.5"}) as (_lab, one, two):
        one.wait_told("BACKUP>MASTER with master-silent")
        kernel, begin = Recorder(one.host), now_ns()
        one.cli(*command)
        gone = next(event for event in kernel.addresses(VIP, begin) if not event.added)
        assert gone.t_ns - begin > 500 * MS
        assert two.holds()
        one.wait_told(f"MASTER>BACKUP without {reason}")
        assert one.told[-2:] == [f"MASTER>LEAVING with {reason}", f"MASTER>BACKUP without {reason}"]


def test_a_reload_that_takes_the_instance_away_lets_it_leave_and_stop() -> None:
    with hooked({"leaving": "sleep 0.5"}) as (_lab, one, two):
        one.wait_told("BACKUP>MASTER with master-silent")
        configuration: dict[str, Any] = one.configuration()
        configuration["instances"] = {
            "api": {
                "interface": "eth0",
                "vrid": 52,
                "priority": 100,
                "vips": ["192.0.2.101/24"],
            }
        }
        one.write(configuration)
        one.cli("reload")
        two.wait_holds()
        one.wait_told("MASTER>STOP without removed-from-configuration")
        assert one.told[-2:] == [
            "MASTER>LEAVING with removed-from-configuration",
            "MASTER>STOP without removed-from-configuration",
        ]


def test_stop_lets_it_leave_and_ends_after_its_stop_hook() -> None:
    slow = {"leaving": "sleep 0.5", "stop": 'sleep 0.5; echo "the end" >>$(dirname $0)/told'}
    with hooked(slow) as (_lab, one, two):
        one.wait_told("BACKUP>MASTER with master-silent")
        one.stop()
        assert one.wait() == 0
        assert two.holds()
        assert one.told[-3:] == [
            "MASTER>LEAVING with stopped",
            "MASTER>STOP without stopped",
            "the end",
        ]
        # nobody lives any more: the file tells it
        assert [hook["result"] for hook in one.hooks("leaving") + one.hooks("stop")] == ["ok"] * 2


def test_a_leaving_hook_that_hangs_has_its_time_and_no_more() -> None:
    with hooked({"leaving": HANG}, {"timeout": "1s"}) as (_lab, one, two):
        one.wait_told("BACKUP>MASTER with master-silent")
        begin = time.monotonic()
        one.cli("switchover", "web")
        assert 1 < time.monotonic() - begin < 15  # the hook itself would take 1000 s
        assert two.holds()
        # The release did not wait for its end, which takes a SIGKILL.
        wait_for(lambda: bool(one.hooks("leaving")), PATIENCE_S, "not in the journal")
        (hook,) = one.hooks("leaving")
        assert hook["result"] == "timed-out"
        (pid,) = (one.host.directory / "pids").read_text().split()
        assert not is_alive(int(pid))


# --- what is told -----------------------------------------------------------------------------


def test_the_state_in_which_a_unit_starts_is_told() -> None:
    with hooked(peer=False) as (_lab, one, _two):
        one.stop()
        one.wait()
        for prepare, line in (
            (one.gate.touch, "INIT>FAULT without check-failed"),
            (one.gate.unlink, "INIT>BACKUP without startup"),
        ):
            prepare()
            before = len(one.told)
            one.start()
            one.wait_told(line, one.told.count(line) + 1)
            assert one.told[before] == line
            one.stop()
            one.wait()


def test_an_engine_that_dies_as_master_is_told_as_master_again() -> None:
    with hooked(peer=False) as (_lab, one, _two):
        line = "BACKUP>MASTER with master-silent"
        one.wait_told(line)
        kill(one.engine)
        one.wait_told(line, 2)
        assert one.told[-2].startswith("MASTER>BACKUP without")


# --- failures ---------------------------------------------------------------------------------


def test_a_hook_that_fails_raises_an_alarm_until_a_later_change_succeeds() -> None:
    with hooked({"fault": "echo no such pool; exit 3"}) as (_lab, one, two):
        two.wait_state("BACKUP")
        one.wait_told("BACKUP>MASTER with master-silent")
        assert one.cli("status", "--check", check=False).returncode == 0
        one.gate.touch()
        wait_for(lambda: one.alarms() == ["hook-failed"], PATIENCE_S, "no alarm")
        checked = one.cli("status", "--check", check=False)
        assert checked.returncode == 1
        assert "hook-failed" in checked.stdout
        (failed,) = one.hooks("fault")
        assert (failed["result"], failed["status"]) == ("failed", 3)
        assert failed["output"] == "no such pool\n"
        one.gate.unlink()
        wait_for(lambda: one.alarms() == [], PATIENCE_S, "the alarm stays")
        assert one.cli("status", "--check", check=False).returncode == 0
        changes = [alarm["fields"]["change"] for alarm in one.journal("alarm")]
        assert changes == ["raised", "cleared"]


def test_a_hook_is_repeated_until_it_succeeds() -> None:
    twice = "[ $(grep -c '>MASTER' $(dirname $0)/told) -ge 3 ]"
    with hooked({"master": twice}, {"retries": 5}, peer=False) as (_lab, one, _two):
        one.wait_told("BACKUP>MASTER with master-silent", 3)
        wait_for(lambda: bool(one.hooks("master")), PATIENCE_S, "not in the journal")
        (told,) = one.hooks("master")
        assert (told["result"], told["attempt"]) == ("ok", 3)
        assert one.alarms() == []


def test_a_hook_that_others_could_change_is_refused_and_the_place_is_named() -> None:
    with hooked(peer=False) as (_lab, one, _two):
        one.wait_told("BACKUP>MASTER with master-silent")
        hook = one.hook("fault")
        hook.chmod(0o775)
        one.gate.touch()
        wait_for(lambda: one.alarms() == ["hook-failed"], PATIENCE_S, "no alarm")
        (refused,) = one.hooks("fault")
        assert refused["result"] == "refused"
        assert f"{hook} is writable by the group root" in refused["detail"]
        assert not any(">FAULT" in line for line in one.told)
        hook.chmod(0o755)  # judged at every run
        one.gate.unlink()
        wait_for(lambda: any("BACKUP>MASTER" in line for line in one.told[2:]), PATIENCE_S, "away")
        one.gate.touch()
        wait_for(lambda: any(">FAULT" in line for line in one.told), PATIENCE_S, "not run")
        wait_for(lambda: one.alarms() == [], PATIENCE_S, "the alarm stays")


def test_hooks_come_and_go_by_reload_without_a_word_about_the_role_that_stands() -> None:
    """The next change is told, and the leaving of a master; that hooks are gone is no stop."""
    with hooked() as (_lab, one, two):
        one.wait_told("BACKUP>MASTER with master-silent")
        whole = one.config.read_text()
        bare = yaml.safe_load(whole)
        del bare["instances"]["web"]["notify"]
        one.write(bare)
        one.cli("reload")
        before = one.told
        sleep_ms(500)
        one.write(whole)
        one.cli("reload")
        sleep_ms(500)
        assert one.told == before
        one.cli("switchover", "web")
        two.wait_holds()
        one.wait_told("MASTER>BACKUP without switchover")
        assert one.told[-2:] == [
            "MASTER>LEAVING with switchover",
            "MASTER>BACKUP without switchover",
        ]
