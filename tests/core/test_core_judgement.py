"""A unit judges itself in one go: what it says and how long it waits follow from the whole."""

from __future__ import annotations

from dataclasses import replace

from tests.core.rig import ETH1, LOWER, MS, OWN, Rig, S, notes, priorities, router
from vipd.core import timing
from vipd.core.events import (
    Deafened,
    HealthReported,
    OrdersGiven,
    StopRequested,
    Undeafened,
)
from vipd.model import (
    Family,
    GroupConfig,
    Health,
    NoteKind,
    Orders,
    State,
    Track,
    TrackKind,
    Verdict,
)

LOAD = Track(TrackKind.CHECK, "load", weight=-60)
NGINX = Track(TrackKind.CHECK, "nginx", weight=-60, waits=True)


def health(**checks: Health) -> HealthReported:
    return HealthReported(tuple(Verdict(name, found) for name, found in checks.items()))


def test_whoever_starts_waits_by_its_effective_priority() -> None:
    rig = Rig(sync=False)
    rig.feed(health(nginx=Health.UNHEALTHY))
    rig.configure(router(priority=254, track=(NGINX,)))
    rig.feed(rig.kernel.dump())
    assert rig.state() is State.BACKUP
    assert rig.instance().election.deadline == rig.now + timing.master_down_ns(3, 194, S)


def test_whoever_waited_for_a_verdict_waits_by_what_it_says() -> None:
    rig = Rig(router(priority=254, track=(NGINX,)))
    assert rig.state() is State.INIT
    rig.feed(health(nginx=Health.UNHEALTHY))
    assert rig.instance().election.deadline == rig.now + timing.master_down_ns(3, 194, S)


def test_a_reload_of_priority_and_tracks_is_said_once_and_right() -> None:
    rig = Rig(router(track=(LOAD,)))
    rig.feed(health(load=Health.UNHEALTHY))
    rig.become_master()
    actions = rig.configure(router(priority=150))
    assert priorities(actions) == [150]
    assert rig.state() is State.MASTER


def test_a_reload_that_brings_a_fault_is_not_advertised_first() -> None:
    rig = Rig(router())
    rig.feed(health(nginx=Health.UNHEALTHY))
    rig.become_master()
    actions = rig.configure(router(track=(replace(NGINX, weight=None),)))
    assert rig.state() is State.FAULT
    assert priorities(actions) == [0]


def test_a_new_source_is_advertised_once_with_the_priority_of_now() -> None:
    rig = Rig(router())
    rig.become_master()
    rig.put("192.0.2.12/24")
    actions = rig.take_away(OWN[Family.IPV4])
    assert len(notes(actions, NoteKind.SOURCE_CHANGED)) == 1
    assert priorities(actions) == [100]


def test_the_successor_of_a_deaf_router_is_deaf() -> None:
    rig = Rig(router())
    rig.feed(Deafened("web", 24))
    rig.configure(router(vrid=52))
    assert rig.state() is State.FAULT
    rig.configure(router(vrid=52), groups=(GroupConfig("edge", ("web",)),))
    assert rig.state("edge") is State.FAULT
    rig.feed(Undeafened("web"))
    assert rig.state("edge") is State.BACKUP
    rig.configure(router(vrid=53))
    assert rig.state() is State.BACKUP


def test_a_master_that_waits_for_a_check_and_is_beaten_takes_no_part_any_more() -> None:
    rig = Rig(router())
    rig.become_master()
    rig.configure(router(track=(NGINX,)))
    assert rig.state() is State.MASTER
    actions = rig.hear(200)
    assert rig.state() is State.INIT
    assert priorities(actions) == [100]
    assert not rig.holds(*router().vips)
    rig.feed(health(nginx=Health.HEALTHY))
    assert rig.state() is State.BACKUP


def test_a_master_that_waits_for_a_check_and_steps_down_takes_no_part_any_more() -> None:
    rig = Rig(router())
    rig.become_master()
    rig.configure(router(track=(NGINX,)))
    actions = rig.feed(OrdersGiven(Orders(step_downs=(("web", 1),))))
    assert rig.state() is State.INIT
    assert priorities(actions) == [0]


def test_a_unit_that_leaves_waits_for_no_debounced_interface() -> None:
    uplink = Track(TrackKind.INTERFACE, "eth1", debounce_ns=300 * MS)
    rig = Rig(router(track=(uplink,)))
    rig.become_master()
    rig.obeys = False
    rig.see_link(replace(ETH1, up=False))
    rig.stop()
    rig.run(S)
    assert rig.node.deadline() is None or rig.node.deadline() > rig.now


def test_maintenance_waits_by_its_own_interval_once_the_master_is_gone() -> None:
    rig = Rig(router())
    rig.feed(OrdersGiven(Orders(maintenance=True)))
    rig.hear(200, LOWER[Family.IPV4], interval_ns=100 * MS)
    rig.run(400 * MS)
    assert rig.state() is State.BACKUP
    assert rig.instance().election.learned_interval_ns == S
    rig.feed(StopRequested())
    assert rig.state() is State.INIT
