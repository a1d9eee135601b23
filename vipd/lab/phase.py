"""Which of two masters that cannot hear each other is heard first when their network heals.

Both advertise at the same interval, each at its own phase, so the moment of healing decides. The
worst one is shortly before an advert of the better master: the other one yields to it, and a better
master that is never contradicted does not know that the clients have learned somebody else's MAC
(docs/decisions/0006). Measurements of a healed cut force that moment.

The better one must speak a tenth of an interval from now at the earliest, since healing takes time,
and a tenth before the other one at least, since adverts are late at times.
"""

from __future__ import annotations

from vipd.lab.hosts import now_ns, wait_for
from vipd.model import SECOND_NS, Duration, Instant

_MARGINS = 10


def better_is_next(
    better_ns: Instant, worse_ns: Instant, interval_ns: Duration, at_ns: Instant
) -> bool:
    """``at_ns`` is a moment to heal, by an advert (any) of each master."""
    margin_ns = interval_ns // _MARGINS
    to_better_ns = interval_ns - (at_ns - better_ns) % interval_ns
    to_worse_ns = interval_ns - (at_ns - worse_ns) % interval_ns
    return margin_ns <= to_better_ns <= to_worse_ns - margin_ns


def wait_better_is_next(better_ns: Instant, worse_ns: Instant, interval_ns: Duration) -> Instant:
    """Block until such a moment, and return it; TimeoutError if their phases are too close."""
    return wait_for(
        lambda: better_is_next(better_ns, worse_ns, interval_ns, now_ns()),
        2 * interval_ns / SECOND_NS,
        "both masters speak at the same time",
    )
