"""The role of a unit: what it is once its state and the kernel agree. Hooks act on this only."""

from __future__ import annotations

from vipd.core.election import Election
from vipd.core.teller import Teller
from vipd.model import ClaimState, FieldValue, NoteKind, State

_SETTLED = {
    State.INIT: ClaimState.ABSENT,
    State.BACKUP: ClaimState.ABSENT,
    State.MASTER: ClaimState.PRESENT,
    State.FAULT: ClaimState.ABSENT,
}
"""When the kernel has done what a state asks for; CANDIDATE is never settled."""


class Role:
    """The last role that was said."""

    def __init__(self, teller: Teller) -> None:
        self._role = State.INIT
        self._teller = teller

    def tell(self, election: Election, claim: ClaimState, master: str) -> None:
        """Say it if it is news; ``master``: the address of the master as far as we know."""
        state = election.state
        if state is self._role or claim is not _SETTLED.get(state):
            return
        self._role = state
        fields: dict[str, FieldValue] = {
            "state": state.value,
            "reason": election.reason.value,
            "detail": election.detail,
            "priority": election.standing.priority,
            "master": master,
        }
        self._teller.tell(NoteKind.ROLE, fields)
