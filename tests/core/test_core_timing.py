"""TMR-1: the timers, against the table of the requirements and against a twin with fractions."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipd.core import timing
from vipd.model import SECOND_NS

CS_NS = 10_000_000
US_NS = 1_000

V2_ROWS = [  # priority, interval s, skew us, down us
    (254, 1, 7_812, 3_007_812),
    (100, 1, 609_375, 3_609_375),
    (1, 1, 996_093, 3_996_093),
    (100, 3, 609_375, 9_609_375),
    (255, 1, 3_906, 3_003_906),
]
V3_ROWS = [  # priority, interval cs, skew us, down us
    (254, 100, 7_812, 3_007_812),
    (200, 100, 218_750, 3_218_750),
    (100, 100, 609_375, 3_609_375),
    (100, 50, 304_687, 1_804_687),
    (100, 10, 60_937, 360_937),
    (254, 10, 781, 300_781),
    (254, 1, 78, 30_078),
    (100, 1, 6_093, 36_093),
    (100, 4095, 24_953_906, 147_803_906),
]


@pytest.mark.parametrize(("priority", "seconds", "skew_us", "down_us"), V2_ROWS)
def test_v2_row_is_exact_to_the_microsecond(
    priority: int, seconds: int, skew_us: int, down_us: int
) -> None:
    interval = seconds * SECOND_NS
    assert timing.skew_ns(2, priority, interval) == skew_us * US_NS
    assert timing.master_down_ns(2, priority, interval) == down_us * US_NS


@pytest.mark.parametrize(("priority", "centiseconds", "skew_us", "down_us"), V3_ROWS)
def test_v3_row_is_exact_to_the_microsecond(
    priority: int, centiseconds: int, skew_us: int, down_us: int
) -> None:
    interval = centiseconds * CS_NS
    assert timing.skew_ns(3, priority, interval) == skew_us * US_NS
    assert timing.master_down_ns(3, priority, interval) == down_us * US_NS


@given(priority=st.integers(1, 255), centiseconds=st.integers(1, 4095))
def test_v3_agrees_with_fractions(priority: int, centiseconds: int) -> None:
    skew_us = Fraction(256 - priority, 256) * centiseconds * 10_000
    interval = centiseconds * CS_NS
    assert timing.skew_ns(3, priority, interval) == floor(skew_us) * US_NS
    down_us = 3 * centiseconds * 10_000 + floor(skew_us)
    assert timing.master_down_ns(3, priority, interval) == down_us * US_NS


@given(priority=st.integers(1, 255), seconds=st.integers(1, 255))
def test_v2_skew_does_not_depend_on_the_interval(priority: int, seconds: int) -> None:
    skew_us = floor(Fraction(256 - priority, 256) * 1_000_000)
    assert timing.skew_ns(2, priority, seconds * SECOND_NS) == skew_us * US_NS
    down_us = 3 * seconds * 1_000_000 + skew_us
    assert timing.master_down_ns(2, priority, seconds * SECOND_NS) == down_us * US_NS


@pytest.mark.parametrize("version", [2, 3])
def test_neighbouring_priorities_never_share_a_skew(version: int) -> None:
    for interval in (CS_NS, 10 * CS_NS, SECOND_NS):
        skews = [timing.skew_ns(version, priority, interval) for priority in range(1, 256)]
        assert skews == sorted(set(skews), reverse=True)


def test_no_peer_moves_before_the_takeover_floor() -> None:
    for priority in range(1, 256):
        for interval in (CS_NS, SECOND_NS):
            assert timing.takeover_floor_ns(interval) < timing.master_down_ns(3, priority, interval)
