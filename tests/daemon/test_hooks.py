"""Hooks on the whole daemon: torture first, then each promise by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.daemon import flaps
from tests.daemon.flaps import Flapper

pytestmark = pytest.mark.netns


@pytest.mark.parametrize(
    ("seed", "strike", "lives", "in_group"),
    [
        (1, flaps.kill_both, 3, False),
        (2, flaps.kill_supervisor, 3, True),
        (3, flaps.kill_engine, 1, False),
        (4, flaps.kill_both, 3, True),
    ],
)
def test_the_last_hook_equals_the_final_state_whatever_flaps_and_dies(
    seed: int, strike: Callable[[Flapper], None], lives: int, in_group: bool
) -> None:
    with flaps.flappers(in_group) as (one, two):
        flaps.flap(one, two, seed, 100, strike)
        steps = 3 if in_group else 2
        assert flaps.judge(one, lives, steps) == []
        assert flaps.judge(two, 1, steps) == []
