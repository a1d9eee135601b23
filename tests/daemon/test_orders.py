"""``vipd switchover`` and ``vipd maintenance`` on whole daemons.

What the commands say is read from their output; where the VIP is, from the kernels.
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.daemon.rig import (
    MS,
    PATIENCE_S,
    VIP,
    Daemon,
    Recorder,
    add_address,
    holders,
    kill,
    pair,
    router,
    single,
    sleep_ms,
)
from vipd.lab.hosts import now_ns, wait_for
from vipd.lab.netns import Lab
from vipd.lab.peers import Keepalived, Speaker

pytestmark = pytest.mark.netns

API = "192.0.2.110"
Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """The daemon's answer, as the command would print it."""

    done: bool
    sentence: str
    warning: str = ""


def order(daemon: Daemon, *words: str) -> Said:
    """As the command line sends it, without its start; ``test_..._by_the_command`` has that."""
    command, name, *options = words
    given = dict(zip(options[::2], options[1::2], strict=False))
    body: dict[str, Any] = {"force": "--force" in options}
    if "--for" in given:
        body["for_s"] = float(given["--for"].removesuffix("s"))
    if command == "maintenance":
        body["on"] = name == "on"
    else:
        body |= {"instance": name, "auto": "--auto" in options, "to": given.get("--to")}
    status, answer = daemon.ask(f"/{command}", "POST", 30.0, body)
    if status != 200:
        assert status == 409, answer
        return Said(False, answer["error"])
    return Said(answer["done"], answer["sentence"], answer["warning"])


def obeyed(daemon: Daemon, *words: str) -> str:
    said = order(daemon, *words)
    assert (said.done, said.warning) == (True, ""), said
    return said.sentence


def refused(daemon: Daemon, *words: str) -> str:
    """What it says to a no."""
    said = order(daemon, *words)
    assert not said.done
    return said.sentence


def stays(*daemons: Daemon, at: str, ms: float = 800) -> None:
    """One holder, and the same for longer than any takeover takes here."""
    wait_for(lambda: holders(*daemons) == {at}, PATIENCE_S, f"{at} is not the one holder")
    for _ in range(8):
        sleep_ms(ms / 8)
        assert holders(*daemons) == {at}


def journal(daemon: Daemon, kind: str) -> list[dict[str, Any]]:
    told = daemon.cli("events", "--json", "-n", "1000").stdout
    return [e for e in map(json.loads, told.splitlines()) if e["kind"] == kind]


def start_again(daemon: Daemon) -> None:
    daemon.start()
    daemon.wait_ready()


