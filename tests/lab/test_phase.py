"""The moment to heal a cut: the better master speaks next."""

from __future__ import annotations

import pytest

from vipd.lab.phase import better_is_next, wait_better_is_next

MS = 1_000_000


@pytest.mark.parametrize(
    ("at_ms", "good"),
    [
        (0, False),  # the better one has just spoken: 600 ms later the other one is next
        (590, False),
        (600, True),  # the other one has just spoken: the better one is next, in 400 ms
        (890, True),
        (910, False),  # too close to be sure
        (5700, True),
        (5100, False),
    ],
)
def test_adverts_at_0_and_600_ms_of_each_second(at_ms: int, good: bool) -> None:
    assert better_is_next(0, 600 * MS, 1000 * MS, at_ms * MS) is good


def test_phases_too_close_are_no_moment_at_all() -> None:
    assert not any(better_is_next(0, 9 * MS, 100 * MS, at_ms * MS) for at_ms in range(200))
    with pytest.raises(TimeoutError, match="same time"):
        wait_better_is_next(0, 0, 20 * MS)
