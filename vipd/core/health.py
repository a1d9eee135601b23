"""The health vector as the supervisor reports it, and whether it still does.

It is judged as it is, however old; when nothing was reported for ``HEALTH_STALE_NS`` that is an
alarm, never a failover.
"""

from __future__ import annotations

from vipd.core.actions import Action
from vipd.model import MILLISECOND_NS, SECOND_NS, Alarm, Instant, Note, NoteKind, Verdict

HEALTH_STALE_NS = 3 * SECOND_NS
"""The supervisor reports every second; after three it is hung, or its channel is full."""


class Reported:
    """``verdicts`` is one mapping for ever: the units look at it."""

    def __init__(self, actions: list[Action]) -> None:
        self.verdicts: dict[str, Verdict] = {}
        self._actions = actions
        self._names: frozenset[str] = frozenset()
        self._stale_at: Instant | None = None
        self._stale_since: Instant | None = None

    @property
    def deadline(self) -> Instant | None:
        return self._stale_at

    def configure(self, expected: bool, now: Instant) -> None:
        """After a (re)load; ``expected``: somebody tracks a check."""
        if expected:
            self._expect(now)
        else:
            self._stale_at = self._stale_since = None
        for check in self.verdicts.keys() - self._names:
            del self.verdicts[check]

    def take(self, verdicts: tuple[Verdict, ...], now: Instant) -> bool:
        """A report; True if it says anything new."""
        given = {verdict.check: verdict for verdict in verdicts}
        self._names = frozenset(given)
        # What is missing has left the configuration, and the one without it follows at once.
        given = self.verdicts | given
        if self._stale_since is not None:
            silent_ms = (now - self._stale_since + HEALTH_STALE_NS) // MILLISECOND_NS
            self._actions.append(Note(NoteKind.HEALTH_FRESH, "", {"silent_ms": silent_ms}))
        if self._stale_at is not None or self._stale_since is not None:
            self._expect(now)
        if given == self.verdicts:
            return False
        self.verdicts.update(given)  # in place: the units look at this very mapping
        return True

    def _expect(self, now: Instant) -> None:
        self._stale_at, self._stale_since = now + HEALTH_STALE_NS, None

    def fire(self, now: Instant) -> None:
        if self._stale_at is not None and now >= self._stale_at:
            self._is_stale(now)

    def _is_stale(self, now: Instant) -> None:
        self._stale_at, self._stale_since = None, now
        silent_ms = HEALTH_STALE_NS // MILLISECOND_NS
        self._actions.append(Note(NoteKind.HEALTH_STALE, "", {"silent_ms": silent_ms}))

    def alarms(self) -> tuple[Alarm, ...]:
        if self._stale_since is None:
            return ()
        return (Alarm("stale-checks", self._stale_since, "health", "no report of any check"),)
