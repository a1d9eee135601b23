"""Every engine is a life of its own, whose number is kept; a full disk keeps no engine from it."""

from __future__ import annotations

import pytest

from tests.daemon.rig import PATIENCE_S, Daemon, kill, router
from tests.daemon.test_journal import fill, small_disk
from vipd.lab.hosts import wait_for
from vipd.lab.netns import Lab

pytestmark = pytest.mark.netns

ALARM = "identity-not-kept"


def incarnation(daemon: Daemon) -> int:
    return int((daemon.host.directory / "state" / "incarnation").read_text())


def has_alarm(daemon: Daemon) -> bool:
    return ALARM in {alarm["name"] for alarm in daemon.status()["alarms"]}


def next_engine(daemon: Daemon) -> None:
    """The one that lives dies, and the next one is master."""
    old = daemon.engine
    kill(old)
    daemon.wait_engine(other_than=old)
    daemon.wait_holds()


def test_a_number_for_every_engine_also_on_a_full_disk() -> None:
    with Lab(["lb1"]) as lab, small_disk(lab["lb1"].directory / "state") as ballast:
        one = Daemon(lab["lb1"], router(150, interval_ms=100))
        one.start()
        one.wait_ready()
        one.wait_holds()
        first = incarnation(one)
        next_engine(one)
        second = incarnation(one)
        assert second > first
        fill(ballast)
        next_engine(one)
        wait_for(lambda: has_alarm(one), PATIENCE_S, "no alarm")
        assert incarnation(one) == second
        ballast.unlink()
        wait_for(lambda: not has_alarm(one), PATIENCE_S, "the alarm stays")
        third = incarnation(one)
        assert third > second
        one.stop()
        assert one.wait() == 0
        one.start()
        one.wait_ready()
        assert incarnation(one) > third
