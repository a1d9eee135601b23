"""The only renderer of notes: which level, which words. The core has no logger, only notes.

Logs are structlog events: readable on a terminal, JSON objects elsewhere.

Nobody may be reading: a pager that stands still, a pipe whose other end died, a full disk. The
supervisor guards the engine, so a line that cannot be written at once is dropped and counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
from typing import Any, TextIO, cast

import structlog

from vipd.model import Note, NoteKind
from vipd.supervisor.words import spell_fields

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_LEVEL_OF = {
    NoteKind.TRANSITION: "info",
    NoteKind.CLAIMED: "info",
    NoteKind.RELEASED: "info",
    NoteKind.CONFIGURED: "info",
    NoteKind.SOURCE_CHANGED: "info",
    NoteKind.ADVERT_REMARKED: "info",
    NoteKind.ADVERT_DISCARDED: "warning",
    NoteKind.DUPLICATE_ADDRESS: "warning",
    NoteKind.RELEASE_REFUSED: "error",
    NoteKind.CLAIM_REFUSED: "error",
    NoteKind.ADDRESS_RESTORED: "warning",
    NoteKind.FOREIGN_ADDRESS_REMOVED: "warning",
    NoteKind.FOREIGN_ADDRESS_KEPT: "error",
    NoteKind.STRAY_ADDRESS_REMOVED: "warning",
    NoteKind.RIVAL_ANNOUNCED: "warning",
    NoteKind.SEND_FAILED: "error",
    NoteKind.LOOP_STALLED: "warning",
    NoteKind.ROLE: "debug",
    NoteKind.PRIORITY_CHANGED: "info",
    NoteKind.HEALTH_STALE: "error",
    NoteKind.HEALTH_FRESH: "info",
    NoteKind.MEMBER_ALIVE: "info",
    NoteKind.MEMBER_LOST: "warning",
    NoteKind.MEMBER_LEFT: "info",
    NoteKind.MESSAGE_DISCARDED: "warning",
    NoteKind.CHANNEL_DEAF: "error",
    NoteKind.CHANNEL_OPEN: "info",
    NoteKind.HANDOVER: "info",
    NoteKind.PIN: "info",
}

_BAD_STEPS = ("refused", "failed")
"""Steps of a handover that went another way than was wanted."""


class Stream:
    """A descriptor to write lines to, for a process that must neither wait nor fail for that."""

    def __init__(self, fd: int) -> None:
        self.lost = 0
        self._fd = fd
        self._broken_off = False
        self._ready = select.poll()
        self._ready.register(fd, select.POLLOUT)

    def write(self, text: str) -> None:
        """Piece by piece: a pipe is ready with 4 KiB free, and a line may be longer than that."""
        data = text.encode(errors="backslashreplace")
        if self._broken_off:
            data = b"\n" + data
        with contextlib.suppress(OSError):
            for at in range(0, len(data), select.PIPE_BUF):
                if not self._ready.poll(0):
                    break
                os.write(self._fd, data[at : at + select.PIPE_BUF])
                self._broken_off = True
            else:
                self._broken_off = False
                return
        self.lost += 1

    def flush(self) -> None:
        """Every line is out, or lost, when ``write`` returns."""


STREAM = Stream(2)


def configure(level: str, form: str) -> None:
    """``level`` and ``form`` as in the configuration's ``log:``; to standard error."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not console),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level, logging.INFO)),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, STREAM)),
        cache_logger_on_first_use=False,
    )


def render(note: Note) -> None:
    """One log line for one note."""
    fields = {key: value for key, value in spell_fields(note.fields).items() if value != ""}
    if note.instance:
        fields = {"instance": note.instance, **fields}
    if fields.get("held_back") == 0:
        del fields["held_back"]
    level = "warning" if fields.get("step") in _BAD_STEPS else _LEVEL_OF[note.kind]
    speak = getattr(structlog.get_logger(), level)
    speak(note.kind.value, **fields)
