"""A death that nobody notices: the will of an engine is carried out, once, and when it is dead."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.daemon import will_torture
from tests.daemon.rig import (
    MS,
    PATIENCE_S,
    VIP,
    Daemon,
    Recorder,
    Wire,
    holders,
    is_alive,
    kill,
    pair,
    router,
    sleep_ms,
)
from vipd.lab.cluster import Cluster
from vipd.lab.hosts import now_ns, wait_for
from vipd.lab.netns import Lab
from vipd.model import Instant

pytestmark = pytest.mark.netns

INTERVAL_MS = 1000
"""Three of them, and the skew: silence takes 3.4 s to be noticed, far more than any bound here."""


@contextmanager
def cluster_pair(extra: dict[str, object] | None = None) -> Iterator[tuple[Lab, Daemon, Daemon]]:
    """As ``pair``, in cluster mode, and each knows the other."""
    with Lab(["lb1", "lb2"]) as lab:
        cluster = Cluster([lab["lb1"], lab["lb2"]])
        one = Daemon(lab["lb1"], router(150, interval_ms=INTERVAL_MS), extra, cluster=cluster)
        two = Daemon(lab["lb2"], router(100, interval_ms=INTERVAL_MS), extra, cluster=cluster)
        for daemon in (one, two):
            daemon.start()
        one.wait_ready()
        one.wait_state("MASTER")
        two.wait_state("BACKUP")
        wait_for(lambda: _knows(one, "lb2") and _knows(two, "lb1"), PATIENCE_S, "strangers")
        yield lab, one, two


def _knows(daemon: Daemon, other: str) -> bool:
    return bool(daemon.status()["cluster"]["nodes"][other]["alive"])


def became_master(daemon: Daemon) -> list[str]:
    """The reasons, in order."""
    return [each["reason"] for each in daemon.events("transition") if each["to"] == "MASTER"]


def removed_at(kernel: Recorder, since_ns: Instant) -> Instant:
    return next(event.t_ns for event in kernel.addresses(VIP, since_ns) if not event.added)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV])
def test_the_named_successor_takes_over_at_once(number: signal.Signals) -> None:
    with cluster_pair() as (_lab, one, two):
        sleep_ms(1500)  # a nonce or two
        gone, taken = Recorder(one.host), Recorder(two.host)
        old, begin = one.engine, now_ns()
        kill(old, number)
        wait_for(two.holds, PATIENCE_S, "not taken over")
        added = next(each.t_ns for each in taken.addresses(VIP, begin) if each.added)
        assert added - begin < 900 * MS, "the silence of its heartbeats would take longer"
        assert removed_at(gone, begin) - begin < 800 * MS
        assert not is_alive(old)
        two.wait_event("claimed")
        assert became_master(two) == ["handed-over"]
        will = one.wait_event("last-will")
        assert (will["told"], will["goodbyes"], will["refusals"]) == (["lb2"], ["web"], [])
        wait_for(lambda: holders(one, two) == {"lb1"}, PATIENCE_S, "it does not come back")
        assert len(one.events("last-will")) == 1


def test_without_a_cluster_priority_zero_is_said_after_the_removal() -> None:
    with pair(interval_ms=INTERVAL_MS) as (lab, one, two):
        kernel, wire = Recorder(one.host), Wire(lab)
        begin = now_ns()
        kill(one.engine)
        two.wait_holds()
        taken = now_ns()
        goodbye = wire.wait_advert("lb1", begin, priority=0)
        assert taken - begin < 1500 * MS
        # The recorder may be late, the switch is not.
        assert removed_at(kernel, begin) - goodbye.t_ns < 20 * MS
        sleep_ms(300)
        zeros = [each for each in wire.adverts("lb1", begin) if each.priority == 0]
        assert len(zeros) == 1


def test_both_killed_release_speaks_for_them() -> None:
    with cluster_pair({"address_lifetime": "60s"}) as (_lab, one, two):
        sleep_ms(1500)
        one.kill()
        assert one.holds_any()
        said = one.cli("release").stdout
        assert "removed 192.0.2.100" in said
        assert "told lb2 that lb1/" in said
        assert not one.holds_any()
        two.wait_holds()
        assert "priority 0" not in one.cli("release").stdout
        sleep_ms(500)
        assert two.state() == "MASTER"


def test_release_keeps_off_a_live_daemon_and_a_live_engine() -> None:
    with cluster_pair() as (lab, one, two):
        assert one.cli("release", check=False).returncode != 0
        # From where its name is free, but not its page.
        stranger = Daemon(lab.client, router(100), {"runtime_dir": str(one.host.directory / "run")})
        stranger.command()
        refused = stranger.cli("release", check=False)
        assert refused.returncode != 0
        assert "another vipd" in refused.stderr
        sleep_ms(300)
        assert holders(one, two) == {"lb1"}
        assert became_master(two) == []


def test_a_clean_stop_leaves_no_will() -> None:
    with cluster_pair() as (_lab, one, two):
        one.stop()
        assert one.wait() == 0
        two.wait_holds()
        assert one.events("last-will") == []
        assert one.cli("release").stdout == ""


def test_a_supervisor_that_dies_leaves_an_engine_that_hands_over() -> None:
    with cluster_pair() as (_lab, one, two):
        sleep_ms(1500)
        engine, begin = one.engine, now_ns()
        kill(one.supervisor)
        two.wait_holds()
        assert now_ns() - begin < 900 * MS
        two.wait_event("claimed")
        assert became_master(two) == ["handed-over"]
        wait_for(lambda: not is_alive(engine), PATIENCE_S, "the engine stays")
        assert one.cli("release").stdout == ""


@pytest.mark.alone
def test_whatever_dies_at_any_moment() -> None:
    begin = time.monotonic()
    steps, tombstones = will_torture.run(60, seed=int(begin))
    assert steps.total() >= 20, "too slow to mean anything"
    assert tombstones > 0
