"""``vipd status --watch``: what it draws, and that it leaves the terminal as it was."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from tests.cli.conftest import (
    CLUSTER,
    FOLLOWER,
    LB2,
    PROGRAM,
    FakeDaemon,
    ServerThread,
    member,
    said,
    vipd,
)
from vipd.cli.board import Board, fitted
from vipd.cli.client import ask
from vipd.model import State

ALTERNATE, BACK = "\x1b[?1049h", "\x1b[?1049l"
CURSOR_SHOWN = "\x1b[?25h"
PATIENCE_S = 20.0


SIZE = {"COLUMNS": "80", "LINES": "24"}


def take_terminal() -> None:
    """Who opens a terminal in a session without one gets it: keys become signals as elsewhere."""
    os.close(os.open(os.ttyname(0), os.O_RDWR))


class Terminal:
    """``vipd status --watch`` on a pseudo-terminal of 80 x 24."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self._master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.output = ""
        self.process = subprocess.Popen(
            [*PROGRAM, "status", "--watch", "--config", str(daemon.config)],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=take_terminal,
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", **SIZE},
        )

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def read_until(self, text: str, since: int = 0) -> int:
        """Wait for ``text``; where the output ends then."""
        give_up = time.monotonic() + PATIENCE_S
        while text not in self.output[since:]:
            left = give_up - time.monotonic()
            assert left > 0, f"no {text!r} in {self.output[since:]!r}"
            if select.select([self._master], [], [], left)[0]:
                self.output += os.read(self._master, 65_536).decode(errors="replace")
        return len(self.output)

    def end(self) -> int:
        """Its exit status; everything that it wrote is read."""
        status = self.process.wait(PATIENCE_S)
        while select.select([self._master], [], [], 0)[0]:
            self.output += os.read(self._master, 65_536).decode(errors="replace")
        return status

    def is_as_before(self) -> bool:
        written = self.output
        return (
            termios.tcgetattr(self.slave) == self.before
            and written.count(ALTERNATE) == written.count(BACK) == 1
            and written.rindex(CURSOR_SHOWN) > written.index(ALTERNATE)
        )

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for fd in (self._master, self.slave):
            with suppress(OSError):
                os.close(fd)

    def hang_up(self) -> None:
        os.close(self.slave)
        os.close(self._master)


@pytest.fixture
def node(daemon: FakeDaemon) -> FakeDaemon:
    daemon.instances = [FOLLOWER]
    daemon.cluster = CLUSTER
    return daemon


@pytest.fixture
def terminal(node: FakeDaemon) -> Iterator[Terminal]:
    made = Terminal(node)
    try:
        made.read_until("cluster shop")
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("key", [b"q", b"Q", b"xyq", b"\x04"])
def test_q_ends_it(terminal: Terminal, key: bytes) -> None:
    terminal.press(key)
    assert terminal.end() == 0
    assert terminal.is_as_before()


def test_ctrl_c_ends_it(terminal: Terminal) -> None:
    terminal.press(b"\x03")
    assert terminal.end() == 0
    assert terminal.is_as_before()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(terminal: Terminal, number: signal.Signals) -> None:
    terminal.process.send_signal(number)
    assert terminal.end() == 128 + number
    assert terminal.is_as_before()


def test_ctrl_z_cannot_leave_the_terminal_behind(terminal: Terminal) -> None:
    characters = termios.tcgetattr(terminal.slave)[6]
    assert characters[termios.VSUSP] == b"\x00"  # no key suspends
    terminal.press(b"q")
    assert terminal.end() == 0
    assert terminal.is_as_before()


def test_keys_are_not_echoed(terminal: Terminal) -> None:
    start = len(terminal.output)
    terminal.press(b"wxyz")
    terminal.read_until("cluster shop", start)
    assert "wxyz" not in terminal.output


def test_a_terminal_that_is_gone_ends_it(terminal: Terminal) -> None:
    terminal.hang_up()
    assert terminal.process.wait(PATIENCE_S) in (0, 128 + signal.SIGHUP)


def test_it_shows_what_changes(terminal: Terminal, node: FakeDaemon) -> None:
    start = len(terminal.output)
    node.instances = [replace(FOLLOWER, handing_to="lb3")]
    terminal.read_until("HANDOVER: web: on its way to lb3", start)


