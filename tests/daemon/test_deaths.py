"""Whatever dies or freezes: no VIP stays behind, and then exactly one host holds it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from tests.daemon.rig import (
    MS,
    PATIENCE_S,
    TAG,
    VIP,
    Daemon,
    Recorder,
    Wire,
    add_address,
    holders,
    is_alive,
    kill,
    pair,
    router,
    single,
    sleep_ms,
)
from vipd.lab.hosts import now_ns, signal_all, wait_for
from vipd.lab.netns import Lab

pytestmark = pytest.mark.netns

LIFETIME_S = 2
"""``address_lifetime: auto`` at these intervals; the kernel ends an address up to 1 s late."""


def one_holder(one: Daemon, two: Daemon, expected: Daemon) -> None:
    """``expected`` alone holds the VIP, and still does a while later."""
    expected.wait_holds()
    wait_for(lambda: holders(one, two) == {expected.host.name}, PATIENCE_S, "two holders")
    sleep_ms(500)
    assert holders(one, two) == {expected.host.name}


def test_engine_killed() -> None:
    with pair() as (_lab, one, two):
        kernel = Recorder(one.host)
        old, begin = one.engine, now_ns()
        kill(old)
        wait_for(lambda: one.engine not in (0, old), PATIENCE_S, "no new engine")
        one_holder(one, two, one)
        gone = next(event for event in kernel.addresses(VIP, begin) if not event.added)
        assert gone.t_ns - begin < 500 * MS
        assert one.status()["engine"]["restarts"] == 1


def test_supervisor_killed() -> None:
    with pair() as (lab, one, two):
        wire, kernel = Wire(lab), Recorder(one.host)
        engine, begin = one.engine, now_ns()
        kill(one.supervisor)
        two.wait_holds()
        wait_for(lambda: not is_alive(engine), PATIENCE_S, "the engine stays")
        gone = next(event for event in kernel.addresses(VIP, begin) if not event.added)
        goodbye = wire.wait_advert("lb1", begin, priority=0)
        assert goodbye.t_ns - begin < 500 * MS
        assert gone.t_ns - begin < 500 * MS
        one_holder(one, two, two)
        one.process.wait(PATIENCE_S)
        one.start()  # the service manager's part
        one.wait_ready()
        one_holder(one, two, one)


def test_both_killed() -> None:
    """Nobody is left to remove the address: the kernel ends it.

    A lifetime of 5 s: on a busy machine the first look after the death may take more than one.
    """
    lifetime_s = 5
    with pair(extra={"address_lifetime": f"{lifetime_s}s"}) as (_lab, one, two):
        begin = now_ns()
        one.kill()
        assert one.holds_any()
        two.wait_holds()
        one.wait_free(lifetime_s + 1.5)
        assert now_ns() - begin < (lifetime_s + 1) * 1000 * MS
        one_holder(one, two, two)


def test_both_killed_and_started_again() -> None:
    """Whoever starts removes what is left, long before the kernel would."""
    with pair(extra={"address_lifetime": "60s"}) as (_lab, one, two):
        kernel = Recorder(one.host)
        one.kill()
        begin = now_ns()
        one.start()
        one.wait_ready()
        one_holder(one, two, one)
        wait_for(lambda: len(kernel.addresses(VIP, begin)) > 1, PATIENCE_S, "not recorded")
        removed, added = kernel.addresses(VIP, begin)[:2]
        assert (removed.added, added.added) == (False, True)
        assert one.events("addresses-removed")[-1]["left_by"] == "an earlier run"


def test_engine_stopped() -> None:
    """Killed after ``engine_timeout``; without that nobody would take its VIP away for 2 s."""
    with pair(extra={"engine_timeout": "300ms"}) as (_lab, one, two):
        kernel = Recorder(one.host)
        old, begin = one.engine, now_ns()
        kill(old, signal.SIGSTOP)
        wait_for(lambda: one.engine not in (0, old), PATIENCE_S, "no new engine")
        assert not is_alive(old)
        gone = next(event for event in kernel.addresses(VIP, begin) if not event.added)
        # the last sign of life came up to a quarter of the timeout before
        assert 200 * MS <= gone.t_ns - begin < 1000 * MS
        assert one.events("engine-died")[0]["cause"] == "silent for too long"
        one_holder(one, two, one)


def test_both_stopped_and_thawed() -> None:
    """A frozen host loses its VIP by the kernel's hand, and says nothing wrong on waking."""
    with pair() as (lab, one, two):
        wire = Wire(lab)
        begin = now_ns()
        one.freeze()
        two.wait_holds()
        one.wait_free((LIFETIME_S + 1.5) * 1.0)
        assert holders(one, two) == {"lb2"}
        sleep_ms(300)
        thawed = now_ns()
        one.thaw()
        one_holder(one, two, one)
        assert one.events("loop-stalled")[0]["suspended"] == 1
        overtaken = [
            event
            for event in one.events("transition")
            if event["reason"] == "overtaken-while-stalled"
        ]
        assert len(overtaken) == 1
        # it is the better one and may take the VIP back - but by the rules: it followed lb2
        # first, so its first word comes after lb2's next advert or a whole silence
        first = wire.wait_advert("lb1", thawed)
        assert first.priority == 150
        takeover = [event for event in one.events("transition") if event["to"] == "MASTER"][-1]
        assert takeover["reason"] in ("lower-priority-master", "master-silent")
        assert [a for a in wire.adverts("lb1", begin + 20 * MS) if a.t_ns < thawed] == []
        assert first.t_ns - thawed > 50 * MS
        assert one.status()["engine"]["restarts"] == 0


