"""Nothing happens: does a busy machine make a backup believe that it does, and what does it cost?

* *false failovers*: adverts every 10 ms while busy loops load every processor. Each time that the
  backup starts to advertise counts, and each advert that the master leaves by.
* *footprint*: CPU time and resident memory of all processes of a node, master and backup averaged.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from vipd.lab.bench.figures import (
    KINDS,
    Figure,
    Progress,
    at_most,
    samples,
)
from vipd.lab.bench.outages import interval_name
from vipd.lab.bench.pairs import LOW, ROUTERS, Pair, host_names, make_speaker, sleep_ns
from vipd.lab.hosts import now_ns, wait_for
from vipd.lab.netns import Lab
from vipd.lab.peers import Router
from vipd.lab.timeline import SeenAdvert, advert_in
from vipd.lab.tools import Capture
from vipd.model import MILLISECOND_NS, SECOND_NS, Duration

_START_LIMIT_S = 30.0
_SETTLE_NS = SECOND_NS
_FAST_MS = 10
_MOST_MEMORY_MIB = 80.0
_BUSY = "import time; end = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
_KIB_PER_MIB = 1024


@contextmanager
def running_pair(kind: str, interval_ms: int) -> Iterator[tuple[Pair, Capture]]:
    """One pair alone in a lab, at home; the capture of its switch."""
    router: Router = replace(ROUTERS[kind], interval_ms=interval_ms)
    with Lab(host_names(kind)) as lab:
        first, second = (lab[name] for name in host_names(kind))
        high = make_speaker(kind, first, router)
        low = make_speaker(kind, second, replace(router, priority=LOW))
        capture = Capture(lab)
        pair = Pair(kind, high, low)
        for speaker in pair.speakers:
            speaker.start()
        wait_for(
            lambda: high.holds() and not low.holds_any(), _START_LIMIT_S, f"{kind} does not start"
        )
        sleep_ns(_SETTLE_NS)
        yield pair, capture


@contextmanager
def busy_processors(seconds: float) -> Iterator[None]:
    """A busy loop for every processor; they end by themselves, whatever becomes of us."""
    program = _BUSY.format(seconds=seconds)
    loops = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def false_failovers(seconds: int, progress: Progress) -> Iterator[Figure]:
    """Adverts every 10 ms on a machine that has no time."""
    counted, pauses = {}, {}
    for kind in KINDS:
        progress(f"{kind} for {seconds} s")
        with running_pair(kind, _FAST_MS) as (pair, capture):
            with busy_processors(seconds + 5):
                start_ns = now_ns()
                sleep_ns(seconds * SECOND_NS)
                end_ns = now_ns()
            sleep_ns(100 * MILLISECOND_NS)
            adverts = [
                advert
                for advert in map(advert_in, capture.frames())
                if advert is not None and start_ns <= advert.t_ns <= end_ns
            ]
            counted[kind] = float(failovers(adverts, pair.low.host.name))
            pauses[kind] = longest_pause_ns(adverts) / MILLISECOND_NS
    first, second = (samples([counted[kind]]) for kind in KINDS)
    what = f"false failovers in {seconds} s, advert 10 ms, busy CPUs"
    yield Figure("load", what, "", first, second, "0", at_most(0))
    first, second = (samples([pauses[kind]]) for kind in KINDS)
    yield Figure("load-pause", "  longest pause between two adverts", "ms", first, second)


def failovers(adverts: list[SeenAdvert], backup: str) -> int:
    """How often mastership moved, by the wire: a backup begins to speak, or a master leaves."""
    moves = 0
    speaking = False
    for advert in adverts:
        if advert.priority == 0:
            moves += 1
            speaking = False
        elif (advert.port == backup) != speaking:
            speaking = not speaking
            moves += speaking
    return moves


def longest_pause_ns(adverts: list[SeenAdvert]) -> Duration:
    pairs = itertools.pairwise(adverts)
    return max((later.t_ns - earlier.t_ns for earlier, later in pairs), default=0)


# --- footprint --------------------------------------------------------------------------------


def footprint(seconds: int, progress: Progress) -> Iterator[Figure]:
    """CPU at two advert intervals, memory once."""
    for interval_ms in (1000, _FAST_MS):
        cpu: dict[str, list[float]] = {}
        memory: dict[str, list[float]] = {}
        each = interval_name(interval_ms)
        for kind in KINDS:
            progress(f"{kind}, advert {each}")
            cpu[kind], memory[kind] = _use(kind, interval_ms, seconds)
        if interval_ms == 1000:
            first, second = (samples(memory[kind]) for kind in KINDS)
            what = "memory of a node, all processes (RSS)"
            goal = f"≤ {_MOST_MEMORY_MIB:.0f} MiB"
            yield Figure("memory", what, "MiB", first, second, goal, at_most(_MOST_MEMORY_MIB))
        first, second = (samples(cpu[kind]) for kind in KINDS)
        yield Figure(f"cpu-{each}", f"CPU of a node, advert {each}", "ms/s", first, second)


def _use(kind: str, interval_ms: int, seconds: int) -> tuple[list[float], list[float]]:
    """CPU in ms per second and memory in MiB, of the master and of the backup."""
    with running_pair(kind, interval_ms) as (pair, _capture):
        pids = [speaker.pids() for speaker in pair.speakers]
        before = [cpu_ns(node) for node in pids]
        sleep_ns(seconds * SECOND_NS)
        used_ns = [cpu_ns(node) - was for node, was in zip(pids, before, strict=True)]
        memory = [resident_mib(node) for node in pids]
    return [ns / MILLISECOND_NS / seconds for ns in used_ns], memory


def cpu_ns(pids: list[int]) -> int:
    """Time on a processor, of all threads."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                total += int((thread / "schedstat").read_text().split()[0])
    return total


def resident_mib(pids: list[int]) -> float:
    total_kib = 0
    for pid in pids:
        with suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            total_kib += int(status.partition("VmRSS:")[2].split()[0])
    return total_kib / _KIB_PER_MIB
