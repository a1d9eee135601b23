"""Which VRRP sockets the engine has open: one for each link and family that a router uses.

The set follows the routers and the links: a link that was deleted and comes back under the same
name has another index and gets a new socket, which joins the group anew (ENC-14).

Opening and closing are two steps, because the actions of an event stand between them: a router
that speaks at once (an address owner) needs its socket before they are carried out, and one that
leaves says goodbye through it while they are.

A socket that cannot be opened makes its routers deaf: a deaf backup would call every master dead.
The core is told (``Deafened``), and the socket is tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from selectors import EVENT_READ, BaseSelector

from vipd.adapters.vrrp_socket import VrrpSocket
from vipd.core.events import Deafened, Event, Undeafened
from vipd.errors import AdapterError
from vipd.model import Family, InstanceConfig, Link

SocketKey = tuple[int, Family]


class VrrpSockets:
    """Opens and closes sockets, and keeps the selector in step."""

    def __init__(self, selector: BaseSelector, read: Callable[[VrrpSocket, int], int]) -> None:
        self._selector = selector
        self._read = read
        self._open: dict[SocketKey, VrrpSocket] = {}
        self._multicast: dict[SocketKey, bool] = {}
        self._refused: dict[SocketKey, int] = {}
        self._deaf: set[str] = set()

    @property
    def is_wanting(self) -> bool:
        """Is there a socket that could not be opened?"""
        return bool(self._refused)

    def get(self, key: SocketKey) -> VrrpSocket | None:
        return self._open.get(key)

    def all(self) -> list[VrrpSocket]:
        return list(self._open.values())

    def open_for(self, routers: Sequence[InstanceConfig], links: Iterable[Link]) -> list[Event]:
        """Open what ``routers`` need on ``links`` and is not open yet; close nothing.

        Returns who cannot hear now, and who can again.
        """
        by_name = {link.name: link for link in links}
        wanted = _wanted(routers, by_name)
        self._refused = {key: errno for key, errno in self._refused.items() if key in wanted}
        for key, multicast in wanted.items():
            if key not in self._open:
                self._try_open(by_name, key, multicast)
        return self._hearing(routers, by_name)

    def follow(self, routers: Sequence[InstanceConfig], links: Iterable[Link]) -> list[Event]:
        """Make the open sockets exactly those that ``routers`` need; returns as ``open_for``."""
        links = tuple(links)
        wanted = _wanted(routers, {link.name: link for link in links})
        for key in [key for key in self._open if self._multicast[key] != wanted.get(key)]:
            self.close(key)
        return self.open_for(routers, links)

    def _hearing(
        self, routers: Sequence[InstanceConfig], by_name: Mapping[str, Link]
    ) -> list[Event]:
        deaf: dict[str, int] = {}
        for router in routers:
            link = by_name.get(router.interface)
            errno = 0 if link is None else self._refused.get((link.index, router.family), 0)
            if errno:
                deaf[router.name] = errno
        events: list[Event] = [Undeafened(name) for name in self._deaf if name not in deaf]
        events += [Deafened(name, no) for name, no in deaf.items() if name not in self._deaf]
        self._deaf = set(deaf)
        return events

    def _try_open(self, by_name: dict[str, Link], key: SocketKey, multicast: bool) -> None:
        link = next(link for link in by_name.values() if link.index == key[0])
        try:
            sock = VrrpSocket(link, key[1], multicast=multicast)
        except AdapterError as error:
            self._refused[key] = error.errno
            return
        self._refused.pop(key, None)
        self._open[key] = sock
        self._multicast[key] = multicast
        self._selector.register(sock, EVENT_READ, lambda limit: self._read(sock, limit))

    def close(self, key: SocketKey) -> None:
        sock = self._open.pop(key)
        del self._multicast[key]
        self._selector.unregister(sock)
        sock.close()


def _wanted(
    routers: Iterable[InstanceConfig], by_name: Mapping[str, Link]
) -> dict[SocketKey, bool]:
    """The sockets that ``routers`` need; True: with membership in the multicast group."""
    wanted: dict[SocketKey, bool] = {}
    for router in routers:
        link = by_name.get(router.interface)
        if link is not None:
            key = (link.index, router.family)
            wanted[key] = wanted.get(key, False) or not router.unicast_peers
    return wanted
