"""Checks and tracking on real daemons: what is found moves mastership, and nothing else does.

The supervisor runs the checks and may hang, die or wait for a disk; the engine advertises on.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.rig import (
    MS,
    PATIENCE_S,
    VIP,
    AddressEvent,
    Daemon,
    Recorder,
    Wire,
    kill,
    router,
    sleep_ms,
)
from vipd.lab.hosts import Host, now_ns, wait_for
from vipd.lab.netns import Lab, second_port
from vipd.model import Instant

pytestmark = pytest.mark.netns

INTERVAL_MS = 100
TAKEOVER_MS = 300
"""No gap of adverts may be as long: the backup would take over."""

TO_THE_BACKUP = -60
"""More than the distance between the two priorities, 150 and 100."""


class Drain:
    """A check that a test turns: it fails while the file is there."""

    def __init__(self, host: Host) -> None:
        self.path = host.directory / "drain"

    def check(self) -> dict[str, Any]:
        return {"file": str(self.path), "absent": True, "interval": "50ms", "rise": 1, "fall": 1}

    def on(self) -> Instant:
        self.path.touch()
        return now_ns()

    def off(self) -> Instant:
        self.path.unlink()
        return now_ns()


def node(
    host: Host, track: dict[str, Any], interval_ms: int = INTERVAL_MS, **checks: dict[str, Any]
) -> Daemon:
    priority = {"lb1": 150, "lb2": 100}[host.name]
    own = router(priority, interval_ms=interval_ms)
    return Daemon(host, own, {"checks": checks}, (), {"web": {"track": [track]}})


@contextmanager
def drain_pair(
    weight: int | None, interval_ms: int = INTERVAL_MS
) -> Iterator[tuple[Lab, Daemon, Daemon]]:
    """lb1 is master; each node tracks a drain file of its own."""
    track: dict[str, Any] = {"check": "drain"} | ({} if weight is None else {"weight": weight})
    with Lab(["lb1", "lb2"]) as lab:
        one, two = (
            node(host, track, interval_ms, drain=Drain(host).check())
            for host in (lab["lb1"], lab["lb2"])
        )
        for daemon in (one, two):
            daemon.start()
            daemon.wait_ready()
        one.wait_state("MASTER")
        two.wait_state("BACKUP")
        wait_holder(one, two)
        yield lab, one, two


def wait_holder(holder: Daemon, other: Daemon) -> None:
    holder.wait_holds()
    other.wait_free()


def first(kernel: Recorder, added: bool, since_ns: Instant) -> AddressEvent:
    """The VIP came or went. It also comes again and again while it is renewed."""
    return next(event for event in kernel.addresses(VIP, since_ns) if event.added is added)


def alarms(daemon: Daemon) -> set[str]:
    return {alarm["name"] for alarm in daemon.status()["alarms"]}


def told(daemon: Daemon, alarm: str) -> list[str]:
    """How an alarm changed, by the log."""
    return [line["change"] for line in daemon.events("alarm") if line["alarm"] == alarm]


def check_quiet(wire: Wire, backup: Recorder, start_ns: Instant) -> None:
    """From then until now lb1 advertised all the time, and lb2 never touched the VIP."""
    sleep_ms(INTERVAL_MS)
    assert wire.largest_gap_ms("lb1", start_ns, now_ns() - INTERVAL_MS * MS) < TAKEOVER_MS
    assert {advert.priority for advert in wire.adverts("lb1", start_ns)} == {150}
    assert backup.addresses(VIP, start_ns) == []


# --- what a check finds -----------------------------------------------------------------------


def test_a_change_of_priority_is_told_at_once_and_the_backup_takes_over() -> None:
    """Nobody waits for the next advert, which is a second away, or for a silence of three."""
    with drain_pair(TO_THE_BACKUP, interval_ms=1000) as (lab, one, two):
        wire = Wire(lab)
        kernels = Recorder(one.host), Recorder(two.host)
        wire.wait_advert("lb1", now_ns())
        start_ns = Drain(one.host).on()
        lowered = wire.wait_advert("lb1", start_ns, priority=90)
        assert lowered.t_ns - start_ns < 500 * MS
        wait_holder(two, one)
        added = first(kernels[1], True, start_ns)
        assert added.t_ns - lowered.t_ns < 1000 * MS  # an advert interval; the skew is 0.61 of it
        assert one.instance()["priority"] == {
            "base": 150,
            "effective": 90,
            "contributions": [{"name": "drain", "weight": TO_THE_BACKUP}],
        }
        Drain(one.host).off()
        wait_holder(one, two)
        assert one.instance()["priority"]["contributions"] == []


def test_without_a_weight_it_is_fault_and_nobody_overlaps() -> None:
    with drain_pair(None) as (lab, one, two):
        wire = Wire(lab)
        kernels = Recorder(one.host), Recorder(two.host)
        start_ns = Drain(one.host).on()
        wait_holder(two, one)
        shown = one.instance()
        assert (shown["state"], shown["reason"]) == ("FAULT", "check-failed")
        removed, added = first(kernels[0], False, start_ns), first(kernels[1], True, start_ns)
        goodbye = wire.wait_advert("lb1", start_ns, priority=0)
        assert removed.t_ns < goodbye.t_ns < added.t_ns
        Drain(one.host).off()
        wait_holder(one, two)


class Judge:
    """An HTTP server in the test's hand: it answers when the test does."""

    def __init__(self, host: Host) -> None:
        self._listener = host.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.bind(("127.0.0.1", 9000))
        self._listener.listen()
        self._listener.settimeout(PATIENCE_S)

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def asked(self) -> socket.socket:
        """The next question."""
        asker, _ = self._listener.accept()
        asker.recv(4096)
        return asker

    def answer(self, asker: socket.socket, status: int) -> None:
        with asker:
            asker.sendall(f"HTTP/1.1 {status} OK\r\nConnection: close\r\n\r\n".encode())

    check: dict[str, Any] = {  # noqa: RUF012 - a constant
        "http": "http://127.0.0.1:9000/",
        "interval": "100ms",
        "timeout": "1m",
        "rise": 3,
    }


