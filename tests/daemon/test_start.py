"""What stands in the way of a start: one clear line, the right exit code, nothing left behind."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.rig import (
    TAG,
    VIP,
    Daemon,
    add_address,
    kill,
    pair,
    router,
    single,
    sleep_ms,
)
from vipd.lab.hosts import Host
from vipd.lab.netns import Lab

pytestmark = pytest.mark.netns


def refused(daemon: Daemon, code: int) -> str:
    """The one line that the daemon ends with."""
    daemon.start()
    assert daemon.wait() == code, daemon.log.read_text()
    lines = daemon.log.read_text().splitlines()
    assert len(lines) == 1, lines
    assert "Traceback" not in lines[0]
    assert not daemon.holds_any()
    return lines[0]


class Unprivileged(Daemon):
    """A daemon without any capability (and so, without root's rights on files of others)."""

    def command(self) -> list[str]:
        return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--", *super().command()]


def test_not_root() -> None:
    with Lab(["lb1"]) as lab:
        line = refused(Unprivileged(lab["lb1"], router(150)), 1)
        assert "root" in line
        assert "CAP_NET_RAW" in line


def test_second_daemon() -> None:
    with single() as (lab, one):
        second = Daemon(lab["lb1"], router(150))
        second.kind = "second"
        line = refused_beside(second)
        assert str(one.supervisor) in line
        assert "another vipd" in line
        assert one.holds()
        assert one.state() == "MASTER"


def refused_beside(daemon: Daemon) -> str:
    daemon.start()
    assert daemon.wait() == 1
    (line,) = daemon.log.read_text().splitlines()
    return line


def test_bad_configuration() -> None:
    with Lab(["lb1"]) as lab:
        daemon = Daemon(lab["lb1"], router(150), extra={"nonsense": 1, "realtime": "perhaps"})
        daemon.start()
        assert daemon.wait() == 2
        lines = daemon.log.read_text().splitlines()
        assert len(lines) == 2, lines  # every fault, each with its place
        assert all(line.startswith(f"{daemon.config}:") for line in lines)


def test_bad_configuration_leaves_no_vip_of_a_dead_daemon() -> None:
    with Lab(["lb1"]) as lab:
        add_address(lab["lb1"], VIP, 32, proto=TAG)
        daemon = Daemon(lab["lb1"], router(150), extra={"nonsense": 1})
        daemon.start()
        assert daemon.wait() == 2
        assert not daemon.holds_any()


def test_no_such_file() -> None:
    with Lab(["lb1"]) as lab:
        daemon = Daemon(lab["lb1"], router(150))
        daemon.command()
        missing = Missing(lab["lb1"], router(150))
        missing.start()
        assert missing.wait() == 2
        assert "missing.yaml" in missing.log.read_text()


class Missing(Daemon):
    def command(self) -> list[str]:
        return [*super().command()[:-1], str(self.host.directory / "missing.yaml")]


def _file_instead(host: Host) -> None:
    Path(host.directory, "run").write_text("a file")


def _socket_taken(host: Host) -> None:
    Path(host.directory, "run", "control.sock").mkdir(parents=True)


@pytest.mark.parametrize("spoil", [_file_instead, _socket_taken])
def test_runtime_directory_unusable(spoil: Callable[[Host], None]) -> None:
    with Lab(["lb1"]) as lab:
        spoil(lab["lb1"])
        line = refused(Daemon(lab["lb1"], router(150)), 1)
        assert str(lab["lb1"].directory / "run") in line


def test_runtime_directory_full_or_read_only() -> None:
    """A mount of our own, in a mount namespace of the daemon's own."""
    with Lab(["lb1"]) as lab:
        (lab["lb1"].directory / "run").mkdir()
        for options, words in (("ro", "writable"), ("nr_inodes=1", "No space left")):
            daemon = Mounted(lab["lb1"], router(150))
            daemon.options = options
            daemon.kind = f"vipd-{options[:2]}"
            assert words in refused(daemon, 1)


class Mounted(Daemon):
    """``runtime_dir`` is a file system of its own."""

    options = ""

    def command(self) -> list[str]:
        run = self.host.directory / "run"
        script = f'mount -t tmpfs -o {self.options} tmpfs {run} && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, "sh", *super().command()]


def test_control_socket_is_roots_alone() -> None:
    with single() as (_lab, one):
        assert stat.S_IMODE(os.stat(one.control).st_mode) == 0o600
        assert stat.S_ISSOCK(os.stat(one.control).st_mode)
        assert one.ask("/nothing-here")[0] == 404
        one.stop()
        assert one.wait() == 0
        assert not one.control.exists()
        one.start()
        one.wait_ready()
        one.kill()
        assert one.control.exists()  # nobody was left to remove it: no obstacle
        one.start()
        one.wait_ready()
        one.wait_holds()
        assert one.state() == "MASTER"


def test_status_while_the_engine_is_stopped() -> None:
    """Stale data, and it says how stale."""
    with single(extra={"engine_timeout": "30s", "address_lifetime": "60s"}) as (_lab, one):
        assert one.status()["age_ms"] < 1000
        kill(one.engine, signal.SIGSTOP)
        sleep_ms(300)
        status = one.status()
        assert status["instances"]["web"]["state"] == "MASTER"
        assert status["age_ms"] > 300
        kill(one.engine, signal.SIGCONT)
        sleep_ms(100)
        assert one.status()["age_ms"] < 1000


def test_stop_while_the_engine_is_stopped() -> None:
    """The guard kills it; the supervisor releases in its place."""
    with pair() as (_lab, one, two):
        kill(one.engine, signal.SIGSTOP)
        one.stop()
        assert one.wait() == 0
        assert not one.holds_any()
        two.wait_holds()


def test_stop_during_the_start() -> None:
    """SIGTERM at any moment of the first two seconds: an end, and no VIP."""
    with Lab(["lb1"]) as lab:
        for delay_ms in (50, 400, 800, 1000, 1200, 1600):
            daemon = Daemon(lab["lb1"], router(150, interval_ms=100))
            daemon.start()
            sleep_ms(delay_ms)
            daemon.stop()
            assert daemon.wait() in (0, -signal.SIGTERM)
            assert not daemon.holds_any(), delay_ms
