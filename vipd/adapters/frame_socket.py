"""Raw frames: sending announcements, hearing other hosts' ARP and Neighbor Advertisements.

The two AF_PACKET sockets are *opened by the supervisor* and inherited by the engine, because
closing the last reference of a packet socket waits for an RCU grace period: an engine that owns
one takes 10-30 ms to die, and the last will starts only when it is dead.

One unbound socket sends on every link: the address given with each frame names the link. It is
built here by ctypes and kept, because Python would resolve the link's name with an ioctl for
every frame, and a claim of 1000 VIPs sends 1000 frames. PACKET_QDISC_BYPASS is never set: a
bypassing frame would pass neither queueing rules nor the gate, which is an egress rule.

Hearing is for conflicts (checklist ANN-17): who else says it has our VIP. The listeners pass the
raw messages on; ``wire`` decodes and the core judges them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Sequence

from vipd.adapters import bpf
from vipd.adapters.sockopt import set_receive_buffer, set_send_buffer
from vipd.errors import AdapterError, PermissionMissing
from vipd.model import Address

_ETH_P_ARP = 0x0806
_ICMP6_FILTER = 1
_NEIGHBOR_ADVERTISEMENT = 136
_HIGHEST_PRIORITY = 7

# Room for a burst of announcements that waits in the device's queue, or of ARP requests that
# waits for us: a frame costs the kernel under 1 KiB.
_BUFFER = 4 * 1024 * 1024
_LARGEST_FRAME = 2048
_FEW_FRAMES = 16
_LARGEST_PACKET = 65_535
_ANCILLARY_SPACE = 128
_NOTHING_WAITS = frozenset({errno.EAGAIN, errno.EINTR})

_PKTINFO6 = struct.Struct("=16si")  # address, link index

# Byte 7 of the IPv6 header is the hop limit.
_HOP_LIMIT_IS_255 = (
    bpf.load_byte(bpf.NETWORK_HEADER + 7),
    bpf.skip_unless_equal(255, 1),
    bpf.ACCEPT,
    bpf.DROP,
)


class _LinkAddress(ctypes.Structure):
    """``struct sockaddr_ll`` of <linux/if_packet.h>."""

    _fields_ = (
        ("family", ctypes.c_ushort),
        ("protocol", ctypes.c_ushort),  # network order
        ("index", ctypes.c_int),
        ("hardware_type", ctypes.c_ushort),
        ("packet_type", ctypes.c_ubyte),
        ("address_length", ctypes.c_ubyte),
        ("address", ctypes.c_ubyte * 8),
    )


class _Piece(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """``struct msghdr``."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("pieces", ctypes.c_void_p),
        ("piece_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """``struct mmsghdr``."""

    _fields_ = (("header", _Header), ("sent", ctypes.c_uint))


_libc = ctypes.CDLL(None, use_errno=True)
_sendmmsg = _libc.sendmmsg
_sendmmsg.restype = ctypes.c_int
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
_sendto = _libc.sendto
_sendto.restype = ctypes.c_ssize_t
_sendto.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.POINTER(_LinkAddress),
    ctypes.c_uint,
)
_recvfrom = _libc.recvfrom
_recvfrom.restype = ctypes.c_ssize_t
_recvfrom.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.POINTER(_LinkAddress),
    ctypes.POINTER(ctypes.c_uint),
)


def open_sender() -> socket.socket:
    """A socket that sends frames on any link and receives none (protocol 0)."""
    sock = _open_packet_socket(0)
    set_send_buffer(sock, _BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _HIGHEST_PRIORITY)
    return sock


def open_arp_listener() -> socket.socket:
    """A non-blocking socket that hears the ARP frames of all links.

    It never hears what this host sends: that is shown only to sockets for *all* protocols.
    """
    sock = _open_packet_socket(_ETH_P_ARP)
    set_receive_buffer(sock, _BUFFER)
    return sock


def silence(sock: socket.socket) -> None:
    """Throw away what waits in a listener that nobody reads now, and let nothing more in.

    Who listens to it next says so by ``ArpListener.listen``.
    """
    bpf.attach(sock, (bpf.DROP,))
    with contextlib.suppress(BlockingIOError):
        while sock.recv(1):
            pass


def _open_packet_socket(ethertype: int) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    try:
        return socket.socket(socket.AF_PACKET, kind, socket.htons(ethertype))
    except PermissionError as error:
        message = f"a packet socket: {error.strerror}; run as root, or with CAP_NET_RAW"
        raise PermissionMissing(message, error.errno or 0) from error
    except OSError as error:
        raise AdapterError(f"a packet socket: {error.strerror}", error.errno or 0) from error


class _Tray:
    """Places for ``SEATS`` frames of one length to one target, laid out once for sendmmsg(2)."""

    SEATS = 128

    def __init__(self, target: _LinkAddress, length: int) -> None:
        self.length = length
        self._target = target  # the headers point to it
        self.buffer = ctypes.create_string_buffer(self.SEATS * length)
        base = ctypes.addressof(self.buffer)
        self._pieces = (_Piece * self.SEATS)(
            *(_Piece(base + seat * length, length) for seat in range(self.SEATS))
        )
        pieces = ctypes.addressof(self._pieces)
        name, name_length = ctypes.addressof(target), ctypes.sizeof(_LinkAddress)
        self._messages = (_Message * self.SEATS)(
            *(
                _Message(
                    _Header(name, name_length, pieces + seat * ctypes.sizeof(_Piece), 1, None, 0, 0)
                )
                for seat in range(self.SEATS)
            )
        )
        self.messages = ctypes.addressof(self._messages)


class FrameSender:
    """Sends complete Ethernet frames through a socket of ``open_sender``."""

    def __init__(self, sock: socket.socket) -> None:
        self._fd = sock.fileno()
        self._socket = sock  # keeps the descriptor open
        self._targets: dict[tuple[int, bytes], _LinkAddress] = {}
        self._trays: dict[tuple[int, bytes, int], _Tray] = {}

    def send_many(self, link_index: int, frames: Sequence[bytes]) -> int:
        """Queue ``frames``, all of one length and ethertype, on the link; in order.

        Returns how many were taken: the first that is refused ends it.
        """
        if len(frames) < _FEW_FRAMES:
            return self._send_few(link_index, frames)
        taken = 0
        for start in range(0, len(frames), _Tray.SEATS):
            part = frames[start : start + _Tray.SEATS]
            tray = self._tray(link_index, part[0])
            joined = b"".join(part)
            if len(joined) != len(part) * tray.length:
                raise AdapterError("frames of different lengths in one batch", errno.EINVAL)
            ctypes.memmove(tray.buffer, joined, len(joined))
            sent = _sendmmsg(self._fd, tray.messages, len(part), socket.MSG_DONTWAIT)
            taken += max(0, sent)
            if sent < len(part):
                break
        return taken

    def _send_few(self, link_index: int, frames: Sequence[bytes]) -> int:
        # Laying out a tray takes longer than this, and the first claim would wait for it.
        for taken, frame in enumerate(frames):
            try:
                self.send(link_index, frame)
            except AdapterError:
                return taken
        return len(frames)

    def _tray(self, link_index: int, frame: bytes) -> _Tray:
        key = (link_index, frame[12:14], len(frame))
        tray = self._trays.get(key)
        if tray is None:
            target = self._targets.get(key[:2]) or self._target(link_index, frame[12:14])
            tray = self._trays[key] = _Tray(target, len(frame))
        return tray

    def send(self, link_index: int, frame: bytes) -> None:
        """Queue ``frame`` on the link.

        Raises AdapterError: ENOBUFS or EAGAIN when the transmit queue is full (or the gate's
        egress rule dropped the frame), ENETDOWN or ENXIO when the link is down or gone.
        """
        ethertype = frame[12:14]
        target = self._targets.get((link_index, ethertype))
        if target is None:
            target = self._target(link_index, ethertype)
        size = ctypes.sizeof(_LinkAddress)
        if _sendto(self._fd, frame, len(frame), socket.MSG_DONTWAIT, target, size) < 0:
            number = ctypes.get_errno()
            message = f"sending a frame on link {link_index}: {os.strerror(number)}"
            raise AdapterError(message, number)

    def close(self) -> None:
        self._socket.close()

    def _target(self, link_index: int, ethertype: bytes) -> _LinkAddress:
        # The kernel would guess the protocol from the frame; queueing and nftables rules that
        # match on it must not depend on the guess.
        protocol = int.from_bytes(ethertype, "big")
        target = _LinkAddress(
            family=socket.AF_PACKET, protocol=socket.htons(protocol), index=link_index
        )
        self._targets[link_index, ethertype] = target
        return target


class ArpListener:
    """Receives ARP frames through a socket of ``open_arp_listener``."""

    def __init__(self, sock: socket.socket) -> None:
        self._fd = sock.fileno()
        self._socket = sock  # keeps the descriptor open
        self._buffer = ctypes.create_string_buffer(_LARGEST_FRAME)
        self._sender = _LinkAddress()

    def fileno(self) -> int:
        return self._fd

    def receive(self) -> tuple[int, bytes] | None:
        """Link index and frame, or None when none waits."""
        # By ctypes: Python would turn the link's index into a name, and only into a name.
        size = ctypes.c_uint(ctypes.sizeof(_LinkAddress))
        count = _recvfrom(
            self._fd, self._buffer, _LARGEST_FRAME, socket.MSG_DONTWAIT, self._sender, size
        )
        if count >= 0:
            return self._sender.index, self._buffer.raw[:count]
        number = ctypes.get_errno()
        if number in _NOTHING_WAITS:
            return None
        raise AdapterError(f"receiving ARP: {os.strerror(number)}", number)

    def listen(self, wanted: bool) -> None:
        """Whether frames are queued at all: to a host that holds nothing, ARP is noise."""
        bpf.attach(self._socket, (bpf.ACCEPT if wanted else bpf.DROP,))

    def close(self) -> None:
        self._socket.close()


class NeighbourListener:
    """Receives Neighbor Advertisements (ICMPv6 type 136) of all links.

    The kernel has checked the ICMPv6 checksum, and its filter has dropped every packet whose hop
    limit is not 255, which came through a router and proves nothing (RFC 4861 §7.1.2).
    """

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        try:
            self._socket = socket.socket(socket.AF_INET6, kind, socket.IPPROTO_ICMPV6)
        except OSError as error:
            raise AdapterError(f"an ICMPv6 socket: {error.strerror}", error.errno or 0) from error
        blocked = bytearray(b"\xff" * 32)
        word, bit = divmod(_NEIGHBOR_ADVERTISEMENT, 32)
        struct.pack_into("=I", blocked, word * 4, 0xFFFFFFFF & ~(1 << bit))
        self._socket.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, bytes(blocked))
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        set_receive_buffer(self._socket, _BUFFER)
        bpf.attach(self._socket, _HOP_LIMIT_IS_255)

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> tuple[int, Address, bytes] | None:
        """Link index, source address and ICMPv6 message, or None when none waits."""
        try:
            payload, ancillary, _flags, sender = self._socket.recvmsg(
                _LARGEST_PACKET, _ANCILLARY_SPACE
            )
        except BlockingIOError:
            return None
        except OSError as error:
            message = f"receiving neighbor advertisements: {error.strerror}"
            raise AdapterError(message, error.errno or 0) from error
        index = 0
        for level, kind, data in ancillary:
            if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
                index = _PKTINFO6.unpack_from(data)[1]
        source = socket.inet_pton(socket.AF_INET6, sender[0])
        return index, source, payload

    def listen(self, wanted: bool) -> None:
        """Whether advertisements are queued at all."""
        bpf.attach(self._socket, _HOP_LIMIT_IS_255 if wanted else (bpf.DROP,))

    def close(self) -> None:
        self._socket.close()
