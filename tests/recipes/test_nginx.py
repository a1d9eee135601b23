"""The nginx hook and check, with Debian's nginx."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.recipes.shop import PATIENCE_S, Shop, gone, stop
from vipd.lab.hosts import descendants, wait_for

pytestmark = pytest.mark.realroot

SITE = "http://127.0.0.1:8080/"
STATUS = "http://127.0.0.1:8080/status"


class Nginx:
    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.pid_file = shop.directory / "nginx.pid"
        self.config = self.says("one")

    def says(self, word: str) -> Path:
        """The configuration by which every page is this word."""
        return self.shop.file(
            "nginx.conf",
            f"pid {self.pid_file};\nerror_log {self.shop.directory}/nginx.log;\nuser www-data;\n"
            "events { worker_connections 64; }\n"
            "http { access_log off; server { listen 127.0.0.1:8080 reuseport;\n"
            "location = /status { stub_status; }\n"
            f'location / {{ return 200 "{word}"; }} }} }}\n',
        )

    def start(self) -> None:
        self.shop.host.run(["nginx", "-c", str(self.config)])
        self.shop.wait_for_page(SITE, "one")

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    @property
    def words(self) -> tuple[str | Path, ...]:
        return "--config", self.config, "--pid", self.pid_file


@pytest.fixture
def nginx(shop: Shop) -> Nginx:
    running = Nginx(shop)
    running.start()
    return running


def test_reload_takes_the_new_configuration_without_a_new_master(nginx: Nginx) -> None:
    before = nginx.pid
    nginx.says("two")
    done = nginx.shop.hook("nginx", "reload", *nginx.words)
    assert done.status == 0, done.output
    nginx.shop.wait_for_page(SITE, "two")
    assert nginx.pid == before


def test_restart_takes_the_new_configuration_with_a_new_master(nginx: Nginx) -> None:
    before = nginx.pid
    for worker in descendants(before)[1:]:
        os.kill(worker, signal.SIGSTOP)  # the old master has to wait for them
    nginx.says("two")
    done = nginx.shop.hook("nginx", "restart", *nginx.words)
    assert done.status == 0, done.output
    nginx.shop.wait_for_page(SITE, "two")
    wait_for(lambda: gone(before), PATIENCE_S, "the old master ends")
    # With reuseport the new one could bind before: the old one would take the pid file along.
    assert nginx.shop.check("nginx", "--pid", nginx.pid_file).status == 0
    assert nginx.pid != before


@pytest.mark.parametrize("action", ["reload", "restart"])
@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        ("listen", "lissten", 'unknown directive "lissten"'),
        # only the test finds it: nginx -s reload says that all is well, and nothing happens
        ("listen 127.0.0.1", "listen 203.0.113.1", "Cannot assign requested address"),
    ],
)
def test_bad_configuration_touches_nothing(
    nginx: Nginx, action: str, good: str, bad: str, words: str
) -> None:
    before = nginx.pid
    nginx.config.write_text(nginx.config.read_text().replace(good, bad))
    done = nginx.shop.hook("nginx", action, *nginx.words)
    assert done.status == 1
    assert words in done.output
    assert nginx.shop.get(SITE) == "one"
    assert nginx.pid == before


def test_restart_starts_what_does_not_run_and_reload_does_not(nginx: Nginx) -> None:
    stop(nginx.pid)
    done = nginx.shop.hook("nginx", "reload", *nginx.words)
    assert done.status == 1
    assert nginx.shop.get(SITE) == ""
    done = nginx.shop.hook("nginx", "restart", *nginx.words)
    assert done.status == 0, done.output
    nginx.shop.wait_for_page(SITE, "one")


def test_unknown_action_is_refused(shop: Shop) -> None:
    assert shop.hook("nginx", "stop").status == 2


def test_check_follows_nginx(nginx: Nginx) -> None:
    words = ("--pid", nginx.pid_file, "--status", STATUS)
    check = nginx.shop.check("nginx", *words, user="nobody")
    assert check.status == 0, check.output
    stop(nginx.pid)
    check = nginx.shop.check("nginx", *words, user="nobody")
    assert (check.status, "does not run" in check.output) == (1, True)


def test_check_is_not_fooled_by_a_number_that_another_program_has_now(nginx: Nginx) -> None:
    stop(nginx.pid)
    nginx.pid_file.write_text(f"{os.getpid()}\n")
    assert nginx.shop.check("nginx", "--pid", nginx.pid_file).status == 1


def test_check_sees_that_connections_run_out(nginx: Nginx) -> None:
    words = ("--pid", nginx.pid_file, "--status", STATUS, "--max-active", "5")
    assert nginx.shop.check("nginx", *words).status == 0
    clients = [nginx.shop.connect(8080) for _ in range(6)]
    check = nginx.shop.check("nginx", *words)
    assert (check.status, "7 active" in check.output) == (1, True)
    for client in clients:
        client.close()
    wait_for(lambda: nginx.shop.check("nginx", *words).status == 0, PATIENCE_S, "it has room again")


def test_check_wants_the_page_of_stub_status(nginx: Nginx) -> None:
    check = nginx.shop.check("nginx", "--pid", nginx.pid_file, "--status", SITE)
    assert (check.status, "not that of stub_status" in check.output) == (1, True)
