"""The engine's start and end. ``python -m vipd.engine CHANNEL FRAMES ARP PAGE`` (descriptors).

Started by the supervisor only, by exec, with the sockets that take long to close already open, and
with the page of the last will.
SIGTERM and its like are ignored: the service manager sends them to both processes, and the order
to release comes through the channel. Whatever happens here, in the end no address is left.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from vipd import __version__
from vipd.adapters import netlink
from vipd.adapters.frame_socket import ArpListener, FrameSender
from vipd.adapters.netlink_codec import removal_of
from vipd.adapters.page import inherited_page
from vipd.adapters.process import (
    freeze_gc,
    keep_capabilities,
    leave,
    lock_memory,
    raise_priority,
)
from vipd.engine.loop import Engine
from vipd.errors import AdapterError
from vipd.ipc import EXIT_REPLACED, PROTOCOL, Channel, ChannelClosed, EngineState, Hello, Stopped
from vipd.model import ADDRESS_TAG
from vipd.will import PAGE_SIZE, Page

_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


ARGUMENTS = 4

_RIGHTS = (12, 13, 14, 23)
"""CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK, CAP_SYS_NICE."""


class Replaced(AdapterError):
    """The supervisor is of another version: vipd was replaced on disk while it ran."""


def main(arguments: list[str]) -> int:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    if len(arguments) != ARGUMENTS:
        sys.stderr.write("vipd was replaced on disk: its supervisor passes other descriptors\n")
        return EXIT_REPLACED
    channel_fd, frames_fd, arp_fd, page_fd = (int(argument) for argument in arguments)
    channel = Channel(socket.socket(fileno=channel_fd))
    frames = FrameSender(socket.socket(fileno=frames_fd))
    arp = ArpListener(socket.socket(fileno=arp_fd))
    page = Page(inherited_page(page_fd, PAGE_SIZE).buffer)

    def prepare(state: EngineState) -> None:
        """At the first state: ask the system for time and memory, and say what we got."""
        if (state.version, state.protocol) != (__version__, PROTOCOL):
            raise Replaced(f"engine {__version__} was started by supervisor {state.version}")
        keep_capabilities(_RIGHTS)
        obtained = {"realtime": raise_priority(state.realtime), "memory": lock_memory()}
        freeze_gc()
        channel.send(Hello(__version__, os.getpid(), obtained))

    try:
        Engine(channel, frames, arp, page, prepare).run()
        page.clear()  # all is said: who finds us dead shall not say it again
    except Replaced as replaced:
        sys.stderr.write(f"vipd was replaced on disk: {replaced}\n")
        return EXIT_REPLACED
    except ChannelClosed:
        return 0  # the supervisor was gone before we had begun
    finally:
        # After a clean end there is nothing left to find; after any other this is the release.
        _release_everything()
    try:
        channel.send(Stopped())
    except AdapterError:
        return 0  # the supervisor went first: that is why we ended
    return 0


def _release_everything() -> None:
    _links, addresses = netlink.dump()
    ours = [address for address in addresses if address.tag == ADDRESS_TAG]
    if ours:
        netlink.RequestSocket().apply([removal_of(address) for address in reversed(ours)])


def entry() -> None:
    leave(main(sys.argv[1:]))
