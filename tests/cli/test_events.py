"""``vipd events``: of a daemon that answers, of one that is gone, and over its restart."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from tests.cli.conftest import PROGRAM, FakeDaemon, vipd
from vipd.adapters.journal import Journal
from vipd.adapters.journal_entry import parse_query
from vipd.adapters.journal_file import JournalFile
from vipd.cli import events as module
from vipd.cli.app import app
from vipd.cli.events import line
from vipd.cli.telling import told
from vipd.cli.vocabulary import EVENTS
from vipd.model import Alarm, FieldValue, Note, NoteKind
from vipd.supervisor import entries

PATIENCE_S = 20.0
STATUS = {
    "instances": {
        "web": {"unit": "edge", "tracks": [{"kind": "check", "name": "nginx"}]},
        "api": {"unit": "edge", "tracks": [{"kind": "interface", "name": "interface eth1"}]},
        "db": {"unit": "db", "tracks": []},
    }
}


class JournalDaemon:
    """A daemon that only keeps its journal and answers ``/events`` and ``/status``."""

    def __init__(self, config: Path) -> None:
        self._directory = config.parent
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._waiting = 0

    def __enter__(self) -> JournalDaemon:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_exception: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    async def _start(self) -> None:
        self._journal = Journal.open(self._directory / "journal.db")
        server = web.Application()
        server.router.add_get("/events", self._events)
        server.router.add_get("/status", self._status)
        server.on_shutdown.append(self._end_waiting)  # nobody can ask any more by then
        self._runner = web.AppRunner(server, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._directory / "control.sock")).start()

    async def _stop(self) -> None:
        await self._runner.cleanup()
        (self._directory / "control.sock").unlink(missing_ok=True)
        await self._journal.close()

    async def _end_waiting(self, _server: web.Application) -> None:
        self._journal.end_waiting()

    async def _events(self, request: web.Request) -> web.Response:
        try:
            query, wait_s = parse_query(request.query)
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        self._waiting += wait_s > 0
        answer = await self._journal.answer(query, wait_s)
        self._waiting -= wait_s > 0
        return web.json_response(answer)

    async def _status(self, _request: web.Request) -> web.Response:
        return web.json_response(STATUS)

    def await_follower(self) -> None:
        """Until somebody waits for the next entry: aiohttp loses who comes while it closes."""

        async def waits() -> None:
            async with asyncio.timeout(PATIENCE_S):
                while not self._waiting:
                    await asyncio.sleep(0.005)

        self._do(waits())

    def add(self, kind: str, subject: str, **fields: Any) -> None:
        async def now() -> None:
            self._journal.add(kind, subject, fields)

        self._do(now())


@pytest.fixture
def config(absent: FakeDaemon) -> Path:
    directory = absent.config.parent
    absent.config.write_text(f"runtime_dir: {directory}\nstate_dir: {directory}\n")
    return absent.config


@pytest.fixture
def daemon(config: Path) -> Iterator[JournalDaemon]:
    with JournalDaemon(config) as running:
        yield running


def events(config: Path, *arguments: str) -> list[str]:
    result = CliRunner().invoke(app, ["events", "--config", str(config), *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def numbers(lines: list[str]) -> list[int]:
    return [json.loads(text)["fields"]["n"] for text in lines]


def test_a_line_has_time_subject_and_sentence(config: Path, daemon: JournalDaemon) -> None:
    move = {"from": "BACKUP", "to": "MASTER", "reason": "master-left", "detail": ""}
    daemon.add("transition", "web", **move)
    (text,) = events(config)
    clock = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"
    assert re.fullmatch(rf"{clock}  web: BACKUP -> MASTER: master-left", text)


def test_json_has_one_object_a_line(config: Path, daemon: JournalDaemon) -> None:
    daemon.add("check", "nginx", verdict="failed")
    (text,) = events(config, "--json")
    assert set(json.loads(text)) == {
        *("id", "time", "boottime_ns", "kind", "subject", "cause", "fields")
    }


def test_the_newest_fifty_or_as_many_as_are_wanted(config: Path, daemon: JournalDaemon) -> None:
    for n in range(60):
        daemon.add("check", "nginx", n=n)
    assert numbers(events(config, "--json")) == list(range(10, 60))
    assert numbers(events(config, "--json", "-n", "2")) == [58, 59]
    assert events(config, "-n", "0") == []
    assert numbers(events(config, "--json", "--since", "1h")) == list(range(60))
    assert numbers(events(config, "--json", "--since", "1h", "-n", "3")) == [57, 58, 59]


def test_all_pages_are_turned(
    config: Path, daemon: JournalDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 7)
    for n in range(30):
        daemon.add("check", "nginx", n=n)
    assert numbers(events(config, "--json", "--since", "1h")) == list(range(30))
    assert numbers(events(config, "--json", "-n", "9")) == list(range(21, 30))


def test_an_instance_brings_its_group_and_its_checks(config: Path, daemon: JournalDaemon) -> None:
    for n, subject in enumerate(["web", "edge", "nginx", "api", "db", ""]):
        daemon.add("check", subject, n=n)
    assert numbers(events(config, "--json", "web")) == [0, 1, 2]
    assert numbers(events(config, "--json", "edge")) == [0, 1, 2, 3]
    assert numbers(events(config, "--json", "nginx")) == [2]
    assert numbers(events(config, "--json", "db")) == [4]


def test_without_a_daemon_the_file_is_read(config: Path) -> None:
    with JournalDaemon(config) as daemon:
        daemon.add("check", "nginx", n=1)
        daemon.add("check", "db", n=2)
    result = vipd("events", "--json", "--config", config)
    assert (result.returncode, numbers(result.stdout.splitlines())) == (0, [1, 2])
    assert "no daemon answers on" in result.stderr
    assert "this is what was written until then" in result.stderr
    assert numbers(events(config, "--json", "db")) == [2]
    assert numbers(events(config, "--json", "-n", "1")) == [2]
    assert events(config, "--json", "--since", "2099-01-01") == []


def test_without_daemon_and_journal_it_is_exit_3(config: Path) -> None:
    result = vipd("events", "--config", config)
    assert result.returncode == 3
    assert "no daemon answers on" in result.stderr
    assert f"its journal cannot be read: {config.parent}/journal.db: No such file" in result.stderr


def test_a_damaged_journal_is_named(config: Path) -> None:
    (config.parent / "journal.db").write_bytes(b"rubbish" * 1000)
    result = vipd("events", "--config", config)
    assert result.returncode == 3
    assert "file is not a database" in result.stderr


@pytest.mark.parametrize("text", ["yesterday", "2 h", "5", "2026-13-01"])
def test_a_time_that_is_none_is_bad_usage(config: Path, text: str) -> None:
    result = vipd("events", "--since", text, "--config", config)
    assert result.returncode == 2
    assert "--since" in result.stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1.5h", 5400), ("500ms", 0.5), ("2d", 172_800), ("1970-01-01T00:01Z", 999_940)],
)
def test_since_is_a_span_or_a_time(text: str, seconds: float) -> None:
    assert module._moment(text, 1_000_000.0) == 1_000_000.0 - seconds


def read_until(stream: Any, wanted: int) -> list[int]:
    """What a follower prints, until ``wanted`` comes."""
    found: list[int] = []
    while not found or found[-1] != wanted:
        found += numbers([stream.readline()])
    return found


def test_following_goes_on_over_a_restart_and_a_kill(config: Path) -> None:
    command = [*PROGRAM, "events", "--follow", "--json", "--config", str(config)]
    with JournalDaemon(config) as daemon:
        daemon.add("check", "nginx", n=1)
        follower = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            assert read_until(follower.stdout, 1) == [1]
            daemon.add("check", "nginx", n=2)
            assert read_until(follower.stdout, 2) == [2]
            daemon.await_follower()
        except BaseException:
            follower.kill()
            raise
    try:
        # Written, and shown to nobody: the follower asks on from the last that it saw.
        between = JournalFile(config.parent / "journal.db")
        (last,) = between.read(parse_query({"limit": "1"})[0])
        missed = replace(last, id=last.id + 1, fields='{"n": 3}')
        between.append([missed])
        between.close()
        with JournalDaemon(config) as again:
            again.add("check", "nginx", n=4)
            assert read_until(follower.stdout, 4) == [3, 4]
            again.await_follower()
    finally:
        follower.kill()
        _, complaints = follower.communicate(timeout=PATIENCE_S)
    assert complaints.count("waiting for it") >= 1


def test_a_reader_that_leaves_is_no_crash(config: Path, daemon: JournalDaemon) -> None:
    for n in range(50):
        daemon.add("check", "nginx", n=n, text="x" * 4000)
    ours, theirs = os.pipe()
    os.close(ours)
    command = [*PROGRAM, "events", "--config", str(config)]
    result = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False)
    os.close(theirs)
    assert "Traceback" not in result.stderr


PRIORITY_CHANGED: dict[str, FieldValue] = {"priority": 90, "was": 150, "because": "nginx"}
MESSAGE_DISCARDED = {
    **{"reason": "replay", "sender": "lb2", "source": "192.0.2.12", "detail": ""},
    "held_back": 3,
}


def handover(step: str, detail: str = "") -> dict[str, str | int]:
    return {"step": step, "node": "lb2", "term": 7, "detail": detail}


def pin(node: str) -> dict[str, str | int]:
    return {"node": node, "version": 3, "because": "switchover"}


ENTRIES = [
    (
        entries.check("nginx", "healthy", "timed-out", "no end within 500 ms", 500.1),
        "check nginx: healthy -> timed-out: no end within 500 ms",
    ),
    (
        entries.hook("web", "master", "MASTER", "failed", "exit status 3", sequence=7),
        "hook master of web failed: exit status 3",
    ),
    (entries.hook("web", "master", "MASTER", "ok", "ok"), "hook master of web ok"),
    (
        entries.command("switchover of web to lb2", "uid 0", "web"),
        "web: switchover of web to lb2 (by uid 0)",
    ),
    (
        entries.alarm(Alarm("hook-failed", 0, "web", "exit status 3"), True),
        "web: alarm hook-failed raised: exit status 3",
    ),
    (
        entries.engine("died", "killed for its silence", pid=7),
        "engine died: killed for its silence",
    ),
    (
        entries.configuration("taken over", 3, ["web: priority 100 -> 150"], "vipd reload"),
        "configuration 3: taken over",
    ),
    (entries.daemon("started", version="0.2"), "vipd started"),
    (
        entries.note(Note(NoteKind.PRIORITY_CHANGED, "web", PRIORITY_CHANGED)),
        "web: priority 150 -> 90: nginx",
    ),
    (entries.note(Note(NoteKind.LOOP_STALLED, "", {"late_ms": 7})), "the process was late by 7 ms"),
    (
        entries.note(Note(NoteKind.MEMBER_ALIVE, "", {"node": "lb2", "software": "0.3"})),
        "lb2 is heard on the channel: 0.3",
    ),
    (
        entries.note(Note(NoteKind.MEMBER_LOST, "", {"node": "lb2", "silent_ms": 1000})),
        "lb2 is lost: not heard for 1000 ms",
    ),
    (
        entries.note(Note(NoteKind.MEMBER_LEFT, "", {"node": "lb2", "because": "it ends"})),
        "lb2 has left: it ends",
    ),
    (
        entries.note(Note(NoteKind.MESSAGE_DISCARDED, "", MESSAGE_DISCARDED)),
        "discarded a message of the channel from 192.0.2.12 lb2 (replay) (and 3 more like it)",
    ),
    (
        entries.note(Note(NoteKind.HANDOVER, "web", handover("offered"))),
        "web: term 7 ends here: the VIPs are gone, lb2 is to take over",
    ),
    (
        entries.note(Note(NoteKind.HANDOVER, "web", handover("taken"))),
        "web: lb2 has taken over from term 7",
    ),
    (
        entries.note(Note(NoteKind.HANDOVER, "web", handover("refused", "busy"))),
        "web: handover of term 7 with lb2: refused, busy",
    ),
    (
        entries.note(Note(NoteKind.HANDOVER, "web", handover("failed", "nobody is fit"))),
        "web: nobody took over from term 7: nobody is fit",
    ),
    (
        entries.note(Note(NoteKind.HANDOVER, "web", handover("postponed", "later"))),
        "web: handover of term 7: postponed lb2 later",
    ),
    (
        entries.note(Note(NoteKind.PIN, "web", pin("lb2"))),
        "web: put on lb2 by an operator, version 3: switchover",
    ),
    (
        entries.note(Note(NoteKind.PIN, "web", pin(""))),
        "web: no node is preferred by an operator any more, version 3: switchover",
    ),
]


@pytest.mark.parametrize(("entry", "text"), ENTRIES, ids=lambda value: str(value)[:20])
def test_entries_become_sentences(entry: entries.Happening, text: str) -> None:
    assert told(entry._asdict()) == text


def test_every_kind_of_entry_has_a_sentence_of_its_own_fields() -> None:
    made = {entry.kind: entry.fields for entry, _ in ENTRIES if entry.kind in EVENTS}
    made["journal"] = {"text": ""}
    made["hold-ended"] = made["maintenance-ended"] = {}
    assert set(made) == set(EVENTS)
    for kind, template in EVENTS.items():
        template.format(subject="x", cause="y", **made[kind])  # KeyError: nobody gives that field


def test_an_entry_is_one_line_whatever_a_program_wrote() -> None:
    entry = entries.hook("web", "any", "FAULT", "failed", "a\nb\tc")._asdict() | {"time": 0.5}
    assert line(entry).count("\n") == 0
    assert line(entry).endswith("hook any of web failed: a b c")


def test_the_cause_of_a_note_is_its_reason_and_detail() -> None:
    fields = {"reason": "check-failed", "detail": "nginx"}
    assert entries.note(Note(NoteKind.ROLE, "web", fields)).cause == "check-failed (nginx)"
    assert entries.note(Note(NoteKind.CLAIMED, "web", {"vips": 1})).cause == ""
    assert entries.note(Note(NoteKind.PIN, "web", pin("lb2"))).cause == "switchover"
