"""Tracking: what checks and interfaces are worth, and what follows from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core.rig import (
    ETH1,
    LOWER,
    MS,
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
from vipd.core.actions import SendAdvert
from vipd.core.events import AdvertHeard, HealthReported
from vipd.core.track import Tracker, effective_priority
from vipd.model import (
    Contribution,
    Family,
    Health,
    NoteKind,
    Reason,
    State,
    Track,
    TrackKind,
    Verdict,
)

GOOD, BAD, NONE = Health.HEALTHY, Health.UNHEALTHY, Health.UNKNOWN
CHECK, INTERFACE = TrackKind.CHECK, TrackKind.INTERFACE


def check(weight: int | None = None, **more: object) -> Track:
    return Track(CHECK, "nginx", weight, **more)  # type: ignore[arg-type]


def report(rig: Rig, *verdicts: tuple[str, Health]) -> list[object]:
    return list(rig.feed(HealthReported(tuple(Verdict(name, each) for name, each in verdicts))))


def judge(track: Track, verdict: Verdict | None, up: bool = True) -> tuple[int, list[Reason], str]:
    verdicts = {} if verdict is None else {verdict.check: verdict}
    judgement = Tracker((track,)).judge(verdicts, lambda _name: up, 0)
    worth = sum(part.weight for part in judgement.contributions)
    return worth, [reason for reason, _ in judgement.faults], judgement.pending


@pytest.mark.parametrize(
    ("weight", "reverse", "health", "worth", "is_fault"),
    [
        (20, False, GOOD, 20, False),
        (20, False, BAD, 0, False),
        (20, False, NONE, 0, False),
        (-20, False, GOOD, 0, False),
        (-20, False, BAD, -20, False),
        (-20, False, NONE, 0, False),
        (20, True, GOOD, -20, False),
        (20, True, BAD, 0, False),
        (-20, True, GOOD, 0, False),
        (-20, True, BAD, 20, False),
        (None, False, GOOD, 0, False),
        (None, False, BAD, 0, True),
        (None, False, NONE, 0, False),
        (None, True, GOOD, 0, True),
        (None, True, BAD, 0, False),
    ],
)
def test_signs_are_keepaliveds(
    weight: int | None, reverse: bool, health: Health, worth: int, is_fault: bool
) -> None:
    track = check(weight, reverse=reverse)
    faults = [Reason.CHECK_FAILED] if is_fault else []
    assert judge(track, Verdict("nginx", health)) == (worth, faults, "")


@pytest.mark.parametrize(
    ("weight", "number", "worth", "is_fault"),
    [(None, -20, -20, False), (2, 10, 20, False), (-1, 30, -30, False), (None, -254, -254, True)],
)
def test_a_number_is_the_weight(
    weight: int | None, number: int, worth: int, is_fault: bool
) -> None:
    faults = [Reason.CHECK_FAILED] if is_fault else []
    assert judge(check(weight), Verdict("nginx", GOOD, number)) == (worth, faults, "")


def test_a_number_that_cannot_be_read_is_worth_nothing_or_a_fault() -> None:
    assert judge(check(2), Verdict("nginx", BAD)) == (0, [], "")
    assert judge(check(), Verdict("nginx", BAD)) == (0, [Reason.CHECK_FAILED], "")


def test_only_a_track_that_waits_is_pending() -> None:
    assert judge(check(waits=True), None) == (0, [], "nginx")
    assert judge(check(waits=True), Verdict("nginx", BAD))[2] == ""
    assert judge(check(), None) == (0, [], "")


def test_interfaces_count_by_their_link() -> None:
    assert judge(Track(INTERFACE, "eth1", -30), None, up=False) == (-30, [], "")
    fault = [Reason.TRACKED_INTERFACE_DOWN]
    assert judge(Track(INTERFACE, "eth1"), None, up=False) == (0, fault, "")


def test_a_flapping_interface_counts_only_after_its_debounce_time() -> None:
    tracker = Tracker((Track(INTERFACE, "eth1", -30, debounce_ns=2 * S),))

    def worth(up: bool, now: int) -> int:
        return sum(p.weight for p in tracker.judge({}, lambda _: up, now).contributions)

    assert worth(True, 0) == 0
    assert (worth(False, S), tracker.deadline) == (0, 3 * S)
    assert (worth(True, 2 * S), tracker.deadline) == (0, None)  # the time starts anew
    assert (worth(False, 4 * S), tracker.deadline) == (0, 6 * S)
    assert worth(False, 6 * S - 1) == 0
    assert (worth(False, 6 * S), tracker.deadline) == (-30, None)
    assert (worth(True, 7 * S), worth(True, 9 * S)) == (-30, 0)


@pytest.mark.parametrize(
    ("base", "weights", "effective"),
    [(100, [20, -5], 115), (100, [-253], 1), (250, [50], 254), (255, [-60], 255), (1, [], 1)],
)
def test_the_sum_never_says_i_leave_or_i_own(base: int, weights: list[int], effective: int) -> None:
    parts = [Contribution(str(at), weight) for at, weight in enumerate(weights)]
    assert effective_priority(base, parts) == effective


# --- in a node ----------------------------------------------------------------------------------


def tracked(*tracks: Track, **changes: object) -> Rig:
    return Rig(router(track=tracks, **changes))


def test_a_change_of_priority_is_advertised_at_once_and_noted() -> None:
    rig = tracked(check(-60))
    report(rig, ("nginx", GOOD))
    rig.become_master()
    rig.run(300 * MS)
    actions = report(rig, ("nginx", BAD))
    assert priorities(actions) == [40]
    note = notes(actions, NoteKind.PRIORITY_CHANGED)[0]
    assert dict(note.fields) == {"priority": 40, "was": 100, "because": "nginx"}
    shot = rig.node.snapshot(rig.now).instances[0]
    assert (shot.priority_base, shot.priority_effective) == (100, 40)
    assert shot.contributions == (Contribution("nginx", -60),)
    assert priorities(rig.run(S)) == [40]  # and one interval after that, not before
    assert priorities(report(rig, ("nginx", GOOD))) == [100]


def test_a_priority_that_a_reload_changes_is_noted() -> None:
    rig = tracked(check(-60))
    report(rig, ("nginx", BAD))
    actions = rig.configure(router(track=(check(-60),), priority=120))
    noted = [dict(note.fields) for note in notes(actions, NoteKind.PRIORITY_CHANGED)]
    assert noted == [{"priority": 60, "was": 40, "because": "configuration"}]


def test_the_same_report_again_changes_nothing() -> None:
    rig = tracked(check(-60))
    report(rig, ("nginx", BAD))
    rig.become_master()
    report(rig, ("nginx", BAD))
    assert report(rig, ("nginx", BAD)) == []


def test_a_failed_check_without_weight_is_a_fault_that_releases_first() -> None:
    rig = tracked(check())
    report(rig, ("nginx", GOOD))
    rig.become_master()
    actions = report(rig, ("nginx", BAD))
    assert kinds(actions) == ["ShutGate", "RemoveAddresses", "SendAdvert"]
    assert priorities(actions) == [0]
    assert rig.state() is State.FAULT
    assert rig.instance().faults == {Reason.CHECK_FAILED: "nginx"}
    report(rig, ("nginx", GOOD))
    assert rig.state() is State.BACKUP


def test_two_failed_checks_are_both_named_and_both_must_recover() -> None:
    rig = tracked(check(), Track(CHECK, "db"))
    report(rig, ("nginx", BAD), ("db", BAD))
    assert rig.instance().faults == {Reason.CHECK_FAILED: "nginx, db"}
    report(rig, ("nginx", GOOD), ("db", BAD))
    assert rig.state() is State.FAULT
    report(rig, ("nginx", GOOD), ("db", GOOD))
    assert rig.state() is State.BACKUP


def test_no_start_before_the_first_verdict_that_is_waited_for() -> None:
    rig = tracked(check(waits=True))
    assert rig.state() is State.INIT
    assert rig.instance().election.reason is Reason.CHECK_PENDING
    assert rig.instance().election.detail == "nginx"
    rig.run(60 * S)
    assert rig.state() is State.INIT
    report(rig, ("nginx", GOOD))
    assert (rig.state(), rig.instance().election.reason) == (State.BACKUP, Reason.STARTUP)
    rig.become_master()


def test_a_first_verdict_that_is_bad_is_a_fault_without_a_start() -> None:
    rig = tracked(check(waits=True))
    report(rig, ("nginx", BAD))
    assert rig.state() is State.FAULT
    assert only(rig.log_actions, SendAdvert) == []


def test_a_new_check_neither_ends_a_mastership_nor_lets_a_backup_take_over() -> None:
    for begin, end in ((State.MASTER, State.MASTER), (State.BACKUP, State.INIT)):
        rig = Rig(router())
        if begin is State.MASTER:
            rig.become_master()
        rig.configure(router(track=(check(waits=True),)))
        assert rig.state() is end
        rig.run(30 * S)
        assert rig.state() is end
        report(rig, ("nginx", GOOD))
        assert rig.state() is begin


@pytest.mark.parametrize("track", [check(60), check(waits=True)])
def test_a_check_that_a_reload_removes_counts_until_the_reload(track: Track) -> None:
    """The supervisor says what it still checks before it says the new configuration."""
    for state in (State.BACKUP, State.MASTER):
        rig = tracked(track)
        report(rig, ("nginx", GOOD))
        if state is State.MASTER:
            rig.run(4 * S)
        assert rig.state() is state
        report(rig, ("nginx", GOOD))
        assert report(rig, ("db", GOOD)) == []
        actions = rig.configure(router(priority=160, track=()))
        assert notes(actions, NoteKind.TRANSITION) == []
        assert set(priorities(actions)) <= {160}
        rig.configure(router(priority=100, track=(check(-20),)))
        assert rig.node.snapshot(rig.now).instances[0].tracks[0].health is NONE


def test_a_fault_that_ends_while_a_check_is_pending_goes_to_init() -> None:
    rig = tracked(check(waits=True))
    rig.see_link(replace(ETH1, up=False))
    rig.see_link(replace(rig.kernel.links[2], up=False))
    assert rig.state() is State.FAULT
    rig.see_link(replace(rig.kernel.links[2], up=True))
    assert (rig.state(), rig.instance().election.detail) == (State.INIT, "nginx")


def test_a_tracked_interface_follows_its_link_with_debounce() -> None:
    rig = tracked(Track(INTERFACE, "eth1", -30, debounce_ns=500 * MS))
    rig.become_master()
    rig.see_link(replace(ETH1, up=False))
    assert rig.instance().election.standing.priority == 100
    rig.run(499 * MS)
    assert rig.instance().election.standing.priority == 100
    actions = rig.run(MS)
    assert priorities(actions) == [70]
    assert notes(actions, NoteKind.PRIORITY_CHANGED)[0].fields["because"] == "interface eth1"


@pytest.mark.parametrize("weight", [-30, None])
def test_what_is_due_together_is_judged_before_it_is_said(weight: int | None) -> None:
    """A late wake-up: the debounce of an interface and the end of the master's silence are due."""
    rig = tracked(Track(INTERFACE, "eth1", weight, debounce_ns=500 * MS))
    rig.see_link(replace(ETH1, up=False))
    rig.now += 10 * S
    actions = rig.run(0)
    assert priorities(actions) == ([] if weight is None else [70])
    assert rig.state() is (State.FAULT if weight is None else State.MASTER)


