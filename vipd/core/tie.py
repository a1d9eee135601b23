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
   the takeover floor does not hear us there (a cut in one direction), and decides by a later
   member: so do we from then on.

With members that are cut in both directions exactly the one with the higher address on the first
common member stays. Rule 2 costs a second master for one interval more where that is not the
first member; believing the first advert instead costs all hosts the VIP for a whole
Active_Down_Interval, because each of the two yields to the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vipd.core.timing import takeover_floor_ns
from vipd.model import Address, Duration, Instant


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
        self._anywhere: _Heard | None = None
        self._members: dict[str, _Heard] = {}

    def loses(
        self,
        member: str,
        rival: Address,
        sources: Mapping[str, Address],
        interval_ns: Duration,
        now: Instant,
    ) -> bool:
        """Do we yield to ``rival``, just heard on ``member`` with our own priority?

        ``sources`` are our addresses in the order of rule 1; ``interval_ns`` is the longer one of
        the two masters' advert intervals.
        """
        floor_ns = takeover_floor_ns(interval_ns)
        anywhere = self._anywhere = self._anywhere or _Heard(now, now)
        anywhere.again(floor_ns, now)
        self._members.setdefault(member, _Heard(now, now)).again(floor_ns, now)
        if rival <= sources[member]:
            return False
        for earlier in sources:
            if earlier == member:
                break
            heard = self._members.get(earlier)
            if heard is not None and now - heard.last < floor_ns > now - heard.since:
                return False  # rule 1, as long as rule 3 does not hold
        is_first = next(iter(sources)) == member
        return is_first or now - anywhere.since >= interval_ns
