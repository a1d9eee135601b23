"""Cluster mode under the packaged unit: restarts, deaths and an upgrade, as a client sees them.

Outages are printed to the tenth of a millisecond and judged loosely: the machine that runs the
tests may be busy, and ``scripts/bench cluster`` is what measures. The bounds still tell whether
the successor was *named*: without that it waits for the heartbeat timeout, which is set to 20 s
where it matters.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.systemd import clustered
from tests.systemd.clustered import Seen, Shop, events, incarnation
from tests.systemd.pair import CONFIG as PLAIN
from tests.systemd.pair import INSTALL, VIP, Pair, engine_pid, stopped_log
from tests.systemd.rig import Host, wait_for
from vipd.lab.hosts import now_ns
from vipd.will import PAGE_SIZE

pytestmark = [pytest.mark.realroot, pytest.mark.timeout(400)]

NAMED_MS = 1000.0
"""A successor that is named takes milliseconds; the rest is for a busy machine."""

RELEASE_MS = 4000.0
"""If both processes die, `vipd release` has to start first."""


def configure(host: Host, text: str) -> None:
    host.write("/etc/vipd.yaml", text)
    host.run("systemctl", "reload", "vipd")


@pytest.fixture(scope="module")
def cluster(running: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two hosts that run in plain mode get the section, one after the other; and lose it again."""
    better, other = running.hosts
    for host in running.hosts:
        host.write("/etc/vipd.yaml", PLAIN)
        host.run("systemctl", "restart", "vipd")
    better.run("vipd", "keygen")
    key = better.run("cat", clustered.KEY_FILE)
    other.write(clustered.KEY_FILE, key)
    other.run("chmod", "600", clustered.KEY_FILE)
    with Shop(running, tmp_path_factory.mktemp("shop")) as shop:
        for host in (other, better):
            configure(host, clustered.CONFIG)
        yield shop
    for host in (other, better):
        configure(host, PLAIN)


@pytest.fixture
def shop(cluster: Shop) -> Shop:
    cluster.rest()
    return cluster


def there_and_back(shop: Shop, since_ns: int, what: str, named_ms: float = NAMED_MS) -> Seen:
    """The other node took over, and the better one came back; neither move waited for a timeout."""
    shop.wait_moves(2, since_ns)
    shop.wait_served_by(shop.better)
    seen = shop.seen(since_ns)
    print(f"{what}: {seen}")
    assert seen.hosts == ["lb2", "lb1"]
    assert seen.moves[0].outage_ms < named_ms
    assert seen.moves[1].outage_ms < NAMED_MS
    assert seen.total_ms < named_ms + 2 * NAMED_MS
    return seen


def reasons(host: Host) -> list[str]:
    """Why it became master, each time."""
    return [each["reason"] for each in events(host, "transition") if each["to"] == "MASTER"]


# -- the sandbox ----------------------------------------------------------------------------------


def test_sandbox_lets_a_cluster_work(shop: Shop) -> None:
    for host in (shop.better, shop.other):
        assert "198.51.100." in host.run("ss", "-Hlun", "sport", "=", "3112")
        assert host.run("stat", "--format=%a %U %s", "/run/vipd/will") == f"600 root {PAGE_SIZE}\n"
        assert host.run("stat", "--format=%a %U", clustered.KEY_FILE) == "600 root\n"
        assert incarnation(host) > 0
        host.run("vipd", "status", "--check")  # not an alarm


# -- what an operator does ------------------------------------------------------------------------


def test_restart(shop: Shop) -> None:
    before, lives = shop.better.property("MainPID"), incarnation(shop.better)
    start_ns = now_ns()
    shop.better.run("systemctl", "restart", "vipd")
    there_and_back(shop, start_ns, "restart")
    assert shop.better.property("MainPID") != before
    assert incarnation(shop.better) > lives
    assert reasons(shop.other)[-1] == "handed-over"
    assert reasons(shop.better)[-1] == "handed-over"


