"""NETLINK_ROUTE bytes <-> values, by ``struct`` alone.

The engine may not import pyroute2 (24 MiB and asyncio), so the two directions are split:

* What is *sent* is compiled once by the supervisor with pyroute2 (``netlink_compile``). The
  engine only patches what it alone knows: link index and prefix length. Both sit at fixed
  offsets of the fixed-size headers.
* What is *received* is decoded here; tests compare it value for value with pyroute2.

Decoding never raises: a message that makes no sense is skipped, like an attribute that is
unknown. The kernel is trusted to say what it means, but not to say only what we know.

What a message means to us:

* A link is up when it is up by will (IFF_UP), running and has carrier (IFF_LOWER_UP).
* Messages of AF_BRIDGE say that a link joined or left a bridge, not that it came or went, and
  those with IFLA_WIRELESS are events of a radio: both look like link messages and are none.
* An address is IFA_LOCAL; IFA_ADDRESS is the far end on point-to-point links.
* Tentative means "not usable": duplicate address detection runs, or has failed.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from vipd.model import HostAddress, Link

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_LENGTH_AND_TYPE = struct.Struct("=IH")  # the beginning of HEADER
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_LINK = struct.Struct("=BxHiII")  # family, pad, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix, flags, scope, index
_U16, _U32, _S32 = struct.Struct("=H"), struct.Struct("=I"), struct.Struct("=i")

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x01, 0x04, 0x10, 0x300

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_WIRELESS, _IFLA_EXT_MASK = 1, 3, 4, 11, 29
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_PROTO = 1, 2, 8, 11
_RTEXT_FILTER_SKIP_STATS = 8

_IFF_UP, _IFF_RUNNING, _IFF_LOWER_UP = 0x1, 0x40, 0x10000
_ADDRESS_KINDS = (RTM_NEWADDR, RTM_DELADDR)
_USABLE_LINK = _IFF_UP | _IFF_RUNNING | _IFF_LOWER_UP
_IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x08, 0x40
_NOT_USABLE = _IFA_F_DADFAILED | _IFA_F_TENTATIVE

_CACHEINFO_SIZE = 20
_CACHEINFO_HEADER = _ATTRIBUTE.pack(_CACHEINFO_SIZE, 6)  # IFA_CACHEINFO, which comes last
_MOST_KNOWN = 256

_IFA_ADDRESS_4 = _ATTRIBUTE.pack(8, _IFA_ADDRESS)
_IFA_LOCAL_4 = _ATTRIBUTE.pack(8, _IFA_LOCAL)

_ATTRIBUTE_TYPE_MASK = 0x3FFF  # without the "nested" and "network order" bits
_ADDRESS_LENGTH = {socket.AF_INET: 4, socket.AF_INET6: 16}

# Offsets into a compiled request: the netlink header, then ifaddrmsg or ifinfomsg.
_FLAGS_OFFSET, _SEQUENCE_OFFSET = 6, 8
_PREFIX_OFFSET, _INDEX_OFFSET = 17, 20


@dataclass(frozen=True, slots=True)
class LinkChange:
    """A link appeared or changed."""

    link: Link


@dataclass(frozen=True, slots=True)
class LinkRemoval:
    index: int


@dataclass(frozen=True, slots=True)
class AddressChange:
    """An address was added, renewed or changed."""

    address: HostAddress


@dataclass(frozen=True, slots=True)
class AddressRemoval:
    address: HostAddress


KernelChange: TypeAlias = LinkChange | LinkRemoval | AddressChange | AddressRemoval

_known_shapes: dict[bytes, tuple[int, int, int, bool]] = {}


@dataclass(frozen=True, slots=True)
class AddressTemplate:
    """The two requests for one VIP, complete but for link index and prefix length."""

    add: bytes
    delete: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message; ``body`` is what follows the 16-byte header."""

    kind: int
    flags: int
    sequence: int
    body: bytes


def split_messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram, up to the first that is cut short."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, _port = HEADER.unpack_from(data, offset)
        if length < HEADER.size or offset + length > len(data):
            return
        yield Message(kind, flags, sequence, data[offset + HEADER.size : offset + length])
        offset += (length + 3) & ~3


def decode_messages(data: bytes) -> tuple[KernelChange, ...]:
    """What the messages of one datagram say about links and addresses, in their order."""
    # Not by ``split_messages``: this runs a thousand times within a claim of as many VIPs.
    changes = []
    offset, end = 0, len(data)
    while offset + 16 <= end:
        length, kind = _LENGTH_AND_TYPE.unpack_from(data, offset)
        if length < 16 or offset + length > end:
            break
        change = decode_change(kind, data[offset + 16 : offset + length])
        if change is not None:
            changes.append(change)
        offset += (length + 3) & ~3
    return tuple(changes)


def decode_change(kind: int, body: bytes) -> KernelChange | None:
    """The meaning of one message, None if it says nothing of interest."""
    if kind in _ADDRESS_KINDS:
        return _decode_address(kind, body)
    if kind in (RTM_NEWLINK, RTM_DELLINK):
        return _decode_link(kind, body)
    return None


def _decode_link(kind: int, body: bytes) -> LinkChange | LinkRemoval | None:
    if len(body) < _LINK.size:
        return None
    family, _type, index, flags, _change = _LINK.unpack_from(body)
    if family != socket.AF_UNSPEC:
        return None
    attributes = _attributes(body, _LINK.size)
    if _IFLA_WIRELESS in attributes:
        return None
    if kind == RTM_DELLINK:
        return LinkRemoval(index)
    name = attributes.get(_IFLA_IFNAME, b"").rstrip(b"\0")
    if not name:
        return None
    up = flags & _USABLE_LINK == _USABLE_LINK
    mtu = _number(attributes.get(_IFLA_MTU))
    mac = attributes.get(_IFLA_ADDRESS, b"")
    return LinkChange(Link(index, name.decode("utf-8", "surrogateescape"), up, mac, mtu))


