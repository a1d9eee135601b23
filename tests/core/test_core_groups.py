"""Groups (QUORUM H5): one election, lease and claim for several virtual routers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core.rig import (
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
    notes,
    only,
    priorities,
    router,
    vip,
)
from vipd.core.actions import (
    AddAddresses,
    Announce,
    RemoveAddresses,
    SendAdvert,
)
from vipd.core.events import AdvertFailed, AdvertHeard, Deafened, HealthReported, Undeafened
from vipd.model import (
    Family,
    GroupConfig,
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

A, B = vip("192.0.2.100/24"), vip("203.0.113.100/24", "eth1")
WEB = router(name="web", vrid=51, vips=(A,))
API = router(name="api", vrid=52, interface="eth1", vips=(B,))
EDGE = GroupConfig("edge", ("web", "api"))
PEER = {"web": LOWER[Family.IPV4], "api": parse_address("203.0.113.200")}


def grouped(
    *members: InstanceConfig, group: GroupConfig = EDGE, kernel: object | None = None
) -> Rig:
    rig = Rig()
    rig.configure(*(members or (WEB, API)), groups=(group,))
    return rig


def hear(rig: Rig, name: str, priority: int, source: bytes | None = None) -> list[object]:
    heard = AdvertHeard(name, source or PEER[name], advert(priority))
    return list(rig.feed(heard))


def speakers(actions: object) -> list[str]:
    return [sent.instance for sent in only(actions, SendAdvert)]  # type: ignore[call-overload]


def test_a_group_claims_all_its_vips_in_one_go_and_speaks_for_each_member() -> None:
    rig = grouped()
    actions = rig.become_master("edge")
    assert speakers(actions) == ["web", "api"]
    assert [each.vips for each in only(actions, AddAddresses)] == [
        (replace(A, prefix=32), replace(B, prefix=32))
    ]
    assert rig.holds(A, B)
    assert sum(len(each.vips) for each in only(actions, Announce)) == 2
    assert [s.advert.vrid for s in only(actions, SendAdvert)] == [51, 52]
    assert [s.source for s in only(actions, SendAdvert)] == [
        parse_address("192.0.2.11"),
        parse_address("203.0.113.11"),
    ]
    assert speakers(rig.run(S)) == ["web", "api"]


def test_the_master_is_alive_while_any_member_is_heard() -> None:
    rig = grouped()
    for _ in range(20):
        hear(rig, "api", 150)
        rig.run(S)
    assert rig.state("edge") is State.BACKUP
    rig.run(3 * S)
    assert rig.state("edge") is State.MASTER


@pytest.mark.parametrize("member", ["web", "api"])
def test_a_better_master_on_any_member_ends_the_mastership_of_all(member: str) -> None:
    rig = grouped()
    rig.become_master("edge")
    hear(rig, member, 200)
    assert rig.state("edge") is State.BACKUP
    assert not rig.holds(A)
    assert not rig.holds(B)


def test_a_stop_says_goodbye_for_each_member_after_all_vips_are_gone() -> None:
    rig = grouped()
    rig.become_master("edge")
    actions = rig.stop()
    assert kinds(actions) == ["ShutGate", "RemoveAddresses", "SendAdvert", "SendAdvert", "Finished"]
    assert len(only(actions, RemoveAddresses)[0].vips) == 2
    assert priorities(actions) == [0, 0]


@pytest.mark.parametrize("link", [ETH0, ETH1])
def test_a_fault_of_one_member_is_a_fault_of_all(link: object) -> None:
    rig = grouped()
    rig.become_master("edge")
    rig.see_link(replace(link, up=False))  # type: ignore[type-var]
    assert rig.state("edge") is State.FAULT
    assert not rig.holds(A)
    assert not rig.holds(B)
    states = {shot.state for shot in rig.node.snapshot(rig.now).instances}
    assert states == {State.FAULT}
    rig.see_link(link)  # type: ignore[arg-type]
    assert rig.state("edge") is State.BACKUP


def test_what_two_members_lack_is_named_for_both() -> None:
    rig = grouped()
    rig.see_link(replace(ETH0, up=False))
    rig.see_link(replace(ETH1, up=False))
    assert rig.instance("edge").faults == {Reason.INTERFACE_DOWN: "eth0, eth1"}
    rig.see_link(ETH0)
    assert rig.instance("edge").faults == {Reason.INTERFACE_DOWN: "eth1"}


def test_adverts_that_fail_on_one_member_are_a_fault_of_all() -> None:
    rig = grouped()
    rig.become_master("edge")
    for _ in range(3):
        rig.feed(AdvertFailed("api", 100))
    assert rig.instance("edge").faults == {Reason.SEND_REFUSED: "errno 100"}


def test_a_member_that_cannot_hear_is_a_fault_until_it_can() -> None:
    rig = grouped()
    rig.feed(Deafened("api", 24))
    assert rig.instance("edge").faults == {Reason.CANNOT_LISTEN: "eth1: errno 24"}
    rig.feed(Undeafened("api"))
    assert rig.state("edge") is State.BACKUP


def test_status_shows_each_member_with_its_own_wire_and_the_units_state() -> None:
    rig = grouped()
    hear(rig, "web", 150)
    hear(rig, "api", 150)
    shots = {shot.name: shot for shot in rig.node.snapshot(rig.now).instances}
    assert {shot.unit for shot in shots.values()} == {"edge"}
    assert {name: shot.master.address for name, shot in shots.items() if shot.master} == {
        "web": "192.0.2.9",
        "api": "203.0.113.200",
    }
    assert shots["api"].source == "203.0.113.11"
    assert [shot.counters["adverts_received"] for shot in shots.values()] == [1, 1]
    assert [each.address for each in shots["api"].vips] == ["203.0.113.100/24"]


def test_what_the_group_and_its_members_track_counts_for_all_equal_tracks_once() -> None:
    nginx = Track(TrackKind.CHECK, "nginx", -60)
    uplink = Track(TrackKind.INTERFACE, "eth1", -10)
    group = replace(EDGE, track=(uplink,))
    rig = grouped(replace(WEB, track=(nginx,)), replace(API, track=(nginx,)), group=group)
    rig.feed(HealthReported((Verdict("nginx", Health.UNHEALTHY),)))
    shots = rig.node.snapshot(rig.now).instances
    assert [shot.priority_effective for shot in shots] == [40, 40]
    assert [each.label for each in shots[0].tracks] == ["interface eth1", "nginx"]


# --- ties ---------------------------------------------------------------------------------------


def tied(rig: Rig, name: str, *, higher: bool) -> list[object]:
    own = {"web": "192.0.2.11", "api": "203.0.113.11"}[name]
    source = parse_address(own[:-2] + ("200" if higher else "2"))
    return hear(rig, name, 100, source)


def test_a_tie_is_decided_on_the_first_member_on_which_the_rival_is_heard() -> None:
    """Two nodes, each with the higher address on one member: exactly one may yield."""
    wins = grouped()
    wins.become_master("edge")
    tied(wins, "web", higher=False)
    assert wins.state("edge") is State.MASTER
    tied(wins, "api", higher=True)
    assert wins.state("edge") is State.MASTER

    loses = grouped()
    loses.become_master("edge")
    tied(loses, "web", higher=True)
    assert loses.state("edge") is State.BACKUP


def test_a_tie_on_the_second_member_counts_when_the_first_is_silent() -> None:
    rig = grouped()
    rig.become_master("edge")
    tied(rig, "web", higher=False)
    rig.run(2999 * MS)
    tied(rig, "api", higher=True)
    assert rig.state("edge") is State.MASTER
    rig.run(MS)
    tied(rig, "api", higher=True)
    assert rig.state("edge") is State.BACKUP


def test_the_order_of_ties_is_by_vrid_whatever_the_files_say() -> None:
    rig = grouped(API, WEB, group=replace(EDGE, instances=("api", "web")))
    rig.become_master("edge")
    tied(rig, "web", higher=False)
    tied(rig, "api", higher=True)
    assert rig.state("edge") is State.MASTER


def test_our_own_address_on_a_member_is_a_duplicate_not_a_tie() -> None:
    rig = grouped()
    rig.become_master("edge")
    actions = hear(rig, "web", 100, OWN[Family.IPV4])
    assert len(notes(actions, NoteKind.DUPLICATE_ADDRESS)) == 1  # type: ignore[arg-type]
    assert rig.state("edge") is State.MASTER


# --- reload -------------------------------------------------------------------------------------


def test_another_priority_of_the_group_changes_it_in_place() -> None:
    rig = grouped()
    rig.become_master("edge")
    actions = rig.configure(replace(WEB, priority=120), replace(API, priority=120), groups=(EDGE,))
    assert priorities(actions) == [120, 120]
    assert rig.state("edge") is State.MASTER


def test_an_instance_that_joins_a_group_leaves_properly_first() -> None:
    rig = Rig(WEB, API)
    rig.run(4 * S)
    assert (rig.state("web"), rig.state("api")) == (State.MASTER, State.MASTER)
    actions = rig.configure(WEB, API, groups=(EDGE,))
    assert priorities(actions) == [0, 0]
    assert rig.state("edge") is State.BACKUP
    rig.become_master("edge")
    assert rig.holds(A, B)
    actions = rig.configure(WEB, API)
    assert priorities(actions) == [0, 0]
    rig.run(4 * S)
    assert (rig.state("web"), rig.state("api")) == (State.MASTER, State.MASTER)


def test_an_owner_group_holds_what_the_host_has() -> None:
    members = (
        router(name="web", priority=255, vips=(vip("192.0.2.11/24"),)),
        router(
            name="api",
            vrid=52,
            interface="eth1",
            priority=255,
            vips=(vip("203.0.113.11/24", "eth1"),),
        ),
    )
    rig = grouped(*members)
    assert rig.state("edge") is State.MASTER
    assert only(rig.log_actions, AddAddresses) == []


def test_a_rival_of_higher_address_is_not_followed_into_two_groups() -> None:
    """Groups are units of their own: what ends one leaves the other alone."""
    other = router(name="db", vrid=60, vips=(vip("192.0.2.110/24"),))
    rig = Rig()
    rig.configure(WEB, API, other, groups=(EDGE,))
    rig.run(4 * S)
    rig.feed(AdvertHeard("web", HIGHER[Family.IPV4], advert(200)))
    assert (rig.state("edge"), rig.state("db")) == (State.BACKUP, State.MASTER)
