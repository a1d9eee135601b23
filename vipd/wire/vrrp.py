"""VRRP adverts: bytes <-> model, and the checks that a received one must pass.

What it decides: whether a datagram is a valid advert for one virtual router, and if not, the
first reason why. What it does not decide: whether the advert matters (election), and which
router a datagram is for (``translate`` looks at the VRID and hands over the ``Receiver``).

The layout (RFC 3768 §5.3, RFC 9568 §5.2)::

    byte 0        1      2          3       4              5          6-7       8..
    v2   0x21     VRID   priority   count   auth type      seconds    checksum  addresses, 8 auth
    v3   0x31     VRID   priority   count   0 + 12-bit interval in cs checksum  addresses

The checks and their order (first failure wins; each has one ``DiscardReason``):

1. IP header: sane, its checksum right, protocol 112, no fragment. An IPv6 socket gives no
   header: what the kernel did not tell about it is a failure too.
2. TTL or hop limit 255, before anything that costs time (RFC 5082). Then the destination (the
   group; in unicast mode an own address, from a configured peer), then the source.
3. The message in itself: version, type, complete, one address at least, nothing behind the last
   address, checksum. (A count of zero is named as such even when bytes follow.)
4. The message against the configuration: VRID; v3: interval not 0, first IPv6 address
   link-local; v2: authentication, address list, interval (RFC 3768 §7.1 demands equality).

What RFC 9568 merely asks to log becomes a ``Remark`` on the accepted advert.

The v3 IPv4 checksum has two readings (``ChecksumForm``). A receiver on AUTO takes either, unless
the caller knows which one that source uses (``forms``). A result whose form is AUTO says nothing
about the sender: v2, IPv6, or one of the rare sums that are right both ways.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, NoReturn

from vipd.errors import InvariantViolated, WireError
from vipd.model import (
    MILLISECOND_NS,
    OWNER_PRIORITY,
    SECOND_NS,
    Address,
    Advert,
    ChecksumForm,
    Datagram,
    DiscardReason,
    Family,
    Remark,
    format_address,
    is_link_local,
)
from vipd.wire.checksum import internet_checksum, pseudo_header, residue
from vipd.wire.receiver import ANY_VERSION, AUTH_LENGTH, Receiver, padded

PROTOCOL = 112
HOP_LIMIT = 255
TYPE_OF_SERVICE = 0xC0
"""Internetwork control, as keepalived sends: adverts are the last packets to drop."""


_IPV4_HEADER = struct.Struct("!BBHHHBBH4s4s")
_IPV4_HEADER_LENGTH = 20
_MORE_FRAGMENTS_OR_OFFSET = 0x3FFF
_HEADER = struct.Struct("!BBBBHH")
_HEADER_LENGTH = 8
_ADVERTISEMENT = 1
_AUTH_NONE = 0
_AUTH_PASS = 1
_CENTISECOND_NS = 10 * MILLISECOND_NS
_INTERVAL_MASK_V3 = 0x0FFF
_UNSPECIFIED_IPV6 = bytes(16)
_LOOPBACK_IPV6 = bytes(15) + b"\x01"
_NO_FORMS: Mapping[Address, ChecksumForm] = MappingProxyType({})


# --- sending ------------------------------------------------------------------------------------


def encode(
    advert: Advert,
    *,
    source: Address,
    destination: Address,
    form: ChecksumForm = ChecksumForm.PSEUDO,
    auth_secret: bytes | None = None,
) -> bytes:
    """The VRRP message of ``advert`` (IP payload) as sent from ``source`` to ``destination``.

    The destination must be the one really used: it is part of the sum (v3, unless PLAIN).
    """
    addresses = b"".join(advert.addresses)
    count = len(advert.addresses)
    if not 1 <= count <= 255 or len(addresses) != count * len(source):
        raise InvariantViolated(f"an advert cannot list {count} addresses of {len(addresses)} B")
    if advert.version == 2:
        timing = _interval(advert.interval_ns, SECOND_NS, 0xFF)
        trailer = bytes(AUTH_LENGTH)
        if auth_secret is not None:
            timing |= _AUTH_PASS << 8
            trailer = padded(auth_secret)
        pseudo = 0
    else:
        timing = _interval(advert.interval_ns, _CENTISECOND_NS, _INTERVAL_MASK_V3)
        trailer = b""
        plain = form is ChecksumForm.PLAIN and len(source) == 4
        length = _HEADER_LENGTH + len(addresses)
        pseudo = 0 if plain else pseudo_header(source, destination, PROTOCOL, length)
    first = advert.version << 4 | _ADVERTISEMENT
    body = addresses + trailer
    unsummed = _HEADER.pack(first, advert.vrid, advert.priority, count, timing, 0) + body
    total = internet_checksum(unsummed, pseudo)
    return _HEADER.pack(first, advert.vrid, advert.priority, count, timing, total) + body


def _interval(interval_ns: int, unit_ns: int, most: int) -> int:
    units, rest = divmod(interval_ns, unit_ns)
    if rest or not 1 <= units <= most:
        raise InvariantViolated(f"an interval of {interval_ns} ns does not fit the advert")
    return units


def ipv4_packet(
    source: Address, destination: Address, message: bytes, identification: int = 1
) -> bytes:
    """``message`` in the IPv4 header that the kernel puts before it, as a peer receives it."""
    total = _IPV4_HEADER_LENGTH + len(message)
    head = (0x45, TYPE_OF_SERVICE, total, identification, 0, HOP_LIMIT, PROTOCOL)
    unsummed = _IPV4_HEADER.pack(*head, 0, source, destination)
    return _IPV4_HEADER.pack(*head, internet_checksum(unsummed), source, destination) + message


# --- receiving ----------------------------------------------------------------------------------


class Heard(NamedTuple):
    """A valid advert, who sent it, what is odd about it, and which checksum form it used."""

    advert: Advert
    source: Address
    remarks: tuple[Remark, ...]
    form: ChecksumForm


def peek(datagram: Datagram) -> tuple[int, Address | None]:
    """(VRID, source) as far as they can be read without judging; VRID 0: cannot be told."""
    data = datagram.data
    if datagram.family is Family.IPV6:
        return (data[1] if len(data) > 1 else 0), datagram.source
    if len(data) < _IPV4_HEADER_LENGTH:
        return 0, None
    start = (data[0] & 0x0F) * 4
    readable = data[9] == PROTOCOL and len(data) > start + 1 and start >= _IPV4_HEADER_LENGTH
    continues = data[6] & 0x1F or data[7]
    return (data[start + 1] if readable and not continues else 0), data[12:16]


def decode(
    datagram: Datagram,
    receiver: Receiver,
    forms: Mapping[Address, ChecksumForm] = _NO_FORMS,
) -> Heard:
    """The advert in ``datagram`` if ``receiver`` accepts it; else WireError, never another error.

    ``forms``: the checksum form that a source is known to use, for receivers on AUTO.
    """
    opened = _open_ipv4 if receiver.family is Family.IPV4 else _open_ipv6
    hop_limit, source, destination, message = opened(datagram)
    _check_path(hop_limit, source, destination, receiver)
    version, vrid, priority, timing = _check_message(message, receiver)
    form = _check_sum(message, version, source, destination, receiver, forms)
    if vrid != receiver.vrid or vrid == 0:
        _refuse(DiscardReason.VRID, str(vrid))

    remarks: list[Remark] = []
    _remark_source(source, receiver, remarks)
    if (
        form is ChecksumForm.PLAIN
        and receiver.checksum is ChecksumForm.AUTO
        and (source not in forms)
    ):
        remarks.append(Remark.CHECKSUM_FORM_PLAIN)
    if priority == OWNER_PRIORITY and receiver.priority == OWNER_PRIORITY:
        remarks.append(Remark.SECOND_OWNER)
    if version == 2:
        interval_ns = (timing & 0xFF) * SECOND_NS
        addresses = _check_v2(message, timing, priority, interval_ns, receiver, remarks)
    else:
        interval_ns = (timing & _INTERVAL_MASK_V3) * _CENTISECOND_NS
        addresses = _check_v3(message, interval_ns, receiver, remarks)
    return Heard(
        Advert(version, vrid, priority, interval_ns, addresses), source, tuple(remarks), form
    )


def _refuse(reason: DiscardReason, detail: str = "") -> NoReturn:
    raise WireError(reason, detail)


def _open_ipv4(datagram: Datagram) -> tuple[int, Address, Address, bytes]:
    data = datagram.data
    if datagram.family is not Family.IPV4 or len(data) < _IPV4_HEADER_LENGTH:
        _refuse(DiscardReason.IP_HEADER, f"{len(data)} bytes")
    first, _, total, _, fragment, ttl, protocol, _, source, destination = _IPV4_HEADER.unpack_from(
        data
    )
    start = (first & 0x0F) * 4
    if first >> 4 != 4 or not _IPV4_HEADER_LENGTH <= start <= total <= len(data):
        _refuse(DiscardReason.IP_HEADER, f"first byte {first:#04x}, length {total}/{len(data)}")
    if residue(data[:start]):
        _refuse(DiscardReason.IP_HEADER, "checksum")
    if protocol != PROTOCOL:
        _refuse(DiscardReason.PROTOCOL, str(protocol))
    if fragment & _MORE_FRAGMENTS_OR_OFFSET:
        _refuse(DiscardReason.FRAGMENT)
    # Up to the total length: frames cut from the wire are padded to 60 bytes.
    return ttl, source, destination, data[start:total]


def _open_ipv6(datagram: Datagram) -> tuple[int, Address, Address, bytes]:
    source, destination, hop_limit = datagram.source, datagram.destination, datagram.hop_limit
    if (
        datagram.family is not Family.IPV6
        or source is None
        or destination is None
        or hop_limit is None
        or len(source) != 16
        or len(destination) != 16
    ):
        _refuse(DiscardReason.IP_HEADER, "source, destination or hop limit is not known")
    return hop_limit, source, destination, datagram.data


def _check_path(hop_limit: int, source: Address, destination: Address, receiver: Receiver) -> None:
    if hop_limit != HOP_LIMIT:
        _refuse(DiscardReason.TTL, str(hop_limit))
    if destination not in receiver.destinations:
        _refuse(DiscardReason.DESTINATION, format_address(destination))
    if receiver.peers and source not in receiver.peers:
        _refuse(DiscardReason.DESTINATION, f"{format_address(source)} is no configured peer")
    if _is_bad_source(source) or source in receiver.broadcasts:
        _refuse(DiscardReason.BAD_SOURCE, format_address(source))
    if source in receiver.own_sources:
        _refuse(DiscardReason.OWN_SOURCE, format_address(source))
    if receiver.strict and len(source) == 16 and not receiver.peers and not is_link_local(source):
        _refuse(DiscardReason.BAD_SOURCE, "not link-local")


def _is_bad_source(source: Address) -> bool:
    """True for addresses that no host sends from: unspecified, loopback, multicast, broadcast."""
    first = source[0]
    if len(source) == 4:
        return first >= 224 or first == 127 or first == 0
    return first == 0xFF or (first == 0 and source in (_UNSPECIFIED_IPV6, _LOOPBACK_IPV6))


def _check_message(message: bytes, receiver: Receiver) -> tuple[int, int, int, int]:
    """-> (version, VRID, priority, bytes 4 and 5)."""
    length = len(message)
    if length < _HEADER_LENGTH:
        _refuse(DiscardReason.LENGTH, f"{length} bytes")
    first, vrid, priority, count, timing, _ = _HEADER.unpack_from(message)
    version = first >> 4
    ipv4 = receiver.family is Family.IPV4
    if version != receiver.version and not (
        receiver.version == ANY_VERSION and (version == 3 or (version == 2 and ipv4))
    ):
        _refuse(DiscardReason.VERSION, str(version))
    if first & 0x0F != _ADVERTISEMENT:
        _refuse(DiscardReason.TYPE, str(first & 0x0F))
    expected = _HEADER_LENGTH + count * (4 if ipv4 else 16) + (AUTH_LENGTH if version == 2 else 0)
    if length < expected:
        _refuse(DiscardReason.LENGTH, f"{length} bytes, {expected} expected")
    if count == 0:
        _refuse(DiscardReason.ADDR_COUNT_ZERO)
    if length > expected:
        hint = " (the size of a keepalived auth_hmac trailer)" if length - expected == 28 else ""
        _refuse(DiscardReason.LENGTH, f"{length} bytes, {expected} expected{hint}")
    return version, vrid, priority, timing


def _check_sum(
    message: bytes,
    version: int,
    source: Address,
    destination: Address,
    receiver: Receiver,
    forms: Mapping[Address, ChecksumForm],
) -> ChecksumForm:
    total = residue(message)
    if version == 2:
        if total:
            _refuse(DiscardReason.CHECKSUM)
        return ChecksumForm.AUTO
    pseudo = pseudo_header(source, destination, PROTOCOL, len(message))
    with_pseudo = (total + pseudo) % 0xFFFF == 0
    plain = total == 0
    if receiver.family is Family.IPV6:
        if not with_pseudo:
            _refuse(DiscardReason.CHECKSUM)
        return ChecksumForm.AUTO
    wanted = receiver.checksum
    if wanted is ChecksumForm.AUTO:
        wanted = forms.get(source, wanted)
    if not (
        (with_pseudo and wanted is not ChecksumForm.PLAIN)
        or (plain and wanted is not ChecksumForm.PSEUDO)
    ):
        _refuse(DiscardReason.CHECKSUM, f"form {wanted.value}")
    if plain and with_pseudo:
        return ChecksumForm.AUTO
    return ChecksumForm.PLAIN if plain else ChecksumForm.PSEUDO


def _remark_source(source: Address, receiver: Receiver, remarks: list[Remark]) -> None:
    if source in receiver.advertised:
        remarks.append(Remark.SOURCE_IS_VIP)
    if len(source) == 16:
        if not receiver.peers and not is_link_local(source):
            remarks.append(Remark.SOURCE_NOT_LINK_LOCAL)
    elif receiver.networks:
        number = int.from_bytes(source, "big")
        if not any(number & mask == network for network, mask in receiver.networks):
            remarks.append(Remark.SOURCE_OFF_SUBNET)


def _check_v3(
    message: bytes, interval_ns: int, receiver: Receiver, remarks: list[Remark]
) -> tuple[Address, ...]:
    if interval_ns == 0:
        _refuse(DiscardReason.INTERVAL_ZERO)
    addresses, same = _addresses(message[_HEADER_LENGTH:], receiver)
    if receiver.family is Family.IPV6 and not is_link_local(addresses[0]):
        if receiver.strict:
            _refuse(DiscardReason.FIRST_ADDRESS, format_address(addresses[0]))
        remarks.append(Remark.FIRST_ADDRESS_NOT_LINK_LOCAL)
    if interval_ns != receiver.interval_ns:
        remarks.append(Remark.INTERVAL_DIFFERS)
    if not same:
        remarks.append(Remark.ADDRESS_LIST_DIFFERS)
    return addresses


def _check_v2(
    message: bytes,
    timing: int,
    priority: int,
    interval_ns: int,
    receiver: Receiver,
    remarks: list[Remark],
) -> tuple[Address, ...]:
    secret = receiver.auth_secret
    auth_type = timing >> 8
    if auth_type != (_AUTH_NONE if secret is None else _AUTH_PASS):
        _refuse(DiscardReason.AUTH_TYPE, str(auth_type))
    if secret is not None and not hmac.compare_digest(message[-AUTH_LENGTH:], secret):
        _refuse(DiscardReason.AUTH_FAILURE)
    addresses, same = _addresses(message[_HEADER_LENGTH:-AUTH_LENGTH], receiver)
    if not same:
        if priority != OWNER_PRIORITY:
            _refuse(DiscardReason.ADDRESS_LIST)
        remarks.append(Remark.ADDRESS_LIST_DIFFERS)
    if interval_ns != receiver.interval_ns:
        _refuse(DiscardReason.INTERVAL, f"{interval_ns // SECOND_NS} s")
    return addresses


def _addresses(packed: bytes, receiver: Receiver) -> tuple[tuple[Address, ...], bool]:
    """The listed addresses, and whether they are the configured ones (in any order)."""
    if packed == receiver.packed_list:
        return receiver.advertised, True
    size = 4 if receiver.family is Family.IPV4 else 16
    addresses = tuple(packed[at : at + size] for at in range(0, len(packed), size))
    return addresses, sorted(addresses) == sorted(receiver.advertised)
