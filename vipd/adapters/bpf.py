"""Classic BPF filters: let the kernel drop what would only wake us up.

A filter is a short program that the kernel runs on every packet for a socket before it is
queued (``Documentation/networking/filter.rst``). An instruction is (code, jump if true, jump if
false, operand); jumps count the instructions to skip, and only go forward.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import TypeAlias

Instruction: TypeAlias = tuple[int, int, int, int]

NETWORK_HEADER = 0xFFF00000
"""Added to an offset (SKF_NET_OFF): count from the IP header, wherever the data begins."""

ACCEPT: Instruction = (0x06, 0, 0, 0xFFFFFFFF)
DROP: Instruction = (0x06, 0, 0, 0)

_SO_ATTACH_FILTER = 26
_INSTRUCTION = struct.Struct("=HBBI")
_PROGRAM = struct.Struct("@HP")  # length in instructions, address


def load_byte(offset: int) -> Instruction:
    return (0x30, 0, 0, offset)


def load_word(offset: int) -> Instruction:
    """Load four bytes, in network order."""
    return (0x20, 0, 0, offset)


def skip_unless_equal(value: int, count: int) -> Instruction:
    """Go on if what was loaded is ``value``, else skip the next ``count`` instructions."""
    return (0x15, 0, count, value)


def attach(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """Let the kernel run ``program`` on what arrives at ``sock`` from now on."""
    code = b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = _PROGRAM.pack(len(program), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
