"""The node: start, strays, foreign addresses, links, sources, stop, reload, failures, stalls."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import pytest

from tests.core.rig import (
    EPERM,
    ETH0,
    ETH1,
    HIGHER,
    LOWER,
    MS,
    OWN,
    Rig,
    S,
    advert,
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
    RemoveAddresses,
    RemoveStray,
    SendAdvert,
    ShutGate,
)
from vipd.core.events import (
    AddressSeen,
    AdvertHeard,
    AdvertRejected,
    AdvertSent,
    Configured,
    DeadlinePassed,
    GateShut,
    LinkGone,
    LoopStalled,
    StallDrained,
)
from vipd.core.unit import Unit
from vipd.model import (
    ADDRESS_TAG,
    ClaimState,
    DiscardReason,
    Family,
    HostAddress,
    Link,
    NodeConfig,
    NoteKind,
    Reason,
    Remark,
    State,
    parse_address,
)

A, B, C = vip("192.0.2.100/24"), vip("192.0.2.101/24"), vip("192.0.2.102/24")
STRAY = HostAddress(2, A.address, 32, ADDRESS_TAG)
FORWARD = replace(ETH0, up=False)


def master(**changes: object) -> Rig:
    rig = Rig(router(**changes))
    rig.become_master()
    return rig


def reason(rig: Rig, name: str = "web") -> Reason:
    return rig.instance(name).election.reason


# --- start ----------------------------------------------------------------------------------------


def test_nothing_starts_before_the_first_dump() -> None:
    rig = Rig(router(), sync=False)
    rig.put("192.0.2.11/24")
    rig.see_link(ETH0)
    rig.feed(LinkGone(9))
    assert kinds(rig.run(100 * S)) == []
    assert rig.state() is State.INIT
    rig.feed(rig.kernel.dump())
    assert rig.state() is State.BACKUP


def test_a_reload_before_the_first_dump_is_taken() -> None:
    rig = Rig(router(), sync=False)
    rig.configure(router(priority=255, vips=(vip("192.0.2.11/24"),)))
    rig.feed(rig.kernel.dump())
    assert rig.state() is State.MASTER


def test_a_node_without_routers_wants_nothing() -> None:
    rig = Rig()
    assert rig.node.deadline() is None
    assert rig.node.routers() == ()
    rig.configure()
    assert only(rig.stop(), Finished) == [Finished()]


def test_what_an_earlier_run_left_behind_is_removed_first() -> None:
    rig = Rig(router(), sync=False)
    rig.kernel.put(STRAY)
    rig.kernel.put(HostAddress(3, B.address, 24, ADDRESS_TAG))  # no longer configured
    actions = rig.feed(rig.kernel.dump())
    assert {each.address for each in only(actions, RemoveStray)[0].addresses} == {
        A.address,
        B.address,
    }
    assert not rig.holds(A)
    assert not rig.holds(B)
    assert notes(actions, NoteKind.STRAY_ADDRESS_REMOVED)[0].fields["count"] == 2


def test_an_unconfigured_address_of_ours_is_removed_whenever_it_is_seen() -> None:
    rig = master()
    actions = rig.put("192.0.2.77/24", tag=ADDRESS_TAG)
    assert len(only(actions, RemoveStray)) == 1
    assert not rig.kernel.has(parse_address("192.0.2.77"))


def test_an_address_of_an_unknown_link_waits_for_the_link() -> None:
    rig = master()
    rig.put("192.0.2.77/24", index=9, tag=ADDRESS_TAG)
    assert rig.kernel.has(parse_address("192.0.2.77"))
    rig.see_link(Link(9, "eth9", True, ETH1.mac))
    assert not rig.kernel.has(parse_address("192.0.2.77"))


# --- foreign addresses ----------------------------------------------------------------------------


def test_an_untagged_vip_at_start_is_removed_once_with_a_warning() -> None:
    rig = Rig(router(), sync=False)
    rig.kernel.put(HostAddress(2, A.address, 24))
    actions = rig.feed(rig.kernel.dump())
    assert len(notes(actions, NoteKind.FOREIGN_ADDRESS_REMOVED)) == 1
    assert not rig.holds(A)
    assert rig.state() is State.BACKUP


def test_an_untagged_vip_that_appears_in_backup_is_removed() -> None:
    rig = Rig(router())
    assert only(rig.put("192.0.2.100/24"), RemoveStray)
    assert not rig.holds(A)
    assert rig.state() is State.BACKUP


def test_an_untagged_vip_that_comes_back_is_a_fault_that_names_it() -> None:
    rig = Rig(router())
    rig.put("192.0.2.100/24")
    rig.run(S)
    actions = rig.put("192.0.2.100/24")
    assert rig.state() is State.FAULT
    assert reason(rig) is Reason.FOREIGN_ADDRESS
    assert "192.0.2.100 on eth0" in rig.instance().election.detail
    assert len(notes(actions, NoteKind.FOREIGN_ADDRESS_KEPT)) == 1
    rig.take_away(A.address)
    assert rig.state() is State.BACKUP


def test_after_a_minute_it_is_removed_once_more() -> None:
    rig = Rig(router())
    rig.put("192.0.2.100/24")
    rig.run(61 * S)
    rig.hear(200)
    rig.take_away(A.address)
    rig.put("192.0.2.100/24")
    assert rig.state() is not State.FAULT


def test_another_daemons_tag_is_a_fault_that_names_the_daemon() -> None:
    rig = Rig(router())
    actions = rig.put("192.0.2.100/24", tag=18)
    assert rig.state() is State.FAULT
    assert "keepalived (address protocol 18)" in rig.instance().election.detail
    assert not only(actions, RemoveStray)
    rig.take_away(A.address)
    assert rig.state() is State.BACKUP


def test_an_unknown_tag_is_named_by_its_number() -> None:
    rig = Rig(router())
    rig.put("192.0.2.100/24", tag=199)
    assert "another daemon (address protocol 199)" in rig.instance().election.detail


def test_a_look_while_the_removal_is_under_way_is_no_second_coming() -> None:
    rig = Rig(router())
    rig.obeys = False
    rig.put("192.0.2.100/24")
    rig.see_link(replace(ETH0, mtu=9000))
    rig.feed(rig.kernel.dump())
    assert rig.state() is State.BACKUP
    assert len(only(rig.log_actions, RemoveStray)) == 1


def test_a_foreign_vip_that_cannot_be_removed_is_a_fault_a_second_later() -> None:
    rig = Rig(router())
    rig.obeys = False
    rig.put("192.0.2.100/24")
    rig.run(999 * MS)
    assert rig.state() is State.BACKUP
    rig.run(MS)
    assert rig.state() is State.FAULT
    assert "it cannot be removed" in rig.instance().election.detail


def test_a_fault_that_stands_is_not_noted_at_every_look() -> None:
    rig = Rig(router())
    rig.put("192.0.2.100/24", tag=18)
    rig.log.clear()
    for mtu in (9000, 1400):
        rig.see_link(replace(ETH0, mtu=mtu))
    assert not rig.times_of(NoteKind.FOREIGN_ADDRESS_KEPT)
    assert rig.state() is State.FAULT


def test_a_foreign_vip_that_a_reload_drops_is_no_fault_any_more() -> None:
    rig = Rig(router(vips=(A, B)))
    rig.put("192.0.2.100/24", tag=18)
    rig.configure(router(vips=(B,)))
    assert rig.state() is State.BACKUP


def test_a_stopped_node_lets_foreign_addresses_be() -> None:
    rig = Rig(router())
    rig.stop()
    rig.put("192.0.2.100/24")
    rig.feed(rig.kernel.dump())
    assert not rig.times(RemoveStray)
    assert rig.node.deadline() is None


# --- links ----------------------------------------------------------------------------------------


def test_a_link_that_goes_down_means_release_goodbye_and_fault_and_back() -> None:
    rig = master()
    actions = rig.see_link(FORWARD)
    assert kinds(actions) == ["ShutGate", "RemoveAddresses", "SendAdvert"]
    assert priorities(actions) == [0]
    assert (rig.state(), reason(rig)) == (State.FAULT, Reason.INTERFACE_DOWN)
    rig.see_link(ETH0)
    assert (rig.state(), reason(rig)) == (State.BACKUP, Reason.RECOVERED)
    assert Announce in [type(action) for action in rig.become_master()]


def test_the_link_of_a_vip_elsewhere_counts_too() -> None:
    rig = master(vips=(A, vip("203.0.113.100/24", "eth1")))
    rig.see_link(replace(ETH1, up=False))
    assert rig.state() is State.FAULT
    assert not rig.holds(A)


def test_a_missing_interface_is_a_fault_until_it_is_there() -> None:
    rig = Rig(router(interface="eth9", vips=(vip("192.0.2.100/24", "eth9"),)))
    assert (rig.state(), reason(rig)) == (State.FAULT, Reason.INTERFACE_MISSING)
    rig.see_link(Link(9, "eth9", True, ETH1.mac))
    assert reason(rig) is Reason.NO_SOURCE_ADDRESS
    rig.put("192.0.2.12/24", index=9)
    assert rig.state() is State.BACKUP


def test_a_link_that_is_gone_and_recreated_under_another_index() -> None:
    rig = master()
    actions = rig.lose_link(2)
    assert not only(actions, AddAddresses), "nothing is put back on a link that is gone"
    assert (rig.state(), reason(rig)) == (State.FAULT, Reason.INTERFACE_MISSING)
    assert rig.instance().claim.state is ClaimState.ABSENT
    rig.see_link(replace(ETH0, index=7))
    rig.put("192.0.2.11/24", index=7)
    assert rig.state() is State.BACKUP
    rig.become_master()
    assert HostAddress(7, A.address, 32, ADDRESS_TAG) in rig.kernel.addresses.values()


def test_a_renamed_link_leaves_nothing_behind() -> None:
    rig = master()
    rig.see_link(replace(ETH0, name="lan0"))
    assert rig.state() is State.FAULT
    assert not rig.holds(A)
    assert rig.instance().claim.state is ClaimState.ABSENT


def test_a_new_mac_is_announced_at_once() -> None:
    rig = master(announce_count=1, announce_refresh_ns=0)
    rig.run(5 * S)
    rig.log.clear()
    rig.see_link(replace(ETH0, mac=bytes.fromhex("020000000099")))
    assert len(only(rig.run(0), Announce)) == 1
    rig.see_link(replace(ETH1, mac=bytes.fromhex("020000000098")))
    assert len(only(rig.run(S), Announce)) == 0


def test_a_link_that_goes_takes_along_what_was_still_to_leave_it() -> None:
    there = vip("203.0.113.100/24", "eth1")
    rig = master(vips=(A, there))
    rig.kernel.refusals[RemoveAddresses, there.address] = EPERM
    rig.configure(router(vips=(A,)))
    rig.run(S)
    assert rig.instance().claim.retired
    rig.lose_link(ETH1.index)
    assert rig.instance().claim.is_settled
    assert only(rig.run(S), RemoveAddresses) == []


def test_a_link_concerns_only_the_routers_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of VLANs come up at once: each of them must not look at all the others."""
    elsewhere = router(name="api", interface="eth1", vips=(vip("203.0.113.9/24", "eth1"),))
    rig = Rig(router(), elsewhere)
    looked: list[str] = []
    monkeypatch.setattr(Unit, "resync", lambda each, now: looked.append(each.config.name))
    rig.see_link(replace(ETH1, mtu=1400))
    assert looked == ["api"]


