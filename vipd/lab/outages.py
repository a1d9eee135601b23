"""What a client log says about an event: how long nobody answered, who did, did two at once."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vipd.model import Duration, Instant


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered probe."""

    sequence: int
    received_ns: Instant
    host: str


@dataclass(frozen=True, slots=True)
class Outage:
    """The longest silence of a VIP in a window; ``before``/``after`` are the hosts around it."""

    start_ns: Instant
    end_ns: Instant
    before: str
    after: str

    @property
    def length_ns(self) -> Duration:
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class Tenure:
    """A host answered for a VIP from ``start_ns`` to ``end_ns``, nobody else in between."""

    host: str
    start_ns: Instant
    end_ns: Instant
    answers: int


def read_answers(path: Path) -> dict[str, list[Answer]]:
    """The answers of each VIP, in the order in which they came."""
    answers: dict[str, list[Answer]] = {}
    with open(path) as log:
        for line in log:
            if line.startswith("R ") and line.endswith("\n"):
                _, vip, sequence, received_ns, host = line.split()
                answers.setdefault(vip, []).append(Answer(int(sequence), int(received_ns), host))
    return answers


def longest_outage(answers: Sequence[Answer], start_ns: Instant, end_ns: Instant) -> Outage:
    """The longest time without an answer that begins or ends between the two instants.

    A window that nobody answered in is one outage, as long as the window at least.
    """
    instants = [answer.received_ns for answer in answers]
    first = max(0, bisect.bisect_right(instants, start_ns) - 1)
    last = bisect.bisect_left(instants, end_ns) + 1
    seen = [(answer.received_ns, answer.host) for answer in answers[first:last]]
    if not seen or seen[0][0] > start_ns:
        seen.insert(0, (start_ns, ""))
    if seen[-1][0] < end_ns:
        seen.append((end_ns, ""))
    gaps = [
        Outage(before_ns, after_ns, before, after)
        for (before_ns, before), (after_ns, after) in itertools.pairwise(seen)
    ]
    return max(gaps, key=lambda gap: gap.length_ns)


def tenures(answers: Iterable[Answer]) -> tuple[Tenure, ...]:
    """Who answered when. More than one change per handover means two hosts answered in turn."""
    found: list[Tenure] = []
    for answer in answers:
        if found and found[-1].host == answer.host:
            last = found.pop()
            found.append(
                Tenure(last.host, last.start_ns, answer.received_ns, last.answers + 1),
            )
        else:
            found.append(Tenure(answer.host, answer.received_ns, answer.received_ns, 1))
    return tuple(found)


def interleavings(answers: Iterable[Answer]) -> int:
    """How often a host answered *again* after another one had: 0 is a clean handover history.

    Judge one event at a time: a master that comes back later is not two masters.
    """
    hosts = [tenure.host for tenure in tenures(answers)]
    return len(hosts) - len(set(hosts))
