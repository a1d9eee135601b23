"""Cluster mode where things go wrong: frozen nodes, reloads that go round, storms of messages."""

from __future__ import annotations

from dataclasses import replace

from tests.core.cluster_rig import Member, World
from tests.core.rig import MS, S, advert, router, vip
from vipd.core.actions import SendAdvert, SendMessage
from vipd.core.events import AdvertHeard, Configured, HealthReported
from vipd.members import Heartbeat, TransferRequest, Wish
from vipd.model import (
    ClusterConfig,
    Health,
    InstanceConfig,
    NoteKind,
    Reason,
    State,
    Track,
    TrackKind,
    Verdict,
    parse_address,
)

QUIET_RATE = 20
"""Two nodes with beats of 100 ms: messages per second while nothing happens."""


def messages_per_second(world: World, duration_ns: int = 2 * S) -> float:
    before = len(world.carried)
    world.run(duration_ns)
    return (len(world.carried) - before) * S / duration_ns


def test_the_shrinking_time_of_a_pin_is_no_news() -> None:
    world = World(150, 100)
    world.start()
    assert messages_per_second(world) == QUIET_RATE
    world["lb1"].pin("lb2", 1, for_ns=60 * S)
    world.run(S)
    assert world.masters == ["lb2"]
    assert messages_per_second(world) == QUIET_RATE


