"""The hooks of one unit, one at a time. The rules stand in ``hooks``.

A unit has at most one change of each kind waiting: a role, a leaving, a stop. A newer role takes
the place of an older one, and the hooks of that are reported as skipped. They are taken in this
order, which is the order in which they can come: a leaving belongs to the role before it, and
after a stop comes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from vipd.adapters.session import Session, members, session_of, signal_all
from vipd.duties import HookPlan
from vipd.model import SECOND_NS
from vipd.supervisor import scripts
from vipd.supervisor.hook_event import (
    INIT,
    LEAVING,
    MASTER,
    STOP,
    Change,
    HookEvent,
    HookOutcome,
    Step,
    command_of,
    environment_of,
    steps_of,
)
from vipd.supervisor.hook_record import Ledger, Run

GRACE_S = 2.0
HURRIED_GRACE_S = 0.5
"""Between SIGTERM and SIGKILL where vipd's own end, or a planned release, waits for it."""

LONGEST_PAUSE_S = 60.0

LEFT_GRACE_S = 1.0
LEFT_STEP_S = 0.01
"""How long, and how often, it is looked whether the rest of a session is dead."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all units share. ``cleaned``: nothing of an earlier life runs any more."""

    node: str
    happened: Callable[[HookEvent], None]
    cleaned: asyncio.Event
    retry_pause_s: float