def test_frozen_backup_wakes_quietly() -> None:
    with pair() as (lab, one, two):
        wire = Wire(lab)
        two.freeze()
        sleep_ms(1500)
        thawed = now_ns()
        two.thaw()
        sleep_ms(800)
        assert wire.adverts("lb2", thawed) == []
        assert holders(one, two) == {"lb1"}


def test_engine_that_dies_at_every_start() -> None:
    """Backs off, keeps answering, and leaves the VIP to the peer."""
    with pair() as (_lab, one, two):
        hunter = subprocess.Popen([sys.executable, "-c", _HUNTER, str(one.supervisor)])
        try:
            two.wait_holds()
            sleep_ms(3000)
            starts = one.status()["engine"]["restarts"]
            assert holders(one, two) == {"lb2"}
        finally:
            hunter.kill()
            hunter.wait()
        # 0, 0.1, 0.2, 0.4, 0.8, 1.6 s: without a back-off there would be dozens
        assert 3 <= starts <= 7
        one_holder(one, two, one)


def test_stop_while_no_engine_lives() -> None:
    with single() as (_lab, one):
        hunter = subprocess.Popen([sys.executable, "-c", _HUNTER, str(one.supervisor)])
        try:
            wait_for(lambda: len(one.events("engine-died")) >= 4, PATIENCE_S, "lives")
            begin = now_ns()
            one.stop()
            assert one.wait() == 0
            assert now_ns() - begin < 3000 * MS
            assert not one.holds_any()
        finally:
            hunter.kill()
            hunter.wait()


_HUNTER = """
import os, signal, sys, time
parent = sys.argv[1]
while os.path.exists(f"/proc/{parent}"):
    try:
        children = open(f"/proc/{parent}/task/{parent}/children").read().split()
    except OSError:
        break
    for pid in children:
        try:
            if b"vipd.engine" in open(f"/proc/{pid}/cmdline", "rb").read():
                os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass
    time.sleep(0.005)
"""


