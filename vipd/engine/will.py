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
from vipd.will import (
    GOODBYE_INTERVALS,
    Goodbye,
    Page,
    Tombstone,
    assemble,
    encode_goodbye,
    encode_tombstone,
)


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
        self._known: dict[int, tuple[SendAdvert, list[bytes]]] = {}
        """By the identity of the advert, which is held so that no other can have the same."""

    def configure(self, config: NodeConfig) -> None:
        """Where the members are. What is kept stays as it is until the core says it anew."""
        self._known = {}
        if config.cluster is not None:
            self._paths = paths_of(config)
            self._port = config.cluster.port

    def keep(self, action: KeepWill) -> None:
        """Store it; when this returns, its author may die."""
        tombstones = [
            encode_tombstone(
                Tombstone(each.to, self._paths.get(each.to, ()), self._port, each.datagram)
            )
            for each in self._channel_translator.will(action)
        ]
        known = self._known
        # By identity: the core repeats what is unchanged, and comparing would cost more.
        self._known = {
            id(advert): known.get(id(advert)) or (advert, self._goodbyes(advert))
            for advert in action.goodbyes
        }
        goodbyes = [piece for _advert, pieces in self._known.values() for piece in pieces]
        self._page.keep(assemble(tombstones, goodbyes))

    def _goodbyes(self, action: SendAdvert) -> list[bytes]:
        good_for_ns = GOODBYE_INTERVALS * action.config.advert_interval_ns
        return [
            encode_goodbye(
                Goodbye(
                    action.instance,
                    each.index,
                    each.source,
                    each.destination,
                    each.payload,
                    good_for_ns,
                )
            )
            for each in self._translator.encode(action)
        ]
