"""Reading a client log: pure arithmetic, no lab."""

from __future__ import annotations

from pathlib import Path

from vipd.lab.outages import Answer, interleavings, longest_outage, read_answers, tenures

MS = 1_000_000


def _answers(*runs: tuple[str, int, int]) -> list[Answer]:
    """Runs of (host, first ms, last ms), one answer a millisecond."""
    instants = [(host, ms) for host, first, last in runs for ms in range(first, last + 1)]
    return [Answer(n, ms * MS, host) for n, (host, ms) in enumerate(instants)]


def test_the_longest_silence_is_found_with_the_hosts_around_it() -> None:
    answers = _answers(("lb1", 0, 100), ("lb1", 110, 200), ("lb2", 812, 1000))
    outage = longest_outage(answers, 50 * MS, 900 * MS)
    assert (outage.length_ns, outage.before, outage.after) == (612 * MS, "lb1", "lb2")


def test_an_outage_that_began_before_the_window_counts_whole() -> None:
    answers = _answers(("lb1", 0, 100), ("lb2", 700, 800))
    assert longest_outage(answers, 300 * MS, 750 * MS).length_ns == 600 * MS


def test_silence_outside_the_window_does_not_count() -> None:
    answers = _answers(("lb1", 0, 100), ("lb2", 700, 800))
    assert longest_outage(answers, 710 * MS, 790 * MS).length_ns == 1 * MS


def test_silence_to_the_end_is_an_outage_without_an_after() -> None:
    outage = longest_outage(_answers(("lb1", 0, 100)), 50 * MS, 5000 * MS)
    assert (outage.length_ns, outage.after) == (4900 * MS, "")


def test_no_answer_at_all_is_one_outage() -> None:
    assert longest_outage([], 0, 3 * MS).length_ns == 3 * MS


def test_tenures_and_interleavings() -> None:
    clean = _answers(("lb1", 0, 10), ("lb2", 20, 30))
    assert [(t.host, t.answers) for t in tenures(clean)] == [("lb1", 11), ("lb2", 11)]
    assert interleavings(clean) == 0
    both = _answers(("lb1", 0, 10), ("lb2", 11, 11), ("lb1", 12, 12), ("lb2", 13, 30))
    assert interleavings(both) == 2


def test_a_log_is_read_up_to_its_unfinished_line(tmp_path: Path) -> None:
    log = tmp_path / "probes.log"
    log.write_text("S 192.0.2.100 0 5\nR 192.0.2.100 0 7 lb1\nE 192.0.2.100 1 8 113\nR 192.0.2.1")
    assert read_answers(log) == {"192.0.2.100": [Answer(0, 7, "lb1")]}
