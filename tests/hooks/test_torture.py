"""Hooks under torture, and what a killed vipd leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.hooks import torture
from tests.hooks.rig import LONG_S, Rig, play
from vipd.adapters import session
from vipd.supervisor.hooks import HookOutcome

DRIVER = [sys.executable, "-m", "tests.hooks.torture"]


def drive(where: Path, seed: int, flaps: int, pause_ms: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*DRIVER, str(where), str(seed), str(flaps), str(pause_ms)])


def wait_for_lines(path: Path, number: int) -> None:
    end = time.monotonic() + LONG_S
    while not path.exists() or path.read_text().count("\n") < number:
        assert time.monotonic() < end
        time.sleep(0.005)


def end_all_that_is_alive(where: Path) -> None:
    """What the last driver's hooks left in the background; only processes that they wrote down."""
    for path in (where / "alive").iterdir():
        try:
            command = Path(f"/proc/{path.name}/cmdline").read_bytes()
        except FileNotFoundError:
            continue
        if command.startswith((b"sleep\x001000", b"/bin/sh\x00" + bytes(where / "hook"))):
            os.kill(int(path.name), signal.SIGKILL)


@pytest.mark.parametrize("seed", [1, 2])
def test_flaps_with_hooks_that_misbehave_and_kill_9_in_the_middle(
    tmp_path: Path, seed: int
) -> None:
    """Three lives, two of them killed at an instant that a hook runs, or one is about to."""
    torture.write_hook(tmp_path)
    try:
        for life, kill_at in enumerate((35, 70)):
            with drive(tmp_path, 10 * seed + life, 1000, 50) as driver:
                wait_for_lines(tmp_path / "told", kill_at)
                driver.kill()
        with drive(tmp_path, 10 * seed + 2, 30, 50) as driver:
            assert driver.wait() == 0
        assert torture.judge(tmp_path, lives=3) == []
    finally:
        end_all_that_is_alive(tmp_path)


def test_what_a_killed_vipd_left_is_ended_before_anything_runs_and_reported() -> None:
    """The hook dies with vipd; what it had started in its session is found by the record."""

    async def story(rig: Rig) -> None:
        hook = rig.where / "slow"
        hook.write_text(
            "#!/bin/sh\n"
            "trap '' TERM\n"  # inherited by the child: SIGKILL is needed
            f"sleep 1000 & echo $! >{rig.where}/child.new; "
            f"mv {rig.where}/child.new {rig.where}/child; wait\n"
        )
        hook.chmod(0o755)
        code = (
            "import asyncio, sys; from pathlib import Path; from tests.hooks.rig import Rig;"
            "from vipd.duties import *; from vipd.supervisor.hooks import HookRunner;"
            "where = Path(sys.argv[1])\n"
            "async def main():\n"
            "    rig = Rig(where)\n"
            "    hooks = HookSet('INSTANCE', 'web', {Occasion.MASTER: (str(where / 'slow'),)},"
            " 10**12)\n"
            "    rig.runner.configure([HookPlan('web', (hooks,))])\n"
            "    rig.role('MASTER')\n"
            "    await asyncio.sleep(1000)\n"
            "asyncio.run(main())\n"
        )
        with subprocess.Popen([sys.executable, "-c", code, str(rig.where)]) as driver:
            await rig.until((rig.where / "child").exists)
            driver.kill()
        child = int((rig.where / "child").read_text())
        assert Path(f"/proc/{child}").exists(), "the case is real"
        rig.new_life()
        rig.runner.configure([rig.plan("backup")])
        rig.role("BACKUP")
        await rig.started("web-backup")
        assert not session_has(child), "gone before the first hook of this life"
        await rig.told(2)
        lost, first = rig.events
        assert (lost.outcome, lost.state) == (HookOutcome.LOST, "MASTER")
        assert "was ended" in lost.detail
        assert (first.outcome, first.state) == (HookOutcome.OK, "BACKUP")
        assert first.sequence > lost.sequence
        assert list((rig.where / "run" / "hooks").iterdir()) == []

    play(story)


def session_has(pid: int) -> bool:
    """Alive: a zombie, which somebody else must reap, is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_process_that_has_got_the_number_of_an_old_hook_is_left_alone(tmp_path: Path) -> None:
    """Also another boot, and another container."""
    with subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True) as innocent:
        real = session.session_of(innocent.pid)
        assert session.members(real) == [innocent.pid]
        for field, other in (("started", real.started - 1), ("boot", "x"), ("space", 1)):
            record = {
                "runs": [
                    {
                        "unit": "web",
                        "name": "web",
                        "occasion": "master",
                        "state": "MASTER",
                        "sequence": 1,
                        "command": ["/bin/x"],
                    }
                ],
                "session": {
                    "boot": real.boot,
                    "space": real.space,
                    "leader": real.leader,
                    "started": real.started,
                }
                | {field: other},
            }

            async def story(rig: Rig, record: object = record) -> None:
                (rig.where / "run" / "hooks").mkdir(parents=True)
                (rig.where / "run" / "hooks" / "1.json").write_text(json.dumps(record))
                (rig.where / "run" / "hooks" / "2.json").write_text("rubbish")
                rig.runner.configure([])
                await rig.told(1)
                assert rig.events[0].outcome is HookOutcome.LOST
                assert "not seen" in rig.events[0].detail

            play(story)
            assert innocent.poll() is None
        innocent.kill()


def test_a_service_that_a_hook_started_in_its_own_session_lives_on() -> None:
    async def story(rig: Rig) -> None:
        hook = rig.where / "starts-a-service"
        hook.write_text(f"#!/bin/sh\nsetsid sleep 1000 & echo $! >{rig.where}/service\n")
        hook.chmod(0o755)
        pid = os.posix_spawn(str(hook), [str(hook)], {"PATH": "/bin:/usr/bin"}, setsid=True)
        left = session.session_of(pid)
        os.waitpid(pid, 0)
        service = int((rig.where / "service").read_text())
        await rig.until(lambda: session.session_of(service).leader == service and own(service))
        assert session.members(left) == []
        os.kill(service, signal.SIGKILL)

    def own(pid: int) -> bool:
        return os.getsid(pid) == pid

    play(story)


def test_a_run_that_is_cancelled_is_reported() -> None:
    async def story(rig: Rig) -> None:
        rig.close_gate("web-master")
        rig.runner.configure([rig.plan("master")])
        rig.role("MASTER")
        await rig.started("web-master")
        await asyncio.wait_for(rig.runner.stop(0), LONG_S)
        assert [event.outcome for event in rig.events] in (
            [HookOutcome.ENDED],
            [HookOutcome.FAILED],
        )

    play(story)
