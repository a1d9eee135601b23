"""The supervisor's decisions about its engine, without one: nothing is started, no time passes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vipd.duties import Duties
from vipd.ipc import EXIT_REPLACED, Compiled, EngineState, StateApplied, ToEngine
from vipd.model import MILLISECOND_NS as MS
from vipd.model import SECOND_NS as S
from vipd.model import Duration, Health, NodeConfig, Orders, Verdict
from vipd.supervisor import daemon
from vipd.supervisor.guard import BACKOFF_LAST_NS, Death, Silence


class FakeGuard:
    """An engine that takes every order and never says a word."""

    def __init__(self, *_arguments: Any) -> None:
        self.alive = self.healthy = True
        self.pid = 1
        self.allowed: list[Duration] = []
        self.sent: list[ToEngine] = []
        self.started: list[EngineState] = []

    def allow_silence(self, timeout_ns: Duration) -> None:
        self.allowed.append(timeout_ns)

    def send(self, message: ToEngine) -> bool:
        self.sent.append(message)
        return True

    def start(self, state: EngineState, _timeout_ns: Duration) -> None:
        self.alive = self.healthy = True
        self.started.append(state)

    def next_delay_ns(self) -> Duration:
        return BACKOFF_LAST_NS


class FakeStaff:
    """Checks, hooks and a journal that nobody wants anything of."""

    def configure(self, _duties: Duties) -> None: ...
    def record(self, _happening: object) -> None: ...
    def engine_works(self, _pid: int | None) -> None: ...
    def engine_died(self, _cause: str, _pid: int, _status: int) -> None: ...
    def verdicts(self) -> tuple[Verdict, ...]:
        return (Verdict("nginx", Health.HEALTHY),)


class FakeOperator:
    """An operator who put this node into maintenance."""

    orders = Orders(maintenance=True)

    def configure(self, _units: object) -> None: ...


def compiled(directory: Path, generation: int, timeout_ns: Duration) -> Compiled:
    state = EngineState("0", NodeConfig("lb1", (), generation), {}, b"")
    where = str(directory)
    return Compiled(state, where, where, "info", "json", timeout_ns, (), ())


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[daemon.Supervisor]:
    monkeypatch.setattr(daemon, "EngineGuard", FakeGuard)
    monkeypatch.setattr(daemon.Supervisor, "_carry_out_will", lambda *_: None)
    with socket.socket(socket.AF_UNIX) as name:
        made = daemon.Supervisor(tmp_path / "vipd.yaml", compiled(tmp_path, 1, 200 * MS), name)
        made._staff = FakeStaff()  # type: ignore[assignment]
        made._operator = FakeOperator()  # type: ignore[assignment]
        yield made


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


# --- what an engine is told -----------------------------------------------------------------------


def test_every_engine_is_started_with_health_and_orders_of_now(
    supervisor: daemon.Supervisor, tmp_path: Path
) -> None:
    supervisor._take_over(compiled(tmp_path, 2, 100 * MS))
    guard = supervisor._guard
    assert isinstance(guard, FakeGuard)
    state = guard.sent[-1]
    assert isinstance(state, EngineState)
    assert state.config.generation == 2
    assert state.health == (Verdict("nginx", Health.HEALTHY),)
    assert state.orders == Orders(maintenance=True)


def test_every_engine_is_a_life_of_its_own_and_a_reload_is_not(
    supervisor: daemon.Supervisor, tmp_path: Path
) -> None:
    guard = supervisor._guard
    assert isinstance(guard, FakeGuard)
    supervisor._start_engine()
    supervisor._take_over(compiled(tmp_path, 2, 100 * MS))
    supervisor._start_again()
    one, two = guard.started
    repeated = guard.sent[-1]
    assert isinstance(repeated, EngineState)
    assert (repeated.owner, repeated.seed) == (one.owner, one.seed)
    assert one.owner.node == "lb1"
    assert one.owner.incarnation < two.owner.incarnation
    assert one.owner.nonce != two.owner.nonce
    assert one.seed != two.seed
    assert (tmp_path / "incarnation").read_text() == f"{two.owner.incarnation}\n"


def test_an_engine_starts_without_the_disk(supervisor: daemon.Supervisor, tmp_path: Path) -> None:
    (tmp_path / "incarnation").mkdir()
    supervisor._start_engine()
    guard = supervisor._guard
    assert isinstance(guard, FakeGuard)
    assert guard.started[0].owner.incarnation > 0
    assert "Is a directory" in (supervisor._identities.not_kept() or "")


def test_an_engine_of_another_version_ends_us_so_that_we_become_it(
    supervisor: daemon.Supervisor,
) -> None:
    supervisor._engine_died(Death(1, EXIT_REPLACED, killed_for_silence=False))
    assert supervisor._stopping.is_set()
    assert supervisor._exit == daemon.EXIT_FAILED
    assert supervisor._restart is None


# --- the service manager's watchdog ---------------------------------------------------------------


def test_a_long_wait_before_the_next_engine_is_no_reason_to_be_killed(
    supervisor: daemon.Supervisor,
) -> None:
    async def die() -> None:
        guard = supervisor._guard
        assert isinstance(guard, FakeGuard)
        guard.alive = guard.healthy = False
        assert not supervisor._does_its_duty()
        supervisor._engine_died(Death(1, -9, killed_for_silence=False))
        assert supervisor._does_its_duty()
        supervisor._start_again()
        assert supervisor._restart is None
        assert supervisor._does_its_duty()

    asyncio.run(die())


def test_an_engine_that_is_silent_and_does_not_die_is_no_reason_to_be_kept(
    supervisor: daemon.Supervisor,
) -> None:
    guard = supervisor._guard
    assert isinstance(guard, FakeGuard)
    assert supervisor._does_its_duty()
    guard.healthy = False
    assert guard.alive
    assert not supervisor._does_its_duty()
