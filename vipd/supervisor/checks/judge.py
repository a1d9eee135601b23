"""From findings to a verdict: ``rise``, ``fall`` and ``initial``.

Rules
-----
* ``initial: wait``: no verdict until the first run, which alone decides. ``healthy`` and
  ``unhealthy``: a verdict from the start, which counts as if runs had made it.
* A healthy check becomes unhealthy after ``fall`` bad runs in a row, an unhealthy one healthy
  after ``rise`` good runs in a row. A run of the other sort starts the count anew.
* *failed* and *timed-out* are both bad and count together towards ``fall``; the last of them
  gives the verdict. An unhealthy check changes from one to the other after ``fall`` such runs in
  a row, so that a service that is bad in both ways does not fill the journal.
* A number counts at once while the check is healthy: whoever writes it decides how steady it is.
* What could not be judged is no finding, and does not get here.
"""

from __future__ import annotations

from vipd.duties import CheckConfig, Initial
from vipd.supervisor.checks.findings import Finding, Word

_ASSUMED = {
    Initial.HEALTHY: (Word.HEALTHY, "counts as healthy until its first run"),
    Initial.UNHEALTHY: (Word.FAILED, "counts as unhealthy until its first run"),
    Initial.WAIT: (Word.UNKNOWN, "waits for its first run"),
}


class Judge:
    """The verdict of one check."""

    def __init__(self, initial: Initial, rise: int, fall: int) -> None:
        self._rise, self._fall = rise, fall
        self.word, self._detail = _ASSUMED[initial]
        self.number: int | None = None
        self._last: Finding | None = None
        self._good = 0  # good runs in a row
        self._bad = 0  # bad runs in a row, of either sort
        self._same = 0  # bad runs in a row of the same sort

    def continue_from(self, earlier: Judge) -> None:
        """Keep what an earlier judge of the same question knew; only the counting starts anew."""
        self.word, self.number = earlier.word, earlier.number
        self._last, self._detail = earlier._last, earlier._detail

    @property
    def detail(self) -> str:
        """What the last run said, and how it counts if it does not agree with the verdict."""
        last = self._last
        if last is None:
            return self._detail
        if self.word is Word.HEALTHY and last.word.is_bad:
            return f"{last.word.value} {self._bad} of {self._fall}: {last.detail}"
        if self.word.is_bad and last.word is Word.HEALTHY:
            return f"healthy {self._good} of {self._rise}: {last.detail}"
        return last.detail

    def take(self, finding: Finding) -> bool:
        """Count one run; True if the verdict, or the number in it, is another one now."""
        before = (self.word, self.number)
        if finding.word is Word.HEALTHY:
            self._good, self._bad, self._same = self._good + 1, 0, 0
            if not self.word.is_bad or self._good >= self._rise:
                self.word, self.number = Word.HEALTHY, finding.number
        else:
            is_same = self._last is not None and self._last.word is finding.word
            self._same = self._same + 1 if is_same else 1
            self._good, self._bad = 0, self._bad + 1
            self._take_bad(finding.word)
        self._last = finding
        return (self.word, self.number) != before

    def _take_bad(self, word: Word) -> None:
        counted = self._same if self.word.is_bad else self._bad
        if self.word is Word.UNKNOWN or counted >= self._fall:
            self.word, self.number = word, None

    def refine(self, detail: str) -> None:
        """Say more about the last run, which has been counted already."""
        if self._last is not None:
            self._last = Finding(self._last.word, detail, self._last.number)


def judge_of(config: CheckConfig) -> Judge:
    return Judge(config.initial, config.rise, config.fall)