def test_the_same_link_said_again_is_nothing() -> None:
    rig = master()
    assert rig.see_link(ETH0) == []


# --- the source of adverts ------------------------------------------------------------------------


@pytest.mark.parametrize("family", list(Family))
def test_f15_f16_a_lost_source_is_a_fault_and_its_return_a_start(family: Family) -> None:
    rig = Rig(router(family))
    rig.become_master()
    text = "192.0.2.11/24" if family is Family.IPV4 else "fe80::11/64"
    actions = rig.take_away(OWN[family])
    assert (rig.state(), reason(rig)) == (State.FAULT, Reason.NO_SOURCE_ADDRESS)
    assert "RemoveAddresses" in kinds(actions)
    assert priorities(actions) == [], "no source is left to say goodbye from"
    rig.put(text)
    assert (rig.state(), reason(rig)) == (State.BACKUP, Reason.RECOVERED)


def test_enc5_a_lower_second_address_does_not_flip_the_source() -> None:
    rig = master()
    rig.put("192.0.2.2/24")
    rig.log.clear()
    rig.run(5 * S)
    assert {sent.source for _, sent in rig.times(SendAdvert)} == {OWN[Family.IPV4]}
    assert not rig.times_of(NoteKind.SOURCE_CHANGED)


def test_a_source_that_changes_is_told_at_once() -> None:
    rig = master()
    rig.put("192.0.2.2/24")
    actions = rig.take_away(OWN[Family.IPV4])
    assert [sent.source for sent in only(actions, SendAdvert)] == [parse_address("192.0.2.2")]
    assert len(notes(actions, NoteKind.SOURCE_CHANGED)) == 1
    assert rig.state() is State.MASTER
    assert rig.instance().election.standing.sources["web"] == parse_address("192.0.2.2")


