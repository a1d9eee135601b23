"""When a check runs, and what its run counts as.

Rules
-----
1. *Spread.* The first run begins at random within the first second (or interval, if shorter), so
   that a node is soon allowed to become master. The second follows after half to one and a half
   intervals, by chance, and from then on there is one slot in each interval: checks with the
   same interval are spread over it.
2. *One at a time.* A slot that finds the last run still going is **missed**: counted, no failure.
   Unless that run ends within a tenth of the interval after it: then the slot is made up for.
   Otherwise a check whose timeout is its interval, and which hangs, would run only every other
   time.
3. *Timeout.* A run that has not ended by then is judged ``timed-out`` at that moment. Most probes
   are cancelled; one that cleans up by itself (a script that is being killed) goes on, and what
   it finds then counts no more.
4. *Our own lateness is nobody's failure.* Time in which the loop did not turn (``lateness``) is
   added to the timeout. Slots that passed meanwhile are missed. A bad finding in whose making
   much time was lost says nothing, and the run counts as missed.
5. *Early runs.* A probe that hears of a change (a process died, a link fell) asks for a run at
   once. Early runs keep a second, or the interval if shorter, between them, and the next slot
   comes a full interval later: ``fall: 2`` still means two runs an interval apart.
6. Nothing that a probe raises ends more than this one run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from random import random
from typing import Any

from vipd.duties import CheckConfig
from vipd.model import SECOND_NS, Verdict
from vipd.supervisor.checks.findings import (
    CheckEvent,
    Finding,
    Probe,
    ProbeFailed,
    Unjudged,
    Word,
    one_line,
)
from vipd.supervisor.checks.judge import Judge, judge_of
from vipd.supervisor.checks.lateness import Lateness

SPREAD_S = 1.0
EARLY_PAUSE_S = 1.0
MADE_UP_PART = 0.1

FAIR_PART = 0.75
"""A probe's own time-out counts if the loop turned for this part of the timeout. Any other bad
finding does, unless as much as the timeout was lost: then the other side may have given us up."""

STALE_INTERVALS = 3
STOP_LIMIT_S = 1.0
_SOONEST_S = 0.001


class Runner:
    """One check: its schedule, its run, its verdict."""

    def __init__(
        self,
        config: CheckConfig,
        probe: Probe,
        lateness: Lateness,
        changed: Callable[[CheckEvent], None],
        earlier: Judge | None = None,
    ) -> None:
        self.config = config
        self.judge = judge_of(config)
        if earlier is not None:
            self.judge.continue_from(earlier)
        self._probe, self._lateness, self._changed = probe, lateness, changed
        self._loop = asyncio.get_running_loop()
        self._interval_s = config.interval_ns / SECOND_NS
        self._timeout_s = config.timeout_ns / SECOND_NS
        self.runs = self.failures = self.timeouts = self.missed = 0
        self.since = time.time()
        self.last_ms: float | None = None
        self._hindrance = ""  # why the last run gave no finding
        self._unjudged = 0  # runs in a row that gave none
        self._task: asyncio.Task[Finding] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._began = self._lost_before = 0.0
        self._judged = False  # the run that is going has had its finding
        self._owed: float | None = None  # a slot that may still be made up for
        self._early: asyncio.TimerHandle | None = None
        self._last_early = -EARLY_PAUSE_S
        self._wants_early = False
        self._stopped = False
        self._finished = self._loop.time()
        self._finished_lost = lateness.lost_s
        self._is_first = True
        self._slot = self._loop.time() + random() * min(SPREAD_S, self._interval_s)
        self._timer = self._loop.call_at(self._slot, self._slot_comes)

    # --- slots --------------------------------------------------------------------------------

    def _slot_comes(self) -> None:
        now = self._loop.time()
        due = self._slot
        passed = int((now - due) / self._interval_s)
        self.missed += passed
        # The first step is between half and one and a half: all phases are equally likely.
        step = 0.5 + random() if self._is_first else 1.0
        self._is_first = False
        self._slot = due + (passed + step) * self._interval_s
        self._timer = self._loop.call_at(self._slot, self._slot_comes)
        if self._task is None:
            self._begin()
            return
        if self._owed is not None:
            self.missed += 1
        self._owed = due

    def nudge(self) -> None:
        """Something has changed that the check is about: run soon."""
        if self._stopped or self._early is not None or self._wants_early:
            return
        pause_s = min(EARLY_PAUSE_S, self._interval_s)
        self._early = self._loop.call_at(self._last_early + pause_s, self._early_comes)

    def _early_comes(self) -> None:
        self._early = None
        if self._task is not None:
            self._wants_early = True  # the run that is going may have looked before
            return
        now = self._loop.time()
        self._last_early = now
        self._timer.cancel()
        self._is_first = False
        self._slot = now + self._interval_s
        self._timer = self._loop.call_at(self._slot, self._slot_comes)
        self._begin()

    # --- one run ------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._began = self._loop.time()
        self._lost_before = self._lateness.lost_s
        self._judged = False
        self._deadline = self._loop.call_at(self._began + self._timeout_s, self._time_is_up)
        self._task = self._loop.create_task(self._guarded_run())
        self._task.add_done_callback(self._ended)

    async def _guarded_run(self) -> Finding:
        try:
            return await self._probe.run(self._timeout_s)
        except ProbeFailed as failure:
            return Finding(Word.FAILED, one_line(str(failure)))
        except Unjudged as hindrance:
            return Finding(Word.UNKNOWN, one_line(str(hindrance)))
        # Elsewhere an unknown error ends the process, so that the VIPs are released. Here it must
        # not: a check is a stranger's answer put through foreign libraries, and if a strange
        # answer could end the supervisor, one broken web page would take the VIPs from every node
        # that looks at it. The error is not hidden: it is the detail of a failed verdict.
        except Exception as error:  # noqa: BLE001
            return Finding(Word.FAILED, one_line(f"unexpected {type(error).__name__}: {error}"))

    @property
    def _lost_s(self) -> float:
        """What the loop lost since the run began."""
        return self._lateness.lost_s - self._lost_before

    def _time_is_up(self) -> None:
        task = self._task
        if task is None:
            return
        end = self._began + self._timeout_s + self._lost_s
        if end - self._loop.time() > _SOONEST_S:
            self._deadline = self._loop.call_at(end, self._time_is_up)
            return
        self._take(Finding(Word.TIMED_OUT, f"no end within {self._timeout_s * 1000:g} ms"))
        if not self._probe.ends_itself:
            task.cancel()

    def _ended(self, task: asyncio.Task[Finding]) -> None:
        self._task = None
        if self._deadline is not None:
            self._deadline.cancel()
        if self._stopped:
            return
        if task.cancelled():
            finding = Finding(Word.FAILED, "unexpected CancelledError")
        else:
            finding = task.result()
        if not self._judged:
            self._weigh(finding)
        elif finding.word is Word.TIMED_OUT:
            self.judge.refine(finding.detail)
        self._go_on()

    def _weigh(self, finding: Finding) -> None:
        """Is it about the service, or about us?"""
        lost_s = self._lost_s
        had_s = self._loop.time() - self._began - lost_s
        if finding.word is Word.TIMED_OUT:
            is_fair = had_s >= self._timeout_s * FAIR_PART
        else:
            is_fair = finding.word is not Word.FAILED or lost_s < self._timeout_s
        if not is_fair:
            detail = f"vipd itself was not scheduled for {lost_s * 1000:.0f} ms"
            finding = Finding(Word.UNKNOWN, detail)
        if finding.word is Word.UNKNOWN:
            self.missed += 1
            self._unjudged += 1
            self._hindrance = finding.detail
        else:
            self._take(finding)

    def _take(self, finding: Finding) -> None:
        self._judged = True
        self._hindrance, self._unjudged = "", 0
        self._finished, self._finished_lost = self._loop.time(), self._lateness.lost_s
        self.last_ms = elapsed_ms = (self._finished - self._began) * 1000
        self.runs += 1
        self.failures += finding.word is Word.FAILED
        self.timeouts += finding.word is Word.TIMED_OUT
        old = self.judge.word
        if self.judge.take(finding):
            if self.judge.word is not old:
                self.since = time.time()
            new, number = self.judge.word, self.judge.number
            name = self.config.name
            self._changed(CheckEvent(name, old, new, finding.detail, elapsed_ms, number))

    def _go_on(self) -> None:
        """After a run: what it kept waiting."""
        owed, self._owed = self._owed, None
        if self._wants_early:
            self._wants_early = False
            self.missed += owed is not None
            self.nudge()
        elif owed is not None:
            if self._loop.time() - owed <= self._interval_s * MADE_UP_PART:
                self._begin()
            else:
                self.missed += 1

    # --- what it says of itself ---------------------------------------------------------------

    @property
    def verdict(self) -> Verdict:
        return Verdict(self.config.name, self.judge.word.health, self.judge.number)

    @property
    def stale(self) -> str | None:
        """Why its verdict is not to be trusted any more, or None.

        What our own loop lost does not count: after a stall every check would be stale for the
        moment until its run. Unless it is late all the time, and run after run comes to nothing.
        """
        age_s = self._loop.time() - self._finished
        limit_s = STALE_INTERVALS * self._interval_s + self._timeout_s
        idle_s = age_s - (self._lateness.lost_s - self._finished_lost)
        is_hindered = self._unjudged >= STALE_INTERVALS and age_s > limit_s
        if idle_s <= limit_s and not is_hindered:
            return None
        why = f": {self._hindrance}" if self._hindrance else ""
        return f"no run has ended for {age_s:.1f} s{why}"

    def status(self, kind: str) -> dict[str, Any]:
        word = self.judge.word
        return {
            "kind": kind,
            "healthy": None if word is Word.UNKNOWN else word is Word.HEALTHY,
            "verdict": word.value,
            "number": self.judge.number,
            "since": self.since,
            "last_ms": None if self.last_ms is None else round(self.last_ms, 3),
            "detail": self._hindrance or self.judge.detail,
            "runs": self.runs,
            "failures": self.failures,
            "timeouts": self.timeouts,
            "missed": self.missed,
            "stale": self.stale is not None,
            "next_in_ms": round(max(0.0, self._slot - self._loop.time()) * 1000, 3),
        }

    # --- end ----------------------------------------------------------------------------------

    async def stop(self) -> None:
        """No further run; the one that is going is cancelled, and may clean up for a moment."""
        self._stopped = True
        for handle in (self._timer, self._early, self._deadline):
            if handle is not None:
                handle.cancel()
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=STOP_LIMIT_S)
        self._probe.close()
