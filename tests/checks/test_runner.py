"""The schedule of a check, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from tests.checks.rig import (
    BAD,
    GOOD,
    LATE,
    Played,
    PlayedProbe,
    at_once,
    config,
    finds,
    raises,
    takes,
)
from tests.checks.virtual import loop, run
from vipd.duties import Initial
from vipd.supervisor.checks import runner as runner_module
from vipd.supervisor.checks.findings import Finding, ProbeFailed, Unjudged, Word
from vipd.supervisor.checks.lateness import Lateness

Act = Callable[[], Awaitable[Finding]]


def play(
    acts: list[Act], seconds: float, during: Callable[[Played], None] | None = None, **settings: int
) -> Played:
    """A check of one run a second for so long; ``during`` is called in the middle."""

    async def main() -> Played:
        played = Played(PlayedProbe(acts), config(**settings))
        await asyncio.sleep(seconds / 2)
        if during is not None:
            during(played)
        await asyncio.sleep(seconds / 2)
        await played.stop()
        return played

    return run(main())


@pytest.fixture
def early_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    """No chance: the first run at once, the second half an interval later."""
    monkeypatch.setattr(runner_module, "random", lambda: 0.0)


def gaps(played: Played) -> list[float]:
    began = played.probe.began
    return [round(later - earlier, 6) for earlier, later in itertools.pairwise(began)]


# --- slots ------------------------------------------------------------------------------------


def test_one_run_an_interval() -> None:
    played = play([at_once], 20)
    assert 19 <= played.runner.runs <= 21
    assert set(gaps(played)[1:]) == {1.0}
    assert 0.5 <= gaps(played)[0] <= 1.5
    assert played.words == [Word.HEALTHY]
    assert (played.runner.missed, played.runner.failures, played.runner.timeouts) == (0, 0, 0)


def test_checks_are_spread_over_the_interval() -> None:
    async def main() -> tuple[list[float], list[float]]:
        start = loop().time()
        board = [Played(PlayedProbe([at_once]), config(interval_ms=4000)) for _ in range(200)]
        await asyncio.sleep(14)
        for played in board:
            await played.stop()
        firsts = [played.probe.began[0] - start for played in board]
        return firsts, [(played.probe.began[2] - start) % 4 for played in board]

    firsts, phases = run(main())
    assert max(firsts) <= 1.0
    for quarter in range(4):
        assert 20 < sum(quarter <= phase < quarter + 1 for phase in phases) < 90
        assert 20 < sum(quarter <= first * 4 < quarter + 1 for first in firsts) < 90


@pytest.mark.usefixtures("early_phase")
def test_a_slot_that_finds_a_run_going_is_missed_and_no_failure() -> None:
    played = play([takes(1.5)], 20, timeout_ms=3000)
    assert played.probe.most_going == 1
    assert set(gaps(played)[1:]) == {2.0}
    assert played.runner.missed == pytest.approx(10, abs=1)
    assert (played.runner.failures, played.runner.timeouts) == (0, 0)


@pytest.mark.usefixtures("early_phase")
def test_a_run_that_hangs_for_the_whole_interval_does_not_halve_the_rate() -> None:
    played = play([takes(99)], 20, timeout_ms=1000)
    assert played.runner.timeouts >= 18
    assert played.runner.missed <= 1


@pytest.mark.usefixtures("early_phase")
def test_a_script_that_takes_a_moment_to_die_does_not_halve_the_rate_either() -> None:
    async def main() -> Played:
        probe = PlayedProbe([takes(1.02, LATE)], ends_itself=True)
        played = Played(probe, config(timeout_ms=1000))
        await asyncio.sleep(20)
        await played.stop()
        return played

    played = run(main())
    assert played.runner.timeouts >= 16
    assert played.probe.most_going == 1


# --- timeouts ---------------------------------------------------------------------------------


def test_timed_out_is_another_verdict_than_failed() -> None:
    played = play([takes(99), *finds(BAD, GOOD)], 6)
    assert played.words == [Word.TIMED_OUT, Word.FAILED, Word.HEALTHY]
    assert (played.runner.timeouts, played.runner.failures) == (1, 1)
    assert played.events[0].elapsed_ms == pytest.approx(500)
    assert played.events[0].detail == "no end within 500 ms"


@pytest.mark.usefixtures("early_phase")
def test_a_hanging_run_is_judged_at_its_timeout_even_while_it_is_being_killed() -> None:
    async def main() -> tuple[Played, float]:
        probe = PlayedProbe([takes(3.5, LATE), at_once], ends_itself=True)
        played = Played(probe, config())
        while not played.events:
            await asyncio.sleep(0.01)
        judged = loop().time()
        assert probe.going == 1
        await asyncio.sleep(4)
        await played.stop()
        return played, judged - probe.began[0]

    played, after_s = run(main())
    assert after_s == pytest.approx(0.5, abs=0.02)
    assert played.words == [Word.TIMED_OUT, Word.HEALTHY]
    assert played.runner.timeouts == 1  # counted once
    assert played.runner.missed >= 3


def test_what_a_run_finds_after_its_timeout_counts_no_more() -> None:
    async def main() -> Played:
        probe = PlayedProbe([takes(0.6, GOOD), takes(99)], ends_itself=True)
        played = Played(probe, config())
        await asyncio.sleep(1.7)
        await played.stop()
        return played

    played = run(main())
    assert Word.HEALTHY not in played.words


# --- our own lateness -------------------------------------------------------------------------


def test_a_stall_of_ours_fails_no_run() -> None:
    """The answer came while we did not run: the timer is due as well, and must not win."""
    slow_answers = [takes(0.4)]
    played = play(slow_answers, 20, lambda _: loop().stall(5))
    assert (played.runner.timeouts, played.runner.failures) == (0, 0)
    assert 4 <= played.runner.missed <= 6
    assert played.words == [Word.HEALTHY]


def test_time_that_we_lost_is_added_to_the_timeout() -> None:
    async def main() -> Played:
        async def stalled() -> Finding:
            loop().stall(3)
            await asyncio.sleep(0.3)
            return GOOD

        played = Played(PlayedProbe([stalled]), config())
        await asyncio.sleep(10)
        await played.stop()
        return played

    played = run(main())
    assert played.words == [Word.HEALTHY]
    assert played.runner.timeouts == 0


def test_lateness_excuses_no_run_that_really_hangs() -> None:
    played = play([takes(99)], 20, lambda _: loop().stall(3))
    assert played.runner.timeouts >= 14


@pytest.mark.parametrize(("lost_s", "missed"), [(0.6, 1), (0.0, 0)])
def test_a_bad_finding_made_while_we_were_frozen_says_nothing(lost_s: float, missed: int) -> None:
    async def main() -> Played:
        async def given_up() -> Finding:
            await asyncio.sleep(0.1)
            loop().stall(lost_s)
            return BAD

        played = Played(PlayedProbe([given_up, at_once]), config(interval_ms=5000))
        await asyncio.sleep(4)
        await played.stop()
        return played

    played = run(main())
    assert played.runner.missed == missed
    assert played.runner.failures == 1 - missed


@pytest.mark.parametrize(("own_s", "timeouts"), [(0.1, 0), (0.45, 1)])
def test_a_time_out_of_the_probes_own_counts_if_it_had_most_of_its_time(
    own_s: float, timeouts: int
) -> None:
    async def main() -> Played:
        async def killed() -> Finding:
            await asyncio.sleep(own_s)
            loop().stall(1)
            return LATE

        probe = PlayedProbe([killed, at_once], ends_itself=True)
        played = Played(probe, config(interval_ms=6000))
        await asyncio.sleep(3)
        await played.stop()
        return played

    assert run(main()).runner.timeouts == timeouts


def test_the_loop_measures_what_it_lost() -> None:
    async def main() -> list[float]:
        lateness = Lateness(loop())
        await asyncio.sleep(1)
        seen = [lateness.lost_s]
        loop().stall(2)
        seen.append(lateness.lost_s)  # before the tick
        await asyncio.sleep(1)
        seen.append(lateness.lost_s)
        lateness.close()
        return seen

    before, during, after = run(main())
    assert before == pytest.approx(0, abs=0.001)
    assert during == pytest.approx(2, abs=0.06)
    assert after == pytest.approx(2, abs=0.06)


# --- what a probe raises ----------------------------------------------------------------------


def test_what_cannot_be_judged_is_missed() -> None:
    played = play([raises(Unjudged("no descriptor is left"))], 4.8)
    assert played.runner.runs == 0
    assert played.runner.missed >= 4
    assert played.words == []
    status = played.runner.status("file")
    assert status["detail"] == "no descriptor is left"
    assert status["stale"]


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (ProbeFailed("refused"), "refused"),
        (ValueError("what is\nthis"), "unexpected ValueError: what is"),
        (RecursionError(), "unexpected RecursionError:"),
        (asyncio.CancelledError(), "unexpected CancelledError"),
    ],
)
def test_nothing_that_a_probe_raises_ends_more_than_its_run(
    error: BaseException, detail: str
) -> None:
    played = play([raises(error), at_once], 4)
    assert played.events[0].new is Word.FAILED
    assert played.events[0].detail == detail
    assert played.words == [Word.FAILED, Word.HEALTHY]


# --- early runs -------------------------------------------------------------------------------


def test_a_nudge_runs_at_once_and_moves_the_slots() -> None:
    played = play([at_once], 20, lambda it: it.runner.nudge(), interval_ms=9000)
    began = [round(instant, 6) for instant in played.probe.began]
    assert 1010 in began
    assert 1019 in began


def test_nudges_keep_a_second_between_them() -> None:
    async def main() -> Played:
        played = Played(PlayedProbe([at_once]), config(interval_ms=60_000))
        await asyncio.sleep(2)
        for _ in range(100):
            played.runner.nudge()
            await asyncio.sleep(0.1)
        await played.stop()
        return played

    assert 10 <= run(main()).runner.runs <= 13


def test_a_nudge_during_a_run_gives_another_one() -> None:
    async def main() -> Played:
        played = Played(PlayedProbe([takes(0.3)]), config(interval_ms=60_000))
        while not played.probe.going:
            await asyncio.sleep(0.01)
        played.runner.nudge()
        await asyncio.sleep(3)
        await played.stop()
        return played

    assert run(main()).runner.runs == 2


# --- status, staleness, end -------------------------------------------------------------------


def test_stale_is_a_check_that_has_no_run_and_should_have() -> None:
    async def main() -> list[str | None]:
        probe = PlayedProbe([at_once, takes(60, LATE)], ends_itself=True)
        played = Played(probe, config())
        seen = []
        for _ in range(12):
            await asyncio.sleep(0.9)
            seen.append(played.runner.stale)
        await played.stop()
        return seen

    seen = run(main())
    assert seen[:4] == [None] * 4
    assert seen[-1] is not None
    assert "no run has ended" in seen[-1]


def test_our_own_stall_makes_no_check_stale() -> None:
    async def main() -> str | None:
        played = Played(PlayedProbe([at_once]), config())
        await asyncio.sleep(3)
        loop().stall(60)
        stale = played.runner.stale
        await played.stop()
        return stale

    assert run(main()) is None


def test_a_loop_that_is_late_all_the_time_makes_checks_stale() -> None:
    async def main() -> str | None:
        async def given_up() -> Finding:
            loop().stall(0.9)
            return BAD

        played = Played(PlayedProbe([given_up]), config())
        await asyncio.sleep(9)
        stale = played.runner.stale
        await played.stop()
        return stale

    stale = run(main())
    assert stale is not None
    assert "not scheduled for" in stale


def test_status() -> None:
    played = play([at_once], 5)
    status = played.runner.status("file")
    assert status["kind"] == "file"
    assert status["healthy"] is True
    assert status["verdict"] == "healthy"
    assert status["detail"] == "good"
    assert status["last_ms"] == 0
    assert 0 <= status["next_in_ms"] <= 1500


def test_before_the_first_run_nothing_is_known() -> None:
    async def main() -> dict[str, object]:
        played = Played(PlayedProbe([at_once]), config())
        status = played.runner.status("file")
        await played.stop()
        return status

    status = run(main())
    assert status["healthy"] is None
    assert status["verdict"] == "unknown"
    assert status["last_ms"] is None


def test_initial_healthy_falls_as_configured() -> None:
    async def main() -> Played:
        settings = config(fall=2, initial=Initial.HEALTHY)
        played = Played(PlayedProbe(finds(BAD)), settings)
        await asyncio.sleep(0)
        assert played.runner.judge.word is Word.HEALTHY
        await asyncio.sleep(4)
        await played.stop()
        return played

    played = run(main())
    assert played.words == [Word.FAILED]


def test_the_end_of_a_check_cancels_its_run() -> None:
    async def main() -> Played:
        played = Played(PlayedProbe([takes(99)]), config(timeout_ms=90_000))
        await asyncio.sleep(2)
        assert played.probe.going == 1
        await played.stop()
        await asyncio.sleep(5)
        return played

    played = run(main())
    assert played.probe.going == 0
    assert played.probe.closed
    assert played.events == []
    assert len(played.probe.began) == 1


def test_the_end_does_not_wait_for_a_run_that_does_not_end() -> None:
    async def main() -> float:
        async def stubborn() -> Finding:
            for _ in range(2):
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    continue
            return GOOD

        played = Played(PlayedProbe([stubborn], ends_itself=True), config())
        await asyncio.sleep(2)
        before = loop().time()
        await played.stop()
        return loop().time() - before

    assert run(main()) == pytest.approx(1.0)
