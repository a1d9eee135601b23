"""Who could be master, who is, and what came of an order: decisions on what the view shows."""

from __future__ import annotations

from dataclasses import replace

from tests.orders.cluster_rig import CLUSTER, Cluster
from tests.orders.samples import API, NOW_NS, WEB
from vipd.model import MILLISECOND_NS, NodeConfig, State
from vipd.snapshots import PinSnapshot
from vipd.supervisor.handover import OPEN, Fate, units_of
from vipd.supervisor.seats import Seat, Table, judge_pin, judge_relief, table_of

LATER_NS = NOW_NS + 5 * MILLISECOND_NS + 1


def seat(node: str, state: State | None = State.BACKUP, term: int = 7, **more: object) -> Seat:
    plain = Seat(node, node.encode(), node == "lb1", True, False, False, 0, state, 100, term=term)
    return replace(plain, **more)  # type: ignore[arg-type]


def table(*seats: Seat, pin: PinSnapshot | None = None) -> Table:
    return Table("web", LATER_NS, seats, (), pin)


LB1, LB2, LB3 = seat("lb1"), seat("lb2"), seat("lb3")
MASTER = seat("lb1", State.MASTER)
BEFORE = table(MASTER, LB2, LB3)


def pin(node: str, version: int) -> PinSnapshot:
    return PinSnapshot("web", node, version, None)


def test_a_table_shows_this_node_as_it_is_now_and_the_others_as_they_told() -> None:
    cluster = Cluster()
    config = NodeConfig("lb1", (WEB, API), cluster=CLUSTER)
    snapshot = cluster.seen_by(cluster.hosts["lb1"])
    assert snapshot.cluster is not None
    bare = tuple(
        replace(each, units=()) if each.is_self else each for each in snapshot.cluster.members
    )
    snapshot = replace(snapshot, cluster=replace(snapshot.cluster, members=bare))
    found = table_of(units_of(snapshot, config)["web"], snapshot, CLUSTER)
    assert [each.node for each in found.seats] == ["lb1", "lb2", "lb3"]
    assert (found.master, found.term, found.witnesses) == (found.own, 1, ("wit",))
    assert [each.node for each in found.candidates()] == ["lb3", "lb2"]


def test_a_lost_master_is_none() -> None:
    assert table(LB1, seat("lb2", State.MASTER, alive=False)).master is None


def test_the_newest_mastership_is_the_one_that_counts() -> None:
    newer = seat("lb2", State.MASTER, 8)
    assert table(MASTER, newer, LB3).master is newer


def test_a_master_of_the_same_term_is_no_success() -> None:
    """Two masters for a moment, before the order: it is no news that the other one is."""
    assert judge_pin(BEFORE, table(MASTER, seat("lb2", State.MASTER), LB3), "lb2", NOW_NS) == OPEN
    done = judge_pin(BEFORE, table(LB1, seat("lb2", State.MASTER, 8), LB3), "lb2", NOW_NS)
    assert (done.fate, done.master, done.after_ms, done.exact) == (Fate.TAKEN, "lb2", 6, False)


def test_so_it_is_no_relief() -> None:
    assert judge_relief(BEFORE, table(LB1, seat("lb2", State.MASTER)), NOW_NS) == OPEN
    relieved = judge_relief(BEFORE, table(LB1, seat("lb2", State.MASTER, 8)), NOW_NS)
    assert (relieved.fate, relieved.master) == (Fate.TAKEN, "lb2")


def test_while_this_node_is_master_nobody_relieved_it() -> None:
    assert judge_relief(BEFORE, table(MASTER, seat("lb2", State.MASTER, 8)), NOW_NS) == OPEN


def test_a_pin_that_stood_before_overrules_nothing() -> None:
    """The engine has not read the order yet."""
    before = replace(BEFORE, pin=pin("lb3", 4))
    assert judge_pin(before, before, "lb2", NOW_NS) == OPEN
    after = replace(BEFORE, pin=pin("lb3", 6))
    assert judge_pin(before, after, "lb2", NOW_NS).fate is Fate.OVERRULED


def test_a_takeover_that_was_overruled_already_is_no_success() -> None:
    taken = table(LB1, seat("lb2", State.MASTER, 8), LB3, pin=pin("lb3", 5))
    assert judge_pin(BEFORE, taken, "lb2", NOW_NS).fate is Fate.OVERRULED


def test_a_third_master_is_waited_for_while_the_pin_stands() -> None:
    """It sees the pin, and hands over once more."""
    third = table(LB1, LB2, seat("lb3", State.MASTER, 8), pin=pin("lb2", 5))
    assert judge_pin(BEFORE, third, "lb2", NOW_NS) == OPEN
    ended = replace(third, pin=pin("", 6))
    assert judge_pin(BEFORE, ended, "lb2", NOW_NS).fate is Fate.ELSEWHERE