def test_a_configured_source_is_waited_for() -> None:
    rig = Rig(router(source=parse_address("192.0.2.12")))
    assert rig.state() is State.FAULT
    rig.put("192.0.2.12/24")
    assert rig.state() is State.BACKUP
    assert only(rig.become_master(), SendAdvert)[0].source == parse_address("192.0.2.12")


def test_a_configured_source_may_be_the_vip_of_an_owner() -> None:
    own = router(name="own", priority=255, vips=(vip("192.0.2.12/24"),))
    rig = Rig(own, router(vrid=52, source=parse_address("192.0.2.12")))
    assert rig.state() is State.FAULT
    rig.put("192.0.2.12/24")
    assert rig.state() is State.BACKUP


def test_a_tentative_source_is_waited_for() -> None:
    rig = Rig(router(Family.IPV6))
    rig.take_away(OWN[Family.IPV6])
    entry = HostAddress(2, OWN[Family.IPV6], 64, tentative=True)
    rig.feed(*rig.kernel.put(entry))
    assert rig.state() is State.FAULT
    rig.feed(*rig.kernel.put(replace(entry, tentative=False)))
    assert rig.state() is State.BACKUP


# --- stop -----------------------------------------------------------------------------------------


def test_finished_is_said_once_after_everything_and_last() -> None:
    rig = Rig(router(), router(name="api", vrid=52, vips=(B,)))
    rig.become_master("web")
    rig.become_master("api")
    actions = rig.stop()
    assert priorities(actions) == [0, 0]
    assert actions[-1] == Finished()
    rig.stop()
    rig.run(100 * S)
    assert len(rig.times(Finished)) == 1
    assert not rig.holds(A)
    assert not rig.holds(B)


