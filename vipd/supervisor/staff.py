"""All that the supervisor does besides guarding the engine: checks, hooks, journal, alarms.

It joins them and decides nothing: what a check found goes to the engine, what the engine says goes
to hooks, journal, log and alarms, what hooks did goes to the journal. Two rules:

1. Nothing here is waited for by the guard of the engine; what may take long (a disk, a program, a
   network) has a task or a thread of its own.
2. Whatever happens is told once, by ``_record``: one entry in the journal, and a log line where
   somebody reading the log would miss it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import structlog

from vipd import __version__
from vipd.adapters.clock import boottime_ns
from vipd.adapters.journal import Journal
from vipd.adapters.journal_entry import Query
from vipd.duties import Duties
from vipd.ipc import HealthState, SnapshotWanted, ToEngine
from vipd.model import Alarm, Note, NoteKind, Verdict
from vipd.snapshots import Snapshot
from vipd.supervisor import entries, log
from vipd.supervisor.alarms import (
    ENGINE_RESTARTING,
    HOOK_FAILED,
    JOURNAL_NOT_WRITTEN,
    STALE_CHECKS,
    Alarms,
)
from vipd.supervisor.checks.board import CheckBoard
from vipd.supervisor.checks.findings import CheckEvent
from vipd.supervisor.hooks import HookEvent, HookOutcome, HookRunner

JOURNAL_NAME = "journal.db"
TICK_S = 1.0
"""How often the whole health vector is sent again, and alarms are looked at."""

STOP_BUDGET_S = 5.0
"""For all stop hooks together."""

CHEAP_INSTANCES = 20
"""A snapshot costs the engine 0.15 to 0.3 ms for each instance. So many are looked at for alarms of
the cluster every second, twice as many every two seconds, and so on: always below 0.6 % of a core.
"""

LOOK_S = 0.2
"""After a node came or went that is not waited for; what comes in a row shares a look."""

_CHANGES_THE_CLUSTER = (NoteKind.MEMBER_ALIVE, NoteKind.MEMBER_LOST, NoteKind.MEMBER_LEFT)

_FINE = (HookOutcome.OK, HookOutcome.SKIPPED)


class Staff:
    """``tell`` sends to the engine, again and again until it is taken."""

    def __init__(
        self,
        node: str,
        runtime_dir: Path,
        state_dir: Path,
        tell: Callable[[Callable[[], ToEngine]], None],
    ) -> None:
        self.dropped = 0
        self.journal = Journal.open(state_dir / JOURNAL_NAME)
        self._log = structlog.get_logger()
        self._tell = tell
        self._working_pid: int | None = None
        self._watched: dict[tuple[str, str], Callable[[], str | None]] = {}
        self._cluster_size = 0
        self._ticks = 0
        self._looking: asyncio.TimerHandle | None = None
        self._alarms = Alarms(self._alarm_changed)
        self._board = CheckBoard(self._health_changed, self._check_happened)
        self._hooks = HookRunner(
            node,
            self._hook_happened,
            runtime_dir=runtime_dir,
            state_dir=state_dir,
            kept=self.journal.kept,
        )
        self._ticking = asyncio.get_running_loop().create_task(self._tick())
        self.record(entries.daemon(f"started, version {__version__}"))

    # --- what is wanted of it -----------------------------------------------------------------

    def configure(self, duties: Duties) -> None:
        self._board.configure(duties.checks)
        self._hooks.configure(duties.hooks)

    def verdicts(self) -> tuple[Verdict, ...]:
        """The health vector as it is now."""
        return self._board.verdicts()

    async def leaving(self, units: Iterable[str], reason: str) -> None:
        """Before a planned release of ``units``: their ``leaving`` hooks, within their budget."""
        await self._hooks.leaving(units, reason)

    async def stop(self) -> None:
        """After the release: the ``stop`` hooks, then nothing of it runs any more."""
        self._ticking.cancel()
        if self._looking is not None:
            self._looking.cancel()
        await self._board.stop()
        await self._hooks.stop(STOP_BUDGET_S)
        self.record(entries.daemon("stopped"))
        await self.journal.close()

    def watch(self, name: str, subject: str, trouble: Callable[[], str | None]) -> None:
        """Ask once a second what is wrong: words raise the alarm ``name``, None ends it."""
        self._watched[name, subject] = trouble

    # --- what happens -------------------------------------------------------------------------

    def record(self, happening: entries.Happening) -> None:
        self.journal.add(*happening)

    def note(self, note: Note) -> None:
        """Something that the core said."""
        self.record(entries.note(note))
        self._alarms.hear(note, boottime_ns())
        if note.kind in _CHANGES_THE_CLUSTER and self._cluster_size and self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        if note.kind is NoteKind.ROLE:
            self._hooks.role(note)
        log.render(note)

    def engine_died(self, cause: str, pid: int, status: int) -> None:
        self.record(entries.engine("died", cause, pid=pid, status=status))
        self._alarms.set(ENGINE_RESTARTING, "engine", cause, boottime_ns())
        self._hooks.engine_died()

    def engine_works(self, pid: int | None) -> None:
        if pid != self._working_pid:
            self._working_pid = pid
            self.record(entries.engine("works", pid=pid))
        self._alarms.clear(ENGINE_RESTARTING, "engine")

    def _health_changed(self, _verdicts: tuple[Verdict, ...]) -> None:
        self._tell(self._health)

    def _health(self) -> HealthState:
        return HealthState(self._board.verdicts())

    def _check_happened(self, event: CheckEvent) -> None:
        was, verdict = event.old.value, event.new.value
        self.record(
            entries.check(event.check, was, verdict, event.detail, event.elapsed_ms, event.number)
        )
        speak = self._log.warning if event.new.is_bad else self._log.info
        speak("check", check=event.check, was=was, verdict=verdict, detail=event.detail)

    def _hook_happened(self, event: HookEvent) -> None:
        self.record(
            entries.hook(
                event.unit,
                event.occasion.value,
                event.state,
                event.outcome.value,
                event.detail,
                name=event.name,
                sequence=event.sequence,
                command=list(event.command),
                status=event.status,
                attempt=event.attempts,
                elapsed_ms=event.elapsed_ms,
                output=event.output,
            )
        )
        speak = self._log.info if event.outcome in _FINE else self._log.error
        speak(
            "hook",
            instance=event.unit,
            occasion=event.occasion.value,
            outcome=event.outcome.value,
            detail=event.detail,
        )
        # Not now: who tells us this draws its own conclusions from it only afterwards.
        asyncio.get_running_loop().call_soon(self._judge_hooks)

    def _alarm_changed(self, alarm: Alarm, begins: bool) -> None:
        self.record(entries.alarm(alarm, begins))
        speak = self._log.warning if begins else self._log.info
        change = "raised" if begins else "cleared"
        speak("alarm", alarm=alarm.name, change=change, subject=alarm.subject, detail=alarm.detail)

    # --- once a second ------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = boottime_ns()
            if self._board.verdicts():
                self._tell(self._health)
            self._alarms.expire(now)
            self._alarms.replace_all(STALE_CHECKS, dict(self._board.stale()), now)
            self._alarms.set(JOURNAL_NOT_WRITTEN, str(self.journal.path), self.journal.failing, now)
            for (name, subject), trouble in self._watched.items():
                self._alarms.set(name, subject, trouble(), now)
            self._judge_hooks()
            self._ticks += 1
            if (
                self._cluster_size
                and self._ticks % (1 + self._cluster_size // CHEAP_INSTANCES) == 0
            ):
                self._look()

    def _look(self) -> None:
        """Take a snapshot for its alarms: they are to be raised although nobody asks for status."""
        self._looking = None
        self._tell(lambda: SnapshotWanted(0))

    def _judge_hooks(self) -> None:
        self._alarms.replace_all(HOOK_FAILED, dict(self._hooks.failures()), boottime_ns())

    # --- what is shown ------------------------------------------------------------------------

    def alarms_of(self, snapshot: Snapshot) -> None:
        """What the engine itself raises."""
        self._cluster_size = 0 if snapshot.cluster is None else len(snapshot.instances)
        self._alarms.take(snapshot.alarms)

    def status(self) -> dict[str, Any]:
        return {
            "checks": self._board.status(),
            "hooks": self._hooks.status(),
            "alarms": self._alarms.list(boottime_ns(), time.time()),
            "journal": {
                "file": str(self.journal.path),
                "failing": self.journal.failing,
                "dropped": self.journal.dropped,
            },
        }

    def happened(self, subjects: tuple[str, ...], most: int) -> list[dict[str, Any]]:
        """The newest entries about ``subjects``, the oldest first."""
        return self.journal.newest(subjects, most)

    def end_waiting(self) -> None:
        """Answer those who wait for the next event: the daemon is about to end."""
        self.journal.end_waiting()

    async def events(self, query: Query, wait_s: float) -> dict[str, Any]:
        return await self.journal.answer(query, wait_s)
