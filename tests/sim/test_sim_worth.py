"""The second computation of priorities, and the fakes of supervisor, sockets and LANs."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipd.core.events import (
    Configured,
    Deafened,
    HealthReported,
    KernelResynced,
    LinkSeen,
    OrdersGiven,
    Undeafened,
)
from vipd.core.track import Tracker, effective_priority
from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    Health,
    Link,
    NodeConfig,
    Orders,
    Track,
    TrackKind,
    Verdict,
)
from vipd.sim.network import Network
from vipd.sim.options import draw
from vipd.sim.plans import MAIN, SIDE, units_of
from vipd.sim.run import build
from vipd.sim.world import World
from vipd.sim.worth import Debounced, Told, Worth, worth_of

MS = MILLISECOND_NS
BAD, WELL, UNKNOWN = Health.UNHEALTHY, Health.HEALTHY, Health.UNKNOWN
UPLINK = Link(4, "eth2", True, b"\2\0\0\0\0\1")


def track(weight: int | None, *, reverse: bool = False, waits: bool = False) -> Track:
    return Track(TrackKind.CHECK, "web", weight, reverse, waits)


def nothing_is_up(_name: str) -> bool:
    return False


@pytest.mark.parametrize(
    ("tracked", "health", "number", "worth"),
    [
        (track(10), WELL, None, Worth(10)),
        (track(10), BAD, None, Worth(0)),
        (track(10, reverse=True), WELL, None, Worth(-10)),
        (track(-10), BAD, None, Worth(-10)),
        (track(-10), WELL, None, Worth(0)),
        (track(-10, reverse=True), BAD, None, Worth(10)),
        (track(None), BAD, None, Worth(0, fault=True)),
        (track(None), WELL, None, Worth(0)),
        (track(None, reverse=True), WELL, None, Worth(0, fault=True)),
        (track(None, reverse=True), BAD, None, Worth(0)),
        (track(None), WELL, -60, Worth(-60)),
        (track(2), WELL, -60, Worth(-120)),
        (track(None), WELL, -253, Worth(-253)),
        (track(None), WELL, -254, Worth(-254, fault=True)),
        (track(-1), WELL, 254, Worth(-254, fault=True)),
        (track(None), UNKNOWN, None, Worth(0)),
        (track(None, waits=True), UNKNOWN, None, Worth(0, pending=True)),
        (track(-10), UNKNOWN, None, Worth(0)),
    ],
)
def test_a_track_is_worth_what_the_specification_says(
    tracked: Track, health: Health, number: int | None, worth: Worth
) -> None:
    verdicts = {"web": Verdict("web", health, number)}
    assert worth_of([tracked], verdicts, nothing_is_up) == worth


@pytest.mark.parametrize(
    ("base", "total", "priority"),
    [(100, 0, 100), (100, -300, 1), (100, 300, 254), (255, -300, 255), (1, 1, 2)],
)
def test_the_sum_stays_within_bounds(base: int, total: int, priority: int) -> None:
    assert Worth(total).priority(base) == priority


_WEIGHTS = st.none() | st.integers(-300, 300).filter(bool)
_TRACKS = st.lists(
    st.builds(
        Track,
        st.sampled_from(TrackKind),
        st.sampled_from(("a", "b", "c")),
        _WEIGHTS,
        st.booleans(),
        st.booleans(),
    ),
    max_size=5,
    unique_by=lambda each: (each.kind, each.name),
)
_VERDICTS = st.dictionaries(
    st.sampled_from(("a", "b", "c")),
    st.tuples(st.sampled_from(Health), st.none() | st.integers(-300, 300)),
)


@given(_TRACKS, _VERDICTS, st.frozensets(st.sampled_from(("a", "b", "c"))), st.integers(1, 255))
def test_core_and_simulator_agree(
    tracks: list[Track],
    found: dict[str, tuple[Health, int | None]],
    up: frozenset[str],
    base: int,
) -> None:
    verdicts = {name: Verdict(name, *values) for name, values in found.items()}
    is_up: Callable[[str], bool] = up.__contains__
    core = Tracker(tuple(tracks)).judge(verdicts, is_up, 0)
    here = worth_of(tracks, verdicts, is_up)
    assert here.priority(base) == effective_priority(base, core.contributions)
    assert here.fault == bool(core.faults)
    assert here.pending == bool(core.pending)


# --- what an engine was told ----------------------------------------------------------------------


def test_told_is_what_was_told_last() -> None:
    told = Told()
    told.learn(HealthReported((Verdict("web", BAD),)), 5)
    told.learn(OrdersGiven(Orders(maintenance=True)), 6)
    told.learn(Deafened("vi1", 24), 6)
    told.learn(Deafened("vi2", 24), 6)
    told.learn(Undeafened("vi1"), 7)
    assert not told.synced
    told.learn(KernelResynced((UPLINK,), ()), 7)
    assert (told.synced, told.deaf, told.health_at) == (True, {"vi2"}, 5)
    assert told.verdicts["web"].health is BAD
    assert told.orders.maintenance
    assert told.is_up("eth2")
    told.stale = True
    told.learn(Configured(NodeConfig("lb1", ())), 9)
    assert (told.stale, told.health_at) == (False, 9)


def watched(debounce_ns: int) -> tuple[Debounced, Told, list[Track]]:
    told = Told()
    told.learn(KernelResynced((UPLINK,), ()), 0)
    tracks = [Track(TrackKind.INTERFACE, "eth2", debounce_ns=debounce_ns)]
    debounced = Debounced()
    debounced.look(tracks, told, 0, due=False, seen_by_core={})
    return debounced, told, tracks


def down(told: Told, now: int) -> None:
    told.learn(LinkSeen(Link(4, "eth2", False, UPLINK.mac)), now)


def test_without_debounce_a_change_counts_at_once() -> None:
    debounced, told, tracks = watched(0)
    down(told, 1)
    debounced.look(tracks, told, 1, due=False, seen_by_core={})
    assert not debounced.is_up("eth2")


def test_a_debounced_change_counts_when_it_has_lasted() -> None:
    debounced, told, tracks = watched(300 * MS)
    down(told, 1)
    for now, up in ((1, True), (299 * MS, True), (301 * MS, False)):
        debounced.look(tracks, told, now, due=True, seen_by_core={})
        assert debounced.is_up("eth2") is up


def test_a_break_begins_the_debounce_anew() -> None:
    debounced, told, tracks = watched(300 * MS)
    down(told, 1)
    debounced.look(tracks, told, 1, due=False, seen_by_core={})
    told.learn(LinkSeen(UPLINK), 200 * MS)
    debounced.look(tracks, told, 200 * MS, due=False, seen_by_core={})
    down(told, 250 * MS)
    debounced.look(tracks, told, 250 * MS, due=False, seen_by_core={})
    debounced.look(tracks, told, 400 * MS, due=True, seen_by_core={})
    assert debounced.is_up("eth2")
    assert debounced.overdue_ns(tracks, 600 * MS) == 50 * MS


def test_between_due_and_served_the_core_may_be_either() -> None:
    debounced, told, tracks = watched(300 * MS)
    down(told, 0)
    debounced.look(tracks, told, 0, due=False, seen_by_core={})
    debounced.look(tracks, told, 310 * MS, due=False, seen_by_core={"eth2": True})
    assert debounced.is_up("eth2")
    debounced.look(tracks, told, 310 * MS, due=False, seen_by_core={"eth2": False})
    assert not debounced.is_up("eth2")


# --- groups, LANs, supervisor ---------------------------------------------------------------------


def test_every_host_lists_the_members_of_a_group_in_another_order() -> None:
    options = next(
        drawn
        for drawn in (draw(random.Random(seed)) for seed in range(100))
        if drawn.groups and len(drawn.groups[0].members) == 3
    )
    group = options.groups[0]
    first, second = group.config_for(0), group.config_for(1)
    assert first.instances != second.instances
    assert set(first.instances) == set(second.instances)
    unit = units_of(options.instances, options.groups)[0]
    assert len({(m.version, m.priorities, m.intervals_ns, m.preempt) for m in unit.members}) == 1


def test_one_lan_can_be_cut_alone() -> None:
    world = World(random.Random(1))
    network = Network(world, (0, 0))
    one, two = build(world, network, draw(random.Random(3), 2))[0][:2]
    network.cut(one, two, SIDE)
    assert network.is_cut(one, two, SIDE)
    assert not network.is_cut(one, two, MAIN)
    assert not network.is_cut(two, one, SIDE)
    network.mend(one, two, SIDE)
    network.cut(one, two)
    assert network.is_cut(one, two, MAIN)


def test_a_new_daemon_knows_nothing_of_its_checks_and_a_new_engine_all() -> None:
    options = next(
        drawn for drawn in (draw(random.Random(seed), 2) for seed in range(100)) if drawn.checks
    )
    world = World(random.Random(1))
    hosts, scenario = build(world, Network(world, (0, 0)), options)
    scenario.begin()
    world.run_until(20 * SECOND_NS)
    host = hosts[0]
    host.reboot()
    host.thaw()
    host.start()
    world.run_until(30 * SECOND_NS)
    assert host.supervisor is not None
    before = host.supervisor
    assert all(each.health is not UNKNOWN for each in before.first_words()[1].verdicts)
    host.kill_both()
    host.start()
    assert host.supervisor is not None
    assert host.supervisor is not before
    assert all(each.health is UNKNOWN for each in host.supervisor.first_words()[1].verdicts)
