"""Runs one program of the operator's (skeleton; the signatures are final)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vipd.errors import VipdError
from vipd.model import Duration


class ScriptRefused(VipdError):
    """The program was not started; the message names the reason and the cure."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. ``status``: exit code, or minus the signal that ended it.

    None: it could not be killed (it hangs in the kernel), which is a time-out too.
    """

    status: int | None
    timed_out: bool
    output: str
    elapsed_ns: Duration


async def run(
    command: Sequence[str],
    *,
    user: str | None,
    environment: Mapping[str, str],
    timeout_s: float,
    grace_s: float = 2.0,
    output_limit: int = 4096,
    started: Callable[[int], None] | None = None,
) -> Outcome:
    """Run ``command`` to its end or its timeout. Raises ScriptRefused if it was not started.

    ``started`` is told the process, which leads its own session and process group.
    """
    raise NotImplementedError
