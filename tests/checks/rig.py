"""Checks whose probe is played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from tests.checks.virtual import loop
from vipd.duties import CheckConfig, FileProbe, Initial, Probe
from vipd.model import MILLISECOND_NS
from vipd.supervisor.checks.findings import CheckEvent, Finding, Word
from vipd.supervisor.checks.lateness import Lateness
from vipd.supervisor.checks.runner import Runner

GOOD = Finding(Word.HEALTHY, "good")
BAD = Finding(Word.FAILED, "bad")
LATE = Finding(Word.TIMED_OUT, "late")


def config(
    name: str = "check",
    probe: Probe | None = None,
    interval_ms: int = 1000,
    timeout_ms: int = 500,
    rise: int = 1,
    fall: int = 1,
    initial: Initial = Initial.WAIT,
) -> CheckConfig:
    return CheckConfig(
        name,
        probe or FileProbe("/nothing"),
        interval_ms * MILLISECOND_NS,
        timeout_ms * MILLISECOND_NS,
        rise,
        fall,
        initial,
    )


async def at_once() -> Finding:
    return GOOD


class PlayedProbe:
    """Each run does the next of ``acts``; the last one again and again."""

    def __init__(
        self, acts: Iterable[Callable[[], Awaitable[Finding]]], ends_itself: bool = False
    ) -> None:
        self._acts = list(acts)
        self.ends_itself = ends_itself
        self.began: list[float] = []
        self.going = self.most_going = 0
        self.closed = False

    async def run(self, timeout_s: float) -> Finding:
        act = self._acts.pop(0) if len(self._acts) > 1 else self._acts[0]
        self.began.append(loop().time())
        self.going += 1
        self.most_going = max(self.most_going, self.going)
        try:
            return await act()
        finally:
            self.going -= 1

    def close(self) -> None:
        self.closed = True


def finds(*findings: Finding) -> list[Callable[[], Awaitable[Finding]]]:
    def act(finding: Finding) -> Callable[[], Awaitable[Finding]]:
        async def found() -> Finding:
            return finding

        return found

    return [act(finding) for finding in findings]


def takes(seconds: float, finding: Finding = GOOD) -> Callable[[], Awaitable[Finding]]:
    async def slow() -> Finding:
        await asyncio.sleep(seconds)
        return finding

    return slow


def raises(error: BaseException) -> Callable[[], Awaitable[Finding]]:
    async def fail() -> Finding:
        raise error

    return fail


class Played:
    """A runner with a played probe, and what it told."""

    def __init__(self, probe: PlayedProbe, settings: CheckConfig) -> None:
        self.probe = probe
        self.events: list[CheckEvent] = []
        self.lateness = Lateness(loop())
        self.runner = Runner(settings, probe, self.lateness, self.events.append)

    @property
    def words(self) -> list[Word]:
        return [event.new for event in self.events]

    async def stop(self) -> None:
        await self.runner.stop()
        self.lateness.close()
