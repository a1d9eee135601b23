"""Nothing that others do makes an advert late: floods, a slow or frozen supervisor, hung clients.

Judged at the switch port of the master, where only its own frames are seen. The bound is the
issue's: own adverts are delayed by less than one interval, so no gap reaches two.
"""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.rig import MS, VIP, Daemon, Wire, kill, router, single, sleep_ms
from vipd.lab.hosts import INTERFACE, Host, now_ns
from vipd.lab.netns import Lab

pytestmark = [pytest.mark.netns, pytest.mark.alone]

INTERVAL_MS = 100
RATE = 10_000
SECONDS = 2
MOST_LINES = 25
"""Log lines that a flood may cause; unlimited, there would be tens of thousands."""

COUNTED = {
    "malformed": ("ttl", "version", "length"),
    "ttl": ("ttl",),
    "checksum": ("checksum",),
    "vrid": ("vrid",),
    "lower": (),
    "rival": (),
}


def flood(host: Host, kind: str, seconds: float = SECONDS) -> int:
    program = str(Path(__file__).with_name("flood.py"))
    mac = f"02:56:49:00:00:{host.number:02x}"
    arguments = [INTERFACE, mac, host.ipv4, kind, str(RATE), str(seconds)]
    done = host.run([sys.executable, "-I", program, *arguments], timeout_s=seconds + 20)
    return int(done.stdout)


def discarded(daemon: Daemon) -> dict[str, int]:
    """All discards by reason, of the router and of the node."""
    status: dict[str, Any] = daemon.status()
    total = dict(status["discarded"])
    for reason, count in status["counters"]["web"]["discarded"].items():
        total[reason] = total.get(reason, 0) + count
    return total


def transitions(daemon: Daemon) -> int:
    return int(daemon.status()["counters"]["web"]["transitions"])


def test_floods() -> None:
    with Lab(["lb1", "lb2", "lb3"]) as lab:
        one = Daemon(lab["lb1"], router(150, interval_ms=INTERVAL_MS))
        two = Daemon(lab["lb2"], router(100, interval_ms=INTERVAL_MS))
        for daemon in (one, two):
            daemon.start()
            daemon.wait_ready()
        one.wait_holds()
        two.wait_state("BACKUP")
        wire = Wire(lab, "lb1")
        for kind, reasons in COUNTED.items():
            before, lines = discarded(one), len(one.log.read_text().splitlines())
            moves = [transitions(daemon) for daemon in (one, two)]
            begin = now_ns()
            sent = flood(lab["lb3"], kind)
            end = now_ns()
            gap_ms = wire.largest_gap_ms("lb1", begin, end - 5 * MS)
            print(f"{kind}: {sent} frames, largest gap {gap_ms:.1f} ms")
            assert sent > RATE * SECONDS * 0.8
            assert gap_ms < 2 * INTERVAL_MS, kind
            assert (one.state(), two.state()) == ("MASTER", "BACKUP"), kind
            assert [transitions(daemon) for daemon in (one, two)] == moves, kind
            after = discarded(one)
            for reason in reasons:
                assert after.get(reason, 0) > before.get(reason, 0), (kind, reason)
            if len(reasons) == 1:  # each of them was counted, under its own reason
                assert after[reasons[0]] - before.get(reasons[0], 0) == sent, kind
            assert len(one.log.read_text().splitlines()) - lines < MOST_LINES, kind
        assert one.holds()
        assert not two.holds_any()


def test_slow_supervisor_delays_nothing() -> None:
    with single(interval_ms=INTERVAL_MS) as (lab, one):
        wire, begin = Wire(lab, "lb1"), now_ns()
        kill(one.supervisor, signal.SIGSTOP)
        sleep_ms(3000)
        assert wire.largest_gap_ms("lb1", begin, now_ns() - 5 * MS) < 2 * INTERVAL_MS
        # and while the engine has much to say that nobody reads
        for _ in range(4):
            one.host.run(["ip", "addr", "del", f"{VIP}/32", "dev", INTERFACE])
            one.wait_holds()
            sleep_ms(300)
        kill(one.supervisor, signal.SIGCONT)
        assert one.holds()
        assert one.state() == "MASTER"
        assert wire.largest_gap_ms("lb1", begin, now_ns() - 5 * MS) < 2 * INTERVAL_MS


def test_hung_clients_of_the_control_socket() -> None:
    with single(interval_ms=INTERVAL_MS) as (lab, one):
        wire, begin = Wire(lab, "lb1"), now_ns()
        hung = []
        for text in (b"", b"GET /sta", b"POST /reload HTTP/1.1\r\nContent-Length: 9\r\n\r\n") * 20:
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.connect(str(one.control))
            client.send(text)
            hung.append(client)
        assert one.state() == "MASTER"
        for _ in range(50):
            one.status()
        assert wire.largest_gap_ms("lb1", begin, now_ns() - 5 * MS) < 2 * INTERVAL_MS
        one.stop()
        assert one.wait() == 0
        for client in hung:
            client.close()
