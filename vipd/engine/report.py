"""What the engine tells the supervisor of, without ever waiting for it.

Notes are gathered during a turn of the loop and sent at its end. When the supervisor does not
read, they are kept: of the transitions and roles of one unit the last one, of the rest the newest
few. What is lost is counted, and the count travels with the next message.
"""

from __future__ import annotations

from vipd.ipc import Channel, Message, Noted
from vipd.model import Note, NoteKind

MOST_KEPT = 256

_LAST_COUNTS = frozenset({NoteKind.TRANSITION, NoteKind.ROLE})
"""Notes of which the last one of each unit is never dropped: hooks act on it."""


class Report:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._notes: list[Note] = []
        self._dropped = 0

    def note(self, note: Note) -> None:
        self._notes.append(note)

    def flush(self) -> None:
        """Send what was gathered; raises ChannelClosed when the supervisor is gone."""
        if not self._notes:
            return
        if self._channel.send(Noted(tuple(self._notes), self._dropped)):
            self._notes.clear()
            self._dropped = 0
        else:
            self._coalesce()

    def send(self, message: Message) -> bool:
        """Send ``message`` after the notes that came before it; False: dropped."""
        self.flush()
        return self._channel.send(message)

    def _coalesce(self) -> None:
        before = len(self._notes)
        last = {
            (note.kind, note.instance): position
            for position, note in enumerate(self._notes)
            if note.kind in _LAST_COUNTS
        }
        kept = [
            note
            for position, note in enumerate(self._notes)
            if last.get((note.kind, note.instance), position) == position
        ]
        states = [note for note in kept if note.kind in _LAST_COUNTS]
        others = [note for note in kept if note.kind not in _LAST_COUNTS]
        self._notes = [*states, *others[-MOST_KEPT:]]
        self._dropped += before - len(self._notes)
