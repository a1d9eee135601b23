"""The loop's half of the journal: it answers from memory, and never waits for the file."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from vipd.adapters import journal as module
from vipd.adapters.journal import MOST_QUEUED, MOST_REMEMBERED, Journal
from vipd.adapters.journal_entry import Entry, Query
from vipd.adapters.journal_file import JournalFile, read_copy

PATIENCE_S = 20.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def written(journal: Journal, number: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while journal.written < number:
            await asyncio.sleep(0.002)


def numbers(answer: dict[str, Any]) -> list[int]:
    return [event["fields"]["n"] for event in answer["events"]]


def test_an_entry_has_time_kind_subject_cause_and_fields(path: Path) -> None:
    async def run() -> dict[str, Any]:
        journal = Journal.open(path)
        number = journal.add("check", "nginx", {"health": "unhealthy", "last_ms": 3}, "refused")
        event = journal.newest(("nginx",), 1)[0]
        assert event["id"] == number
        await journal.close()
        return event

    event = asyncio.run(run())
    assert list(event) == ["id", "time", "boottime_ns", "kind", "subject", "cause", "fields"]
    assert (event["kind"], event["subject"], event["cause"]) == ("check", "nginx", "refused")
    assert event["fields"] == {"health": "unhealthy", "last_ms": 3}
    assert [found.as_values() for found in read_copy(path, Query(limit=9))] == [event]


def test_the_next_run_knows_the_last_one_and_ids_go_on(path: Path) -> None:
    async def run(n: int) -> dict[str, Any]:
        journal = Journal.open(path)
        journal.add("transition", "web", {"n": n})
        answer = await journal.answer(Query(limit=9))
        await journal.close()
        return answer

    answers = [asyncio.run(run(n)) for n in (1, 2, 3)]
    assert [numbers(answer) for answer in answers] == [[1], [1, 2], [1, 2, 3]]
    found = [event["id"] for event in answers[-1]["events"]]
    assert found == sorted(set(found))
    assert answers[-1]["last"] == found[-1]


def test_a_follower_misses_nothing_over_a_restart(path: Path) -> None:
    async def first() -> int:
        journal = Journal.open(path)
        journal.add("transition", "web", {"n": 1})
        seen = int((await journal.answer(Query(limit=9)))["last"])
        journal.add("transition", "web", {"n": 2})
        await journal.close()
        return seen

    async def second(seen: int) -> dict[str, Any]:
        journal = Journal.open(path)
        journal.add("transition", "web", {"n": 3})
        answer = await journal.answer(Query(limit=9, after=seen))  # asked before the file is read
        await journal.close()
        return answer

    assert numbers(asyncio.run(second(asyncio.run(first())))) == [2, 3]


def test_ids_grow_even_when_the_file_is_lost(path: Path) -> None:
    async def run() -> int:
        journal = Journal.open(path)
        number = journal.add("transition", "web", {})
        await journal.close()
        return number

    before = asyncio.run(run())
    path.unlink()
    assert asyncio.run(run()) > before


def test_what_memory_has_no_more_is_read_from_the_file(path: Path) -> None:
    async def run() -> None:
        journal = Journal.open(path)
        many = MOST_REMEMBERED + 500
        for n in range(many):
            journal.add("check", "nginx" if n % 2 else "", {"n": n})
            if n % 100 == 0:
                await written(journal, journal.written)
                await asyncio.sleep(0.01)
        begin = await journal.answer(Query(limit=600, after=0))
        assert numbers(begin) == list(range(600))
        rest = await journal.answer(Query(limit=many, after=begin["last"]))
        assert numbers(rest) == list(range(600, many))
        newest = await journal.answer(Query(limit=many, subjects=("nginx",)))
        assert numbers(newest) == list(range(1, many, 2))
        assert numbers(await journal.answer(Query(limit=2))) == [many - 2, many - 1]
        await journal.close()

    asyncio.run(run())


def test_who_waits_is_woken_by_the_next_entry_or_by_the_time(path: Path) -> None:
    async def run() -> None:
        journal = Journal.open(path)
        last = journal.add("transition", "web", {"n": 1})
        assert not await journal.wait_after(last, 0.01)
        waiting = asyncio.create_task(journal.answer(Query(limit=9, after=last), wait_s=PATIENCE_S))
        await asyncio.sleep(0)
        journal.add("transition", "web", {"n": 2})
        assert numbers(await waiting) == [2]
        nothing = await journal.answer(Query(limit=9, after=journal._last_id), wait_s=0.01)
        assert nothing == {"events": [], "last": journal._last_id}
        await journal.close()

    asyncio.run(run())


def test_nobody_waits_when_the_daemon_ends(path: Path) -> None:
    async def run() -> None:
        journal = Journal.open(path)
        last = journal.add("transition", "web", {"n": 1})
        query = Query(limit=9, after=last)
        waiting = asyncio.create_task(journal.answer(query, wait_s=PATIENCE_S * 2))
        await asyncio.sleep(0.01)
        async with asyncio.timeout(PATIENCE_S):
            journal.end_waiting()
            assert (await waiting)["events"] == []
            assert (await journal.answer(query, wait_s=PATIENCE_S * 2))["events"] == []
        await journal.close()

    asyncio.run(run())


def test_an_entry_about_somebody_else_moves_the_follower_on(path: Path) -> None:
    async def run() -> None:
        journal = Journal.open(path)
        last = journal.add("transition", "web", {"n": 1})
        other = journal.add("transition", "api", {"n": 2})
        answer = await journal.answer(Query(limit=9, after=last, subjects=("web",)))
        assert answer == {"events": [], "last": other}
        await journal.close()

    asyncio.run(run())


def test_long_and_broken_texts_are_cut_and_mended(path: Path) -> None:
    async def run() -> dict[str, Any]:
        journal = Journal.open(path)
        fields = {"output": "y" * 100_000, "path": Path("/x"), "odd": "\udcff"}
        journal.add("hook", "we\udcffb", fields, "\udcff")
        await journal.close()
        return journal.newest((), 1)[0]

    event = asyncio.run(run())
    assert event["fields"] == {"output": "y" * 4096 + "…", "path": "/x", "odd": "?"}
    assert (event["subject"], event["cause"]) == ("we?b", "?")
    assert read_copy(path, Query(limit=1))[0].as_values() == event


class HungDisk:
    """A file whose disk does not answer until it is told to."""

    def __init__(self) -> None:
        self.answers = threading.Event()

    def open(self, path: Path) -> JournalFile:
        disk = self

        class Hanging(JournalFile):
            def append(self, entries: Iterable[Entry]) -> None:
                disk.answers.wait(PATIENCE_S)
                super().append(entries)

        return Hanging(path)


def test_a_hung_disk_keeps_nobody_waiting(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STUCK_S", 0.05)
    monkeypatch.setattr(module, "CLOSE_PATIENCE_S", 0.05)
    disk = HungDisk()

    async def run() -> None:
        journal = Journal.open(path, disk.open)
        many = MOST_QUEUED + 256 + 10
        latest, late = asyncio.get_running_loop().time(), 0.0
        for n in range(many):
            journal.add("check", "nginx", {"n": n})
            if n % 10 == 0:
                await asyncio.sleep(0.001)
                now = asyncio.get_running_loop().time()
                latest, late = now, max(late, now - latest)
        assert late < 0.2  # the engine's timeout
        assert journal.failing == f"{path}: the disk does not answer"
        assert journal.dropped >= 10
        assert numbers(await journal.answer(Query(limit=3))) == [many - 3, many - 2, many - 1]
        disk.answers.set()
        await written(journal, journal._last_id)
        assert journal.failing is None
        last = journal.add("check", "nginx", {"n": many})
        await written(journal, last)
        told = journal.newest(("",), 1)[0]
        assert (told["kind"], told["fields"]["lost"]) == ("journal", journal.dropped)
        await journal.close()

    asyncio.run(run())
    found = read_copy(path, Query(limit=100_000))
    assert len(found) + found[-2].as_values()["fields"]["lost"] == MOST_QUEUED + 256 + 10 + 2


def test_the_end_does_not_wait_for_a_hung_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_PATIENCE_S", 0.05)
    disk = HungDisk()

    async def run() -> None:
        journal = Journal.open(path, disk.open)
        journal.add("check", "nginx", {})
        async with asyncio.timeout(PATIENCE_S / 2):
            await journal.close()
        disk.answers.set()

    asyncio.run(run())


def test_a_damaged_file_is_set_aside_and_said_so(path: Path) -> None:
    path.write_bytes(b"rubbish" * 1000)

    async def run() -> list[dict[str, Any]]:
        journal = Journal.open(path)
        journal.add("transition", "web", {})
        await journal.answer(Query(limit=9))
        last = journal.add("transition", "web", {})
        await written(journal, last)
        await journal.close()
        return journal.newest(("",), 9)

    (told,) = asyncio.run(run())
    assert told["kind"] == "journal"
    assert told["fields"]["text"] == (
        f"{path}: file is not a database; set aside as {path}.damaged, a new one is started"
    )
    assert path.with_name("journal.db.damaged").read_bytes() == b"rubbish" * 1000
    assert len(read_copy(path, Query(limit=9))) == 3
