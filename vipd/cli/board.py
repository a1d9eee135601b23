"""``vipd status --watch``: the same tables, live.

A turn every half second: ask the daemon, draw, wait for a key. Rules:

* A daemon that does not answer is said to be gone, above what was known last, and asked again: the
  board outlives restarts. Only what will not change by itself (no permission) ends it.
* It is drawn on the terminal's second screen, so that the first is as it was afterwards. However
  it ends (q, Ctrl-C, SIGTERM, SIGHUP, a terminal that is gone, a bug), the terminal gets its mode
  and its screen back. Ctrl-Z is switched off, because a stopped program cannot give them back.
* What must not be missed stands on top: alarms, units without a master. Long lists are told in
  brief where the terminal is too low for them; what still does not fit is cut off below, and the
  last line says so.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from vipd.cli import cluster, status
from vipd.cli.client import ask
from vipd.cli.tables import tables
from vipd.cli.wording import span
from vipd.errors import PermissionMissing, VipdError

REFRESH_S = 0.5
PATIENCE_S = 2.0
"""Keys are not read while the daemon is asked: shorter than the patience of other commands."""

_QUIT_KEYS = b"qQ\x04"
_NO_CHARACTER = b"\x00"  # _POSIX_VDISABLE: no key does this


class Board:
    """What is shown: the last answer, and why there is none that is newer."""

    def __init__(self, everything: bool) -> None:
        self._everything = everything
        self._shown: dict[str, Any] | None = None
        self._answered = 0.0
        self._trouble = ""

    def take(self, shown: dict[str, Any], now: float) -> None:
        self._shown, self._answered, self._trouble = shown, now, ""

    def miss(self, trouble: str) -> None:
        self._trouble = trouble

    def forms(self, height: int) -> Iterator[tuple[bool, int | None]]:
        """How it may be drawn, the fullest first: with cures or without, with how many rows."""
        brief = max(height // 4, 1)
        if self._everything or self._shown is None or self._count_rows() <= height:
            yield True, None
            yield False, None
        if not self._everything:
            yield True, brief
            yield False, brief

    def _count_rows(self) -> int:
        """Of the long tables: what is sure to be too much is not drawn to find it out."""
        shown = self._shown or {}
        rows = len(shown["instances"]) + len(shown.get("checks", ()))
        if shown.get("cluster"):
            rows += sum(len(block.rows) for block in cluster.blocks(shown))
        return rows

    def draw(
        self, now: float, width: int, most_rows: int | None = None, *, with_cures: bool = True
    ) -> RenderableType:
        """The whole board, however high that is."""
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        if self._shown is None:
            return Group(Text(f"{clock}  (q ends)", style="dim"), self._absence(now))
        shown = self._shown
        title = f"{clock}  {shown['node']}: vipd {shown['version']}, up {span(shown['uptime_s'])}"
        parts: list[RenderableType] = [Text(f"{title}  (q ends)", style="dim")]
        if self._trouble:
            parts.append(self._absence(now))
        lines = status.below(shown, with_cures=with_cures)
        then = self._answered if self._trouble else now  # times of the past stand still
        parts += [Text(line, style="bold yellow") for line in status.above(shown, then)]
        parts += [Text(line, style="bold red") for line in lines]
        if lines and not with_cures:
            parts.append(Text("what to do about it: `vipd status`", style="dim"))
        return Group(*parts, *tables(shown, then, width, most_rows))

    def _absence(self, now: float) -> Text:
        known = f"; this is {span(now - self._answered)} old" if self._shown is not None else ""
        return Text(f"NO DAEMON: {self._trouble}{known}", style="bold white on red")


def run(path: Path, everything: bool) -> None:
    """Until somebody ends it; ``path`` is the daemon's control socket."""
    console = Console(highlight=False)
    board = Board(everything)
    _end_by_signals()
    # Signals end it by exceptions, so that all of this is left in order.
    with contextlib.suppress(KeyboardInterrupt), _keys() as keys:
        try:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                while True:
                    _look(board, path)
                    live.update(fitted(board, console), refresh=True)
                    if keys.quits_within(REFRESH_S):
                        return
        except OSError:
            return  # the terminal is gone


def _look(board: Board, path: Path) -> None:
    try:
        shown = ask(path, "/status", PATIENCE_S)
    except PermissionMissing:
        raise
    except VipdError as error:
        board.miss(str(error))
    else:
        board.take(shown, time.time())


def fitted(board: Board, console: Console) -> RenderableType:
    """The fullest form that the terminal has room for; else the shortest, its end cut off."""
    width, height = console.size
    options = console.options.update(height=None)
    now, lines = time.time(), []
    for with_cures, most_rows in board.forms(height):
        drawn = board.draw(now, width, most_rows, with_cures=with_cures)
        lines = console.render_lines(drawn, options, pad=False)
        if len(lines) <= height:
            return drawn
    kept = [Text.assemble(*((part.text, part.style or "") for part in line)) for line in lines]
    more = Text(f"{len(lines) - height + 1} more lines: `vipd status` has them", style="reverse")
    return Group(*kept[: height - 1], more)


class _Keys:
    """Keys of the terminal; ``fd`` None where there is none to read from."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def quits_within(self, seconds: float) -> bool:
        """Wait so long, less if a key ends the board."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._fd is None:
                time.sleep(left)
            elif select.select([self._fd], [], [], left)[0]:
                pressed = os.read(self._fd, 64)
                if not pressed or any(key in _QUIT_KEYS for key in pressed):
                    return True
        return False


@contextlib.contextmanager
def _keys() -> Iterator[_Keys]:
    """Single keys, unseen; the terminal's mode is put back at the end."""
    if not sys.stdin.isatty():
        yield _Keys(None)
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        mode = termios.tcgetattr(fd)
        mode[6][termios.VSUSP] = _NO_CHARACTER
        termios.tcsetattr(fd, termios.TCSANOW, mode)
        yield _Keys(fd)
    finally:
        with contextlib.suppress(termios.error):  # the terminal is gone, and its mode with it
            termios.tcsetattr(fd, termios.TCSAFLUSH, before)


def _end_by_signals() -> None:
    """SIGTERM and SIGHUP end it as Ctrl-C does, with the exit status of a signal."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
