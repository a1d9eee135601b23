"""The supervisor's decisions about its engine, without one: nothing is started, no time passes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vipd.ipc import Compiled, EngineState, StateApplied, ToEngine
from vipd.model import MILLISECOND_NS as MS
from vipd.model import SECOND_NS as S
from vipd.model import Duration, NodeConfig
from vipd.supervisor import daemon
from vipd.supervisor.guard import BACKOFF_LAST_NS, Death, Silence


class FakeGuard:
    """An engine that takes every order and never says a word."""

    def __init__(self, *_arguments: Any) -> None:
        self.alive = True
        self.pid = 1
        self.allowed: list[Duration] = []
        self.sent: list[ToEngine] = []

    def allow_silence(self, timeout_ns: Duration) -> None:
        self.allowed.append(timeout_ns)

    def send(self, message: ToEngine) -> bool:
        self.sent.append(message)
        return True

    def start(self, _state: EngineState, _timeout_ns: Duration) -> None:
        self.alive = True

    def next_delay_ns(self) -> Duration:
        return BACKOFF_LAST_NS


def compiled(directory: Path, generation: int, timeout_ns: Duration) -> Compiled:
    state = EngineState("0", NodeConfig("lb1", (), generation), {}, b"")
    where = str(directory)
    return Compiled(state, where, where, "info", "json", timeout_ns, (), ())


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[daemon.Supervisor]:
    monkeypatch.setattr(daemon, "EngineGuard", FakeGuard)
    monkeypatch.setattr(daemon.Supervisor, "_remove_leftovers", lambda *_: None)
    with socket.socket(socket.AF_UNIX) as name:
        yield daemon.Supervisor(tmp_path / "vipd.yaml", compiled(tmp_path, 1, 200 * MS), name)


def allowed(supervisor: daemon.Supervisor) -> list[Duration]:
    guard = supervisor._guard
    assert isinstance(guard, FakeGuard)
    return guard.allowed


# --- another engine_timeout -----------------------------------------------------------------------


def test_a_longer_timeout_holds_before_the_engine_says_less(
    supervisor: daemon.Supervisor, tmp_path: Path
) -> None:
    """It will speak every 500 ms as soon as it has read this: 200 ms would kill it."""
    supervisor._take_over(compiled(tmp_path, 2, 2 * S))
    assert allowed(supervisor) == [2 * S]
    supervisor._hear(StateApplied(2))
    assert allowed(supervisor)[-1] == 2 * S


def test_a_shorter_timeout_holds_once_the_engine_says_more(
    supervisor: daemon.Supervisor, tmp_path: Path
) -> None:
    supervisor._take_over(compiled(tmp_path, 2, 100 * MS))
    assert allowed(supervisor) == [200 * MS]
    supervisor._hear(StateApplied(1))
    assert allowed(supervisor) == [200 * MS]
    supervisor._hear(StateApplied(2))
    assert allowed(supervisor) == [200 * MS, 100 * MS]


def test_silence_counts_from_the_last_word_not_from_the_step_before_it() -> None:
    silence = Silence(0)
    silence.heard(3 * S)
    silence.tick(3 * S + 10 * MS, 4 * S)
    assert silence.silent_ns == 10 * MS


def test_silence_does_not_count_time_in_which_we_slept() -> None:
    silence = Silence(0)
    silence.tick(25 * MS, 25 * MS)
    silence.tick(60 * S, 25 * MS)
    assert silence.silent_ns == 50 * MS


# --- the service manager's watchdog ---------------------------------------------------------------


def test_a_long_wait_before_the_next_engine_is_no_reason_to_be_killed(
    supervisor: daemon.Supervisor,
) -> None:
    async def die() -> None:
        guard = supervisor._guard
        assert isinstance(guard, FakeGuard)
        guard.alive = False
        assert not supervisor._does_its_duty()
        supervisor._engine_died(Death(1, -9, killed_for_silence=False))
        assert supervisor._does_its_duty()
        supervisor._start_again()
        assert supervisor._restart is None
        assert supervisor._does_its_duty()

    asyncio.run(die())
