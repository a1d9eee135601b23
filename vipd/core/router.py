"""One virtual router of a unit on the wire: its source address, its adverts, its counters.

It decides nothing. Whether it speaks as master is the unit's election; with which address it
speaks follows from the host (``host.py``).
"""

from __future__ import annotations

from vipd.core.actions import Action, SendAdvert
from vipd.core.counters import Counters
from vipd.core.events import AdvertHeard
from vipd.core.host import HostView
from vipd.model import LEAVING_PRIORITY, Address, Advert, InstanceConfig, Instant

SEND_FAILURE_LIMIT = 3
"""Adverts in a row that the kernel refused: by now the peers have taken over (3 intervals)."""


class Router:
    """A member of a unit. ``deaf``: why its socket could not be opened, empty if it is open.

    ``spoke_from``: the source before the present one.
    """

    def __init__(self, config: InstanceConfig, actions: list[Action]) -> None:
        self.config = config
        self.source: Address | None = None
        self.spoke_from: Address | None = None
        self.counters = Counters()
        self.send_failures = 0
        self.deaf = ""
        self.heard_master: Address | None = None
        self.last_heard: Instant | None = None
        self._actions = actions
        self._advertised = config.advertised

    def reconfigure(self, config: InstanceConfig) -> None:
        self.config = config
        self._advertised = config.advertised

    def lose_vips(self, config: InstanceConfig) -> None:
        """Some of its VIPs are others' now, and it is leaving.

        Its goodbye lists what it advertised so far: peers drop an advert with another list, and
        one without any address is none.
        """
        self.config = config

    def count(self, heard: AdvertHeard, now: Instant) -> None:
        """An advert of this router was heard, good or goodbye."""
        self.counters.add("adverts_received")
        self.last_heard = now
        if heard.advert.priority == LEAVING_PRIORITY:
            self.counters.add("priority_zero_received")
        else:
            self.heard_master = heard.source
        for remark in heard.remarks:
            self.counters.add(f"remarks.{remark.value}")

    def look_for_source(self, host: HostView, vips: frozenset[Address]) -> bool:
        """The source by the host as it is now; True if it is another one than before."""
        found = host.source_for(self.config, vips, self.source)
        if found == self.source:
            return False
        self.spoke_from, self.source = self.source, found
        return True

    def say(self, priority: int) -> None:
        """One advert; without a source nothing is sent (ENC-10)."""
        if self.source is None:
            return
        if priority == LEAVING_PRIORITY:
            self.counters.add("priority_zero_sent")
        self._actions.append(self.advert(priority, self.source))

    def advert(self, priority: int, source: Address) -> SendAdvert:
        advert = Advert(
            self.config.version,
            self.config.vrid,
            priority,
            self.config.advert_interval_ns,
            self._advertised,
        )
        return SendAdvert(self.config, source, advert)
