"""sd_notify, judged by a socket in the service manager's place."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vipd.adapters.systemd import ServiceManager
from vipd.model import SECOND_NS


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket and its name as NOTIFY_SOCKET spells it."""
    name = str(tmp_path / "notify")
    if request.param == "abstract":
        name = f"@vipd-test-{os.getpid()}"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(name.replace("@", "\0", 1))
    sock.settimeout(5)
    yield sock, name
    sock.close()


def test_every_message(manager: tuple[socket.socket, str]) -> None:
    sock, name = manager
    service = ServiceManager({"NOTIFY_SOCKET": name})
    assert service.present
    for send, expected in (
        (lambda: service.ready("web MASTER"), b"READY=1\nSTATUS=web MASTER"),
        (service.stopping, b"STOPPING=1"),
        (service.alive, b"WATCHDOG=1"),
        (lambda: service.status("two\nlines"), b"STATUS=two lines"),
    ):
        assert send()
        assert sock.recv(4096) == expected


def test_a_reload_carries_its_instant(manager: tuple[socket.socket, str]) -> None:
    sock, name = manager
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert ServiceManager({"NOTIFY_SOCKET": name}).reloading()
    first, second = sock.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    key, value = second.split("=")
    assert key == "MONOTONIC_USEC"
    assert before <= int(value) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_without_a_service_manager_nothing_happens(tmp_path: Path) -> None:
    service = ServiceManager({})
    assert not service.present
    assert not service.alive()
    assert not ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).alive()


def test_a_full_queue_does_not_block(manager: tuple[socket.socket, str]) -> None:
    _sock, name = manager
    service = ServiceManager({"NOTIFY_SOCKET": name})
    taken = [service.alive() for _attempt in range(2000)]
    assert taken[0]
    assert not taken[-1]


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "2000000"}, 2 * SECOND_NS),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2 * SECOND_NS),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_interval(environment: dict[str, str], interval: int | None) -> None:
    assert ServiceManager(environment).watchdog_interval_ns == interval