def test_an_interface_that_does_not_exist_is_down() -> None:
    rig = tracked(Track(INTERFACE, "tun9"))
    assert rig.instance().faults == {Reason.TRACKED_INTERFACE_DOWN: "tun9"}


# --- a master that fell -------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
def test_a_master_that_fell_below_us_is_replaced_after_skew(version: int) -> None:
    rig = Rig(router(version=version))
    rig.hear(150)
    rig.run(200 * MS)
    rig.hear(40)
    skew_ns = rig.instance().election.skew_ns
    assert skew_ns <= S
    rig.run(skew_ns - 1)
    assert rig.state() is State.BACKUP
    rig.run(1)
    assert rig.state() is State.MASTER
    assert rig.instance().election.reason is Reason.LOWER_PRIORITY_MASTER


def test_its_further_adverts_do_not_put_it_off() -> None:
    rig = Rig(router())
    rig.hear(150)
    rig.hear(40)
    due = rig.instance().election.deadline
    rig.run(100 * MS)
    rig.hear(40)
    assert rig.instance().election.deadline == due


@pytest.mark.parametrize("what", ["never-followed", "another", "we-rose", "sticky"])
def test_f8_only_a_followed_master_that_fell_is_replaced_early(what: str) -> None:
    rig = Rig(router(preempt=what != "sticky"))
    before = rig.instance().election.deadline
    if what == "another":
        rig.hear(150, LOWER[Family.IPV4])
        before = rig.instance().election.deadline
        rig.feed(AdvertHeard("web", b"\xc0\x00\x02\x4d", advert(40)))
    elif what == "we-rose":
        rig.hear(150)
        before = rig.instance().election.deadline
        rig.configure(router(priority=200))
        rig.hear(150)
    elif what == "sticky":
        rig.hear(150)
        rig.run(S)
        rig.hear(40)
        before = rig.now + rig.instance().election.master_down_ns
    else:
        rig.hear(40)
    assert rig.instance().election.deadline == before


