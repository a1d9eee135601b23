"""Cluster mode, seen from outside: several cores in a virtual world."""

from __future__ import annotations

from dataclasses import replace

from tests.core.cluster_rig import World
from tests.core.rig import MS, S, advert, router
from vipd.core.events import AdvertHeard, Configured
from vipd.model import Reason, State, parse_address


def test_start_one_master_and_no_second() -> None:
    world = World(150, 100)
    world.start()
    assert world.masters == ["lb1"]
    assert world.overlaps() == []


def test_switchover_by_a_pin_from_either_node() -> None:
    for commanded in ("lb1", "lb2"):
        world = World(150, 100)
        world.start()
        begin = world.now
        world[commanded].pin("lb2", 1)
        world.run(S)
        assert world.masters == ["lb2"]
        assert world.overlaps() == []
        assert world.gap_ns(begin) < 3 * MS
        assert world["lb2"].unit.election.reason is Reason.HANDED_OVER
        world.run(10 * S)
        assert world.masters == ["lb2"]


def test_stop_hands_over_and_the_better_one_comes_back() -> None:
    world = World(150, 100)
    world.start()
    begin = world.now
    world["lb1"].stop()
    world.run(S)
    assert not world["lb1"].alive
    assert world.masters == ["lb2"]
    assert world.gap_ns(begin) < 3 * MS
    begin = world.now
    world.restart("lb1")
    world.run(3 * S)
    assert world.masters == ["lb1"]
    assert world.overlaps() == []
    assert world.gap_ns(begin) < 3 * MS


def test_death_of_the_engine_is_told_by_its_will() -> None:
    world = World(150, 100)
    world.start()
    begin = world.now
    world["lb1"].die()
    world.run(S)
    assert world.masters == ["lb2"]
    assert world.gap_ns(begin) < 5 * MS


def test_a_lost_host_is_replaced_after_the_heartbeat_timeout() -> None:
    world = World(150, 100)
    world.start()
    begin = world.now
    world["lb1"].vanish()
    world.run(S)
    assert world.masters == ["lb2"]
    assert 180 * MS < world.gap_ns(begin) < 302 * MS


def test_maintenance() -> None:
    world = World(150, 100)
    world.start()
    begin = world.now
    world["lb1"].order(maintenance=True)
    world.run(S)
    assert world.masters == ["lb2"]
    assert world.gap_ns(begin) < 3 * MS
    world["lb1"].order(maintenance=False)
    world.run(S)
    assert world.masters == ["lb1"]


def test_a_cut_of_the_channel_alone_is_no_takeover() -> None:
    world = World(150, 100)
    world.start()
    world.cut_channel = {("lb1", "lb2"), ("lb2", "lb1")}
    world.run(20 * S)
    assert world.masters == ["lb1"]
    assert world.overlaps() == []
    world.cut_channel = set()
    world.run(5 * S)
    assert world.masters == ["lb1"]


def test_a_cut_of_the_wire_alone_is_no_takeover() -> None:
    world = World(150, 100)
    world.start()
    world.cut_wire = {("lb1", "lb2"), ("lb2", "lb1")}
    world.run(20 * S)
    assert world.masters == ["lb1"]


def test_a_healed_cut_leaves_the_better_one() -> None:
    world = World(150, 100)
    world.start()
    world.isolate("lb1")
    world.run(5 * S)
    assert world.masters == ["lb1", "lb2"]
    world.cut_wire, world.cut_channel = set(), set()
    world.run(3 * S)
    assert world.masters == ["lb1"]


def test_three_nodes_and_a_lost_go() -> None:
    world = World(150, 100, 90)
    world.start()
    world["lb2"].alive = False
    begin = world.now
    world["lb1"].stop()
    world.run(2 * S)
    assert world.masters == ["lb3"]
    assert world.gap_ns(begin) < 170 * MS
    assert world.overlaps() == []


def test_who_died_asks_only_after_a_while() -> None:
    world = World(150, 100)
    world.start()
    world["lb1"].die()
    world.run(100 * MS)
    again = world.restart("lb1", after_death=True)
    world.run(4 * S)
    assert world.masters == ["lb2"]
    world.run(2 * S)
    assert world.masters == ["lb1"]
    assert again.unit.election.reason is Reason.HANDED_OVER


