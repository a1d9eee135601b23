"""Messages that make the receiver act: bytes <-> the ``Acting`` values of ``vipd.members``.

All of one shape::

    size  field
    16    nonce of the receiver
    1+n   name, 8 incarnation, 8 nonce: the owner whose mastership it is about
    1     count, then so many items

    wish     unit (name), term 8, priority 1
    gift     unit (name), term 8, attempt 1, successor (name)
    taking   unit (name), term 8
    refusal  unit (name), term 8, reason 1

``Go``, ``Tombstone`` and ``Goodbye`` speak of the sender's own mastership: another owner in them
is a fault. What does not fit one datagram goes into several, each complete in itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

from vipd.errors import InvariantViolated
from vipd.members import (
    NONCE_LENGTH,
    Acting,
    Gift,
    Go,
    Goodbye,
    Nonce,
    Owner,
    Refusal,
    RefusalReason,
    Refused,
    Taken,
    Taking,
    Tombstone,
    TransferRequest,
    Wish,
)
from vipd.wire.channel_frame import Cursor, Kind, packed_name

_NONCE = struct.Struct(f"!{NONCE_LENGTH}s")
_OWNER = struct.Struct("!QQ")
_TERM = struct.Struct("!Q")
_TERM_AND_BYTE = struct.Struct("!QB")
_MOST_IN_A_LIST = 255

REFUSAL_CODES = {
    RefusalReason.OTHER: 0,
    RefusalReason.STALE: 1,
    RefusalReason.NOT_BETTER: 2,
    RefusalReason.FAULT: 3,
    RefusalReason.MAINTENANCE: 4,
    RefusalReason.PINNED: 5,
    RefusalReason.NO_MAJORITY: 6,
    RefusalReason.BUSY: 7,
    RefusalReason.BACK_OFF: 8,
}
"""Numbers on the wire, never given again. A receiver takes one that it does not know for OTHER."""

_REFUSALS = {code: reason for reason, code in REFUSAL_CODES.items()}

Item = TypeVar("Item")


# --- writing ------------------------------------------------------------------------------------


def acting_bodies(message: Acting, room: int) -> list[bytes]:
    """The messages, each at most ``room`` bytes; usually one."""
    if len(message.nonce) != NONCE_LENGTH:
        raise InvariantViolated(f"a nonce of {len(message.nonce)} bytes")
    owner = message.owner
    head = message.nonce + packed_name(owner.node) + _OWNER.pack(owner.incarnation, owner.nonce)
    lists: list[list[bytes]] = [[]]
    left = room - len(head) - 1
    for item in _packed_items(message):
        if len(item) > left or len(lists[-1]) == _MOST_IN_A_LIST:
            lists.append([])
            left = room - len(head) - 1
        lists[-1].append(item)
        left -= len(item)
    return [head + bytes((len(items),)) + b"".join(items) for items in lists]


def _packed_items(message: Acting) -> Iterable[bytes]:
    match message:
        case TransferRequest():
            return map(_write_wish, message.wishes)
        case Go() | Tombstone():
            return map(_write_gift, message.gifts)
        case Taken():
            return map(_write_taking, message.takings)
        case Refused():
            return map(_write_refusal, message.refusals)
        case Goodbye():
            return ()


def _write_wish(wish: Wish) -> bytes:
    return packed_name(wish.unit) + _TERM_AND_BYTE.pack(wish.term, wish.priority)


def _write_gift(gift: Gift) -> bytes:
    head = packed_name(gift.unit) + _TERM_AND_BYTE.pack(gift.term, gift.attempt)
    return head + packed_name(gift.successor)


def _write_taking(taking: Taking) -> bytes:
    return packed_name(taking.unit) + _TERM.pack(taking.term)


def _write_refusal(refusal: Refusal) -> bytes:
    code = REFUSAL_CODES[refusal.reason]
    return packed_name(refusal.unit) + _TERM_AND_BYTE.pack(refusal.term, code)


# --- reading ------------------------------------------------------------------------------------


def _read_head(cursor: Cursor) -> tuple[Nonce, Owner]:
    (nonce,) = cursor.unpack(_NONCE)
    node = cursor.name()
    incarnation, owner_nonce = cursor.unpack(_OWNER)
    return nonce, Owner(node, incarnation, owner_nonce)


def _read_own_head(cursor: Cursor, sender: Owner) -> tuple[Nonce, Owner]:
    nonce, owner = _read_head(cursor)
    if owner != sender:
        raise cursor.fault(f"{sender.node} speaks for {owner.node}, or for another life of its own")
    return nonce, owner


def _read_items(cursor: Cursor, read: Callable[[Cursor], Item]) -> tuple[Item, ...]:
    items = tuple([read(cursor) for _ in range(cursor.count())])
    cursor.end()
    return items


def _read_wish(cursor: Cursor) -> Wish:
    return Wish(cursor.name(), *cursor.unpack(_TERM_AND_BYTE))


def _read_gift(cursor: Cursor) -> Gift:
    unit = cursor.name()
    term, attempt = cursor.unpack(_TERM_AND_BYTE)
    return Gift(unit, term, attempt, cursor.name())


def _read_taking(cursor: Cursor) -> Taking:
    return Taking(cursor.name(), *cursor.unpack(_TERM))


def _read_refusal(cursor: Cursor) -> Refusal:
    unit = cursor.name()
    term, code = cursor.unpack(_TERM_AND_BYTE)
    return Refusal(unit, term, _REFUSALS.get(code, RefusalReason.OTHER))


def _read_transfer_request(cursor: Cursor, _: Owner) -> Acting:
    return TransferRequest(*_read_head(cursor), _read_items(cursor, _read_wish))


def _read_go(cursor: Cursor, sender: Owner) -> Acting:
    return Go(*_read_own_head(cursor, sender), _read_items(cursor, _read_gift))


def _read_taken(cursor: Cursor, _: Owner) -> Acting:
    return Taken(*_read_head(cursor), _read_items(cursor, _read_taking))


def _read_refused(cursor: Cursor, _: Owner) -> Acting:
    return Refused(*_read_head(cursor), _read_items(cursor, _read_refusal))


def _read_tombstone(cursor: Cursor, sender: Owner) -> Acting:
    return Tombstone(*_read_own_head(cursor, sender), _read_items(cursor, _read_gift))


def _read_goodbye(cursor: Cursor, sender: Owner) -> Acting:
    message = Goodbye(*_read_own_head(cursor, sender))
    if cursor.count():
        raise cursor.fault("a goodbye with items")
    cursor.end()
    return message


READERS: Mapping[int, Callable[[Cursor, Owner], Acting]] = MappingProxyType(
    {
        Kind.TRANSFER_REQUEST: _read_transfer_request,
        Kind.GO: _read_go,
        Kind.TAKEN: _read_taken,
        Kind.REFUSED: _read_refused,
        Kind.TOMBSTONE: _read_tombstone,
        Kind.GOODBYE: _read_goodbye,
    }
)
"""Kind -> reader of its message; the second argument is the sender. Raise ChannelError."""
