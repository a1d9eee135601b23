"""The frame of a channel datagram: who says it, which one it is, and the proof.

All integers are big-endian; a *name* is one byte of length and so much UTF-8 (at most 64)::

    offset  size  field
    0       4     "VIPC"
    4       1     version of this datagram
    5       1     lowest version that the sender speaks
    6       1     highest version that the sender speaks
    7       1     kind of the message
    8       8     cluster: the first 8 bytes of SHA-256 of its name
    16      8     incarnation of the sender
    24      8     nonce of this incarnation
    32      8     sequence of this datagram within the incarnation
    40      1+n   name of the sender
    41+n          the message
    -32     32    HMAC-SHA256 of all that stands before it

The frame is the same in every version for ever: so every release can tell a newer one from noise,
and say which versions it would understand.

The last ``RESERVED`` sequence numbers belong to the tombstone of an incarnation and to nothing
else. Whoever hears it has heard the highest number there is, so nothing that this incarnation sent
earlier and that is still on its way is admitted any more.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from vipd.errors import ChannelError, InvariantViolated
from vipd.members import ChannelDiscard, Owner, Versions

LARGEST_DATAGRAM = 1200
"""Bytes of UDP payload: fits every path that IPv6 may use (MTU 1280), so nothing is fragmented."""

LONGEST_NAME = 64
VERSION = 2
SPOKEN = Versions(VERSION - 1, VERSION)

LAST_SEQUENCE = (1 << 64) - 1
RESERVED = 128
"""How many datagrams a tombstone may have: 510 units with the longest names need 85."""
FIRST_RESERVED = LAST_SEQUENCE - RESERVED + 1

_MAGIC = b"VIPC"
_HEAD = struct.Struct("!4sBBBB8sQQQ")
_PROOF_LENGTH = 32
_SMALLEST = _HEAD.size + 2 + _PROOF_LENGTH


class Kind(IntEnum):
    """Kinds of messages. 16 to 31 are kept for the leases of quorum mode."""

    HEARTBEAT = 1
    TRANSFER_REQUEST = 2
    GO = 3
    TAKEN = 4
    REFUSED = 5
    TOMBSTONE = 6
    GOODBYE = 7


@dataclass(frozen=True, slots=True)
class Frame:
    """A datagram that was proved to come from somebody who has the key, its message still bytes.

    ``key_index`` says which of our keys proved it.
    """

    sender: Owner
    sequence: int
    version: int
    speaks: Versions
    kind: int
    key_index: int
    body: bytes


def cluster_digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:8]


def room_for_body(sender: str) -> int:
    """How many bytes a message of ``sender`` may have."""
    return LARGEST_DATAGRAM - _HEAD.size - 1 - len(sender.encode()) - _PROOF_LENGTH


def seal(
    kind: Kind,
    body: bytes,
    *,
    cluster: bytes,
    sender: Owner,
    sequence: int,
    version: int,
    key: bytes,
    speaks: Versions = SPOKEN,
) -> bytes:
    """The datagram. ``cluster`` is the digest of its name."""
    head = _HEAD.pack(
        _MAGIC,
        version,
        speaks.lowest,
        speaks.highest,
        kind,
        cluster,
        sender.incarnation,
        sender.nonce,
        sequence,
    )
    unproved = head + packed_name(sender.node) + body
    if len(unproved) + _PROOF_LENGTH > LARGEST_DATAGRAM:
        raise InvariantViolated(f"a {kind.name} of {len(body)} B does not fit a datagram")
    return unproved + _proof(key, unproved)


def unseal(
    data: bytes, *, cluster: bytes, keys: Sequence[bytes], known: Versions = SPOKEN
) -> Frame:
    """The frame of ``data``, of a ``known`` version; raises ChannelError, and never another error.

    The proof comes before anything is believed: of an unproved datagram nothing is told but that.
    """
    if not _SMALLEST <= len(data) <= LARGEST_DATAGRAM:
        raise ChannelError(ChannelDiscard.LENGTH, f"{len(data)} bytes")
    if data[:4] != _MAGIC:
        raise ChannelError(ChannelDiscard.NOT_VIPD)
    key_index = _proving_key(data, keys)
    (_, version, lowest, highest, kind, digest, incarnation, nonce, sequence) = _HEAD.unpack_from(
        data
    )
    if digest != cluster:
        raise ChannelError(ChannelDiscard.WRONG_CLUSTER)
    cursor = Cursor(data[_HEAD.size : -_PROOF_LENGTH], ChannelDiscard.HEADER)
    node = cursor.name()
    speaks = Versions(lowest, highest)
    if not known.lowest <= version <= known.highest:
        detail = f"{node} says version {version}; here {known.lowest} to {known.highest} are known"
        raise ChannelError(ChannelDiscard.VERSION, detail, sender=node, speaks=speaks)
    if not lowest <= version <= highest:
        raise ChannelError(ChannelDiscard.HEADER, "a version it does not speak", sender=node)
    if sequence == 0 or (sequence >= FIRST_RESERVED) != (kind == Kind.TOMBSTONE):
        detail = f"number {sequence} for kind {kind}"
        raise ChannelError(ChannelDiscard.SEQUENCE, detail, sender=node)
    sender = Owner(node, incarnation, nonce)
    return Frame(sender, sequence, version, speaks, kind, key_index, cursor.rest())


def _proof(key: bytes, unproved: bytes) -> bytes:
    return hmac.digest(key, unproved, "sha256")


def _proving_key(data: bytes, keys: Sequence[bytes]) -> int:
    unproved, given = data[:-_PROOF_LENGTH], data[-_PROOF_LENGTH:]
    for index, key in enumerate(keys):
        if hmac.compare_digest(_proof(key, unproved), given):
            return index
    raise ChannelError(ChannelDiscard.WRONG_KEY)


# --- names, and reading what may be anything ------------------------------------------------------


def packed_name(name: str) -> bytes:
    """``name`` as it travels. Names come from a configuration that was checked."""
    data = name.encode()
    if not 1 <= len(data) <= LONGEST_NAME or not name.isprintable():
        raise InvariantViolated(f"{name!r} is no name for the channel")
    return bytes((len(data),)) + data


def packed_text(text: str) -> bytes:
    """Words for humans: cut to what fits, without control characters; may be empty."""
    if not text:
        return b"\0"
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    data = shown.encode()[:LONGEST_NAME].decode(errors="ignore").encode()
    return bytes((len(data),)) + data


class Cursor:
    """Reads a message from its beginning; what does not fit raises ChannelError."""

    __slots__ = ("_at", "_data", "_reason")

    def __init__(self, data: bytes, reason: ChannelDiscard = ChannelDiscard.BODY) -> None:
        self._data = data
        self._at = 0
        self._reason = reason

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        try:
            values = layout.unpack_from(self._data, self._at)
        except struct.error:
            raise self.fault("it ends too early") from None
        self._at += layout.size
        return values

    def count(self) -> int:
        """One byte."""
        at = self._at
        if at >= len(self._data):
            raise self.fault("it ends too early")
        self._at = at + 1
        return self._data[at]

    def name(self) -> str:
        text = self.text()
        if not text:
            raise self.fault("an empty name")
        return text

    def text(self) -> str:
        length = self.count()
        if not length:
            return ""
        data = self._data[self._at : self._at + length]
        if length > LONGEST_NAME or len(data) != length:
            raise self.fault("a text that is too long")
        self._at += length
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise self.fault("a text that is no UTF-8") from None
        if not text.isprintable():
            raise self.fault("a text with control characters")
        return text

    def take(self, length: int) -> bytes:
        data = self._data[self._at : self._at + length]
        if len(data) != length:
            raise self.fault("it ends too early")
        self._at += length
        return data

    def rest(self) -> bytes:
        return self._data[self._at :]

    def end(self) -> None:
        """Nothing may follow."""
        if self._at != len(self._data):
            raise self.fault(f"{len(self._data) - self._at} bytes too many")

    def fault(self, detail: str) -> ChannelError:
        return ChannelError(self._reason, detail)