@pytest.mark.parametrize(("status", "state"), [(200, "MASTER"), (503, "FAULT")])
def test_no_mastership_before_the_first_verdict(status: int, state: str) -> None:
    with Lab(["lb1"]) as lab, Judge(lab["lb1"]) as judge:
        kernel, start_ns = Recorder(lab["lb1"]), now_ns()
        one = node(lab["lb1"], {"check": "page"}, page=judge.check)
        one.start()
        asker = judge.asked()
        sleep_ms(10 * INTERVAL_MS)
        assert kernel.addresses(VIP, start_ns) == []
        assert one.state() == "INIT"
        assert "page" in one.instance()["detail"]
        judge.answer(asker, status)
        one.wait_state(state)  # one run decides, whatever rise says
        assert one.holds() is (state == "MASTER")


def test_a_tracked_interface_and_one_that_may_flap() -> None:
    tracks = {"eth1": {"interface": "eth1"}, "slow": {"interface": "eth1", "debounce": "2s"}}
    with Lab(["lb1", "lb2"]) as lab:
        lab.add_network()
        one, two = node(lab["lb1"], tracks["eth1"]), node(lab["lb2"], tracks["slow"])
        for daemon in (one, two):
            daemon.start()
            daemon.wait_ready()
        wait_holder(one, two)
        lab.link_down(second_port("lb1"))
        wait_holder(two, one)
        assert one.instance()["reason"] == "tracked-interface-down"
        kernel, flap_ns = Recorder(two.host), now_ns()
        lab.link_down(second_port("lb2"))
        sleep_ms(500)
        lab.link_up(second_port("lb2"))
        sleep_ms(2000)
        assert [event for event in kernel.addresses(VIP, flap_ns) if not event.added] == []
        assert two.state() == "MASTER"
        lab.link_down(second_port("lb2"))
        two.wait_state("FAULT")
        two.wait_free()
        lab.link_up(second_port("lb1"))
        one.wait_holds()


# --- who is slow or dead ----------------------------------------------------------------------


@pytest.mark.parametrize("weight", [None, TO_THE_BACKUP])
def test_a_frozen_supervisor_is_an_alarm_and_no_failover(weight: int | None) -> None:
    with drain_pair(weight) as (lab, one, two):
        wire, backup, start_ns = Wire(lab), Recorder(two.host), now_ns()
        kill(one.supervisor, signal.SIGSTOP)
        sleep_ms(5000)
        check_quiet(wire, backup, start_ns)
        kill(one.supervisor, signal.SIGCONT)
        silent_ms = one.wait_event("health-stale")["silent_ms"]
        assert 2500 <= silent_ms <= 5500
        one.wait_event("health-fresh")
        wait_for(lambda: "stale-checks" not in alarms(one), PATIENCE_S, "the alarm stays")
        assert told(one, "stale-checks") == ["raised", "cleared"]
        entries = one.ask("/events")[1]["events"]
        assert "health-stale" in {entry["kind"] for entry in entries}
        check_quiet(wire, backup, start_ns)
        # and the checks go on as if nothing had been
        Drain(one.host).on()
        wait_holder(two, one)


