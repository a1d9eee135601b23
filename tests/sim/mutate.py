"""Break one rule in a copy of the package and run the simulator there.

    scripts/mutate --list          each mutation with file, line and rule
    scripts/mutate [ID...]         run some, or all; exit 1 if one is not noticed

A mutation counts as found only if a checker names what was violated (exit status 1 of the
simulator) in a run that keeps every promise without it. An exception is no finding: a daemon that
crashes was not judged.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.sim.mutations import MUTATIONS, Mutation
from vipd.sim.run import run

ROOT = Path(__file__).resolve().parents[2]
RUNS = 150
SECONDS = 60
_FOUND = re.compile(r"^VIOLATED seed (\d+): (\S+): ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    mutation: Mutation
    found: bool
    text: str


def line_of(mutation: Mutation) -> int:
    """The line of the rule; ValueError unless ``old`` occurs exactly once."""
    text = (ROOT / mutation.file).read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.id}: {text.count(mutation.old)} matches in {mutation.file}")
    return text[: text.index(mutation.old)].count("\n") + 1


def attempt(mutation: Mutation, runs: int = RUNS) -> Outcome:
    """Apply ``mutation`` to a copy and simulate until a checker objects."""
    try:
        line_of(mutation)
    except ValueError as error:
        return Outcome(mutation, False, str(error))
    with tempfile.TemporaryDirectory(prefix="vipd-mutation-") as directory:
        shutil.copytree(
            ROOT / "vipd", Path(directory, "vipd"), ignore=shutil.ignore_patterns("__pycache__")
        )
        target = Path(directory, mutation.file)
        target.write_text(target.read_text().replace(mutation.old, mutation.new))
        command = [sys.executable, "-B", "-m", "vipd.sim", "--quiet", "--no-tail"]
        command += ["--seed", str(mutation.seed), "--runs", str(runs)]
        command += ["--mode", "cluster" if mutation.cluster else "plain"]
        try:
            ended = subprocess.run(
                command, cwd=directory, capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return Outcome(mutation, False, f"nothing found in {SECONDS} s")
    named = _FOUND.search(ended.stdout)
    if ended.returncode == 1 and named:
        if run(int(named[1]), cluster=mutation.cluster).violation is not None:
            return Outcome(mutation, False, f"seed {named[1]} is violated without it as well")
        return Outcome(mutation, True, f"{named[2]} (seed {named[1]})")
    last = (ended.stderr.strip() or ended.stdout.strip()).splitlines()[-1:]
    return Outcome(mutation, False, f"exit status {ended.returncode}: {' '.join(last)}")


def attempt_all(mutations: tuple[Mutation, ...], workers: int = 2) -> list[Outcome]:
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(attempt, mutations))


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__.splitlines()[0])
    parser.add_argument("ids", nargs="*", help="which mutations (default: all)")
    parser.add_argument("--list", action="store_true", help="name file, line and rule of each")
    asked = parser.parse_args()
    unknown = set(asked.ids) - {mutation.id for mutation in MUTATIONS}
    if unknown:
        parser.error(f"no such mutation: {', '.join(sorted(unknown))}")
    chosen = tuple(each for each in MUTATIONS if not asked.ids or each.id in asked.ids)
    if asked.list:
        for each in chosen:
            print(f"{each.id:<30} {each.file}:{line_of(each)}  {each.rule}")
        return 0
    missed = 0
    for outcome in attempt_all(chosen):
        missed += not outcome.found
        word = "found " if outcome.found else "MISSED"
        print(f"{word} {outcome.mutation.id:<30} {outcome.text}")
    print(f"{len(chosen) - missed} of {len(chosen)} found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
