"""Does one known host listen to VRRP? And the ICMP that ``listeners`` asks with.

The host is sent a datagram of protocol 112 that is no advert, then an echo request. If it lives
and does not refuse the protocol, some socket of it took the datagram. What the datagram is made of
stands in ``listeners``.
"""

from __future__ import annotations

import os
import socket
import struct

from vipd.adapters.echo import checksum
from vipd.model import Address, Family, Link, family_of, format_address

_VRRP = 112
_NO_ADVERT = bytes(8)
_HOP_LIMIT_OF_NO_ADVERT = 254
_ECHO4, _ECHO_REPLY4, _ECHO6, _ECHO_REPLY6 = 8, 0, 128, 129

# <linux/icmp.h>, <linux/icmpv6.h>, <asm-generic/socket.h>
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1
_SO_BINDTOIFINDEX = 62
_LARGEST_PACKET = 65_535

_ECHO_HEADER = struct.Struct("!BBHHH")


class DirectQuestion:
    """It lives, and it does not say that it knows no VRRP.

    Hosts limit how often they refuse (Linux: six at once, then one a second for each asker), and
    a refusal that was saved looks like a yes. So after a refusal nothing more is asked.
    """

    def __init__(self, link: Link, source: Address | None, peer: Address) -> None:
        family = family_of(peer)
        self._peer = format_address(peer)
        self.words = f"asked {self._peer} whether it takes VRRP (ICMP)"
        self._echo = EchoTalk(family)
        self._lives = self.refused = False
        echo = icmp_socket(family, link)
        self.sockets: tuple[socket.socket, ...] = (echo,)
        try:
            vrrp = _raw_socket(family, _VRRP, link)
            self.sockets = (echo, vrrp)
            _limit_hops(vrrp, family)
            scope = (0, 0, link.index) if family is Family.IPV6 else (0,)
            for sock in self.sockets:
                if source is not None:
                    sock.bind((format_address(source), *scope))
                sock.connect((self._peer, *scope))
        except OSError:
            for sock in self.sockets:
                sock.close()
            raise

    def ask(self) -> None:
        """The datagram first: what refuses it is on its way before the echo reply is."""
        echo, vrrp = self.sockets
        try:
            vrrp.send(_NO_ADVERT)
        except OSError:  # what came back for an earlier one, or no way to the host at all
            self.refused = True
            return
        echo.send(self._echo.request())

    def hear(self, sock: socket.socket) -> bool:
        if sock is self.sockets[1]:
            try:
                sock.recv(_LARGEST_PACKET)  # the peer's own adverts; not what we ask for
            except BlockingIOError:
                raise
            except OSError:
                self.refused = True
            return False
        if not self._echo.is_answer(sock.recv(_LARGEST_PACKET)):
            return False
        self._lives = True
        return True

    def found(self) -> tuple[str, ...]:
        return (self._peer,) if self._lives and not self.refused else ()


def _limit_hops(sock: socket.socket, family: Family) -> None:
    """Let no receiver take what it sends for an advert."""
    if family is Family.IPV4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _HOP_LIMIT_OF_NO_ADVERT)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _HOP_LIMIT_OF_NO_ADVERT)


class EchoTalk:
    """Echo requests of one asker, and how to know their replies from everybody else's."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._nonce = os.urandom(16)
        self._identifier = int.from_bytes(os.urandom(2), "big")
        self._sequence = 0

    def request(self) -> bytes:
        self._sequence += 1
        kind = _ECHO4 if self._family is Family.IPV4 else _ECHO6
        header = (kind, 0, 0, self._identifier, self._sequence)
        message = _ECHO_HEADER.pack(*header) + self._nonce
        if self._family is Family.IPV6:
            return message  # the kernel sums, it knows the source
        return _ECHO_HEADER.pack(kind, 0, checksum(message), *header[3:]) + self._nonce

    def is_answer(self, packet: bytes) -> bool:
        kind = _ECHO_REPLY6
        if self._family is Family.IPV4:
            packet = packet[(packet[0] & 0x0F) * 4 :]
            kind = _ECHO_REPLY4
        return packet[:1] == bytes((kind,)) and packet[_ECHO_HEADER.size :] == self._nonce


def _raw_socket(family: Family, protocol: int, link: Link) -> socket.socket:
    kind = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    sock = socket.socket(kind, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, link.index)
    except OSError:
        sock.close()
        raise
    return sock


def icmp_socket(family: Family, link: Link) -> socket.socket:
    """A raw ICMP socket on the link that hears echo replies only."""
    if family is Family.IPV4:
        sock = _raw_socket(family, socket.IPPROTO_ICMP, link)
        sock.setsockopt(
            _SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~(1 << _ECHO_REPLY4) & 0xFFFFFFFF)
        )
        return sock
    sock = _raw_socket(family, socket.IPPROTO_ICMPV6, link)
    blocked = bytearray(b"\xff" * 32)
    word = (_ECHO_REPLY6 >> 5) * 4
    mask = ~(1 << (_ECHO_REPLY6 & 31)) & 0xFFFFFFFF
    blocked[word : word + 4] = struct.pack("=I", mask)
    sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, bytes(blocked))
    return sock