def test_what_a_check_finds_while_there_is_no_engine_is_known_to_the_next_one() -> None:
    with drain_pair(TO_THE_BACKUP) as (_lab, one, two):
        kernel = Recorder(one.host)
        for _ in range(4):  # the pause before the next start grows: 0, 0.1, 0.2, 0.4 s
            engine = one.wait_engine()
            kill(engine)
            wait_for(lambda engine=engine: one.engine != engine, PATIENCE_S, "it lives")  # type: ignore[misc]
        without_ns = Drain(one.host).on()
        one.wait_engine()
        one.wait_state("BACKUP")
        two.wait_holds()
        sleep_ms(1000)
        assert one.instance()["priority"]["effective"] == 90
        assert one.instance()["priority"]["base"] == 150
        assert [event for event in kernel.addresses(VIP, without_ns) if event.added] == []
        Drain(one.host).off()
        wait_holder(one, two)


def test_a_new_engine_need_not_wait_for_a_verdict_that_was_given() -> None:
    """The check runs once in ten minutes; the supervisor remembers what it found."""
    with Lab(["lb1"]) as lab:
        check = {**Drain(lab["lb1"]).check(), "interval": "10m"}
        one = node(lab["lb1"], {"check": "drain"}, drain=check)
        one.start()
        one.wait_ready()
        one.wait_state("MASTER")
        kill(one.wait_engine())
        one.wait_free()
        one.wait_holds()
        one.wait_state("MASTER")


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own with little room over a directory; a file that may take all."""
    options = "size=256k,mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder / "filler"
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017 - the only way that it can end


def test_a_full_disk_stops_nothing() -> None:
    with drain_pair(TO_THE_BACKUP) as (lab, one, two):
        one.stop()
        one.wait()
        with small_disk(one.host.directory / "state") as filler:
            _check_full_disk(lab, one, two, filler)


def _check_full_disk(lab: Lab, one: Daemon, two: Daemon, filler: Path) -> None:
    one.start()
    one.wait_ready()
    wait_holder(one, two)
    wire, backup, start_ns = Wire(lab), Recorder(two.host), now_ns()
    fill(filler)
    drain = Drain(two.host)  # a check of lb2 changes nothing at lb1
    for _ in range(20):
        drain.on()
        assert one.ask("/status")[0] == 200
        sleep_ms(50)
        drain.off()
        sleep_ms(50)
    check_quiet(wire, backup, start_ns)
    own = Drain(one.host)
    own.on()
    wait_holder(two, one)
    wait_for(lambda: "journal-not-written" in alarms(one), PATIENCE_S, "no alarm")
    own.off()
    wait_holder(one, two)
    filler.unlink()
    wait_for(lambda: "journal-not-written" not in alarms(one), PATIENCE_S, "the alarm stays")
    # what happened meanwhile was kept, and is written now
    entries = one.ask("/events")[1]["events"]
    assert {("check", "drain")} <= {(entry["kind"], entry["subject"]) for entry in entries}
    one.stop()
    assert one.wait() == 0


def _client(daemon: Daemon, *words: bytes) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(daemon.control))
    for word in words:
        client.setblocking(False)
        try:
            client.send(word)
        except BlockingIOError:
            break
    return client


def test_clients_that_do_not_read_stop_nothing() -> None:
    with drain_pair(None) as (lab, one, two):
        wire, backup, start_ns = Wire(lab), Recorder(two.host), now_ns()
        status = b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n"
        clients = [
            *(_client(one, b"GET /sta") for _ in range(20)),  # half a request
            *(_client(one, *[status] * 500) for _ in range(5)),  # many answers, none is read
            *(_client(one, b"GET /events?after=9999999&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n")
              for _ in range(20)),
        ]  # fmt: skip
        try:
            sleep_ms(2000)
            assert one.ask("/status", timeout_s=5)[0] == 200
            check_quiet(wire, backup, start_ns)
            Drain(one.host).on()
            wait_holder(two, one)
        finally:
            for client in clients:
                client.close()
        assert is_small(one.supervisor)


def is_small(pid: int) -> bool:
    """Nothing grew without a bound."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") < 120 << 20
