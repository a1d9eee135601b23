"""Two routers with crossed priorities: each host is master of one and backup of the other."""

from __future__ import annotations

import itertools

import pytest

from tests.daemon.rig import MS, PATIENCE_S, Daemon, Wire, router, sleep_ms
from vipd.lab.hosts import now_ns, wait_for
from vipd.lab.netns import Lab

pytestmark = pytest.mark.netns

WEB, API = "192.0.2.100", "192.0.2.110"


def daemons(lab: Lab) -> tuple[Daemon, Daemon]:
    return tuple(  # type: ignore[return-value]
        Daemon(
            lab[name],
            router(web, (f"{WEB}/24",)),
            others=[("api", router(api, (f"{API}/24",), vrid=52))],
        )
        for name, web, api in (("lb1", 150, 100), ("lb2", 100, 150))
    )


def spread(one: Daemon, two: Daemon) -> tuple[list[str], list[str]]:
    """Who holds the one VIP, and who the other."""
    hosts = (one.host, two.host)
    web, api = ([host.name for host in hosts if host.holds(vip)] for vip in (WEB, API))
    return web, api


def test_each_holds_its_own() -> None:
    with Lab(["lb1", "lb2"]) as lab:
        one, two = daemons(lab)
        for daemon in (one, two):
            daemon.start()
            daemon.wait_ready()
        own = (["lb1"], ["lb2"])
        wait_for(lambda: spread(one, two) == own, PATIENCE_S, "not spread")
        wire, begin = Wire(lab), now_ns()
        sleep_ms(1000)
        assert spread(one, two) == own
        assert {(a.port, a.vrid, a.priority) for a in wire.adverts(since_ns=begin)} == {
            ("lb1", 51, 150),
            ("lb2", 52, 150),
        }
        one.kill()
        wait_for(lambda: two.host.holds(WEB), PATIENCE_S, "not taken over")
        one.wait_free()
        assert spread(one, two) == (["lb2"], ["lb2"])
        back = now_ns()
        one.start()
        one.wait_ready()
        wait_for(lambda: spread(one, two) == own, PATIENCE_S, "not given back")
        sleep_ms(500)
        assert spread(one, two) == own
        # its part of the work never stopped: adverts of 52 came from lb2 all the time
        instants = [a.t_ns for a in wire.adverts("lb2", begin) if a.vrid == 52]
        assert instants[-1] > back
        assert max(b - a for a, b in itertools.pairwise(instants)) < 400 * MS
