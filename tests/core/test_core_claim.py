"""Claim: both orders of actions, and that nothing of ours is ever left behind or lost."""

from __future__ import annotations

import pytest

from tests.core.rig import (
    EPERM,
    MS,
    OWN,
    Rig,
    S,
    kinds,
    many_vips,
    notes,
    only,
    priorities,
    router,
    vip,
)
from vipd.core.actions import (
    AddAddresses,
    Announce,
    Finished,
    OpenGate,
    RemoveAddresses,
    RemoveStray,
    RenewAddresses,
    ResyncKernel,
    SendAdvert,
    ShutGate,
)
from vipd.core.announcement import FRAMES_PER_TURN
from vipd.core.batches import CHUNK
from vipd.core.claim import RETRY_NS, VANISH_LIMIT, VERIFY_LIMIT
from vipd.core.events import (
    AddressesApplied,
    AddressSeen,
    DeadlinePassed,
    GateOpened,
    GateShut,
    RivalAnnounced,
)
from vipd.model import (
    ClaimState,
    Family,
    HostAddress,
    LeaseState,
    NoteKind,
    Reason,
    State,
    Vip,
    format_address,
)

A, B, C = vip("192.0.2.100/24"), vip("192.0.2.101/24"), vip("192.0.2.102/24")
A6 = vip("2001:db8::100/64")
MAC = bytes.fromhex("02000000beef")


def master(*vips: Vip, **changes: object) -> Rig:
    rig = Rig(router(vips=vips or (A,), **changes))
    rig.become_master()
    return rig


def claim_state(rig: Rig) -> ClaimState:
    return rig.instance().claim.state


# --- the two orders -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", list(Family))
def test_claiming_goes_advert_gate_address_announcement(family: Family) -> None:
    rig = Rig(router(family))
    assert kinds(rig.become_master()) == ["SendAdvert", "OpenGate", "AddAddresses", "Announce"]


def test_no_address_before_the_gate_no_announcement_before_the_kernel_confirms() -> None:
    rig = Rig(router())
    rig.obeys = False
    assert kinds(rig.become_master()) == ["SendAdvert", "OpenGate"]
    assert kinds(rig.carry_out_next(OpenGate)) == ["AddAddresses"]
    (order,) = only(rig.orders, AddAddresses)
    assert kinds(rig.feed(*rig.kernel.apply(order)[:-1])) == []  # seen, not yet answered
    assert kinds(rig.feed(AddressesApplied(order))) == ["Announce"]


@pytest.mark.parametrize("family", list(Family))
def test_releasing_goes_gate_removal_priority_zero(family: Family) -> None:
    rig = Rig(router(family))
    rig.become_master()
    assert kinds(rig.stop()) == ["ShutGate", "RemoveAddresses", "SendAdvert", "Finished"]


def test_priority_zero_and_lease_wait_for_the_kernels_word() -> None:
    rig = master()
    rig.obeys = False
    assert kinds(rig.stop()) == ["ShutGate"]
    assert kinds(rig.carry_out_next(ShutGate)) == ["RemoveAddresses"]
    assert rig.instance().lease.state is LeaseState.HELD
    assert priorities(rig.carry_out_next(RemoveAddresses)) == [0]
    assert rig.instance().lease.state is LeaseState.NONE


def test_a_thousand_vips_come_in_chunks_and_leave_in_reverse() -> None:
    vips = (*many_vips(Family.IPV4, 300), *many_vips(Family.IPV6, 40))
    rig = Rig(router(vips=vips))
    added = only(rig.become_master(), AddAddresses)
    assert [len(order.vips) for order in added] == [128, 128, 44, 16, 16, 8]
    assert [each.key for order in added for each in order.vips] == [each.key for each in vips]
    (removed,) = only(rig.stop(), RemoveAddresses)
    assert [each.key for each in removed.vips] == [each.key for each in reversed(vips)]


