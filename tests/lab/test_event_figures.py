"""The rows of ``bench cluster``: goals, failures and two holders, on made-up samples."""

from __future__ import annotations

import itertools

import pytest

from vipd.lab.bench.channel import CostFigure
from vipd.lab.bench.cluster import EVENTS, measurements
from vipd.lab.bench.event_figures import EventFigure, Goal, Sample, Tally, total

GOAL = Goal(5, 15)


def _tally(*outages_ms: float, held_twice_ms: float = 0, again: int = 0) -> Tally:
    samples = [Sample(outage_ms, 0, 0) for outage_ms in outages_ms[:-1]]
    last = [Sample(outage_ms, held_twice_ms, again) for outage_ms in outages_ms[-1:]]
    return Tally([*samples, *last], loads=[1.0] * len(outages_ms))


def _figure(vipd: Tally, goal: Goal | None = GOAL, one_holder: bool = True) -> EventFigure:
    return EventFigure("x", "x", vipd, _tally(600, 620, 610), goal, one_holder)


def test_both_shares_must_be_within_the_goal() -> None:
    assert _figure(_tally(1, 2, 5, 14, 15)).met is True
    assert _figure(_tally(1, 2, 5.1, 14, 15)).met is False
    assert _figure(_tally(1, 2, 5, 14, 15.1)).met is False


def test_one_in_a_hundred_may_be_worse() -> None:
    assert _figure(_tally(*[1] * 99, 900)).met is True
    assert _figure(_tally(*[1] * 98, 900, 900)).met is False


def test_an_event_that_went_wrong_is_seen_and_misses_the_goal() -> None:
    tally = _tally(1, 2, 3)
    tally.failures.append("nobody serves")
    figure = _figure(tally)
    assert figure.met is False
    assert figure.went_wrong == ("nobody serves",)
    assert figure.row()[5] == "3 + 1 FAILED"
    assert "3 + 1 FAILED" in figure.sentence()


def test_nothing_but_failures_is_a_row_too() -> None:
    figure = _figure(Tally(failures=["never started"]))
    assert figure.met is False
    assert figure.row()[1:6] == ["≤ 5 / 15", "-", "-", "-", "0 + 1 FAILED"]


@pytest.mark.parametrize("tally", [_tally(1, held_twice_ms=0.4), _tally(1, again=1)])
def test_two_holders_miss_the_goal_unless_they_must_be(tally: Tally) -> None:
    assert _figure(tally).met is False
    assert _figure(tally, one_holder=False).met is True


def test_where_there_is_no_goal_nothing_is_met() -> None:
    assert _figure(_tally(900), goal=None).met is None
    assert _figure(_tally(900), goal=None).row()[-1] == ""


def test_the_rival_is_shown_by_its_median_and_count() -> None:
    assert _figure(_tally(1)).row()[7] == "610 (3)"
    twice = EventFigure("x", "x", _tally(1), _tally(9, held_twice_ms=700), GOAL)
    assert twice.row()[7] == "9 (1), two holders"


def test_an_event_of_several_moves_is_their_sum() -> None:
    assert total([Sample(1, 2, 3), Sample(10, 20, 30)]) == Sample(11, 22, 33)


def test_every_event_has_names_of_its_own() -> None:
    assert len({event.name for event in EVENTS}) == len(EVENTS)
    assert len(measurements(1, 1)) == len(EVENTS)


def test_the_greatest_difference_between_like_nodes_counts() -> None:
    plain, cluster = (10.0, 30.0), (25.0, 35.0)
    for limit, of_difference, met in ((15, True, True), (14, True, False), (35, False, True)):
        figure = CostFigure("x", "x", "ms/s", plain, cluster, limit, of_difference)
        assert figure.difference == 15
        assert figure.met is met
        assert figure.row()[-1] == ("yes" if met else "MISSED")


def test_all_rows_of_a_kind_have_as_many_cells_as_heads() -> None:
    rows = [_figure(_tally(1)), CostFigure("x", "x", "ms/s", (1.0,), (1.0,), 1, True)]
    assert all(len(row.row()) == len(row.heads) for row in rows)
    assert not any(itertools.chain.from_iterable(row.went_wrong for row in rows))
