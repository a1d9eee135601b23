"""The last will: what is to be said for an engine once it is dead (QUORUM §10).

An engine that dies cannot say goodbye, and its peers would wait for a silence: three intervals
of its adverts, or the channel's timeout. So it writes beforehand, complete to the last byte, what
is to be sent then, and whoever finds it dead sends just that: its supervisor, or ``vipd release``.
They need no key, no configuration and no understanding of it.

**The page** is a file in ``runtime_dir`` that both processes have mapped, so that storing is a
copy in memory and survives the death of either, at any instruction. It holds two slots, each
with a generation and a checksum over all of it. The engine writes into the older one, contents
first; so a reader finds the newest *complete* will, whenever the writer was interrupted.

=========  ==========  =====================================================================
offset     size        field
=========  ==========  =====================================================================
0          8           ``vipdwill``
8          8           instant of the engine's last turn, CLOCK_BOOTTIME, nanoseconds
16         4           version of this layout
24         1+64, 8, 8  the owner: node, incarnation, nonce
4096       1 MiB       slot: generation 8, length 4, CRC-32 4 of both and the will; the will
4096+1 MiB 1 MiB       slot
=========  ==========  =====================================================================

**The sign of life** stands there too: the engine writes the instant of each turn of its loop, and
its guard looks whether it changes. A process that hangs or is stopped writes nothing.

Rules
-----
L1. Tombstones and goodbyes are sent only after the kernel said that the VIPs are gone.
L2. They are sent only when their owner is dead: never for an engine that lives.
L3. A goodbye (priority 0) hurries every backup, so it must not come when another one is master
    already: it counts for ``GOODBYE_INTERVALS`` of its adverts after the owner's last turn, and
    once only. A tombstone names owner and term, so that a late or second one means nothing.
L4. A will that does not fit is cut at its end, tombstones being first; what is missing is noticed
    by its silence, as if there were no will, and the log says afterwards that it was.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from zlib import crc32

from vipd.errors import AdapterError
from vipd.members import Owner
from vipd.model import Address, Duration, Instant

FILE_NAME = "will"

SLOT_SIZE = 1024 * 1024
"""510 units with three peers, by two paths each, take a tenth of it."""

GOODBYE_INTERVALS = 2
"""The owner's last advert may be one interval older than its last turn, and its peers wait for
three after that: within two nobody else is master yet."""

_VERSION = 1
_MAGIC = b"vipdwill"
_FIRST_SLOT = 4096
PAGE_SIZE = _FIRST_SLOT + 2 * SLOT_SIZE

_LIFE_OFFSET, _VERSION_OFFSET, _OWNER_OFFSET = 8, 16, 24
_LAYOUT = struct.Struct("!I")
_OWNER = struct.Struct("!65pQQ")  # the name is a Pascal string
_SLOT = struct.Struct("!QII")  # generation, length, checksum
_SUMMED = struct.Struct("!QI")

_HEAD = struct.Struct("!III")  # tombstones, goodbyes, left out
_TOMBSTONE = struct.Struct("!HHBB")  # port, lengths of datagram and name, number of paths
_PATH = struct.Struct("!B")  # length of each of the two addresses, which follow
_GOODBYE = struct.Struct("!QIHBB")  # good for, link index, lengths of payload, name and address
_LONGEST_NAME = 255
_MOST_PATHS = 255


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A datagram for the member ``to``; ``paths`` are pairs of source and destination."""

    to: str
    paths: tuple[tuple[Address, Address], ...]
    port: int
    datagram: bytes


@dataclass(frozen=True, slots=True)
class Goodbye:
    """An advert of priority 0 for ``instance``, to be sent on the link ``index``.

    It is ``good_for_ns`` after the owner's last turn.
    """

    instance: str
    index: int
    source: Address
    destination: Address
    payload: bytes
    good_for_ns: Duration


