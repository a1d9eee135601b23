"""What many checks cost the supervisor: ``python -m vipd.lab.bench.checks``.

A process that does nothing but run the checks: 200 of them by default, one run a second each. Half
of them hang until their timeout, and one script writes as fast as it can. Told are the share of one
core that this process takes, the share of the programs that it starts, by how much its loop is
late at most, what memory the checks took, and whether all verdicts are right. The servers that are
asked are another process.

``script``, ``http`` and ``tcp`` have one kind only, ``mixed`` has them all.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from vipd.duties import (
    CheckConfig,
    FileProbe,
    HttpProbe,
    Initial,
    InterfaceProbe,
    Probe,
    ProcessProbe,
    ScriptProbe,
    TcpProbe,
)
from vipd.lab.bench.steady import resident_mib
from vipd.model import MILLISECOND_NS, SECOND_NS
from vipd.supervisor.checks.board import CheckBoard

GOAL_PERCENT = 15.0
_WARM_UP_S = 2.0
_TIMEOUT_NS = 500 * MILLISECOND_NS
_TICK_S = 0.01
_PERCENT = 100.0

_SCRIPTS = {
    "good": "exit 0",
    "hang": "exec sleep 1000",
    "flood": "exec cat /dev/zero",
}

_SERVERS = """
import selectors, socket, sys
good, silent = (socket.create_server(("127.0.0.1", 0), backlog=512) for _ in range(2))
deaf = socket.create_server(("127.0.0.1", 0), backlog=0)
full = []
for _ in range(4):
    sock = socket.socket(); sock.setblocking(False); full.append(sock)
    sock.connect_ex(deaf.getsockname())
print(*(server.getsockname()[1] for server in (good, silent, deaf)), flush=True)
answer = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok"
selector = selectors.DefaultSelector()
selector.register(good, selectors.EVENT_READ)
selector.register(sys.stdin, selectors.EVENT_READ)
while True:
    for key, _ in selector.select():
        if key.fileobj is sys.stdin:
            sys.exit()
        if key.fileobj is good:
            selector.register(good.accept()[0], selectors.EVENT_READ)
            continue
        data = key.fileobj.recv(4096)
        if data:
            key.fileobj.sendall(answer)
        selector.unregister(key.fileobj)
        key.fileobj.close()
"""


@dataclass(frozen=True, slots=True)
class Place:
    """What the checks of a run look at."""

    folder: Path
    good_port: int
    silent_port: int
    deaf_port: int

    def script(self, name: str) -> Probe:
        return ScriptProbe((str(self.folder / name),))


@dataclass(frozen=True, slots=True)
class Result:
    """Shares are percents of one core."""

    own_percent: float
    programs_percent: float
    latest_ms: float
    memory_mib: float
    runs: int
    timeouts: int
    failures: int
    missed: int
    stale: int
    wrong: tuple[str, ...]


@contextmanager
def place() -> Iterator[Place]:
    """Scripts where only root can change them, and servers."""
    with tempfile.TemporaryDirectory(prefix="vipd-checks-", dir="/run") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for script, text in _SCRIPTS.items():
            (folder / script).write_text(f"#!/bin/sh\n{text}\n")
            (folder / script).chmod(0o755)
        servers = subprocess.Popen(
            [sys.executable, "-c", _SERVERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with servers:
            if servers.stdout is None:
                raise RuntimeError("the servers have no output")
            ports = map(int, servers.stdout.readline().split())
            yield Place(folder, *ports)
            servers.kill()


def _good(where: Place) -> dict[str, Probe]:
    return {
        "script": where.script("good"),
        "http": HttpProbe(f"http://127.0.0.1:{where.good_port}/", body="ok"),
        "tcp": TcpProbe("127.0.0.1", where.good_port),
        "file": FileProbe(str(where.folder / "good")),
        "interface": InterfaceProbe("lo"),
        "process": ProcessProbe(Path(f"/proc/{os.getppid()}/comm").read_text().strip()),
    }


def _hanging(where: Place) -> dict[str, Probe]:
    return {
        "script": where.script("hang"),
        "http": HttpProbe(f"http://127.0.0.1:{where.silent_port}/"),
        "tcp": TcpProbe("127.0.0.1", where.deaf_port),
    }


def make_checks(kind: str, count: int, where: Place) -> tuple[CheckConfig, ...]:
    """Half of them hang; one of them floods."""

    def choose(probes: dict[str, Probe]) -> Callable[[], Probe]:
        chosen = list(probes.values()) if kind == "mixed" else [probes[kind]]
        return itertools.cycle(chosen).__next__

    good, hanging = choose(_good(where)), choose(_hanging(where))
    probes = {"flood": where.script("flood")}
    for number in range(1, count):
        probes[f"{'hang' if number % 2 else 'good'}-{number}"] = (hanging if number % 2 else good)()
    return tuple(
        CheckConfig(name, probe, SECOND_NS, _TIMEOUT_NS, 1, 1, Initial.WAIT)
        for name, probe in probes.items()
    )


async def _watch_lateness(latest_s: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _TICK_S
        await asyncio.sleep(_TICK_S)
        latest_s.append(loop.time() - due)


async def measure(checks: tuple[CheckConfig, ...], seconds: float) -> Result:
    """Run the checks for a while, after a moment in which everything starts."""
    before_mib = resident_mib([os.getpid()])
    board = CheckBoard(lambda _: None, lambda _: None)
    board.configure(checks)
    await asyncio.sleep(_WARM_UP_S)
    late: list[float] = []
    watch = asyncio.get_running_loop().create_task(_watch_lateness(late))
    own, programs = _used_s(resource.RUSAGE_SELF), _used_s(resource.RUSAGE_CHILDREN)
    await asyncio.sleep(seconds)
    own = _used_s(resource.RUSAGE_SELF) - own
    programs = _used_s(resource.RUSAGE_CHILDREN) - programs
    status = list(board.status().items())
    memory_mib = resident_mib([os.getpid()]) - before_mib
    stale = len(board.stale())
    watch.cancel()
    await board.stop()
    expected = {"good": "healthy", "hang": "timed-out", "flood": "timed-out"}
    wrong = [
        f"{name} is {check['verdict']}: {check['detail']}"
        for name, check in status
        if check["verdict"] != expected[name.partition("-")[0]]
    ]
    total = {key: sum(check[key] for _, check in status)
             for key in ("runs", "timeouts", "failures", "missed")}  # fmt: skip
    return Result(
        own_percent=own / seconds * _PERCENT,
        programs_percent=programs / seconds * _PERCENT,
        latest_ms=max(late) * 1000,
        memory_mib=memory_mib,
        stale=stale,
        wrong=tuple(wrong),
        **total,
    )


def _used_s(whose: int) -> float:
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description="what checks cost the supervisor")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("kinds", nargs="*", default=["script", "http", "tcp", "mixed"])
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    for kind in options.kinds:
        with place() as where:
            checks = make_checks(kind, options.count, where)
            result = asyncio.run(measure(checks, options.seconds))
        sys.stdout.write(f"{kind}: {json.dumps(asdict(result))}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
