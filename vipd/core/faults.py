"""What makes mastership impossible on this host: level faults and timed ones.

*Level* faults follow from the host as it is now and end when the host changes. *Timed* faults
follow from something that failed (the kernel refused a VIP, adverts cannot be sent) and end after
a back-off that doubles while the trouble lasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from vipd.core.host import HostView
from vipd.core.router import Router
from vipd.core.units import UnitConfig
from vipd.model import SECOND_NS, Duration, Instant, Reason, VipKey

BACKOFF_FIRST_NS = SECOND_NS
BACKOFF_LAST_NS = 60 * SECOND_NS


@dataclass(slots=True)
class _Backoff:
    """How long the next timed fault of one reason lasts, and until when the present one does."""

    next_ns: Duration
    until: Instant


class TimedFaults:
    """The timed faults of one unit."""

    def __init__(self) -> None:
        self.standing: dict[Reason, str] = {}
        self._backoffs: dict[Reason, _Backoff] = {}

    def add(self, reason: Reason, detail: str, now: Instant) -> None:
        backoff = self._backoffs.setdefault(reason, _Backoff(BACKOFF_FIRST_NS, now))
        if now - backoff.until > BACKOFF_LAST_NS:  # a long time without trouble: start small
            backoff.next_ns = BACKOFF_FIRST_NS
        backoff.until = now + backoff.next_ns
        backoff.next_ns = min(2 * backoff.next_ns, BACKOFF_LAST_NS)
        self.standing[reason] = detail

    def drop(self, now: Instant) -> bool:
        """Forget those whose time is over; True if there was one."""
        if not self.standing:
            return False
        over = [reason for reason in self.standing if now >= self._backoffs[reason].until]
        for reason in over:
            del self.standing[reason]
        return bool(over)

    @property
    def deadline(self) -> Instant | None:
        if not self.standing:
            return None
        return min((self._backoffs[reason].until for reason in self.standing), default=None)


def level_faults(
    config: UnitConfig,
    interfaces: Iterable[str],
    routers: Iterable[Router],
    foreign: Mapping[VipKey, str],
    host: HostView,
) -> dict[Reason, str]:
    """By the host as it is; ``foreign`` are VIPs that another program keeps on it, in words."""
    found: list[tuple[Reason, str]] = []
    for name in sorted(interfaces):
        link = host.link_named(name)
        if link is None:
            found.append((Reason.INTERFACE_MISSING, name))
        elif not link.up:
            found.append((Reason.INTERFACE_DOWN, name))
    links_work = not found
    for router in routers:
        if links_work and router.source is None:
            found.append((Reason.NO_SOURCE_ADDRESS, router.config.interface))
        if router.deaf:
            found.append((Reason.CANNOT_LISTEN, router.deaf))
    faults: dict[Reason, str] = {}
    for reason, what in found:  # two members of a group may lack the same thing
        faults[reason] = f"{faults[reason]}, {what}" if reason in faults else what
    if config.is_owner:
        missing = [vip for vip in config.vips if not host.has(vip.key)]
        if missing:
            faults[Reason.OWNED_ADDRESS_MISSING] = str(missing[0])
    elif foreign:
        faults[Reason.FOREIGN_ADDRESS] = ", ".join(islice(foreign.values(), 3))
    return faults
