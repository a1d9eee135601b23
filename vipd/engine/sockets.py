"""Which VRRP sockets the engine has open: one for each link and family that a router uses.

The set follows the routers and the links: a link that was deleted and comes back under the same
name has another index and gets a new socket, which joins the group anew (ENC-14).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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

    def follow(self, routers: Iterable[InstanceConfig], links: Iterable[Link]) -> None:
        """Make the open sockets those that ``routers`` need on ``links``.

        A link whose socket cannot be opened (it vanished this instant) is left out; its next
        change brings us here again.
        """
        by_name = {link.name: link for link in links}
        wanted: dict[SocketKey, bool] = {}
        for router in routers:
            link = by_name.get(router.interface)
            if link is not None:
                key = (link.index, router.family)
                wanted[key] = wanted.get(key, False) or not router.unicast_peers
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
