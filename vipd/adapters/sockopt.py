"""Socket options that several adapters need and that Python has no names for.

The buffers are asked for with the FORCE variants, which need CAP_NET_ADMIN *in the initial user
namespace*; where that is refused (a rootless container) the plain variant gets what the
``rmem_max``/``wmem_max`` limits allow. A smaller buffer only makes an overrun more likely, and
an overrun is noticed and handled, so this never fails.
"""

from __future__ import annotations

import socket

_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33


def set_receive_buffer(sock: socket.socket, size: int) -> None:
    """Ask for a receive buffer of ``size`` bytes, beyond the system limit if allowed."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def set_send_buffer(sock: socket.socket, size: int) -> None:
    """Ask for a send buffer of ``size`` bytes, beyond the system limit if allowed."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
