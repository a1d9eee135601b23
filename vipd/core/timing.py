"""The arithmetic of VRRP timers (RFC 9568 §6.1, RFC 3768 §6.1), exact to the microsecond.

* v3: ``Skew = (256 - priority) * Active_Adver_Interval / 256``; the interval is the master's,
  learned from its adverts, in centiseconds.
* v2: ``Skew = (256 - priority) / 256`` seconds, whatever the interval is.
* ``Down = 3 * interval + Skew`` in both.

Rounding Skew to whole centiseconds, as some routers do, gives neighbouring priorities the same
skew, so that two backups fire together: here it is integer microseconds, rounded down.
"""

from __future__ import annotations

from vipd.model import MICROSECOND_NS, Duration, Instant

CENTISECOND_US = 10_000
CENTISECOND_NS = CENTISECOND_US * MICROSECOND_NS
V2_SKEW_UNIT_US = 1_000_000


def skew_ns(version: int, priority: int, interval_ns: Duration) -> Duration:
    """Skew_Time: the better the priority, the earlier a backup moves."""
    v3_unit_us = interval_ns // CENTISECOND_NS * CENTISECOND_US
    unit_us = V2_SKEW_UNIT_US if version == 2 else v3_unit_us
    return (256 - priority) * unit_us // 256 * MICROSECOND_NS


def master_down_ns(version: int, priority: int, interval_ns: Duration) -> Duration:
    """Active_Down_Interval: the silence after which a backup calls the master dead."""
    return 3 * interval_ns + skew_ns(version, priority, interval_ns)


def takeover_floor_ns(interval_ns: Duration) -> Duration:
    """The shortest silence after which *any* peer, whatever its priority, may have taken over."""
    return 3 * interval_ns


def soonest(*instants: Instant | None) -> Instant | None:
    """The first of several deadlines, asked for after every event; None: there is none."""
    first = None
    for at in instants:
        if at is not None and (first is None or at < first):
            first = at
    return first