def test_stop_and_start(shop: Shop) -> None:
    stops = len(stopped_log(shop.better))
    start_ns = now_ns()
    shop.better.run("systemctl", "stop", "vipd")
    assert VIP not in shop.better.addresses()
    assert stopped_log(shop.better)[stops:][0].startswith("success:")
    shop.better.run("test", "-e", "/run/vipd/will")  # what is to be said outlives the service
    shop.wait_served_by(shop.other)
    shop.better.run("systemctl", "start", "vipd")
    there_and_back(shop, start_ns, "stop, start")


def test_upgrade_of_both_nodes(shop: Shop) -> None:
    """As documented: the other node first. Each is restarted once; and not for nothing."""
    start_ns = now_ns()
    for host in (shop.other, shop.better):
        before = host.property("MainPID")
        with open(host.tree / "root/vipd/vipd/__init__.py", "a") as module:
            module.write("\n# a later version\n")
        host.run(*INSTALL, timeout_s=180)
        after = host.property("MainPID")
        assert after != before
        assert "versions" in host.run("readlink", "/opt/vipd/venv")
        assert "nothing changed" in host.run(*INSTALL)
        assert host.property("MainPID") == after
    there_and_back(shop, start_ns, "upgrade of both")


# -- deaths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [clustered.CONFIG, clustered.SLOW_CONFIG], ids=["300ms", "20s"])
def test_everything_killed(shop: Shop, config: str) -> None:
    """Nobody is left but ExecStopPost: it removes the VIP and says the last will.

    systemd kills one after the other, and who lives a millisecond longer would act for the dead.
    So all are stopped first.
    """
    for host in (shop.other, shop.better):
        configure(host, config)
    shop.rest()
    lives, stops = incarnation(shop.better), len(stopped_log(shop.better))
    start_ns = now_ns()
    shop.better.run("systemctl", "kill", "--signal=STOP", "vipd")
    shop.better.run("systemctl", "kill", "--signal=KILL", "vipd")
    there_and_back(shop, start_ns, "everything killed", RELEASE_MS)
    last_stop = stopped_log(shop.better)[stops]
    assert last_stop.startswith("signal:")
    assert VIP not in last_stop
    log = shop.better.run("journalctl", "--unit=vipd", "--output=cat", "--lines=100")
    assert f"removed {VIP}" in log
    assert "told lb2 that lb1/" in log
    if config == clustered.SLOW_CONFIG:
        assert reasons(shop.other)[-1] == "handed-over"
    assert incarnation(shop.better) > lives


def test_engine_killed(shop: Shop) -> None:
    main, stops = shop.better.property("MainPID"), len(stopped_log(shop.better))
    lives = incarnation(shop.better)
    start_ns = now_ns()
    shop.better.run("sh", "-c", f"kill -KILL {engine_pid(shop.better)}")
    there_and_back(shop, start_ns, "engine killed")
    assert reasons(shop.other)[-1] == "handed-over"
    assert shop.better.property("MainPID") == main
    assert len(stopped_log(shop.better)) == stops
    assert incarnation(shop.better) > lives


def test_supervisor_killed(shop: Shop) -> None:
    engine, stops = engine_pid(shop.better), len(stopped_log(shop.better))
    start_ns = now_ns()
    shop.better.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "vipd")
    there_and_back(shop, start_ns, "supervisor killed")
    assert reasons(shop.other)[-1] == "handed-over"
    assert stopped_log(shop.better)[stops].startswith("signal:")
    assert not shop.better.succeeds("test", "-e", f"/proc/{engine}")


def test_supervisor_frozen(shop: Shop) -> None:
    """The watchdog of systemd guards the supervisor as the supervisor guards the engine.

    The engine serves until then, and hands over.
    """
    stops, main = len(stopped_log(shop.better)), shop.better.property("MainPID")
    start_ns = now_ns()
    shop.better.run("systemctl", "kill", "--signal=STOP", "--kill-whom=main", "vipd")
    wait_for(lambda: len(stopped_log(shop.better)) > stops, "the watchdog acts", limit_s=30)
    there_and_back(shop, start_ns, "supervisor frozen")
    assert stopped_log(shop.better)[stops].startswith("watchdog:")
    assert shop.better.property("MainPID") not in ("0", main)
    assert reasons(shop.other)[-1] == "handed-over"