@dataclass(frozen=True, slots=True)
class Will:
    """``left_out``: so many tombstones and goodbyes did not fit."""

    tombstones: tuple[Tombstone, ...] = ()
    goodbyes: tuple[Goodbye, ...] = ()
    left_out: int = 0


# --- a will as bytes --------------------------------------------------------------------------


def encode_will(will: Will, room: int = SLOT_SIZE - _SLOT.size) -> bytes:
    """As much of ``will`` as there is ``room`` for."""
    tombstones = map(encode_tombstone, will.tombstones)
    return assemble(tuple(tombstones), tuple(map(encode_goodbye, will.goodbyes)), room)


def assemble(
    tombstones: Sequence[bytes], goodbyes: Sequence[bytes], room: int = SLOT_SIZE - _SLOT.size
) -> bytes:
    """A will of pieces that are encoded already, cut at its end where there is no ``room``."""
    pieces = [*tombstones, *goodbyes]
    fitting = bisect_right(list(accumulate(map(len, pieces))), room - _HEAD.size)
    first = min(fitting, len(tombstones))
    head = _HEAD.pack(first, fitting - first, len(pieces) - fitting)
    return b"".join((head, *pieces[:fitting]))


def encode_tombstone(each: Tombstone) -> bytes:
    name, paths = _name(each.to), each.paths[:_MOST_PATHS]
    return b"".join(
        (
            _TOMBSTONE.pack(each.port, len(each.datagram), len(name), len(paths)),
            name,
            *(
                piece
                for source, destination in paths
                for piece in (_PATH.pack(len(source)), source, destination)
            ),
            each.datagram,
        )
    )


def encode_goodbye(each: Goodbye) -> bytes:
    name = _name(each.instance)
    lengths = (len(each.payload), len(name), len(each.source))
    return b"".join(
        (
            _GOODBYE.pack(each.good_for_ns, each.index, *lengths),
            name,
            each.source,
            each.destination,
            each.payload,
        )
    )


def _name(text: str) -> bytes:
    return text.encode()[:_LONGEST_NAME]


def decode_will(data: bytes) -> Will:
    """Raises AdapterError for everything but what ``encode_will`` gives."""
    try:
        tombstones, goodbyes, left_out = _HEAD.unpack_from(data)
        reader = _Reader(data, _HEAD.size)
        will = Will(
            tuple(_read_tombstone(reader) for _ in range(tombstones)),
            tuple(_read_goodbye(reader) for _ in range(goodbyes)),
            left_out,
        )
    except (struct.error, ValueError) as error:
        raise AdapterError(f"the last will cannot be read: {error}") from error
    if reader.offset != len(data):
        raise AdapterError("the last will cannot be read: its length is wrong")
    return will


