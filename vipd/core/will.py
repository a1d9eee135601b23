"""The last will: what is to be said for this engine once it is dead (QUORUM §10).

Kept all the time, so that the supervisor need not think when it counts: who is to have each unit
that is on this host, for each member in a tombstone of its own, and for all others on the wire
the adverts of priority 0. A unit belongs to it from the moment it becomes master until its VIPs
are gone and its successor is seen; in what order, ``Node.handle`` says: the will comes first.
"""

from __future__ import annotations

from vipd.core.actions import KeepWill, SendAdvert
from vipd.core.cluster import Cluster
from vipd.core.unit import Unit
from vipd.members import Gift
from vipd.model import LEAVING_PRIORITY, State

_Part = tuple[Gift | None, tuple[SendAdvert, ...]]
_NOTHING: _Part = (None, ())


class Will:
    """What each unit adds to it, and what was kept last."""

    def __init__(self) -> None:
        self._parts: dict[Unit, _Part] = {}
        self._changed = False
        self._heirs: tuple[tuple[str, bytes], ...] = ()
        self._kept = KeepWill((), ())

    def look_at(self, unit: Unit) -> None:
        """After anything happened to ``unit``."""
        part = _part_of(unit)
        if part == self._parts.get(unit, _NOTHING):
            return
        self._changed = True
        if part == _NOTHING:
            del self._parts[unit]
        else:
            self._parts[unit] = part

    def forget(self, unit: Unit) -> None:
        self._changed |= self._parts.pop(unit, None) is not None

    def news(self, cluster: Cluster | None) -> KeepWill | None:
        """The will, if it is another one than was kept last."""
        heirs = () if cluster is None else cluster.heirs()
        if not self._changed and heirs == self._heirs:
            return None
        self._changed, self._heirs = False, heirs
        gifts = tuple(gift for gift, _ in self._parts.values() if gift is not None)
        goodbyes = tuple(each for _, several in self._parts.values() for each in several)
        tombstones = () if cluster is None else cluster.tombstones(gifts)
        will = KeepWill(tombstones, goodbyes)
        if will == self._kept:
            return None
        self._kept = will
        return will


def _part_of(unit: Unit) -> _Part:
    gift = None if unit.coop is None else unit.coop.gift()
    leads = unit.election.state is State.MASTER or not unit.is_released
    if not leads or unit.config.is_owner:
        return (gift, ())
    goodbyes = tuple(
        router.advert(LEAVING_PRIORITY, router.source)
        for router in unit.routers.values()
        if router.source is not None
    )
    return (gift, goodbyes)