def test_fsm7_priority_zero_is_sent_once_although_the_stop_is_repeated() -> None:
    rig = master()
    rig.obeys = False
    rig.stop()
    rig.stop()
    rig.obeys = True
    while rig.orders:
        rig.feed(*rig.carry_out(rig.orders.popleft()))
    rig.stop()
    assert priorities(rig.log_actions).count(0) == 1
    assert len(rig.times(Finished)) == 1


def test_a_stop_before_the_first_dump_starts_nothing_later() -> None:
    rig = Rig(router(), sync=False)
    assert only(rig.stop(), Finished)
    rig.feed(rig.kernel.dump())
    assert kinds(rig.run(100 * S)) == []
    assert rig.state() is State.INIT


def test_a_reload_after_the_stop_is_ignored() -> None:
    rig = master()
    rig.stop()
    rig.configure(router(), router(name="api", vrid=52, vips=(B,)))
    assert set(rig.node.units) == {"web"}


def test_a_stop_during_a_fault_finishes_at_once() -> None:
    rig = Rig(router())
    rig.see_link(FORWARD)
    assert kinds(rig.stop()) == ["Finished"]
    rig.see_link(ETH0)
    assert rig.state() is State.INIT


# --- reload ---------------------------------------------------------------------------------------


def test_an_unchanged_master_is_not_touched() -> None:
    rig = master()
    assert kinds(rig.configure(router())) == []
    assert rig.state() is State.MASTER


