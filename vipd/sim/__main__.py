"""``python -m vipd.sim``: run seeds, judge them, and print what was tried.

Exit status: 0 all promises kept and enough tried; 1 a promise was broken; 2 bad usage;
3 the simulator or the core failed by an exception; 4 the runs tried too little.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

from vipd.model import SECOND_NS
from vipd.sim.coverage import MINIMUM_RUNS, report, too_little
from vipd.sim.run import Result, run

KEPT, VIOLATED, USAGE, FAILED, UNTRIED = 0, 1, 2, 3, 4
TAIL_LINES = 60
_MODES = {"drawn": None, "plain": False, "cluster": True}


class Batch:
    """What the runs of one mode tried."""

    def __init__(self) -> None:
        self.runs = 0
        self.coverage: Counter[str] = Counter()

    def add(self, result: Result) -> None:
        self.runs += 1
        self.coverage += result.coverage


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m vipd.sim", description="simulate whole runs")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds from there on")
    parser.add_argument("--nodes", type=int, choices=(2, 3), help="hosts (default: drawn)")
    parser.add_argument(
        "--mode", choices=tuple(_MODES), default="drawn", help="plain VRRP, a cluster, or drawn"
    )
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--quiet", action="store_true", help="print failures and totals only")
    parser.add_argument("--no-tail", action="store_true", help="do not replay a violation")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a violation")
    asked = parser.parse_args(arguments)

    batches = {False: Batch(), True: Batch()}
    violated: list[str] = []
    simulated_ns, started = 0, time.process_time()
    for seed in range(asked.seed, asked.seed + asked.runs):
        try:
            result = _run(seed, asked, tracing=asked.trace)
        except Exception:  # noqa: BLE001 - a crash must name the seed that replays it
            traceback.print_exc()
            print(f"FAILED seed {seed}: an exception, see above\nreplay: {_replay(seed, asked)}")
            return FAILED
        batches[result.options.cluster is not None].add(result)
        simulated_ns += result.simulated_ns
        if not asked.quiet:
            _describe(result)
        if result.violation is not None:
            violated.append(f"seed {seed}: {result.violation}")
            if not asked.keep_going:
                _report_violation(result, asked)
                return VIOLATED
    if violated:
        print("\n".join(f"VIOLATED {each}" for each in violated))
        return VIOLATED
    spent = time.process_time() - started
    for batch in batches.values():
        print(report(batch.coverage))
    print(
        f"{asked.runs} runs, {simulated_ns / SECOND_NS:.0f} simulated seconds in {spent:.1f} s of "
        f"CPU: every promise was kept"
    )
    missing = [
        line
        for cluster, batch in batches.items()
        if batch.runs >= MINIMUM_RUNS
        for line in too_little(batch.coverage, batch.runs, cluster=cluster)
    ]
    for line in missing:
        print(f"tried too little: {line}")
    return UNTRIED if missing else KEPT


def _run(seed: int, asked: argparse.Namespace, *, tracing: bool) -> Result:
    return run(seed, asked.nodes, cluster=_MODES[asked.mode], tracing=tracing)


def _replay(seed: int, asked: argparse.Namespace) -> str:
    nodes = f" --nodes {asked.nodes}" if asked.nodes else ""
    mode = f" --mode {asked.mode}" if asked.mode != "drawn" else ""
    return f"python -m vipd.sim --seed {seed}{nodes}{mode} --trace"


def _describe(result: Result) -> None:
    print(f"seed {result.seed}\n{result.options}")
    if result.trace and result.violation is None:
        print("\n".join(result.trace))


def _report_violation(result: Result, asked: argparse.Namespace) -> None:
    if asked.quiet:
        print(f"seed {result.seed}\n{result.options}")
    if not asked.no_tail:
        traced = result if asked.trace else _run(result.seed, asked, tracing=True)
        print("\n".join(traced.trace if asked.trace else traced.trace[-TAIL_LINES:]))
    print(f"VIOLATED seed {result.seed}: {result.violation}")
    print(f"replay: {_replay(result.seed, asked)}")


if __name__ == "__main__":
    sys.exit(main())
