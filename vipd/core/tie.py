"""Ties: who yields when another master of our own priority is heard.

One router compares addresses, the lower one yields (RFC 9568 §6.4.3). A group has an address on
each member, and two nodes may have the higher one on one member each. Were every member believed,
both would yield; were none, neither. So exactly one member decides:

1. The members stand in an order that all nodes share (``UnitConfig.tie_order``), and the first one
   on which the rival is heard decides.
2. Networks are not equally fast, and packets get lost: the rival may be heard on a later member
   first. Such a member decides only when a rival has been heard for an interval, on whatever
   member, and on no earlier one within the takeover floor.
3. A rival that hears us on a member where we win yields at once. One that is still there after
   the takeover floor seems not to hear us there (a cut in one direction), and decides by a later
   member. If we lose on that one, we ask: we speak once more and then keep silent for longer than
   it can. What it says in this silence is no last word, provoked by an advert of ours that it does
   hear again: we yield. Our own last word is said on that member only: on one where we win, it
   would make the rival yield if the cut ended meanwhile.

With members that are cut in both directions exactly the one with the higher address on the first
common member stays. Rule 2 costs a second master for one interval more where that is not the
first member; believing the first advert instead costs all hosts the VIP for a whole
Active_Down_Interval, because each of the two yields to the other. So does rule 3 without its
question, whenever a cut ends just then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from vipd.core.timing import takeover_floor_ns
from vipd.model import Address, Duration, Instant


class Tie(Enum):
    STAY = "stay"
    ASK = "ask"
    YIELD = "yield"


@dataclass(slots=True)
class _Heard:
    """Rivals of our priority, heard without a longer break than the floor."""

    since: Instant
    last: Instant

    def again(self, floor_ns: Duration, now: Instant) -> None:
        if now - self.last >= floor_ns:
            self.since = now
        self.last = now


class Ties:
    """The ties of one mastership; a new mastership starts without any."""

    def __init__(self) -> None:
        self.asked_at: Instant | None = None  # until anything else makes us speak
        self._anywhere: _Heard | None = None
        self._members: dict[str, _Heard] = {}

    def judge(
        self,
        member: str,
        rival: Address,
        sources: Mapping[str, Address],
        interval_ns: Duration,
        now: Instant,
    ) -> Tie:
        """What about ``rival``, just heard on ``member`` with our own priority?

        ``sources`` are our addresses in the order of rule 1; ``interval_ns`` is the longer one of
        the two masters' advert intervals.
        """
        floor_ns = takeover_floor_ns(interval_ns)
        anywhere = self._anywhere = self._anywhere or _Heard(now, now)
        anywhere.again(floor_ns, now)
        self._members.setdefault(member, _Heard(now, now)).again(floor_ns, now)
        if rival <= sources[member]:
            return Tie.STAY
        unheard = False
        for earlier in sources:
            if earlier == member:
                break
            heard = self._members.get(earlier)
            if heard is None or now - heard.last >= floor_ns:
                continue
            if now - heard.since < floor_ns:
                return Tie.STAY  # rule 1, as long as rule 3 does not hold
            unheard = True
        if unheard:
            return self._ask(interval_ns, now)
        is_first = next(iter(sources)) == member
        return Tie.YIELD if is_first or now - anywhere.since >= interval_ns else Tie.STAY

    def _ask(self, interval_ns: Duration, now: Instant) -> Tie:
        if self.asked_at is None:
            return Tie.ASK
        # Sooner it may be the answer to our question: a packet there and one back.
        return Tie.YIELD if now - self.asked_at >= interval_ns // 4 else Tie.STAY


def silence_ns(interval_ns: Duration) -> Duration:
    """How long we wait for an answer: in any such time after the first quarter a master speaks."""
    return 3 * interval_ns // 2
