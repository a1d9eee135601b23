"""What must hold after every event; a breach is our own bug: release everything and exit."""

from __future__ import annotations

from vipd.core.claim import Claim
from vipd.core.election import Election
from vipd.errors import InvariantViolated
from vipd.model import ClaimState, LeaseState, State


def check(name: str, election: Election, lease: LeaseState, claim: Claim) -> None:
    """Raise ``InvariantViolated`` if the three machines of ``name`` contradict one another."""
    state = election.state
    holding = claim.state in (ClaimState.ADDING, ClaimState.PRESENT)
    if holding and state is not State.MASTER:
        raise InvariantViolated(f"{name}: claim is {claim.state.value} in {state.value}")
    if state is State.MASTER and lease is not LeaseState.HELD:
        raise InvariantViolated(f"{name}: MASTER without a lease")
    if claim.state is not ClaimState.ABSENT and lease is not LeaseState.HELD:
        raise InvariantViolated(f"{name}: the lease went back before the VIPs were gone")
    waits = state is State.BACKUP or (state is State.MASTER and not election.suspended)
    if waits and election.deadline is None:
        raise InvariantViolated(f"{name}: {state.value} waits for nothing")
