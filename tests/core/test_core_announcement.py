"""ANN-1, ANN-2, ANN-17: when announcements leave, and that no rival has the last word."""

from __future__ import annotations

import pytest

from tests.core.rig import MS, S, many_vips, vip
from vipd.core.announcement import FRAMES_PER_TURN, AnnouncementPlan
from vipd.model import Family, Instant

HELD = (vip(),)
GAP = 10 * S


def bursts(plan: AnnouncementPlan, until: Instant) -> list[Instant]:
    """The instants at which frames leave, each deadline met exactly."""
    sent = []
    while plan.deadline is not None and plan.deadline <= until:
        now = plan.deadline
        if plan.due(now, HELD):
            sent.append(now)
    return sent


def test_a_burst_leaves_at_0_20_100_500_1000_ms_and_then_refreshes() -> None:
    plan = AnnouncementPlan(5, 60 * S)
    plan.begin(0, first_sent=False)
    expected = [0, 20 * MS, 100 * MS, 500 * MS, 1000 * MS, 61 * S, 121 * S]
    assert bursts(plan, 125 * S) == expected


def test_the_first_round_is_not_repeated_when_it_was_sent_already() -> None:
    plan = AnnouncementPlan(3, 0)
    plan.begin(0, first_sent=True)
    assert bursts(plan, 100 * S) == [20 * MS, 100 * MS]
    assert plan.deadline is None


def test_repeats_beyond_the_fifth_follow_once_a_second() -> None:
    plan = AnnouncementPlan(8, 0)
    plan.begin(0, first_sent=False)
    assert bursts(plan, 100 * S)[4:] == [1 * S, 2 * S, 3 * S, 4 * S]


def test_nothing_is_due_before_its_time_nor_after_the_end() -> None:
    plan = AnnouncementPlan(1, 0)
    assert plan.due(0, HELD) == ()
    plan.begin(5, first_sent=False)
    assert plan.due(4, HELD) == ()
    plan.stop()
    assert plan.due(100 * S, HELD) == ()


def test_a_thousand_frames_are_cut_into_turns() -> None:
    held = many_vips(Family.IPV4, 300)
    plan = AnnouncementPlan(1, 0)
    plan.begin(0, first_sent=False)
    turns = []
    while plan.deadline is not None:
        turns.append(plan.due(plan.deadline, held))
    assert [len(turn) for turn in turns] == [FRAMES_PER_TURN, FRAMES_PER_TURN, 300 % 128]
    assert tuple(each for turn in turns for each in turn) == held


def test_a_rival_is_answered_at_once_and_then_only_after_the_gap() -> None:
    plan = AnnouncementPlan(1, 0)
    plan.answer_rival(0, GAP)
    assert bursts(plan, 0) == [0]
    plan.answer_rival(1 * S, GAP)
    plan.answer_rival(2 * S, GAP)
    assert bursts(plan, 60 * S) == [10 * S]


def test_a_rival_that_must_wait_does_not_end_the_burst_that_is_running() -> None:
    plan = AnnouncementPlan(5, 0)
    plan.answer_rival(0, GAP)
    assert bursts(plan, 0) == [0]
    plan.answer_rival(10 * MS, GAP)
    expected = [20, 100, 500, 1000, 10_000, 10_020, 10_100, 10_500, 11_000]
    assert bursts(plan, 60 * S) == [at * MS for at in expected]


def test_a_rival_that_waits_does_not_delay_an_urgent_answer() -> None:
    plan = AnnouncementPlan(1, 0)
    plan.answer_rival(0, GAP)
    assert bursts(plan, 0) == [0]
    plan.answer_rival(1 * S, GAP)
    plan.answer_rival(2 * S, 0)  # the MAC changed
    assert bursts(plan, 60 * S) == [2 * S]


def test_a_new_claim_is_the_answer_to_a_rival_that_waits() -> None:
    plan = AnnouncementPlan(1, 0)
    plan.answer_rival(0, GAP)
    assert bursts(plan, 0) == [0]
    plan.answer_rival(1 * S, GAP)
    plan.begin(2 * S, first_sent=False)
    assert bursts(plan, 60 * S) == [2 * S]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_rival_is_answered_whatever_the_count(count: int) -> None:
    plan = AnnouncementPlan(count, 0)
    plan.answer_rival(7 * S, GAP)
    assert bursts(plan, 7 * S) == [7 * S]


def test_a_refresh_never_keeps_an_answer_waiting() -> None:
    plan = AnnouncementPlan(1, 60 * S)
    plan.begin(0, first_sent=True)
    plan.answer_rival(5 * S, GAP)
    assert bursts(plan, 5 * S) == [5 * S]


def test_a_losing_advert_does_not_wait_for_the_gap_of_an_arp() -> None:
    """A beaten master's last advert follows its ARP, which was answered already."""
    plan = AnnouncementPlan(5, 0)
    plan.answer_rival(0, 10 * S)
    assert bursts(plan, 20 * MS) == [0, 20 * MS]
    plan.answer_rival(50 * MS, 1 * S)
    assert plan.deadline == 50 * MS
    assert plan.due(50 * MS, HELD) == HELD
    plan.answer_rival(60 * MS, 1 * S)
    plan.answer_rival(60 * MS, 10 * S)
    assert plan.deadline == 70 * MS  # the second round; the answer waits for its gap