class HookUnit:
    """One queue and its worker."""

    def __init__(self, plan: HookPlan, around: Surroundings, ledger: Ledger) -> None:
        self.plan = plan
        self.state = INIT
        self.interrupted = False  # the engine died as master: even the same role is news
        self.removed = False
        self.priority = 0
        self.master = ""
        self.failures = 0
        self.failing: dict[tuple[str, str], str] = {}
        self.last: HookEvent | None = None
        self._around = around
        self._ledger = ledger
        self._told = INIT
        self._role: Change | None = None
        self._leaving: Change | None = None
        self._stop: Change | None = None
        self._current: Change | None = None
        self._left: list[Step] = []  # of the current one, not reported yet
        self._running: HookEvent | None = None
        self._pid = 0
        self._session: Session | None = None
        self._news = asyncio.Event()
        self.worker = asyncio.get_running_loop().create_task(self._work())
        self.worker.add_done_callback(surface)

    # --- what is wanted -----------------------------------------------------------------------

    def tell(self, change: Change) -> None:
        """A role. What waited before it is passed over."""
        self._pass_over(self._role, "a newer state came first")
        self._role = change
        self._owe()
        self._news.set()

    async def leave(self, change: Change, budget_s: float) -> None:
        """Returns when the leaving hooks are done, or the budget is."""
        self._leaving = change
        self._owe()
        self._news.set()
        if await _within(change.over, budget_s):
            return
        if self._leaving is change:
            self._leaving = None
            self._pass_over(change, "the hook before it took all the time")
            self._owe()

    def finish(self, change: Change) -> None:
        """A stop; nothing comes after it, unless a reload brings the unit back."""
        self._pass_over(self._role, "vipd does not look after it any more")
        self._role, self._stop = None, change
        self.state = INIT
        self._owe()
        self._news.set()

    @property
    def finishing(self) -> bool:
        """Its stop is waiting, is being told, or was told and the worker has ended."""
        telling = self._current is not None and self._current.state == STOP
        return self._stop is not None or telling or self.worker.done()

    def adopt(self, plan: HookPlan) -> None:
        """A reload changed the hooks, or brought the unit back before its stop was told."""
        self.plan, self.removed, self._stop = plan, False, None
        self._owe()

    async def shut(self, change: Change, budget_s: float) -> None:
        """The stop hooks within the budget; a hook that runs may have half of it."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + budget_s
        busy = self._current
        self.finish(change)
        if busy is not None and not await _within(busy.over, budget_s / 2):
            self._signal(signal.SIGTERM)
            if not await _within(busy.over, min(HURRIED_GRACE_S, budget_s / 8)):
                self._signal(signal.SIGKILL)
        await _within(change.over, end_s - loop.time())
        if self._stop is change:
            self._stop = None
            self._pass_over(change, "there was no time left")
        self.worker.cancel()
        await asyncio.wait({self.worker})
        if self._current is not None:
            self._skip(self._left[1:], self._current, "there was no time left")
        await self._ledger.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, number)

    # --- the worker ---------------------------------------------------------------------------

    async def _work(self) -> None:
        await self._around.cleaned.wait()
        while True:
            change = self._take()
            if change is not None:
                self._current = change
                await self._carry_out(change)
                self._current = None
                self._owe()
                change.over.set()
            elif self.removed and self._told == STOP:
                return
            else:
                self._owe()
                self._news.clear()
                await self._news.wait()

    def _take(self) -> Change | None:
        if self._role is not None:
            change, self._role = self._role, None
            return change
        if self._leaving is not None:
            change, self._leaving = self._leaving, None
            if self.state == MASTER:
                return change
            self._pass_over(change, "it is not master any more")
            change.over.set()
        stop, self._stop = self._stop, None
        return stop

    async def _carry_out(self, change: Change) -> None:
        steps = steps_of(self.plan, change)
        previous = self._told
        if change.state != LEAVING:
            self._told = change.state
        failing: dict[tuple[str, str], str] = {}
        for number, step in enumerate(steps):
            self._left = steps[number:]
            self._owe()
            if change.is_role and (self._role or self._stop):
                self._skip(steps[number:], change, "a newer state came first")
                self.failing |= failing
                break
            event = await self._run(step, change, previous)
            self._report(event)
            if event.outcome is not HookOutcome.OK:
                self.failures += 1
                who = f"{step.occasion.value} hook of {step.hooks.name}"
                failing[step.hooks.name, step.occasion.value] = f"{who}: {event.detail}"
        else:
            self.failing = failing if steps else self.failing
        self._left = []

    # --- one hook -----------------------------------------------------------------------------

    async def _run(self, step: Step, change: Change, previous: str) -> HookEvent:
        """With its retries, which end when something newer waits."""
        environment = environment_of(step, change, self.plan, self._around.node, previous)
        pause_s = self._around.retry_pause_s
        attempts = 1
        while True:
            event = await self._run_once(step, change, environment, attempts)
            last = attempts > step.hooks.retries or change.deadline_s is not None
            if event.outcome is HookOutcome.OK or last or self._waiting():
                return event
            self._news.clear()
            try:
                newer = await _within(self._news, pause_s) and self._waiting()
            except asyncio.CancelledError:
                self._report(event)
                raise
            if newer:
                return event
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            attempts += 1

    def _waiting(self) -> bool:
        return any((self._role, self._leaving, self._stop))

    async def _run_once(
        self, step: Step, change: Change, environment: dict[str, str], attempts: int
    ) -> HookEvent:
        event = replace(
            self._event(step, change, HookOutcome.ENDED, "killed, because vipd stops"),
            attempts=attempts,
            started_at=time.time(),
        )
        timeout_s, grace_s = step.hooks.timeout_ns / SECOND_NS, GRACE_S
        if change.deadline_s is not None:
            left_s = change.deadline_s - asyncio.get_running_loop().time()
            timeout_s, grace_s = min(timeout_s, left_s), HURRIED_GRACE_S
            if left_s <= 0:
                return self._event(step, change, HookOutcome.SKIPPED, "there was no time left")
        self._running, self._session = event, None
        try:
            outcome = await scripts.run(
                command_of(step, change),
                user=step.hooks.user,
                environment=environment,
                timeout_s=timeout_s,
                grace_s=grace_s,
                started=self._note_start,
            )
            self._pid = 0  # reaped: the number may be another's from now on
            if outcome.status != 0 and self._session is not None:
                # Its group is killed; nothing of it may be alive beside the next hook.
                await sessions_ended([self._session], signal.SIGKILL)
        except scripts.ScriptRefused as error:
            return replace(event, outcome=HookOutcome.REFUSED, detail=str(error))
        except asyncio.CancelledError:
            self._report(event)
            raise
        finally:
            self._running, self._session, self._pid = None, None, 0
        return replace(
            event,
            outcome=_judge(outcome),
            detail=scripts.describe(outcome),
            status=outcome.status,
            timed_out=outcome.timed_out,
            elapsed_ms=scripts.elapsed_ms(outcome),
            output=outcome.output,
        )

    def _note_start(self, pid: int) -> None:
        self._pid, self._session = pid, session_of(pid)
        self._owe()

    # --- what became of it --------------------------------------------------------------------

    def _pass_over(self, change: Change | None, why: str) -> None:
        if change is not None:
            self._skip(steps_of(self.plan, change), change, why)

    def _skip(self, steps: list[Step], change: Change, why: str) -> None:
        for step in steps:
            self._report(self._event(step, change, HookOutcome.SKIPPED, why))

    def _event(self, step: Step, change: Change, outcome: HookOutcome, why: str) -> HookEvent:
        return HookEvent(
            unit=self.plan.unit,
            name=step.hooks.name,
            occasion=step.occasion,
            state=change.state,
            sequence=change.sequence,
            command=step.command,
            outcome=outcome,
            detail=why,
        )

    def _report(self, event: HookEvent) -> None:
        self._around.happened(event)
        self._ledger.report(_run_of(event))
        if event.started_at:
            self.last = event

    def _owe(self) -> None:
        """What the next life has to report, if this one is killed now."""
        due = [] if self._current is None else [(self._current, step) for step in self._left]
        for change in (self._role, self._leaving, self._stop):
            if change is not None:
                due += [(change, step) for step in steps_of(self.plan, change)]
        runs = [_run_of(self._event(step, change, HookOutcome.LOST, "")) for change, step in due]
        self._ledger.owe(runs, self._session)

    def status(self) -> dict[str, object]:
        queued = [c.state for c in (self._role, self._leaving, self._stop) if c is not None]
        return {
            "state": self.state,
            "telling": None if self._current is None else self._current.state,
            "running": None if self._running is None else _shown_running(self._running),
            "queued": queued,
            "last": None if self.last is None else _shown(self.last),
            "failures": self.failures,
            "failing": list(self.failing.values()),
        }


def _run_of(event: HookEvent) -> Run:
    return Run(
        event.unit, event.name, event.occasion.value, event.state, event.sequence, event.command
    )


def _judge(outcome: scripts.Outcome) -> HookOutcome:
    if outcome.timed_out:
        return HookOutcome.TIMED_OUT
    return HookOutcome.OK if outcome.status == 0 else HookOutcome.FAILED


def _shown_running(event: HookEvent) -> dict[str, object]:
    return {
        "name": event.name,
        "occasion": event.occasion.value,
        "state": event.state,
        "sequence": event.sequence,
        "command": list(event.command),
        "attempts": event.attempts,
        "started": event.started_at,
    }


def _shown(event: HookEvent) -> dict[str, object]:
    return _shown_running(event) | {
        "outcome": event.outcome.value,
        "detail": event.detail,
        "status": event.status,
        "timed_out": event.timed_out,
        "elapsed_ms": event.elapsed_ms,
        "output": event.output,
    }


def surface(task: asyncio.Task[None]) -> None:
    """A worker that failed is our fault: raised here, the daemon hears of it at once."""
    if not task.cancelled():
        task.result()


async def sessions_ended(sessions: list[Session], number: signal.Signals) -> bool:
    """Send a signal to all that is left until nothing is, or the grace is over."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + LEFT_GRACE_S
    signalled: set[int] = set()
    while True:
        alive = {pid for found in sessions for pid in members(found)}
        if not alive:
            return True
        if loop.time() > end_s:
            return False
        signal_all(alive - signalled, number)
        signalled |= alive
        await asyncio.sleep(LEFT_STEP_S)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Not by ``wait_for``: before Python 3.12 that loses a cancellation that comes with the event,
    and a worker that is not cancelled never ends.
    """
    try:
        async with asyncio.timeout(max(seconds, 0)):
            await event.wait()
    except TimeoutError:
        return False
    return True
