"""The rules of hooks, told as stories over real processes."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from pathlib import Path

import pytest

from tests.hooks.rig import LONG_S, Rig, play
from vipd.duties import HookPlan, Occasion
from vipd.supervisor.hook_record import PER_LIFE, begin_life
from vipd.supervisor.hooks import HookOutcome

# --- what a hook is given ---------------------------------------------------------------------


def test_a_hook_is_given_what_happened_as_arguments_and_environment() -> None:
    async def story(rig: Rig) -> None:
        rig.runner.configure([rig.plan("master")])
        rig.role("MASTER")
        await rig.told(1)
        assert rig.log()[0].arguments == ("INSTANCE", "web", "MASTER", "150")
        given = rig.environment("web-master")
        sequence = given.pop("VIPD_SEQUENCE")
        assert int(sequence) > PER_LIFE
        assert {k: v for k, v in given.items() if k.startswith("VIPD")} == {
            "VIPD_INSTANCE": "web",
            "VIPD_STATE": "MASTER",
            "VIPD_PREVIOUS": "INIT",
            "VIPD_PRIORITY": "150",
            "VIPD_REASON": "master-silent",
            "VIPD_VIPS": "192.0.2.100 2001:db8::100",
            "VIPD_NODE": "lb1",
            "VIPD_MASTER": "192.0.2.12",
        }

    play(story)


def test_a_group_tells_its_own_hooks_and_those_of_its_members() -> None:
    async def story(rig: Rig) -> None:
        sets = (
            rig.set("backup", "any", name="edge", kind="GROUP"),
            rig.set("backup", "any", name="web"),
            rig.set("master", name="api"),
        )
        rig.runner.configure([HookPlan("edge", sets)])
        rig.role("BACKUP", unit="edge")
        await rig.told(4)
        assert rig.ran() == ["edge-backup", "edge-any", "web-backup", "web-any"]
        assert rig.log()[0].arguments == ("GROUP", "edge", "BACKUP", "150")
        assert rig.log()[2].arguments == ("INSTANCE", "web", "BACKUP", "150")
        assert rig.environment("web-any")["VIPD_GROUP"] == "edge"
        assert rig.environment("web-any")["VIPD_INSTANCE"] == "web"

    play(story)


def test_a_hook_runs_as_its_user() -> None:
    async def story(rig: Rig) -> None:
        plan = rig.plan("master", user="nobody")
        command = ("/bin/sh", "-c", "id -un; echo $1 $2", "$0")
        commands = {Occasion.MASTER: command}
        hooks = dataclasses.replace(plan.sets[0], commands=commands)
        rig.runner.configure([HookPlan("web", (hooks,))])
        rig.role("MASTER")
        await rig.told(1)
        assert rig.events[0].output == "nobody\nINSTANCE web\n"

    play(story)


# --- when it runs -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["MASTER", "BACKUP", "FAULT"])
def test_the_state_that_a_unit_starts_in_is_told(state: str) -> None:
    async def story(rig: Rig) -> None:
        rig.runner.configure([rig.plan("master", "backup", "fault", "any")])
        rig.role(state)
        await rig.told(2)
        assert rig.ran() == [f"web-{state.lower()}", "web-any"]

    play(story)


def test_init_is_told_to_any_and_only_after_another_state() -> None:
    async def story(rig: Rig) -> None:
        rig.runner.configure([rig.plan("master", "backup", "fault", "any")])
        rig.role("INIT")
        await rig.idle()
        assert rig.events == []
        rig.role("BACKUP")
        await rig.told(2)
        rig.role("INIT")
        await rig.told(3)
        assert rig.ran() == ["web-backup", "web-any", "web-any"]
        assert rig.log()[-1].state == "INIT"

    play(story)


def test_a_repeated_state_is_no_news() -> None:
    async def story(rig: Rig) -> None:
        rig.runner.configure([rig.plan("backup")])
        for _ in range(3):
            rig.role("BACKUP")
            await rig.idle()
        assert len(rig.events) == 1

    play(story)


def test_after_an_engine_died_as_master_the_same_state_is_news() -> None:
    async def story(rig: Rig) -> None:
        rig.runner.configure([rig.plan("master", "backup")])
        rig.role("MASTER")
        await rig.told(1)
        rig.runner.engine_died()
        rig.role("MASTER")
        await rig.told(2)
        rig.role("BACKUP")
        await rig.told(3)
        rig.runner.engine_died()
        rig.role("BACKUP")
        await rig.idle()
        assert rig.ran() == ["web-master", "web-master", "web-backup"]

    play(story)


def test_states_passed_through_are_skipped_and_reported_and_the_last_one_runs() -> None:
    async def story(rig: Rig) -> None:
        rig.close_gate("web-master")
        rig.runner.configure([rig.plan("master", "backup", "fault")])
        rig.role("MASTER")
        await rig.started("web-master")
        rig.role("BACKUP")
        rig.role("MASTER")
        rig.role("FAULT")
        assert rig.ran() == ["web-master"], "one at a time"
        rig.open_gate("web-master")
        await rig.told(4)
        assert rig.ran() == ["web-master", "web-fault"]
        assert rig.outcomes() == [
            ("web-backup", "skipped"),
            ("web-master", "skipped"),
            ("web-master", "ok"),
            ("web-fault", "ok"),
        ]
        first, last = rig.log()
        assert last.sequence == first.sequence + 3, "the gap shows how many were skipped"
        assert last.previous == "MASTER", "what this unit's hooks were told before"

    play(story)


def test_the_rest_of_an_older_state_is_skipped() -> None:
    async def story(rig: Rig) -> None:
        rig.close_gate("web-master")
        rig.runner.configure([rig.plan("master", "backup", "any")])
        rig.role("MASTER")
        await rig.started("web-master")
        rig.role("BACKUP")
        rig.open_gate("web-master")
        await rig.told(4)
        assert rig.ran() == ["web-master", "web-backup", "web-any"]
        assert ("web-any", "skipped") in rig.outcomes()
        assert rig.log()[-1].state == "BACKUP"

    play(story)


def test_units_run_side_by_side() -> None:
    async def story(rig: Rig) -> None:
        rig.close_gate("web-master")
        plans = [rig.plan("master"), HookPlan("api", (rig.set("master", name="api"),))]
        rig.runner.configure(plans)
        rig.role("MASTER")
        await rig.started("web-master")
        rig.role("MASTER", unit="api")
        await rig.told(1)
        assert rig.events[0].unit == "api"
        rig.open_gate("web-master")

    play(story)


# --- failure ----------------------------------------------------------------------------------


def test_a_failure_is_reported_and_stands_until_a_later_run_succeeds() -> None:
    async def story(rig: Rig) -> None:
        rig.answer("web-master", 3)
        rig.runner.configure([rig.plan("master", "backup", "any")])
        rig.role("MASTER")
        await rig.told(2)
        event = rig.events[0]
        assert (event.outcome, event.status, event.attempts) == (HookOutcome.FAILED, 3, 1)
        assert event.output == "said by web-master\n"
        assert rig.runner.failures() == [("web", "master hook of web: exit status 3")]
        assert rig.events[1].outcome is HookOutcome.OK, "any runs all the same"
        status = rig.runner.status()["web"]
        assert isinstance(status, dict)
        assert (status["failures"], status["state"]) == (1, "MASTER")
        assert status["last"]["occasion"] == "any"
        rig.role("BACKUP")
        await rig.told(4)
        assert rig.runner.failures() == []

    play(story)


def test_a_failed_run_is_repeated() -> None:
    async def story(rig: Rig) -> None:
        rig.runner.configure([rig.plan("master", status=1, retries=3)])
        rig.role("MASTER")
        await rig.told(1)
        assert len(rig.events) == 1, "one hook, one report"
        assert (rig.events[0].outcome, rig.events[0].attempts) == (HookOutcome.FAILED, 4)
        assert len(rig.log()) == 4
        assert len({line.sequence for line in rig.log()}) == 1, "the same change"

    play(story)


def test_a_repeated_run_that_succeeds_is_a_success() -> None:
    async def story(rig: Rig) -> None:
        rig.close_gate("web-master")
        rig.answer("web-master", 1)
        rig.runner.configure([rig.plan("master", retries=1000)])
        rig.role("MASTER")
        await rig.started("web-master")
        rig.open_gate("web-master")
        await rig.started("web-master", 2)
        rig.answer("web-master", 0)
        await rig.told(1)
        assert rig.events[0].outcome is HookOutcome.OK
        assert rig.events[0].attempts >= 2
        assert rig.runner.failures() == []

    play(story)


def test_a_newer_state_ends_the_retries() -> None:
    async def story(rig: Rig) -> None:
        rig.runner.configure([rig.plan("master", "backup", status=1, retries=1_000_000)])
        rig.role("MASTER")
        await rig.started("web-master", 2)
        rig.role("BACKUP")
        await rig.started("web-backup")
        assert rig.events[0].outcome is HookOutcome.FAILED
        assert "web-master" not in rig.ran()[rig.ran().index("web-backup") :]

    play(story)


def test_a_hook_that_hangs_is_ended_and_the_next_one_runs() -> None:
    async def story(rig: Rig) -> None:
        rig.close_gate("web-master")
        rig.runner.configure([rig.plan("master", "any", timeout_s=0.1)])
        rig.role("MASTER")
        await rig.told(2)
        assert rig.events[0].outcome is HookOutcome.TIMED_OUT
        assert rig.events[0].timed_out
        assert rig.outcomes()[1] == ("web-any", "ok")

    play(story)


def test_a_refused_hook_is_a_failure_with_its_reason() -> None:
    async def story(rig: Rig) -> None:
        rig.runner.configure([rig.plan("master")])
        rig.hook.chmod(0o777)
        rig.role("MASTER")
        await rig.told(1)
        assert rig.events[0].outcome is HookOutcome.REFUSED
        assert f"{rig.hook} is writable by everybody" in rig.runner.failures()[0][1]

    play(story)


# --- leaving and stop -------------------------------------------------------------------------


def test_leaving_runs_where_the_unit_is_master_and_is_waited_for() -> None:
    async def story(rig: Rig) -> None:
        plans = [
            rig.plan("master", "leaving", "any"),
            HookPlan("api", (rig.set("leaving", name="api"),)),
        ]
        rig.runner.configure(plans)
        rig.role("MASTER")
        rig.role("BACKUP", unit="api")
        await rig.idle()
        await rig.runner.leaving(["web", "api", "unknown"], "maintenance")
        assert rig.ran() == ["web-master", "web-any", "web-leaving"]
        assert rig.log()[-1].arguments == ("INSTANCE", "web", "LEAVING", "150")
        assert rig.environment("web-leaving")["VIPD_REASON"] == "maintenance"
        assert rig.environment("web-leaving")["VIPD_PREVIOUS"] == "MASTER"

    play(story)


def test_leaving_ends_with_its_budget() -> None:
    async def story(rig: Rig) -> None:
        rig.close_gate("web-leaving")
        rig.runner.configure([rig.plan("backup", "leaving", timeout_s=0.2)])
        rig.role("MASTER")
        begin = time.monotonic()
        await rig.runner.leaving(["web"], "maintenance")
        assert time.monotonic() - begin < LONG_S / 2
        rig.role("BACKUP")
        await rig.told(2)
        assert rig.outcomes() == [("web-leaving", "timed-out"), ("web-backup", "ok")]
        assert rig.log()[-1].previous == "MASTER", "leaving is no state"

    play(story)


def test_leaving_that_found_no_time_is_reported() -> None:
    async def story(rig: Rig) -> None:
        rig.close_gate("web-master")
        plan = rig.plan("master", "leaving", timeout_s=LONG_S)
        quick = dataclasses.replace(plan.sets[0], timeout_ns=50_000_000)
        rig.runner.configure([plan])
        rig.role("MASTER")
        await rig.started("web-master")
        rig.runner.configure([HookPlan("web", (quick,))])
        await rig.runner.leaving(["web"], "maintenance")
        assert rig.outcomes() == [("web-leaving", "skipped")]
        rig.open_gate("web-master")
        await rig.told(2)
        assert rig.ran() == ["web-master"]

    play(story)


def test_a_unit_that_lost_its_role_meanwhile_is_not_drained() -> None:
    async def story(rig: Rig) -> None:
        rig.close_gate("web-master")
        rig.runner.configure([rig.plan("master", "backup", "leaving")])
        rig.role("MASTER")
        await rig.started("web-master")
        leaving = asyncio.create_task(rig.runner.leaving(["web"], "maintenance"))
        await rig.until(lambda: "LEAVING" in rig.queued())
        rig.role("BACKUP")
        rig.open_gate("web-master")
        await leaving
        await rig.told(3)
        assert rig.ran() == ["web-master", "web-backup"]
        assert rig.outcomes()[-1] == ("web-leaving", "skipped")

    play(story)


def test_stop_is_told_last_and_the_release_before_it_is_not() -> None:
    async def story(rig: Rig) -> None:
        rig.runner.configure([rig.plan("master", "backup", "stop", "any")])
        rig.role("MASTER")
        await rig.told(2)
        rig.role("INIT", reason="stopped")
        await rig.runner.stop(LONG_S)
        assert rig.ran() == ["web-master", "web-any", "web-stop", "web-any"]
        assert rig.log()[-1].arguments == ("INSTANCE", "web", "STOP", "150")
        assert rig.log()[-1].previous == "MASTER"
        rig.role("MASTER")
        await rig.idle()
        assert len(rig.events) == 4, "after a stop comes nothing"

    play(story)


def test_stop_waits_for_the_hook_before_it() -> None:
    async def story(rig: Rig) -> None:
        rig.close_gate("web-master")
        rig.runner.configure([rig.plan("master", "backup", "stop")])
        rig.role("MASTER")
        await rig.started("web-master")
        rig.role("BACKUP")
        stopping = asyncio.create_task(rig.runner.stop(LONG_S))
        await rig.told(1)
        assert rig.outcomes() == [("web-backup", "skipped")]
        rig.open_gate("web-master")
        await stopping
        assert rig.outcomes()[1:] == [("web-master", "ok"), ("web-stop", "ok")]

    play(story)


def test_a_hook_that_hangs_does_not_take_the_time_of_stop() -> None:
    async def story(rig: Rig) -> None:
        rig.close_gate("web-master")
        rig.runner.configure([rig.plan("master", "stop")])
        rig.role("MASTER")
        await rig.started("web-master")
        await rig.runner.stop(1.0)
        assert rig.outcomes() == [("web-master", "failed"), ("web-stop", "ok")]
        assert "SIGTERM" in rig.events[0].detail

    play(story)


@pytest.mark.parametrize("ticks", range(6))
def test_a_stop_between_two_tries_ends_at_once(ticks: int) -> None:
    """Whatever the loop does first: the news of the stop, or the end of the worker."""

    async def story(rig: Rig) -> None:
        rig.new_life(retry_pause_s=1000 * LONG_S)
        rig.runner.configure([rig.plan("master", "backup", status=1, retries=9)])
        rig.role("MASTER")
        await rig.started("web-master")
        await rig.until(lambda: rig.running() is None)
        stopping = asyncio.create_task(rig.runner.stop(LONG_S if ticks == 5 else 0))
        for _ in range(ticks):
            await asyncio.sleep(0)
        await asyncio.wait_for(stopping, LONG_S)
        assert rig.outcomes() == [("web-master", "failed")]

    play(story)


def test_a_stop_hook_that_hangs_ends_with_the_budget() -> None:
    async def story(rig: Rig) -> None:
        rig.close_gate("web-stop")
        rig.runner.configure([rig.plan("stop")])
        rig.role("BACKUP")
        begin = time.monotonic()
        await rig.runner.stop(0.2)
        assert time.monotonic() - begin < LONG_S / 2
        assert [e.outcome for e in rig.events] in ([HookOutcome.TIMED_OUT], [HookOutcome.ENDED])

    play(story)


# --- reload -----------------------------------------------------------------------------------


def test_a_reload_changes_the_hooks_of_the_next_change_only() -> None:
    async def story(rig: Rig) -> None:
        rig.runner.configure([rig.plan("master")])
        rig.role("MASTER")
        await rig.told(1)
        rig.runner.configure([rig.plan("master", "backup", status=1)])
        await rig.idle()
        assert len(rig.events) == 1, "no state changed"
        rig.role("BACKUP")
        await rig.told(2)
        assert rig.events[1].status == 1

    play(story)


def test_a_removed_unit_is_told_its_stop_after_the_release() -> None:
    async def story(rig: Rig) -> None:
        rig.runner.configure([rig.plan("master", "backup", "stop")])
        rig.role("MASTER")
        await rig.told(1)
        rig.runner.configure([])
        await rig.idle()
        assert rig.ran() == ["web-master"], "not before the VIPs are gone"
        rig.role("BACKUP", reason="removed-from-configuration")
        await rig.told(2)
        assert rig.ran() == ["web-master", "web-stop"]
        await rig.until(lambda: rig.runner.status() == {})

    play(story)


def test_a_unit_that_comes_back_is_told_its_state_again() -> None:
    async def story(rig: Rig) -> None:
        rig.runner.configure([rig.plan("backup", "stop")])
        rig.role("BACKUP")
        await rig.told(1)
        rig.runner.configure([])
        await rig.told(2)
        rig.runner.configure([rig.plan("backup", "stop")])
        rig.role("BACKUP")
        await rig.told(3)
        assert rig.ran() == ["web-backup", "web-stop", "web-backup"]

    play(story)


def test_a_unit_that_comes_back_while_its_stop_is_told_is_told_its_state_again() -> None:
    async def story(rig: Rig) -> None:
        rig.close_gate("web-stop")
        rig.runner.configure([rig.plan("backup", "stop")])
        rig.role("BACKUP")
        await rig.told(1)
        rig.runner.configure([])
        await rig.started("web-stop")
        rig.runner.configure([rig.plan("backup", "stop")])
        rig.role("BACKUP")
        rig.open_gate("web-stop")
        await rig.told(3)
        assert rig.ran() == ["web-backup", "web-stop", "web-backup"]
        assert rig.log()[-1].previous == "STOP"

    play(story)


def test_a_unit_that_is_brought_back_before_its_stop_is_not_stopped() -> None:
    async def story(rig: Rig) -> None:
        rig.runner.configure([rig.plan("master", "backup", "stop")])
        rig.role("MASTER")
        await rig.told(1)
        rig.runner.configure([])
        rig.runner.configure([rig.plan("master", "backup", "stop")])
        rig.role("BACKUP")
        await rig.told(2)
        assert rig.ran() == ["web-master", "web-backup"]

    play(story)


# --- numbers ----------------------------------------------------------------------------------


def test_numbers_grow_over_restarts(tmp_path: Path) -> None:
    first, second, third = (begin_life(tmp_path) for _ in range(3))
    assert first + PER_LIFE <= second < third


def test_numbers_survive_a_clock_that_was_put_back(tmp_path: Path) -> None:
    tomorrow = int(time.time()) + 86400
    (tmp_path / "hooks-life").write_text(str(tomorrow))
    assert begin_life(tmp_path) == (tomorrow + 1) * PER_LIFE


def test_numbers_grow_where_nothing_can_be_written(tmp_path: Path) -> None:
    begin = int(time.time())
    assert begin_life(tmp_path / "missing") >= begin * PER_LIFE
    (tmp_path / "hooks-life").write_text("rubbish")
    assert begin_life(tmp_path) >= begin * PER_LIFE


def test_a_runtime_dir_that_cannot_be_written_stops_no_hook() -> None:
    async def story(rig: Rig) -> None:
        (rig.where / "run").write_text("a file where the directory should be")
        rig.runner.configure([rig.plan("master")])
        rig.role("MASTER")
        await rig.told(1)
        assert rig.events[0].outcome is HookOutcome.OK

    play(story)


def test_a_record_is_kept_only_while_a_hook_runs() -> None:
    async def story(rig: Rig) -> None:
        rig.close_gate("web-master")
        rig.runner.configure([rig.plan("master")])
        rig.role("MASTER")
        await rig.started("web-master")
        assert len(os.listdir(rig.where / "run" / "hooks")) == 1
        rig.open_gate("web-master")
        await rig.told(1)
        assert os.listdir(rig.where / "run" / "hooks") == []

    play(story)
