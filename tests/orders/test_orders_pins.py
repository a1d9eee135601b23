"""Whole commands in cluster mode, on the master and elsewhere, against a made-up cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.orders.cluster_rig import LEAVING_S, Cluster, Host
from tests.orders.samples import NOW_NS
from vipd.model import MILLISECOND_NS, SECOND_NS, Note, NoteKind, Orders, PinOrder, Reason, State
from vipd.supervisor.handover import OrderRefused
from vipd.supervisor.operator import Operator
from vipd.supervisor.orders import OrderBook, OrderFile

OPTIONS: dict[str, Any] = {"to": None, "auto": False, "for_s": None, "force": False}


@pytest.fixture
def cluster() -> Cluster:
    """lb1 is master of all, with the highest priority; lb2 and lb3 are alike."""
    return Cluster()


@pytest.fixture
def operators(cluster: Cluster, tmp_path: Path) -> dict[str, Operator]:
    return {name: host.operator(tmp_path) for name, host in cluster.hosts.items()}


def switch(
    cluster: Cluster, operators: dict[str, Operator], on: str, **options: Any
) -> dict[str, Any]:
    (said,) = cluster.run(operators[on].switchover("web", **(OPTIONS | options)))
    if isinstance(said, Exception):
        raise said
    return dict(said)


def maintain(
    cluster: Cluster, operators: dict[str, Operator], on: str, force: bool = False
) -> dict[str, Any]:
    (said,) = cluster.run(operators[on].maintenance(True, None, force))
    if isinstance(said, Exception):
        raise said
    return dict(said)


def masters(cluster: Cluster, unit: str = "web") -> list[str]:
    hosts = cluster.hosts.values()
    return [host.name for host in hosts if host.places[unit].state is State.MASTER]


def place_of(cluster: Cluster, host: str, unit: str = "web") -> Any:
    return cluster.hosts[host].places[unit]


# --- switchover -------------------------------------------------------------------------------


@pytest.mark.parametrize("on", ["lb1", "lb2", "lb3"])
def test_it_works_on_any_node(cluster: Cluster, operators: dict[str, Operator], on: str) -> None:
    said = switch(cluster, operators, on, to="lb2", for_s=90.0)
    assert said["done"] is True
    assert said["sentence"].startswith("web: lb2 took over ")
    assert "pinned there for 1m30s" in said["sentence"]
    assert (masters(cluster), masters(cluster, "api")) == (["lb2"], ["lb1"])
    assert cluster.hosts[on].sent == [Orders(pins=(PinOrder("web", "lb2", 1, 90 * SECOND_NS),))]


def test_only_the_new_master_itself_knows_the_instant(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    assert "lb2 took over after 2 ms;" in switch(cluster, operators, "lb2", to="lb2")["sentence"]
    said = switch(cluster, operators, "lb2", to="lb3")
    assert "lb3 took over within 20 ms;" in said["sentence"]
    assert said["units"] == {"web": {"fate": "taken", "master": "lb3", "after_ms": 20}}


def test_what_the_engine_notes_is_looked_at_at_once(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    """Then "within" is short on the former master, too; elsewhere nothing is noted."""
    note = Note(NoteKind.HANDOVER, "web", {"step": "taken", "node": "lb2", "term": 1})
    at_ns = NOW_NS + LEAVING_S * SECOND_NS + 3 * MILLISECOND_NS
    cluster.at(int(at_ns), lambda: operators["lb1"].take_note(note))
    said = switch(cluster, operators, "lb1", to="lb2")
    assert "lb2 took over within 3 ms;" in said["sentence"]


def test_the_best_of_the_others_is_chosen(cluster: Cluster, operators: dict[str, Operator]) -> None:
    switch(cluster, operators, "lb2")
    assert masters(cluster) == ["lb3"]  # of equals the higher address
    switch(cluster, operators, "lb2")
    assert masters(cluster) == ["lb1"]  # the highest priority


def test_an_old_order_is_not_repeated_and_a_new_one_counts(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    for to in ("lb2", "lb3", "lb2"):
        switch(cluster, operators, "lb1", to=to)
    assert operators["lb1"].orders.pins == (PinOrder("web", "lb2", 3),)
    assert cluster.pins["web"].version == 3


def test_the_master_is_only_pinned(cluster: Cluster, operators: dict[str, Operator]) -> None:
    said = switch(cluster, operators, "lb3", to="lb1")
    assert said["done"] is True
    assert said["sentence"].startswith("web: lb1 is master already; pinned there: it stays until")
    assert (cluster.pins["web"].node, place_of(cluster, "lb1").term) == ("lb1", 1)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("dead", "lb2 is not heard (for 7.0 s)"),
        ("left", "lb2 has left the cluster"),
        ("maintenance", "lb2 is in maintenance"),
        ("fault", "lb2 is FAULT (check-failed: nginx: errno 111 (Connection refused))"),
        ("no unit", "lb2 does not report this unit"),
    ],
)
def test_a_node_that_cannot_take_it_is_refused_always(
    cluster: Cluster, operators: dict[str, Operator], broken: str, words: str, force: bool
) -> None:
    host = cluster.hosts["lb2"]
    _break(host, broken)
    with pytest.raises(OrderRefused) as caught:
        switch(cluster, operators, "lb1", to="lb2", force=force)
    assert words in str(caught.value)
    assert cluster.hosts["lb1"].sent == []


def _break(host: Host, how: str) -> None:
    place = host.places["web"]
    if how == "dead":
        host.alive = False
    elif how == "left":
        host.alive, host.left = False, True
    elif how == "maintenance":
        host.orders = Orders(maintenance=True)
    elif how == "fault":
        place.state, place.reason, place.detail = State.FAULT, "check-failed", "nginx: errno 111"
    else:
        del host.places["web"]


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("lb9", "web: the cluster has no node lb9; it has lb1, lb2, lb3"),
        ("wit", "web: wit is a witness: it votes and is never master"),
    ],
)
def test_who_is_no_node_is_refused(
    cluster: Cluster, operators: dict[str, Operator], to: str, words: str
) -> None:
    with pytest.raises(OrderRefused, match=words):
        switch(cluster, operators, "lb1", to=to)


def test_nobody_left_is_refused_with_what_keeps_each(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    _break(cluster.hosts["lb2"], "dead")
    _break(cluster.hosts["lb3"], "maintenance")
    with pytest.raises(OrderRefused) as caught:
        switch(cluster, operators, "lb1")
    assert str(caught.value) == (
        "web: no other node can take over: lb2 is not heard (for 7.0 s); lb3 is in maintenance"
    )


def test_a_unit_without_master_gets_one(cluster: Cluster, operators: dict[str, Operator]) -> None:
    """Nobody hands over then: whoever is pinned stands by the election's own rules."""
    _break(cluster.hosts["lb1"], "fault")
    cluster.at(
        NOW_NS + SECOND_NS, lambda: cluster.stand("web", cluster.hosts["lb2"], Reason.STARTUP)
    )
    assert switch(cluster, operators, "lb3", to="lb2")["done"] is True


