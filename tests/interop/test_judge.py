"""keepalived against itself: what the judge says about a pair that is known to be good.

If these fail, look at the judge (or the machine) before you look at vipd.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.interop.campaign import EVENTS, Outcome
from tests.interop.judge import MS, Judge, holders
from vipd.lab.netns import Lab
from vipd.lab.peers import Keepalived, Router

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.timeout(300)]


@pytest.mark.campaign("unequal")
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("variant", ["v3", "v3-ipv6"])
@pytest.mark.parametrize("speakers", [("keepalived", "keepalived")])
def test_keepalived_and_keepalived(
    speakers: tuple[str, str], variant: str, event: str, outcome: Outcome
) -> None:
    outcome.check()


GOOD = Outcome("sigterm", "lb2", frozenset({"lb2"}), frozenset({"lb2"}), 122_000_000, 121_875_000)


@pytest.mark.parametrize(
    "bad",
    [
        {"masters": frozenset({"lb1", "lb2"})},
        {"masters": frozenset()},
        {"holders": frozenset({"lb1", "lb2"})},
        {"holders": frozenset({"lb1"})},
        {"handover_ns": 100_000_000},
        {"handover_ns": 180_000_000},
    ],
)
def test_a_bad_outcome_is_not_accepted(bad: dict[str, object]) -> None:
    GOOD.check()
    with pytest.raises(AssertionError):
        replace(GOOD, **bad).check()


def test_two_masters_are_seen() -> None:
    """Two routers that do not know each other claim the same VIP: the judge must object."""
    with Lab(["lb1", "lb2"]) as lab:
        judge = Judge(lab)
        pair = [
            Keepalived(lab[name], Router(("192.0.2.100/24",), 100, vrid=vrid, interval_ms=100))
            for name, vrid in (("lb1", 51), ("lb2", 52))
        ]
        for speaker in pair:
            speaker.start()
        since_ns = max(judge.first_advert(speaker.host.name, 0) for speaker in pair)
        assert judge.masters(since_ns, 250 * MS, pair) == {"lb1", "lb2"}
        assert holders(pair) == {"lb1", "lb2"}
