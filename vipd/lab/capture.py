"""Captures with nanosecond stamps, written as pcapng: one file, the interface of every frame.

A capture runs as its own process in a host's namespace. On the switch it listens at all ports,
incoming only: every frame that any host sends is seen exactly once, with the name of the port it
came from - also the frames of a host that is cut off, because faults are applied later. That is
what a judge needs who must not believe a source address.

Stamps are the kernel's (SO_TIMESTAMPNS, time of day). They are written shifted to
CLOCK_BOOTTIME plus the offset that the lab took once at its start, so that stepping the wall
clock does not tear a capture apart; ``read_capture`` takes that offset off again.
"""

from __future__ import annotations

import argparse
import ctypes
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vipd.model import Instant

_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_SO_TIMESTAMPNS, _SO_ATTACH_FILTER = 35, 26
_PACKET_OUTGOING = 4
_SNAPLEN = 65535

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER = 0x1A2B3C4D
_LINKTYPE_ETHERNET = 1
_OPTION_NAME, _OPTION_RESOLUTION, _OPTION_FLAGS = 2, 9, 2
_INBOUND, _OUTBOUND = 1, 2

_CONTROL_FILTER = (  # (operation, jump if true, jump if false, operand), classic BPF
    (0x28, 0, 0, 12),  # load the ethertype
    (0x15, 7, 0, 0x0806),  # ARP: keep
    (0x15, 0, 2, 0x0800),
    (0x30, 0, 0, 23),  # IPv4: load the protocol
    (0x15, 4, 5, 112),  # VRRP: keep, else drop
    (0x15, 0, 4, 0x86DD),
    (0x30, 0, 0, 20),  # IPv6: load the next header
    (0x15, 1, 0, 112),  # VRRP: keep
    (0x15, 0, 1, 58),  # ICMPv6: keep
    (0x06, 0, 0, _SNAPLEN),
    (0x06, 0, 0, 0),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured frame. ``interface`` on the switch is the port, that is the sender's name."""

    t_ns: Instant
    interface: str
    outgoing: bool
    data: bytes


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + _padded(value)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + length + body + length


class _Writer:
    """pcapng: a section, a description of each interface at its first frame, the frames."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - lives as long as the process
        self._interfaces: dict[str, int] = {}
        self._file.write(_block(_SECTION, struct.pack("=IHHq", _BYTE_ORDER, 1, 0, -1)))

    def write(self, frame: Frame) -> None:
        number = self._interfaces.get(frame.interface)
        if number is None:
            number = self._interfaces[frame.interface] = len(self._interfaces)
            options = _option(_OPTION_NAME, frame.interface.encode())
            options += _option(_OPTION_RESOLUTION, b"\x09") + _option(0, b"")
            head = struct.pack("=HHI", _LINKTYPE_ETHERNET, 0, _SNAPLEN)
            self._file.write(_block(_INTERFACE, head + options))
        high, low = divmod(frame.t_ns, 1 << 32)
        size = len(frame.data)
        flags = _OUTBOUND if frame.outgoing else _INBOUND
        body = struct.pack("=IIIII", number, high, low, size, size) + _padded(frame.data)
        options = _option(_OPTION_FLAGS, struct.pack("=I", flags)) + _option(0, b"")
        self._file.write(_block(_PACKET, body + options))


def _blocks(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The complete blocks; a last one that is still being written is left alone."""
    while len(head := file.read(8)) == 8:
        kind, length = struct.unpack("=II", head)
        body = file.read(length - 8)
        if len(body) < length - 8:
            return
        yield kind, body[:-4]


def _interface_name(body: bytes) -> str:
    code, length = struct.unpack_from("=HH", body, 8)
    return body[12 : 12 + length].decode() if code == _OPTION_NAME else ""


def read_capture(path: Path, clock_offset_ns: int = 0) -> list[Frame]:
    """The frames so far, oldest first. With the lab's offset, instants are CLOCK_BOOTTIME."""
    names: list[str] = []
    frames = []
    with open(path, "rb") as file:
        for kind, body in _blocks(file):
            if kind == _INTERFACE:
                names.append(_interface_name(body))
            elif kind == _PACKET:
                number, high, low, size, _ = struct.unpack_from("=IIIII", body)
                data, options = body[20 : 20 + size], body[20 + size + (-size % 4) :]
                outgoing = struct.unpack_from("=HHI", options)[2] == _OUTBOUND
                t_ns = (high << 32) + low - clock_offset_ns
                frames.append(Frame(t_ns, names[number], outgoing, data))
    return sorted(frames, key=lambda frame: frame.t_ns)


# --- the process ------------------------------------------------------------------------------


def _open(interface: str, control_only: bool, incoming_only: bool) -> socket.socket:
    # Python cannot bind to "all interfaces": a socket of one interface starts deaf, one of all
    # starts listening
    protocol = 0 if interface else socket.htons(_ETH_P_ALL)
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, protocol)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    if incoming_only:
        sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    if control_only:
        program = ctypes.create_string_buffer(
            b"".join(struct.pack("=HBBI", *step) for step in _CONTROL_FILTER)
        )
        head = struct.pack("@HP", len(_CONTROL_FILTER), ctypes.addressof(program))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)
    if interface:
        sock.bind((interface, _ETH_P_ALL))
    else:
        _drain(sock)  # what came before the options were set
    return sock


def _drain(sock: socket.socket) -> None:
    with suppress(BlockingIOError):
        while True:
            sock.recv(1, socket.MSG_DONTWAIT)


def _copy(sock: socket.socket, writer: _Writer, skip: str, offset_ns: int) -> None:
    while True:
        data, controls, _, address = sock.recvmsg(_SNAPLEN, socket.CMSG_SPACE(16))
        if address[0] == skip:
            continue
        seconds, nanoseconds = struct.unpack("@qq", controls[0][2])
        age_ns = time.time_ns() - (seconds * 1_000_000_000 + nanoseconds)
        t_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - age_ns + offset_ns
        writer.write(Frame(t_ns, address[0], address[2] == _PACKET_OUTGOING, data))


def main() -> int:
    """``capture --out FILE [--interface IF]``; runs until SIGTERM."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--interface", default="", help="default: all")
    parser.add_argument("--skip", default="", help="an interface to leave out: the bridge itself")
    parser.add_argument("--control-only", action="store_true", help="ARP, ICMPv6 and VRRP only")
    parser.add_argument("--incoming-only", action="store_true")
    parser.add_argument("--clock-offset-ns", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sock = _open(options.interface, options.control_only, options.incoming_only)
    _copy(sock, _Writer(options.out), options.skip, options.clock_offset_ns)
    return 0


if __name__ == "__main__":
    sys.exit(main())
