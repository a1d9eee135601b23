"""Rows F1..F17, FSM-1..8 and TMR-1..4 of the requirements, each by name, in virtual time.

The rows run on the election alone, for both versions and both families; what needs addresses or
several machines at once is in ``test_core_node.py`` and ``test_core_claim.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.core.rig import HIGHER, LOWER, MS, OWN, S, advert
from vipd.core import timing
from vipd.core.election import INPUTS, REPLY_GAP_NS, TABLE, Election, Standing
from vipd.core.events import AdvertHeard, LoopStalled, StallDrained
from vipd.core.signals import (
    AdvertWanted,
    AnnounceWanted,
    Appointed,
    ClaimWanted,
    FaultCleared,
    FaultRaised,
    LeaseGranted,
    LeaseLost,
    LeaseReturned,
    LeaseWanted,
    PriorityChanged,
    ReleaseWanted,
    Started,
    StepDownOrdered,
    Stopped,
    TimerFired,
    WaitSet,
)
from vipd.core.table import Ignored
from vipd.model import Address, Family, Note, NoteKind, Reason, State

ADVERT = AdvertWanted()
YIELDED = ReleaseWanted(goodbye=False)
LEFT = ReleaseWanted(goodbye=True)


@dataclass
class Kind:
    """One of the four kinds of router that every row must hold for."""

    version: int
    family: Family

    def __str__(self) -> str:
        return f"v{self.version}-{self.family.name}"


KINDS = [Kind(version, family) for version in (2, 3) for family in Family]


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


class Bench:
    """One election and its virtual time."""

    def __init__(
        self,
        kind: Kind,
        *,
        priority: int = 100,
        interval_ns: int = S,
        preempt: bool = True,
        delay_ns: int = 0,
    ) -> None:
        self.kind = kind
        self.now = 500 * S
        source = OWN[kind.family]
        sources = {"web": source}
        standing = Standing(kind.version, priority, interval_ns, preempt, delay_ns, sources)
        self.election = Election(standing, self.now)
        self.notes: list[Note] = []

    def give(self, signal: object) -> list[object]:
        wishes = self.election.handle(signal, self.now)
        self.notes += [wish for wish in wishes if isinstance(wish, Note)]
        return [wish for wish in wishes if not isinstance(wish, Note)]

    def hear(
        self, priority: int, source: Address | None = None, interval_ns: int = S
    ) -> list[object]:
        source = LOWER[self.kind.family] if source is None else source
        return self.give(
            AdvertHeard("web", source, advert(priority, interval_ns, self.kind.version))
        )

    def wait(self, duration_ns: int) -> list[object]:
        """Let time pass; the timer fires exactly when it is due."""
        wishes: list[object] = []
        end = self.now + duration_ns
        while self.election.deadline is not None and self.election.deadline <= end:
            self.now = self.election.deadline
            wishes += self.give(TimerFired())
        self.now = end
        return wishes

    @property
    def state(self) -> State:
        return self.election.state

    @property
    def left_ns(self) -> int | None:
        deadline = self.election.deadline
        return None if deadline is None else deadline - self.now

    def down_ns(self, interval_ns: int = S) -> int:
        own = self.election.standing
        return timing.master_down_ns(own.version, own.priority, interval_ns)

    def skew_ns(self, interval_ns: int = S) -> int:
        own = self.election.standing
        return timing.skew_ns(own.version, own.priority, interval_ns)


def backup(kind: Kind, **changes: object) -> Bench:
    bench = Bench(kind, **changes)  # type: ignore[arg-type]
    bench.give(Started(Reason.STARTUP))
    if bench.state is State.CANDIDATE:  # an owner starts as master: beat it
        bench.give(LeaseLost())
    assert bench.state is State.BACKUP
    return bench


def candidate(kind: Kind, **changes: object) -> Bench:
    bench = backup(kind, **changes)
    bench.wait(bench.down_ns())
    assert bench.state is State.CANDIDATE
    return bench


def master(kind: Kind, **changes: object) -> Bench:
    bench = candidate(kind, **changes)
    bench.give(LeaseGranted())
    assert bench.state is State.MASTER
    return bench


def fault(kind: Kind, **changes: object) -> Bench:
    bench = backup(kind, **changes)
    bench.give(FaultRaised(Reason.INTERFACE_DOWN, "eth0"))
    assert bench.state is State.FAULT
    return bench


REACH: dict[State, Callable[..., Bench]] = {
    State.INIT: Bench,
    State.BACKUP: backup,
    State.CANDIDATE: candidate,
    State.MASTER: master,
    State.FAULT: fault,
}


# --- F1..F4: starting and stopping ----------------------------------------------------------------


def test_f1_the_owner_wants_to_be_master_at_once(kind: Kind) -> None:
    bench = Bench(kind, priority=255)
    assert bench.give(Started(Reason.STARTUP)) == [LeaseWanted()]
    assert bench.give(LeaseGranted()) == [ClaimWanted()]
    assert bench.state is State.MASTER
    assert bench.left_ns == S
    assert bench.election.reason is Reason.ADDRESS_OWNER


@pytest.mark.parametrize("priority", [1, 100, 254])
def test_f2_all_others_start_as_backup_and_wait_the_full_down(kind: Kind, priority: int) -> None:
    bench = Bench(kind, priority=priority)
    assert bench.give(Started(Reason.STARTUP)) == []
    assert bench.state is State.BACKUP
    assert bench.left_ns == bench.down_ns()


@pytest.mark.parametrize("priority", [0, 50, 100, 200, 255])
def test_f3_an_advert_does_nothing_to_a_router_that_takes_no_part(
    kind: Kind, priority: int
) -> None:
    for bench in (Bench(kind), fault(kind)):
        before = (bench.state, bench.election.deadline, bench.election.learned_interval_ns)
        assert bench.hear(priority, interval_ns=2 * S) == []
        after = (bench.state, bench.election.deadline, bench.election.learned_interval_ns)
        assert after == before


def test_f4_a_backup_that_stops_sends_nothing(kind: Kind) -> None:
    bench = backup(kind)
    assert bench.give(Stopped(Reason.STOPPED)) == []
    assert (bench.state, bench.left_ns) == (State.INIT, None)


# --- F5..F8: BACKUP -------------------------------------------------------------------------------


def test_f5_silence_makes_a_backup_master_and_no_microsecond_earlier(kind: Kind) -> None:
    bench = backup(kind)
    assert bench.wait(bench.down_ns() - 1_000) == []
    assert bench.wait(1_000) == [LeaseWanted()]
    assert bench.give(LeaseGranted()) == [ClaimWanted()]
    assert bench.left_ns == S
    assert bench.election.reason is Reason.MASTER_SILENT


def test_f6_priority_zero_leaves_only_the_skew_and_teaches_nothing(kind: Kind) -> None:
    bench = backup(kind)
    bench.hear(200)
    assert bench.hear(0, interval_ns=10 * S) == []
    assert bench.left_ns == bench.skew_ns()
    assert bench.wait(bench.skew_ns()) == [LeaseWanted()]
    assert bench.election.reason is Reason.MASTER_LEFT


def test_f6_the_skew_is_that_of_the_learned_interval() -> None:
    bench = backup(Kind(3, Family.IPV4))
    bench.hear(200, interval_ns=S // 2)
    bench.hear(0)
    assert bench.left_ns == 304_687 * 1_000


@pytest.mark.parametrize("priority", [100, 101, 255])
def test_f7_an_equal_or_better_master_is_followed(kind: Kind, priority: int) -> None:
    bench = backup(kind)
    bench.wait(2 * S)
    assert bench.hear(priority) == []
    assert bench.left_ns == bench.down_ns()
    assert bench.election.master is not None
    assert bench.election.master.priority == priority


def test_f7_v3_learns_the_interval_v2_keeps_its_own(kind: Kind) -> None:
    bench = backup(kind)
    bench.hear(200, interval_ns=5 * S)
    assert bench.left_ns == bench.down_ns(5 * S if kind.version == 3 else S)


def test_f7_equal_priority_resets_whatever_the_address(kind: Kind) -> None:
    for source in (LOWER[kind.family], HIGHER[kind.family]):
        bench = backup(kind)
        bench.wait(S)
        bench.hear(100, source)
        assert bench.left_ns == bench.down_ns()


def test_f7_without_preempt_a_lower_master_is_followed(kind: Kind) -> None:
    bench = backup(kind, preempt=False)
    bench.wait(S)
    bench.hear(1)
    assert bench.left_ns == bench.down_ns()


def test_f8_a_lower_master_does_not_stop_the_timer(kind: Kind) -> None:
    bench = backup(kind)
    bench.wait(2 * S)
    assert bench.hear(99, interval_ns=5 * S) == []
    assert bench.left_ns == bench.down_ns() - 2 * S
    assert bench.election.learned_interval_ns == S
    assert bench.wait(bench.left_ns) == [LeaseWanted()]
    assert bench.election.reason is Reason.LOWER_PRIORITY_MASTER


# --- F9..F14: MASTER ------------------------------------------------------------------------------


def test_f9_a_master_that_stops_releases_and_says_goodbye(kind: Kind) -> None:
    bench = master(kind)
    assert bench.give(Stopped(Reason.STOPPED)) == [LEFT]
    assert (bench.state, bench.left_ns) == (State.INIT, None)


def test_f10_a_master_advertises_every_interval(kind: Kind) -> None:
    bench = master(kind)
    assert bench.wait(10 * S) == 10 * [ADVERT]


def test_f10_a_late_wake_up_does_not_slow_the_pace(kind: Kind) -> None:
    bench = master(kind)
    bench.now += S + 300 * MS
    assert bench.give(TimerFired()) == [ADVERT]
    assert bench.left_ns == 700 * MS
    bench.now += 5 * S  # hopelessly late: no burst to catch up
    assert bench.give(TimerFired()) == [ADVERT]
    assert bench.left_ns == S


def test_f11_priority_zero_is_answered_at_once(kind: Kind) -> None:
    bench = master(kind)
    bench.wait(400 * MS)
    assert bench.hear(0) == [ADVERT]
    assert bench.left_ns == S
    assert bench.state is State.MASTER


@pytest.mark.parametrize("preempt", [True, False])
def test_f12_a_master_yields_to_a_better_priority(kind: Kind, preempt: bool) -> None:
    bench = master(kind, preempt=preempt)
    assert bench.hear(101, interval_ns=2 * S) == [ADVERT, YIELDED]
    assert bench.state is State.BACKUP
    assert bench.left_ns == bench.down_ns(2 * S if kind.version == 3 else S)
    assert bench.election.reason is Reason.HIGHER_PRIORITY_HEARD


def test_f12_a_master_yields_to_the_higher_address_of_an_equal(kind: Kind) -> None:
    bench = master(kind)
    assert bench.hear(100, HIGHER[kind.family]) == [ADVERT, YIELDED]
    assert bench.election.reason is Reason.TIE_LOST


@pytest.mark.parametrize("priority", [1, 99])
def test_f13_a_lower_master_is_answered_and_the_vips_announced(kind: Kind, priority: int) -> None:
    bench = master(kind)
    bench.wait(400 * MS)
    assert bench.hear(priority) == [ADVERT, AnnounceWanted(S)]
    assert bench.left_ns == S
    assert bench.state is State.MASTER


def test_f13_the_lower_address_of_an_equal_is_answered(kind: Kind) -> None:
    bench = master(kind)
    assert bench.hear(100, LOWER[kind.family]) == [ADVERT, AnnounceWanted(S)]


@pytest.mark.parametrize("priority", [0, 50])
def test_f11_f13_a_flood_is_answered_at_once_and_then_ten_times_a_second(
    kind: Kind, priority: int
) -> None:
    bench = master(kind)
    answers = []
    for _ in range(1000):
        answers += [wish for wish in bench.hear(priority) if wish == ADVERT]
        bench.wait(MS)
    assert len(answers) == 10
    assert REPLY_GAP_NS == 100 * MS


def test_f14_our_own_address_from_elsewhere_is_noted_and_not_answered(kind: Kind) -> None:
    bench = master(kind)
    before = bench.election.deadline
    assert bench.hear(100, OWN[kind.family]) == []
    assert (bench.state, bench.election.deadline) == (State.MASTER, before)
    assert bench.notes[-1].kind is NoteKind.DUPLICATE_ADDRESS


# --- F15..F17: faults, recovery, priority ---------------------------------------------------------


def test_f15_a_fault_leaves_as_a_stop_does(kind: Kind) -> None:
    trouble = FaultRaised(Reason.INTERFACE_DOWN, "eth0")
    assert backup(kind).give(trouble) == []
    bench = master(kind)
    assert bench.give(trouble) == [LEFT]
    assert (bench.state, bench.left_ns) == (State.FAULT, None)
    assert (bench.election.reason, bench.election.detail) == (Reason.INTERFACE_DOWN, "eth0")
    asking = candidate(kind)
    assert asking.give(trouble) == [LeaseReturned()]


def test_f15_a_second_fault_is_shown_and_nothing_else_happens(kind: Kind) -> None:
    bench = fault(kind)
    assert bench.give(FaultRaised(Reason.NO_SOURCE_ADDRESS, "eth0")) == []
    assert bench.election.reason is Reason.NO_SOURCE_ADDRESS


def test_f16_the_end_of_the_fault_is_a_start(kind: Kind) -> None:
    bench = fault(kind)
    assert bench.give(FaultCleared()) == []
    assert bench.left_ns == bench.down_ns()
    assert bench.election.reason is Reason.RECOVERED
    own = Bench(kind, priority=255)
    own.give(FaultRaised(Reason.INTERFACE_DOWN, "eth0"))
    assert own.give(FaultCleared()) == [LeaseWanted()]


def test_f17_a_raised_priority_counts_from_the_next_lower_advert_on(kind: Kind) -> None:
    bench = backup(kind)
    bench.wait(S)
    bench.hear(150)
    bench.wait(500 * MS)
    bench.election.standing.priority = 200
    before = bench.election.deadline
    assert bench.give(PriorityChanged()) == []
    assert bench.election.deadline == before
    bench.hear(150)  # now F8
    assert bench.election.deadline == before
    assert bench.wait(bench.left_ns or 0) == [LeaseWanted()]


def test_f17_the_new_priority_gives_the_next_skew(kind: Kind) -> None:
    bench = backup(kind)
    bench.election.standing.priority = 200
    bench.give(PriorityChanged())
    bench.hear(250)
    assert bench.left_ns == timing.master_down_ns(kind.version, 200, S)


def test_a_master_tells_its_new_priority_at_once(kind: Kind) -> None:
    bench = master(kind)
    bench.wait(600 * MS)
    assert bench.give(PriorityChanged()) == [ADVERT]
    assert bench.left_ns == S


def test_a_reload_of_the_interval_counts_in_backup_from_the_next_advert_on(kind: Kind) -> None:
    """Version 2 learns no interval from adverts: a stale own one would call the master dead."""
    bench = backup(kind)
    bench.election.standing.interval_ns = 5 * S
    bench.give(PriorityChanged())
    bench.hear(200, interval_ns=5 * S)
    assert bench.left_ns == bench.down_ns(5 * S)


# --- FSM-1: the matrix ----------------------------------------------------------------------------

SIGNALS = [
    Started(Reason.STARTUP),
    Stopped(Reason.STOPPED),
    FaultRaised(Reason.INTERFACE_DOWN, "eth0"),
    FaultCleared(),
    TimerFired(),
    PriorityChanged(),
    LeaseGranted(),
    LeaseLost(),
    StepDownOrdered(Reason.SWITCHOVER),
    Appointed(Reason.HANDED_OVER),
    WaitSet(None),
    WaitSet(2_000 * S),
    LoopStalled(S),
    LoopStalled(10 * S),
    StallDrained(),
]
HEARD = [(priority, who) for priority in (0, 1, 99, 100, 101, 255) for who in (LOWER, OWN, HIGHER)]


def test_fsm1_every_input_is_in_the_matrix_below() -> None:
    assert {type(signal) for signal in SIGNALS} | {AdvertHeard} == set(INPUTS)
    assert set(TABLE) == {(state, kind) for state in State for kind in INPUTS}


@pytest.mark.parametrize("state", list(State), ids=lambda state: state.value)
@pytest.mark.parametrize("preempt", [True, False])
@pytest.mark.parametrize("priority", [100, 255])
@pytest.mark.parametrize("delay_ns", [0, 5 * S])
def test_fsm1_no_cell_raises_and_none_leaves_a_state_without_its_timer(
    kind: Kind, state: State, preempt: bool, priority: int, delay_ns: int
) -> None:
    heard = [AdvertHeard("web", who[kind.family], advert(p)) for p, who in HEARD]
    for signal in [*SIGNALS, *heard]:
        bench = REACH[state](kind, preempt=preempt, priority=priority, delay_ns=delay_ns)
        wishes = bench.give(signal)
        timed = bench.state in (State.BACKUP, State.MASTER) and not bench.election.suspended
        assert (bench.left_ns is not None) == timed, signal
        left_mastership = state is State.MASTER and bench.state is not State.MASTER
        assert (LEFT in wishes or YIELDED in wishes) == left_mastership, signal
        if state is not State.MASTER and signal not in (LeaseGranted(),):
            assert ADVERT not in wishes, signal


@pytest.mark.parametrize("state", list(State), ids=lambda state: state.value)
def test_fsm1_what_is_ignored_changes_nothing(kind: Kind, state: State) -> None:
    for signal in SIGNALS:
        row = TABLE[state, type(signal)]
        if not isinstance(row, Ignored):
            continue
        assert len(row.why) > 10
        bench = REACH[state](kind)
        before = (bench.state, bench.election.deadline, bench.election.since)
        assert bench.give(signal) == []
        assert (bench.state, bench.election.deadline, bench.election.since) == before


def test_a_lease_that_nobody_wants_any_more_goes_back(kind: Kind) -> None:
    for bench in (Bench(kind), backup(kind), fault(kind)):
        assert bench.give(LeaseGranted()) == [LeaseReturned()]


def test_a_candidate_without_a_lease_waits_as_a_backup(kind: Kind) -> None:
    bench = candidate(kind)
    assert bench.give(LeaseLost()) == []
    assert (bench.state, bench.left_ns) == (State.BACKUP, bench.down_ns())


def test_a_master_without_a_lease_goes_and_says_nothing(kind: Kind) -> None:
    bench = master(kind)
    assert bench.give(LeaseLost()) == [YIELDED]
    assert bench.state is State.BACKUP


def test_a_candidate_follows_a_better_master_and_gives_the_lease_back(kind: Kind) -> None:
    bench = candidate(kind)
    assert bench.hear(50) == []
    assert bench.hear(0) == []
    assert bench.hear(100) == [LeaseReturned()]
    assert (bench.state, bench.left_ns) == (State.BACKUP, bench.down_ns())
    assert bench.election.master is not None


def test_a_candidate_that_stops_gives_the_lease_back(kind: Kind) -> None:
    assert candidate(kind).give(Stopped(Reason.STOPPED)) == [LeaseReturned()]


# --- FSM-2..FSM-4: preemption and ties ------------------------------------------------------------


def test_fsm2_without_preempt_a_running_lower_master_is_never_pushed_out(kind: Kind) -> None:
    bench = backup(kind, preempt=False)
    for _ in range(100):
        assert bench.wait(S) == []
        assert bench.hear(1) == []
    assert bench.state is State.BACKUP


def test_fsm2_the_owner_always_preempts(kind: Kind) -> None:
    bench = backup(kind, preempt=False, priority=255)
    before = bench.election.deadline
    bench.hear(254)
    assert bench.election.deadline == before


def test_fsm3_addresses_are_compared_unsigned_in_network_order() -> None:
    for own, other, yields in [
        ("c0000209", "c000020a", True),  # 192.0.2.9 < 192.0.2.10
        ("c000020a", "c0000209", False),
        ("7f000001", "c0000201", True),  # first byte >= 0x80: unsigned
        ("c0000201", "7f000001", False),
        ("fe80" + 12 * "00" + "0009", "fe80" + 12 * "00" + "0080", True),
    ]:
        bench = master(Kind(3, Family.IPV4))
        bench.election.standing.sources["web"] = bytes.fromhex(own)
        bench.hear(100, bytes.fromhex(other))
        assert (bench.state is State.BACKUP) == yields


def test_fsm4_preempt_delay_delays_taking_from_a_live_master(kind: Kind) -> None:
    bench = backup(kind, delay_ns=10 * S)
    begin = bench.now
    while not bench.wait(S):
        bench.hear(50)
    assert bench.state is State.CANDIDATE
    waited = bench.now - begin
    assert 10 * S < waited <= 10 * S + bench.down_ns() + 2 * S


def test_fsm4_preempt_delay_never_delays_after_silence(kind: Kind) -> None:
    bench = backup(kind, delay_ns=600 * S)
    bench.hear(50)
    assert bench.wait(bench.down_ns()) == [LeaseWanted()]
    left = backup(kind, delay_ns=600 * S)
    left.hear(50)
    left.hear(0)
    assert left.wait(left.skew_ns()) == [LeaseWanted()]


def test_fsm4_a_better_master_ends_the_delay(kind: Kind) -> None:
    bench = backup(kind, delay_ns=2 * S)
    bench.hear(50)
    bench.wait(S)
    bench.hear(200)
    bench.wait(S)
    bench.hear(50)
    assert bench.left_ns == bench.down_ns()


# --- TMR-2..TMR-4: timers -------------------------------------------------------------------------


def test_tmr3_a_timer_of_another_state_cannot_exist(kind: Kind) -> None:
    bench = master(kind)
    bench.hear(200)
    assert bench.left_ns == bench.down_ns(), "the advert timer became the down timer"
    bench.give(Stopped(Reason.STOPPED))
    assert bench.give(TimerFired()) == []


# --- stalls ---------------------------------------------------------------------------------------

FLOOR_NS = timing.takeover_floor_ns(S)


def stalled_master(kind: Kind, **changes: object) -> Bench:
    bench = master(kind, **changes)
    bench.now += FLOOR_NS
    assert bench.give(LoopStalled(FLOOR_NS)) == []
    assert bench.election.suspended
    return bench


def test_a_short_stall_is_nothing(kind: Kind) -> None:
    bench = master(kind)
    bench.now += FLOOR_NS - 1
    before = bench.election.deadline
    assert bench.give(LoopStalled(FLOOR_NS - 1 - S)) == []
    assert not bench.election.suspended
    assert bench.election.deadline == before
    assert bench.give(StallDrained()) == []


def test_a_long_stall_silences_until_the_sockets_are_read(kind: Kind) -> None:
    bench = stalled_master(kind)
    assert bench.left_ns is None
    assert bench.wait(60 * S) == []
    assert bench.give(PriorityChanged()) == []
    assert bench.give(StallDrained()) == [ADVERT, AnnounceWanted(S)]
    assert bench.left_ns == S
    assert not bench.election.suspended


@pytest.mark.parametrize("priority", [1, 100, 255])
def test_any_mastership_during_the_stall_ends_ours_without_goodbye(
    kind: Kind, priority: int
) -> None:
    bench = stalled_master(kind)
    assert bench.hear(priority) == [YIELDED]
    assert bench.state is State.BACKUP
    assert bench.election.reason is Reason.OVERTAKEN_WHILE_STALLED
    assert bench.left_ns == bench.down_ns()
    assert bench.give(StallDrained()) == []


def test_neither_a_goodbye_nor_our_own_echo_is_mastership(kind: Kind) -> None:
    bench = stalled_master(kind)
    assert bench.hear(0) == []
    assert bench.hear(100, OWN[kind.family]) == []
    assert bench.state is State.MASTER
    assert ADVERT in bench.give(StallDrained())


def test_a_stalled_master_can_stop(kind: Kind) -> None:
    bench = stalled_master(kind)
    assert bench.give(Stopped(Reason.STOPPED)) == [LEFT]
    assert not bench.election.suspended
