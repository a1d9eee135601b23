"""rise, fall, initial: a table each, and a property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks.rig import BAD, GOOD, LATE, config
from vipd.duties import Initial
from vipd.model import Health
from vipd.supervisor.checks.findings import Finding, Word
from vipd.supervisor.checks.judge import Judge, judge_of

SIGNS = {"g": GOOD, "b": BAD, "t": LATE}
WORDS = {
    "?": Word.UNKNOWN,
    "H": Word.HEALTHY,
    "F": Word.FAILED,
    "T": Word.TIMED_OUT,
}


def verdicts(judge: Judge, findings: str) -> str:
    """The verdict before all, and after each finding."""
    signs = {word: sign for sign, word in WORDS.items()}
    seen = signs[judge.word]
    for sign in findings:
        judge.take(SIGNS[sign])
        seen += signs[judge.word]
    return seen


@pytest.mark.parametrize(
    ("initial", "rise", "fall", "findings", "expected"),
    [
        (Initial.WAIT, 3, 3, "g", "?H"),  # the first run alone decides
        (Initial.WAIT, 3, 3, "b", "?F"),
        (Initial.WAIT, 3, 3, "t", "?T"),
        (Initial.WAIT, 1, 1, "gbgb", "?HFHF"),
        (Initial.WAIT, 1, 3, "gbbgbbb", "?HHHHHHF"),  # one good run starts the count anew
        (Initial.WAIT, 3, 1, "bggbggg", "?FFFFFFH"),
        (Initial.HEALTHY, 1, 2, "bb", "HHF"),
        (Initial.HEALTHY, 1, 2, "bt", "HHT"),  # both sorts count, the last one names it
        (Initial.UNHEALTHY, 2, 1, "gg", "FFH"),
        (Initial.UNHEALTHY, 2, 1, "bgg", "FFFH"),
        (Initial.WAIT, 1, 2, "bttb", "?FFTT"),  # from failed to timed-out: as often as to fall
        (Initial.WAIT, 1, 2, "btbtb", "?FFFFF"),
    ],
)
def test_verdicts(initial: Initial, rise: int, fall: int, findings: str, expected: str) -> None:
    assert verdicts(Judge(initial, rise, fall), findings) == expected


@given(
    st.text("gbt", max_size=30),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from(list(Initial)),
)
def test_a_verdict_needs_its_runs(findings: str, rise: int, fall: int, initial: Initial) -> None:
    """Health changes exactly when the last runs are as many, and all against it."""
    seen = verdicts(judge_of(config(rise=rise, fall=fall, initial=initial)), findings)
    health = [WORDS[sign].health for sign in seen]
    for index in range(1, len(health)):
        before, after = health[index - 1], health[index]
        good = findings[index - 1] == "g"
        if before is Health.UNKNOWN:
            assert after is (Health.HEALTHY if good else Health.UNHEALTHY)
            continue
        needed = fall if before is Health.HEALTHY else rise
        last = findings[max(0, index - needed) : index]
        against = [sign != "g" if before is Health.HEALTHY else sign == "g" for sign in last]
        assert (after is not before) == (len(last) == needed and all(against))


def test_a_number_counts_at_once_and_ends_with_the_health() -> None:
    judge = Judge(Initial.WAIT, rise=2, fall=2)
    assert judge.take(Finding(Word.HEALTHY, "holds", 20))
    assert judge.number == 20
    assert not judge.take(Finding(Word.HEALTHY, "holds", 20))
    assert judge.take(Finding(Word.HEALTHY, "holds", -5))
    judge.take(BAD)
    assert (judge.word, judge.number) == (Word.HEALTHY, -5)
    judge.take(BAD)
    assert (judge.word, judge.number) == (Word.FAILED, None)
    judge.take(Finding(Word.HEALTHY, "holds", 7))
    assert judge.number is None
    judge.take(Finding(Word.HEALTHY, "holds", 8))
    assert (judge.word, judge.number) == (Word.HEALTHY, 8)


def test_the_detail_says_how_a_run_counts_that_does_not_agree() -> None:
    judge = Judge(Initial.WAIT, rise=2, fall=3)
    assert judge.detail == "waits for its first run"
    judge.take(GOOD)
    judge.take(LATE)
    assert judge.detail == "timed-out 1 of 3: late"
    judge.take(BAD)
    judge.take(BAD)
    assert judge.detail == "bad"
    judge.take(GOOD)
    assert judge.detail == "healthy 1 of 2: good"


def test_a_judge_of_the_same_question_goes_on() -> None:
    earlier = Judge(Initial.WAIT, rise=1, fall=1)
    earlier.take(Finding(Word.HEALTHY, "holds", 20))
    later = Judge(Initial.WAIT, rise=1, fall=2)
    later.continue_from(earlier)
    assert (later.word, later.number, later.detail) == (Word.HEALTHY, 20, "holds")
    later.take(BAD)
    assert later.word is Word.HEALTHY
