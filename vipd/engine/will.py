"""Writes the core's last will down as the datagrams that it means, into the shared page.

The core says who is to be told what; here it becomes bytes (signed, summed, addressed), because
who sends them has neither the key nor the configuration. A tombstone takes every path that a
message to its member would take.

The core says it anew at every mastership that begins or ends, of one router out of hundreds, and
nothing may hold an advert up. So what is unchanged since the last time is not encoded again.
"""

from __future__ import annotations

from vipd.core.actions import KeepWill, SendAdvert
from vipd.engine.channel import Path, paths_of
from vipd.model import NodeConfig
from vipd.translate import Translator
from vipd.translate_channel import ChannelTranslator
from vipd.will import GOODBYE_INTERVALS, Goodbye, Page, Tombstone, Will


class WillKeeper:
    """Owns the engine's side of the page."""

    def __init__(
        self, page: Page, translator: Translator, channel_translator: ChannelTranslator
    ) -> None:
        self._page = page
        self._translator = translator
        self._channel_translator = channel_translator
        self._paths: dict[str, tuple[Path, ...]] = {}
        self._port = 0

    def configure(self, config: NodeConfig) -> None:
        """Where the members are. What is kept stays as it is until the core says it anew."""
        if config.cluster is not None:
            self._paths = paths_of(config)
            self._port = config.cluster.port

    def keep(self, action: KeepWill) -> int:
        """Store it; when this returns, its author may die. Returns how much did not fit."""
        tombstones = tuple(
            Tombstone(each.to, self._paths.get(each.to, ()), self._port, each.datagram)
            for each in self._channel_translator.will(action)
        )
        goodbyes = tuple(each for advert in action.goodbyes for each in self._goodbyes(advert))
        return self._page.keep(Will(tombstones, goodbyes))

    def _goodbyes(self, action: SendAdvert) -> tuple[Goodbye, ...]:
        good_for_ns = GOODBYE_INTERVALS * action.config.advert_interval_ns
        return tuple(
            Goodbye(
                action.instance,
                each.index,
                each.source,
                each.destination,
                each.payload,
                good_for_ns,
            )
            for each in self._translator.encode(action)
        )
