"""A hook runner over real hooks. A hook here writes what it was given, then waits for its gate.

The gate is a named pipe: a hook that waits does so until the test opens it, so no test depends on
how long something takes.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vipd.duties import HookPlan, HookSet, Occasion
from vipd.model import SECOND_NS, Note, NoteKind
from vipd.supervisor.hooks import HookEvent, HookOutcome, HookRunner

LONG_S = 30.0

HOOK = """#!/bin/sh
# hook NAME STATUS [argument...]: write what was given, wait for the gate if there is one.
where={where}
name=$1 status=$2
shift 2
echo "$name $* seq=$VIPD_SEQUENCE prev=$VIPD_PREVIOUS" >>$where/log
env >$where/env.$name
if [ -p $where/gate.$name ]; then read answer <$where/gate.$name; fi
echo "said by $name"
[ ! -e $where/status.$name ] || status=$(cat $where/status.$name)
exit $status
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One run, as the hook wrote it."""

    hook: str
    arguments: tuple[str, ...]
    sequence: int
    previous: str

    @property
    def state(self) -> str:
        return self.arguments[2]


class Rig:
    def __init__(self, where: Path) -> None:
        self.where = where
        self.events: list[HookEvent] = []
        self.hook = where / "hook"
        self.hook.write_text(HOOK.format(where=where))
        self.hook.chmod(0o755)
        self.runner: HookRunner
        self.new_life()

    def new_life(self, retry_pause_s: float = 0.001) -> None:
        self.runner = HookRunner(
            "lb1",
            self.events.append,
            runtime_dir=self.where / "run",
            state_dir=self.where,
            retry_pause_s=retry_pause_s,
        )

    # --- plans --------------------------------------------------------------------------------

    def set(
        self,
        *occasions: str,
        name: str = "web",
        kind: str = "INSTANCE",
        status: int = 0,
        retries: int = 0,
        timeout_s: float = LONG_S,
        user: str | None = None,
    ) -> HookSet:
        return HookSet(
            kind=kind,
            name=name,
            commands={
                Occasion(occasion): (str(self.hook), f"{name}-{occasion}", str(status))
                for occasion in occasions
            },
            timeout_ns=int(timeout_s * SECOND_NS),
            retries=retries,
            user=user,
            vips=("192.0.2.100", "2001:db8::100"),
        )

    def plan(self, *occasions: str, **options: object) -> HookPlan:
        return HookPlan("web", (self.set(*occasions, **options),))  # type: ignore[arg-type]

    # --- what happens -------------------------------------------------------------------------

    def role(self, state: str, unit: str = "web", reason: str = "master-silent") -> None:
        fields = {
            "state": state,
            "reason": reason,
            "detail": "",
            "priority": 150,
            "master": "192.0.2.12",
        }
        self.runner.role(Note(NoteKind.ROLE, unit, fields))

    def close_gate(self, hook: str) -> None:
        os.mkfifo(self.where / f"gate.{hook}")

    def open_gate(self, hook: str) -> None:
        """Lets the hook that waits go on, and those after it."""
        gate = self.where / f"gate.{hook}"
        fd = os.open(gate, os.O_RDWR)
        gate.unlink()
        os.write(fd, b"\n")
        asyncio.get_running_loop().call_later(LONG_S, os.close, fd)  # open until it is read

    def answer(self, hook: str, status: int) -> None:
        (self.where / f"status.{hook}").write_text(str(status))

    # --- what is seen -------------------------------------------------------------------------

    def log(self) -> list[Line]:
        path = self.where / "log"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [Line(w[0], tuple(w[1:-2]), int(w[-2][4:]), w[-1][5:]) for w in lines if len(w) > 3]

    def ran(self) -> list[str]:
        return [line.hook for line in self.log()]

    def environment(self, hook: str) -> dict[str, str]:
        lines = (self.where / f"env.{hook}").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def outcomes(self) -> list[tuple[str, str]]:
        return [(f"{e.name}-{e.occasion.value}", e.outcome.value) for e in self.events]

    def queued(self, unit: str = "web") -> list[str]:
        status = self.runner.status()[unit]
        return list(status["queued"])  # type: ignore[index]

    def running(self, unit: str = "web") -> object:
        return self.runner.status()[unit]["running"]  # type: ignore[index]

    async def until(self, seen: Callable[[], bool]) -> None:
        async def watch() -> None:
            while not seen():
                await asyncio.sleep(0.002)

        await asyncio.wait_for(watch(), LONG_S)

    async def started(self, hook: str, times: int = 1) -> None:
        await self.until(lambda: self.ran().count(hook) >= times)

    async def idle(self) -> None:
        def nothing() -> bool:
            statuses = self.runner.status().values()
            return all(
                status["telling"] is None and not status["queued"]  # type: ignore[index]
                for status in statuses
            )

        await self.until(nothing)

    async def told(self, number: int) -> None:
        """So many hooks were reported."""
        await self.until(lambda: len(self.events) >= number)


@contextmanager
def a_rig() -> Iterator[Rig]:
    """In a place where root may run a hook, and others can read it."""
    where = Path(tempfile.mkdtemp(prefix="vipd-hooks-"))
    where.chmod(0o755)
    try:
        yield Rig(where)
    finally:
        shutil.rmtree(where)


def play(story: Callable[[Rig], Awaitable[None]]) -> None:
    """Run a story to its end; what still runs is killed."""

    async def tell(rig: Rig) -> None:
        try:
            await story(rig)
        finally:
            await rig.runner.stop(0)

    with a_rig() as rig:
        asyncio.run(asyncio.wait_for(tell(rig), 2 * LONG_S))


__all__ = ["HookEvent", "HookOutcome", "Line", "Rig", "a_rig", "play"]
