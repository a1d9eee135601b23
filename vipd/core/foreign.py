"""VIPs on this host that this instance does not hold: whose are they, and what to do?

* Ours (tagged): left over from an earlier run. The node removes it, it is no matter here.
* Untagged: somebody's ``ip addr add``, or a daemon that marks nothing. Removed once, with a
  warning. If it comes back within a minute, or cannot be removed, another program wants it.
* With another tag: another daemon says so itself.

A VIP that another program wants is *kept*: the instance stands in FAULT and names the culprit,
because two programs that move one address would take it from each other for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vipd.core.teller import Teller
from vipd.model import (
    ADDRESS_TAG,
    SECOND_NS,
    HostAddress,
    Instant,
    NoteKind,
    Vip,
    VipKey,
    format_address,
)

RETURN_NS = 60 * SECOND_NS
REMOVAL_NS = SECOND_NS
"""A removal that shows no effect after this long has failed."""

KNOWN_PROTOCOLS = {11: "zebra", 12: "bird", 16: "dhcp", 18: "keepalived", 42: "babel"}
"""Routing protocol numbers (rtnetlink.h) that daemons also give as IFA_PROTO."""


@dataclass(slots=True)
class _Removal:
    ordered_at: Instant
    done: bool = False


class ForeignWatch:
    """``kept``: what belongs to another program, with the words that say so."""

    def __init__(self) -> None:
        self.kept: dict[VipKey, str] = {}
        self._removals: dict[VipKey, _Removal] = {}

    def look(
        self, vip: Vip, entries: Iterable[HostAddress], teller: Teller, now: Instant
    ) -> tuple[HostAddress, ...]:
        """``review`` of one VIP, and say what is new."""
        known = self.kept.get(vip.key)
        remove = self.review(vip.key, entries, now)
        if remove:
            teller.tell(NoteKind.FOREIGN_ADDRESS_REMOVED, {"vip": str(vip)})
        words = self.kept.get(vip.key)
        if words is not None and words != known:
            teller.tell(NoteKind.FOREIGN_ADDRESS_KEPT, {"vip": words})
        return remove

    def review(
        self, key: VipKey, entries: Iterable[HostAddress], now: Instant
    ) -> tuple[HostAddress, ...]:
        """Judge what the host has of one VIP; returns what is to be removed now."""
        foreign = tuple(entry for entry in entries if entry.tag != ADDRESS_TAG)
        if not foreign:
            self.gone(key)
            return ()
        tag = max(entry.tag for entry in foreign)
        removal = self._removals.get(key)
        if tag == 0:
            if removal is None or now - removal.ordered_at >= RETURN_NS:
                self._removals[key] = _Removal(now)
                self.kept.pop(key, None)
                return foreign
            if not removal.done and now - removal.ordered_at < REMOVAL_NS:
                return ()  # under way: what we see may be the past
        self.kept[key] = f"{format_address(key[1])} on {key[0]}: {_culprit(tag, removal)}"
        return ()

    def gone(self, key: VipKey) -> bool:
        """The host no longer has it; True if it had been kept."""
        if (removal := self._removals.get(key)) is not None:
            removal.done = True
        return self.kept.pop(key, None) is not None

    def limit_to(self, keys: Iterable[VipKey]) -> None:
        """Forget all other VIPs: they are no longer configured."""
        keys = set(keys)
        self.kept = {key: words for key, words in self.kept.items() if key in keys}
        self._removals = {key: each for key, each in self._removals.items() if key in keys}

    @property
    def deadline(self) -> Instant | None:
        """When a removal under way must have shown its effect."""
        if not self._removals:
            return None
        return min(
            (self._removals[key].ordered_at + REMOVAL_NS for key in self._open()), default=None
        )

    def overdue(self, now: Instant) -> list[VipKey]:
        if not self._removals:
            return []
        return [key for key in self._open() if now - self._removals[key].ordered_at >= REMOVAL_NS]

    def _open(self) -> list[VipKey]:
        return [
            key for key, each in self._removals.items() if not each.done and key not in self.kept
        ]


def _culprit(tag: int, removal: _Removal | None) -> str:
    if tag:
        name = KNOWN_PROTOCOLS.get(tag, "another daemon")
        return f"{name} (address protocol {tag})"
    if removal is not None and not removal.done:
        return "it cannot be removed"
    return "it comes back when removed"
