"""The board: reloads, the health vector, what it tells; in virtual time, with played probes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine

import pytest

from tests.checks.rig import BAD, GOOD, PlayedProbe, at_once, config, finds, takes
from tests.checks.virtual import run
from vipd.duties import CheckConfig, FileProbe, Initial, TcpProbe
from vipd.model import Health, Verdict
from vipd.supervisor.checks import board as board_module
from vipd.supervisor.checks.board import CheckBoard
from vipd.supervisor.checks.findings import CheckEvent, Finding, Word


class Stage:
    """A board whose probes are played: ``plays`` by the name of the check, else all is well."""

    def __init__(self) -> None:
        self.plays: dict[str, PlayedProbe] = {}
        self.made: list[str] = []
        self.told: list[object] = []  # events and vectors, as they came
        self.board = CheckBoard(self.told.append, self.told.append)

    def make(self, settings: CheckConfig, _nudge: object) -> PlayedProbe:
        self.made.append(settings.name)
        return self.plays.get(settings.name) or PlayedProbe([at_once])

    @property
    def vectors(self) -> list[tuple[Verdict, ...]]:
        return [said for said in self.told if isinstance(said, tuple)]

    @property
    def events(self) -> list[CheckEvent]:
        return [said for said in self.told if isinstance(said, CheckEvent)]


@pytest.fixture
def on_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[Stage], Coroutine[None, None, None]]], None]:
    def play(scene: Callable[[Stage], Coroutine[None, None, None]]) -> None:
        async def main() -> None:
            stage = Stage()
            monkeypatch.setattr(
                board_module.Workshop, "make", lambda _self, *given: stage.make(*given)
            )
            try:
                await scene(stage)
            finally:
                await stage.board.stop()

        run(main())

    return play


Play = Callable[[Callable[[Stage], Coroutine[None, None, None]]], None]


def test_the_vector_is_whole_from_the_start_and_in_order(on_stage: Play) -> None:
    async def scene(stage: Stage) -> None:
        waits, assumed = config("waits"), config("assumed", initial=Initial.HEALTHY)
        stage.board.configure((waits, assumed))
        first = (Verdict("waits", Health.UNKNOWN), Verdict("assumed", Health.HEALTHY))
        assert stage.vectors == [first]
        assert stage.board.verdicts() == first
        await asyncio.sleep(5)
        assert stage.vectors[-1] == (
            Verdict("waits", Health.HEALTHY),
            Verdict("assumed", Health.HEALTHY),
        )

    on_stage(scene)


def test_only_changes_are_told_and_the_event_comes_before_the_vector(on_stage: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.plays["a"] = PlayedProbe(finds(GOOD, GOOD, BAD, BAD))
        stage.board.configure((config("a"),))
        await asyncio.sleep(20)
        kinds = [type(said).__name__ for said in stage.told]
        assert kinds == ["tuple", "CheckEvent", "tuple", "CheckEvent", "tuple"]
        assert [(event.old, event.new) for event in stage.events] == [
            (Word.UNKNOWN, Word.HEALTHY),
            (Word.HEALTHY, Word.FAILED),
        ]
        assert stage.events[-1].check == "a"
        assert stage.events[-1].detail == "bad"

    on_stage(scene)


def test_a_number_is_told_when_it_changes(on_stage: Play) -> None:
    async def scene(stage: Stage) -> None:
        numbers = [Finding(Word.HEALTHY, "holds", number) for number in (20, 20, 30)]
        stage.plays["a"] = PlayedProbe(finds(*numbers))
        stage.board.configure((config("a"),))
        await asyncio.sleep(10)
        assert [event.number for event in stage.events] == [20, 30]
        assert stage.vectors[-1] == (Verdict("a", Health.HEALTHY, 30),)

    on_stage(scene)


def test_a_reload_does_not_disturb_what_is_unchanged(on_stage: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.plays["a"] = PlayedProbe([takes(0.4)])
        stage.board.configure((config("a"), config("b")))
        for _ in range(50):
            await asyncio.sleep(0.2)
            stage.board.configure((config("a"), config("b")))
        status = stage.board.status()["a"]
        assert status["runs"] >= 8
        assert stage.made == ["a", "b"]
        assert len(stage.vectors) == 3

    on_stage(scene)


def test_the_same_question_in_another_rhythm_keeps_its_verdict(on_stage: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.plays["a"] = PlayedProbe(finds(BAD))
        stage.board.configure((config("a"),))
        await asyncio.sleep(3)
        stage.board.configure((config("a", interval_ms=9000),))
        assert stage.vectors[-1] == (Verdict("a", Health.UNHEALTHY),)
        assert len(stage.vectors) == 2
        assert stage.made == ["a", "a"]

    on_stage(scene)


def test_another_question_begins_anew(on_stage: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.board.configure((config("a"),))
        await asyncio.sleep(3)
        stage.board.configure((config("a", TcpProbe("127.0.0.1", 1)),))
        assert stage.vectors[-1] == (Verdict("a", Health.UNKNOWN),)

    on_stage(scene)


def test_a_removed_check_ends(on_stage: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.plays["a"] = probe = PlayedProbe([takes(99)])
        stage.board.configure((config("a", timeout_ms=90_000), config("b")))
        await asyncio.sleep(3)
        assert probe.going == 1
        stage.board.configure((config("b"),))
        await asyncio.sleep(0.1)
        assert probe.going == 0
        assert probe.closed
        assert [verdict.check for verdict in stage.board.verdicts()] == ["b"]
        assert list(stage.board.status()) == ["b"]

    on_stage(scene)


def test_a_hanging_check_delays_no_other(on_stage: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.plays |= {f"hang{i}": PlayedProbe([takes(99)]) for i in range(100)}
        names = [*stage.plays, *(f"good{i}" for i in range(100))]
        stage.board.configure(tuple(config(name) for name in names))
        await asyncio.sleep(20)
        for name, status in stage.board.status().items():
            is_good = name.startswith("good")
            assert status["healthy"] is is_good
            assert status["runs"] >= 18
            assert status["missed"] == 0
        assert stage.board.stale() == []

    on_stage(scene)


def test_stale_names_the_check_and_why(on_stage: Play) -> None:
    async def scene(stage: Stage) -> None:
        stuck = PlayedProbe([at_once, takes(99)], ends_itself=True)
        stage.plays["stuck"] = stuck
        stage.board.configure((config("stuck"), config("good")))
        await asyncio.sleep(15)
        ((name, why),) = stage.board.stale()
        assert name == "stuck"
        assert "no run has ended" in why

    on_stage(scene)


def test_status_is_json(on_stage: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.board.configure((config("a", FileProbe("/x")), config("b", TcpProbe("::1", 1))))
        await asyncio.sleep(3)
        status = json.loads(json.dumps(stage.board.status()))
        assert [status[name]["kind"] for name in "ab"] == ["file", "tcp"]

    on_stage(scene)


def test_stop_twice(on_stage: Play) -> None:
    async def scene(stage: Stage) -> None:
        stage.board.configure((config("a"),))
        await stage.board.stop()
        await stage.board.stop()

    on_stage(scene)