def test_a_frozen_master_that_wakes_hears_before_it_speaks() -> None:
    """Its beat would say that it is master; the better one's word would end the new mastership."""
    for frozen_ns in (250 * MS, 2 * S, 60 * S):
        world = World(150, 100)
        world.start()
        world["lb1"].freeze()
        world.run(frozen_ns)
        assert world["lb2"].state is State.MASTER
        woke, before = world.now, len(world["lb1"].log)
        world["lb1"].thaw()
        world.run(MS * 7 // 10)  # it asks for its mastership with a beat of its own
        said = [action for _, action in world["lb1"].log[before:]]
        assert not [each for each in said if isinstance(each, SendAdvert)]
        beats = [
            each.message
            for each in said
            if isinstance(each, SendMessage) and isinstance(each.message, Heartbeat)
        ]
        assert beats
        assert all(unit.state is State.BACKUP for beat in beats for unit in beat.units)
        assert world["lb1"].unit.election.reason is Reason.OVERTAKEN_WHILE_STALLED
        world.run(3 * S)
        assert world.masters == ["lb1"]
        assert world.gap_ns(woke) < MS


def test_a_cut_of_the_channel_is_seen_before_it_is_taken_for_a_death() -> None:
    """One way or both, at any phase of the beats, and with a timeout of only two or three beats."""
    ways = {("lb1", "lb2")}, {("lb2", "lb1")}, {("lb1", "lb2"), ("lb2", "lb1")}
    for timeout_ns in (200 * MS, 300 * MS):
        for cut in ways:
            for phase_ms in range(0, 100, 19):
                world = World(150, 100, timeout_ns=timeout_ns)
                world.start(settle_ns=5 * S)
                world.run(phase_ms * MS)
                world["lb2"].order(maintenance=True)  # a beat: now its phase is another one
                world["lb2"].order(maintenance=False)
                world.run(S + phase_ms * 7 * MS)
                world.cut_channel = set(cut)
                world.run(3 * S)
                assert masterships(world["lb2"]) == 0


# --- reloads that go round ----------------------------------------------------------------------


def give(member: Member, cluster: ClusterConfig | None) -> None:
    """A reload of one node."""
    config = replace(member.world.config_of(member), cluster=cluster)
    member.channel.configure(cluster, member.owner)
    member.feed(Configured(config))


def section_of(member: Member, **changes: object) -> ClusterConfig:
    cluster = member.world.config_of(member).cluster
    assert cluster is not None
    return replace(cluster, **changes)  # type: ignore[arg-type]


def test_the_section_goes_and_comes_on_one_node_after_the_other() -> None:
    for order in (("lb1", "lb2"), ("lb2", "lb1")):
        world = World(150, 100)
        world.start()
        for section in (False, True):
            for name in order:
                give(world[name], section_of(world[name]) if section else None)
                world.run(5 * S)
                assert world.masters == ["lb1"]
        assert world.overlaps() == []


def test_two_of_the_three_last_beats_of_a_removed_section_may_be_lost() -> None:
    world = World(150, 100)
    world.start()
    seen = []
    world.lose = lambda sender, to, datagram: seen.append(datagram) or len(seen) < 3
    give(world["lb1"], None)
    world.run(5 * S)
    assert world.masters == ["lb1"]
    assert world.overlaps() == []


def test_a_cluster_is_renamed_on_one_node_after_the_other() -> None:
    world = World(150, 100)
    world.start()
    for name in ("lb1", "lb2"):
        give(world[name], section_of(world[name], name="new"))
        world.run(5 * S)
        assert world.masters == ["lb1"]
    assert world.overlaps() == []


def test_a_new_pace_of_the_beats_on_one_node_after_the_other() -> None:
    """Slower than the other one's timeout, or with a timeout shorter than the other one's pace."""
    quick, slow = (100 * MS, 300 * MS), (500 * MS, 1500 * MS)
    for order in (("lb1", "lb2"), ("lb2", "lb1")):
        for old, new in ((quick, slow), (slow, quick)):
            world = World(150, 100, beat_ns=old[0], timeout_ns=old[1])
            world.start()
            interval_ns, timeout_ns = new
            for name in order:
                section = section_of(
                    world[name],
                    digest=b"newpace.",
                    heartbeat_interval_ns=interval_ns,
                    heartbeat_timeout_ns=timeout_ns,
                )
                give(world[name], section)
                world.run(5 * S)
            assert world.overlaps() == []
            assert world.masters == ["lb1"]
            assert messages_per_second(world) == 2 * S / interval_ns
            before = world.now
            world["lb1"].vanish()
            world.run(2 * S)
            assert timeout_ns - interval_ns <= world.gap_ns(before) < timeout_ns + MS


# --- many units -----------------------------------------------------------------------------------


def many(count: int) -> tuple[InstanceConfig, ...]:
    return tuple(
        replace(
            router(),
            name=f"v{n}",
            vrid=100 + n,
            priority=100,
            source=None,
            vips=(vip(f"192.0.2.{120 + n}/24"),),
        )
        for n in range(count)
    )


def test_a_new_life_is_told_of_all_units_at_once() -> None:
    """Its silence about a unit would be taken for nobody's knowledge, and RFC timers count."""
    for phase in range(10):
        world = World(150, 100, timeout_ns=3 * S, beat_ns=S)
        world.extra = many(12)
        world["lb1"].alive = False
        world.start("lb2")
        world.run(phase * S)
        world.cut_wire = {("lb1", "lb2"), ("lb2", "lb1")}
        world["lb1"].alive = True
        world["lb1"].start()
        world.run(10 * MS)
        peer = world["lb1"].node.cluster.roster.peers["lb2"]
        assert len(peer.units) == 13
        world.run(10 * S)
        assert world["lb2"].node.units["v3"].election.state is State.MASTER
        assert world["lb1"].node.units["v3"].election.state is State.BACKUP


# --- no flapping ----------------------------------------------------------------------------------


def masterships(member: Member, unit: str = "web") -> int:
    notes = member.notes(NoteKind.TRANSITION)
    return sum(each.instance == unit and each.fields["to"] == "MASTER" for each in notes)


def test_who_does_not_hear_the_master_does_not_ask_for_its_place() -> None:
    """Cut off from the VIPs' network, lb1 gave its VIPs away; it must not ask for them again."""
    world = World(150, 100, 50)
    world.extra = many(1)
    ordinary = world.config_of
    better = {"lb1": 50, "lb2": 150, "lb3": 100}
    world.config_of = lambda member: replace(  # type: ignore[method-assign]
        ordinary(member),
        instances=(
            ordinary(member).instances[0],
            replace(ordinary(member).instances[1], priority=better[member.name]),
        ),
    )
    world.start()
    assert world["lb1"].state is State.MASTER
    for other in ("lb2", "lb3"):
        world.cut_wire |= {("lb1", other), (other, "lb1")}
    world.run(60 * S)
    assert world["lb1"].unit.election.reason is Reason.ADVERTS_LOST
    assert masterships(world["lb1"]) == 1
    world.cut_wire = set()
    world.run(5 * S)
    assert world.masters == ["lb1"]
    assert masterships(world["lb1"]) == 2


def nginx(member: Member, health: Health) -> None:
    member.feed(HealthReported((Verdict("nginx", health),)))


def tracked_world(weight: int) -> World:
    track = Track(TrackKind.CHECK, "nginx", weight=weight)
    world = World(150, 100, track=(track,))
    world.start(settle_ns=0)
    for member in world.members.values():
        nginx(member, Health.HEALTHY)
    world.run(6 * S)
    assert world.masters == ["lb1"]
    return world


def test_who_gave_way_to_a_better_one_takes_its_place_when_that_one_falls() -> None:
    """It had no trouble of its own, so it need not wait."""
    world = tracked_world(weight=-100)
    world["lb1"].stop()
    world.run(S)
    reborn = world.restart("lb1")
    nginx(reborn, Health.HEALTHY)
    world.run(S)
    assert world.masters == ["lb1"]
    nginx(reborn, Health.UNHEALTHY)
    world.run(100 * MS)
    assert world.masters == ["lb2"]


def test_a_flapping_check_costs_one_mastership_in_five_seconds() -> None:
    world = tracked_world(weight=-100)
    before = masterships(world["lb1"])
    for turn in range(150):
        nginx(world["lb1"], Health.UNHEALTHY if turn % 2 else Health.HEALTHY)
        world.run(200 * MS)
    assert 1 <= masterships(world["lb1"]) - before <= 6
    assert world.overlaps() == []


# --- handovers that come late ---------------------------------------------------------------------


def test_a_go_that_waited_while_we_slept_is_not_obeyed() -> None:
    """The giver has gone on, and is master itself again; what waited first must not count first."""
    for frozen_ns in (151 * MS, 180 * MS, 220 * MS, 290 * MS):
        world = World(150, 100)
        world.start()
        world["lb1"].stop()
        world.run(S)
        reborn = world.restart("lb1")
        while not reborn.said(TransferRequest):
            world.run(MS // 10)
        reborn.freeze()
        world.run(frozen_ns)
        assert world.masters == ["lb2"]
        assert reborn.backlog
        woke = world.now
        reborn.thaw()
        world.run(50 * MS)
        assert world.overlaps(woke) == []
        world.run(5 * S)
        assert world.masters == ["lb1"]
        assert world.overlaps(woke) == []


def test_a_short_sleep_costs_a_successor_one_repetition() -> None:
    world = World(150, 100)
    world.start()
    begin = world.now
    world["lb2"].freeze()
    world["lb1"].pin("lb2", 1)
    world.run(120 * MS)
    world["lb2"].thaw()
    world.run(50 * MS)
    assert world.masters == ["lb2"]
    assert world.gap_ns(begin) < 131 * MS


def test_a_go_that_comes_when_the_giver_has_just_returned() -> None:
    """Every delay of ``Go``: two holders for no longer than two datagrams travel."""
    for late_ms in range(140, 320, 4):
        world = World(150, 100)
        world.start()
        begin = world.now
        world.delay = lambda sender, to, datagram, late=late_ms: late * MS * (datagram[7] == 3)
        world["lb1"].pin("lb2", 1)
        world.run(2 * S)
        for at, _ in world.overlaps(begin):
            over = min(when for when, names in world.holders if when > at)
            assert over - at <= 2 * MS, late_ms


def test_a_priority_0_of_unknown_source_ends_no_mastership_of_a_member() -> None:
    """Version 1 does not tell from where a member's adverts come, and its farewell may be late."""
    for phase_ms in range(0, 100, 9):
        world = World(150, 100, interval_ns=100 * MS)
        world.start()
        world.run(phase_ms * MS)
        farewell = AdvertHeard("web", parse_address("192.0.2.99"), advert(0))
        world["lb2"].feed(farewell)
        world.run(S)
        assert masterships(world["lb2"]) == 0


def test_a_wish_that_was_held_back_does_nothing() -> None:
    """By then its nonce is one that the master no longer tells, though owner and term still fit."""
    world = World(100, 90)
    world.start()
    peer = world["lb2"].node.cluster.roster.peers["lb1"]
    assert peer.owner is not None
    wish = TransferRequest(peer.nonce, peer.owner, (Wish("web", world["lb1"].unit.coop.term, 200),))
    (datagram,) = (each.datagram for each in world["lb2"].channel.encode(SendMessage(wish, "lb1")))
    world.run(5 * S)
    world.deliver(2, "lb1", datagram)
    world.run(S)
    assert world.masters == ["lb1"]
    assert world["lb1"].node.cluster.discarded["stale"] == 1