def test_a_changed_priority_is_told_in_place() -> None:
    rig = master()
    actions = rig.configure(router(priority=120, announce_count=3))
    assert priorities(actions) == [120]
    assert kinds(actions) == ["SendAdvert"]


@pytest.mark.parametrize(
    "changes",
    [{"vrid": 52}, {"version": 2}, {"unicast_peers": (LOWER[Family.IPV4],)}],
    ids=["vrid", "version", "peers"],
)
def test_another_identity_leaves_before_its_successor_starts(changes: dict[str, object]) -> None:
    rig = master()
    rig.obeys = False
    rig.configure(router(**changes))
    assert "web" not in rig.node.units
    assert len(rig.node.routers()) == 1
    assert len(rig.node.snapshot(rig.now).instances) == 1
    rig.carry_out_next(ShutGate)
    rig.carry_out_next(RemoveAddresses)
    goodbye = rig.times(SendAdvert)[-1][1]
    assert (goodbye.advert.priority, goodbye.advert.vrid) == (0, 51)
    assert goodbye.config == router(vips=()) or goodbye.config.vrid == 51
    assert rig.state() is State.BACKUP
    assert rig.instance().config.members == (router(**changes),)
    assert not rig.holds(A)


def test_a_second_reload_replaces_the_successor_that_waits() -> None:
    rig = master()
    rig.obeys = False
    rig.configure(router(vrid=52))
    rig.configure(router(vrid=53))
    rig.carry_out_next(ShutGate)
    rig.carry_out_next(RemoveAddresses)
    assert rig.instance().config.leader.vrid == 53


def test_a_successor_that_a_stop_overtakes_never_starts() -> None:
    rig = master()
    rig.obeys = False
    rig.configure(router(vrid=52))
    rig.stop()
    rig.carry_out_next(ShutGate)
    assert kinds(rig.carry_out_next(RemoveAddresses))[-1] == "Finished"
    assert not rig.node.units


def test_a_removed_router_releases_and_says_goodbye_once() -> None:
    rig = Rig(router(), router(name="api", vrid=52, vips=(B,)))
    rig.become_master("web")
    rig.become_master("api")
    actions = rig.configure(router(name="api", vrid=52, vips=(B,)))
    assert kinds(actions) == ["ShutGate", "RemoveAddresses", "SendAdvert"]
    assert priorities(actions) == [0]
    assert rig.holds(B)
    assert set(rig.node.units) == {"api"}
    assert all(action.advert.priority for action in only(rig.run(5 * S), SendAdvert))


@pytest.mark.parametrize("order", [("web", "api"), ("api", "web")])
def test_a_vip_that_moves_between_masters_is_never_dropped(order: tuple[str, str]) -> None:
    before = {"web": router(vips=(A, B)), "api": router(name="api", vrid=52, vips=(C,))}
    after = {"web": router(vips=(A,)), "api": router(name="api", vrid=52, vips=(B, C))}
    rig = Rig(*(before[name] for name in order))
    rig.run(4 * S)
    rig.on_action = lambda action: None if rig.holds(A, B, C) else pytest.fail("dropped")
    actions = rig.configure(*(after[name] for name in order))
    assert not only(actions, RemoveAddresses)
    rig.run(20 * S)
    rig.on_action = lambda action: None
    rig.configure(after["api"])
    assert rig.holds(B, C)
    assert not rig.holds(A)


def test_a_vip_of_a_removed_master_stays_with_the_other_master() -> None:
    web, api = router(), router(name="api", vrid=52, vips=(B,))
    rig = Rig(web, api)
    rig.run(4 * S)
    rig.on_action = lambda action: None if rig.holds(A, B) else pytest.fail("dropped")
    rig.configure(replace(api, vips=(A, B)))
    rig.run(5 * S)


