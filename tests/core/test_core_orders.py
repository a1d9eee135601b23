"""Orders of the operator: maintenance, switchover, and the role that hooks act on."""

from __future__ import annotations

import pytest

from tests.core.rig import MS, Rig, S, kinds, notes, priorities, router, vip
from vipd.core.actions import AddAddresses, ShutGate
from vipd.core.events import OrdersGiven
from vipd.model import NoteKind, Orders, Reason, State

NORMAL = Orders()
MAINTENANCE = Orders(maintenance=True)


def give(rig: Rig, orders: Orders) -> list[object]:
    return list(rig.feed(OrdersGiven(orders)))


def master(**changes: object) -> Rig:
    rig = Rig(router(**changes))
    rig.become_master()
    return rig


def roles(rig: Rig) -> list[str]:
    return [str(note.fields["state"]) for _, note in rig.times_of(NoteKind.ROLE)]


# --- maintenance --------------------------------------------------------------------------------


def test_maintenance_gives_mastership_away_break_before_make() -> None:
    rig = master()
    actions = give(rig, MAINTENANCE)
    assert kinds(actions) == ["ShutGate", "RemoveAddresses", "SendAdvert"]
    assert priorities(actions) == [0]
    assert (rig.state(), rig.instance().election.reason) == (State.BACKUP, Reason.MAINTENANCE)


def test_a_node_in_maintenance_takes_over_from_nobody() -> None:
    rig = Rig(router())
    give(rig, MAINTENANCE)
    rig.run(100 * S)
    assert rig.state() is State.BACKUP
    rig.hear(0)
    rig.run(100 * S)
    assert rig.state() is State.BACKUP
    give(rig, NORMAL)
    rig.become_master()


def test_after_maintenance_a_master_that_lives_is_taken_from_by_the_normal_rules() -> None:
    rig = master()
    give(rig, MAINTENANCE)
    rig.hear(50)
    give(rig, NORMAL)
    rig.hear(50)
    rig.run(4 * S)
    assert rig.state() is State.MASTER
    sticky = master(preempt=False)
    give(sticky, MAINTENANCE)
    give(sticky, NORMAL)
    for _ in range(10):
        sticky.hear(50)
        sticky.run(S)
    assert sticky.state() is State.BACKUP


@pytest.mark.parametrize("first", [50, 150])
def test_a_node_in_maintenance_knows_its_master_also_a_lower_one(first: int) -> None:
    rig = master()
    give(rig, MAINTENANCE)
    rig.hear(first)
    for _ in range(20):
        rig.hear(50)
        for _ in range(10):
            rig.run(100 * MS)
            assert rig.instance().election.master is not None


def test_maintenance_that_comes_with_a_new_engine_is_obeyed_from_the_start() -> None:
    rig = Rig(sync=False)
    give(rig, MAINTENANCE)
    rig.configure(router())
    rig.feed(rig.kernel.dump())
    rig.run(60 * S)
    assert rig.state() is State.BACKUP
    assert rig.node.snapshot(rig.now).maintenance


def test_the_address_owner_stays_what_it_is() -> None:
    rig = Rig(router(priority=255, vips=(vip("192.0.2.11/24"),)))
    assert rig.state() is State.MASTER
    give(rig, MAINTENANCE)
    give(rig, Orders(step_downs=(("web", 1),)))
    assert rig.state() is State.MASTER


# --- switchover ---------------------------------------------------------------------------------


def test_a_step_down_is_carried_out_once_however_often_it_is_said() -> None:
    rig = master()
    order = Orders(held=("web",), step_downs=(("web", 1),))
    assert priorities(give(rig, order)) == [0]
    assert (rig.state(), rig.instance().election.reason) == (State.BACKUP, Reason.SWITCHOVER)
    rig.become_master()  # nobody took over
    assert give(rig, order) == []
    assert give(rig, Orders(step_downs=(("web", 1),))) == []
    assert rig.state() is State.MASTER
    assert priorities(give(rig, Orders(step_downs=(("web", 2),)))) == [0]


