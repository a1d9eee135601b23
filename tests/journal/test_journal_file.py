"""The journal's file: what it keeps, what it forgets, what it refuses."""

from __future__ import annotations

import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vipd.adapters.journal_entry import Entry, Query, parse_query
from vipd.adapters.journal_file import (
    ALWAYS_KEPT,
    MOST_LOG_BYTES,
    MOST_TABLE_BYTES,
    OLDEST_S,
    FileDamaged,
    JournalFile,
    read_copy,
    set_aside,
)
from vipd.errors import AdapterError

EVERYTHING = Query(limit=1_000_000)


def entry(number: int, subject: str = "web", wall: float | None = None, size: int = 0) -> Entry:
    when = time.time() if wall is None else wall
    return Entry(number, when, 0, "transition", subject, "cause", f'{{"text": "{"x" * size}"}}')


def ids(entries: list[Entry]) -> list[int]:
    return [found.id for found in entries]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def file(path: Path) -> Iterator[JournalFile]:
    opened = JournalFile(path)
    yield opened
    opened.close()


def test_what_was_appended_is_read_back(file: JournalFile) -> None:
    wanted = [entry(1), entry(2, "api"), entry(3)]
    file.append(wanted)
    assert file.read(EVERYTHING) == wanted


def test_without_an_id_the_newest_are_given_and_behind_one_the_first(file: JournalFile) -> None:
    file.append(entry(number) for number in range(1, 10))
    assert ids(file.read(Query(limit=3))) == [7, 8, 9]
    assert ids(file.read(Query(limit=3, after=4))) == [5, 6, 7]


def test_entries_are_chosen_by_subject_and_time(file: JournalFile) -> None:
    file.append([entry(1, "web", 10), entry(2, "api", 20), entry(3, "db", 30), entry(4, "web", 40)])
    assert ids(file.read(Query(limit=9, subjects=("web", "api")))) == [1, 2, 4]
    assert ids(file.read(Query(limit=9, since=20.0))) == [2, 3, 4]


def test_an_id_that_is_taken_makes_way(file: JournalFile) -> None:
    file.append([entry(50)])
    file.append([entry(7, "late"), entry(51)])
    assert [(found.id, found.subject) for found in file.read(EVERYTHING)] == [
        (50, "web"),
        (51, "late"),
        (52, "web"),
    ]


def test_a_full_table_forgets_its_oldest_and_the_files_stay_small(
    file: JournalFile, path: Path
) -> None:
    number = 0
    for _ in range(60):
        file.append(entry(number := number + 1, size=8000) for _ in range(100))
        log = path.with_name("journal.db-wal")
        assert path.stat().st_size + log.stat().st_size <= 16 * 1024 * 1024
    kept = ids(file.read(EVERYTHING))
    assert kept == list(range(kept[0], number + 1))
    assert MOST_TABLE_BYTES // 2 < 8000 * len(kept) <= MOST_TABLE_BYTES
    assert path.stat().st_size <= MOST_TABLE_BYTES + MOST_LOG_BYTES


def test_the_old_go_at_the_next_opening_but_never_the_newest(path: Path) -> None:
    old = time.time() - OLDEST_S - 60
    first = JournalFile(path)
    first.append(entry(number, wall=old) for number in range(1, ALWAYS_KEPT + 6))
    first.append([entry(ALWAYS_KEPT + 6)])
    first.close()
    again = JournalFile(path)
    kept = ids(again.read(EVERYTHING))
    again.close()
    assert kept == list(range(7, ALWAYS_KEPT + 7))


def test_the_file_is_for_root_alone(file: JournalFile, path: Path) -> None:
    file.append([entry(1)])
    for name in (path, path.with_name("journal.db-wal")):
        assert stat.S_IMODE(name.stat().st_mode) == 0o600


def test_nothing_of_the_disk_is_mapped_into_the_process(file: JournalFile, path: Path) -> None:
    file.append([entry(1)])
    assert not path.with_name("journal.db-shm").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"no database at all, but long enough to look at. " * 100,
        b"SQLite format 3\0" + b"\xff" * 9000,
    ],
    ids=["text", "header"],
)
def test_what_is_no_journal_is_named_so_and_set_aside(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(FileDamaged, match=str(path)):
        JournalFile(path)
    aside = set_aside(path)
    assert (aside.name, aside.read_bytes()) == ("journal.db.damaged", content)
    JournalFile(path).close()


def test_a_torn_page_is_found_at_the_opening(path: Path) -> None:
    file = JournalFile(path)
    file.append(entry(number, size=500) for number in range(1, 200))
    file.close()
    data = bytearray(path.read_bytes())
    data[4 * 4096 : 5 * 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    with pytest.raises(FileDamaged):
        JournalFile(path)


def test_a_file_of_another_version_is_not_touched(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE entries (other TEXT)")
    db.execute("PRAGMA user_version=9")
    db.commit()
    db.close()
    with pytest.raises(FileDamaged, match="version is 9"):
        JournalFile(path)


def test_a_directory_that_is_not_there_is_this_hosts_error(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="No such file"):
        JournalFile(tmp_path / "missing" / "journal.db")


def test_a_copy_is_read_while_the_file_is_in_use_and_after(path: Path, file: JournalFile) -> None:
    file.append([entry(1), entry(2)])
    assert ids(read_copy(path, EVERYTHING)) == [1, 2]  # from the log: nothing is checkpointed yet
    file.append([entry(3)])
    file.close()
    before = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    assert ids(read_copy(path, EVERYTHING)) == [1, 2, 3]
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == before


def test_a_journal_that_is_not_there_cannot_be_read(path: Path) -> None:
    with pytest.raises(AdapterError, match="No such file"):
        read_copy(path, EVERYTHING)
    assert not path.exists()


def test_the_parameters_of_a_question() -> None:
    assert parse_query({}) == (Query(limit=1000), 0.0)
    given = {"after": "7", "since": "1.5", "limit": "9", "subject": "web,edge", "wait": "900"}
    query = Query(limit=9, after=7, since=1.5, subjects=("web", "edge"))
    assert parse_query(given) == (query, 60.0)
    assert parse_query({"limit": "99999"})[0].limit == 1000


@pytest.mark.parametrize("text", ["x", "-1", "nan", "inf", "1e300", ""])
def test_parameters_that_are_no_numbers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="after="):
        parse_query({"after": text})
