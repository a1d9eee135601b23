"""What the journal survives: kill -9 of the writer, a full disk, a disk that became read-only.

The writers run in processes of their own; the disks are small file systems in memory, in a mount
namespace of their own.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vipd.adapters.journal_entry import Query
from vipd.adapters.journal_file import read_copy

KILLS = 8
PRELUDE = """\
import asyncio, itertools, json, os, subprocess, sys
from pathlib import Path
from vipd.adapters.journal import Journal
from vipd.adapters.journal_entry import Query

async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)
"""

WRITE_FOR_EVER = """
async def run(path):
    journal = Journal.open(path)
    acknowledged = 0
    for n in itertools.count():
        journal.add("check", "nginx", {"n": n, "text": "x" * (n % 300)})
        if n % 20 == 0:
            await asyncio.sleep(0.001)
        if journal.written > acknowledged:
            acknowledged = journal.written
            os.write(1, b"%d\\n" % acknowledged)

asyncio.run(run(Path(sys.argv[1])))
"""


def test_no_committed_entry_is_lost_by_kill_9(tmp_path: Path) -> None:
    path, drawn = tmp_path / "journal.db", random.Random(3)
    committed: list[int] = []
    for _ in range(KILLS):
        command = [sys.executable, "-c", PRELUDE + WRITE_FOR_EVER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(drawn.randrange(1, 60)):
                committed.append(int(writer.stdout.readline()))
            writer.kill()
            committed += map(int, writer.stdout.read().split(b"\n")[:-1])
        found = read_copy(path, Query(limit=10_000_000))
        ids = [entry.id for entry in found]
        assert ids == sorted(set(ids))
        assert set(committed) <= set(ids)
        runs = [entry.as_values()["fields"]["n"] for entry in found]
        for before, after in itertools.pairwise(runs):
            assert after in (before + 1, 0), "a hole within a run"
    assert runs.count(0) == KILLS


def in_a_small_world(directory: Path, script: str) -> dict[str, object]:
    """Run ``script`` where ``directory`` is a file system of 640 KiB; its last line is JSON."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mount = f"mount -t tmpfs -o size=640k none {directory}"
    program = PRELUDE + textwrap.dedent(script)
    command = ["unshare", "--mount", *user, "sh", "-c", f'{mount} && exec "$0" "$@"']
    result = subprocess.run(
        [*command, sys.executable, "-c", program, str(directory)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout.splitlines()[-1]))


FULL_DISK = """
async def run(directory):
    journal = Journal.open(directory / "journal.db")
    first = journal.add("check", "nginx", {"n": 0})
    await until(lambda: journal.written >= first)
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        try:
            while stream.write(b"x" * 1024): pass
        except OSError as error:
            full = error.strerror
    n, late, loop = 0, 0.0, asyncio.get_running_loop()
    while journal.failing is None and n < 5000:
        journal.add("check", "nginx", {"n": (n := n + 1), "text": "x" * 100})
        begin = loop.time()
        await asyncio.sleep(0.001)
        late = max(late, loop.time() - begin)
    failing, stopped_at = journal.failing, journal.written
    more = journal.add("check", "nginx", {"n": (n := n + 1)})
    answered = (await journal.answer(Query(limit=1)))["events"][0]["id"] == more
    held = journal.written == stopped_at
    ballast.unlink()
    await until(lambda: journal.written >= more and journal.failing is None)
    await journal.close()
    from vipd.adapters.journal_file import read_copy
    found = read_copy(directory / "journal.db", Query(limit=100000))
    whole = [entry.as_values()["fields"]["n"] for entry in found] == list(range(n + 1))
    print(json.dumps({"full": full, "failing": failing, "answered": answered, "held": held,
                      "dropped": journal.dropped, "whole": whole, "late": late}))

asyncio.run(run(Path(sys.argv[1])))
"""


def test_a_full_disk_is_told_and_nothing_is_lost_when_it_has_room_again(tmp_path: Path) -> None:
    seen = in_a_small_world(tmp_path, FULL_DISK)
    assert seen["full"] == "No space left on device"
    assert seen["failing"] == f"{tmp_path}/journal.db: database or disk is full"
    assert (seen["answered"], seen["held"]) == (True, True)
    assert (seen["dropped"], seen["whole"]) == (0, True)
    assert float(str(seen["late"])) < 0.2  # the engine's timeout


READ_ONLY_DISK = """
async def run(directory):
    def remount(how):
        subprocess.run(["mount", "-o", f"remount,{how}", directory], check=True)
    if sys.argv[2:] == ["from-the-start"]:
        remount("ro")
    journal = Journal.open(directory / "journal.db")
    if not sys.argv[2:]:
        first = journal.add("check", "nginx", {"n": 0})
        await until(lambda: journal.written >= first)
        await journal.close()  # an open file would not let the mount become read-only
        remount("ro")
        journal = Journal.open(directory / "journal.db")
    journal.add("check", "nginx", {"n": 1})
    await until(lambda: journal.failing is not None)
    failing = journal.failing
    shown = [event["fields"]["n"] for event in (await journal.answer(Query(limit=9)))["events"]]
    remount("rw")
    last = journal.add("check", "nginx", {"n": 2})
    await until(lambda: journal.written >= last and journal.failing is None)
    known = [event["fields"]["n"] for event in (await journal.answer(Query(limit=9)))["events"]]
    await journal.close()
    print(json.dumps({"failing": failing, "shown": shown, "known": known}))

asyncio.run(run(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("begin", ["", "from-the-start"])
def test_a_read_only_disk_is_told_and_written_to_again_later(tmp_path: Path, begin: str) -> None:
    script = READ_ONLY_DISK.replace("sys.argv[2:]", repr([begin] if begin else []))
    seen = in_a_small_world(tmp_path, script)
    assert seen["failing"] == f"{tmp_path}/journal.db: Read-only file system"
    assert seen["shown"] == [1]
    assert seen["known"] == ([1, 2] if begin else [0, 1, 2])
