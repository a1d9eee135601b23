"""A load balancer whose proxy is dead does not hold the VIP: with real proxies, seen by a visitor.

However a proxy fails, each VIP is on the other node within ``fall * interval + timeout`` of the
check and one advert interval, and back when the proxy is. The bound has some room for a busy
machine; without a check that works the outage would have no end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.proxies.programs import PATIENCE_S, Apache, HaProxy, Nginx, Proxy
from tests.proxies.scene import API, WEB, Scene, Schedule, scene
from vipd.lab.hosts import Host, wait_for
from vipd.model import MILLISECOND_NS, SECOND_NS

pytestmark = [pytest.mark.netns, pytest.mark.realroot]

SLACK_NS = SECOND_NS
LOCAL, OWN = "http://127.0.0.1/", "http://{address}/"
FAULTS: dict[str, tuple[Callable[[Proxy], None], Callable[[Proxy], None]]] = {
    "stopped": (Proxy.stop, Proxy.restart),
    "killed": (Proxy.kill, Proxy.restart),
    "hung": (Proxy.freeze, Proxy.thaw),
}
"""What is done to the proxy, and what brings it back."""


@pytest.fixture(
    scope="module",
    params=[(Nginx, LOCAL), (HaProxy, OWN), (Apache, LOCAL)],
    ids=lambda param: param[0].name,
)
def pair(request: pytest.FixtureRequest) -> Iterator[Scene]:
    make: Callable[[Host], Proxy] = request.param[0]
    with scene(make, request.param[1]) as running:
        yield running


@pytest.mark.parametrize("fault", FAULTS)
def test_the_vips_leave_a_dead_proxy_and_come_back(pair: Scene, fault: str) -> None:
    strike, mend = FAULTS[fault]
    one = pair.nodes["lb1"]
    pair.wait_at("lb1")
    moves = pair.strike(strike)
    for vip, move in moves.items():
        assert (move.outage.before, move.outage.after) == ("lb1", "lb2"), vip
        assert move.outage.length_ns <= Schedule().promised_ns + SLACK_NS, vip
    assert one.state("web") == "BACKUP"
    assert one.state("api") == "FAULT"
    # FAULT is a planned release: the address is gone here before it is there
    assert moves[API].removed_ns < moves[API].added_ns
    # with a weight the better one is heard first, and then at once given way to
    assert moves[WEB].removed_ns < moves[WEB].added_ns + SECOND_NS
    check = one.status()["checks"]["proxy"]
    assert check["healthy"] is False
    assert check["verdict"] == ("timed-out" if fault == "hung" else "failed")
    mend(pair.proxies["lb1"])
    pair.wait_at("lb1")
    assert one.state("api") == "MASTER"


def test_one_bad_run_of_three_is_no_failure() -> None:
    """``fall: 3``: the VIP stays for two bad runs, and the bound grows by what they take."""
    schedule = Schedule(interval_ms=250, timeout_ms=200, fall=3)
    with scene(Nginx, LOCAL, schedule) as running:
        moves = running.strike(Proxy.stop)
        for vip, move in moves.items():
            assert move.outage.length_ns >= 2 * schedule.interval_ms * MILLISECOND_NS, vip
            assert move.outage.length_ns <= schedule.promised_ns + SLACK_NS, vip


def test_when_all_proxies_are_dead_a_weight_leaves_a_holder_and_fault_none() -> None:
    with scene(Nginx, LOCAL) as running:
        one, two = running.nodes["lb1"], running.nodes["lb2"]
        for proxy in running.proxies.values():
            proxy.kill()
        for node in (one, two):
            node.wait_state("FAULT", "api")
        one.wait_state("MASTER", "web")
        wait_for(
            lambda: [holders(vip, running) for vip in (WEB, API)] == [["lb1"], []],
            PATIENCE_S,
            "the worse of two bad ones holds a VIP",
        )
        assert one.instance("web")["priority"]["effective"] == 90
        assert two.instance("web")["priority"]["effective"] == 40
        running.proxies["lb2"].restart()  # the only good one takes both
        running.wait_at("lb2")


def holders(vip: str, running: Scene) -> list[str]:
    return [name for name in running.nodes if running.lab[name].holds(vip)]
