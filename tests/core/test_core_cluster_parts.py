"""The parts of cluster mode one by one: nonces, pins, preemption, handover, roster, watch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.core.rig import MS, S
from vipd.core.handover import REPEAT_NS, TRY_NS, Giving, Step
from vipd.core.nonces import Nonces
from vipd.core.pins import Pins
from vipd.core.preemption import AFTER_TROUBLE_NS, ANSWER_NS, LAST_BACK_OFF_NS, Preemption
from vipd.core.roster import Peer, Roster
from vipd.core.watch import GRACE_NS, STEP_NS, Watch
from vipd.members import Echo, Heartbeat, Owner, Pin, Received, Speaker, UnitReport, Versions
from vipd.model import (
    ClusterConfig,
    Instant,
    MemberConfig,
    PinOrder,
    Reason,
    State,
    parse_address,
)

# --- nonces ---------------------------------------------------------------------------------------


def test_a_nonce_counts_for_two_periods() -> None:
    nonces = Nonces(b"s" * 32, S, 0)
    first = nonces.current
    nonces.turn(S - 1)
    assert nonces.current == first
    nonces.turn(S)
    assert nonces.current != first
    assert nonces.accepts(first)
    nonces.turn(2 * S)
    assert not nonces.accepts(first)
    assert nonces.accepts(nonces.current)


def test_after_a_long_sleep_both_nonces_are_new() -> None:
    nonces = Nonces(b"s" * 32, S, 0)
    nonces.turn(S)
    before = nonces.current
    nonces.turn(100 * S)
    assert not nonces.accepts(before)
    fresh = nonces.current
    nonces.turn(101 * S - 1)
    assert nonces.current == fresh
    nonces.turn(101 * S)
    assert nonces.accepts(fresh)


def test_a_second_section_in_one_life_tells_other_nonces() -> None:
    assert Nonces(b"s" * 32, S, 0).current != Nonces(b"s" * 32, S, 1).current


# --- pins -----------------------------------------------------------------------------------------


def test_of_two_pins_the_higher_version_counts_then_the_greater_name() -> None:
    pins = Pins()
    assert pins.hear("web", Pin("lb2", 3), 0)
    assert not pins.hear("web", Pin("lb3", 2), 0)
    assert not pins.hear("web", Pin("lb1", 3), 0)
    assert not pins.hear("web", Pin("lb2", 3), 0)
    assert pins.hear("web", Pin("lb3", 3), 0)
    assert pins.hear("web", Pin("lb1", 4), 0)
    assert pins.of("web").node == "lb1"
    assert not pins.hear("web", None, 0)


def test_an_order_is_obeyed_once_and_outdoes_what_is_known() -> None:
    pins = Pins()
    pins.learn_counts((PinOrder("web", "lb1", 4, 0),))
    assert pins.obey((PinOrder("web", "lb1", 4, 0),), 0) == []
    pins.hear("web", Pin("lb3", 7), 0)
    assert pins.obey((PinOrder("web", "lb2", 5, 0),), 0) == ["web"]
    assert (pins.of("web").node, pins.of("web").version) == ("lb2", 8)
    assert pins.obey((PinOrder("web", "lb2", 5, 0),), 0) == []


def test_a_pin_ends_at_its_time_and_is_outdone_by_its_end() -> None:
    pins = Pins()
    pins.obey((PinOrder("web", "lb2", 1, 5 * S),), 10 * S)
    assert pins.deadline == 15 * S
    assert pins.told("web", 12 * S) == Pin("lb2", 1, 3 * S)
    assert pins.told("web", 15 * S) == Pin("lb2", 1, MS)  # 0 would be for ever
    assert pins.expire(15 * S - 1) == []
    assert pins.expire(15 * S) == ["web"]
    assert pins.of("web").node == ""
    assert pins.of("web").version == 2
    assert pins.deadline is None
    assert pins.told("web", 15 * S) == Pin("", 2)
    assert not pins.hear("web", Pin("lb2", 1, S), 15 * S)
    assert not pins.clear("web")


def test_what_names_nobody_has_no_end() -> None:
    pins = Pins()
    pins.obey((PinOrder("web", "", 1, 5 * S),), 0)
    assert pins.deadline is None
    pins.hear("web", Pin("lb2", 2, 4 * S), S)
    assert pins.deadline == 5 * S
    assert pins.told("other", 0) is None


# --- preemption -----------------------------------------------------------------------------------


def test_it_asks_after_the_delay_and_backs_off_up_to_five_minutes() -> None:
    wish = Preemption()
    now = 100 * S
    assert not wish.want("q", 2 * S, now)
    assert wish.deadline == now + 2 * S
    assert not wish.want("q", 2 * S, now + 2 * S - 1)
    now += 2 * S
    waits = []
    for _ in range(12):
        assert wish.want("q", 2 * S, now)
        assert wish.asks_at is None
        assert wish.deadline == now + ANSWER_NS
        assert not wish.want("q", 2 * S, now + ANSWER_NS - 1)
        wish.refused("busy", now + 1)
        wish.refused("busy", now + 2)  # the second datagram of one answer
        assert wish.asks_at is not None
        waits.append((wish.asks_at - now - 1) // S)
        assert not wish.want("q", 2 * S, wish.asks_at - 1)
        now = wish.asks_at
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert LAST_BACK_OFF_NS == 300 * S


def test_no_answer_is_an_answer_too() -> None:
    wish = Preemption()
    assert wish.want("q", 0, 0)
    assert not wish.want("q", 0, ANSWER_NS)
    assert wish.refused_for == "no answer"
    assert wish.asks_at == ANSWER_NS + S


def test_a_new_question_is_asked_at_once_but_not_before_trouble_is_over() -> None:
    wish = Preemption()
    assert wish.want("q", 0, 0)
    wish.refused("pinned", 0)
    assert wish.want("another", 0, MS)
    wish.trouble(10 * S)
    assert not wish.want("third", 0, 10 * S)
    assert wish.asks_at == 10 * S + AFTER_TROUBLE_NS
    assert wish.want("third", 0, 10 * S + AFTER_TROUBLE_NS)


def test_the_delay_counts_from_when_it_became_the_better_one() -> None:
    wish = Preemption()
    wish.want("q", 5 * S, 0)
    wish.want("another", 5 * S, 3 * S)
    assert wish.asks_at == 5 * S
    wish.idle()
    assert wish.deadline is None
    wish.want("q", 5 * S, 4 * S)
    assert wish.asks_at == 9 * S


def test_who_had_no_wish_begins_with_a_short_back_off() -> None:
    wish = Preemption()
    wish.want("q", 0, 0)
    wish.refused("busy", 0)
    wish.want("q", 0, S)
    wish.refused("busy", S)
    wish.idle()
    assert wish.want("q", 0, 10 * S)
    wish.refused("busy", 10 * S)
    assert wish.asks_at == 11 * S


# --- handover -------------------------------------------------------------------------------------


def test_each_is_offered_it_once_the_one_asked_for_first() -> None:
    giving = Giving(7, Reason.SWITCHOVER, preferred="lb3")
    assert giving.deadline is None
    assert giving.step is Step.PENDING
    named = []
    for attempt in range(1, 4):
        chosen = giving.choose(["lb1", "lb2", "lb3"])
        giving.offer(chosen, attempt * S)
        named.append(chosen)
        assert giving.attempt == attempt
        giving.said(attempt * S)
        assert giving.deadline == attempt * S + REPEAT_NS
        giving.next_go = attempt * S + 10 * S
        assert giving.deadline == attempt * S + TRY_NS
    assert named == ["lb3", "lb1", "lb2"]
    assert giving.choose(["lb1", "lb2", "lb3"]) == ""
    assert giving.longest_rest_ns(2) == 450 * MS
    assert (REPEAT_NS, TRY_NS) == (10 * MS, 150 * MS)


def test_who_may_be_master_again() -> None:
    again = {reason for reason in Reason if Giving(1, reason).may_return}
    assert again == {
        Reason.SWITCHOVER,
        Reason.MAINTENANCE,
        Reason.PREEMPTED,
        Reason.ADVERTS_LOST,
    }


# --- roster ---------------------------------------------------------------------------------------

NOW = 1000 * S
SPOKEN = Versions(1, 2)


def member(number: int) -> MemberConfig:
    return MemberConfig(f"lb{number}", (parse_address(f"192.0.2.{10 + number}"),))


def section(**changes: Any) -> ClusterConfig:
    nodes = tuple(member(number) for number in (1, 2, 3))
    given = {"heartbeat_timeout_ns": 300 * MS, **changes}
    return ClusterConfig("edge", nodes, (bytes(32),), bytes(8), **given)


def report(state: State = State.BACKUP, priority: int = 100, term: int = 1) -> UnitReport:
    return UnitReport("web", state, None, priority, priority, term)


class Book:
    """The roster of lb1, and what lb2 and lb3 say to it."""

    def __init__(self, **changes: Any) -> None:
        self.nonces = Nonces(b"s" * 32, S, NOW)
        self.roster = Roster("lb1", section(**changes), NOW)
        self.sequence = 0

    def hear(
        self,
        name: str,
        *units: UnitReport,
        at: Instant = NOW,
        life: int = 1,
        echo: bytes | None = None,
        to: str = "lb1",
        version: int = 2,
        speaks: Versions = SPOKEN,
        sequence: int = 0,
        **changes: Any,
    ) -> Peer:
        self.sequence += 1
        sequence = sequence or self.sequence
        echoed = self.nonces.current if echo is None else echo
        beat = Heartbeat(
            beat=sequence,
            nonce=b"n" * 16,
            configuration=bytes(8),
            software="test",
            echoes=(Echo(to, echoed, 0),) if version > 1 else (),
            units=units,
        )
        beat = replace(beat, **changes)
        received = Received(Owner(name, life, life), sequence, version, speaks, False, beat)
        peer = self.roster.meet(received, parse_address("192.0.2.12"), at)
        assert peer is not None
        self.heard = self.roster.hear(peer, received, beat, self.nonces, at)
        return peer


def test_a_life_counts_once_it_echoes_our_nonce_to_us() -> None:
    book = Book()
    for wrong in ({"echo": b"x" * 16}, {"to": "lb3"}):
        peer = book.hear("lb2", report(), **wrong)
        assert not peer.alive
        assert peer.units == {}
        assert book.heard.reports == ()
    assert book.hear("lb2", report()).alive
    assert book.heard.revived
    assert len(book.heard.reports) == 1
    assert book.hear("lb2", report(), echo=b"x" * 16).alive  # it stays proved
    assert not book.heard.revived


def test_the_first_word_of_a_life_is_answered() -> None:
    book = Book()
    book.hear("lb2", report())
    assert book.heard.answer
    book.hear("lb2", report())
    assert not book.heard.answer
    book.hear("lb2", report(), life=2, echo=b"x" * 16)
    assert book.heard.answer


def test_a_new_life_proves_itself_and_brings_nothing_along() -> None:
    book = Book()
    peer = book.hear("lb2", report(State.MASTER))
    peer.hearings["web", "lb1"] = NOW
    assert book.hear("lb2", life=2, echo=b"x" * 16) is peer
    assert (peer.proved, peer.alive, peer.left) == (False, False, False)
    assert (peer.units, peer.hearings) == ({}, {})


def test_version_1_counts_only_where_somebody_speaks_nothing_else() -> None:
    book = Book()
    assert not book.hear("lb2", report(), version=1).alive
    book.hear("lb3", report(), version=1, speaks=Versions(1, 1))
    assert book.roster.peers["lb3"].alive
    assert book.hear("lb2", report(), version=1).alive


def test_an_older_beat_changes_nothing() -> None:
    book = Book()
    peer = book.hear("lb2", report(State.MASTER), sequence=20)
    book.hear("lb2", report(), sequence=19, at=NOW + S)
    assert peer.units["web"].state is State.MASTER
    assert peer.last_heard == NOW


def test_a_beat_from_before_an_act_changes_nothing() -> None:
    book = Book()
    peer = book.hear("lb2", report(State.MASTER), sequence=20)
    peer.acted = 25
    book.hear("lb2", report(), sequence=24)
    assert peer.units["web"].state is State.MASTER
    book.hear("lb2", report(), sequence=26)
    assert peer.units["web"].state is State.BACKUP


def test_parts_of_one_beat_come_in_any_order() -> None:
    book = Book()
    other = replace(report(), unit="db")
    peer = book.hear("lb2", report(), other, replace(report(), unit="old"))
    book.hear("lb2", other, beat=50, part=1, parts=2, sequence=51)
    assert set(peer.units) == {"web", "db", "old"}
    book.hear("lb2", report(), beat=50, part=0, parts=2, sequence=50)
    assert set(peer.units) == {"web", "db"}


def test_parts_of_different_beats_say_nothing_of_what_is_missing() -> None:
    book = Book()
    other = replace(report(), unit="db")
    peer = book.hear("lb2", report(), other)
    book.hear("lb2", report(), beat=50, part=0, parts=2, sequence=50)
    book.hear("lb2", beat=51, part=1, parts=2, sequence=51)
    assert set(peer.units) == {"web", "db"}
    book.hear("lb2", report(), beat=52, complete=False, sequence=52)
    assert set(peer.units) == {"web", "db"}
    book.hear("lb2", report(), beat=53, sequence=53)
    assert set(peer.units) == {"web"}


def test_who_left_is_not_alive_and_nothing_of_it_stands() -> None:
    book = Book()
    peer = book.hear("lb2", report(State.MASTER))
    book.hear("lb3", report())
    assert book.roster.all_report("web")
    peer.leave()
    assert not peer.alive
    assert book.roster.master_of("web") is None
    assert book.roster.all_report("web")
    assert not book.hear("lb2", report(State.MASTER)).alive


def test_lost_after_the_timeout_exactly() -> None:
    book = Book()
    peer = book.hear("lb2", report())
    assert book.roster.deadline == NOW + 300 * MS
    assert book.roster.expire(NOW + 300 * MS - 1) == []
    assert book.roster.expire(NOW + 300 * MS) == [peer]
    assert book.roster.expire(NOW + 300 * MS) == []
    assert book.roster.deadline is None
    book.hear("lb3", report())
    assert not book.roster.all_report("web")


def test_the_last_word_of_a_lost_master_counts_until_there_was_a_later_one() -> None:
    book = Book()
    book.hear("lb2", report(State.MASTER, term=5))
    book.hear("lb3", report(term=5), at=NOW + 100 * MS)
    book.roster.expire(NOW + 300 * MS)
    master = book.roster.master_of("web")
    assert master is not None
    assert master.name == "lb2"
    assert book.roster.master_of("web", 6) is None
    book.hear("lb3", report(term=6), at=NOW + 300 * MS)
    assert book.roster.master_of("web") is None


def test_a_live_master_counts_before_a_lost_one_of_a_later_term() -> None:
    """It began after that one was last heard, and took over without a word of its term."""
    book = Book()
    book.hear("lb2", report(State.MASTER, term=4))
    book.hear("lb3", report(State.MASTER, term=1), at=NOW + 200 * MS)
    book.roster.expire(NOW + 300 * MS)
    master = book.roster.master_of("web")
    assert master is not None
    assert master.name == "lb3"


def test_of_two_masters_the_later_term_counts() -> None:
    book = Book()
    book.hear("lb2", report(State.MASTER, 100, term=6))
    book.hear("lb3", report(State.MASTER, 200, term=5))
    master = book.roster.master_of("web")
    assert master is not None
    assert master.name == "lb2"


def test_who_is_fit_the_best_first() -> None:
    book = Book()
    book.hear("lb2", report())
    book.hear("lb3", report())
    assert [peer.name for peer in book.roster.fit_for("web")] == ["lb3", "lb2"]
    book.hear("lb2", report(priority=101))
    assert [peer.name for peer in book.roster.fit_for("web")] == ["lb2", "lb3"]
    book.hear("lb2", report(State.FAULT))
    book.hear("lb3", report(), maintenance=True)
    assert book.roster.fit_for("web") == []


def test_who_may_not_hear_us_any_more() -> None:
    book = Book()
    begins = [peer.name for peer in book.roster.quiet(NOW + 500 * MS)]
    assert begins == ["lb2", "lb3"]  # of a section that has just begun nobody knows yet
    assert list(book.roster.quiet(NOW + 600 * MS)) == []
    peer = book.hear("lb2", report(), at=NOW + S)
    later = NOW + S
    assert list(book.roster.quiet(later + 200 * MS)) == []
    assert list(book.roster.quiet(later + 201 * MS)) == [peer]
    assert list(book.roster.quiet(later + 600 * MS)) == []
    peer.leave()
    assert list(book.roster.quiet(later + 201 * MS)) == []


def test_whose_adverts_come_from_there() -> None:
    book = Book()
    away = parse_address("203.0.113.9")
    assert not book.roster.knows_speakers("web", NOW)
    assert book.roster.speaker(away) is None
    peer = book.hear("lb2", report(), speakers=(Speaker("web", away),))
    assert book.roster.speaker(away) is peer
    assert book.roster.speaker(parse_address("192.0.2.12")) is peer
    assert not book.roster.knows_speakers("web", NOW)
    book.roster.peers["lb3"].leave()
    assert book.roster.knows_speakers("web", NOW)
    assert book.roster.knows_speakers("api", NOW)
    assert not book.roster.knows_speakers("api", NOW + S)  # it may have begun to speak there


# --- watch ----------------------------------------------------------------------------------------


def test_a_lost_master_is_replaced_by_rank() -> None:
    book = Book()
    watch = Watch("web", book.roster)
    book.hear("lb2", report(State.MASTER))
    book.hear("lb3", report(priority=150))
    best = watch.judge(200, 1, NOW)
    next_best = watch.judge(100, 1, NOW)
    assert best is not None
    assert next_best is not None
    assert best.until == NOW + 325 * MS  # 3 1/4 beats
    assert next_best.until == best.until + STEP_NS
    watch.adverts["lb2"] = NOW + 200 * MS
    heard = watch.judge(200, 1, NOW)
    assert heard is not None
    assert heard.until == NOW + 525 * MS
    watch.adverts["lb2"] = NOW + 200 * MS + 1
    assert watch.judge(200, 1, NOW) is None


def test_a_long_timeout_counts_as_it_is() -> None:
    book = Book(heartbeat_timeout_ns=2 * S)
    book.hear("lb2", report(State.MASTER))
    wait = Watch("web", book.roster).judge(200, 1, NOW)
    assert wait is not None
    assert wait.until == NOW + 2 * S


def test_nobody_is_master_and_all_say_so() -> None:
    book = Book()
    watch = Watch("web", book.roster)
    book.hear("lb2", report())
    assert watch.judge(200, 1, NOW) is None  # nothing is known of lb3
    book.hear("lb3")
    assert watch.judge(200, 1, NOW) is None  # lb3 says nothing of this unit
    book.hear("lb3", report(priority=250))
    wait = watch.judge(200, 1, NOW)
    assert wait is not None
    assert wait.until == NOW + 3 * TRY_NS + GRACE_NS + STEP_NS
    assert watch.judge(200, 1, NOW + MS) == wait


def test_a_stranger_counts_once_it_spoke_for_longer_than_two_beats() -> None:
    book = Book()
    watch = Watch("web", book.roster)
    source = parse_address("192.0.2.99")
    assert not watch.is_stranger(source, S, NOW)
    assert not watch.is_stranger(source, S, NOW + 200 * MS)
    assert watch.is_stranger(source, S, NOW + 201 * MS)
    watch.hear_stranger(source, NOW)
    assert watch.hears_strangers(NOW + 60 * S - 1)
    assert not watch.hears_strangers(NOW + 60 * S)


def test_a_flood_of_sources_takes_no_memory_and_alarms_nobody() -> None:
    book = Book()
    watch = Watch("web", book.roster)
    for number in range(100):
        source = parse_address(f"203.0.113.{number}")
        assert not watch.is_stranger(source, S, NOW + number)
    assert not watch.is_stranger(parse_address("203.0.113.0"), S, NOW + S)


def test_while_in_doubt_about_a_speaker_rfc_timers_count() -> None:
    book = Book()
    watch = Watch("web", book.roster)
    book.hear("lb2", report(State.MASTER))
    watch.is_stranger(parse_address("192.0.2.99"), S, NOW)
    assert watch.judge(200, 1, NOW + 3 * S - 1) is None
    assert watch.judge(200, 1, NOW + 3 * S) is not None