def test_a_vip_that_moves_to_a_backup_is_removed() -> None:
    rig = Rig(router(vips=(A, B)), router(name="api", vrid=52, vips=(C,)))
    rig.run(3 * S)
    rig.hear(200, name="api")
    rig.run(S)
    assert (rig.state("web"), rig.state("api")) == (State.MASTER, State.BACKUP)
    rig.configure(router(vips=(A,)), router(name="api", vrid=52, vips=(B, C)))
    assert not rig.holds(B)
    assert rig.holds(A)


@pytest.mark.parametrize("family", list(Family))
def test_a_renamed_master_says_goodbye_with_the_list_it_advertised(family: Family) -> None:
    """Its VIPs belong to its successor by then, but an advert without addresses is none."""
    old = router(family)
    rig = Rig(old)
    rig.become_master()
    actions = rig.configure(replace(old, name="api"))
    assert not rig.holds(*old.vips)
    assert [sent.advert.addresses for sent in only(actions, SendAdvert)] == [old.advertised]
    assert priorities(actions) == [0]
    rig.become_master("api")
    assert rig.holds(*old.vips)


def test_a_vip_that_was_retired_and_is_now_elsewhere_is_not_removed() -> None:
    web, api = router(vips=(A, B)), router(name="api", vrid=52, vips=(C,))
    rig = Rig(web, api)
    rig.run(4 * S)
    rig.kernel.refusals[RemoveAddresses, B.address] = 1
    rig.configure(replace(web, vips=(A,)), api)
    rig.configure(replace(web, vips=(A,)), replace(api, vips=(B, C)))
    rig.kernel.refusals.clear()
    rig.run(S)
    assert rig.holds(B)
    rig.configure(replace(api, vips=(B, C)))
    assert rig.holds(B, C)


def test_what_cannot_be_removed_yet_is_known_until_it_is_gone() -> None:
    rig = master(vips=(A, B))
    rig.kernel.refusals = {(RemoveAddresses, each.address): EPERM for each in (A, B)}
    rig.configure(router(vips=(A,)))
    assert rig.node.vip_keys() == {A.key, B.key}
    rig.configure(router(vrid=52, vips=(C,)))
    assert rig.node.vip_keys() == {A.key, B.key}
    rig.kernel.refusals.clear()
    rig.run(S)
    assert rig.node.vip_keys() == {C.key}


def test_a_leaving_router_does_not_take_what_another_has_now() -> None:
    web, api = router(vips=(A, B)), router(name="api", vrid=52, vips=(C,))
    rig = Rig(web, api)
    rig.run(4 * S)
    rig.kernel.refusals[RemoveAddresses, B.address] = 1
    rig.configure(api)
    rig.configure(replace(api, vips=(B, C)))
    rig.kernel.refusals.clear()
    rig.run(S)
    assert rig.holds(B, C)
    assert len(rig.node.routers()) == 1


# --- the wire -------------------------------------------------------------------------------------


def test_three_adverts_that_fail_are_a_fault_and_it_ends() -> None:
    rig = master()
    rig.send_errno = 100
    rig.run(2 * S)
    assert rig.state() is State.MASTER
    rig.run(S)
    assert (rig.state(), reason(rig)) == (State.FAULT, Reason.SEND_REFUSED)
    assert not rig.holds(A)
    rig.send_errno = 0
    rig.run(S)
    assert rig.state() is State.BACKUP
    assert rig.counters()["adverts_failed"] == 4  # the goodbye too


def test_an_advert_that_got_through_forgives_the_failures_before_it() -> None:
    rig = master()
    for _ in range(5):
        rig.send_errno = 100
        rig.run(2 * S)
        rig.send_errno = 0
        rig.run(S)
    assert rig.state() is State.MASTER


def test_a_goodbye_that_failed_does_not_count_against_the_next_mastership() -> None:
    rig = master()
    rig.send_errno = 100
    rig.run(3 * S)
    rig.run(S)
    rig.run(rig.instance().election.master_down_ns)
    assert rig.state() is State.MASTER
    rig.run(S)
    assert rig.state() is State.MASTER


