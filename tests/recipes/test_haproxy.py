"""The HAProxy hook and check, with Debian's HAProxy."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from tests.recipes.shop import PATIENCE_S, Shop, stop
from vipd.lab.hosts import wait_for
from vipd.supervisor.scripts import Outcome

pytestmark = pytest.mark.realroot

SITE = "http://127.0.0.1:8080/"

# The servers are two more frontends, which the hook can switch off as well.
CONFIG = """\
global
  grace 60s
  stats socket {socket} mode 660 level admin
  stats socket {user_socket} user nobody mode 600 level user
  user haproxy
  group haproxy
defaults
  mode http
  timeout connect 1s
  timeout client 30s
  timeout server 30s
frontend web
  bind 127.0.0.1:8080
  default_backend pool
frontend origin-a
  bind 127.0.0.1:8081
  http-request return status 200 content-type text/plain string served
frontend origin-b
  bind 127.0.0.1:8082
  http-request return status 200 content-type text/plain string served
backend pool
  default-server check inter 50ms rise 1 fall 2
  server a 127.0.0.1:8081
  server b 127.0.0.1:8082
"""


class HaProxy:
    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.socket = shop.directory / "admin.sock"
        self.user_socket = shop.directory / "user.sock"
        text = CONFIG.format(socket=self.socket, user_socket=self.user_socket)
        config = shop.file("haproxy.cfg", text)
        self.process = shop.host.spawn(["haproxy", "-db", "-f", str(config)], "haproxy.log")
        shop.wait_for_page(SITE, "served")

    def order(self, *words: str) -> str:
        done = self.shop.hook("haproxy", *words, "--socket", str(self.socket))
        assert done.status == 0, done.output
        return done.output

    def check(self, *words: str) -> Outcome:
        return self.shop.check("haproxy", "--socket", self.socket, "--backend", "pool", *words)

    def wait_for_verdict(self, status: int, *words: str) -> str:
        wait_for(
            lambda: self.check(*words).status == status, PATIENCE_S, f"check {words}: {status}"
        )
        return self.check(*words).output


@pytest.fixture
def haproxy(shop: Shop) -> HaProxy:
    return HaProxy(shop)


def test_check_counts_servers_that_take_sessions(haproxy: HaProxy) -> None:
    assert haproxy.check("--min-up", "2").status == 0
    haproxy.order("drain", "pool/a", "pool/b")
    check = haproxy.check()
    assert check.status == 1
    assert "0 of 2 servers up (a DRAIN, b DRAIN)" in check.output
    haproxy.order("ready", "pool/a")
    assert haproxy.wait_for_verdict(0) == "haproxy: well\n"
    assert haproxy.check("--min-up", "2").status == 1


def test_check_sees_servers_that_died(haproxy: HaProxy) -> None:
    haproxy.order("disable", "origin-b")
    assert "1 of 2 servers up" in haproxy.wait_for_verdict(1, "--min-up", "2")
    assert haproxy.check().status == 0
    haproxy.order("disable", "origin-a")
    assert "0 of 2" in haproxy.wait_for_verdict(1)
    haproxy.order("enable", "origin-a", "origin-b")
    haproxy.wait_for_verdict(0, "--min-up", "2")


def test_server_in_maintenance_does_not_count(haproxy: HaProxy) -> None:
    haproxy.order("maint", "pool/a")
    assert "a MAINT" in haproxy.check("--min-up", "2").output


def test_unknown_backend_is_unhealthy(haproxy: HaProxy) -> None:
    check = haproxy.check("--backend", "nobody")
    assert (check.status, "backend nobody: 0 of 0" in check.output) == (1, True)


def test_check_fails_when_haproxy_is_stopped(haproxy: HaProxy) -> None:
    stop(haproxy.process.pid)
    check = haproxy.check()
    assert (check.status, "no answer" in check.output) == (1, True)


def test_check_fails_while_haproxy_is_stopping(haproxy: HaProxy) -> None:
    """With ``grace`` it still answers then, and so its clients would not notice."""
    os.kill(haproxy.process.pid, signal.SIGUSR1)
    assert haproxy.wait_for_verdict(1) == "haproxy: is stopping\n"
    assert haproxy.shop.get(SITE) == "served"


def test_check_fails_when_haproxy_hangs(haproxy: HaProxy) -> None:
    os.kill(haproxy.process.pid, signal.SIGSTOP)
    check = haproxy.check("--timeout", "300ms")
    assert (check.status, "timed out" in check.output) == (1, True)
    os.kill(haproxy.process.pid, signal.SIGCONT)
    haproxy.wait_for_verdict(0)


def test_check_needs_no_more_than_a_user_socket(haproxy: HaProxy) -> None:
    words = ("--backend", "pool", "--min-up", "2")
    shop = haproxy.shop
    assert shop.check("haproxy", "--socket", haproxy.user_socket, *words, user="nobody").status == 0
    refused = shop.check("haproxy", "--socket", haproxy.socket, *words, user="nobody")
    assert (refused.status, "Permission denied" in refused.output) == (1, True)


def test_disabled_frontend_accepts_nobody_until_it_is_enabled(haproxy: HaProxy) -> None:
    haproxy.order("disable", "web")
    assert haproxy.shop.get(SITE) == ""
    haproxy.order("disable", "web")  # a hook may run twice
    haproxy.order("enable", "web")
    assert haproxy.shop.get(SITE) == "served"
    haproxy.order("enable", "web")


def test_disabled_frontend_is_waited_for_until_its_sessions_end(haproxy: HaProxy) -> None:
    client = haproxy.shop.connect(8080)
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
    assert "1 sessions" in haproxy.order("disable", "web", "--wait", "300ms")
    ends = threading.Timer(0.5, client.close)
    ends.start()
    assert "0 sessions" in haproxy.order("disable", "web", "--wait", "5s")
    ends.join()


def test_drained_server_keeps_no_sessions(haproxy: HaProxy) -> None:
    assert "0 sessions" in haproxy.order("drain", "pool/a", "--wait", "5s")


@pytest.mark.parametrize(
    ("words", "answer"),
    [(("enable", "nobody"), "No such frontend"), (("drain", "pool/x"), "No such server")],
)
def test_order_that_haproxy_refuses_fails_with_its_words(
    haproxy: HaProxy, words: tuple[str, ...], answer: str
) -> None:
    done = haproxy.shop.hook("haproxy", *words, "--socket", haproxy.socket)
    assert done.status == 1
    assert answer in done.output


@pytest.mark.parametrize(
    "words",
    [("enable", "web; disable frontend web"), ("disable", "web\ndisable frontend origin-a")],
)
def test_name_cannot_carry_a_second_order(haproxy: HaProxy, words: tuple[str, ...]) -> None:
    done = haproxy.shop.hook("haproxy", *words, "--socket", haproxy.socket)
    assert done.status == 2
    assert haproxy.shop.get(SITE) == "served"


def test_hook_fails_when_nobody_answers(shop: Shop, tmp_path: Path) -> None:
    done = shop.hook("haproxy", "enable", "web", "--socket", tmp_path / "none.sock")
    assert done.status == 1
    assert "no answer from the admin socket" in done.output
