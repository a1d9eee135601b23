"""The Apache hook and checks, with Debian's Apache: mod_status and mod_heartbeat."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.recipes.shop import PATIENCE_S, Shop, stop
from vipd.lab.hosts import wait_for
from vipd.lab.netns import Lab

pytestmark = pytest.mark.realroot

GROUP = "239.0.0.1"
PORT = 27999
SITE = "http://127.0.0.1:8080/"
STATUS = "http://127.0.0.1:8080/server-status?auto"
WORKERS = 4

CONFIG = """\
ServerRoot {directory}
ServerName localhost
PidFile {pid_file}
ErrorLog {directory}/apache.log
Mutex file:{directory} default
Listen 127.0.0.1:8080
User www-data
Group www-data
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule status_module {modules}/mod_status.so
LoadModule heartbeat_module {modules}/mod_heartbeat.so
ServerLimit 1
StartServers 1
ThreadsPerChild {workers}
MinSpareThreads {workers}
MaxSpareThreads {workers}
MaxRequestWorkers {workers}
HeartbeatAddress {group}:{port}
ErrorDocument 404 "{word}"
DocumentRoot {directory}/hooks
<Location /server-status>
  SetHandler server-status
</Location>
"""


class Apache:
    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.pid_file = shop.directory / "apache2.pid"
        self.config = self.says("one")
        # The heartbeats have to know which way they go.
        shop.host.run(["ip", "route", "add", "239.0.0.0/8", "dev", "eth0"])

    def says(self, word: str) -> Path:
        """The configuration by which every page is missing, in this word."""
        text = CONFIG.format(
            directory=self.shop.directory,
            pid_file=self.pid_file,
            modules="/usr/lib/apache2/modules",
            workers=WORKERS,
            group=GROUP,
            port=PORT,
            word=word,
        )
        return self.shop.file("apache2.conf", text)

    def start(self) -> None:
        self.shop.host.run(["apache2", "-f", str(self.config)])
        self.shop.wait_for_page(SITE + "none", "one")

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    @property
    def words(self) -> tuple[str | Path, ...]:
        return "--config", self.config, "--pid", self.pid_file

    def occupy(self, workers: int) -> list[socket.socket]:
        """Clients that do not finish their request keep a worker each."""
        clients = [self.shop.connect(8080) for _ in range(workers)]
        for client in clients:
            client.sendall(b"GET /none HTTP/1.1\r\nHost: x\r\n")
        return clients


@pytest.fixture
def apache(shop: Shop) -> Apache:
    running = Apache(shop)
    running.start()
    return running


# --- the hook -------------------------------------------------------------------------------------


def test_graceful_takes_the_new_configuration_and_finishes_requests(apache: Apache) -> None:
    before = apache.pid
    (client,) = apache.occupy(1)
    apache.says("two")
    done = apache.shop.hook("apache", "graceful", *apache.words)
    assert done.status == 0, done.output
    # With one child allowed, the new generation waits for the old one's last request.
    with client:
        client.sendall(b"Connection: close\r\n\r\n")
        assert client.makefile("rb").read().endswith(b"one")
    apache.shop.wait_for_page(SITE + "none", "two")
    assert apache.pid == before


def test_bad_configuration_touches_nothing(apache: Apache) -> None:
    before = apache.pid
    apache.config.write_text(apache.config.read_text().replace("Listen", "Lissten"))
    done = apache.shop.hook("apache", "graceful", *apache.words)
    assert done.status == 1
    assert "Lissten" in done.output
    assert apache.shop.get(SITE + "none") == "one"
    assert apache.pid == before


def test_graceful_starts_nothing(apache: Apache) -> None:
    stop(apache.pid)
    done = apache.shop.hook("apache", "graceful", *apache.words)
    assert done.status == 1
    assert "does not run" in done.output
    assert apache.shop.get(SITE + "none") == ""


# --- mod_status -----------------------------------------------------------------------------------


def test_status_check_follows_apache(apache: Apache) -> None:
    check = apache.shop.check("apache", "--url", STATUS, user="nobody")
    assert (check.status, f"1 of {WORKERS} workers busy" in check.output) == (0, True)
    stop(apache.pid)
    check = apache.shop.check("apache", "--url", STATUS)
    assert (check.status, "refused" in check.output) == (1, True)


def test_status_check_sees_that_workers_run_out(apache: Apache) -> None:
    def verdict(*words: str) -> int | None:
        return apache.shop.check("apache", "--url", STATUS, *words).status

    clients = apache.occupy(2)  # with the check's own request three of four are busy
    wait_for(lambda: verdict("--min-idle", "2") == 1, PATIENCE_S, "fewer than two are idle")
    assert verdict("--min-idle", "1") == 0
    assert verdict("--max-busy", "70") == 1
    assert verdict("--max-busy", "80") == 0
    for client in clients:
        client.close()
    wait_for(lambda: verdict("--min-idle", "3") == 0, PATIENCE_S, "the workers are idle again")


def test_status_check_fails_when_all_workers_are_busy(apache: Apache) -> None:
    clients = apache.occupy(WORKERS)
    words = ("--url", STATUS, "--timeout", "300ms")
    wait_for(
        lambda: "timed out" in apache.shop.check("apache", *words).output, PATIENCE_S, "no answer"
    )
    assert apache.shop.check("apache", *words).status == 1
    for client in clients:
        client.close()
    wait_for(lambda: apache.shop.check("apache", *words).status == 0, PATIENCE_S, "it answers")


def test_status_check_wants_the_page_of_mod_status(apache: Apache) -> None:
    page = STATUS.removesuffix("?auto")
    check = apache.shop.check("apache", "--url", page)
    assert (check.status, "not that of mod_status" in check.output) == (1, True)


# --- mod_heartbeat --------------------------------------------------------------------------------


class Listener:
    """The check on the other host."""

    def __init__(self, lab: Lab) -> None:
        self.shop = Shop(lab["lb2"])
        self.source = lab["lb1"].ipv4

    def hears(self, *words: str, within: str = "3s", source: str = "") -> tuple[bool, str]:
        check = self.shop.check(
            "apache-heartbeat", "--group", f"{GROUP}:{PORT}", "--interface", "eth0",
            "--from", source or self.source, "--within", within, *words, user="nobody",
        )  # fmt: skip
        return check.status == 0, check.output


@pytest.fixture
def listener(lab: Lab) -> Listener:
    return Listener(lab)


def test_heartbeats_are_heard_until_apache_stops(apache: Apache, listener: Listener) -> None:
    healthy, words = listener.hears()
    assert healthy, words
    assert f"{listener.source} has {WORKERS} workers ready" in words
    stop(apache.pid)
    healthy, words = listener.hears(within="1500ms")
    assert not healthy
    assert "nothing from" in words


def test_heartbeats_of_a_host_that_was_cut_off_are_missed(
    apache: Apache, listener: Listener, lab: Lab
) -> None:
    lab.cut("lb1")
    assert not listener.hears(within="1500ms")[0]
    lab.heal("lb1")
    assert listener.hears()[0]


def test_heartbeats_say_that_workers_run_out(apache: Apache, listener: Listener) -> None:
    assert listener.hears("--min-ready", str(WORKERS))[0]
    clients = apache.occupy(WORKERS)
    wait_for(lambda: "has 0 workers ready" in listener.hears()[1], PATIENCE_S, "heartbeats say it")
    assert listener.hears()[0]
    assert not listener.hears("--min-ready", "1")[0]
    for client in clients:
        client.close()


def test_heartbeats_of_somebody_else_do_not_count(apache: Apache, listener: Listener) -> None:
    assert not listener.hears(source="192.0.2.99", within="1500ms")[0]


def test_heartbeats_on_another_interface_are_not_heard(apache: Apache, listener: Listener) -> None:
    check = listener.shop.check(
        "apache-heartbeat", "--interface", "lo", "--from", listener.source, "--within", "1500ms"
    )
    assert (check.status, "nothing from" in check.output) == (1, True)


@pytest.mark.parametrize(
    ("datagram", "healthy"),
    [
        (b"v=1&ready=3&busy=1", True),
        (b"v=2&ready=3&busy=1", False),
        (b"v=1&busy=1", False),
        (b"v=1&ready=many", False),
        (b"\xff\x00", False),
        (b"", False),
    ],
)
def test_only_heartbeats_are_heartbeats(
    lab: Lab, listener: Listener, datagram: bytes, healthy: bool
) -> None:
    lab["lb1"].run(["ip", "route", "add", "239.0.0.0/8", "dev", "eth0"])
    sender = lab["lb1"].spawn(
        [
            "python3", "-c",
            "import socket, time\n"
            "out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            f"while True: out.sendto({datagram!r}, ({GROUP!r}, {PORT})); time.sleep(0.05)",
        ],
        "sender.log",
    )  # fmt: skip
    assert listener.hears(within="800ms")[0] is healthy
    stop(sender.pid, signal.SIGKILL)


def test_interface_that_is_missing_is_named(listener: Listener) -> None:
    check = listener.shop.check("apache-heartbeat", "--interface", "eth9", "--from", "192.0.2.1")
    assert (check.status, "cannot listen" in check.output) == (1, True)
