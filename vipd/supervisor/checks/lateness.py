"""How much time this event loop has lost, measured by itself.

A supervisor that was not scheduled for a second finds all its timers due and all answers waiting.
What a timer says then is about us, not about the service that was asked. So the time in which the
loop did not turn is measured, and whoever times something takes it off (``runner``).

A tick is due every ``STEP_S``; the time by which it comes late is lost. Asked between two ticks,
a tick that is overdue counts already: after a stall, everybody asks before the tick has run.
"""

from __future__ import annotations

import asyncio

STEP_S = 0.02
"""A stall is measured by up to so much less than it was."""

TOLERANCE_S = 0.01
"""Less is the ordinary business of a loop: others were served first."""


class Lateness:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lost_s = 0.0
        self._arm()

    def _arm(self) -> None:
        self._due = self._loop.time() + STEP_S
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        self._lost_s += self._overdue_s()
        self._arm()

    def _overdue_s(self) -> float:
        late_s = self._loop.time() - self._due
        return late_s if late_s > TOLERANCE_S else 0.0

    @property
    def lost_s(self) -> float:
        """All that was lost so far; only differences mean something."""
        return self._lost_s + self._overdue_s()

    def close(self) -> None:
        self._timer.cancel()
