"""``vipd events`` on whole daemons: over restarts, kill -9 and a full disk."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.rig import PATIENCE_S, Daemon, Wire, router, sleep_ms
from vipd.lab.hosts import now_ns, wait_for
from vipd.lab.netns import Lab
from vipd.lab.peers import vipd_command

pytestmark = pytest.mark.netns

CHECKS = 40


class Chatty(Daemon):
    """Many checks on one file: each change of it is as many events. Nothing tracks them."""

    @property
    def file(self) -> Path:
        return self.host.directory / "there"

    def chatter(self, changes: int) -> None:
        for _ in range(changes):
            if self.file.exists():
                self.file.unlink()
            else:
                self.file.touch()
            sleep_ms(60)

    def told(self, *options: str) -> list[dict[str, Any]]:
        done = self.cli("events", "--json", *options)
        return [json.loads(line) for line in done.stdout.splitlines()]


def chatty(lab: Lab) -> Chatty:
    check = {"file": str(lab["lb1"].directory / "there"), "interval": "20ms", "fall": 1, "rise": 1}
    extra: dict[str, object] = {"checks": {f"c{n}": check for n in range(CHECKS)}}
    return Chatty(lab["lb1"], router(150, interval_ms=100), extra)


@contextmanager
def running() -> Iterator[tuple[Lab, Chatty]]:
    with Lab(["lb1"]) as lab:
        daemon = chatty(lab)
        daemon.start()
        daemon.wait_ready()
        daemon.wait_holds()
        yield lab, daemon


def ids_of(entries: list[dict[str, Any]]) -> list[int]:
    return [entry["id"] for entry in entries]


def grows(numbers: list[int]) -> bool:
    return all(a < b for a, b in pairwise(numbers))


def kinds_of(entries: list[dict[str, Any]]) -> set[str]:
    return {entry["kind"] for entry in entries}


def starts_of(entries: list[dict[str, Any]]) -> int:
    texts = [entry["fields"]["text"] for entry in entries if entry["kind"] == "daemon"]
    return sum(text.startswith("started") for text in texts)


# --- what is told -----------------------------------------------------------------------------


def test_events_tell_what_happened_with_cause_and_time() -> None:
    with running() as (_lab, one):
        # The kernel has the address before the journal tells of it.
        wait_for(lambda: _masterships(one) > 0, PATIENCE_S, "the mastership is not told")
        begin = datetime.now()
        one.file.touch()
        wait_for(lambda: len(_healthy(one)) == CHECKS, PATIENCE_S, "not all are healthy")
        everything = one.told("-n", "1000")
        assert kinds_of(everything) >= {"daemon", "engine", "transition", "role", "check"}
        assert grows(ids_of(everything))
        master = [e for e in everything if e["kind"] == "transition"][-1]
        assert (master["subject"], master["fields"]["to"]) == ("web", "MASTER")
        assert master["cause"] == "master-silent"
        recent = one.told("--since", begin.isoformat())
        assert kinds_of(recent) == {"check"}
        assert recent == [entry for entry in everything if entry["time"] > begin.timestamp()]
        words = one.cli("events", "web", "-n", "1").stdout
        assert words.count("\n") == 1
        assert "web" in words


def _masterships(daemon: Chatty) -> int:
    roles = [entry for entry in daemon.told("-n", "1000") if entry["kind"] == "role"]
    return sum(entry["fields"]["state"] == "MASTER" for entry in roles)


def _healthy(daemon: Daemon) -> list[str]:
    checks = daemon.status()["checks"]
    return [name for name, check in checks.items() if check["healthy"]]


def test_follow_goes_on_over_kill_9_and_restart_and_misses_nothing() -> None:
    with running() as (_lab, one):
        argv = [*vipd_command(), "events", "--follow", "--json", "--config", str(one.config)]
        follower = one.host.spawn(argv, "followed")
        log = one.host.directory / "followed"

        def followed() -> list[dict[str, Any]]:
            lines = log.read_text().splitlines()
            return [json.loads(line) for line in lines if line.startswith("{")]

        wait_for(lambda: "role" in kinds_of(followed()), PATIENCE_S, "nothing is followed")
        one.kill()
        one.start()
        wait_for(lambda: starts_of(followed()) == 2, PATIENCE_S, "it does not go on")
        one.wait_ready()
        one.stop()
        assert one.wait() == 0
        one.start()
        one.wait_ready()
        one.file.touch()
        wait_for(lambda: len(_healthy(one)) == CHECKS, PATIENCE_S, "not all are healthy")
        kept = one.told("-n", "10000")
        wait_for(lambda: followed()[-1]["id"] >= kept[-1]["id"], PATIENCE_S, "it lags")
        assert follower.poll() is None
        known = [e for e in followed() if e["id"] <= kept[-1]["id"]]
        assert known == kept[-len(known) :]
        assert starts_of(known) == 3
        assert "waiting for it" in log.read_text()


# --- deaths -----------------------------------------------------------------------------------


def test_kill_9_in_a_storm_of_events_leaves_a_file_that_is_read_and_gone_on_with() -> None:
    with running() as (_lab, one):
        lives = []
        for life in range(3):
            one.chatter(12 + life)
            one.kill()
            done = one.cli("events", "--json", "-n", "100000")
            assert "no daemon" in done.stderr.lower() or "not running" in done.stderr.lower()
            entries = [json.loads(line) for line in done.stdout.splitlines()]
            assert grows(ids_of(entries))
            assert starts_of(entries) == life + 1
            assert len([e for e in entries if e["kind"] == "check"]) > CHECKS
            lives.append(entries)
            one.start()
            one.wait_ready()
        kept = one.told("-n", "100000")
        for earlier in lives:
            assert kept[: len(earlier)] == earlier
        assert grows(ids_of(kept))


# --- a full disk ------------------------------------------------------------------------------


@contextmanager
def small_disk(where: Path) -> Iterator[Path]:
    """A file system of a few hundred KiB, full; yields the file whose end makes room."""
    where.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(where)], check=True)
    try:
        yield where / "ballast"
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(ballast: Path) -> None:
    with ballast.open("ab", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def test_a_full_disk_costs_entries_and_an_alarm_and_nothing_else() -> None:
    with Lab(["lb1"]) as lab, small_disk(lab["lb1"].directory / "state") as ballast:
        one = chatty(lab)
        one.start()
        one.wait_ready()
        one.wait_holds()
        wire = Wire(lab)
        fill(ballast)
        begin = now_ns()
        one.chatter(8)
        wait_for(lambda: alarms(one) == ["journal-not-written"], PATIENCE_S, "no alarm")
        assert one.cli("status", "--check", check=False).returncode == 1
        one.chatter(4)
        live = one.told("-n", "10000")  # from memory
        assert len([e for e in live if e["kind"] == "check"]) > 4 * CHECKS
        assert wire.largest_gap_ms("lb1", begin, now_ns()) < 360
        ballast.unlink()
        wait_for(lambda: alarms(one) == [], PATIENCE_S, "the alarm stays")
        one.chatter(1)
        sleep_ms(200)
        one.kill()
        kept = one.told("-n", "10000")
        assert kept[: len(live)] == live
        changes = [e["fields"]["change"] for e in kept if e["kind"] == "alarm"]
        assert changes == ["raised", "cleared"]


def alarms(daemon: Daemon) -> list[str]:
    return [alarm["name"] for alarm in daemon.status()["alarms"]]


def test_a_daemon_starts_on_a_full_disk() -> None:
    with Lab(["lb1"]) as lab, small_disk(lab["lb1"].directory / "state") as ballast:
        fill(ballast)
        one = chatty(lab)
        one.start()
        one.wait_ready()
        one.wait_holds()
        both = {"journal-not-written", "identity-not-kept"}
        wait_for(lambda: set(alarms(one)) == both, PATIENCE_S, "no alarms")
        assert starts_of(one.told("-n", "1000")) == 1
        ballast.unlink()
        wait_for(lambda: alarms(one) == [], PATIENCE_S, "the alarm stays")
        one.stop()
        assert one.wait() == 0
        assert starts_of(one.told("-n", "1000")) == 1