def test_by_the_command() -> None:
    with pair(interval_ms=100) as (_lab, one, two):
        done = one.cli("switchover", "web", "--for", "1h")
        assert "192.0.2.12 took over" in done.stdout
        done = one.cli("switchover", "web", check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("vipd: web: this node is BACKUP, not master")
        assert "in maintenance" in one.cli("maintenance", "on").stdout
        assert "maintenance is over" in one.cli("maintenance", "off").stdout
        one.cli("switchover", "web", "--auto")
        stays(one, two, at="lb1", ms=200)


# --- switchover -------------------------------------------------------------------------------


def test_a_switchover_is_kept_although_this_node_is_the_better_one() -> None:
    with pair(interval_ms=100) as (_lab, one, two):
        kernel, begin = Recorder(two.host), now_ns()
        assert "192.0.2.12 took over" in obeyed(one, "switchover", "web")
        stays(one, two, at="lb2")
        one.kill()
        start_again(one)
        stays(one, two, at="lb2")
        one.stop()
        assert one.wait() == 0
        start_again(one)
        stays(one, two, at="lb2")
        assert [event.added for event in kernel.addresses(VIP, begin)].count(False) == 0
        assert list(one.status()["holds"]) == ["web"]
        obeyed(one, "switchover", "web", "--auto")
        stays(one, two, at="lb1")
        (command,) = [
            e for e in journal(one, "command") if e["fields"]["command"].endswith("--auto")
        ]
        assert command["cause"].startswith("uid 0, pid ")


def test_a_switchover_ends_after_its_time() -> None:
    with pair(interval_ms=100) as (_lab, one, two):
        obeyed(one, "switchover", "web", "--for", "3s")
        stays(one, two, at="lb2")
        stays(one, two, at="lb1")
        assert journal(one, "hold-ended")[-1]["cause"] == "its time is over"


def test_a_switchover_ends_when_the_other_master_is_lost() -> None:
    with pair(interval_ms=100) as (_lab, one, two):
        obeyed(one, "switchover", "web")
        two.kill()
        one.wait_holds()
        wait_for(lambda: not one.status()["holds"], PATIENCE_S, "the hold stays")
        start_again(two)
        stays(one, two, at="lb1")


@pytest.mark.parametrize("lost", ["stopped", "unplugged"])
def test_a_switchover_to_nobody_is_refused_and_costs_nothing(lost: str) -> None:
    with pair(interval_ms=100) as (lab, one, two):
        kernel = Recorder(one.host)
        if lost == "stopped":
            two.stop()
            two.wait()
        else:
            lab.link_down("lb2")
        assert "web: nobody who could take over answered" in refused(one, "switchover", "web")
        assert [event for event in kernel.addresses(VIP) if not event.added] == []
        # Forced, it comes back by itself, and nothing of the order is left.
        assert "nobody took over; this node is master again" in refused(
            one, "switchover", "web", "--force"
        )
        one.wait_holds()
        assert one.status()["holds"] == {}
        assert [event.added for event in kernel.addresses(VIP)][-2:] == [False, True]


def test_a_backup_and_a_node_that_is_not_there_are_no_target() -> None:
    with pair(interval_ms=100) as (_lab, one, two):
        assert "this node is BACKUP, not master" in refused(two, "switchover", "web")
        assert "the file names no other node" in refused(one, "switchover", "web", "--to", "lb9")
        assert "there is no instance or group www" in refused(one, "switchover", "www")
        stays(one, two, at="lb1", ms=200)


@pytest.mark.interop
@pytest.mark.parametrize(
    ("words", "undo"),
    [
        (("switchover", "web"), ("switchover", "web", "--auto")),
        (("maintenance", "on"), ("maintenance", "off")),
    ],
)
def test_keepalived_takes_over_and_keeps_it(words: Words, undo: Words) -> None:
    with Lab(["lb1", "lb2"]) as lab:
        one: Daemon = Daemon(lab["lb1"], router(150))
        two: Speaker = Keepalived(lab["lb2"], router(100))
        for speaker in (one, two):
            speaker.start()
            speaker.wait_ready()
        one.wait_holds()
        assert "192.0.2.12 took over" in obeyed(one, *words)
        for _ in range(10):
            sleep_ms(150)
            assert two.holds()
            assert not one.holds_any()
        obeyed(one, *undo)
        one.wait_holds()
        wait_for(lambda: not two.holds_any(), PATIENCE_S, "keepalived keeps it")


# --- maintenance ------------------------------------------------------------------------------


def test_maintenance_lasts_until_it_is_off_whatever_restarts() -> None:
    with pair(interval_ms=100) as (_lab, one, two):
        obeyed(one, "maintenance", "on")
        stays(one, two, at="lb2", ms=400)
        one.kill()
        start_again(one)
        stays(one, two, at="lb2", ms=400)
        # A reboot: everything in /run is gone.
        one.kill()
        shutil.rmtree(one.host.directory / "run")
        start_again(one)
        stays(one, two, at="lb2", ms=400)
        # It takes nothing, even if nobody else is there.
        two.stop()
        two.wait()
        sleep_ms(1000)
        assert holders(one, two) == set()
        assert one.status()["maintenance"]["until"] is None
        obeyed(one, "maintenance", "off")
        one.wait_holds()


def test_maintenance_ends_by_itself() -> None:
    with pair(interval_ms=100) as (_lab, one, two):
        obeyed(one, "maintenance", "on", "--for", "2s")
        stays(one, two, at="lb2", ms=400)
        stays(one, two, at="lb1", ms=400)
        assert journal(one, "maintenance-ended")[-1]["cause"] == "its time is over"
        assert one.status()["maintenance"] is None


def test_maintenance_that_ended_while_nobody_ran_is_over() -> None:
    with pair(interval_ms=100) as (_lab, one, two):
        obeyed(one, "maintenance", "on", "--for", "1s")
        one.kill()
        sleep_ms(1000)
        start_again(one)
        stays(one, two, at="lb1", ms=400)


def test_maintenance_without_a_successor_is_refused_unless_it_is_forced() -> None:
    with single() as (_lab, one):
        kernel = Recorder(one.host)
        assert "nobody who could take over answered" in refused(one, "maintenance", "on")
        assert kernel.addresses(VIP) == [e for e in kernel.addresses(VIP) if e.added]
        assert one.status()["maintenance"] is None
        obeyed(one, "maintenance", "on", "--force")
        assert not one.holds_any()
        start = now_ns()
        sleep_ms(800)
        assert not one.holds_any()
        assert now_ns() - start > 700 * MS
        obeyed(one, "maintenance", "off")
        one.wait_holds()


def test_a_successor_that_listens_and_takes_nothing_does_not_cost_the_vip() -> None:
    """Nobody can see from outside that the other one is in maintenance, too."""
    with pair(interval_ms=100) as (_lab, one, two):
        obeyed(two, "maintenance", "on")
        begin = now_ns()
        assert "maintenance was taken back" in refused(one, "maintenance", "on")
        one.wait_holds()
        assert now_ns() - begin < 6000 * MS
        assert "nobody took over" in refused(one, "switchover", "web")
        stays(one, two, at="lb1", ms=400)


# --- two operators ----------------------------------------------------------------------------


def at_once(*orders: tuple[Daemon, Words]) -> list[Said]:
    with ThreadPoolExecutor(len(orders)) as pool:
        return list(pool.map(lambda one: order(one[0], *one[1]), orders))


def test_a_switchover_on_both_at_once_moves_it_and_leaves_one_master() -> None:
    with pair(interval_ms=100) as (_lab, one, two):
        first, second = at_once((one, ("switchover", "web")), (two, ("switchover", "web")))
        assert first.done or second.done, (first, second)
        wait_for(lambda: len(holders(one, two)) == 1, PATIENCE_S, "not one master")
        stays(one, two, at=holders(one, two).pop())


def test_maintenance_on_both_at_once_leaves_a_master_for_each() -> None:
    """Each is master of one: each must not believe that the other one will take it."""
    with Lab(["lb1", "lb2"]) as lab:
        one, two = (
            Daemon(
                lab[name],
                router(web, interval_ms=100),
                others=[("api", router(api, (f"{API}/24",), 100, vrid=52))],
            )
            for name, web, api in (("lb1", 150, 100), ("lb2", 100, 150))
        )
        for daemon in (one, two):
            daemon.start()
        for daemon in (one, two):
            daemon.wait_ready()

        def spread() -> tuple[list[str], list[str]]:
            web, api = (
                [each.host.name for each in (one, two) if each.host.holds(vip)]
                for vip in (VIP, API)
            )
            return web, api

        wait_for(lambda: spread() == (["lb1"], ["lb2"]), PATIENCE_S, "not spread")
        done = at_once((one, ("maintenance", "on")), (two, ("maintenance", "on")))
        wait_for(lambda: all(len(each) == 1 for each in spread()), PATIENCE_S, f"{done}")
        sleep_ms(800)
        assert all(len(each) == 1 for each in spread()), (spread(), done)
        in_maintenance = [each.status()["maintenance"] is not None for each in (one, two)]
        assert in_maintenance.count(True) < 2
        assert [each.done for each in done] == in_maintenance


# --- groups, owners, engines ------------------------------------------------------------------


def test_a_group_moves_as_one_by_any_of_its_names() -> None:
    with Lab(["lb1", "lb2"]) as lab:
        extra: dict[str, object] = {"groups": {"edge": {"instances": ["web", "api"]}}}
        one, two = (
            Daemon(
                lab[name],
                router(priority, interval_ms=100),
                extra,
                [("api", router(priority, (f"{API}/24",), 100, vrid=52))],
            )
            for name, priority in (("lb1", 150), ("lb2", 100))
        )
        for daemon in (one, two):
            daemon.start()
            daemon.wait_ready()
        one.wait_holds()

        def has_both(daemon: Daemon) -> bool:
            return daemon.host.holds(VIP) and daemon.host.holds(API)

        wait_for(lambda: has_both(one), PATIENCE_S, "not the master")
        for name, giver, taker in (("edge", one, two), ("api", two, one)):
            assert obeyed(giver, "switchover", name).startswith("edge: ")
            assert has_both(taker)
            assert not giver.host.holds(VIP)
            assert not giver.host.holds(API)
        sleep_ms(600)
        assert has_both(one)


def test_an_address_owner_gives_nothing_away() -> None:
    with Lab(["lb1", "lb2"]) as lab:
        add_address(lab["lb1"], VIP, 24)
        one = Daemon(lab["lb1"], router(255, interval_ms=100))
        two = Daemon(lab["lb2"], router(100, interval_ms=100))
        for daemon in (one, two):
            daemon.start()
            daemon.wait_ready()
        one.wait_state("MASTER")
        for words in (
            ("switchover", "web"),
            ("switchover", "web", "--force"),
            ("maintenance", "on"),
        ):
            assert "owns the addresses" in refused(one, *words)
        assert one.state() == "MASTER"
        assert not two.holds_any()


def test_orders_while_the_engine_is_being_started_again() -> None:
    """Refused with a reason, or carried out; never half, and the daemon takes the next one."""
    with pair(interval_ms=100) as (_lab, one, two):
        killed = 0
        for _ in range(4):  # the pause before the next engine grows
            killed = one.wait_engine(other_than=killed)
            kill(killed)
        said = at_once((one, ("maintenance", "on")), (one, ("switchover", "web")))
        # No engine yet, or a new one, which begins as a backup and has nothing to give.
        reasons = ("the engine does not answer", "this node is BACKUP, not master")
        assert all(each.done or any(r in each.sentence for r in reasons) for each in said), said
        one.wait_engine()
        wait_for(lambda: one.status()["age_ms"] < 1000, PATIENCE_S, "no engine answers")
        obeyed(one, "maintenance", "off")
        obeyed(one, "switchover", "web", "--auto")
        stays(one, two, at="lb1")
        kill(one.engine)
        obeyed_in_the_end(one, "maintenance", "on")
        stays(one, two, at="lb2")


def obeyed_in_the_end(daemon: Daemon, *words: str) -> None:
    wait_for(lambda: order(daemon, *words).done, PATIENCE_S, " ".join(words))


def test_a_state_dir_that_takes_no_file_is_a_warning_and_the_order_acts() -> None:
    with pair(interval_ms=100) as (_lab, one, two):
        (one.host.directory / "state" / "orders.json.new").mkdir()
        said = order(one, "switchover", "web")
        assert said.done
        assert "it will not survive a restart" in said.warning
        stays(one, two, at="lb2", ms=400)
