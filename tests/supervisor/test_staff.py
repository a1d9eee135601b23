"""Alarms of the cluster are looked for without being asked, and no more often than is cheap."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.conftest import CLUSTER, FOLLOWER, NOW_NS
from vipd.ipc import SnapshotWanted, ToEngine
from vipd.model import Note, NoteKind
from vipd.snapshots import ClusterSnapshot, Snapshot
from vipd.supervisor import staff as module
from vipd.supervisor.staff import CHEAP_INSTANCES, Staff

TURNS = 12
LOST = Note(NoteKind.MEMBER_LOST, "", {"node": "lb1", "silent_ms": 1000})


def snapshot(instances: int, cluster: ClusterSnapshot | None = CLUSTER) -> Snapshot:
    shots = tuple(replace(FOLLOWER, name=f"v{number}") for number in range(instances))
    return Snapshot(NOW_NS, "lb2", 1, shots, {}, cluster=cluster)


async def looks(
    directory: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Staff], None]
) -> list[ToEngine]:
    """What the engine is asked in so many ticks after ``act``."""
    ticks = 0

    async def tick(_seconds: float) -> None:
        nonlocal ticks
        ticks += 1
        if ticks > TURNS:
            await asyncio.Event().wait()

    asked: list[ToEngine] = []
    staff = Staff("lb2", directory, directory, lambda message: asked.append(message()))
    act(staff)
    with monkeypatch.context() as patch:
        patch.setattr(module.asyncio, "sleep", tick)
        while ticks <= TURNS:
            turn = asyncio.Event()
            asyncio.get_running_loop().call_soon(turn.set)
            await turn.wait()
    await staff.stop()
    return asked


@pytest.mark.parametrize(
    ("instances", "expected"),
    [(1, TURNS), (CHEAP_INSTANCES - 1, TURNS), (CHEAP_INSTANCES, TURNS // 2), (60, TURNS // 4)],
)
def test_the_pace_follows_the_number_of_instances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instances: int, expected: int
) -> None:
    asked = asyncio.run(
        looks(tmp_path, monkeypatch, lambda staff: staff.alarms_of(snapshot(instances)))
    )
    assert asked == [SnapshotWanted(0)] * expected


def test_plain_mode_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def act(staff: Staff) -> None:
        staff.alarms_of(snapshot(1, None))
        staff.note(LOST)

    assert asyncio.run(looks(tmp_path, monkeypatch, act)) == []


def test_losses_in_a_row_share_one_look_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.0)

    def act(staff: Staff) -> None:
        staff.alarms_of(snapshot(20 * TURNS))  # no look by the pace
        staff.note(LOST)
        staff.note(LOST)

    assert asyncio.run(looks(tmp_path, monkeypatch, act)) == [SnapshotWanted(0)]
