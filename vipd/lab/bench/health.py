"""What health checks are worth, and what they cost.

* *proxy*: what stands behind the VIP dies, or hangs, on the master: how long is the VIP not served?
  Each daemon checks it as fast as it can, and one bad run decides: vipd ten times a second;
  keepalived's track_script knows whole seconds only, its fastest is once a second with a timeout
  of 1 s. Both ask the same HTTP server for a page.
* *checks*: 200 scripts, each once a second; half of them hang until their timeout, one floods its
  standard output. CPU is that of the daemon's own processes, without the scripts; jitter is how far
  the time between two adverts is from the interval, as the switch saw it.

The instants of death are spread over the interval of the slower check, the same ones for both.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from vipd.lab.bench.checks import GOAL_PERCENT, Place, make_checks, place
from vipd.lab.bench.figures import (
    KEEPALIVED,
    KINDS,
    VIPD,
    Figure,
    MeasurementFailed,
    Progress,
    at_most,
    quantile,
    samples,
)
from vipd.lab.bench.outages import in_turn
from vipd.lab.bench.pairs import QUIET_LOG, ROUTERS, Arena, Pair, host_names, sleep_ns
from vipd.lab.bench.steady import cpu_ns
from vipd.lab.hosts import Host, now_ns, signal_all, wait_for
from vipd.lab.netns import Lab
from vipd.lab.outages import longest_outage
from vipd.lab.peers import Keepalived, Router, Speaker, TrackedScript, VipdNode
from vipd.lab.timeline import advert_in
from vipd.lab.tools import Capture
from vipd.model import MILLISECOND_NS, SECOND_NS, Duration

_ADVERT_MS = 100
_CHECK_MS, _TIMEOUT_MS = 100, 300
_PROMISED_MS = _CHECK_MS + _TIMEOUT_MS + _ADVERT_MS
_ASKED = f"checked every {_CHECK_MS}ms (keepalived: 1s)"
_SLOWEST_NS = SECOND_NS
_TAKEOVER_LIMIT_S = 15.0
_START_LIMIT_S = 30.0
_MANY, _BASE = 200, 100
_MOST_JITTER_MS = 5.0
_RARE = 0.001

_ASK = """\
#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/80 || exit 1
printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3
read -r answer <&3
[[ $answer == *' 200 '* ]]
"""


# --- the proxy dies ---------------------------------------------------------------------------


def _with_check(kind: str, host: Host, router: Router) -> Speaker:
    """The daemon of this kind, which is no master without its proxy."""
    if kind == VIPD:
        check = {
            "http": "http://127.0.0.1/",
            "interval": f"{_CHECK_MS}ms",
            "timeout": f"{_TIMEOUT_MS}ms",
            "fall": 1,
        }
        extra: dict[str, object] = {**QUIET_LOG, "checks": {"proxy": check}}
        return VipdNode(host, router, extra, more={"web": {"track": [{"check": "proxy"}]}})
    script = host.directory / "ask"
    script.write_text(_ASK)
    script.chmod(0o755)
    return Keepalived(host, router, {"proxy": TrackedScript(str(script))})


@dataclass(frozen=True, slots=True)
class _Death:
    """A way in which the proxy fails, and how it comes back."""

    name: str
    what: str
    strike: Callable[[Arena, Host], None]
    mend: Callable[[Arena, Host], None]


def _kill(field: Arena, host: Host) -> None:
    server = field.servers[host.name]
    server.kill()
    server.wait()


def _freeze(field: Arena, host: Host) -> None:
    signal_all([field.servers[host.name].pid], signal.SIGSTOP)


def _thaw(field: Arena, host: Host) -> None:
    signal_all([field.servers[host.name].pid], signal.SIGCONT)


_DEATHS = (
    _Death("proxy-dies", f"the proxy dies, {_ASKED}: outage", _kill, Arena.serve),
    _Death("proxy-hangs", f"the proxy hangs, {_ASKED}: outage", _freeze, _thaw),
)


def proxy(repetitions: int, progress: Progress) -> Iterator[Figure]:
    """The daemon is well, and what it is for is not."""
    with (
        Lab([*host_names(VIPD), *host_names(KEEPALIVED)]) as lab,
        closing(Arena(lab, _ADVERT_MS, _with_check)) as field,
    ):
        for speaker in itertools.chain.from_iterable(p.speakers for p in field.pairs.values()):
            speaker.wait_ready()  # a backup that still waits for its own check takes nothing over
        for death in _DEATHS:
            values: dict[str, list[float]] = {kind: [] for kind in KINDS}
            for repetition in range(repetitions):
                for kind in in_turn(repetition):
                    sleep_ns(_SLOWEST_NS * repetition // repetitions)
                    values[kind].append(_outage_ms(field, field.pairs[kind], death))
                    progress(f"{death.name} {repetition + 1} {kind} {values[kind][-1]:.0f} ms")
                for kind in KINDS:
                    death.mend(field, field.pairs[kind].high.host)
                field.wait_home()
            yield Figure(
                death.name,
                death.what,
                "ms",
                samples(values[VIPD]),
                samples(values[KEEPALIVED]),
                f"≤ {_PROMISED_MS} ms",
                at_most(_PROMISED_MS),
            )


def _outage_ms(field: Arena, pair: Pair, death: _Death) -> float:
    low, start_ns = pair.low.host.name, now_ns()
    death.strike(field, pair.high.host)
    what = f"{death.name}: {low} does not take over"
    field.wait(lambda: field.answers.steady(pair.vip, low), _TAKEOVER_LIMIT_S, what)
    answers = field.answers.of(pair.vip)
    outage = longest_outage(answers, start_ns, answers[-1].received_ns)
    return outage.length_ns / MILLISECOND_NS


# --- many checks ------------------------------------------------------------------------------


def _crowd(where: Place) -> dict[str, Path]:
    """Name -> script, as in the measurement of the supervisor alone; nearly half are good."""
    checks = make_checks("script", _MANY, where)
    return {check.name: where.folder / check.name.partition("-")[0] for check in checks}


def _with_crowd(kind: str, host: Host, router: Router, scripts: Mapping[str, Path]) -> Speaker:
    """Each counts one point while it is healthy, so that all of them are used."""
    if kind == VIPD:
        checks = {
            name: {"script": [str(path)], "interval": "1s", "timeout": "500ms", "fall": 1}
            for name, path in scripts.items()
        }
        track = [{"check": name, "weight": 1} for name in scripts]
        extra: dict[str, object] = {**QUIET_LOG, **({"checks": checks} if checks else {})}
        return VipdNode(host, router, extra, more={"web": {"track": track}} if track else {})
    tracked = {name: TrackedScript(str(path), 1) for name, path in scripts.items()}
    return Keepalived(host, router, tracked)


@dataclass(frozen=True, slots=True)
class _Load:
    """What a node took, in ms of CPU per second, and how even its adverts were."""

    cpu: float
    jitter_ms: float
    most_ms: float


def _load(kind: str, scripts: Mapping[str, Path], seconds: int) -> _Load:
    router = replace(ROUTERS[kind], interval_ms=_ADVERT_MS, priority=_BASE)
    with Lab([kind[:4]]) as lab:
        speaker = _with_crowd(kind, lab[kind[:4]], router, scripts)
        capture = Capture(lab)
        speaker.start()
        wait_for(speaker.holds, _START_LIMIT_S, f"{kind} does not start")
        sleep_ns(3 * SECOND_NS)
        start_ns, before = now_ns(), _used_ns(speaker)
        sleep_ns(seconds * SECOND_NS)
        end_ns, after = now_ns(), _used_ns(speaker)
        found = map(advert_in, capture.frames())
        adverts = [each for each in found if each is not None and start_ns <= each.t_ns <= end_ns]
    if not adverts or adverts[-1].priority < _BASE + len(scripts) // 4:
        raise MeasurementFailed(f"{kind}: its checks do not count as they should")
    jitters = jitters_ms([advert.t_ns for advert in adverts], router.interval_ns)
    used_ns = sum(after[pid] - before[pid] for pid in after.keys() & before.keys())
    return _Load(used_ns / MILLISECOND_NS / seconds, quantile(jitters, 1 - _RARE), jitters[-1])


def _used_ns(speaker: Speaker) -> dict[int, Duration]:
    """CPU time of each process that runs the daemon's own program, not a check's."""
    with suppress(OSError):
        program = os.readlink(f"/proc/{speaker.process.pid}/exe")
        return {pid: cpu_ns([pid]) for pid in speaker.pids() if _runs(pid, program)}
    raise MeasurementFailed(f"{speaker.kind} has ended")


def _runs(pid: int, program: str) -> bool:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/exe") == program
    return False


def jitters_ms(instants: list[int], interval_ns: int) -> list[float]:
    """How far each gap is from the interval, ascending. Raises MeasurementFailed without a gap."""
    pairs = itertools.pairwise(instants)
    gaps = (later - earlier for earlier, later in pairs)
    jitters = sorted(abs(gap - interval_ns) / MILLISECOND_NS for gap in gaps)
    if not jitters:
        raise MeasurementFailed("no two adverts were seen")
    return jitters


def checks(seconds: int, progress: Progress) -> Iterator[Figure]:
    """A node with many bad checks, beside one without any."""
    loads: dict[tuple[str, bool], _Load] = {}
    with place() as where:
        for kind in KINDS:
            for crowded in (False, True):
                name = f"{_MANY} checks" if crowded else "no checks"
                progress(f"{kind}, {name}, {seconds} s")
                loads[kind, crowded] = _load(kind, _crowd(where) if crowded else {}, seconds)
    rows: tuple[tuple[str, str, str, bool, str, float], ...] = (
        ("checks-cpu", f"{_MANY} bad checks a second: CPU of the daemon", "ms/s", True, "cpu",
         10 * GOAL_PERCENT),
        ("checks-none", "  the same without checks", "ms/s", False, "cpu", 0),
        ("checks-jitter", "  advert jitter with checks, p99.9", "ms", True, "jitter_ms",
         _MOST_JITTER_MS),
        ("checks-jitter-none", "  advert jitter without checks, p99.9", "ms", False, "jitter_ms",
         0),
        ("checks-jitter-most", "  advert jitter with checks, most", "ms", True, "most_ms", 0),
    )  # fmt: skip
    for name, what, unit, crowded, field, limit in rows:
        first, second = (samples([getattr(loads[kind, crowded], field)]) for kind in KINDS)
        goal, judge = (f"≤ {limit:.0f} {unit}", at_most(limit)) if limit else ("", None)
        yield Figure(name, what, unit, first, second, goal, judge)
