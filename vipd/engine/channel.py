"""The paths of the cluster channel, and the sockets that they need.

A *path* to a member is a pair of one own address and one of its addresses, of one family: the first
with the first, the second with the second, so that each network has a path of its own, and its
silence shows that it is cut. Who has fewer addresses uses them in turn. Every datagram takes every
path, because nobody knows which of them is cut at this moment; what arrives twice costs its
receiver one comparison.

The set follows the configuration in two steps, because the actions of a reload stand between them:
new sockets are open before the first word to a new member, and what leaves is still spoken to
until it has left. A socket that cannot be opened (another program has the port) is tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from selectors import EVENT_READ, BaseSelector
from typing import TypeAlias

from vipd.adapters.channel_socket import ChannelSocket
from vipd.errors import AdapterError
from vipd.model import (
    Address,
    Family,
    FieldValue,
    NodeConfig,
    Note,
    NoteKind,
    family_of,
    format_address,
)
from vipd.translate_channel import Outgoing

Path: TypeAlias = tuple[Address, Address]
"""From an own address to one of a member."""

_SocketKey: TypeAlias = tuple[Address, int]


def paths_of(config: NodeConfig) -> dict[str, tuple[Path, ...]]:
    """The paths to each other node; none where the cluster does not list this node."""
    nodes = () if config.cluster is None else config.cluster.nodes
    own = [address for node in nodes if node.name == config.node for address in node.addresses]
    return {
        node.name: tuple(path for family in Family for path in _pairs(family, own, node.addresses))
        for node in nodes
        if own and node.name != config.node
    }


def _pairs(family: Family, own: Sequence[Address], their: Sequence[Address]) -> list[Path]:
    """Each address of either side at least once."""
    here = [address for address in own if family_of(address) is family]
    there = [address for address in their if family_of(address) is family]
    if not here or not there:
        return []
    return [
        (here[at % len(here)], there[at % len(there)]) for at in range(max(len(here), len(there)))
    ]


class ChannelPaths:
    """Opens and closes the channel's sockets, and keeps the selector in step."""

    def __init__(self, selector: BaseSelector, read: Callable[[ChannelSocket, int], int]) -> None:
        self._selector = selector
        self._read = read
        self._port = 0
        self._wanted: dict[str, tuple[Path, ...]] = {}
        self._paths: dict[str, list[tuple[_SocketKey, Address]]] = {}
        self._open: dict[_SocketKey, ChannelSocket] = {}
        self.refusals: dict[_SocketKey, int] = {}
        """Sockets that could not be opened, with the errno."""

    @property
    def is_wanting(self) -> bool:
        return bool(self.refusals)

    def all(self) -> list[ChannelSocket]:
        return list(self._open.values())

    def want(self, config: NodeConfig) -> None:
        """What is right from now on. Opens and closes nothing yet."""
        self._wanted = paths_of(config)
        self._port = 0 if config.cluster is None else config.cluster.port

    def open_missing(self) -> list[Note]:
        """Open what is wanted and is not open yet; close nothing. What changed is told."""
        before, self.refusals = self.refusals, {}
        for key in self._keys():
            if key not in self._open:
                self._try_open(key)
        # Over what there was: who leaves is still spoken to, until ``close_unwanted``.
        self._paths |= self._routes()
        refused = [key for key, number in self.refusals.items() if before.get(key) != number]
        opened = [key for key in before if key in self._open]
        return [
            *(self._note(NoteKind.CHANNEL_DEAF, key) for key in refused),
            *(self._note(NoteKind.CHANNEL_OPEN, key) for key in opened),
        ]

    def _note(self, kind: NoteKind, key: _SocketKey) -> Note:
        fields: dict[str, FieldValue] = {"address": format_address(key[0]), "port": key[1]}
        if key in self.refusals:
            fields["errno"] = self.refusals[key]
        return Note(kind, "", fields)

    def close_unwanted(self) -> None:
        self._paths = self._routes()
        wanted = self._keys()
        for key in [key for key in self._open if key not in wanted]:
            sock = self._open.pop(key)
            self._selector.unregister(sock)
            sock.close()

    def _keys(self) -> dict[_SocketKey, None]:
        """The wanted sockets, in the order of the configuration."""
        pairs = (pair for paths in self._wanted.values() for pair in paths)
        return {(here, self._port): None for here, _there in pairs}

    def _routes(self) -> dict[str, list[tuple[_SocketKey, Address]]]:
        return {
            member: [((here, self._port), there) for here, there in paths]
            for member, paths in self._wanted.items()
        }

    def send(self, outgoing: Outgoing) -> None:
        """On every path that is open."""
        for key, destination in self._paths.get(outgoing.to, ()):
            sock = self._open.get(key)
            if sock is not None:
                sock.send(outgoing.datagram, destination)

    def _try_open(self, key: _SocketKey) -> None:
        try:
            sock = ChannelSocket(*key)
        except AdapterError as error:
            self.refusals[key] = error.errno
            return
        self._open[key] = sock
        self._selector.register(sock, EVENT_READ, lambda limit: self._read(sock, limit))