def test_a_count_that_a_new_engine_is_started_with_is_no_order() -> None:
    rig = Rig(sync=False)
    give(rig, Orders(step_downs=(("web", 7),)))
    rig.configure(router())
    rig.feed(rig.kernel.dump())
    rig.become_master()
    assert give(rig, Orders(held=("web",), step_downs=(("web", 7),))) == []


def test_a_backup_has_nothing_to_give_away() -> None:
    rig = Rig(router())
    due = rig.instance().election.deadline
    give(rig, Orders(step_downs=(("web", 1),)))
    assert (rig.state(), rig.instance().election.deadline) == (State.BACKUP, due)


def test_held_means_no_preemption_until_it_ends() -> None:
    rig = master()
    give(rig, Orders(held=("web",), step_downs=(("web", 1),)))
    for _ in range(30):
        rig.hear(50)
        rig.run(S)
    assert rig.state() is State.BACKUP
    assert rig.node.snapshot(rig.now).instances[0].held
    give(rig, Orders(step_downs=(("web", 1),)))
    rig.hear(50)
    rig.run(4 * S)
    assert rig.state() is State.MASTER


def test_held_does_not_keep_it_from_taking_over_from_the_dead() -> None:
    rig = master()
    give(rig, Orders(held=("web",), step_downs=(("web", 1),)))
    rig.hear(50)
    rig.run(4 * S)
    assert rig.state() is State.MASTER


def test_a_reload_forgets_no_order() -> None:
    rig = master()
    give(rig, Orders(maintenance=True, held=("web",)))
    rig.configure(router(priority=200))
    rig.run(30 * S)
    assert rig.state() is State.BACKUP
    assert rig.instance().held


# --- roles --------------------------------------------------------------------------------------


def test_the_role_is_said_when_the_kernel_has_done_what_the_state_asks_for() -> None:
    rig = Rig(router())
    assert roles(rig) == ["BACKUP"]
    rig.obeys = False
    rig.run(rig.instance().election.master_down_ns)
    assert (rig.state(), roles(rig)) == (State.MASTER, ["BACKUP"])
    rig.obeys = True
    for order in list(rig.orders):
        rig.orders.remove(order)
        rig.feed(*rig.carry_out(order))
    assert roles(rig) == ["BACKUP", "MASTER"]
    note = rig.times_of(NoteKind.ROLE)[-1][1]
    assert note.fields["master"] == "192.0.2.11"
    assert note.fields["priority"] == 100


def test_a_role_waits_for_the_release() -> None:
    rig = master()
    rig.obeys = False
    rig.hear(200)
    assert (rig.state(), roles(rig)) == (State.BACKUP, ["BACKUP", "MASTER"])
    rig.obeys = True
    rig.carry_out_next(ShutGate)
    assert roles(rig) == ["BACKUP", "MASTER", "BACKUP"]
    note = rig.times_of(NoteKind.ROLE)[-1][1]
    assert note.fields["master"] == "192.0.2.9"
    assert note.fields["reason"] == Reason.HIGHER_PRIORITY_HEARD.value


def test_a_mastership_that_the_kernel_refuses_is_no_role() -> None:
    rig = Rig(router())
    rig.kernel.refusals[AddAddresses, router().vips[0].address] = 1
    rig.run(rig.instance().election.master_down_ns + MS)
    assert rig.state() is State.FAULT
    assert roles(rig) == ["BACKUP", "FAULT"]


@pytest.mark.parametrize("stop", [True, False])
def test_a_stop_ends_in_the_role_init(stop: bool) -> None:
    rig = master()
    if stop:
        rig.stop()
    else:
        rig.configure()
    assert roles(rig) == ["BACKUP", "MASTER", "INIT"]
    assert notes(rig.log_actions, NoteKind.ROLE)[-1].instance == "web"
