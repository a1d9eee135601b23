"""The timer: fires not before its instant, once, and never when disarmed."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator

import pytest

from vipd.adapters.clock import DeadlineTimer, boottime_ns
from vipd.model import MILLISECOND_NS, SECOND_NS


@pytest.fixture
def timer() -> Iterator[DeadlineTimer]:
    made = DeadlineTimer()
    yield made
    made.close()


def readable(timer: DeadlineTimer, timeout_s: float) -> bool:
    return bool(select.select([timer], [], [], timeout_s)[0])


def test_the_clock_is_the_one_that_counts_suspension() -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    now = boottime_ns()
    assert before <= now <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_it_fires_at_the_instant_and_not_before(timer: DeadlineTimer) -> None:
    for delay_ns in (MILLISECOND_NS, 20 * MILLISECOND_NS):
        due = boottime_ns() + delay_ns
        timer.arm(due)
        assert readable(timer, 5)
        assert due <= boottime_ns() < due + SECOND_NS
        timer.acknowledge()
        assert not readable(timer, 0)


def test_a_past_instant_fires_at_once(timer: DeadlineTimer) -> None:
    for past in (-5, 0, 1, boottime_ns()):
        timer.arm(past)
        assert readable(timer, 5)
        timer.acknowledge()


def test_the_same_past_instant_fires_again_after_the_acknowledgement(
    timer: DeadlineTimer,
) -> None:
    due = boottime_ns()
    timer.arm(due)
    assert readable(timer, 5)
    timer.acknowledge()
    timer.arm(due)
    assert readable(timer, 5)


def test_arming_replaces_and_none_disarms(timer: DeadlineTimer) -> None:
    soon = boottime_ns() + 5 * MILLISECOND_NS
    timer.arm(soon)
    timer.arm(boottime_ns() + 60 * SECOND_NS)
    assert not readable(timer, 0.02)
    timer.arm(soon)
    timer.arm(None)
    assert not readable(timer, 0.02)


def test_arming_the_same_instant_again_changes_nothing(timer: DeadlineTimer) -> None:
    due = boottime_ns() + 5 * MILLISECOND_NS
    timer.arm(due)
    timer.arm(due)
    assert readable(timer, 5)


def test_an_early_acknowledgement_does_not_disarm(timer: DeadlineTimer) -> None:
    timer.arm(boottime_ns() + 5 * MILLISECOND_NS)
    timer.acknowledge()
    assert readable(timer, 5)


def test_closing_twice_is_harmless_and_the_descriptor_is_not_inherited() -> None:
    timer = DeadlineTimer()
    assert not os.get_inheritable(timer.fileno())
    timer.close()
    timer.close()
