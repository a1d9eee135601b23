"""``scripts/bench``: vipd beside keepalived, one table.

Both daemons run in the same lab of network namespaces and are measured in turn by the same
instruments: a client that asks 1000 times a second, and a capture at the switch. What is compared
is a ratio; absolute times belong to the machine. A goal that is missed is printed as missed and
is no failure of the benchmark: exit status 1 means that a measurement itself went wrong.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from rich.text import Text

from vipd.errors import AdapterError
from vipd.lab.bench import cluster
from vipd.lab.bench.channel import at_rest
from vipd.lab.bench.figures import Measurement, MeasurementFailed, Progress, Row
from vipd.lab.bench.heal import heal
from vipd.lab.bench.health import checks, proxy
from vipd.lab.bench.latency import many_vips, takeover
from vipd.lab.bench.outages import cut, interval_name, sigkill, sigterm
from vipd.lab.bench.pairs import Arena, Arenas, machine
from vipd.lab.bench.steady import false_failovers, footprint
from vipd.lab.namespace import ensure_privileges
from vipd.lab.screen import Screen

_BUSY_LOAD = 0.5
_FOOTNOTE = """\
median (greatest) of all repetitions; no goal: for information. p99: the nearest rank, so the worst
of up to 100. Two holders: the longest time, by the kernels. Load: the machine's, mean over a row"""


def measurements(quick: bool, arenas: Arenas) -> dict[str, Measurement]:
    """Name -> what measures it, in the order of the table."""
    few, slow, many, vips, load_s, rest_s = (2, 1, 15, 2, 6, 2) if quick else (5, 5, 100, 7, 60, 10)
    deaths, checks_s = (2, 5) if quick else (10, 110)  # p99.9 of 1000 adverts and more
    outages: dict[str, Measurement] = {
        f"{outage.__name__}-{interval_name(interval_ms)}": partial(
            _in_arena, arenas, outage, interval_ms, repetitions
        )
        for interval_ms, repetitions, made in (
            # what heal is about is the client's ARP, whatever the interval
            (1000, slow, (sigterm, cut, heal, sigkill)),
            (100, few, (sigterm, cut, sigkill)),
        )
        for outage in made
    }
    events, rivals, channel_s = (5, 1, 3) if quick else (50, 5, 20)
    others: dict[str, Measurement] = {
        "takeover": partial(takeover, many),
        "vips": partial(many_vips, vips),
        "load": partial(false_failovers, load_s),
        "footprint": partial(footprint, rest_s),
        "proxy": partial(proxy, deaths),
        "checks": partial(checks, checks_s),
        **cluster.measurements(events, rivals),
        "cluster-cost": partial(at_rest, channel_s),
    }
    return {
        **outages,
        **{name: partial(_alone, arenas, other) for name, other in others.items()},
    }


def _in_arena(
    arenas: Arenas,
    outage: Callable[[Arena, int, int, Progress], Iterator[Row]],
    interval_ms: int,
    repetitions: int,
    progress: Progress,
) -> Iterator[Row]:
    return outage(arenas.get(interval_ms), interval_ms, repetitions, progress)


def _alone(arenas: Arenas, other: Measurement, progress: Progress) -> Iterator[Row]:
    """What builds a lab of its own wants the machine for itself."""
    arenas.close()
    return other(progress)


class Bench:
    """Runs measurements one after the other and says what it is doing."""

    def __init__(self, screen: Screen, arenas: Arenas) -> None:
        self._screen = screen
        self._arenas = arenas
        self._began = time.monotonic()
        self.rows: list[Row] = []
        self.failed: list[str] = []

    def run(self, name: str, measurement: Measurement) -> None:
        began = time.monotonic()

        def progress(text: str) -> None:
            elapsed_s = time.monotonic() - self._began
            self._screen.now(Text(f"{elapsed_s:5.0f} s  {name}  {text}", style="dim"))

        progress("building the lab")
        try:
            found = list(measurement(progress))
        except (MeasurementFailed, AdapterError, OSError, RuntimeError) as error:
            self.failed.append(name)
            self._arenas.close()  # whatever state it was left in
            self._screen.line(Text(f"{name}: measurement failed: {error}", style="bold red"))
            return
        self.rows += found
        took = f"({time.monotonic() - began:.0f} s)"
        for row in found:
            self._screen.line(f"{row.sentence()} {took}")
            took = ""
            for why in row.went_wrong:
                self._screen.line(Text(f"{name}: went wrong: {why}", style="bold red"))
        if any(row.went_wrong for row in found):
            self.failed.append(name)


def keepalived_version() -> str:
    """As it names itself; raises MeasurementFailed where there is none."""
    path = shutil.which("keepalived") or shutil.which("keepalived", path="/usr/sbin:/sbin")
    if path is None:
        raise MeasurementFailed("keepalived is not installed (apt install keepalived)")
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return (said.stderr or said.stdout).split("\n", 1)[0].strip()


def _arguments(names: list[str]) -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("scripts/bench", description=__doc__, formatter_class=form)
    parser.add_argument("--quick", action="store_true", help="few repetitions: 10 minutes, not 70")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value to a file")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(names)}")
    return parser.parse_args()


def _chosen(wanted: list[str], known: dict[str, Measurement]) -> dict[str, Measurement]:
    """By name, or by the first part of it: ``cut`` is ``cut-1s`` and ``cut-100ms``."""
    for name in wanted:
        if not any(key.startswith(name) for key in known):
            sys.stderr.write(f"bench: no measurement {name!r}; there are: {', '.join(known)}\n")
            sys.exit(2)
    chosen = {key for key in known for name in wanted if key.startswith(name)}
    return {key: known[key] for key in known if key in chosen or not wanted}


def main() -> int:
    arenas = Arenas()
    options = _arguments(list(measurements(False, arenas)))
    chosen = _chosen(options.names, measurements(options.quick, arenas))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        ensure_privileges()
        version = keepalived_version()
    except (AdapterError, MeasurementFailed) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    on = {**machine(), "keepalived": version, "quick": options.quick}
    screen = Screen()
    screen.line(f"vipd beside {version}; {on['cpus']} CPUs, kernel {on['kernel']}")
    if float(str(on["load_before"])) > _BUSY_LOAD:
        note = f"this machine is busy (load {on['load_before']:.1f}): times are worth little"
        screen.line(Text(note, style="yellow"))
    bench = Bench(screen, arenas)
    try:
        with closing(arenas), screen:
            for name, measurement in chosen.items():
                bench.run(name, measurement)
    except KeyboardInterrupt:
        return 130
    for heads, rows in itertools.groupby(bench.rows, lambda row: row.heads):
        screen.line()
        screen.table(heads, [row.row() for row in rows])
    screen.line(_FOOTNOTE)
    if options.json:
        content = {"machine": on, "figures": [row.as_json() for row in bench.rows]}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