def test_it_outlives_the_daemon(absent: FakeDaemon) -> None:
    absent.instances, absent.cluster = [FOLLOWER], CLUSTER
    board = Terminal(absent)
    try:
        board.read_until("NO DAEMON: no daemon answers")
        with ServerThread(absent):
            met = board.read_until("cluster shop")
            met = board.read_until("q ends", met)
        gone = board.read_until("NO DAEMON", met)
        with ServerThread(absent):
            board.read_until("cluster shop", gone)
        board.press(b"q")
        assert board.end() == 0
        assert board.is_as_before()
    finally:
        board.close()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [((), "draws on a terminal"), (("--json",), "cannot be combined"), (("--check",), "combined")],
)
def test_it_needs_a_terminal_to_itself(
    node: FakeDaemon, options: tuple[str, ...], complaint: str
) -> None:
    result = vipd("status", "--watch", *options, "--config", node.config)
    assert result.returncode == 2
    assert complaint in " ".join(result.stderr.replace("│", "").split())


# --- what it draws ------------------------------------------------------------------------------

ALARM = {
    **{"name": "path-down", "since": 0, "subject": "lb3", "detail": "10.0.0.3 silent"},
    "cure": "Look at the cable. " * 40,
}


def drawn(daemon: FakeDaemon, height: int = 24, trouble: str = "") -> list[str]:
    board = Board(everything=False)
    board.take(ask(daemon.socket, "/status"), time.time())
    if trouble:
        board.miss(trouble)
    return text(board, height)


def text(board: Board, height: int) -> list[str]:
    stream = StringIO()
    console = Console(file=stream, width=80, height=height, highlight=False)
    console.print(fitted(board, console))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def with_alarm(daemon: FakeDaemon, **more: Any) -> FakeDaemon:
    daemon.more = {"alarms": [ALARM | more]}
    return daemon


def test_alarms_stand_above_the_tables_with_their_cures(node: FakeDaemon) -> None:
    lines = drawn(with_alarm(node, cure="Look at the cable."))
    assert lines[1] == "ALARM: path-down: lb3: 10.0.0.3 silent: Look at the cable."
    assert lines[2] == "cluster shop: 3 nodes, all heard"


def test_cures_give_way_to_the_tables_on_a_low_terminal(node: FakeDaemon) -> None:
    lines = drawn(with_alarm(node))
    assert lines[1:3] == [
        "ALARM: path-down: lb3: 10.0.0.3 silent",
        "what to do about it: `vipd status`",
    ]
    assert lines[-2].startswith("web")
    assert "cable" in " ".join(drawn(with_alarm(node), height=60))


def test_many_units_are_told_in_brief(node: FakeDaemon) -> None:
    names = [f"v{number}" for number in range(60)]
    node.instances = [replace(FOLLOWER, name=name, unit=name) for name in names]
    masters = [said(name, State.MASTER) for name in names]
    own = replace(LB2, units=tuple(map(said, names)))
    node.cluster = replace(CLUSTER, members=(member("lb1", *masters), own))
    lines = drawn(node)
    assert len(lines) <= 24
    assert any("60 BACKUP" in line for line in lines)


def test_what_does_not_fit_is_cut_off_and_said_to_be(node: FakeDaemon) -> None:
    lines = drawn(node, height=8)
    assert len(lines) == 8
    assert lines[-1].endswith("more lines: `vipd status` has them")


def test_without_an_answer_the_last_one_stays_and_its_age_is_told(node: FakeDaemon) -> None:
    lines = drawn(node, trouble="no answer within 2 s")
    assert lines[1].startswith("NO DAEMON: no answer within 2 s; this is 0.")
    assert "cluster shop: 3 nodes, all heard" in lines


def test_without_an_answer_times_stand_still(node: FakeDaemon) -> None:
    board = Board(everything=False)
    now = time.time()
    board.take(ask(node.socket, "/status"), now - 600)
    assert any(" 4m12s " in line for line in text(board, 24))
    board.miss("gone")
    assert any(" 0.0s " in line for line in text(board, 24))  # ten minutes before it began


def test_before_any_answer_there_is_only_the_trouble() -> None:
    board = Board(everything=False)
    board.miss("no daemon answers on /run/vipd/control.sock")
    lines = text(board, 24)
    assert lines[1] == "NO DAEMON: no daemon answers on /run/vipd/control.sock"


def test_a_plain_node_is_shown_as_well(daemon: FakeDaemon) -> None:
    lines = drawn(daemon)
    assert not any("cluster" in line for line in lines)
    assert any(line.startswith("api") for line in lines)
