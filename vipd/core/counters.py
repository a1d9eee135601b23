"""What one instance counts. Names are those of ``vipd status --json``."""

from __future__ import annotations

from vipd.model import DiscardReason

COUNTED = (
    "adverts_sent",
    "adverts_received",
    "adverts_failed",
    "transitions",
    "priority_zero_sent",
    "priority_zero_received",
    "announcements",
    "rival_announcements",
    "addresses_restored",
)


class Counters:
    def __init__(self) -> None:
        self.values: dict[str, int] = dict.fromkeys(COUNTED, 0)
        self.discarded: dict[str, int] = {reason.value: 0 for reason in DiscardReason}

    def add(self, name: str, amount: int = 1) -> None:
        self.values[name] = self.values.get(name, 0) + amount

    def discard(self, reason: DiscardReason) -> None:
        self.discarded[reason.value] += 1
