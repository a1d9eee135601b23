"""Datagrams that are for none of our routers: counted, and noted now and then."""

from __future__ import annotations

from vipd.core.actions import Action
from vipd.core.events import AdvertRejected
from vipd.core.limiter import NoteLimiter
from vipd.core.teller import fields_of
from vipd.model import DiscardReason, Instant, Note, NoteKind


class Strangers:
    def __init__(self, actions: list[Action]) -> None:
        self.discarded = {reason.value: 0 for reason in DiscardReason}
        self._actions = actions
        self._limiter = NoteLimiter()

    def reject(self, event: AdvertRejected, now: Instant) -> None:
        self.discarded[event.reason.value] += 1
        if event.reason is DiscardReason.VRID:
            return  # other routers' groups on the same network are normal
        held_back = self._limiter.admit(event.reason, now)
        if held_back is not None:
            fields = fields_of(event) | {"held_back": held_back}
            self._actions.append(Note(NoteKind.ADVERT_DISCARDED, "", fields))
