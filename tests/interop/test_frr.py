"""vipd and FRR's vrrpd in one pair, in both roles. FRR needs a lab made by real root."""

from __future__ import annotations

import pytest

from tests.interop.campaign import Outcome

pytestmark = [
    pytest.mark.netns,
    pytest.mark.interop,
    pytest.mark.realroot,
    pytest.mark.timeout(300),
]
ROLES = [("vipd", "frr"), ("frr", "vipd")]


@pytest.mark.campaign("no-cut")
@pytest.mark.parametrize("event", ["higher-joins", "sigterm", "sigkill"])
@pytest.mark.parametrize("variant", ["v3", "v3-ipv6"])
@pytest.mark.parametrize("speakers", ROLES, ids="-".join)
def test_one_master_after_each_event_in_the_time_of_the_formula(
    speakers: tuple[str, str], variant: str, event: str, outcome: Outcome
) -> None:
    outcome.check()