# --- an old health vector -----------------------------------------------------------------------


def test_a_silent_supervisor_is_an_alarm_and_no_failover() -> None:
    rig = tracked(check())
    report(rig, ("nginx", GOOD))
    rig.become_master()
    report(rig, ("nginx", GOOD))
    assert rig.node.snapshot(rig.now).alarms == ()
    actions = rig.run(3 * S)
    assert len(notes(actions, NoteKind.HEALTH_STALE)) == 1
    rig.run(60 * S)
    assert rig.state() is State.MASTER
    alarms = rig.node.snapshot(rig.now).alarms
    assert [alarm.name for alarm in alarms] == ["stale-checks"]
    fresh = notes(report(rig, ("nginx", GOOD)), NoteKind.HEALTH_FRESH)  # type: ignore[arg-type]
    assert [note.fields["silent_ms"] for note in fresh] == [63_000]
    assert rig.node.snapshot(rig.now).alarms == ()


def test_reports_in_time_keep_the_alarm_away() -> None:
    rig = tracked(check())
    rig.log.clear()
    for _ in range(20):
        report(rig, ("nginx", GOOD))
        rig.run(S)
    assert rig.times_of(NoteKind.HEALTH_STALE) == []


def test_who_tracks_no_check_expects_no_report() -> None:
    rig = Rig(router(vips=(vip(),)))
    rig.run(60 * S)
    assert rig.times_of(NoteKind.HEALTH_STALE) == []
    rig.configure(router(track=(check(),)))
    rig.run(4 * S)
    assert len(rig.times_of(NoteKind.HEALTH_STALE)) == 1