def test_events_for_routers_that_are_gone_do_nothing() -> None:
    rig = Rig(router())
    gone = [
        AdvertHeard("old", LOWER[Family.IPV4], advert(100)),
        AdvertSent("old"),
        GateShut("old"),
    ]
    assert rig.feed(*gone) == []


def test_notes_of_discards_are_limited_and_counted() -> None:
    rig = Rig(router())
    for _ in range(10):
        rig.feed(AdvertRejected("web", DiscardReason.TTL, LOWER[Family.IPV4]))
    rig.feed(AdvertRejected("web", DiscardReason.CHECKSUM, None))
    assert len(rig.times_of(NoteKind.ADVERT_DISCARDED)) == 2
    rig.hear(200)
    rig.now += 61 * S
    (note,) = notes(
        rig.feed(AdvertRejected("web", DiscardReason.TTL, None)), NoteKind.ADVERT_DISCARDED
    )
    assert note.fields["held_back"] == 9
    assert rig.node.snapshot(rig.now).instances[0].discarded["ttl"] == 11


def test_discards_without_a_router_are_counted_and_other_groups_not_noted() -> None:
    rig = Rig(router())
    for _ in range(3):
        rig.feed(AdvertRejected("", DiscardReason.VRID, LOWER[Family.IPV4]))
        rig.feed(AdvertRejected("", DiscardReason.TTL, LOWER[Family.IPV4]))
    rig.feed(AdvertRejected("", DiscardReason.LENGTH, None))
    assert len(rig.times_of(NoteKind.ADVERT_DISCARDED)) == 2
    counted = rig.node.snapshot(rig.now).discarded_without_instance
    assert (counted["vrid"], counted["ttl"], counted["length"]) == (3, 3, 1)


def test_fsm8_a_second_owner_is_noted_but_not_for_every_advert() -> None:
    rig = Rig(router(priority=255, vips=(vip("192.0.2.11/24"),)))
    for _ in range(5):
        heard = AdvertHeard("web", LOWER[Family.IPV4], advert(255), (Remark.SECOND_OWNER,))
        rig.feed(heard)
    assert len(rig.times_of(NoteKind.ADVERT_REMARKED)) == 1
    assert rig.counters()["remarks.second-owner"] == 5


def test_f14_the_note_of_a_duplicate_address_is_limited() -> None:
    rig = master()
    for _ in range(100):
        rig.hear(100, OWN[Family.IPV4])
    assert len(rig.times_of(NoteKind.DUPLICATE_ADDRESS)) == 1


def test_counters_tell_what_happened() -> None:
    rig = master()
    rig.hear(0)
    rig.hear(200)
    values = rig.counters()
    assert values["adverts_received"] == 2
    assert values["priority_zero_received"] == 1
    assert values["adverts_sent"] == 3  # as master, in answer to the leaving one, the last word
    assert values["transitions"] == 4  # to BACKUP, CANDIDATE, MASTER, BACKUP


def test_fsm3_two_equal_nodes_end_with_exactly_one_master() -> None:
    rigs = [Rig(router()), Rig(router())]
    rigs[1].kernel.drop(HostAddress(2, OWN[Family.IPV4], 24))
    rigs[1].kernel.put(HostAddress(2, HIGHER[Family.IPV4], 24))
    rigs[1].feed(rigs[1].kernel.dump())
    for rig in rigs:
        rig.become_master()
    sources = [only(rig.log_actions, SendAdvert)[0].source for rig in rigs]
    rigs[0].hear(100, sources[1])
    rigs[1].hear(100, sources[0])
    assert [rig.state() for rig in rigs] == [State.BACKUP, State.MASTER]
    assert [rig.holds(A) for rig in rigs] == [False, True]


# --- stalls ---------------------------------------------------------------------------------------


def test_tmr4_a_backup_that_was_stopped_reads_before_it_acts() -> None:
    rig = Rig(router())
    rig.hear(200)
    rig.now += 5 * S
    rig.feed(LoopStalled(2 * S))
    assert rig.node.deadline() is None
    assert kinds(rig.feed(DeadlinePassed())) == []
    rig.hear(200)
    rig.feed(StallDrained())
    assert rig.run(0) == []
    assert rig.state() is State.BACKUP


