"""The kernel says more than can be heard, or refuses what is asked."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.daemon.rig import (
    MS,
    PATIENCE_S,
    VIP,
    Daemon,
    Wire,
    kill,
    remove_address,
    router,
    single,
    sleep_ms,
)
from vipd.lab.hosts import Host, now_ns, wait_for
from vipd.lab.netns import Lab

pytestmark = pytest.mark.netns

MANY = 24_000
"""More address events than the daemon's buffer of 8 MiB can hold."""


def make_events(host: Host, count: int) -> None:
    """Address events on another interface. One address: thousands would cost the kernel O(n²)."""
    batch = Path(host.directory, "batch")
    batch.write_text(
        "addr replace 10.0.0.1/32 dev lo valid_lft 999 preferred_lft 999\n" * count,
        encoding="ascii",
    )
    host.run(["ip", "-batch", str(batch)], timeout_s=60)


def events_lost(pid: int) -> int:
    """What the kernel could not deliver to the netlink sockets of a process."""
    rows = Path(f"/proc/{pid}/net/netlink").read_text(encoding="ascii").splitlines()[1:]
    return sum(int(row.split()[8]) for row in rows if int(row.split()[2]) == pid)


def test_overrun_is_made_up_for() -> None:
    """The newest events are the lost ones, among them the end of the VIP itself.

    Nobody else is there to be followed, and no renewal is due: only a full look finds it.
    """
    with single(extra={"engine_timeout": "30s", "address_lifetime": "90s"}) as (_lab, one):
        kill(one.engine, signal.SIGSTOP)
        make_events(one.host, MANY)
        remove_address(one.host, VIP, 32)
        assert events_lost(one.engine) > 0
        kill(one.engine, signal.SIGCONT)
        one.wait_holds()
        assert one.state() == "MASTER"
        assert all(vip["present"] for vip in one.instance()["vips"])
        assert one.status()["counters"]["web"]["addresses_restored"] == 1


@pytest.mark.alone
def test_storm_of_changes() -> None:
    """Addresses change faster than they can be read, and there are too many to list in one go."""
    with single(extra={"engine_timeout": "30s", "address_lifetime": "90s"}) as (lab, one):
        many = Path(one.host.directory, "many")
        many.write_text(
            "".join(f"addr add 10.{n >> 8}.{n & 255}.1/32 dev lo\n" for n in range(1000)),
            encoding="ascii",
        )
        one.host.run(["ip", "-batch", str(many)])
        storm = Path(one.host.directory, "storm")
        change = "addr replace 10.200.0.1/32 dev lo\naddr del 10.200.0.1/32 dev lo\n"
        storm.write_text(change * 500_000, encoding="ascii")
        wire = Wire(lab, "lb1")
        process = one.host.spawn(["ip", "-batch", str(storm)], "storm.log")
        kill(one.engine, signal.SIGSTOP)
        wait_for(lambda: events_lost(one.engine) > 0, PATIENCE_S, "no overrun")
        kill(one.engine, signal.SIGCONT)
        sleep_ms(300)
        begin = now_ns()
        remove_address(one.host, VIP, 32)
        one.wait_holds()
        sleep_ms(2000)
        gap_ms = wire.largest_gap_ms("lb1", begin, now_ns() - 5 * MS)
        assert process.poll() is None
        process.kill()
        assert gap_ms < 3 * 100  # a peer's patience
        assert one.status()["engine"]["restarts"] == 0
        assert one.state() == "MASTER"
        one.stop()
        assert one.wait() == 0
        assert not one.holds_any()


def test_kernel_refuses_addresses() -> None:
    """CAP_NET_RAW alone: adverts could be sent, addresses not added. Never a master without."""
    with Lab(["lb1"]) as lab:
        wire = Wire(lab)
        daemon = Restricted(lab["lb1"], router(150, interval_ms=100))
        daemon.start()
        refused = daemon.wait_event("claim-refused")
        assert "Operation not permitted" in refused["detail"]
        daemon.wait_state("FAULT")
        fault = daemon.instance()
        assert fault["reason"] == "kernel-refused-the-vip"
        assert "Operation not permitted" in fault["detail"]
        assert wire.adverts("lb1")[-1].priority == 0
        assert not daemon.holds_any()
        daemon.stop()
        assert daemon.wait() == 0
        assert wire.announcements(VIP) == []


class Restricted(Daemon):
    """A daemon with CAP_NET_RAW only."""

    def command(self) -> list[str]:
        command = super().command()
        assert command[0] == sys.executable
        drop = ["setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all,+net_raw", "--"]
        return [*drop, *command]
