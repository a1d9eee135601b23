"""Which VRRP sockets the engine has open: one for each link and family that a router uses.

The set follows the routers and the links: a link that was deleted and comes back under the same
name has another index and gets a new socket, which joins the group anew (ENC-14).

Opening and closing are two steps, because the actions of an event stand between them: a router
that speaks at once (an address owner) needs its socket before they are carried out, and one that
leaves says goodbye through it while they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from selectors import EVENT_READ, BaseSelector

from vipd.adapters.vrrp_socket import VrrpSocket
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

    def get(self, key: SocketKey) -> VrrpSocket | None:
        return self._open.get(key)

    def all(self) -> list[VrrpSocket]:
        return list(self._open.values())

    def open_for(self, routers: Iterable[InstanceConfig], links: Iterable[Link]) -> None:
        """Open what ``routers`` need on ``links`` and is not open yet; close nothing.

        A link whose socket cannot be opened (it vanished this instant) is left out; its next
        change brings us here again.
        """
        by_name = {link.name: link for link in links}
        for key, multicast in _wanted(routers, by_name).items():
            if key not in self._open:
                self._try_open(by_name, key, multicast)

    def follow(self, routers: Iterable[InstanceConfig], links: Iterable[Link]) -> None:
        """Make the open sockets exactly those that ``routers`` need on ``links``."""
        by_name = {link.name: link for link in links}
        wanted = _wanted(routers, by_name)
        for key in [key for key in self._open if self._multicast[key] != wanted.get(key)]:
            self.close(key)
        for key, multicast in wanted.items():
            if key not in self._open:
                self._try_open(by_name, key, multicast)

    def _try_open(self, by_name: dict[str, Link], key: SocketKey, multicast: bool) -> None:
        link = next(link for link in by_name.values() if link.index == key[0])
        try:
            sock = VrrpSocket(link, key[1], multicast=multicast)
        except AdapterError:
            return
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
