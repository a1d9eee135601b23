"""In which order a claim and a release happen, by the kernel's events and the frames."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.daemon.rig import (
    PATIENCE_S,
    VIP,
    Daemon,
    Recorder,
    Wire,
    is_alive,
    kill,
    pair,
    router,
    single,
    sleep_ms,
)
from vipd.lab.hosts import now_ns, wait_for
from vipd.lab.netns import Lab

pytestmark = pytest.mark.netns

ROUNDS = 8
"""At most; two are enough where the stamps are quick."""


def test_claim_and_release_in_order() -> None:
    """Advert, address, announcement; then address gone, priority 0.

    A netlink stamp may be late, never early. So of the pairs that end with a netlink event all
    must be in order; of those that begin with one, a single late stamp proves nothing, but a
    daemon with the wrong order could not show the right one in any round.
    """
    proven = {"announced": 0, "goodbye": 0}
    with Lab(["lb1"]) as lab:
        wire, kernel = Wire(lab), Recorder(lab["lb1"])
        for number in range(ROUNDS):
            if number >= 2 and all(proven.values()):
                break
            begin = now_ns()
            daemon = Daemon(lab["lb1"], router(150, interval_ms=100))
            daemon.start()
            daemon.wait_ready()
            daemon.wait_holds()
            wait_for(lambda at=begin: len(wire.announcements(VIP, "lb1", at)) > 0, 5, "no GARP")
            daemon.stop()
            assert daemon.wait() == 0
            goodbye = wire.wait_advert("lb1", begin, priority=0).t_ns
            first_advert = wire.adverts("lb1", begin)[0]
            events = kernel.addresses(VIP, begin)
            added = next(event.t_ns for event in events if event.added)
            gone = events[-1].t_ns
            assert not events[-1].added
            assert first_advert.priority == 150
            assert first_advert.t_ns < added
            proven["announced"] += added < wire.announcements(VIP, "lb1", begin)[0].t_ns
            proven["goodbye"] += gone < goodbye
            # nothing after the goodbye, and no announcement after the address went
            assert wire.adverts("lb1", goodbye + 1) == []
            assert wire.announcements(VIP, "lb1", goodbye) == []
    assert all(proven.values()), proven


@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT,)])
def test_one_goodbye_whatever_is_sent(signals: tuple[signal.Signals, ...]) -> None:
    with pair() as (lab, one, two):
        wire = Wire(lab)
        begin = now_ns()
        for number in signals:
            kill(one.supervisor, number)
        assert one.wait() == 0
        assert not one.holds_any()
        two.wait_holds()
        goodbyes = [advert for advert in wire.adverts("lb1", begin) if advert.priority == 0]
        assert len(goodbyes) == 1
        # the backup needs its skew time, 200 ms * 156/256, not the whole silence
        takeover = wire.wait_advert("lb2", begin).t_ns
        assert takeover - goodbyes[0].t_ns < 3 * 200_000_000


def test_interrupt_at_a_terminal() -> None:
    """Ctrl-C signals the whole foreground group of the terminal."""
    with Lab(["lb1"]) as lab:
        daemon = Daemon(lab["lb1"], router(150, interval_ms=100))
        wire = Wire(lab)
        leader, follower = os.openpty()
        with lab["lb1"].namespace.inside():
            process = subprocess.Popen(
                [sys.executable, "-c", _TERMINAL, *daemon.command()],
                stdin=follower,
                stdout=follower,
                stderr=follower,
                env=lab["lb1"].environment(),
                start_new_session=True,
            )
        os.close(follower)
        lab["lb1"].processes.append(process)
        daemon.wait_holds()
        begin = now_ns()
        os.write(leader, b"\x03")
        assert process.wait(PATIENCE_S) == 0
        assert not daemon.holds_any()
        assert len([a for a in wire.adverts("lb1", begin) if a.priority == 0]) == 1
        os.close(leader)


_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_engine_ignores_what_the_service_manager_sends() -> None:
    with single() as (lab, daemon):
        wire = Wire(lab)
        engine, begin = daemon.engine, now_ns()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            kill(engine, number)
        sleep_ms(500)
        assert is_alive(engine)
        assert daemon.holds()
        assert all(advert.priority == 150 for advert in wire.adverts("lb1", begin))