def test_a_backup_that_heard_nothing_during_its_stall_takes_over_after_it() -> None:
    rig = Rig(router())
    rig.now += 5 * S
    rig.feed(LoopStalled(2 * S), StallDrained())
    rig.run(0)
    assert rig.state() is State.MASTER


def test_a_master_that_stalled_briefly_just_goes_on() -> None:
    rig = master()
    rig.now += 3 * S - 1
    assert kinds(rig.feed(LoopStalled(2 * S - 1), StallDrained())) == []
    assert priorities(rig.run(0)) == [100]


def test_a_master_counts_its_silence_not_its_lateness() -> None:
    """Peers count from our last advert, which is an interval before the one that is late."""
    rig = master()
    rig.now += 3 * S
    rig.feed(LoopStalled(2 * S))
    assert rig.run(0) == []
    rig.hear(1)
    assert rig.state() is State.BACKUP


def test_a_master_that_stalled_long_and_heard_nobody_says_so_again() -> None:
    rig = master()
    rig.run(5 * S)
    rig.now += 4 * S
    rig.log.clear()
    stalled = rig.feed(LoopStalled(3 * S))
    assert notes(stalled, NoteKind.LOOP_STALLED)[0].fields["late_ms"] == 3000
    assert rig.run(0) == []
    assert priorities(rig.feed(StallDrained())) == [100]
    assert "Announce" in kinds(rig.run(0))
    assert rig.state() is State.MASTER


def test_a_master_that_was_overtaken_leaves_without_goodbye() -> None:
    rig = master()
    rig.now += 4 * S
    rig.feed(LoopStalled(3 * S))
    actions = rig.hear(1)
    assert kinds(actions) == ["ShutGate", "RemoveAddresses"]
    rig.feed(StallDrained())
    assert rig.state() is State.BACKUP
    assert 0 not in priorities(rig.log_actions)


# --- what is shown, and what it costs -------------------------------------------------------------


def test_a_snapshot_shows_the_node_as_it_is() -> None:
    rig = master()
    shown = rig.node.snapshot(rig.now)
    (web,) = shown.instances
    assert (shown.node, shown.generation) == ("lb1", 1)
    assert (web.state, web.claim) == (State.MASTER, ClaimState.PRESENT)
    assert web.master is not None
    assert (web.master.node, web.master.address) == ("lb1", "192.0.2.11")
    assert [each.present for each in web.vips] == [True]
    rig.hear(200)
    followed = rig.node.snapshot(rig.now).instances[0].master
    assert followed is not None
    assert (followed.node, followed.address, followed.priority) == ("", "192.0.2.9", 200)
    rig.see_link(FORWARD)
    broken = rig.node.snapshot(rig.now).instances[0]
    assert broken.faults == ("interface-down: eth0",)
    assert broken.master is None
    before_start = Rig(router(), sync=False)
    assert before_start.node.snapshot(0).instances[0].source == ""


def test_a_snapshot_and_a_deadline_change_nothing() -> None:
    rig = master()
    first = rig.node.snapshot(rig.now)
    rig.node.deadline()
    assert rig.node.snapshot(rig.now) == first


@pytest.mark.parametrize("family", list(Family))
def test_the_cost_of_a_thousand_vips_grows_no_faster_than_their_number(family: Family) -> None:
    """Ten times the VIPs may cost fifty times, never the hundred of a quadratic walk."""

    def cost(count: int) -> float:
        best = 1e9
        for _ in range(3):
            rig = Rig(router(family, vips=many_vips(family, count), announce_count=1))
            begin = perf_counter()
            rig.become_master()
            rig.feed(rig.kernel.dump())
            rig.stop()
            best = min(best, perf_counter() - begin)
        return best

    assert cost(2000) < 50 * cost(200)


def test_a_configuration_is_data_only() -> None:
    rig = Rig()
    rig.feed(Configured(NodeConfig("lb1", ())))
    assert rig.feed(AddressSeen(HostAddress(2, C.address, 24))) == []
