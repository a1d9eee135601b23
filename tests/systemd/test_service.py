"""The packaged service under a real systemd: install, start, reload, and every death."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.systemd.pair import (
    CONFIG,
    INSTALL,
    SECOND_VIP,
    VIP,
    Pair,
    engine_pid,
    stopped_log,
)
from tests.systemd.rig import ROOT, Host, Rig, wait_for

# Making the tree the first time takes a minute; every later run uses the cache.
pytestmark = [pytest.mark.realroot, pytest.mark.timeout(400)]


def kill_everything(host: Host) -> None:
    host.run("systemctl", "kill", "--signal=KILL", "vipd")


def kill_supervisor(host: Host) -> None:
    host.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "vipd")


def kill_engine(host: Host) -> None:
    host.run("sh", "-c", f"kill -KILL {engine_pid(host)}")


# -- installation ---------------------------------------------------------------------------------


def test_first_installation_starts_nothing_and_says_what_to_edit(installed: Pair) -> None:
    host = installed.hosts[0]
    assert "edit /etc/vipd.yaml" in host.run("cat", "/root/install.log")
    assert host.run("cat", "/etc/vipd.yaml") == (ROOT / "etc/vipd.yaml").read_text()
    assert host.property("ActiveState") == "inactive"
    assert host.property("UnitFileState") == "disabled"
    host.run("vipd", "check")


def test_installation_again_leaves_the_running_service_alone(pair: Pair) -> None:
    host = pair.hosts[0]
    assert host.property("UnitFileState") == "enabled"
    before = host.property("MainPID")
    assert "nothing changed" in host.run(*INSTALL)
    assert host.property("MainPID") == before


def test_installation_refuses_a_bad_configuration_and_keeps_the_service(pair: Pair) -> None:
    host = pair.hosts[0]
    before = host.property("MainPID")
    host.write("/etc/vipd.yaml", CONFIG.replace("vrid: 51", "vrid: 999"))
    assert not host.succeeds(*INSTALL)
    assert host.property("MainPID") == before
    assert host.property("ActiveState") == "active"


# -- start, reload, restart -----------------------------------------------------------------------


def test_started_means_ready(pair: Pair) -> None:
    """`systemctl start` returns after READY=1: the first question is answered, no retry."""
    host = pair.hosts[1]
    host.run("systemctl", "stop", "vipd")
    host.run("systemctl", "start", "vipd")
    assert host.property("Type") == "notify"
    host.run("vipd", "status", "--config", "/etc/vipd.yaml")


def test_bad_configuration_fails_the_start_once(pair: Pair) -> None:
    host = pair.hosts[1]
    host.run("systemctl", "stop", "vipd")
    host.write("/etc/vipd.yaml", CONFIG.replace("vrid: 51", "vrid: 999"))
    assert not host.succeeds("systemctl", "start", "vipd")
    assert host.property("ActiveState") == "failed"
    assert host.property("ExecMainStatus") == "2"


def test_vip_is_on_exactly_one_host(pair: Pair) -> None:
    pair.settle()


def test_sandbox_leaves_the_engine_what_it_needs(pair: Pair) -> None:
    host = pair.hosts[0]
    pid = engine_pid(host)
    status = dict(
        line.split(":\t", 1) for line in host.run("cat", f"/proc/{pid}/status").splitlines()
    )
    nice = host.run("cat", f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[16]
    assert nice == "-20"
    assert int(status["VmLck"].split()[0]) > 0, "memory is not locked"
    # Asked for; a machine without CAP_SYS_RESOURCE (some CI runners) cannot give it to anybody.
    assert host.property("OOMScoreAdjust") == "-900"
    # NET_ADMIN 12, NET_RAW 13, IPC_LOCK 14, SYS_NICE 23, and no other right: to start hooks and
    # checks as other users is the supervisor's.
    rights = (12, 13, 14, 23)
    assert int(status["CapEff"], 16) == sum(1 << right for right in rights)
    assert status["NoNewPrivs"] == "1"


def test_reload_moves_only_the_difference(pair: Pair) -> None:
    holder, other = pair.settle()
    before = holder.property("MainPID")
    longer = CONFIG.replace("/24\n", f"/24\n      - {SECOND_VIP}/24\n")
    with holder.address_log() as log:
        for host in (other, holder):
            host.write("/etc/vipd.yaml", longer)
            host.run("systemctl", "reload", "vipd")
        wait_for(lambda: pair.holders(SECOND_VIP) == [holder], "the second VIP is on the master")
        for host in (other, holder):
            host.write("/etc/vipd.yaml", CONFIG)
            host.run("systemctl", "reload", "vipd")
        wait_for(lambda: pair.holders(SECOND_VIP) == [], "the second VIP is gone")
        assert log.deleted(SECOND_VIP) == 1
        assert log.deleted(VIP) == 0
    assert holder.property("MainPID") == before
    assert pair.settle()[0] is holder


def test_reload_of_a_bad_file_fails_and_changes_nothing(pair: Pair) -> None:
    holder, _ = pair.settle()
    before = holder.property("MainPID")
    holder.write("/etc/vipd.yaml", CONFIG.replace("vrid: 51", "vrid: 999"))
    with holder.address_log() as log:
        assert not holder.succeeds("systemctl", "reload", "vipd")
        assert pair.settle()[0] is holder
        assert log.deleted(VIP) == 0
    assert holder.property("MainPID") == before


def test_stop_returns_with_the_vip_gone(pair: Pair) -> None:
    holder, other = pair.settle()
    holder.run("systemctl", "stop", "vipd")
    assert VIP not in holder.addresses()
    wait_for(lambda: pair.holders() == [other], "the other host has the VIP")
    assert holder.property("Result") == "success"
    holder.run("systemctl", "start", "vipd")
    assert pair.settle() == (other, holder)


def test_restart_leaves_one_holder(pair: Pair) -> None:
    holder, _ = pair.settle()
    with holder.address_log() as log:
        holder.run("systemctl", "restart", "vipd")
        assert log.deleted(VIP) == 1
    pair.settle()


# -- deaths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kill", [kill_everything, kill_supervisor])
def test_death_of_the_service(pair: Pair, kill: Callable[[Host], None]) -> None:
    """The VIP is gone before ExecStopPost has ended, systemd starts again, one holder remains."""
    holder, _ = pair.settle()
    main, engine = holder.property("MainPID"), engine_pid(holder)
    stops = len(stopped_log(holder))
    with holder.address_log() as log:
        kill(holder)
        wait_for(lambda: len(stopped_log(holder)) == stops + 1, "ExecStopPost has run")
        assert log.deleted(VIP) == 1
    last_stop = stopped_log(holder)[-1]
    assert last_stop.startswith("signal:")
    assert VIP not in last_stop
    wait_for(lambda: holder.property("MainPID") not in ("0", main), "a new supervisor runs")
    pair.settle()
    assert not holder.succeeds("test", "-e", f"/proc/{engine}")


def test_death_of_the_engine_alone(pair: Pair) -> None:
    """The supervisor takes the VIP away and starts a new engine; systemd has nothing to do."""
    holder, _ = pair.settle()
    main, engine = holder.property("MainPID"), engine_pid(holder)
    stops = len(stopped_log(holder))
    with holder.address_log() as log:
        kill_engine(holder)
        wait_for(lambda: log.deleted(VIP) == 1, "the VIP is taken away")
    pair.settle()
    assert holder.property("MainPID") == main
    assert engine_pid(holder) != engine
    assert len(stopped_log(holder)) == stops


# -- the rig itself -------------------------------------------------------------------------------


def test_rig_leaves_nothing_behind() -> None:
    with Rig() as rig:
        rig.boot("bare", "198.51.100.13/24")
        assert rig.leftovers(), "a running rig must be visible to the check"
    assert rig.leftovers() == []
