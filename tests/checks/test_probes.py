"""Every kind against the real thing: sockets on loopback, files, processes, programs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.checks.rig import config
from vipd.adapters import processes
from vipd.duties import FileProbe, Probe, ProcessProbe, ScriptProbe, SystemdProbe, TcpProbe
from vipd.supervisor.checks import probe_host
from vipd.supervisor.checks.board import Workshop
from vipd.supervisor.checks.findings import Finding, ProbeFailed, Unjudged, Word, one_line
from vipd.supervisor.checks.probe_command import SystemdCheck
from vipd.supervisor.checks.probe_host import ProcessTable
from vipd.supervisor.checks.threads import Threads
from vipd.supervisor.scripts import Outcome

_Result = TypeVar("_Result")


def ask(probe: Probe, runs: int = 1, timeout_s: float = 5.0) -> Finding:
    """What the last of some runs found; raises what the probe raises."""

    async def main() -> Finding:
        workshop = Workshop()
        made = workshop.make(config(probe=probe), lambda: None)
        try:
            for _ in range(runs):
                finding = await asyncio.wait_for(made.run(timeout_s), timeout_s + 5)
        finally:
            made.close()
            workshop.close()
        return finding

    return asyncio.run(main())


def fails(probe: Probe) -> str:
    with pytest.raises(ProbeFailed) as caught:
        ask(probe)
    return str(caught.value)


# --- tcp --------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tcp_accepted(listener: int, host: str) -> None:
    finding = ask(TcpProbe(host, listener))
    assert (finding.word, finding.detail) == (Word.HEALTHY, f"127.0.0.1:{listener} accepts")


def test_tcp_from_a_source(listener: int) -> None:
    assert ask(TcpProbe("127.0.0.1", listener, bytes([127, 0, 0, 9]))).word is Word.HEALTHY
    assert "Cannot assign" in fails(TcpProbe("127.0.0.1", listener, bytes([192, 0, 2, 1])))
    assert "no IPv6" in fails(TcpProbe("127.0.0.1", listener, bytes(15) + b"\1"))


def test_tcp_refused() -> None:
    port = closed_port()
    assert fails(TcpProbe("127.0.0.1", port)) == f"127.0.0.1:{port}: Connection refused"


def test_tcp_of_a_name_that_there_is_not() -> None:
    assert "does.not.exist.invalid: " in fails(TcpProbe("does.not.exist.invalid", 80))
    fails(TcpProbe("a" * 70 + ".example", 80))  # no name at all: a UnicodeError of Python's


def test_no_descriptor_left_is_no_verdict(listener: int) -> None:
    async def main() -> None:
        workshop = Workshop()
        made = workshop.make(config(probe=TcpProbe("127.0.0.1", listener)), lambda: None)
        taken = []
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        try:
            with pytest.raises(Unjudged, match="Too many open files"):
                await made.run(1)
        finally:
            for fd in taken:
                os.close(fd)
            workshop.close()

    with limited_descriptors():
        asyncio.run(main())


@contextlib.contextmanager
def limited_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- file -------------------------------------------------------------------------------------


def test_file_exists_or_is_absent(tmp_path: Path) -> None:
    path = tmp_path / "drain"
    assert fails(FileProbe(str(path))) == f"{path} is not there"
    assert ask(FileProbe(str(path), absent=True)).word is Word.HEALTHY
    path.touch()
    assert ask(FileProbe(str(path))).detail == f"{path} exists"
    assert fails(FileProbe(str(path), absent=True)) == f"{path} exists"
    beneath = str(path / "file")  # a path through what is no directory
    assert ask(FileProbe(beneath, absent=True)).word is Word.HEALTHY


@pytest.mark.parametrize(
    ("content", "number"), [("20", 20), ("-254\n", -254), ("  +7 \n\n", 7), ("0", 0)]
)
def test_file_with_a_number(tmp_path: Path, content: str, number: int) -> None:
    path = tmp_path / "weight"
    path.write_text(content)
    assert ask(FileProbe(str(path), number=True)).number == number


@pytest.mark.parametrize("content", ["", "ten", "1.5", "1 2", "9" * 80, "0x10", "١٢"])
def test_file_without_a_number(tmp_path: Path, content: str) -> None:
    path = tmp_path / "weight"
    path.write_text(content)
    assert "whole number" in fails(FileProbe(str(path), number=True))


def test_a_number_file_that_is_not_there_counts_as_0(tmp_path: Path) -> None:
    finding = ask(FileProbe(str(tmp_path / "weight"), number=True))
    assert (finding.word, finding.number) == (Word.HEALTHY, 0)


def test_a_pipe_in_the_place_of_a_number_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / "weight"
    os.mkfifo(path)
    assert "whole number" in fails(FileProbe(str(path), number=True))
    assert "Is a directory" in fails(FileProbe(str(tmp_path), number=True))


# --- threads ----------------------------------------------------------------------------------


def in_threads(work: Callable[[Threads], Awaitable[_Result]]) -> _Result:
    async def main() -> _Result:
        threads = Threads(asyncio.get_running_loop())
        try:
            return await work(threads)
        finally:
            threads.close()

    return asyncio.run(main())


def test_a_hundred_hanging_calls_delay_no_other() -> None:
    release = threading.Event()

    async def work(threads: Threads) -> None:
        hanging = [asyncio.create_task(threads.run(i, release.wait)) for i in range(100)]
        await asyncio.sleep(0)
        assert await threads.run("other", lambda: 42) == 42
        assert threads.busy == 100
        release.set()
        assert all(await asyncio.gather(*hanging))
        assert threads.busy == 0

    in_threads(work)


def test_an_owner_has_one_call_at_a_time() -> None:
    release = threading.Event()

    async def work(threads: Threads) -> None:
        first = asyncio.create_task(threads.run("owner", release.wait))
        await asyncio.sleep(0)
        first.cancel()
        second = asyncio.create_task(threads.run("owner", lambda: "second"))
        await asyncio.sleep(0.05)
        assert not second.done()
        release.set()
        assert await second == "second"

    in_threads(work)


def test_an_error_of_a_call_is_its_callers() -> None:
    def bad() -> None:
        raise FileNotFoundError(2, "nothing")

    async def work(threads: Threads) -> None:
        with pytest.raises(FileNotFoundError):
            await threads.run("owner", bad)
        assert await threads.run("owner", lambda: 1) == 1

    in_threads(work)


# --- process ----------------------------------------------------------------------------------

_SLEEPER = "import ctypes, sys, time; ctypes.CDLL(None).prctl(15, {name!r}); print(flush=True); "


@pytest.fixture
def orphan() -> Iterator[Callable[[str], int]]:
    """Starts processes by their comm, not descended from us."""
    pids = []

    def start(name: str) -> int:
        text = _SLEEPER.format(name=name.encode()) + "time.sleep(60)"
        middle = (
            "import subprocess, sys;"
            f"child = subprocess.Popen([sys.executable, '-c', {text!r}],"
            " stdout=subprocess.PIPE, stderr=subprocess.DEVNULL);"
            "child.stdout.readline(); print(child.pid)"
        )
        done = subprocess.run(
            [sys.executable, "-c", middle], capture_output=True, text=True, check=True
        )
        pids.append(int(done.stdout))
        return pids[-1]

    yield start
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)


def test_process_present_and_counted(orphan: Callable[[str], int]) -> None:
    assert fails(ProcessProbe("vipd-test-a")) == "no vipd-test-a running"
    first = orphan("vipd-test-a")
    assert ask(ProcessProbe("vipd-test-a"), runs=3).detail == f"process {first}"
    assert fails(ProcessProbe("vipd-test-a", 2)) == "1 vipd-test-a of 2 running"
    second = orphan("vipd-test-a")
    both = ", ".join(map(str, sorted((first, second))))
    assert ask(ProcessProbe("vipd-test-a", 2)).detail == f"processes {both}"


def test_our_own_descendants_prove_nothing() -> None:
    text = _SLEEPER.format(name=b"vipd-test-b") + "time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert processes.has_name(processes.names_of(child.pid), "vipd-test-b")
        assert fails(ProcessProbe("vipd-test-b")) == "no vipd-test-b running"
        child.kill()


def test_one_search_serves_those_who_come_together_and_nobody_who_needs_a_newer_one() -> None:
    async def main() -> None:
        table = ProcessTable()
        now = asyncio.get_running_loop().time()
        first, second = await asyncio.gather(table.names(now), table.names(now - 1))
        assert first is second
        assert os.getpid() in first
        assert await table.names(now) is first
        later = asyncio.get_running_loop().time()
        third, fourth = await asyncio.gather(table.names(later), table.names(later))
        assert third is fourth
        assert third is not first

    asyncio.run(main())


def test_a_death_is_heard_at_once(orphan: Callable[[str], int]) -> None:
    pid = orphan("vipd-test-c")

    async def main() -> float:
        died = asyncio.Event()
        workshop = Workshop()
        made = workshop.make(config(probe=ProcessProbe("vipd-test-c")), died.set)
        assert (await made.run(1)).word is Word.HEALTHY
        began = time.monotonic()
        os.kill(pid, 9)
        await asyncio.wait_for(died.wait(), 5)
        took = time.monotonic() - began
        with pytest.raises(ProbeFailed):
            await made.run(1)
        made.close()
        workshop.close()
        return took

    assert asyncio.run(main()) < 1.0


def test_after_a_death_an_old_search_is_not_believed(
    orphan: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that is replaced: the new process starts before the old one ends."""
    monkeypatch.setattr(probe_host, "TABLE_AGE_S", 60)
    old = orphan("vipd-test-d")

    async def main() -> None:
        died = asyncio.Event()
        workshop = Workshop()
        made = workshop.make(config(probe=ProcessProbe("vipd-test-d")), died.set)
        await made.run(1)
        new = await asyncio.to_thread(orphan, "vipd-test-d")
        os.kill(old, 9)
        await asyncio.wait_for(died.wait(), 5)
        found = (await made.run(1)).detail
        made.close()
        workshop.close()
        assert found == f"process {new}"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("names", "wanted", "matches"),
    [
        (("nginx", "nginx"), "nginx", True),
        (("nginx", "nginx"), "ngin", False),
        (("worker", "haproxy"), "haproxy", True),
        (("a-very-long-nam", "a-very-long-name"), "a-very-long-name", True),
        (("a-very-long-nam", "a-very-long-name"), "a-very-long-namesake", False),
        (("a-very-long-nam", "python3.11"), "a-very-long-name", True),
        (("a-very-long-nam", ""), "a-very-long-name", True),
        (("kworker/0:1", ""), "kworker", False),
    ],
)
def test_names(names: tuple[str, str], wanted: str, matches: bool) -> None:
    assert processes.has_name(names, wanted) is matches


