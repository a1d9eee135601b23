"""Probes by a program: ``script``, and ``systemd`` through ``systemctl is-active``.

How a program is started, judged and ended is ``supervisor.scripts``'s business. It keeps the
timeout itself, because what hangs has to be killed, and that can take longer.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol

from vipd.duties import ScriptProbe, SystemdProbe
from vipd.supervisor import scripts
from vipd.supervisor.checks.findings import (
    Finding,
    ProbeFailed,
    Word,
    healthy,
    one_line,
    refusal,
)
from vipd.supervisor.scripts import Outcome, ScriptRefused

LONGEST_GRACE_S = 1.0
"""Between SIGTERM and SIGKILL. A check has nothing to put in order, and its next run waits."""

_SYSTEM_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


class Run(Protocol):
    """``scripts.run``."""

    def __call__(
        self,
        command: Sequence[str],
        *,
        user: str | None,
        environment: Mapping[str, str],
        timeout_s: float,
        grace_s: float,
    ) -> Awaitable[Outcome]: ...


async def _outcome(run: Run, command: Sequence[str], user: str | None, timeout_s: float) -> Outcome:
    grace_s = min(LONGEST_GRACE_S, timeout_s)
    try:
        return await run(command, user=user, environment={}, timeout_s=timeout_s, grace_s=grace_s)
    except ScriptRefused as refused:
        cause: BaseException | None = refused
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__
        if cause is None:
            raise ProbeFailed(str(refused)) from refused
        raise type(refusal("", cause))(str(refused)) from refused


class ScriptCheck:
    """Exit status 0 is healthy; the first line of output is the detail."""

    ends_itself = True

    def __init__(self, config: ScriptProbe, run: Run = scripts.run) -> None:
        self._config, self._run = config, run

    async def run(self, timeout_s: float) -> Finding:
        config = self._config
        outcome = await _outcome(self._run, config.command, config.user, timeout_s)
        said = one_line(outcome.output)
        if outcome.status == 0 and not outcome.timed_out:
            return healthy(said or "exit status 0")
        how = scripts.describe(outcome)
        text = f"{how}: {said}" if said else how
        return Finding(Word.TIMED_OUT if outcome.timed_out else Word.FAILED, one_line(text))

    def close(self) -> None:
        """Nothing is held between runs."""


class SystemdCheck:
    """``systemctl is-active`` names the state, which is the detail."""

    ends_itself = True

    def __init__(self, config: SystemdProbe, run: Run = scripts.run) -> None:
        self._unit, self._run = config.unit, run

    async def run(self, timeout_s: float) -> Finding:
        program = shutil.which("systemctl", path=_SYSTEM_PATH)
        if program is None:
            raise ProbeFailed("there is no systemctl on this host")
        command = (program, "is-active", "--", self._unit)
        outcome = await _outcome(self._run, command, None, timeout_s)
        if outcome.timed_out:
            return Finding(Word.TIMED_OUT, scripts.describe(outcome))
        state = one_line(outcome.output) or scripts.describe(outcome)
        # A state is one word; else systemctl explains why it cannot tell.
        said = f"systemctl: {state}" if " " in state else f"{self._unit} is {state}"
        if outcome.status != 0:
            raise ProbeFailed(said)
        return healthy(said)

    def close(self) -> None:
        """Nothing is held between runs."""
