"""What a unit says of itself: notes, limited where a peer could cause as many as it likes."""

from __future__ import annotations

from collections.abc import Mapping

from vipd.core.actions import Action
from vipd.core.counters import Counters
from vipd.core.events import AdvertRejected
from vipd.core.limiter import NoteLimiter
from vipd.model import FieldValue, Instant, Note, NoteKind, format_address


class Teller:
    """``unit`` signs what names nobody else; a member signs what concerns it alone."""

    def __init__(self, unit: str, counters: Counters, actions: list[Action]) -> None:
        self._unit = unit
        self._counters = counters
        self._actions = actions
        self._limiter = NoteLimiter()

    def say(self, note: Note) -> None:
        if note.kind is NoteKind.TRANSITION:
            self._counters.add("transitions")
        self._actions.append(Note(note.kind, note.instance or self._unit, note.fields))

    def tell(self, kind: NoteKind, fields: Mapping[str, FieldValue], member: str = "") -> None:
        self.say(Note(kind, member, fields))

    def limited(
        self,
        kind: NoteKind,
        key: str,
        fields: Mapping[str, FieldValue],
        now: Instant,
        member: str = "",
    ) -> None:
        """At most once per kind, key and member in a while, with how many were held back."""
        held_back = self._limiter.admit((kind, key, member), now)
        if held_back is not None:
            self.tell(kind, {**fields, "held_back": held_back}, member)


def fields_of(rejected: AdvertRejected) -> dict[str, FieldValue]:
    """What a note says of a discarded datagram."""
    source = "" if rejected.source is None else format_address(rejected.source)
    return {"reason": rejected.reason.value, "source": source, "detail": rejected.detail}