def test_every_chunk_is_announced_as_soon_as_it_is_there() -> None:
    rig = Rig(router(vips=many_vips(Family.IPV4, 200)))
    order = kinds(rig.become_master())
    assert order[2:] == ["AddAddresses", "Announce", "AddAddresses", "Announce"]


# --- failures -------------------------------------------------------------------------------------


def test_a_refused_vip_means_removal_priority_zero_and_fault() -> None:
    rig = Rig(router(vips=(A, B)))
    rig.kernel.refusals[AddAddresses, B.address] = EPERM
    actions = rig.run(4 * S)
    assert kinds(actions)[-3:] == ["ShutGate", "RemoveAddresses", "SendAdvert"]
    assert priorities(actions)[-1] == 0
    assert rig.state() is State.FAULT
    assert rig.instance().election.reason is Reason.CLAIM_REFUSED
    assert "192.0.2.101" in rig.instance().election.detail
    assert not rig.holds(A)


def fault_lengths(rig: Rig, until_s: int) -> list[int]:
    """How long each stay in FAULT lasted, in whole seconds."""
    rig.run(until_s * S)
    moves = [(at, note.fields) for at, note in rig.times_of(NoteKind.TRANSITION)]
    entered = [at for at, fields in moves if fields["to"] == "FAULT"]
    left = [at for at, fields in moves if fields["from"] == "FAULT"]
    return [(end - begin) // S for begin, end in zip(entered, left, strict=False)]


def test_the_back_off_doubles_up_to_a_minute() -> None:
    rig = Rig(router())
    rig.kernel.refusals[AddAddresses, A.address] = EPERM
    assert fault_lengths(rig, 400)[:9] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_back_off_starts_small_again_after_a_long_peace() -> None:
    rig = Rig(router())
    rig.kernel.refusals[AddAddresses, A.address] = EPERM
    rig.run(30 * S)
    rig.kernel.refusals.clear()
    rig.run(200 * S)
    assert rig.state() is State.MASTER
    rig.send_errno = 100
    rig.kernel.refusals[AddAddresses, A.address] = EPERM
    rig.log.clear()
    rig.take_away(A.address)
    assert rig.state() is State.FAULT
    assert fault_lengths(rig, 2)[0] == 1


def test_a_refused_removal_is_tried_again_and_priority_zero_waits() -> None:
    rig = master(A, B)
    rig.kernel.refusals[RemoveAddresses, B.address] = EPERM
    actions = rig.stop()
    assert priorities(actions) == []
    assert notes(actions, NoteKind.RELEASE_REFUSED)[0].fields["errno"] == EPERM
    again = rig.run(RETRY_NS)
    assert [each.address for each in only(again, RemoveAddresses)[0].vips] == [B.address]
    assert priorities(again) == []
    rig.kernel.refusals.clear()
    assert kinds(rig.run(RETRY_NS)) == ["RemoveAddresses", "SendAdvert", "Finished"]


def test_while_a_removal_is_refused_nothing_is_renewed_or_announced() -> None:
    rig = master()
    rig.kernel.refusals[RemoveAddresses, A.address] = EPERM
    rig.stop()
    actions = rig.run(60 * S)
    assert set(kinds(actions)) == {"RemoveAddresses"}


def test_the_end_of_the_lifetime_ends_a_refused_removal() -> None:
    rig = master()
    rig.kernel.refusals[RemoveAddresses, A.address] = EPERM
    rig.stop()
    assert kinds(rig.take_away(A.address)) == ["SendAdvert", "Finished"]


def test_a_removal_that_finds_nothing_has_done_its_work() -> None:
    rig = master(A, B)
    rig.obeys = False
    rig.stop()
    rig.carry_out_next(ShutGate)
    for entry in list(rig.kernel.addresses.values()):
        if entry.address == A.address:
            rig.kernel.drop(entry)  # expired: its notification is lost
    rig.obeys = True
    actions = rig.carry_out_next(RemoveAddresses)
    assert kinds(actions) == ["ResyncKernel", "SendAdvert", "Finished"]


def test_an_address_that_is_there_twice_is_removed_twice() -> None:
    rig = master()
    rig.put("192.0.2.100/24")
    actions = rig.stop()
    assert kinds(actions)[-1] == "ResyncKernel"
    assert kinds(rig.run(RETRY_NS)) == ["RemoveAddresses", "SendAdvert", "Finished"]
    assert not rig.holds(A)


# --- late answers ---------------------------------------------------------------------------------


def test_an_order_on_its_way_counts_as_held_when_the_release_begins() -> None:
    """The add is carried out, its notification not yet read: no priority 0 before it is gone."""
    rig = Rig(router())
    rig.obeys = False
    rig.become_master()
    rig.carry_out_next(OpenGate)
    rig.stop()
    assert kinds(rig.carry_out_next(ShutGate)) == ["RemoveAddresses"]
    rig.carry_out_next(AddAddresses)
    assert claim_state(rig) is ClaimState.REMOVING
    assert priorities(rig.carry_out_next(RemoveAddresses)) == [0] or rig.orders
    rig.obeys = True
    while rig.orders:
        rig.feed(*rig.carry_out(rig.orders.popleft()))
    assert not rig.holds(A)
    assert priorities(rig.log_actions)[-1] == 0
    assert only(rig.log_actions, Finished)


def test_an_answered_add_that_was_never_seen_is_removed_too() -> None:
    """IPv6: the kernel's word comes a moment after the answer."""
    rig = Rig(router(Family.IPV6))
    rig.obeys = False
    rig.become_master()
    rig.carry_out_next(OpenGate)
    (order,) = only(rig.orders, AddAddresses)
    rig.orders.remove(order)
    seen, answer = rig.kernel.apply(order)
    rig.feed(answer)
    rig.stop()
    (removal,) = only(rig.carry_out_next(ShutGate), RemoveAddresses)
    assert removal.vips == order.vips
    rig.feed(seen)
    assert priorities(rig.carry_out_next(RemoveAddresses)) == [0]
    assert not rig.holds(A6)


def test_an_add_confirmed_after_everything_ended_is_swept() -> None:
    rig = master()
    rig.stop()
    late = HostAddress(2, A.address, 32, 86)
    rig.kernel.put(late)
    assert only(rig.feed(AddressSeen(late)), RemoveStray)[0].addresses == (late,)


def test_a_failed_order_is_not_on_its_way() -> None:
    rig = Rig(router())
    rig.kernel.refusals[AddAddresses, A.address] = EPERM
    actions = rig.run(4 * S)
    assert "RemoveAddresses" not in kinds(actions)
    assert priorities(actions)[-1] == 0


def test_the_late_word_on_an_ipv6_address_is_announced_as_it_comes() -> None:
    rig = Rig(router(Family.IPV6))
    rig.obeys = False
    rig.become_master()
    rig.carry_out_next(OpenGate)
    (order,) = only(rig.orders, AddAddresses)
    seen, answer = rig.kernel.apply(order)
    assert kinds(rig.feed(answer)) == []
    assert kinds(rig.feed(seen)) == ["Announce"]
    assert claim_state(rig) is ClaimState.PRESENT


def test_an_address_that_never_comes_is_asked_for_and_then_given_up() -> None:
    rig = Rig(router())
    rig.obeys = False
    rig.become_master()
    rig.carry_out_next(OpenGate)
    resyncs = 0
    for _ in range(VERIFY_LIMIT + 1):
        (order,) = only(rig.orders, AddAddresses)
        rig.orders.remove(order)
        rig.feed(AddressesApplied(order))
        resyncs += len(only(rig.run(RETRY_NS), ResyncKernel))
    assert resyncs == VERIFY_LIMIT
    assert rig.state() is State.FAULT
    assert rig.instance().election.reason is Reason.ADDRESS_VANISHES


def test_a_dump_may_bring_the_word_that_was_lost() -> None:
    rig = Rig(router())
    rig.obeys = False
    rig.become_master()
    rig.carry_out_next(OpenGate)
    (order,) = only(rig.orders, AddAddresses)
    rig.feed(rig.kernel.apply(order)[-1])
    rig.feed(rig.kernel.dump())
    assert kinds(rig.run(RETRY_NS)) == ["Announce"]
    assert claim_state(rig) is ClaimState.PRESENT


def test_wanted_again_during_the_release_everything_is_added_again() -> None:
    rig = master()
    rig.obeys = False
    rig.hear(200)
    rig.carry_out_next(ShutGate)
    rig.run(rig.instance().election.master_down_ns)
    assert rig.state() is State.MASTER
    assert claim_state(rig) is ClaimState.ADDING
    rig.obeys = True
    while rig.orders:
        rig.feed(*rig.carry_out(rig.orders.popleft()))
    assert claim_state(rig) is ClaimState.PRESENT
    assert rig.holds(A)
    assert 0 not in priorities(rig.log_actions)


def test_answers_to_overtaken_orders_do_nothing() -> None:
    rig = master()
    assert kinds(rig.feed(GateOpened("web"), GateShut("web"))) == []
    rig.stop()
    old = AddressesApplied(AddAddresses("web", (A,)))
    assert kinds(rig.feed(GateOpened("web"), GateShut("web"), old)) == []


# --- vanishing ------------------------------------------------------------------------------------


def test_a_vip_that_vanishes_is_put_back_at_once_and_announced() -> None:
    rig = master(A, B)
    actions = rig.take_away(B.address)
    assert kinds(actions) == ["AddAddresses", "Announce"]
    assert [each.address for each in only(actions, AddAddresses)[0].vips] == [B.address]
    assert rig.instance().claim.restored == 1
    assert rig.state() is State.MASTER


def test_many_that_vanish_together_are_one_incident() -> None:
    vips = many_vips(Family.IPV4, 50)
    rig = master(*vips)
    keys = {each.address for each in vips}
    gone = [each for each in rig.kernel.addresses.values() if each.address in keys]
    rig.feed(*(event for each in gone for event in rig.kernel.drop(each)))
    assert rig.holds(*vips)
    assert rig.state() is State.MASTER


def test_a_dump_that_lacks_a_vip_puts_it_back() -> None:
    rig = master()
    for entry in list(rig.kernel.addresses.values()):
        if entry.address == A.address:
            rig.kernel.drop(entry)
    rig.feed(rig.kernel.dump())
    assert rig.holds(A)


def test_a_vip_that_keeps_vanishing_is_given_up_with_priority_zero_and_fault() -> None:
    rig = master()
    for _ in range(VANISH_LIMIT):
        rig.take_away(A.address)
        rig.run(100 * MS)
    assert rig.state() is State.MASTER
    actions = rig.take_away(A.address)
    assert priorities(actions) == [0]
    assert rig.state() is State.FAULT
    assert rig.instance().election.reason is Reason.ADDRESS_VANISHES
    rig.run(999 * MS)
    assert rig.state() is State.FAULT
    rig.run(1 * MS)
    assert rig.state() is State.BACKUP


def test_vanishing_now_and_then_is_put_back_for_ever() -> None:
    rig = master()
    for _ in range(3 * VANISH_LIMIT):
        rig.take_away(A.address)
        rig.run(5 * S)
    assert rig.state() is State.MASTER


@pytest.mark.parametrize("family", list(Family))
def test_a_program_that_removes_what_we_add_at_once_cannot_make_us_spin(family: Family) -> None:
    """Gone before the order was answered, or right after: never more than a few rounds."""
    rig = Rig(router(family))
    address = rig.instance().config.vips[0].address

    def fight(action: object) -> None:
        if isinstance(action, AddAddresses) and action.vips:
            assert len(rig.times(AddAddresses)) < 20

    original = rig.kernel.apply

    def apply_and_lose(action: AddAddresses | RenewAddresses | RemoveAddresses) -> list[object]:
        events = original(action)
        if isinstance(action, AddAddresses):
            lost = [e for e in rig.kernel.addresses.values() if e.address == address]
            gone = [event for each in lost for event in rig.kernel.drop(each)]
            if family is Family.IPV4:
                events[-1:-1] = gone
            else:
                events += gone
        return events

    rig.on_action = fight
    rig.kernel.apply = apply_and_lose  # type: ignore[method-assign,assignment]
    rig.run(4 * S)
    assert rig.state() is State.FAULT
    assert rig.instance().election.reason is Reason.ADDRESS_VANISHES
    assert priorities(rig.log_actions)[-1] == 0


def test_a_vip_that_vanishes_while_another_is_awaited_is_not_forgotten() -> None:
    rig = Rig(router(vips=(A, B)))
    rig.obeys = False
    rig.become_master()
    rig.carry_out_next(OpenGate)
    (order,) = only(rig.orders, AddAddresses)
    rig.orders.clear()
    seen_a, _seen_b, answer = rig.kernel.apply(order)
    rig.feed(seen_a, answer)  # the word on B is late
    rig.obeys = True
    rig.take_away(A.address)
    rig.run(2 * RETRY_NS)
    assert rig.holds(A, B)
    assert claim_state(rig) is ClaimState.PRESENT


# --- renewal --------------------------------------------------------------------------------------


def test_renewals_go_round_within_a_third_of_the_lifetime_evenly() -> None:
    vips = many_vips(Family.IPV4, 4 * CHUNK[Family.IPV4])
    rig = master(*vips, address_lifetime_s=6)
    begin = rig.now
    rig.run(2 * S)
    renewals = rig.times(RenewAddresses)
    assert [(at - begin) // MS for at, _ in renewals] == [500, 1000, 1500, 2000]
    renewed = {each.key for _, action in renewals for each in action.vips}
    assert renewed == {each.key for each in vips}


def test_a_renewal_that_is_refused_is_noted() -> None:
    rig = master()
    rig.kernel.refusals[RenewAddresses, A.address] = EPERM
    assert notes(rig.run(3 * S), NoteKind.CLAIM_REFUSED)
    assert rig.state() is State.MASTER


def test_only_what_is_there_is_renewed() -> None:
    rig = master()
    rig.obeys = False
    rig.take_away(A.address)
    assert not only(rig.run(3 * S), RenewAddresses)


# --- the address owner ----------------------------------------------------------------------------


def owner() -> Rig:
    config = router(priority=255, vips=(vip("192.0.2.11/24"),))
    return Rig(config)


def test_an_owner_is_master_at_once_and_never_touches_its_addresses() -> None:
    rig = owner()
    rig.run(300 * S)
    assert rig.state() is State.MASTER
    rig.stop()
    touching = AddAddresses | RenewAddresses | RemoveAddresses | RemoveStray
    assert not [action for _, action in rig.log if isinstance(action, touching)]
    assert priorities(rig.log_actions)[-1] == 0
    assert only(rig.log_actions, Finished)
    assert rig.kernel.has(OWN[Family.IPV4])


def test_an_owner_announces_the_whole_schedule() -> None:
    rig = owner()
    begin = rig.now
    rig.run(2 * S)
    assert [(at - begin) // MS for at, _ in rig.times(Announce)] == [0, 20, 100, 500, 1000]


def test_an_owner_that_loses_its_address_stands_in_fault_until_it_is_back() -> None:
    rig = owner()
    rig.run(S)
    rig.put("192.0.2.12/24")  # a source is left
    rig.take_away(OWN[Family.IPV4])
    assert rig.state() is State.FAULT
    assert rig.instance().election.reason is Reason.OWNED_ADDRESS_MISSING
    rig.put("192.0.2.11/24")
    assert rig.state() is State.MASTER


def test_an_owner_without_its_address_starts_in_fault() -> None:
    rig = Rig(router(priority=255))
    assert rig.state() is State.FAULT
    rig.put("192.0.2.100/24")
    assert rig.state() is State.MASTER


def test_an_owner_that_yields_leaves_its_addresses_alone() -> None:
    rig = owner()
    rig.hear(255, bytes([192, 0, 2, 200]))
    assert rig.state() is State.BACKUP
    assert not rig.times(RemoveAddresses)


# --- announcements --------------------------------------------------------------------------------


def test_a_claim_announces_at_0_20_100_500_1000_ms_and_then_refreshes() -> None:
    rig = master()
    begin = rig.now
    rig.run(121 * S + MS)
    at_ms = [(at - begin) // MS for at, _ in rig.times(Announce)]
    assert at_ms == [0, 20, 100, 500, 1000, 61_000, 121_000]


def test_a_rival_is_answered_at_once_and_the_second_after_ten_seconds() -> None:
    rig = master(announce_count=1, announce_refresh_ns=0)
    rig.run(5 * S)
    rig.log.clear()
    begin = rig.now
    for _ in range(3):
        rig.feed(RivalAnnounced(2, A.address, MAC))
        rig.run(1 * S)
    rig.run(20 * S)
    assert [(at - begin) // S for at, _ in rig.times(Announce)] == [0, 10]
    assert rig.instance().counters.values["rival_announcements"] == 3
    noted = rig.times_of(NoteKind.RIVAL_ANNOUNCED)
    assert [note.fields["mac"] for _, note in noted] == ["02:00:00:00:be:ef"]
    assert rig.state() is State.MASTER


def test_a_backup_does_not_answer_a_rival() -> None:
    rig = Rig(router())
    assert kinds(rig.feed(RivalAnnounced(2, A.address, MAC))) == []
    assert kinds(rig.feed(RivalAnnounced(9, A.address, MAC))) == []
    assert kinds(rig.feed(RivalAnnounced(2, OWN[Family.IPV4], MAC))) == []


def test_announced_is_only_what_the_kernel_has() -> None:
    rig = master(A, B)
    rig.obeys = False
    rig.take_away(B.address)
    frames = only(rig.run(20 * MS), Announce)
    assert {format_address(each.address) for each in frames[0].vips} == {"192.0.2.100"}


def test_what_left_during_a_long_round_is_not_announced_any_more() -> None:
    vips = many_vips(Family.IPV4, 2 * FRAMES_PER_TURN)
    rig = Rig(router(vips=vips))
    rig.become_master()
    rig.run(20 * MS - 1)
    rig.now += 1
    assert len(only(rig.feed(DeadlinePassed()), Announce)[0].vips) == FRAMES_PER_TURN
    rig.configure(router(vips=vips[:-1]))
    assert not rig.holds(vips[-1])
    rest = [each for frames in only(rig.run(0), Announce) for each in frames.vips]
    assert rest == list(vips[FRAMES_PER_TURN:-1])


# --- reload ---------------------------------------------------------------------------------------


def test_a_reload_moves_only_the_difference() -> None:
    rig = master(A, B)
    actions = rig.configure(router(vips=(B, C)))
    assert [each.key for each in only(actions, AddAddresses)[0].vips] == [C.key]
    assert [each.key for each in only(actions, RemoveAddresses)[0].vips] == [A.key]
    assert rig.holds(B, C)
    assert not rig.kernel.has(A.address)
    assert rig.state() is State.MASTER


def test_a_refused_removal_of_a_retired_vip_is_tried_again_although_others_were_added() -> None:
    rig = master(A)
    rig.kernel.refusals[RemoveAddresses, A.address] = EPERM
    rig.configure(router(vips=(B,)))
    assert rig.holds(A, B)
    rig.kernel.refusals.clear()
    rig.run(2 * RETRY_NS)
    assert not rig.kernel.has(A.address)
    assert rig.holds(B)


def test_a_vip_retired_during_a_release_goes_although_we_are_master_again() -> None:
    rig = master(A)
    rig.obeys = False
    rig.hear(200)
    rig.configure(router(vips=(B,)))
    rig.run(rig.instance().election.master_down_ns)
    rig.obeys = True
    while rig.orders:
        rig.feed(*rig.carry_out(rig.orders.popleft()))
    rig.run(2 * RETRY_NS)
    assert rig.state() is State.MASTER
    assert rig.holds(B)
    assert not rig.kernel.has(A.address)


def test_a_vip_retired_while_its_add_is_on_its_way_is_removed() -> None:
    rig = Rig(router(vips=(A, B)))
    rig.obeys = False
    rig.become_master()
    rig.carry_out_next(OpenGate)
    rig.configure(router(vips=(A,)))
    rig.obeys = True
    while rig.orders:
        rig.feed(*rig.carry_out(rig.orders.popleft()))
    rig.run(S)
    assert rig.holds(A)
    assert not rig.kernel.has(B.address)


def test_a_reload_before_the_gate_opens_adds_the_new_list() -> None:
    rig = Rig(router(vips=(A, B)))
    rig.obeys = False
    rig.become_master()
    rig.configure(router(vips=(B, C)))
    (order,) = only(rig.carry_out_next(OpenGate), AddAddresses)
    assert [each.key for each in order.vips] == [B.key, C.key]


def test_a_retired_vip_that_somebody_puts_back_is_theirs() -> None:
    rig = master(A, B)
    rig.configure(router(vips=(B,)))
    assert kinds(rig.put("192.0.2.100/24")) == []
    assert kinds(rig.take_away(A.address)) == []
    assert rig.state() is State.MASTER


def test_a_reload_while_the_kernels_word_is_missing_does_not_stop_the_claim() -> None:
    rig = master(A)
    rig.obeys = False
    rig.take_away(A.address)  # put back at once ...
    order = only(rig.orders, AddAddresses)[0]
    rig.orders.clear()
    rig.kernel.apply(order)
    rig.feed(AddressesApplied(order))  # ... and what the kernel said of it is lost
    assert claim_state(rig) is ClaimState.ADDING
    rig.obeys = True
    rig.configure(router(vips=(A, B, C)))
    rig.run(VERIFY_LIMIT * RETRY_NS + S)
    assert rig.holds(A, B, C)
    assert claim_state(rig) is ClaimState.PRESENT


def test_a_reload_of_an_owners_list_moves_nothing() -> None:
    rig = owner()
    rig.put("192.0.2.12/24")
    both = (vip("192.0.2.11/24"), vip("192.0.2.12/24"))
    actions = rig.configure(router(priority=255, vips=both))
    assert kinds(actions) == ["SendAdvert"]
    assert rig.state() is State.MASTER


def test_the_goodbye_lists_priority_zero_once_even_after_a_retry() -> None:
    rig = master()
    rig.kernel.refusals[RemoveAddresses, A.address] = EPERM
    rig.stop()
    rig.run(S)
    rig.kernel.refusals.clear()
    rig.run(S)
    zero = [sent for _, sent in rig.times(SendAdvert) if sent.advert.priority == 0]
    assert len(zero) == 1


def test_a_shorter_lifetime_is_renewed_at_once_and_in_its_own_pace() -> None:
    rig = master(address_lifetime_s=60)
    rig.run(S)
    rig.configure(router(address_lifetime_s=3))
    begin = rig.now
    rig.run(2500 * MS)
    assert [(at - begin) // MS for at, _ in rig.times(RenewAddresses)] == [0, 1000, 2000]


def test_reloads_in_quick_succession_do_not_starve_the_renewal() -> None:
    rig = master(address_lifetime_s=6)
    for _ in range(5):
        rig.configure(router(vips=(A, B)))
        rig.run(500 * MS)
        rig.configure(router(vips=(A,)))
        rig.run(500 * MS)
    assert len(rig.times(RenewAddresses)) >= 5
