"""Runs the campaigns of the collected tests side by side, once, before the first one judges.

A campaign waits nearly all of its time (VRRP timers), so several labs share the machine; more
than a few would distort each other's timing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.interop.campaign import VARIANTS, Maker, Outcome, run
from vipd.lab.frr import FrrVrrpd
from vipd.lab.namespace import check_privileges
from vipd.lab.peers import Keepalived, VipdNode

PARALLEL = 5
MAKERS: dict[str, Maker] = {"vipd": VipdNode, "keepalived": Keepalived, "frr": FrrVrrpd}

Key = tuple[str, str, str, str]
"""(better speaker, other speaker, variant, row of events)."""

Results = Callable[[Key], dict[str, Outcome]]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "campaign(row): judges one event of this row of events")


def campaign_of(item: pytest.Item) -> Key | None:
    """The campaign that a test judges, from its parameters."""
    marker = item.get_closest_marker("campaign")
    if marker is None or not isinstance(item, pytest.Function):
        return None
    parameters = item.callspec.params
    row = "equal" if parameters["event"] == "equal-priority" else marker.args[0]
    return (*parameters["speakers"], parameters["variant"], row)


@pytest.fixture(scope="session")
def campaigns(request: pytest.FixtureRequest) -> Iterator[Results]:
    check_privileges()
    wanted = [campaign_of(item) for item in request.session.items]
    # the longest first, so that they do not run alone at the end
    keys = sorted({key for key in wanted if key}, key=lambda key: not key[2].startswith("v2"))
    with ThreadPoolExecutor(PARALLEL) as pool:
        futures: dict[Key, Future[dict[str, Outcome]]] = {
            key: pool.submit(run, (MAKERS[key[0]], MAKERS[key[1]]), VARIANTS[key[2]], key[3])
            for key in keys
        }
        yield lambda key: futures[key].result()
        for future in futures.values():
            future.cancel()


@pytest.fixture
def outcome(request: pytest.FixtureRequest, campaigns: Results) -> Outcome:
    """What the judge saw after this test's event."""
    key = campaign_of(request.node)
    assert key is not None
    return campaigns(key)[request.node.callspec.params["event"]]