def test_leftovers_are_removed_first() -> None:
    """Tagged addresses of an earlier run, configured or not, on any interface; no others."""
    with Lab(["lb1"]) as lab:
        host = lab["lb1"]
        kernel, wire = Recorder(host), Wire(lab)
        ours = (VIP, "192.0.2.199", "2001:db8::199")
        for address in ours:
            add_address(host, address, 128 if ":" in address else 32, proto=TAG)
        add_address(host, "198.51.100.9", 32, proto=TAG, interface="lo")
        add_address(host, "192.0.2.150", 32, proto=18)
        add_address(host, "192.0.2.151", 32)
        daemon = Daemon(host, router(150, interval_ms=100))
        begin = now_ns()
        daemon.start()
        daemon.wait_ready()
        daemon.wait_holds()
        first_advert = wire.wait_advert("lb1", begin).t_ns
        for address in (*ours, "198.51.100.9"):
            gone = next(event for event in kernel.addresses(address, begin) if not event.added)
            assert gone.t_ns < first_advert
        present = {entry.address for entry in host.addresses()}
        assert present.isdisjoint((*ours[1:], "198.51.100.9"))
        assert present.issuperset(("192.0.2.150", "192.0.2.151", host.ipv4, host.ipv6))
        assert kernel.addresses(host.ipv4, begin) == []


def test_orphaned_engine_is_ended() -> None:
    """Supervisor killed while the engine hangs: a process that does nothing holds the name."""
    with single() as (_lab, daemon):
        orphan = daemon.engine
        argv = [sys.executable, "-c", _HOLDER, str(orphan)]
        holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert holder.stdout is not None
        assert holder.stdout.read(1) == b"t"
        kill(daemon.supervisor)
        daemon.process.wait(PATIENCE_S)
        sleep_ms(100)
        assert is_alive(orphan)
        daemon.start()
        wait_for(lambda: not is_alive(orphan), PATIENCE_S, "the orphan lives")
        holder.communicate()
        daemon.wait_ready()
        daemon.wait_holds()
        daemon.stop()
        assert daemon.wait() == 0


# A stop signal would not do: the kernel wakes a stopped process whose group becomes an orphan.
_HOLDER = """
import ctypes, os, pathlib, sys, time
pid, libc = int(sys.argv[1]), ctypes.CDLL(None, use_errno=True)
SEIZE, INTERRUPT = 0x4206, 0x4207
if libc.ptrace(SEIZE, pid, 0, 0) or libc.ptrace(INTERRUPT, pid, 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
while pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "t":
    time.sleep(0.001)
os.write(1, b"t")
sys.stdin.read()
"""


def test_frozen_supervisor_is_no_reason_to_kill_the_engine() -> None:
    """It missed the engine's signs of life because it slept itself."""
    with single() as (_lab, daemon):
        engine = daemon.engine
        for _ in range(2):
            kill(daemon.supervisor, signal.SIGSTOP)
            sleep_ms(1000)
            kill(daemon.supervisor, signal.SIGCONT)
            sleep_ms(200)
        assert daemon.engine == engine
        signal_all([daemon.supervisor, engine], signal.SIGSTOP)
        time.sleep(1)
        signal_all([engine, daemon.supervisor], signal.SIGCONT)
        sleep_ms(500)
        assert daemon.engine == engine
        assert daemon.holds()


@pytest.mark.parametrize("reader", ["gone", "stuck"])
def test_nobody_reads_the_log(reader: str) -> None:
    """A broken or a full pipe: the supervisor neither fails nor waits, and goes on guarding."""
    with Lab(["lb1"]) as lab:
        one = Unread(lab["lb1"], router(150, interval_ms=100))
        one.reader = reader
        one.start()
        one.wait_holds()
        for _ in range(2):
            old = one.engine
            kill(old)
            wait_for(lambda pid=old: one.engine not in (0, pid), PATIENCE_S, "no new engine")
            one.wait_state("MASTER")
            one.wait_holds()
        assert one.status()["log_lines_lost"] > 0
        one.stop()
        assert one.wait() == 0
        assert not one.holds_any()


class Unread(Daemon):
    """Its standard error is a pipe that nobody reads."""

    reader = ""

    def command(self) -> list[str]:
        return [sys.executable, "-c", _UNREAD, self.reader, *super().command()]


_UNREAD = """
import fcntl, os, sys
reader, writer = os.pipe()
fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
os.write(writer, bytes(4096))
os.dup2(writer, 2)
os.set_inheritable(reader, sys.argv[1] == "stuck")
os.execv(sys.argv[2], sys.argv[2:])
"""
