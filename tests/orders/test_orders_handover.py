"""What may be given away, to whom, and what became of it: decisions on values."""

from __future__ import annotations

import math

import pytest

from tests.orders.samples import API, NOW_NS, OWNER, PEER, WEB, WEB6, node, shot, snapshot
from vipd.adapters.listeners import Listeners
from vipd.model import MILLISECOND_NS, State
from vipd.snapshots import InstanceSnapshot
from vipd.supervisor.handover import (
    OPEN,
    Fate,
    OrderRefused,
    Outcome,
    UnitView,
    check_maintenance,
    check_successor,
    check_switchover,
    check_time,
    find_unit,
    judge_outcome,
    units_of,
)

CONFIG = node(WEB, API, WEB6, OWNER)


def view(*shots: InstanceSnapshot) -> UnitView:
    (unit,) = units_of(snapshot(*shots), CONFIG).values()
    return unit


MASTER = view(shot(WEB))
BACKUP = view(shot(WEB, State.BACKUP, master=PEER))
GROUP = view(shot(WEB, unit="edge"), shot(API, unit="edge"))


# --- units ------------------------------------------------------------------------------------


def test_a_unit_is_found_by_its_name_and_by_that_of_a_member() -> None:
    units = units_of(snapshot(shot(WEB, unit="edge"), shot(API, unit="edge"), shot(WEB6)), CONFIG)
    assert list(units) == ["edge", "web6"]
    assert find_unit(units, "api") is find_unit(units, "edge")
    assert [member.name for member in find_unit(units, "web").members] == ["web", "api"]


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    units = units_of(snapshot(shot(WEB, unit="edge"), shot(WEB6)), CONFIG)
    with pytest.raises(OrderRefused, match="no instance or group nope; there is edge, web6"):
        find_unit(units, "nope")


def test_an_instance_that_a_reload_took_away_meanwhile_is_left_out() -> None:
    assert list(units_of(snapshot(shot(WEB), shot(API)), node(API))) == ["api"]


# --- switchover -------------------------------------------------------------------------------


def refusal(unit: UnitView, to: str | None = None, nodes: tuple[str, ...] = ()) -> str:
    with pytest.raises(OrderRefused) as caught:
        check_switchover(unit, "lb1", nodes, to)
    return str(caught.value)


def test_a_master_may_give_away() -> None:
    check_switchover(MASTER, "lb1", (), None)
    check_switchover(GROUP, "lb1", ("lb1", "lb2", "lb3"), None)


def test_a_candidate_may_give_away() -> None:
    check_switchover(view(shot(WEB, State.CANDIDATE)), "lb1", (), None)


@pytest.mark.parametrize("state", [State.BACKUP, State.FAULT, State.INIT])
def test_who_is_not_master_has_nothing_to_give(state: State) -> None:
    words = refusal(view(shot(WEB, state, master=PEER)))
    assert f"this node is {state.value}, not master" in words
    assert "the master is 192.0.2.12" in words


def test_no_master_known_is_said() -> None:
    assert "no other master is known" in refusal(view(shot(WEB, State.FAULT)))


def test_the_only_other_node_may_be_named() -> None:
    check_switchover(MASTER, "lb1", ("lb1", "lb2"), "lb2")


def test_with_more_nodes_vrrp_chooses() -> None:
    words = refusal(MASTER, "lb2", ("lb1", "lb2", "lb3"))
    assert "it is VRRP that chooses among lb2 and lb3" in words
    assert "leave --to out" in words


def test_a_file_that_names_nobody_cannot_be_chosen_from() -> None:
    assert "the file names no other node" in refusal(MASTER, "lb2", ())


def test_an_unknown_node_is_refused() -> None:
    assert "the file names no node lb9; it names lb2" in refusal(MASTER, "lb9", ("lb1", "lb2"))


def test_a_backup_cannot_fetch_it() -> None:
    words = refusal(BACKUP, "lb1", ("lb1", "lb2"))
    assert "cannot fetch mastership" in words
    assert "the master is 192.0.2.12: run `vipd switchover web` there" in words


