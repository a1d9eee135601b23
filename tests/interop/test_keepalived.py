"""vipd and Debian's keepalived in one pair, in both roles, judged from outside.

In ``vipd-keepalived`` the node with the better priority, the one that every event is done to, is
vipd and keepalived takes over; in ``keepalived-vipd`` it is the other way round. With equal
priorities the first is the incumbent.
"""

from __future__ import annotations

import pytest

from tests.interop.campaign import EVENTS, VARIANTS, Outcome

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.timeout(300)]
ROLES = [("vipd", "keepalived"), ("keepalived", "vipd")]


@pytest.mark.campaign("unequal")
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("speakers", ROLES, ids="-".join)
def test_one_master_after_each_event_in_the_time_of_the_formula(
    speakers: tuple[str, str], variant: str, event: str, outcome: Outcome
) -> None:
    outcome.check()
