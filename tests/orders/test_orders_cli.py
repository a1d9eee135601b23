"""``vipd maintenance`` and ``vipd switchover`` as the shell sees them.

The daemon is a made-up one that answers what it is told to, on a real Unix socket.
"""

from __future__ import annotations

import json
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

DONE = {"done": True, "sentence": "web: 192.0.2.12 took over after 613 ms", "warning": ""}


class Daemon(socketserver.UnixStreamServer):
    """``asked`` is what came, ``status`` and ``said`` what is answered."""

    def __init__(self, directory: Path) -> None:
        super().__init__(str(directory / "control.sock"), Handler)
        self.config = directory / "vipd.yaml"
        self.config.write_text(f"runtime_dir: {directory}\n")
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.status = 200
        self.said: dict[str, Any] = DONE

    def vipd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-c", "from vipd.cli import main; main()"]
        return subprocess.run(
            [*program, *arguments, "--config", str(self.config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


class Handler(BaseHTTPRequestHandler):
    server: Daemon

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        text = json.dumps(self.server.said).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    # Not tmp_path: the path of a Unix socket must be short.
    with tempfile.TemporaryDirectory(prefix="vipd-") as directory, Daemon(Path(directory)) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_a_switchover_that_came_true(daemon: Daemon) -> None:
    result = daemon.vipd("switchover", "web", "--to", "lb2", "--for", "1h30m")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "web: 192.0.2.12 took over after 613 ms\n"
    wanted = {"instance": "web", "to": "lb2", "auto": False, "for_s": 5400, "force": False}
    assert daemon.asked == [("/switchover", wanted)]


def test_one_that_did_not(daemon: Daemon) -> None:
    daemon.said = DONE | {"done": False, "sentence": "web: nobody took over"}
    result = daemon.vipd("switchover", "web", "--force")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "vipd: web: nobody took over\n"
    assert daemon.asked[0][1]["force"] is True


def test_a_refusal_is_the_daemons_sentence(daemon: Daemon) -> None:
    daemon.status, daemon.said = 409, {"error": "web: this node is BACKUP, not master"}
    result = daemon.vipd("switchover", "web")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "vipd: web: this node is BACKUP, not master\n"


def test_a_warning_stands_beside_the_answer(daemon: Daemon) -> None:
    daemon.said = DONE | {"warning": "it will not survive a restart: disk full"}
    result = daemon.vipd("maintenance", "on", "--for", "30m")
    assert result.returncode == 0
    assert result.stderr == "warning: it will not survive a restart: disk full\n"
    assert daemon.asked == [("/maintenance", {"on": True, "for_s": 1800, "force": False})]


def test_maintenance_off(daemon: Daemon) -> None:
    assert daemon.vipd("maintenance", "off").returncode == 0
    assert daemon.asked == [("/maintenance", {"on": False, "for_s": None, "force": False})]


def test_auto(daemon: Daemon) -> None:
    assert daemon.vipd("switchover", "web", "--auto").returncode == 0
    wanted = {"instance": "web", "to": None, "auto": True, "for_s": None, "force": False}
    assert daemon.asked == [("/switchover", wanted)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("maintenance",),
        ("maintenance", "perhaps"),
        ("maintenance", "off", "--for", "30m"),
        ("maintenance", "on", "--for", "30"),
        ("maintenance", "on", "--for", "soon"),
        ("maintenance", "on", "--for", ""),
        ("switchover",),
        ("switchover", "web", "--auto", "--to", "lb2"),
        ("switchover", "web", "--auto", "--for", "30m"),
    ],
)
def test_bad_usage_is_exit_2_and_asks_nobody(daemon: Daemon, arguments: tuple[str, ...]) -> None:
    assert daemon.vipd(*arguments).returncode == 2
    assert daemon.asked == []


def test_no_daemon_is_exit_3(daemon: Daemon) -> None:
    (daemon.config.parent / "control.sock").unlink()
    result = daemon.vipd("maintenance", "on")
    assert result.returncode == 3
    assert "no daemon answers" in result.stderr
