"""ICMP echo: one socket for one ping.

A raw ICMP socket gets a copy of every ICMP packet of the host. With n checks that ping, each
answer would be read n times. So each socket is *connected*, and the kernel gives it only what
comes from its address, and it has a filter for everything but echo replies. Waiting for an answer
that does not come then costs nothing.

An answer is ours if it repeats our identifier, sequence number and payload. Errors that routers or
our own kernel report for the packet (no route, no neighbour) are raised by ``receive``.
"""

from __future__ import annotations

import os
import socket
import struct

from vipd.model import Address, format_address

_ECHO_REQUEST_4, _ECHO_REPLY_4 = 8, 0
_ECHO_REQUEST_6, _ECHO_REPLY_6 = 128, 129
_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
_SMALLEST_IPV4_HEADER = 20

_SOL_RAW, _ICMP_FILTER = 255, 1
_ICMPV6_FILTER = 1
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_RECEIVE_SIZE = 2048
_PAYLOAD_SIZE = 56  # as ping does
_TOKEN_SIZE = 16


def checksum(data: bytes) -> int:
    """RFC 1071; ``data`` of even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


class Echo:
    """One echo request and its reply. ``sock`` does not block; whoever waits, waits for it."""

    def __init__(self, address: Address, source: Address | None) -> None:
        """Raises OSError; PermissionError without CAP_NET_RAW."""
        self._is_v4 = len(address) == 4
        self._identifier = struct.unpack("!H", os.urandom(2))[0]
        self._payload = os.urandom(_TOKEN_SIZE).ljust(_PAYLOAD_SIZE, b"\0")
        family, protocol = (
            (socket.AF_INET, socket.IPPROTO_ICMP)
            if self._is_v4
            else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
        )
        self.sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        try:
            self._filter()
            if source is not None:
                self.sock.bind((format_address(source), 0))
            self.sock.connect((format_address(address), 0))
        except OSError:
            self.sock.close()
            raise

    def _filter(self) -> None:
        if self._is_v4:
            blocked = ~(1 << _ECHO_REPLY_4) & 0xFFFFFFFF
            self.sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", blocked))
            self.sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            return
        words = [0xFFFFFFFF] * 8
        words[_ECHO_REPLY_6 >> 5] &= ~(1 << (_ECHO_REPLY_6 & 31))
        self.sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, struct.pack("=8I", *words))
        self.sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)

    def close(self) -> None:
        self.sock.close()

    def send(self) -> None:
        """Raises OSError."""
        self.sock.send(self.request())

    def request(self) -> bytes:
        """The message; the checksum of ICMPv6 covers the addresses and is the kernel's to add."""
        kind = _ECHO_REQUEST_4 if self._is_v4 else _ECHO_REQUEST_6
        message = _HEADER.pack(kind, 0, 0, self._identifier, 1) + self._payload
        if not self._is_v4:
            return message
        return _HEADER.pack(kind, 0, checksum(message), self._identifier, 1) + self._payload

    def receive(self) -> bool:
        """Read one packet: is it the reply? Raises BlockingIOError if none waits, and OSError."""
        packet = self.sock.recv(_RECEIVE_SIZE)
        return self.is_reply(packet)

    def is_reply(self, packet: bytes) -> bool:
        if self._is_v4:  # the IP header comes along
            if len(packet) < _SMALLEST_IPV4_HEADER:
                return False
            packet = packet[(packet[0] & 0x0F) * 4 :]
        if len(packet) < _HEADER.size:
            return False
        kind, code, _sum, identifier, sequence = _HEADER.unpack_from(packet)
        wanted = _ECHO_REPLY_4 if self._is_v4 else _ECHO_REPLY_6
        is_ours = (kind, code, identifier, sequence) == (wanted, 0, self._identifier, 1)
        return is_ours and packet[_HEADER.size :] == self._payload