def test_the_master_does_not_give_to_itself() -> None:
    assert "master already" in refusal(MASTER, "lb1", ("lb1", "lb2"))


def test_the_owner_gives_nothing_away() -> None:
    assert "owns the addresses (priority 255)" in refusal(view(shot(OWNER)))


def test_maintenance_leaves_an_owner_out_only_if_told_to() -> None:
    units = [MASTER, view(shot(OWNER))]
    check_maintenance([MASTER, BACKUP], force=False)
    check_maintenance(units, force=True)
    with pytest.raises(OrderRefused, match=r"^own: this host owns the addresses"):
        check_maintenance(units, force=False)


@pytest.mark.parametrize("for_s", [0.0, -1.0, math.inf, math.nan])
def test_a_time_that_cannot_be(for_s: float) -> None:
    with pytest.raises(OrderRefused):
        check_time(for_s)


def test_times_that_can_be() -> None:
    check_time(None)
    check_time(0.5)


# --- who could take over ----------------------------------------------------------------------

SILENCE = Listeners((), "asked around")
SOMEBODY = Listeners(("192.0.2.12",), "asked around")


def test_somebody_listens() -> None:
    assert check_successor(MASTER, {"web": SOMEBODY}, (), False) == "192.0.2.12 listens"


def test_nobody_listens() -> None:
    with pytest.raises(OrderRefused) as caught:
        check_successor(MASTER, {"web": SILENCE}, ("192.0.2.12",), False)
    words = str(caught.value)
    assert words.startswith("web: nobody who could take over answered (asked around)")
    assert "the last other master heard was 192.0.2.12" in words
    assert "--force" in words


def test_force_goes_on_all_the_same() -> None:
    assert "nobody" in check_successor(MASTER, {"web": SILENCE}, (), True)


def test_a_group_needs_somebody_for_every_member() -> None:
    both = {"web": SOMEBODY, "api": SOMEBODY}
    assert check_successor(GROUP, both, (), False) == "192.0.2.12 listens"
    with pytest.raises(OrderRefused, match="answered for api "):
        check_successor(GROUP, both | {"api": SILENCE}, (), False)


# --- afterwards -------------------------------------------------------------------------------

SOON_NS = NOW_NS + 600 * MILLISECOND_NS


def judge(*shots: InstanceSnapshot) -> Outcome:
    return judge_outcome(view(*shots), NOW_NS)


def test_another_master_was_heard_after_the_order() -> None:
    taken = shot(WEB, State.BACKUP, since_ns=NOW_NS + 1, master=PEER, heard_ns=SOON_NS)
    assert judge(taken) == Outcome(Fate.TAKEN, "192.0.2.12", 600)


def test_what_was_heard_before_the_order_proves_nothing() -> None:
    assert judge(shot(WEB, State.BACKUP, master=PEER, heard_ns=NOW_NS - 1)) == OPEN


def test_a_goodbye_makes_nobody_master() -> None:
    assert judge(shot(WEB, State.BACKUP, heard_ns=SOON_NS)) == OPEN


def test_still_master_is_not_yet_anything() -> None:
    assert judge(shot(WEB, since_ns=NOW_NS - 1, heard_ns=SOON_NS)) == OPEN
    assert judge(shot(WEB, State.CANDIDATE, since_ns=SOON_NS)) == OPEN


def test_master_again_means_that_nobody_was_there() -> None:
    assert judge(shot(WEB, since_ns=SOON_NS)) == Outcome(Fate.BACK, "", 600)


def test_one_member_of_a_group_hears_for_all() -> None:
    outcome = judge(
        shot(WEB, State.BACKUP, unit="edge", master=PEER),
        shot(API, State.BACKUP, unit="edge", master=PEER, heard_ns=SOON_NS),
    )
    assert outcome.fate is Fate.TAKEN
