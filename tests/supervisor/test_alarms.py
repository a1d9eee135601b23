"""Alarms begin once, end once, and say what to do."""

from __future__ import annotations

from vipd.model import SECOND_NS as S
from vipd.model import Alarm, Note, NoteKind
from vipd.supervisor import alarms as module
from vipd.supervisor.alarms import CURES, QUIET_NS, Alarms


class Rig:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, bool]] = []
        self.alarms = Alarms(
            lambda alarm, begins: self.told.append((alarm.name, alarm.subject, begins))
        )

    def standing(self, now: int = 0) -> list[tuple[str, str, str]]:
        shown = self.alarms.list(now, 0.0)
        return [(alarm["name"], alarm["subject"], alarm["detail"]) for alarm in shown]


def test_every_name_has_a_cure_that_is_a_sentence() -> None:
    names = {
        value
        for key, value in vars(module).items()
        if key.isupper() and isinstance(value, str) and key != "HEALTH"
    }
    assert set(CURES) == names
    assert all(cure.endswith(".") for cure in CURES.values())


def test_an_alarm_begins_once_keeps_its_beginning_and_ends_once() -> None:
    rig = Rig()
    rig.alarms.set("hook-failed", "web", "exit 1", 10 * S)
    rig.alarms.set("hook-failed", "web", "exit 2", 20 * S)
    assert rig.alarms.list(30 * S, 1000.0) == [
        {
            "name": "hook-failed",
            "since": 980.0,
            "subject": "web",
            "detail": "exit 2",
            "cure": CURES["hook-failed"],
        }
    ]
    rig.alarms.set("hook-failed", "web", None, 40 * S)
    rig.alarms.clear("hook-failed", "web")
    assert rig.standing() == []
    assert rig.told == [("hook-failed", "web", True), ("hook-failed", "web", False)]


def test_subjects_are_apart_and_the_oldest_comes_first() -> None:
    rig = Rig()
    rig.alarms.set("hook-failed", "web", "b", 2)
    rig.alarms.set("hook-failed", "api", "a", 1)
    assert rig.standing() == [("hook-failed", "api", "a"), ("hook-failed", "web", "b")]


def test_the_engines_alarms_are_replaced_by_its_next_word() -> None:
    rig = Rig()
    rig.alarms.set("journal-not-written", "", "full", 5)
    rig.alarms.take([Alarm("stale-checks", 3, "health", "no report")])
    assert [name for name, *_ in rig.standing()] == ["stale-checks", "journal-not-written"]
    rig.alarms.take([])
    assert [name for name, *_ in rig.standing()] == ["journal-not-written"]
    assert rig.told[-1] == ("stale-checks", "health", False)


def test_a_watcher_replaces_its_own_alarms_of_a_name_and_not_the_engines() -> None:
    rig = Rig()
    rig.alarms.take([Alarm("stale-checks", 1, "health", "no report")])
    rig.alarms.replace_all("stale-checks", {"nginx": "hangs", "db": "hangs"}, 2)
    rig.alarms.replace_all("stale-checks", {"db": "hangs on"}, 3)
    assert rig.standing() == [
        ("stale-checks", "health", "no report"),
        ("stale-checks", "db", "hangs on"),
    ]


def test_a_repeated_sign_keeps_its_alarm_until_it_has_stayed_away() -> None:
    rig = Rig()
    note = Note(NoteKind.DUPLICATE_ADDRESS, "web", {"source": "192.0.2.11"})
    rig.alarms.hear(note, 0)
    rig.alarms.hear(note, 100 * S)
    rig.alarms.expire(QUIET_NS)
    assert rig.standing() == [
        ("duplicate-node", "web", "another host sends adverts from 192.0.2.11")
    ]
    rig.alarms.expire(100 * S + QUIET_NS - 1)
    assert len(rig.told) == 1
    rig.alarms.expire(100 * S + QUIET_NS)
    assert rig.standing() == []
    assert rig.told == [("duplicate-node", "web", True), ("duplicate-node", "web", False)]


def test_the_engines_note_does_not_wait_for_its_snapshot() -> None:
    rig = Rig()
    rig.alarms.hear(Note(NoteKind.HEALTH_STALE, "", {"silent_ms": 3000}), 7)
    assert rig.standing() == [("stale-checks", "health", "no report of any check")]
    rig.alarms.take([Alarm("stale-checks", 5, "health", "no report of any check")])
    rig.alarms.hear(Note(NoteKind.HEALTH_FRESH, "", {"silent_ms": 4000}), 9)
    assert rig.told == [("stale-checks", "health", True), ("stale-checks", "health", False)]


def test_other_notes_raise_no_alarm() -> None:
    rig = Rig()
    for kind in set(NoteKind) - {NoteKind.DUPLICATE_ADDRESS, NoteKind.HEALTH_STALE}:
        rig.alarms.hear(Note(kind, "web", {}), 0)
    assert rig.standing() == []
