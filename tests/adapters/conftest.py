"""Network namespaces for the tests of adapters.

Namespaces are anonymous: they live as long as something in them is open, so nothing is left
behind, whatever happens to the test run. Code runs inside one by moving the calling thread
there (``with namespace:``); a socket stays in the namespace in which it was opened.

Without the privilege to make a namespace these tests fail; they are never skipped.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from vipd.adapters.netlink import dump
from vipd.model import Link

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_Result = TypeVar("_Result")


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)} (network namespaces need root)")


class Namespace:
    """A fresh network namespace with ``lo`` up."""

    def __init__(self) -> None:
        self._outside: list[int] = []
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _check(_libc.unshare(_CLONE_NEWNET))
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            _check(_libc.setns(here, _CLONE_NEWNET))
        finally:
            os.close(here)
        self.run("ip link set lo up")

    def __enter__(self) -> Namespace:
        self._outside.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        _check(_libc.setns(self.fd, _CLONE_NEWNET))
        return self

    def __exit__(self, *_exception: object) -> None:
        outside = self._outside.pop()
        try:
            _check(_libc.setns(outside, _CLONE_NEWNET))
        finally:
            os.close(outside)

    def run(self, commands: str) -> str:
        """Run one shell command a line inside; raises if one fails."""
        with self:
            done = subprocess.run(
                ["sh", "-ec", commands], capture_output=True, text=True, check=False
            )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout

    def reaches(self, address: str) -> bool:
        with self:
            command = ["ping", "-c", "1", "-W", "0.2", address]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def link(self, name: str) -> Link:
        with self:
            links, _addresses = dump()
        return next(link for link in links if link.name == name)

    def close(self) -> None:
        os.close(self.fd)


def wait_for(produce: Callable[[], _Result | None], seconds: float = 5.0) -> _Result:
    """What ``produce`` returns as soon as that is something; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = produce()
        if result is not None and result is not False:
            return result
        time.sleep(0.005)
    raise AssertionError("waited in vain")


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    """Two hosts with a cable between them.

    ``eth0``, 192.0.2.1 and .2, 2001:db8::1 and ::2, fe80::1 and ::2.
    """
    left, right = Namespace(), Namespace()
    with left:
        subprocess.run(
            ["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0",
             "netns", f"/proc/{os.getpid()}/fd/{right.fd}"],
            check=True,
        )  # fmt: skip
    for number, host in enumerate((left, right), start=1):
        host.run(
            f"""
            ip link set eth0 addrgenmode none
            ip link set eth0 up
            ip addr add 192.0.2.{number}/24 dev eth0
            ip addr add 2001:db8::{number}/64 dev eth0 nodad
            ip addr add fe80::{number}/64 dev eth0 nodad
            """
        )
    # A reported carrier is not enough: the kernel opens the queues, and joins the groups of the
    # IPv6 addresses, a moment later, and drops what is sent before.
    for host, other in ((left, 2), (right, 1)):
        for target in (f"192.0.2.{other}", f"fe80::{other}%eth0"):
            wait_for(lambda host=host, target=target: host.reaches(target))
    yield left, right
    left.close()
    right.close()


def packed(text: str) -> bytes:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return socket.inet_pton(family, text)
