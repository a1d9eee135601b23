"""The small parts: tables without holes, lease, invariants, limits, and cells seldom reached."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tests.core.rig import HIGHER, OWN, Rig, S, router, vip
from vipd.core import claim, election, invariants, lease
from vipd.core.actions import AddAddresses, RenewAddresses
from vipd.core.announcement import AnnouncementPlan
from vipd.core.batches import Renewals
from vipd.core.claim import Claim
from vipd.core.election import Election, Standing
from vipd.core.events import AddressesApplied, GateOpened
from vipd.core.lease import Unguarded
from vipd.core.limiter import IncidentCounter, NoteLimiter
from vipd.core.signals import (
    AddWanted,
    AnnounceWanted,
    ClaimGivenUp,
    ClaimWanted,
    FaultRaised,
    FramesWanted,
    LeaseGranted,
    LeaseReturned,
    LeaseWanted,
    PresenceResynced,
    ReleaseWanted,
    Started,
    TimerFired,
    VipGone,
    VipsChanged,
    VipSeen,
)
from vipd.core.table import Ignored, Table, complete
from vipd.errors import InvariantViolated
from vipd.model import ClaimState, Family, LeaseState, Note, Reason, State

A, B = vip("192.0.2.100/24"), vip("192.0.2.101/24")


def new_claim(*, owner: bool = False) -> Claim:
    plan = AnnouncementPlan(5, 0)
    return Claim((A,), owner=owner, lifetime_s=6, announcements=plan)


# --- tables ---------------------------------------------------------------------------------------

TABLES = [
    (election.TABLE, State, election.INPUTS),
    (lease.TABLE, LeaseState, lease.INPUTS),
    (claim.TABLE, ClaimState, claim.INPUTS),
]


@pytest.mark.parametrize(("table", "states", "inputs"), TABLES)
def test_every_machine_has_a_row_for_everything(
    table: Table, states: type, inputs: tuple[type, ...]
) -> None:
    assert complete(table, states, inputs) is table
    assert all(row.why for row in table.values() if isinstance(row, Ignored))


def test_a_hole_or_an_unknown_row_is_refused_at_import() -> None:
    rows = dict(lease.TABLE)
    del rows[LeaseState.NONE, LeaseWanted]
    with pytest.raises(InvariantViolated, match="no row"):
        complete(rows, LeaseState, lease.INPUTS)
    with pytest.raises(InvariantViolated, match="unknown input"):
        complete(lease.TABLE, LeaseState, (LeaseWanted,))


# --- lease ----------------------------------------------------------------------------------------


def test_the_unguarded_lease_is_granted_at_once_and_given_back() -> None:
    unguarded = Unguarded()
    assert unguarded.handle(LeaseReturned(), 0) == []
    assert unguarded.handle(LeaseWanted(), 0) == [LeaseGranted()]
    assert unguarded.handle(LeaseWanted(), 0) == [LeaseGranted()]
    assert unguarded.handle(LeaseReturned(), 0) == []
    assert unguarded.state is LeaseState.NONE


@dataclass
class NeverGranted:
    """A lease that keeps the candidate waiting, as voters may."""

    state: LeaseState = LeaseState.ASKING
    heard: list[object] = field(default_factory=list)

    def handle(self, signal: object, now: int) -> list[object]:
        self.heard.append(signal)
        return []


def test_a_candidate_that_hears_a_master_returns_the_lease_it_asked_for() -> None:
    rig = Rig(router())
    never = NeverGranted()
    rig.instance().lease = never  # type: ignore[assignment]
    rig.run(4 * S)
    assert rig.state() is State.CANDIDATE
    rig.hear(200)
    assert rig.state() is State.BACKUP
    assert never.heard == [LeaseWanted(), LeaseReturned()]


def test_a_wish_that_nobody_fulfils_is_our_own_bug() -> None:
    rig = Rig(router())
    rig.instance().lease.handle = lambda signal, now: [TimerFired()]  # type: ignore
    with pytest.raises(InvariantViolated, match="nobody fulfils"):
        rig.run(4 * S)


# --- invariants -----------------------------------------------------------------------------------


def machines(state: State, claim_state: ClaimState) -> tuple[Election, Claim]:
    standing = Standing(3, 100, S, True, 0, OWN[Family.IPV4])
    found, held = Election(standing, 0), new_claim()
    found.state, held.state = state, claim_state
    found._timer = S
    return found, held


@pytest.mark.parametrize(
    ("state", "lease_state", "claim_state", "breach"),
    [
        (State.BACKUP, LeaseState.HELD, ClaimState.PRESENT, "claim is PRESENT in BACKUP"),
        (State.FAULT, LeaseState.HELD, ClaimState.ADDING, "claim is ADDING in FAULT"),
        (State.MASTER, LeaseState.NONE, ClaimState.ABSENT, "MASTER without a lease"),
        (State.BACKUP, LeaseState.NONE, ClaimState.REMOVING, "before the VIPs were gone"),
    ],
)
def test_machines_that_contradict_one_another_are_found(
    state: State, lease_state: LeaseState, claim_state: ClaimState, breach: str
) -> None:
    found, held = machines(state, claim_state)
    with pytest.raises(InvariantViolated, match=breach):
        invariants.check("web", found, lease_state, held)


@pytest.mark.parametrize("state", [State.BACKUP, State.MASTER])
def test_a_state_that_waits_for_nothing_is_found(state: State) -> None:
    found, held = machines(state, ClaimState.ABSENT)
    found._timer = None
    with pytest.raises(InvariantViolated, match="waits for nothing"):
        invariants.check("web", found, LeaseState.HELD, held)


# --- limits ---------------------------------------------------------------------------------------


def test_a_note_is_admitted_once_per_period_and_key() -> None:
    limiter = NoteLimiter(10)
    assert [limiter.admit("a", at) for at in (0, 1, 9)] == [0, None, None]
    assert limiter.admit("b", 5) == 0
    assert limiter.admit("a", 10) == 2
    assert limiter.admit("a", 20) == 0


def test_incidents_are_too_many_only_within_the_window() -> None:
    counter = IncidentCounter(2, 10)
    assert [counter.is_one_too_many(at) for at in (0, 6, 12, 18)] == 4 * [False]
    assert counter.is_one_too_many(19) is True
    assert counter.is_one_too_many(20) is False


def test_renewals_of_nothing_never_come() -> None:
    renewals = Renewals()
    renewals.begin((), 6, 0)
    assert renewals.deadline is None
    assert renewals.due(100 * S) == ()


# --- claim: cells seldom reached ------------------------------------------------------------------


def test_an_owner_without_its_address_gives_up_at_once() -> None:
    wishes = new_claim(owner=True).handle(ClaimWanted(), 0)
    assert isinstance(wishes[-1], ClaimGivenUp)
    assert wishes[-1].reason is Reason.OWNED_ADDRESS_MISSING


def test_an_owner_whose_address_vanishes_gives_up_at_once() -> None:
    own = new_claim(owner=True)
    own.handle(VipSeen(A), 0)
    own.handle(ClaimWanted(), 0)
    (wish,) = own.handle(VipGone(A), 0)
    assert isinstance(wish, ClaimGivenUp)


def test_an_address_that_leaves_while_nothing_is_claimed_is_forgotten() -> None:
    idle = new_claim()
    idle.handle(VipSeen(A), 0)
    idle.handle(VipGone(A), 0)
    assert idle.present == set()


def test_a_second_release_may_only_add_the_goodbye() -> None:
    leaving = new_claim()
    leaving.handle(ClaimWanted(), 0)
    leaving.handle(ReleaseWanted(goodbye=False), 0)
    assert leaving.handle(ReleaseWanted(goodbye=True), 0) == []
    assert leaving.state is ClaimState.REMOVING


def test_a_refused_renewal_that_is_answered_while_adding_is_only_noted() -> None:
    adding = new_claim()
    adding.handle(ClaimWanted(), 0)
    late = AddressesApplied(RenewAddresses("web", (A,)), ((0, 1),))
    assert [type(wish) for wish in adding.handle(late, 0)] == [Note]


def test_a_vip_that_leaves_before_the_gate_opens_is_added_once() -> None:
    adding = new_claim()
    adding.handle(ClaimWanted(), 0)
    adding.handle(VipSeen(A), 0)
    assert adding.handle(VipGone(A), 0) == []
    assert adding.handle(GateOpened("web"), 0) == [AddWanted((A,))]


def test_the_claim_is_complete_when_the_awaited_vip_is_retired() -> None:
    adding = new_claim()
    adding.handle(ClaimWanted(), 0)
    adding.handle(VipsChanged((A, B), ()), 0)
    adding.handle(GateOpened("web"), 0)
    adding.handle(VipSeen(A), 0)
    adding.handle(AddressesApplied(AddAddresses("web", (A, B))), 0)
    adding.handle(VipsChanged((A,), (B,)), 0)
    adding.handle(TimerFired(), S)
    assert adding.state is ClaimState.PRESENT


def test_the_last_late_word_of_several_completes_the_claim() -> None:
    adding = new_claim()
    adding.handle(ClaimWanted(), 0)
    adding.handle(VipsChanged((A, B), ()), 0)
    adding.handle(GateOpened("web"), 0)
    adding.handle(AddressesApplied(AddAddresses("web", (A, B))), 0)
    assert adding.handle(VipSeen(A), 0) == [FramesWanted((A,))]
    assert adding.state is ClaimState.ADDING
    adding.handle(VipSeen(B), 0)
    assert adding.state is ClaimState.PRESENT


def test_what_a_claim_never_heard_of_does_not_become_its_own() -> None:
    idle = new_claim()
    idle.handle(VipSeen(B), 0)
    idle.handle(PresenceResynced(frozenset({B.key})), 0)
    assert idle.present == set()
    assert not idle.covers(A.key)


@pytest.mark.parametrize("state", list(ClaimState))
def test_no_cell_of_the_claim_raises(state: ClaimState) -> None:
    signals = [
        ClaimWanted(),
        ReleaseWanted(goodbye=True),
        GateOpened("web"),
        VipSeen(A),
        VipGone(A),
        PresenceResynced(frozenset()),
        VipsChanged((B,), (A,)),
        AnnounceWanted(S),
        TimerFired(),
        AddressesApplied(AddAddresses("web", (A,)), ((0, 1),)),
    ]
    for signal in signals:
        cell = new_claim()
        if state is not ClaimState.ABSENT:
            cell.handle(ClaimWanted(), 0)
            cell.handle(GateOpened("web"), 0)
        if state is ClaimState.PRESENT:
            cell.handle(VipSeen(A), 0)
            cell.handle(AddressesApplied(AddAddresses("web", (A,))), 0)
        if state is ClaimState.REMOVING:
            cell.handle(ReleaseWanted(goodbye=False), 0)
        assert cell.state is state
        cell.handle(signal, S)


# --- an election that nobody started --------------------------------------------------------------


def test_a_fault_before_the_start_keeps_the_router_out() -> None:
    standing = Standing(3, 100, S, True, 0, HIGHER[Family.IPV4])
    early = Election(standing, 0)
    early.handle(FaultRaised(Reason.INTERFACE_DOWN, "eth0"), 0)
    assert early.handle(Started(Reason.STARTUP), 0) == []
    assert early.state is State.FAULT


def open_claim() -> Claim:
    adding = new_claim()
    adding.handle(ClaimWanted(), 0)
    adding.handle(GateOpened("web"), 0)
    return adding


def test_what_is_taken_away_before_every_answer_is_given_up_in_the_end() -> None:
    adding = open_claim()
    rounds = 0
    wishes: list[object] = []
    while not any(isinstance(wish, ClaimGivenUp) for wish in wishes):
        adding.handle(VipGone(A), 0)
        wishes = list(adding.handle(AddressesApplied(AddAddresses("web", (A,))), 0))
        rounds += 1
        assert rounds < 20
    assert rounds == claim.VANISH_LIMIT + 1


def test_what_is_taken_away_after_every_answer_is_given_up_in_the_end() -> None:
    adding = open_claim()
    rounds = 0
    wishes: list[object] = []
    while not any(isinstance(wish, ClaimGivenUp) for wish in wishes):
        adding.handle(AddressesApplied(AddAddresses("web", (A,))), 0)
        wishes = list(adding.handle(VipGone(A), 0))
        rounds += 1
        assert rounds < 20
    assert rounds == claim.VANISH_LIMIT + 1
