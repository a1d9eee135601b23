"""What the engine tells the supervisor of, without ever waiting for it.

Notes are gathered during a turn of the loop and sent at its end. When the supervisor does not
read, they are kept: of the transitions of one instance the last one, of the rest the newest few.
What is lost is counted, and the count travels with the next message.
"""

from __future__ import annotations

from vipd.ipc import Channel, Message, Noted
from vipd.model import Note, NoteKind

MOST_KEPT = 256


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
            note.instance: position
            for position, note in enumerate(self._notes)
            if note.kind is NoteKind.TRANSITION
        }
        kept = [
            note
            for position, note in enumerate(self._notes)
            if note.kind is not NoteKind.TRANSITION or last[note.instance] == position
        ]
        transitions = [note for note in kept if note.kind is NoteKind.TRANSITION]
        others = [note for note in kept if note.kind is not NoteKind.TRANSITION]
        self._notes = [*transitions, *others[-MOST_KEPT:]]
        self._dropped += before - len(self._notes)
