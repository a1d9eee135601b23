"""Hooks: the operator's programs that hear of every change of role.

Rules
-----
1. A unit is a group, or an instance in none. Its hooks run one after the other, never two at once,
   in the order of the changes; units run side by side. Nothing else in vipd waits for a hook,
   except a *planned* release for ``leaving``, within its budget.
2. A hook is due when the role is real: state and kernel agree (``NoteKind.ROLE``). A role that is
   repeated is no news, with one exception: when the engine died as master the VIPs were gone, so
   the next role is told whatever it is. The role in which a unit starts is told like any other,
   but INIT only to ``any``, and only after another role: at the start there is nothing to undo.
3. A role that was passed through while a hook ran is skipped; the last one never is. Each hook that
   was skipped is reported. ``VIPD_PREVIOUS`` is what this unit's hooks were told before, not what
   they were spared, so each run follows from the one before it.
4. A hook that fails is repeated up to ``retries`` times, after 1, 2, 4 ... seconds, until
   something newer waits. Then, whatever became of it, the next one runs.
5. ``leaving`` runs before a planned release, in units that are master, within ``timeout`` and at
   most five seconds, a hook that still runs before it included. It is told once, without retry.
6. ``stop`` runs last: when vipd stops, after the release, or when a reload removed the unit. The
   role that such a release ends in is not told: ``stop`` says it.
7. Hooks do not outlive vipd. When it is killed the kernel kills the hook with it; what the hook had
   started in its session is ended by the next life before it runs anything, and the run is reported
   as lost: nobody saw how it ended. So is every other hook that was due and had no report yet.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from vipd.adapters import session
from vipd.duties import HookPlan, Occasion
from vipd.model import SECOND_NS, Note, Reason
from vipd.supervisor.hook_event import LEAVING, MASTER, STOP, Change, HookEvent, HookOutcome
from vipd.supervisor.hook_record import Debt, Ledger, Records, Run, begin_life
from vipd.supervisor.hook_unit import HookUnit, Surroundings, sessions_ended, surface

__all__ = ["HookEvent", "HookOutcome", "HookRunner"]

LONGEST_LEAVING_S = 5.0

REMOVAL_WAIT_S = 5.0
"""How long the stop hooks of a unit that a reload removed wait for word of its release."""

_SAID_BY_STOP = (Reason.STOPPED.value, Reason.REMOVED.value)


async def _at_once() -> None:
    """Where what is reported needs no keeping."""


class HookRunner:
    """All units. ``happened`` is called for each hook that was due, whatever became of it.

    ``kept`` returns when all that was reported so far is on disk, or will never be.
    """

    def __init__(
        self,
        node: str,
        happened: Callable[[HookEvent], None],
        *,
        runtime_dir: Path,
        state_dir: Path,
        retry_pause_s: float = 1.0,
        kept: Callable[[], Awaitable[None]] = _at_once,
    ) -> None:
        self._records = Records(runtime_dir)
        self._kept = kept
        self._happened = happened
        self._cleaned = asyncio.Event()
        self._around = Surroundings(node, happened, self._cleaned, retry_pause_s)
        self._units: dict[str, HookUnit] = {}
        self._sequence = begin_life(state_dir)
        self._cleaning: asyncio.Task[None] | None = None
        self._stopping = False

    # --- what is wanted -----------------------------------------------------------------------

    def configure(self, plans: Iterable[HookPlan]) -> None:
        """Take over the plans; what runs or waits goes on, with the old or the new commands."""
        if self._cleaning is None:
            left = self._records.take()  # before this life writes its own
            self._cleaning = asyncio.get_running_loop().create_task(self._clean(left))
            self._cleaning.add_done_callback(surface)
        wanted = {plan.unit: plan for plan in plans}
        for name, unit in list(self._units.items()):
            if name not in wanted and not unit.removed:
                self._remove(unit)
        for name, plan in wanted.items():
            known = self._units.get(name)
            if known is None or known.worker.done():
                ledger = Ledger(name, self._records, self._kept)
                self._units[name] = HookUnit(plan, self._around, ledger)
            else:
                known.adopt(plan)

    def role(self, note: Note) -> None:
        """A note of NoteKind.ROLE."""
        unit = self._units.get(note.instance)
        if unit is None or self._stopping:
            return
        state, reason = str(note.fields["state"]), str(note.fields.get("reason", ""))
        unit.priority = int(note.fields.get("priority", 0))
        unit.master = str(note.fields.get("master", ""))
        if state == unit.state and not unit.interrupted:
            return
        unit.state, unit.interrupted = state, False
        if unit.removed:
            if state != MASTER:
                self._bury(unit)
        elif reason not in _SAID_BY_STOP:
            unit.tell(self._change(unit, state, reason))

    def engine_died(self) -> None:
        """The VIPs are gone; what the next engine says is news to units that were master."""
        for unit in self._units.values():
            unit.interrupted = unit.state == MASTER

    async def leaving(self, units: Iterable[str], reason: str) -> None:
        """Run the leaving hooks of those units that are master; returns within five seconds."""
        loop = asyncio.get_running_loop()
        waits = []
        for name in units:
            unit = self._units.get(name)
            if unit is None or unit.state != MASTER:
                continue
            sets = [hooks for hooks in unit.plan.sets if Occasion.LEAVING in hooks.commands]
            if not sets:
                continue
            longest_s = max(hooks.timeout_ns for hooks in sets) / SECOND_NS
            budget_s = min(longest_s, LONGEST_LEAVING_S)
            change = self._change(unit, LEAVING, reason)
            change.deadline_s = loop.time() + budget_s
            waits.append(unit.leave(change, budget_s))
        await asyncio.gather(*waits)

    async def stop(self, budget_s: float) -> None:
        """After the release: the stop hooks, then nothing any more. Returns within the budget."""
        self._stopping = True
        deadline_s = asyncio.get_running_loop().time() + budget_s
        waits = []
        for unit in self._units.values():
            change = self._change(unit, STOP, Reason.STOPPED.value)
            change.deadline_s = deadline_s
            waits.append(unit.shut(change, budget_s))
        await asyncio.gather(*waits)
        if self._cleaning is not None:
            self._cleaning.cancel()

    def _change(self, unit: HookUnit, state: str, reason: str) -> Change:
        self._sequence += 1
        return Change(state, self._sequence, reason, unit.priority, unit.master)

    # --- units that a reload removes ----------------------------------------------------------

    def _remove(self, unit: HookUnit) -> None:
        unit.removed = True
        if unit.state != MASTER:
            self._bury(unit)
        else:
            asyncio.get_running_loop().call_later(REMOVAL_WAIT_S, self._bury, unit)

    def _bury(self, unit: HookUnit) -> None:
        """Its stop hooks, once; a reload may have brought it back meanwhile."""
        if not unit.removed or self._stopping or unit.finishing:
            return
        unit.finish(self._change(unit, STOP, Reason.REMOVED.value))
        unit.worker.add_done_callback(lambda _worker: self._forget(unit))

    def _forget(self, unit: HookUnit) -> None:
        if self._units.get(unit.plan.unit) is unit:
            del self._units[unit.plan.unit]

    # --- what is shown ------------------------------------------------------------------------

    def status(self) -> dict[str, object]:
        return {name: unit.status() for name, unit in self._units.items()}

    def failures(self) -> list[tuple[str, str]]:
        """(unit, detail) of each hook that failed when its unit's state was last told."""
        return [
            (name, detail) for name, unit in self._units.items() for detail in unit.failing.values()
        ]

    # --- what an earlier life left ------------------------------------------------------------

    async def _clean(self, left: list[Debt]) -> None:
        """End it, wait until it is gone, report it; only then may hooks run."""
        sessions = [debt.session for debt in left if debt.session is not None]
        alive = [found for found in sessions if session.members(found)]
        if not await sessions_ended(sessions, signal.SIGTERM):
            # What this does not end hangs in the kernel, and will not run a line of its own again.
            await sessions_ended(sessions, signal.SIGKILL)
        for debt in left:
            for number, run in enumerate(debt.runs):
                ran_in = debt.session if number == 0 else None
                self._happened(_lost(run, ran_in is not None, ran_in in alive))
        self._cleaned.set()
        await self._kept()
        self._records.forget()


def _lost(run: Run, ran: bool, was_alive: bool) -> HookEvent:
    rest = "what it left running was ended" if was_alive else "its end was not seen"
    return HookEvent(
        unit=run.unit,
        name=run.name,
        occasion=Occasion(run.occasion),
        state=run.state,
        sequence=run.sequence,
        command=run.command,
        outcome=HookOutcome.LOST,
        detail=f"vipd was killed while it ran; {rest}" if ran else "vipd was killed before it ran",
    )
