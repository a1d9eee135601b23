"""One run of one program. Real processes; those that must not end wait for a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pwd
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vipd.adapters import spawn
from vipd.supervisor import scripts
from vipd.supervisor.scripts import Outcome, ScriptRefused

LONG_S = 30.0
"""Never reached in a test that passes."""


def run(
    *command: str,
    user: str | None = None,
    timeout_s: float = LONG_S,
    grace_s: float = LONG_S,
    environment: dict[str, str] | None = None,
) -> Outcome:
    return asyncio.run(
        scripts.run(
            command, user=user, environment=environment or {}, timeout_s=timeout_s, grace_s=grace_s
        )
    )


def script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def status_fields(outcome: Outcome) -> dict[str, list[str]]:
    lines = (line.partition(":") for line in outcome.output.splitlines())
    return {name: rest.split() for name, _, rest in lines}


# --- what it inherits -------------------------------------------------------------------------


def test_it_runs_as_the_user_with_no_privilege_left() -> None:
    nobody = pwd.getpwnam("nobody")
    fields = status_fields(run("/bin/grep", "", "/proc/self/status", user="nobody"))
    assert fields["Uid"] == [str(nobody.pw_uid)] * 4
    assert fields["Gid"] == [str(nobody.pw_gid)] * 4
    assert fields["Groups"] == [str(nobody.pw_gid)]
    for which in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(fields[which][0], 16) == 0, which
    assert int(fields["SigBlk"][0], 16) == 0


def test_supplementary_groups_are_those_of_the_user() -> None:
    """Debian's own accounts: a member of a second group, if there is one; root's are gone."""
    me = set(os.getgroups())
    groups = run("/usr/bin/id", "-G", user="daemon").output.split()
    daemon = pwd.getpwnam("daemon")
    assert {int(g) for g in groups} == set(os.getgrouplist("daemon", daemon.pw_gid))
    assert str(daemon.pw_gid) in groups
    assert not (me - set(os.getgrouplist("daemon", daemon.pw_gid))) & {int(g) for g in groups}


def test_inherited_capabilities_of_vipd_are_not_handed_on() -> None:
    """vipd started with ambient and inheritable capabilities, as by a service manager."""
    program = (
        "import asyncio; from vipd.supervisor.scripts import run;"
        "print(asyncio.run(run(['/bin/grep', 'Cap', '/proc/self/status'],"
        "user=None, environment={}, timeout_s=30)).output)"
    )
    caps = ("--inh-caps=+net_admin,+setuid", "--ambient-caps=+net_admin,+setuid")
    shown = subprocess.run(
        ["/usr/bin/setpriv", *caps, sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    fields = status_fields(Outcome(0, False, shown, 0))
    assert int(fields["CapInh"][0], 16) == 0
    assert int(fields["CapAmb"][0], 16) == 0


def test_it_gets_no_descriptor_but_the_three() -> None:
    ours, theirs = os.pipe()
    os.set_inheritable(ours, True)  # as one that vipd was started with
    try:
        listed = run("/bin/ls", "-l", "/proc/self/fd").output.splitlines()[1:]
    finally:
        os.close(ours)
        os.close(theirs)
    targets = {line.split()[-3]: line.split()[-1] for line in listed}
    assert set(targets) == {"0", "1", "2", "3"}
    assert targets["0"] == "/dev/null"
    assert targets["1"] == targets["2"]
    assert targets["3"].endswith("/fd"), "what ls itself opened"


def test_the_environment_is_clean() -> None:
    os.environ["SECRET_OF_OURS"] = "x"
    try:
        outcome = run("/usr/bin/env", user="nobody", environment={"VIPD_STATE": "MASTER"})
    finally:
        del os.environ["SECRET_OF_OURS"]
    shown = dict(line.split("=", 1) for line in outcome.output.splitlines())
    assert shown == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/nonexistent",
        "USER": "nobody",
        "LOGNAME": "nobody",
        "VIPD_STATE": "MASTER",
    }


def test_arguments_are_words_and_no_shell() -> None:
    assert run("/bin/echo", "$HOME;", "a  b", "*").output == "$HOME; a  b *\n"


def test_it_leads_its_own_session_with_default_signals(tmp_path: Path) -> None:
    stat = run("/bin/cat", "/proc/self/stat").output.split()
    assert stat[0] == stat[4] == stat[5], "process, group, session"
    # Python ignores SIGPIPE; a program that inherits this never ends in `yes | head`.
    fields = status_fields(run("/bin/grep", "Sig", "/proc/self/status"))
    ignored = int(fields["SigIgn"][0], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1))
    assert not ignored & (1 << (signal.SIGHUP - 1))


def test_it_does_not_go_first_as_vipd_does() -> None:
    program = (
        "import asyncio, os; from vipd.supervisor.scripts import run; os.nice(-15);"
        "print(asyncio.run(run(['/usr/bin/nice'], user='nobody', environment={},"
        "timeout_s=30)).output)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    assert int(shown) == 0


def test_the_memory_killer_does_not_spare_it_as_vipd() -> None:
    """The chain really runs; here the test itself is not spared, which would need a privilege."""
    chain = spawn.renouncing(spawn.account_of("nobody"), -900, 0)
    assert chain[:4] == ["/usr/bin/choom", "-n", "0", "--"]
    shown = subprocess.run(
        [*chain, "/usr/bin/id", "-un"], stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    assert shown.splitlines()[-1] == "nobody"
    assert spawn.renouncing(spawn.account_of("nobody"), 300, 5)[0] == "/usr/bin/setpriv"


# --- how it ends ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("exit 0", 0, "ok"),
        ("exit 7", 7, "exit status 7"),
        ("kill -SEGV $$", -signal.SIGSEGV, "killed by SIGSEGV"),
    ],
)
def test_exit_status_or_signal_is_told(tmp_path: Path, body: str, status: int, words: str) -> None:
    outcome = run(script(tmp_path / "s", body))
    assert (outcome.status, outcome.timed_out) == (status, False)
    assert scripts.describe(outcome) == words


def test_a_timeout_is_told_apart_from_a_failure(tmp_path: Path) -> None:
    outcome = run("/bin/sleep", "1000", timeout_s=0.01)
    assert (outcome.status, outcome.timed_out) == (-signal.SIGTERM, True)
    assert scripts.describe(outcome).startswith("timed out after")


def test_it_may_clean_up_at_the_timeout(tmp_path: Path) -> None:
    body = "trap 'echo cleaned; exit 0' TERM; echo ready; sleep 1000 & wait"
    outcome = run(script(tmp_path / "s", body), timeout_s=0.2)
    assert (outcome.output, outcome.timed_out) == ("ready\ncleaned\n", True)


def test_what_ignores_sigterm_is_killed_with_all_its_children(tmp_path: Path) -> None:
    body = "trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000"
    outcome = run(script(tmp_path / "s", body), timeout_s=0.2, grace_s=0.05)
    assert (outcome.status, outcome.timed_out) == (-signal.SIGKILL, True)
    assert is_dead(int(outcome.output))


def is_dead(pid: int) -> bool:
    """Waits until it is: through a pidfd, if it still lives."""
    try:
        fd = os.pidfd_open(pid)
    except OSError as error:
        return error.errno == errno.ESRCH
    try:
        return bool(select.select([fd], [], [], LONG_S)[0])
    finally:
        os.close(fd)


def test_a_child_in_the_background_that_holds_the_pipe_hangs_nobody(tmp_path: Path) -> None:
    begin = time.monotonic()
    outcome = run(script(tmp_path / "s", "sleep 1000 & echo $!; exit 0"))
    assert (outcome.status, outcome.timed_out) == (0, False)
    assert time.monotonic() - begin < LONG_S
    os.kill(int(outcome.output), signal.SIGKILL)  # it lived on: that is its owner's business


def test_what_a_failed_program_left_running_is_killed(tmp_path: Path) -> None:
    outcome = run(script(tmp_path / "s", "sleep 1000 & echo $!; kill -SEGV $$"))
    assert (outcome.status, outcome.timed_out) == (-signal.SIGSEGV, False)
    assert is_dead(int(outcome.output))


def test_a_cancelled_run_is_killed(tmp_path: Path) -> None:
    pids: list[int] = []

    async def cancel_it() -> None:
        task = asyncio.create_task(
            scripts.run(
                ["/bin/sleep", "1000"],
                user=None,
                environment={},
                timeout_s=LONG_S,
                started=pids.append,
            )
        )
        while not pids:
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(cancel_it(), LONG_S))
    assert is_dead(pids[0])


def test_it_dies_with_vipd(tmp_path: Path) -> None:
    """kill -9 of the process that started it; the kernel does the rest."""
    program = (
        "import asyncio; from vipd.supervisor.scripts import run;"
        "asyncio.run(run(['/bin/sleep', '1000'], user='nobody', environment={}, timeout_s=999,"
        "started=lambda pid: print(pid, flush=True)))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_for_program(pid, "sleep")
        parent.kill()
        assert is_dead(pid)


def wait_for_program(pid: int, name: str) -> None:
    end = time.monotonic() + LONG_S
    while Path(f"/proc/{pid}/comm").read_text().strip() != name:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_program_on_record_begins_after_it_was_told_and_else_never(tmp_path: Path) -> None:
    """The one that tells is killed before it has: the program must not run."""
    body = script(tmp_path / "s", f"echo ran >{tmp_path}/ran; cat")
    program = (
        "import asyncio, os, sys; from vipd.supervisor.scripts import run;"
        "asyncio.run(run([sys.argv[1]], user=None, environment={}, timeout_s=999,"
        "started=lambda pid: (print(pid, flush=True), sys.stdin.read())))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, body], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
        assert is_dead(pid)
    assert not (tmp_path / "ran").exists()

    async def recorded() -> Outcome:
        return await scripts.run(
            [body],
            user=None,
            environment={},
            timeout_s=LONG_S,
            started=lambda pid: (tmp_path / "told").touch(),
        )

    outcome = asyncio.run(recorded())
    assert (outcome.status, outcome.output) == (0, ""), "its input is empty, as without a gate"
    assert (tmp_path / "ran").exists()


# --- output -----------------------------------------------------------------------------------


def test_the_first_bytes_of_output_are_kept(tmp_path: Path) -> None:
    outcome = run("/bin/sh", "-c", "echo first; echo second >&2; head -c 100000 /dev/zero")
    assert outcome.output.startswith("first\nsecond\n")
    assert len(outcome.output) == 4096
    assert outcome.status == 0, "a chatty program is not blamed"


def test_control_characters_do_not_reach_a_terminal() -> None:
    outcome = run("/usr/bin/printf", r"a\033[31mb\001\377\n")
    assert outcome.output == "a\ufffd[31mb\ufffd\ufffd\n"


def test_a_flood_costs_us_nothing() -> None:
    """A writer of gigabytes is made to wait: its CPU time and ours stay small."""
    before = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    outcome = run("/bin/cat", "/dev/zero", timeout_s=1.0)
    after = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    assert outcome.timed_out
    for old, new in zip(before, after, strict=True):
        assert new.ru_utime + new.ru_stime - old.ru_utime - old.ru_stime < 0.25


# --- refusals ---------------------------------------------------------------------------------


def refusal(*command: str, user: str | None = None) -> str:
    with pytest.raises(ScriptRefused) as caught:
        run(*command, user=user)
    return str(caught.value)


def test_a_name_without_a_path_is_refused() -> None:
    assert "whole path" in refusal("true")


def test_an_unknown_user_is_refused() -> None:
    assert "no-such-user does not exist" in refusal("/bin/true", user="no-such-user")


def test_a_later_chmod_is_caught_at_the_next_run(tmp_path: Path) -> None:
    path = script(tmp_path / "s", "exit 0")
    assert run(path).status == 0
    Path(path).chmod(0o777)
    assert f"{path} is writable by everybody" in refusal(path)
    assert "`user`" in refusal(path, user="root"), "root by name is root"


def test_another_user_may_run_what_root_may_not() -> None:
    path = Path("/tmp") / f"vipd-test-{os.getpid()}"
    try:
        script(path, "id -un")
        path.chmod(0o777)
        assert run(str(path), user="nobody").output == "nobody\n"
    finally:
        path.unlink()


def test_what_cannot_be_run_is_said_before_the_start(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("echo no first line\n")
    assert "not executable" in refusal(str(plain))
    plain.chmod(0o755)
    assert "#!" in refusal(str(plain))
    assert "No such file" in refusal(str(tmp_path / "missing"))
    assert "no regular file" in refusal(str(tmp_path))


def test_a_null_byte_is_refused() -> None:
    assert "null" in refusal("/bin/echo", "a\0b")


def test_no_descriptor_is_left_behind() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def many() -> int:
        for _ in range(3):
            await scripts.run(["/bin/true"], user=None, environment={}, timeout_s=LONG_S)
        before = count()
        for _ in range(10):
            await scripts.run(["/bin/true"], user=None, environment={}, timeout_s=LONG_S)
            with contextlib.suppress(ScriptRefused):
                await scripts.run(["/bin/a\0"], user=None, environment={}, timeout_s=LONG_S)
        return count() - before

    assert asyncio.run(many()) == 0
