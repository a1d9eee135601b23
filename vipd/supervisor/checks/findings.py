"""What a run of a check can find, and what a check says of itself."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from vipd.errors import VipdError
from vipd.model import Health

LONGEST_DETAIL = 200

_OUR_SHORTAGE = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.ETOOMANYREFS}
)


class Word(Enum):
    """A verdict. UNKNOWN: there is none yet; as the finding of a run: it could not be judged."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    FAILED = "failed"
    TIMED_OUT = "timed-out"

    @property
    def is_bad(self) -> bool:
        return self in (Word.FAILED, Word.TIMED_OUT)

    @property
    def health(self) -> Health:
        """The engine does not care why something is not healthy."""
        if self is Word.UNKNOWN:
            return Health.UNKNOWN
        return Health.HEALTHY if self is Word.HEALTHY else Health.UNHEALTHY


@dataclass(frozen=True, slots=True)
class Finding:
    """What one run found. ``number`` as in ``Verdict``."""

    word: Word
    detail: str
    number: int | None = None


@dataclass(frozen=True, slots=True)
class CheckEvent:
    """A verdict changed, was given for the first time, or holds another number than before."""

    check: str
    old: Word
    new: Word
    detail: str
    elapsed_ms: float
    number: int | None = None


class ProbeFailed(VipdError):
    """The run was made, and what it asked for is not there. The text is the detail."""


class Unjudged(VipdError):
    """The run could not be made, for a reason that says nothing about what it asks for."""


class Probe(Protocol):
    """One question. A run gives a finding, or raises ProbeFailed or Unjudged.

    ``ends_itself``: the probe keeps the timeout, too, and has to clean up after it; a run is
    cancelled when the check ends, but not at its timeout.
    """

    ends_itself: bool

    async def run(self, timeout_s: float) -> Finding: ...

    def close(self) -> None: ...


def healthy(detail: str, number: int | None = None) -> Finding:
    return Finding(Word.HEALTHY, detail, number)


def one_line(text: str) -> str:
    """The first line that says something, printable, and not too long."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = "".join(sign if sign.isprintable() else "?" for sign in line[: 2 * LONGEST_DETAIL])
    return line if len(line) <= LONGEST_DETAIL else line[: LONGEST_DETAIL - 1] + "…"


def refusal(what: str, error: OSError) -> ProbeFailed | Unjudged:
    """What an error of the system means: a shortage on our side says nothing of the service."""
    reason = errno_text(error)
    text = f"{what}: {reason}" if what else reason
    return Unjudged(text) if error.errno in _OUR_SHORTAGE else ProbeFailed(text)


def errno_text(error: OSError) -> str:
    """In the system's words; asyncio and getaddrinfo put their own beside the number."""
    if error.errno is None or error.errno < 0 or error.errno not in errno.errorcode:
        return error.strerror or str(error)
    return os.strerror(error.errno)