def _decode_address(kind: int, body: bytes) -> AddressChange | AddressRemoval | None:
    """Remembers what it has read: IPv4 VIPs of a link differ in address and time stamps only."""
    plain = body[8:12] == _IFA_ADDRESS_4 and body[16:20] == _IFA_LOCAL_4
    if not plain or body[-_CACHEINFO_SIZE : -_CACHEINFO_SIZE + 4] != _CACHEINFO_HEADER:
        return _decode_any_address(kind, body)
    shape = body[:8] + body[24:-_CACHEINFO_SIZE]
    known = _known_shapes.get(shape)
    if known is None:
        change = _decode_any_address(kind, body)
        if change is None:
            return None
        if len(_known_shapes) >= _MOST_KNOWN:
            _known_shapes.clear()
        found = change.address
        _known_shapes[shape] = (found.index, found.prefix, found.tag, found.tentative)
        return change
    index, prefix, tag, tentative = known
    address = HostAddress(index, body[20:24], prefix, tag, tentative)
    return AddressRemoval(address) if kind == RTM_DELADDR else AddressChange(address)


def _decode_any_address(kind: int, body: bytes) -> AddressChange | AddressRemoval | None:
    if len(body) < _ADDRESS.size:
        return None
    family, prefix, flags, _scope, index = _ADDRESS.unpack_from(body)
    attributes = _attributes(body, _ADDRESS.size)
    address = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS, b""))
    if len(address) != _ADDRESS_LENGTH.get(family):
        return None
    # The header has room for the eight oldest flags only; IFA_FLAGS repeats and extends them.
    flags |= _number(attributes.get(_IFA_FLAGS))
    tag = attributes.get(_IFA_PROTO, b"\0")[:1] or b"\0"
    known = HostAddress(index, address, prefix, tag[0], bool(flags & _NOT_USABLE))
    return AddressRemoval(known) if kind == RTM_DELADDR else AddressChange(known)


def _attributes(body: bytes, offset: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size or offset + length > len(body):
            break
        found[kind & _ATTRIBUTE_TYPE_MASK] = body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def _number(value: bytes | None) -> int:
    """A u32 attribute; 0 where it is absent or too short."""
    if value is None or len(value) < _U32.size:
        return 0
    number: int = _U32.unpack_from(value)[0]
    return number


def decode_result(message: Message) -> int | None:
    """The errno of an acknowledgement or of the end of a dump (0: done), None if neither."""
    if message.kind not in (NLMSG_ERROR, NLMSG_DONE) or len(message.body) < 4:
        return None
    result: int = _S32.unpack_from(message.body)[0]
    return -result


# --- requests ---------------------------------------------------------------------------------


def dump_request(kind: int, sequence: int) -> bytes:
    """Ask for all links (RTM_GETLINK, without their statistics) or all addresses."""
    if kind == RTM_GETLINK:
        body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        body += _ATTRIBUTE.pack(8, _IFLA_EXT_MASK) + _U32.pack(_RTEXT_FILTER_SKIP_STATS)
    else:
        body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    flags = NLM_F_REQUEST | NLM_F_DUMP
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body


def address_add(template: AddressTemplate, index: int, prefix: int) -> bytes:
    """The request that adds the VIP to the link, or renews it there."""
    return _patched(template.add, index, prefix)


def address_delete(template: AddressTemplate, index: int, prefix: int) -> bytes:
    """The request that removes the VIP.

    ``prefix`` must be the one that the kernel reports, in both families: IPv4 treats the same
    address with two prefixes as two addresses, and IPv6 keeps the prefix of the first add when
    a later one names another, but then deletes only by the one that it kept.
    """
    return _patched(template.delete, index, prefix)


def link_request(template: bytes, index: int) -> bytes:
    """A compiled link request (``promote_secondaries``) for the link ``index``."""
    return _patched(template, index, None)


def _patched(template: bytes, index: int, prefix: int | None) -> bytes:
    message = bytearray(template)
    _U32.pack_into(message, _INDEX_OFFSET, index)
    if prefix is not None:
        message[_PREFIX_OFFSET] = prefix
    return bytes(message)


def number_message(buffer: bytearray, offset: int, sequence: int, *, acknowledge: bool) -> None:
    """Set sequence number and ACK flag of the message at ``offset``."""
    flags: int = _U16.unpack_from(buffer, offset + _FLAGS_OFFSET)[0]
    flags = flags | NLM_F_ACK if acknowledge else flags & ~NLM_F_ACK
    _U16.pack_into(buffer, offset + _FLAGS_OFFSET, flags)
    _U32.pack_into(buffer, offset + _SEQUENCE_OFFSET, sequence)


def removal_of(address: HostAddress) -> bytes:
    """The request that removes an address that the kernel reported, whoever added it."""
    packed = address.address
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    body = _ADDRESS.pack(family, address.prefix, 0, 0, address.index)
    for kind in (_IFA_LOCAL, _IFA_ADDRESS):
        body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(packed), kind) + packed
    return HEADER.pack(HEADER.size + len(body), RTM_DELADDR, NLM_F_REQUEST, 0, 0) + body
