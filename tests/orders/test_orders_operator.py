"""Whole commands, from the question who could take over to the answer who did."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.orders.rig import WALL, Rig, Unit, role
from tests.orders.samples import API, NOW_NS, OWNER, WEB, WEB6
from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    Family,
    Note,
    NoteKind,
    Orders,
    Reason,
    State,
    parse_address,
)
from vipd.supervisor.handover import OrderRefused
from vipd.supervisor.operator import Operator
from vipd.supervisor.orders import OrderFile

_Result = TypeVar("_Result")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, {"web": Unit((WEB,)), "edge": Unit((API, WEB6), State.BACKUP)})


def run(work: Callable[[], Awaitable[_Result]]) -> _Result:
    async def call() -> _Result:
        return await work()

    return asyncio.run(call())


def switch(operator: Operator, name: str = "web", **options: Any) -> dict[str, Any]:
    wanted: dict[str, Any] = {"to": None, "auto": False, "for_s": None, "force": False} | options
    return run(lambda: operator.switchover(name, **wanted))


def maintain(operator: Operator, on: bool = True, **options: Any) -> dict[str, Any]:
    wanted: dict[str, Any] = {"for_s": None, "force": False} | options
    return run(lambda: operator.maintenance(on, **wanted))


# --- switchover -------------------------------------------------------------------------------


def test_the_peer_takes_over_and_keeps_it(rig: Rig) -> None:
    said = switch(rig.operator(), to="lb2")
    assert said["done"] is True
    assert said["sentence"].startswith("web: 192.0.2.12 took over after 613 ms; this node does not")
    assert said["warning"] == ""
    assert said["units"] == {"web": {"fate": "taken", "master": "192.0.2.12", "after_ms": 613}}
    assert rig.sent == [Orders(held=("web",), step_downs=(("web", 1),))]
    assert rig.left == [(("web",), Reason.SWITCHOVER)]
    assert rig.operator().orders == rig.sent[-1]  # it survives a restart


def test_the_answer_comes_as_soon_as_the_peer_is_heard(rig: Rig) -> None:
    switch(rig.operator())
    waited_ns = rig.now_ns - NOW_NS - int(2.1 * SECOND_NS)  # asking and leaving
    assert 613 * MILLISECOND_NS <= waited_ns <= 640 * MILLISECOND_NS


def test_nobody_there_is_refused_before_anything_is_done(rig: Rig) -> None:
    rig.listening = False
    with pytest.raises(OrderRefused, match="nobody who could take over answered"):
        switch(rig.operator())
    assert (rig.sent, rig.left) == ([], [])
    (kind, subject, fields), *_ = rig.told
    assert (kind, subject, fields["result"]) == ("command", "web", "refused")


def test_force_tries_and_says_that_this_node_is_master_again(rig: Rig) -> None:
    rig.listening = rig.peer = False
    operator = rig.operator()
    said = switch(operator, force=True)
    assert said["done"] is False
    assert "nobody took over; this node is master again after 3" in said["sentence"]
    assert operator.orders.held == rig.sent[-1].held == rig.operator().orders.held == ()
    assert rig.told[-1][2]["result"] == "failed"


def test_a_daemon_that_listens_and_does_not_act_is_found_out(rig: Rig) -> None:
    """A frozen daemon answers as a living one does."""
    rig.peer = False
    said = switch(rig.operator())
    assert (said["done"], said["units"]["web"]["fate"]) == (False, "back")


def test_an_engine_that_does_not_obey_is_not_waited_for_for_ever(rig: Rig) -> None:
    rig.units["web"].counted = 99
    said = switch(rig.operator())
    assert said["done"] is False
    assert "no other master was heard within 4.4 s" in said["sentence"]


def test_an_engine_that_does_not_answer(rig: Rig) -> None:
    rig.answers = False
    with pytest.raises(OrderRefused, match="engine does not answer"):
        switch(rig.operator())


def test_mastership_that_went_while_hooks_ran_is_not_given_away(rig: Rig) -> None:
    rig.lost_while_leaving = True
    with pytest.raises(OrderRefused, match="this node is FAULT, not master"):
        switch(rig.operator())
    assert rig.sent == []


def test_who_cannot_be_asked_counts_as_nobody(rig: Rig) -> None:
    rig.cannot_ask = True
    with pytest.raises(OrderRefused, match="could not ask: there is no interface eth0"):
        switch(rig.operator())


def test_a_group_moves_under_the_name_of_a_member(rig: Rig) -> None:
    rig.units["edge"].state = State.MASTER
    said = switch(rig.operator(), "web6")
    assert said["sentence"].startswith("edge: 192.0.2.12 took over")
    assert rig.sent[-1].held == ("edge",)
    assert [asked[:2] for asked in rig.asked] == [("eth1", Family.IPV4), ("eth0", Family.IPV6)]


def test_a_hold_ends_in_time(rig: Rig) -> None:
    operator = rig.operator()
    assert "for 1m30s" in switch(operator, for_s=90.0)["sentence"]
    assert operator.status()["holds"]["web"]["until"] == pytest.approx(WALL + 2.1 + 90)
    rig.now_ns += 100 * SECOND_NS
    assert rig.operator().orders.held == ()  # it ended while nobody ran
    assert rig.told[-1] == ("hold-ended", "web", {"cause": "its time is over"})


def test_auto_ends_the_hold(rig: Rig) -> None:
    operator = rig.operator()
    switch(operator)
    said = switch(operator, auto=True)
    assert (said["done"], rig.sent[-1].held) == (True, ())
    assert rig.operator().orders.held == ()
    assert "nothing to end" in switch(operator, auto=True)["sentence"]


def test_auto_goes_with_nothing_else(rig: Rig) -> None:
    with pytest.raises(OrderRefused, match="neither --to nor --for"):
        switch(rig.operator(), auto=True, to="lb2")


def test_master_again_ends_the_hold(rig: Rig) -> None:
    operator = rig.operator()
    switch(operator)
    operator.take_note(role("web", State.MASTER))  # older than the order
    assert operator.orders.held == ("web",)
    operator.take_note(role("web", State.BACKUP, "192.0.2.12"))
    operator.take_note(role("web", State.MASTER, "192.0.2.11"))
    assert operator.orders.held == rig.sent[-1].held == ()
    assert rig.told[-1] == ("hold-ended", "web", {"cause": "this node is master again"})


def test_routers_that_were_heard_are_asked_in_person(rig: Rig) -> None:
    operator = rig.operator()
    for address in ("192.0.2.13", "192.0.2.12", "192.0.2.13", "fe80::12"):
        operator.take_note(Note(NoteKind.TRANSITION, "web", {"to": "BACKUP", "master": address}))
    operator.take_note(Note(NoteKind.TRANSITION, "web", {"to": "MASTER", "master": ""}))
    operator.take_note(role("web", State.MASTER, "192.0.2.11"))  # ourselves
    switch(operator)
    assert rig.asked[0][3] == (parse_address("192.0.2.12"), parse_address("192.0.2.13"))


def test_unicast_peers_are_passed_on(rig: Rig) -> None:
    peers = (parse_address("192.0.2.12"),)
    rig.units["web"].members = (replace(WEB, unicast_peers=peers),)
    switch(rig.operator())
    assert rig.asked[0][2] == peers


def test_a_unit_that_a_reload_took_away_is_held_no_more(rig: Rig) -> None:
    operator = rig.operator()
    switch(operator)
    operator.configure(["web", "edge"])
    assert operator.orders.held == ("web",)
    operator.configure(["edge"])
    assert operator.orders == rig.sent[-1] == Orders()


def test_what_cannot_be_kept_acts_and_says_so(rig: Rig) -> None:
    rig.directory = rig.directory / "absent"
    said = switch(rig.operator())
    assert said["done"] is True
    assert "will not survive a restart" in said["warning"]
    assert rig.sent[-1].held == ("web",)


# --- maintenance ------------------------------------------------------------------------------


def test_maintenance_gives_away_what_this_node_has(rig: Rig) -> None:
    operator = rig.operator()
    said = maintain(operator, for_s=1800.0)
    assert said["done"] is True
    assert said["sentence"] == "in maintenance for 30m; web: 192.0.2.12 took over after 613 ms"
    assert rig.left == [(("web",), Reason.MAINTENANCE)]
    assert rig.sent == [Orders(maintenance=True)]
    assert len(rig.asked) == 1  # nobody needs to take over what this node does not have
    assert rig.operator().orders.maintenance


def test_a_node_that_has_nothing_goes_into_maintenance_at_once(rig: Rig) -> None:
    rig.units["web"].state = State.FAULT
    said = maintain(rig.operator())
    assert said["sentence"] == "in maintenance until `vipd maintenance off`"
    assert (rig.asked, rig.left, rig.now_ns) == ([], [], NOW_NS)


def test_one_question_for_all_units_of_a_link(rig: Rig) -> None:
    rig.units["more"] = Unit((replace(WEB, name="more", vrid=54),))
    rig.units["other"] = Unit((replace(API, name="other", vrid=55),))
    maintain(rig.operator())
    assert [asked[0] for asked in rig.asked] == ["eth0", "eth1"]


def test_maintenance_is_refused_where_nobody_could_take_over(rig: Rig) -> None:
    rig.listening = False
    with pytest.raises(OrderRefused, match=r"^web: nobody"):
        maintain(rig.operator())
    assert rig.sent == []


def test_maintenance_that_nobody_relieves_is_taken_back(rig: Rig) -> None:
    rig.peer = False
    operator = rig.operator()
    said = maintain(operator)
    assert said["done"] is False
    assert "no other master was heard within 4.4 s" in said["sentence"]
    assert said["sentence"].endswith("maintenance was taken back; this node is master of web again")
    assert rig.sent[-1] == operator.orders == Orders()
    assert rig.units["web"].state is State.MASTER
    assert not rig.operator().orders.maintenance


def test_force_wants_maintenance_even_so(rig: Rig) -> None:
    rig.listening = rig.peer = False
    operator = rig.operator()
    said = maintain(operator, force=True)
    assert said["done"] is True
    assert "web: no other master was heard" in said["sentence"]
    assert operator.orders.maintenance


def test_an_owner_is_left_out_by_force_only(rig: Rig) -> None:
    rig.units["own"] = Unit((OWNER,))
    with pytest.raises(OrderRefused, match=r"^own: this host owns the addresses"):
        maintain(rig.operator())
    said = maintain(rig.operator(), force=True)
    assert list(said["units"]) == ["web"]


def test_maintenance_that_goes_on_gets_another_end(rig: Rig) -> None:
    operator = rig.operator()
    maintain(operator)
    said = maintain(operator, for_s=3600.0)
    assert said["sentence"] == "in maintenance already, now for 1h"
    assert len(rig.left) == 1
    assert operator.status()["maintenance"]["until"] == pytest.approx(rig.wall() + 3600)


def test_maintenance_off(rig: Rig) -> None:
    operator = rig.operator()
    assert "nothing to end" in maintain(operator, on=False)["sentence"]
    maintain(operator)
    assert maintain(operator, on=False)["done"] is True
    assert rig.sent[-1] == Orders()
    assert not rig.operator().orders.maintenance


def test_maintenance_that_ended_while_nobody_ran_is_not_taken_up(rig: Rig) -> None:
    maintain(rig.operator(), for_s=60.0)
    rig.now_ns += 61 * SECOND_NS
    assert rig.operator().orders == Orders()


def test_the_time_of_an_order_ends_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself; the wall clock is the real one here, and 30 ms are waited for."""
    monkeypatch.setattr(rig, "wall", time.time)
    operator = rig.operator()

    async def work() -> None:
        runner = asyncio.ensure_future(operator.run())
        await operator.maintenance(True, None, False)
        await operator.maintenance(True, 0.03, False)  # the runner sleeps without an end already
        async with asyncio.timeout(5):
            while OrderFile(rig.directory).load()[0].maintenance is not None:
                await asyncio.sleep(0.005)
        runner.cancel()

    asyncio.run(work())
    assert rig.sent[-1] == Orders()
    assert ("maintenance-ended", "", {"cause": "its time is over"}) in rig.told
    assert not rig.operator().orders.maintenance


def test_commands_wait_for_one_another(rig: Rig) -> None:
    operator = rig.operator()

    async def work() -> tuple[Any, Any]:
        first = operator.switchover("web", None, False, None, False)
        second = operator.maintenance(False, None, False)
        return await asyncio.gather(first, second)

    first, second = asyncio.run(work())
    assert (first["done"], second["done"]) == (True, True)
    assert [fields["command"] for _, _, fields in rig.told] == [
        "switchover web",
        "maintenance off",
    ]
