"""Sending and receiving on the cluster channel: one UDP socket per own address.

* **Bound to one address**, so that a path is what its two ends say: what is sent leaves with this
  source, and what is received was for this address. The address may come later, go and come back
  (a link that is not up yet, IPv6 that is tentative): IP_FREEBIND. Until then sending is refused.
* **Never in pieces, and no trust in ICMP.** Datagrams fit every path (1200 bytes), so DF is set,
  and what a router, or a forger, says about the size of the path is not heeded: else one forged
  packet could silence the channel.
* **Precedence** as adverts have it (TOS / traffic class 0xC0, SO_PRIORITY 7): a full transmit
  queue must not look like a dead node.
* **Sending never fails.** A peer that is down, a full queue, no route: the next heartbeat comes
  anyway, and on another path too. Refusals are counted by errno. Errors that the kernel reports
  on a later call (ECONNREFUSED, where a peer's daemon is not running) are counted alike.

Link-local IPv6 addresses are refused: they mean nothing without a link, and the cluster's addresses
are the same on all nodes while the names of links are not.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter

from vipd.adapters.sockopt import set_receive_buffer
from vipd.errors import AdapterError, PermissionMissing
from vipd.model import Address, Family, family_of, format_address, is_link_local

_INTERNETWORK_CONTROL = 0xC0
_HIGHEST_PRIORITY = 7
# Room for what arrives while the engine is stalled, and for a short flood.
_RECEIVE_BUFFER = 4 * 1024 * 1024
# More than any datagram may have: a longer one is cut, and still too long.
_MOST_READ = 2048

# <linux/in.h>, <linux/in6.h>
_IP_FREEBIND = 15
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_PROBE = 3
_IPV6_MTU_DISCOVER = 23
_IPV6_PMTUDISC_PROBE = 3
_IPV6_FREEBIND = 78


class ChannelSocket:
    """The channel at one own address. ``refused`` counts what could not be sent, by errno."""

    def __init__(self, own: Address, port: int) -> None:
        self.own = own
        self.port = port
        self.family = family_of(own)
        self.refused: Counter[int] = Counter()
        what = f"the cluster channel at {format_address(own)}, UDP port {port}"
        if is_link_local(own):
            raise AdapterError(f"{what}: a link-local address", errno.EINVAL)
        kind = socket.AF_INET if self.family is Family.IPV4 else socket.AF_INET6
        try:
            self._socket = socket.socket(kind, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise _refused(what, error) from error
        try:
            _set_options(self._socket, self.family)
            self._socket.bind((format_address(own), port))
        except OSError as error:
            self._socket.close()
            raise _refused(what, error) from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def receive(self) -> tuple[bytes, Address] | None:
        """The next datagram and where it came from, or None when none waits."""
        try:
            data, sender = self._socket.recvfrom(_MOST_READ)
        except BlockingIOError:
            return None
        except OSError as error:
            self.refused[error.errno or 0] += 1
            return None
        kind = socket.AF_INET if self.family is Family.IPV4 else socket.AF_INET6
        return data, socket.inet_pton(kind, sender[0])

    def send(self, datagram: bytes, destination: Address) -> None:
        """Send, or count why not."""
        try:
            self._socket.sendto(datagram, (format_address(destination), self.port))
        except OSError as error:
            self.refused[error.errno or 0] += 1


def _set_options(sock: socket.socket, family: Family) -> None:
    set_receive_buffer(sock, _RECEIVE_BUFFER)
    if family is Family.IPV4:
        ip = socket.IPPROTO_IP
        sock.setsockopt(ip, _IP_FREEBIND, 1)
        sock.setsockopt(ip, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
        sock.setsockopt(ip, socket.IP_TOS, _INTERNETWORK_CONTROL)
    else:
        ip6 = socket.IPPROTO_IPV6
        sock.setsockopt(ip6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(ip6, _IPV6_FREEBIND, 1)
        sock.setsockopt(ip6, _IPV6_MTU_DISCOVER, _IPV6_PMTUDISC_PROBE)
        sock.setsockopt(ip6, socket.IPV6_TCLASS, _INTERNETWORK_CONTROL)
    # After IP_TOS, which sets the priority as well, to a lower one.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _HIGHEST_PRIORITY)


def _refused(what: str, error: OSError) -> AdapterError:
    if isinstance(error, PermissionError):
        cure = "take a port above 1023" if error.errno == errno.EACCES else "run as root"
        return PermissionMissing(f"{what}: {error.strerror}; {cure}", error.errno or 0)
    return AdapterError(f"{what}: {error.strerror}", error.errno or 0)