def test_the_former_master_returns_and_the_pin_goes(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    cluster.hosts["lb2"].deaf = cluster.hosts["lb3"].deaf = True
    said = switch(cluster, operators, "lb3", to="lb2")
    assert said["done"] is False
    assert said["sentence"].startswith("web: lb2 did not take it; lb1 is master again within 3")
    assert (masters(cluster), cluster.pins["web"].node) == (["lb1"], "")


def test_a_return_with_the_old_term_is_seen_by_its_reason(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    lb1 = place_of(cluster, "lb1")
    cluster.give = lambda *_: setattr(lb1, "reason", "handover-failed")  # type: ignore[method-assign]
    said = switch(cluster, operators, "lb3", to="lb2")
    assert (said["done"], said["units"]["web"]["fate"]) == (False, "back")
    assert said["sentence"].endswith("; the switchover was taken back")
    assert (cluster.pins["web"].node, cluster.pins["web"].version) == ("", 2)


def test_a_third_node_takes_it_instead(cluster: Cluster, operators: dict[str, Operator]) -> None:
    cluster.hosts["lb2"].deaf = True
    said = switch(cluster, operators, "lb1", to="lb2")
    assert said["done"] is False
    assert said["sentence"].startswith("web: lb2 did not take it; lb3 took over within 1")
    assert (masters(cluster), cluster.pins["web"].node) == (["lb3"], "")


def test_nothing_happens_at_all(cluster: Cluster, operators: dict[str, Operator]) -> None:
    """An order that no master hears: its node is cut off, and not yet taken for lost."""
    cluster.give = lambda *_: None  # type: ignore[method-assign]
    said = switch(cluster, operators, "lb3", to="lb2")
    assert said["done"] is False
    assert said["sentence"] == (
        "web: lb2 did not take it within 3.5 s; lb1 is master; the switchover was taken back"
    )
    assert cluster.pins["web"].node == ""


def test_the_second_of_two_operators_wins_and_the_first_is_told(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    cluster.hosts["lb2"].deaf = True  # so that the first one is still waiting

    async def later() -> Any:
        await cluster.sleep(LEAVING_S + 0.05)
        return await operators["lb2"].switchover("web", **(OPTIONS | {"to": "lb3"}))

    first, _ = cluster.run(operators["lb1"].switchover("web", **(OPTIONS | {"to": "lb2"})), later())
    assert first["done"] is False
    assert first["sentence"] == "web: another switchover put it on lb3 meanwhile"
    assert cluster.pins["web"].node == "lb3"  # a pin that is not ours is not cleared


def test_a_pin_that_somebody_ended_meanwhile_is_no_success(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    """The unit is where it was ordered to be, and will not stay there."""
    end_ns = NOW_NS + int(LEAVING_S * SECOND_NS) + 1
    cluster.at(end_ns, lambda: cluster.pin("web", ""))
    said = switch(cluster, operators, "lb1", to="lb2")
    assert said["done"] is False
    assert "lb2 took over within 20 ms; but the pin was ended meanwhile" in said["sentence"]


def test_auto_clears_the_pin_on_any_node(cluster: Cluster, operators: dict[str, Operator]) -> None:
    switch(cluster, operators, "lb1", to="lb2")
    said = switch(cluster, operators, "lb3", auto=True)
    assert said["sentence"] == "web: pinned on lb2 no more; priorities decide again"
    assert cluster.hosts["lb3"].sent == [Orders(pins=(PinOrder("web", "", 1),))]
    assert "nothing to end" in switch(cluster, operators, "lb1", auto=True)["sentence"]


def test_auto_goes_with_nothing_else(cluster: Cluster, operators: dict[str, Operator]) -> None:
    with pytest.raises(OrderRefused, match="neither --to nor --for"):
        switch(cluster, operators, "lb1", auto=True, for_s=5.0)


# --- leaving hooks ----------------------------------------------------------------------------


def test_leaving_runs_on_the_master_before_the_order(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    lb1 = cluster.hosts["lb1"]
    lb1.hook("web")
    said = switch(cluster, operators, "lb1", to="lb2")
    assert (said["warning"], lb1.leaves) == ("", [(("web",), Reason.SWITCHOVER)])
    assert place_of(cluster, "lb2").since_ns >= NOW_NS + LEAVING_S * SECOND_NS


def test_elsewhere_it_does_not_and_that_is_said(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    for host in cluster.hosts.values():
        host.hook("web")
    said = switch(cluster, operators, "lb2", to="lb2")
    assert "leaving hooks of web were not run" in said["warning"]
    assert "which was lb1" in said["warning"]
    assert all(host.leaves == [] for host in cluster.hosts.values())


def test_without_such_hooks_there_is_nothing_to_warn_of(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    cluster.hosts["lb2"].hook("api")
    assert switch(cluster, operators, "lb2", to="lb2")["warning"] == ""


def test_who_fell_ill_while_hooks_ran_is_refused(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    cluster.at(NOW_NS + SECOND_NS, lambda: _break(cluster.hosts["lb2"], "dead"))
    with pytest.raises(OrderRefused, match="lb2 is not heard"):
        switch(cluster, operators, "lb1", to="lb2")
    assert masters(cluster) == ["lb1"]


def test_who_became_master_while_hooks_ran_is_only_pinned(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    lb1, lb2 = cluster.hosts["lb1"], cluster.hosts["lb2"]
    cluster.at(NOW_NS + SECOND_NS, lambda: cluster.give("web", lb1, "lb2", Reason.PREEMPTED))
    said = switch(cluster, operators, "lb1", to="lb2")
    assert "lb2 is master already" in said["sentence"]
    assert (lb2.places["web"].state, cluster.pins["web"].node) == (State.MASTER, "lb2")


# --- maintenance ------------------------------------------------------------------------------


def test_maintenance_gives_everything_to_the_others(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    said = maintain(cluster, operators, "lb1")
    assert said["done"] is True
    assert said["sentence"] == (
        "in maintenance until `vipd maintenance off`; web: lb3 took over within 20 ms; "
        "api: lb3 took over within 20 ms"
    )
    assert cluster.hosts["lb1"].leaves == [(("web", "api"), Reason.MAINTENANCE)]


def test_a_node_that_has_nothing_needs_nobody(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    _break(cluster.hosts["lb3"], "dead")
    assert maintain(cluster, operators, "lb2")["sentence"].startswith("in maintenance until")
    assert cluster.now_ns == NOW_NS


def test_the_last_node_is_refused_maintenance(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    _break(cluster.hosts["lb3"], "dead")
    maintain(cluster, operators, "lb1")
    with pytest.raises(OrderRefused, match="no other node can take over: lb1 is in maintenance"):
        maintain(cluster, operators, "lb2")
    assert masters(cluster) == ["lb2"]


def test_maintenance_that_nobody_relieves_is_withdrawn(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    cluster.hosts["lb2"].deaf = cluster.hosts["lb3"].deaf = True
    said = maintain(cluster, operators, "lb1")
    assert said["done"] is False
    assert said["sentence"] == (
        "web: nobody took over; lb1 is master (handover-failed); "
        "api: nobody took over; lb1 is master (handover-failed); maintenance was taken back"
    )
    assert not operators["lb1"].orders.maintenance
    assert masters(cluster) == ["lb1"]


def test_a_unit_that_nobody_has_is_waited_for_after_the_withdrawal(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    """Its successor died in the moment of taking it."""
    lb1 = cluster.hosts["lb1"]

    def drop(unit: str, host: Host, preferred: str, reason: Reason) -> None:
        host.places[unit].state, host.places[unit].reason = State.BACKUP, reason.value

    def stand_once_allowed() -> None:
        if lb1.orders.maintenance:
            cluster.at(cluster.now_ns + SECOND_NS, stand_once_allowed)
        else:
            for unit in lb1.places:
                cluster.stand(unit, lb1, Reason.MASTER_SILENT)

    cluster.give = drop  # type: ignore[method-assign]
    cluster.at(NOW_NS + 4 * SECOND_NS, stand_once_allowed)
    said = maintain(cluster, operators, "lb1")
    assert said["done"] is False
    assert "web: nobody took over; no node is master" in said["sentence"]
    assert said["sentence"].endswith(
        "maintenance was taken back; web: lb1 is master; api: lb1 is master"
    )


def test_force_keeps_maintenance_even_so(cluster: Cluster, operators: dict[str, Operator]) -> None:
    cluster.hosts["lb2"].deaf = cluster.hosts["lb3"].deaf = True
    said = maintain(cluster, operators, "lb1", force=True)
    assert said["done"] is True
    assert "lb1 is master (handover-failed)" in said["sentence"]
    assert operators["lb1"].orders.maintenance


def test_force_waits_for_nobody_who_is_not_there(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    """The engine goes on serving, and hands over when somebody can take it."""
    for name in ("lb2", "lb3"):
        _break(cluster.hosts[name], "dead")
    said = maintain(cluster, operators, "lb1", force=True)
    assert "web: nobody took over (lb2 is not heard (for 7.0 s); lb3" in said["sentence"]
    assert (cluster.now_ns, cluster.hosts["lb1"].leaves) == (NOW_NS, [])
    assert operators["lb1"].orders.maintenance


@pytest.mark.parametrize("head_start_s", [0.0, 0.5, 1.999, 2.001, 2.5])
def test_both_nodes_at_once_leave_one_that_serves(
    cluster: Cluster, operators: dict[str, Operator], head_start_s: float
) -> None:
    """Each of two operators sees the other node ready, whatever they do between look and order."""
    _break(cluster.hosts["lb3"], "dead")
    for unit, host in (("web", "lb1"), ("api", "lb2")):
        for name in ("lb1", "lb2"):
            state = State.MASTER if name == host else State.BACKUP
            place_of(cluster, name, unit).state = state

    async def second() -> Any:
        await cluster.sleep(head_start_s)
        return await operators["lb2"].maintenance(True, None, False)

    answers = cluster.run(operators["lb1"].maintenance(True, None, False), second())
    done = [isinstance(said, dict) and said["done"] for said in answers]
    assert sum(done) <= 1
    for name, was_done in zip(("lb1", "lb2"), done, strict=True):
        assert operators[name].orders.maintenance is was_done
    assert len(masters(cluster)) == len(masters(cluster, "api")) == 1


def test_a_race_that_is_found_out_while_hooks_run(
    cluster: Cluster, operators: dict[str, Operator]
) -> None:
    _break(cluster.hosts["lb3"], "dead")

    async def idle() -> Any:
        await cluster.sleep(1.0)  # lb1 drains
        return await operators["lb2"].maintenance(True, None, False)

    first, second = cluster.run(operators["lb1"].maintenance(True, None, False), idle())
    assert second["done"] is True
    assert isinstance(first, OrderRefused)
    assert "lb2 is in maintenance" in str(first)
    assert masters(cluster) == ["lb1"]


# --- between the modes ------------------------------------------------------------------------


def test_holds_of_plain_mode_end_in_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    book = OrderBook()
    book.step_down("web", 1.0, None)
    (tmp_path / "lb1").mkdir()
    OrderFile(tmp_path / "lb1").save(book.to_json())

    async def start() -> Operator:
        return cluster.hosts["lb1"].operator(tmp_path)

    (operator,) = cluster.run(start())
    assert operator.orders == Orders(step_downs=(("web", 1),))
    assert cluster.hosts["lb1"].told[0][:2] == ("hold-ended", "web")