def test_many_units_share_a_heartbeat_and_nobody_takes_over() -> None:
    """Most beats list only what changed; the others' masters are alive all the same."""
    world = World(150, 100)
    world.extra = tuple(
        replace(router(), name=f"v{n}", vrid=100 + n, priority=100, source=None, vips=())
        for n in range(12)
    )
    world.start()
    begin = world["lb1"].node.units["v3"].election.since
    world.run(10 * S)
    masters = [
        sum(unit.election.state is State.MASTER for unit in each.node.units.values())
        for each in world.members.values()
    ]
    assert sum(masters) == 13
    assert world["lb1"].node.units["v3"].election.since == begin


def test_two_operators_at_once_the_later_pin_stands() -> None:
    world = World(150, 100, 90)
    world.start()
    world["lb1"].pin("lb2", 1)
    world["lb3"].pin("lb3", 1)
    world.run(3 * S)
    assert world.masters == ["lb3"]
    pins = {each.node.cluster.pins.of("web").node for each in world.members.values()}
    assert pins == {"lb3"}
    assert world.overlaps() == []


def test_a_pin_to_who_does_not_take_it_ends_and_the_master_comes_back() -> None:
    world = World(150, 100)
    world.start()
    world.lose = lambda sender, to, datagram: sender.name == "lb1" and datagram[7] == 3  # Go
    begin = world.now
    world["lb1"].pin("lb2", 1)
    world.run(S)
    assert world.masters == ["lb1"]
    assert world["lb1"].unit.election.reason is Reason.HANDOVER_FAILED
    assert world["lb1"].node.cluster.pins.of("web").node == ""
    assert 150 * MS < world.gap_ns(begin) < 153 * MS


def test_a_stranger_on_the_vrid_is_heard_twice_before_it_counts() -> None:
    world = World(150, 100)
    world.start()
    heard = AdvertHeard("web", parse_address("192.0.2.99"), advert(50))
    world["lb1"].feed(heard)
    world.run(100 * MS)
    names = {alarm.name for alarm in world["lb1"].node.snapshot(world.now).alarms}
    assert "foreign-master" not in names
    world.run(S)
    world["lb1"].feed(heard)
    names = {alarm.name for alarm in world["lb1"].node.snapshot(world.now).alarms}
    assert "foreign-master" in names
    world.run(61 * S)
    names = {alarm.name for alarm in world["lb1"].node.snapshot(world.now).alarms}
    assert "foreign-master" not in names
    assert world.masters == ["lb1"]


def test_a_section_that_was_removed_and_came_back_is_heard_at_once() -> None:
    world = World(150, 100)
    world.start()
    whole = world.config_of(world["lb2"])
    world["lb2"].feed(Configured(replace(whole, cluster=None)))
    world.run(5 * S)
    assert not world["lb1"].node.cluster.roster.peers["lb2"].alive
    world["lb2"].feed(Configured(whole))
    world.run(300 * MS)
    assert world["lb1"].node.cluster.roster.peers["lb2"].alive
    assert world.masters == ["lb1"]


def test_pins_that_alternate_move_it_once_each() -> None:
    world = World(150, 100)
    world.start()
    for count in range(1, 6):
        for node, commanded in (("lb2", "lb1"), ("lb1", "lb2")):
            begin = world.now
            before = sum(m.unit.coop.term for m in world.members.values() if m.unit.coop)
            world[commanded].pin(node, count)
            world.run(S)
            assert world.masters == [node]
            assert world.gap_ns(begin) < 3 * MS
            after = sum(m.unit.coop.term for m in world.members.values() if m.unit.coop)
            assert after - before <= 2


def test_who_is_pinned_and_stops_is_not_given_it_back() -> None:
    world = World(100, 150)
    world.start()
    world["lb1"].pin("lb1", 1)
    world.run(S)
    assert world.masters == ["lb1"]
    begin = world.now
    world["lb1"].stop()
    world.run(S)
    assert world.masters == ["lb2"]
    assert world.gap_ns(begin) < 3 * MS
    assert not world["lb1"].holds


def test_slower_beats_of_another_life_are_no_death() -> None:
    """A restart with a slower pace, while the others still have the old, shorter timeout."""
    world = World(150, 100)
    world.start()
    world["lb1"].stop()
    world.run(S)
    world.beat_ns, world.timeout_ns = 500 * MS, 1500 * MS
    again = world.restart("lb1")
    world.run(20 * S)
    assert world.masters == ["lb1"]
    assert world.overlaps() == []
    assert again.unit.coop is not None
    assert again.unit.coop.term <= 4
