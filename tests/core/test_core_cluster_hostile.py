"""Cluster mode where things go wrong: frozen nodes, reloads that go round, storms of messages."""

from __future__ import annotations

from tests.core.cluster_rig import World
from tests.core.rig import MS, S
from vipd.core.actions import SendAdvert, SendMessage
from vipd.members import Heartbeat
from vipd.model import Reason, State

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
