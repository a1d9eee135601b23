"""The conntrackd hook, with Debian's conntrackd on two hosts and the kernel's own tables."""

from __future__ import annotations

import pytest

from tests.recipes.shop import PATIENCE_S, Shop, stop
from vipd.lab.hosts import wait_for
from vipd.lab.netns import Lab

pytestmark = pytest.mark.realroot

PURGE_S = 2
CLIENT = "198.51.100.7"

CONFIG = """\
Sync {{
  Mode FTFW {{
    PurgeTimeout {purge_s}
  }}
  Multicast {{
    IPv4_address 225.0.0.50
    Group 3780
    IPv4_interface {address}
    Interface eth0
    Checksum on
  }}
}}
General {{
  HashSize 32768
  HashLimit 131072
  LogFile {directory}/conntrackd.log
  LockFile {directory}/conntrackd.lock
  UNIX {{
    Path {directory}/conntrackd.ctl
  }}
  NetlinkBufferSize 2097152
  NetlinkBufferSizeMaxGrowth 8388608
}}
"""


class Firewall:
    """A host with conntrackd, and what it knows of one client's connection."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.shop = Shop(lab[name])
        self.host = self.shop.host
        text = CONFIG.format(directory=self.shop.directory, address=self.host.ipv4, purge_s=PURGE_S)
        self.config = self.shop.file("conntrackd.conf", text)
        self.process = self.host.spawn(["conntrackd", "-C", str(self.config)], "conntrackd.out")
        wait_for(lambda: self._asks("-s") != "", PATIENCE_S, f"conntrackd of {name} answers")

    def _asks(self, flag: str) -> str:
        done = self.host.run(["conntrackd", "-C", str(self.config), flag], check=False)
        return done.stdout if done.returncode == 0 else ""

    def hook(self, state: str) -> tuple[int | None, str]:
        done = self.shop.hook("conntrackd", "--config", self.config, state=state)
        return done.status, done.output

    def carries(self) -> None:
        """A connection of the client goes through this host."""
        self.host.run(
            [
                "conntrack", "-I", "-p", "tcp", "-s", CLIENT, "-d", "192.0.2.100",
                "--sport", "1000", "--dport", "80", "--state", "ESTABLISHED",
                "--timeout", "300", "-u", "SEEN_REPLY,ASSURED",
            ]
        )  # fmt: skip

    def in_kernel(self) -> bool:
        return CLIENT in self.host.run(["conntrack", "-L"]).stdout

    def heard_of(self) -> bool:
        """From the other host."""
        return CLIENT in self._asks("-e")

    def own(self) -> bool:
        return CLIENT in self._asks("-i")


@pytest.fixture
def first(lab: Lab) -> Firewall:
    return Firewall(lab, "lb1")


@pytest.fixture
def second(lab: Lab) -> Firewall:
    return Firewall(lab, "lb2")


def test_connections_move_with_the_vip(first: Firewall, second: Firewall) -> None:
    first.carries()
    wait_for(second.heard_of, PATIENCE_S, "the backup hears of the connection")
    assert not second.in_kernel()

    assert second.hook("MASTER") == (0, "conntrackd: MASTER done\n")
    assert second.in_kernel()
    wait_for(second.own, PATIENCE_S, "the new master knows that it carries the connection")
    assert not second.heard_of(), "what was committed is not committed again next time"

    assert first.hook("BACKUP") == (0, "conntrackd: BACKUP done\n")
    wait_for(lambda: not first.in_kernel(), PATIENCE_S, "the old master forgets it")
    wait_for(first.heard_of, PATIENCE_S, "the old master keeps a copy for the way back")
    assert second.in_kernel()


def test_new_master_sends_its_table_without_being_asked(first: Firewall, second: Firewall) -> None:
    first.carries()
    wait_for(second.heard_of, PATIENCE_S, "the backup hears of the connection")
    assert second.hook("MASTER")[0] == 0
    wait_for(first.heard_of, PATIENCE_S, "the bulk update arrives")


def test_backup_asks_for_what_it_missed(lab: Lab, first: Firewall) -> None:
    first.carries()
    wait_for(first.own, PATIENCE_S, "the master knows the connection")
    late = Firewall(lab, "lb2")
    assert late.hook("BACKUP")[0] == 0
    wait_for(late.heard_of, PATIENCE_S, "the master answers with its table")


@pytest.mark.parametrize("state", ["FAULT", "STOP", "INIT"])
def test_host_without_the_vip_forgets_what_it_carried(first: Firewall, state: str) -> None:
    first.carries()
    assert first.in_kernel()
    assert first.hook(state) == (0, f"conntrackd: {state} done\n")
    wait_for(lambda: not first.in_kernel(), PATIENCE_S, "the kernel's table is emptied")


def test_other_states_change_nothing(first: Firewall) -> None:
    first.carries()
    status, words = first.hook("CANDIDATE")
    assert (status, "nothing to do" in words) == (0, True)
    assert first.in_kernel()


@pytest.mark.parametrize(
    ("state", "steps"),
    [
        ("MASTER", ("commit the external", "read the kernel", "send the table")),
        ("BACKUP", ("have the table", "ask the master")),
        ("FAULT", ("have the table",)),
    ],
)
def test_conntrackd_that_does_not_run_is_a_failure_that_names_each_step(
    first: Firewall, state: str, steps: tuple[str, ...]
) -> None:
    stop(first.process.pid)
    status, words = first.hook(state)
    assert status == 1
    for step in steps:
        assert f"could not {step}" in words
    assert "flush" not in words, "what was not committed must not be flushed"