class _Reader:
    """Reading past the end gives less than asked for; the final offset betrays it."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data = data
        self.offset = offset

    def numbers(self, layout: struct.Struct) -> tuple[int, ...]:
        found: tuple[int, ...] = layout.unpack_from(self._data, self.offset)
        self.offset += layout.size
        return found

    def take(self, length: int) -> bytes:
        start = self.offset
        self.offset = end = start + length
        return self._data[start:end]


def _read_tombstone(reader: _Reader) -> Tombstone:
    port, length, name, count = reader.numbers(_TOMBSTONE)
    to = reader.take(name).decode()
    paths = []
    for _ in range(count):
        (size,) = reader.numbers(_PATH)
        paths.append((reader.take(size), reader.take(size)))
    return Tombstone(to, tuple(paths), port, reader.take(length))


def _read_goodbye(reader: _Reader) -> Goodbye:
    good_for_ns, index, length, name, size = reader.numbers(_GOODBYE)
    take = reader.take
    return Goodbye(take(name).decode(), index, take(size), take(size), take(length), good_for_ns)


# --- the page ---------------------------------------------------------------------------------


class Page:
    """The page in ``buffer``, which is shared memory of ``PAGE_SIZE`` bytes.

    Its supervisor calls ``begin`` and, after the death, ``read`` and ``clear``; the engine calls
    ``keep`` and ``live``. There is one writer at a time: the engine while it lives.
    """

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        # One store of the machine: a reader sees the old instant or the new one.
        self._life = buffer[_LIFE_OFFSET : _LIFE_OFFSET + 8].cast("q")
        generations = [self._slot(number)[0] for number in (0, 1)]
        self._generation = max(generations)
        self._next = 0 if generations[0] <= generations[1] else 1
        self._kept: bytes | None = None

    def begin(self, owner: Owner) -> None:
        """A new life of the engine, with nothing to be said for it. No engine lives now."""
        self.clear()
        self._life[0] = 0
        _LAYOUT.pack_into(self._buffer, _VERSION_OFFSET, _VERSION)
        owner_fields = (owner.node.encode(), owner.incarnation, owner.nonce)
        _OWNER.pack_into(self._buffer, _OWNER_OFFSET, *owner_fields)
        self._buffer[: len(_MAGIC)] = _MAGIC

    def clear(self) -> None:
        """Nothing is to be said any more."""
        for _step in self.clearing():
            pass

    def clearing(self) -> Iterator[None]:
        """``clear``, step by step: the older slot first, lest it becomes the newest one."""
        for number in (self._next, 1 - self._next):
            _SLOT.pack_into(self._buffer, _slot_offset(number), 0, 0, 0)
            yield
        self._generation, self._next, self._kept = 0, 0, None

    @property
    def is_ours(self) -> bool:
        """It is a page of this layout. (A new file is none, until ``begin``.)"""
        (version,) = _LAYOUT.unpack_from(self._buffer, _VERSION_OFFSET)
        return bytes(self._buffer[: len(_MAGIC)]) == _MAGIC and version == _VERSION

    @property
    def owner(self) -> Owner:
        node, incarnation, nonce = _OWNER.unpack_from(self._buffer, _OWNER_OFFSET)
        return Owner(node.decode(errors="replace"), incarnation, nonce)

    # --- the sign of life ---------------------------------------------------------------------

    def live(self, now: Instant) -> None:
        self._life[0] = now

    @property
    def last_turn(self) -> Instant:
        return self._life[0]

    # --- the will -----------------------------------------------------------------------------

    def keep(self, will: bytes) -> None:
        """Store the encoded ``will`` in place of the one before.

        When this returns it is stored: what the caller does next may be its last act.
        """
        if will != self._kept:
            self._store(will)
            self._kept = will

    def _store(self, body: bytes) -> None:
        offset, generation = _slot_offset(self._next), self._generation + 1
        start = offset + _SLOT.size
        self._buffer[start : start + len(body)] = body
        checksum = _checksum(generation, body)
        _SLOT.pack_into(self._buffer, offset, generation, len(body), checksum)
        self._generation, self._next = generation, 1 - self._next

    def read(self) -> Will | None:
        """The newest complete will, None where there is none. Raises AdapterError."""
        if not self.is_ours:
            return None
        slots = sorted((self._slot(0), self._slot(1)), key=lambda slot: slot[0])
        generation, body = slots[-1]
        return decode_will(body) if generation else None

    def _slot(self, number: int) -> tuple[int, bytes]:
        """Generation and contents; generation 0 for an empty or incomplete slot."""
        offset = _slot_offset(number)
        generation, length, checksum = _SLOT.unpack_from(self._buffer, offset)
        start = offset + _SLOT.size
        if generation == 0 or length > SLOT_SIZE - _SLOT.size:
            return 0, b""
        body = bytes(self._buffer[start : start + length])
        return (generation, body) if _checksum(generation, body) == checksum else (0, b"")


def _slot_offset(number: int) -> int:
    return _FIRST_SLOT + number * SLOT_SIZE


def _checksum(generation: int, body: bytes) -> int:
    return crc32(body, crc32(_SUMMED.pack(generation, len(body))))
