"""The benchmark's arithmetic and judgement, on made-up captures; and one short real run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vipd.lab.bench.figures import (
    Figure,
    MeasurementFailed,
    Samples,
    at_most,
    at_most_more,
    at_most_times,
    quantile,
    samples,
)
from vipd.lab.bench.health import jitters_ms
from vipd.lab.bench.outages import lifetime_s
from vipd.lab.bench.steady import failovers, longest_pause_ns
from vipd.lab.timeline import SeenAdvert

MS = 1_000_000


def _adverts(*seen: tuple[int, str, int]) -> list[SeenAdvert]:
    return [SeenAdvert(at_ms * MS, port, 51, priority) for at_ms, port, priority in seen]


def test_a_master_that_only_goes_on_is_no_failover() -> None:
    steady = _adverts((0, "a", 150), (10, "a", 150), (60, "a", 150))
    assert failovers(steady, backup="b") == 0
    assert longest_pause_ns(steady) == 50 * MS


def test_a_backup_that_speaks_up_is_one_failover_however_long_it_speaks() -> None:
    once = _adverts((0, "a", 150), (40, "b", 100), (50, "b", 100), (55, "a", 150))
    assert failovers(once, backup="b") == 1
    assert (
        failovers(_adverts((0, "a", 150), (60, "b", 100), (61, "a", 150), (99, "b", 100)), "b") == 2
    )


def test_a_goodbye_is_a_failover() -> None:
    assert failovers(_adverts((0, "a", 150), (10, "a", 0), (50, "a", 150)), backup="b") == 1


@pytest.mark.parametrize(
    ("judge", "vipd", "keepalived", "met"),
    [
        (at_most_times(1.05), (100, 105, 900), (100, 100, 100), True),
        (at_most_times(1.05), (106, 106, 106), (100, 100, 100), False),
        (at_most_more(1.0), (1.6,), (0.7,), True),
        (at_most_more(1.0), (1.8,), (0.7,), False),
        (at_most(5), (1, 5), (9,), True),
        (at_most(5), (1, 6), (9,), False),
    ],
)
def test_goals(judge: object, vipd: tuple[float], keepalived: tuple[float], met: bool) -> None:
    figure = Figure("x", "x", "ms", Samples(vipd), Samples(keepalived), "goal", judge)  # type: ignore[arg-type]
    assert figure.met is met
    assert figure.row()[-1] == ("yes" if met else "NO")


def test_what_never_ended_has_no_ratio_and_meets_no_limit() -> None:
    figure = Figure("x", "x", "ms", Samples((5.0,), True), Samples((4.0,)), "≤ 9", at_most(9))
    assert figure.ratio is None
    assert figure.met is False
    assert figure.row()[1] == "> 5 ms"


@pytest.mark.parametrize(("vipd", "shown"), [(50, "0.50"), (0.5, "0.005"), (0, "0.00")])
def test_a_small_ratio_is_not_rounded_to_nothing(vipd: float, shown: str) -> None:
    figure = Figure("x", "x", "ms", Samples((vipd,)), Samples((100,)))
    assert figure.row()[3] == shown


def test_nothing_measured_is_a_failure_of_the_measurement() -> None:
    with pytest.raises(MeasurementFailed):
        samples([])


@pytest.mark.parametrize(("down_ms", "seconds"), [(3609.4, 4), (361, 2), (1999, 2), (2000, 3)])
def test_the_automatic_lifetime(down_ms: float, seconds: int) -> None:
    assert lifetime_s(down_ms) == seconds


def test_jitter_is_how_far_a_gap_is_from_the_interval() -> None:
    instants = [0, 100 * MS, 203 * MS, 300 * MS]
    assert jitters_ms(instants, 100 * MS) == [0, 3, 3]
    with pytest.raises(MeasurementFailed):
        jitters_ms([0], 100 * MS)


@pytest.mark.parametrize(("count", "value"), [(1, 1), (999, 999), (1000, 999), (2000, 1998)])
def test_one_in_a_thousand_may_be_worse(count: int, value: float) -> None:
    assert quantile([float(n) for n in range(1, count + 1)], 0.999) == value


@pytest.mark.netns
@pytest.mark.interop
def test_a_short_run_measures_both_and_writes_every_value(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "vipd.lab.bench", "--quick", "--json", str(file), "takeover"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (figure,) = json.loads(file.read_text())["figures"]
    assert figure["name"] == "takeover"
    assert figure["what"] in done.stdout
    for kind in ("vipd", "keepalived"):
        values = figure[kind]["values"]
        assert len(values) >= 13
        # never before the skew time is over; a value of a second would be a lost goodbye
        assert all(-1 < value < 1000 for value in values)


def test_an_unknown_name_is_bad_usage() -> None:
    command = [sys.executable, "-m", "vipd.lab.bench", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "takeover" in done.stderr
