"""The engine's three ways to the kernel's links and addresses.

* ``EventSocket`` hears what changes, our own changes included.
* ``dump`` asks for everything: at start, and after an overrun.
* ``RequestSocket`` changes addresses in batches.

Requests and events have sockets of their own: an overrun of events must never lose an
acknowledgement.

**Batches.** All messages go in one ``send()``, which returns after the kernel has carried them
all out, with the replies already waiting. Only the last asks for an acknowledgement (four times
faster than an ack for each); a message that failed answers in any case. So a batch succeeded
when *no* message of it reported an error. It is no transaction: what follows a failed message is
still carried out. A batch is one uninterruptible system call, and 1000 IPv6 addresses take over
a second: **the caller bounds its batches** by the time it can spare. Deletions belong in the
reverse order of the additions: deleting the first address of a
subnet first makes the kernel promote, or drop, all others.

**Confirmation.** When ``apply`` returns, the notification of every IPv4 change, of every removal
and of every renewal is readable, so "believe only the kernel" costs no waiting. A *new* IPv6
address is the exception: the kernel joins its solicited-node group and notifies from a work
queue, usually at once, but milliseconds later when the machine is busy. Until then neighbours
cannot resolve it, so the notification is worth waiting for (``dump`` shows the address earlier).

**Carrier.** The kernel reports a lost carrier at most once a second per host, so its event may
come up to a second late; a link that is set down by will is reported at once.

**Overrun.** When the event buffer is full, the kernel reports ENOBUFS once and the *newest*
events are lost, while older ones still wait. They would be read as news after the dump, so
``receive`` drains them first, and raises ``Overrun``: then dump and compare.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence

from vipd.adapters.netlink_codec import (
    NLM_F_DUMP_INTR,
    RTM_GETADDR,
    RTM_GETLINK,
    AddressChange,
    AddressRemoval,
    AddressTemplate,
    KernelChange,
    LinkChange,
    LinkRemoval,
    address_add,
    address_delete,
    decode_change,
    decode_messages,
    decode_result,
    dump_request,
    link_request,
    number_message,
    removal_of,
    split_messages,
)
from vipd.adapters.sockopt import set_receive_buffer, set_send_buffer
from vipd.errors import AdapterError
from vipd.model import HostAddress, Link

__all__ = [
    "AddressChange",
    "AddressRemoval",
    "AddressTemplate",
    "EventSocket",
    "KernelChange",
    "LinkChange",
    "LinkRemoval",
    "Overrun",
    "RequestSocket",
    "address_add",
    "address_delete",
    "decode_messages",
    "dump",
    "dump_addresses",
    "link_request",
    "removal_of",
]

_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_EVENT_BUFFER = 8 * 1024 * 1024
_REQUEST_BUFFER = 4 * 1024 * 1024
_LARGEST_READ = 65_536
_DUMP_ATTEMPTS = 4
# Draining stops somewhere even if events come as fast as they are read: what is read too late is
# older than the dump and does no lasting harm.
_DRAIN_READS = 65_536
# What one error reply takes of the receive buffer, with a margin (832 bytes measured).
_REPLY_COST = 1536
# The kernel keeps this much of the send buffer for itself.
_SEND_OVERHEAD = 64

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10  # errors do not repeat the whole request


class Overrun(AdapterError):
    """Events were lost, and those that waited are dropped too: dump, and compare."""


def _open(what: str) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    try:
        return socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    except OSError as error:
        raise AdapterError(f"{what}: {error.strerror}", error.errno or 0) from error


class EventSocket:
    """What changes in links and addresses, as it changes."""

    def __init__(self, buffer_size: int = _EVENT_BUFFER) -> None:
        self._buffer = bytearray(_LARGEST_READ)
        self._view = memoryview(self._buffer)
        self._socket = _open("a netlink socket for events")
        self._receive_into = self._socket.recvfrom_into
        try:
            set_receive_buffer(self._socket, buffer_size)
            self._socket.bind((0, _GROUPS))
        except OSError as error:
            self._socket.close()
            message = f"listening to link and address events: {error.strerror}"
            raise AdapterError(message, error.errno or 0) from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def receive(self) -> tuple[KernelChange, ...] | None:
        """The changes of one datagram (maybe none of interest), None when none waits.

        Raises Overrun when changes were lost.
        """
        try:
            size, sender = self._receive_into(self._buffer)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                self._drain()
                raise Overrun("link and address events were lost", errno.ENOBUFS) from error
            message = f"receiving link and address events: {error.strerror}"
            raise AdapterError(message, error.errno or 0) from error
        if size == len(self._buffer):  # it may have been longer
            self._drain()
            raise Overrun("a link or address event was too long", errno.EMSGSIZE)
        if sender[0] != 0:  # port id 0 is the kernel; anybody else is no witness
            return ()
        return decode_messages(bytes(self._view[:size]))

    def _drain(self) -> None:
        for _read in range(_DRAIN_READS):
            try:
                self._socket.recv(_LARGEST_READ)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    message = f"draining link and address events: {error.strerror}"
                    raise AdapterError(message, error.errno or 0) from error


def dump() -> tuple[tuple[Link, ...], tuple[HostAddress, ...]]:
    """All links and all addresses of this network namespace."""
    sock = _open("a netlink socket for a dump")
    with sock:
        links = tuple(
            change.link for change in _dump(sock, RTM_GETLINK) if isinstance(change, LinkChange)
        )
        addresses = _addresses(sock)
    return links, addresses


def dump_addresses() -> tuple[HostAddress, ...]:
    """All addresses of this network namespace."""
    with _open("a netlink socket for a dump") as sock:
        return _addresses(sock)


def _addresses(sock: socket.socket) -> tuple[HostAddress, ...]:
    return tuple(
        change.address for change in _dump(sock, RTM_GETADDR) if isinstance(change, AddressChange)
    )


def _dump(sock: socket.socket, kind: int) -> list[KernelChange]:
    """One kind of object; asked again when it changed while the kernel was listing it.

    An interrupted list may lack objects that did not change at all, so where things change faster
    than they can be listed, all that was seen in any attempt is given. What of it is gone by
    then has its event still to come.
    """
    seen: dict[object, KernelChange] = {}
    for attempt in range(_DUMP_ATTEMPTS):
        changes, interrupted = _dump_once(sock, kind, attempt + 1)
        if not interrupted:
            return changes
        seen |= {_identity(change): change for change in changes}
    return list(seen.values())


def _identity(change: KernelChange) -> object:
    if isinstance(change, LinkChange):
        return change.link.index
    if isinstance(change, AddressChange):
        return (change.address.key, change.address.prefix)
    return change


def _dump_once(sock: socket.socket, kind: int, sequence: int) -> tuple[list[KernelChange], bool]:
    changes: list[KernelChange] = []
    interrupted = False
    try:
        sock.send(dump_request(kind, sequence))
        while True:
            for message in split_messages(sock.recv(_LARGEST_READ)):
                if message.sequence != sequence:
                    continue
                interrupted = interrupted or bool(message.flags & NLM_F_DUMP_INTR)
                result = decode_result(message)
                if result is not None:
                    if result:
                        raise OSError(result, errno.errorcode.get(result, "unknown error"))
                    return changes, interrupted
                change = decode_change(message.kind, message.body)
                if change is not None:
                    changes.append(change)
    except OSError as error:
        message_text = f"listing links or addresses: {error.strerror}"
        raise AdapterError(message_text, error.errno or 0) from error


class RequestSocket:
    """Carries out batches of requests and says which of them failed."""

    def __init__(self, buffer_size: int = _REQUEST_BUFFER) -> None:
        self._socket = _open("a netlink socket for requests")
        set_send_buffer(self._socket, buffer_size)
        set_receive_buffer(self._socket, buffer_size)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        send_buffer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        receive_buffer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self._most_bytes = send_buffer - _SEND_OVERHEAD
        self._most_messages = max(1, receive_buffer // _REPLY_COST)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def apply(self, messages: Sequence[bytes]) -> tuple[tuple[int, int], ...]:
        """Carry out ``messages`` in order; returns (position, errno) for each that failed.

        Split into several calls only where the socket's buffers demand it. Raises AdapterError
        when the outcome is unknown.
        """
        failures: list[tuple[int, int]] = []
        for start, stop in self._pieces(messages):
            failures += self._apply_piece(messages, start, stop)
        return tuple(failures)

    def _pieces(self, messages: Sequence[bytes]) -> Iterator[tuple[int, int]]:
        start = size = 0
        for position, message in enumerate(messages):
            full = size + len(message) > self._most_bytes
            if position > start and (full or position - start >= self._most_messages):
                yield start, position
                start, size = position, 0
            size += len(message)
        if start < len(messages):
            yield start, len(messages)

    def _apply_piece(
        self, messages: Sequence[bytes], start: int, stop: int
    ) -> list[tuple[int, int]]:
        # Sequence numbers go on from batch to batch, so that no late reply is taken for ours.
        first = self._sequence + 1
        buffer = bytearray()
        for position in range(start, stop):
            offset = len(buffer)
            buffer += messages[position]
            sequence = (first + position - start) & 0xFFFFFFFF
            number_message(buffer, offset, sequence, acknowledge=position == stop - 1)
        self._sequence = (first + stop - start) & 0xFFFFFFFF
        positions = {(first + i) & 0xFFFFFFFF: start + i for i in range(stop - start)}
        try:
            self._socket.send(buffer)
            return self._collect(positions, stop - 1)
        except BlockingIOError as error:
            raise AdapterError("the kernel did not answer a netlink batch", errno.EIO) from error
        except OSError as error:
            message = f"a netlink batch: {error.strerror}"
            raise AdapterError(message, error.errno or 0) from error

    def _collect(self, positions: dict[int, int], last: int) -> list[tuple[int, int]]:
        """Read replies up to the one for the last message; all of them wait already."""
        failures: list[tuple[int, int]] = []
        while True:
            for message in split_messages(self._socket.recv(_LARGEST_READ)):
                position = positions.get(message.sequence)
                result = decode_result(message)
                if position is None or result is None:
                    continue
                if result:
                    failures.append((position, result))
                if position == last:
                    return failures
