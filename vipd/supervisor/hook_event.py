"""The words of hooks: a change that is told, what each hook is given, what became of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from vipd.duties import HookPlan, HookSet, Occasion

MASTER, BACKUP, FAULT, INIT = "MASTER", "BACKUP", "FAULT", "INIT"
LEAVING, STOP = "LEAVING", "STOP"

_OCCASIONS = {
    MASTER: Occasion.MASTER,
    BACKUP: Occasion.BACKUP,
    FAULT: Occasion.FAULT,
    LEAVING: Occasion.LEAVING,
    STOP: Occasion.STOP,
}


class HookOutcome(Enum):
    """What became of a hook that was due."""

    OK = "ok"
    FAILED = "failed"
    TIMED_OUT = "timed-out"
    REFUSED = "refused"  # not started
    SKIPPED = "skipped"  # a newer state came first, or there was no time left
    ENDED = "ended"  # killed, because vipd stops
    LOST = "lost"  # vipd was killed while it ran


@dataclass(frozen=True, slots=True)
class HookEvent:
    """One hook that was due, and what became of it. ``state`` is what the hook was told.

    ``status``: exit code, or minus the signal that ended it; None if it did not run or its end
    was not seen. ``started_at`` is Unix time, 0 if it did not run.
    """

    unit: str
    name: str
    occasion: Occasion
    state: str
    sequence: int
    command: tuple[str, ...]
    outcome: HookOutcome
    detail: str
    status: int | None = None
    timed_out: bool = False
    attempts: int = 0
    started_at: float = 0.0
    elapsed_ms: int = 0
    output: str = ""


@dataclass(slots=True, eq=False)
class Change:
    """Something that hooks are told. ``deadline_s``: by the loop's clock, for what cannot wait."""

    state: str
    sequence: int
    reason: str
    priority: int
    master: str
    deadline_s: float | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_role(self) -> bool:
        return self.state not in (LEAVING, STOP)


class Step(NamedTuple):
    """One hook of one change."""

    hooks: HookSet
    occasion: Occasion
    command: tuple[str, ...]


def steps_of(plan: HookPlan, change: Change) -> list[Step]:
    """The hooks of ``change``, in order: for each set the specific one, then ``any``.

    ``any`` hears of every state and of the stop; leaving is no state.
    """
    occasions = [_OCCASIONS[change.state]] if change.state in _OCCASIONS else []
    if change.state != LEAVING:
        occasions.append(Occasion.ANY)
    return [
        Step(hooks, occasion, hooks.commands[occasion])
        for hooks in plan.sets
        for occasion in occasions
        if occasion in hooks.commands
    ]


def command_of(step: Step, change: Change) -> tuple[str, ...]:
    """With the arguments that keepalived gives."""
    hooks = step.hooks
    return (*step.command, hooks.kind, hooks.name, change.state, str(change.priority))


def environment_of(
    step: Step, change: Change, plan: HookPlan, node: str, previous: str
) -> dict[str, str]:
    environment = {
        "VIPD_INSTANCE": step.hooks.name,
        "VIPD_STATE": change.state,
        "VIPD_PREVIOUS": previous,
        "VIPD_PRIORITY": str(change.priority),
        "VIPD_REASON": change.reason,
        "VIPD_VIPS": " ".join(step.hooks.vips),
        "VIPD_NODE": node,
        "VIPD_MASTER": change.master,
        "VIPD_SEQUENCE": str(change.sequence),
    }
    if any(hooks.kind == "GROUP" for hooks in plan.sets):
        environment["VIPD_GROUP"] = plan.unit
    return environment