# --- programs ---------------------------------------------------------------------------------


@pytest.fixture
def script() -> Iterator[Callable[[str], ScriptProbe]]:
    """Makes a check script; run as root from a directory that only root can change."""
    folder = Path(f"/run/vipd-test-{os.getpid()}")
    folder.mkdir(mode=0o755)
    made: list[Path] = []

    def make(text: str) -> ScriptProbe:
        path = folder / f"script{len(made)}"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(stat.S_IRWXU)
        made.append(path)
        return ScriptProbe((str(path), "argument"))

    yield make
    for path in made:
        path.unlink()
    folder.rmdir()


@pytest.mark.realroot
def test_script_by_its_exit_status(script: Callable[[str], ScriptProbe]) -> None:
    assert ask(script("exit 0")).detail == "exit status 0"
    assert ask(script("echo; echo all well; echo more")).detail == "all well"
    found = ask(script("echo $1 $2; exit 3"))
    assert (found.word, found.detail) == (Word.FAILED, "exit status 3: argument")
    assert ask(script("kill -SEGV $$")).detail.startswith("killed by SIGSEGV")


@pytest.mark.realroot
def test_script_that_hangs_times_out(script: Callable[[str], ScriptProbe]) -> None:
    found = ask(script("echo before; sleep 60"), timeout_s=0.2)
    assert found.word is Word.TIMED_OUT
    assert found.detail.endswith("before")


def test_script_that_there_is_not() -> None:
    assert "/nowhere/check" in fails(ScriptProbe(("/nowhere/check",)))


@pytest.mark.parametrize(
    ("status", "output", "detail"),
    [(0, "active\n", "nginx.service is active"), (3, "failed\n", "nginx.service is failed"),
     (1, "System has not been booted\n", "systemctl: System has not been booted"),
        (4, "", "systemctl: exit status 4")],
)  # fmt: skip
def test_systemd_by_systemctl(status: int, output: str, detail: str) -> None:
    asked = []

    async def run(command: tuple[str, ...], **_options: object) -> Outcome:
        asked.append(command)
        return Outcome(status, False, output, 1)

    check = SystemdCheck(SystemdProbe("nginx.service"), run)
    if status:
        with pytest.raises(ProbeFailed, match=detail):
            asyncio.run(check.run(1))
    else:
        assert asyncio.run(check.run(1)).detail == detail
    assert asked[0][1:] == ("is-active", "--", "nginx.service")


def test_one_line() -> None:
    assert one_line("\n\n  first\tword \nsecond") == "first?word"
    assert one_line("") == ""
    assert len(one_line("long " * 1000)) == 200
    assert one_line("\x1b[31mred") == "?[31mred"
