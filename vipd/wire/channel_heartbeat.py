"""Heartbeats: bytes <-> ``vipd.members.Heartbeat``.

The message (a *text* may be empty, a name not; a *node* is a number in the table of names, 255 for
none; durations are milliseconds)::

    size  field
    4     beat                         2 part, 2 parts: of the same beat
    1     flags: 1 maintenance, 2 not complete: units and hearings that did not change are left out
    16    nonce of the sender
    8     digest of its configuration
    1+n   text: its software version
    4     time to the next beat        (from version 2 on)
    1     count, then so many names: the table
    1     count, then so many echoes   (from version 2 on)
    1     count, then so many units
    1     count, then so many hearings
    1     count, then so many speakers (from version 2 on)

    echo     node 1, nonce 16, ago 4
    unit     name, state 1, reason 1, priority 1, base 1, flags 1, term 8, healthy for 4, master 1,
             detail (text), then the pin if there is one: node 1, version 4, rest 4
    hearing  instance (name), node 1, ago 4
    speaker  instance (name), then 1 length of the address: 4 or 16, and so many bytes

Flags of a unit: 1 held, 2 wants to preempt, 4 has a pin. The node of a pin is 255 where an operator
ended it; its rest is 0 where it has no end.

Each part has a table of its own, so that it can be read alone: UDP may lose the others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from vipd.errors import InvariantViolated
from vipd.members import (
    CONFIGURATION_DIGEST_LENGTH,
    NONCE_LENGTH,
    Echo,
    Hearing,
    Heartbeat,
    Pin,
    Speaker,
    UnitReport,
)
from vipd.model import MILLISECOND_NS, Duration, Reason, State
from vipd.wire.channel_frame import Cursor, packed_name, packed_text

ECHOES_SINCE = 2
INTERVAL_SINCE = 2
SPEAKERS_SINCE = 2

_HEAD = struct.Struct(f"!IHHB{NONCE_LENGTH}s{CONFIGURATION_DIGEST_LENGTH}s")
_INTERVAL = struct.Struct("!I")
_ECHO = struct.Struct(f"!B{NONCE_LENGTH}sI")
_UNIT = struct.Struct("!BBBBBQIB")
_PIN = struct.Struct("!BII")
_HEARING = struct.Struct("!BI")

_MAINTENANCE, _NOT_COMPLETE = 1, 2
_HELD, _WANTS_PREEMPT, _HAS_PIN = 1, 2, 4
_NOBODY = 255
_ADDRESS_LENGTHS = (4, 16)
_MOST_IN_A_LIST = 255
_MOST_PARTS = 0xFFFF
_LONGEST_MS = 0xFFFF_FFFF

STATE_CODES = {
    State.INIT: 1,
    State.BACKUP: 2,
    State.CANDIDATE: 3,
    State.MASTER: 4,
    State.FAULT: 5,
}

REASON_CODES = {
    Reason.STARTUP: 1,
    Reason.ADDRESS_OWNER: 2,
    Reason.MASTER_SILENT: 3,
    Reason.MASTER_LEFT: 4,
    Reason.LOWER_PRIORITY_MASTER: 5,
    Reason.HIGHER_PRIORITY_HEARD: 6,
    Reason.TIE_LOST: 7,
    Reason.MASTER_HEARD: 8,
    Reason.LEASE_LOST: 9,
    Reason.OVERTAKEN_WHILE_STALLED: 10,
    Reason.MAINTENANCE: 11,
    Reason.SWITCHOVER: 12,
    Reason.STOPPED: 13,
    Reason.REMOVED: 14,
    Reason.RECOVERED: 15,
    Reason.INTERFACE_MISSING: 16,
    Reason.INTERFACE_DOWN: 17,
    Reason.NO_SOURCE_ADDRESS: 18,
    Reason.OWNED_ADDRESS_MISSING: 19,
    Reason.FOREIGN_ADDRESS: 20,
    Reason.ADDRESS_VANISHES: 21,
    Reason.CLAIM_REFUSED: 22,
    Reason.SEND_REFUSED: 23,
    Reason.CANNOT_LISTEN: 24,
    Reason.CHECK_PENDING: 25,
    Reason.CHECK_FAILED: 26,
    Reason.TRACKED_INTERFACE_DOWN: 27,
    Reason.HANDED_OVER: 28,
    Reason.PREEMPTED: 29,
    Reason.HANDOVER_FAILED: 30,
    Reason.ADVERTS_LOST: 31,
}
"""Numbers on the wire: given once, never given again to another reason. 0: none of them."""

_STATES = {code: state for state, code in STATE_CODES.items()}
_REASONS = {code: reason for reason, code in REASON_CODES.items()}
_NO_REASON = 0

Record = TypeVar("Record")


# --- writing ------------------------------------------------------------------------------------


class _Table:
    """Names of nodes and their numbers, in the order of first use."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.size = 1

    def number(self, node: str) -> int:
        if not node:
            return _NOBODY
        known = self._numbers.get(node)
        if known is None:
            known = self._numbers[node] = len(self._numbers)
            self.size += len(packed_name(node))
        return known

    def packed(self) -> bytes:
        return bytes((len(self._numbers),)) + b"".join(map(packed_name, self._numbers))

    def forget_after(self, count: int, size: int) -> None:
        for node in list(self._numbers)[count:]:
            del self._numbers[node]
        self.size = size

    def __len__(self) -> int:
        return len(self._numbers)


class _Part:
    """What goes into one datagram."""

    def __init__(self, room: int, lists: int) -> None:
        self._room = room - lists
        self.table = _Table()
        self.lists: tuple[list[bytes], ...] = tuple([] for _ in range(lists))
        self._size = 0

    def add(self, where: int, write: Callable[[Record, _Table], bytes], record: Record) -> bool:
        """False when it does not fit; then nothing has changed."""
        names, names_size = len(self.table), self.table.size
        data = write(record, self.table)
        full = len(self.lists[where]) == _MOST_IN_A_LIST or len(self.table) > _NOBODY
        if full or self._size + len(data) + self.table.size > self._room:
            self.table.forget_after(names, names_size)
            return False
        self.lists[where].append(data)
        self._size += len(data)
        return True


def heartbeat_bodies(beat: Heartbeat, version: int, room: int) -> list[bytes]:
    """The messages of one beat, each at most ``room`` bytes; usually one.

    ``part`` and ``parts`` of ``beat`` are not looked at: they are what this decides.
    """
    if len(beat.configuration) != CONFIGURATION_DIGEST_LENGTH:
        raise InvariantViolated(f"a configuration digest of {len(beat.configuration)} bytes")
    if any(len(nonce) != NONCE_LENGTH for nonce in (beat.nonce, *(e.nonce for e in beat.echoes))):
        raise InvariantViolated("a nonce of the wrong length")
    software = packed_text(beat.software)
    if version >= INTERVAL_SINCE:
        software += _INTERVAL.pack(_milliseconds(beat.interval_ns))
    room -= _HEAD.size + len(software)
    lists = _lists(beat, version)
    parts = [_Part(room, len(lists))]
    for where, (write, records) in enumerate(lists):
        for record in records:
            if not parts[-1].add(where, write, record):
                parts.append(_Part(room, len(lists)))
                if not parts[-1].add(where, write, record):
                    raise InvariantViolated(f"a datagram has no room for {record}")
    if len(parts) > _MOST_PARTS:
        raise InvariantViolated(f"a heartbeat of {len(parts)} datagrams")
    flags = (_MAINTENANCE if beat.maintenance else 0) | (0 if beat.complete else _NOT_COMPLETE)
    bodies = []
    for number, part in enumerate(parts):
        head = _HEAD.pack(beat.beat, number, len(parts), flags, beat.nonce, beat.configuration)
        packed = b"".join(bytes((len(items),)) + b"".join(items) for items in part.lists)
        bodies.append(head + software + part.table.packed() + packed)
    return bodies


_List: TypeAlias = tuple[Callable[[Any, _Table], bytes], tuple[Any, ...]]


def _lists(beat: Heartbeat, version: int) -> list[_List]:
    """What a heartbeat of ``version`` lists, in its order on the wire."""
    lists: list[_List] = [(_write_unit, beat.units), (_write_hearing, beat.hearings)]
    if version >= ECHOES_SINCE:
        lists.insert(0, (_write_echo, beat.echoes))
    if version >= SPEAKERS_SINCE:
        lists.append((_write_speaker, beat.speakers))
    return lists


def _write_echo(echo: Echo, table: _Table) -> bytes:
    return _ECHO.pack(table.number(echo.node), echo.nonce, _milliseconds(echo.ago_ns))


def _write_unit(unit: UnitReport, table: _Table) -> bytes:
    flags = (
        (_HELD if unit.held else 0)
        | (_WANTS_PREEMPT if unit.wants_preempt else 0)
        | (_HAS_PIN if unit.pin is not None else 0)
    )
    fixed = _UNIT.pack(
        STATE_CODES[unit.state],
        _NO_REASON if unit.reason is None else REASON_CODES[unit.reason],
        unit.priority,
        unit.priority_base,
        flags,
        unit.term,
        _milliseconds(unit.healthy_for_ns),
        table.number(unit.master),
    )
    data = packed_name(unit.unit) + fixed + packed_text(unit.detail)
    if unit.pin is None:
        return data
    pin = unit.pin
    return data + _PIN.pack(table.number(pin.node), pin.version, _milliseconds(pin.rest_ns))


def _write_hearing(hearing: Hearing, table: _Table) -> bytes:
    head = packed_name(hearing.instance)
    return head + _HEARING.pack(table.number(hearing.node), _milliseconds(hearing.ago_ns))


def _write_speaker(speaker: Speaker, _table: _Table) -> bytes:
    source = speaker.source
    if len(source) not in _ADDRESS_LENGTHS:
        raise InvariantViolated(f"an address of {len(source)} bytes")
    return packed_name(speaker.instance) + bytes((len(source),)) + source


def _milliseconds(duration_ns: Duration) -> int:
    return min(duration_ns // MILLISECOND_NS, _LONGEST_MS)


# --- reading ------------------------------------------------------------------------------------


def read_heartbeat(cursor: Cursor, version: int) -> Heartbeat:
    """Raises ChannelError when the message is not exactly a heartbeat of this version."""
    beat, part, parts, flags, nonce, configuration = cursor.unpack(_HEAD)
    if part >= parts:
        raise cursor.fault(f"part {part} of {parts}")
    if flags & ~(_MAINTENANCE | _NOT_COMPLETE):
        raise cursor.fault("unknown flags")
    software = cursor.text()
    interval_ms = cursor.unpack(_INTERVAL)[0] if version >= INTERVAL_SINCE else 0
    names = [cursor.name() for _ in range(cursor.count())]
    echoes = _read_list(cursor, names, _read_echo) if version >= ECHOES_SINCE else ()
    units = _read_list(cursor, names, _read_unit)
    hearings = _read_list(cursor, names, _read_hearing)
    speakers = _read_list(cursor, names, _read_speaker) if version >= SPEAKERS_SINCE else ()
    cursor.end()
    return Heartbeat(
        beat=beat,
        nonce=nonce,
        configuration=configuration,
        software=software,
        maintenance=bool(flags & _MAINTENANCE),
        complete=not flags & _NOT_COMPLETE,
        echoes=echoes,
        units=units,
        hearings=hearings,
        speakers=speakers,
        interval_ns=interval_ms * MILLISECOND_NS,
        part=part,
        parts=parts,
    )


def _read_list(
    cursor: Cursor, names: list[str], read: Callable[[Cursor, list[str]], Record]
) -> tuple[Record, ...]:
    return tuple([read(cursor, names) for _ in range(cursor.count())])


def _read_echo(cursor: Cursor, names: list[str]) -> Echo:
    number, nonce, ago_ms = cursor.unpack(_ECHO)
    return Echo(_named(cursor, names, number), nonce, ago_ms * MILLISECOND_NS)


def _read_unit(cursor: Cursor, names: list[str]) -> UnitReport:
    unit = cursor.name()
    state, reason, priority, base, flags, term, healthy_ms, master = cursor.unpack(_UNIT)
    if state not in _STATES:
        raise cursor.fault(f"state {state}")
    if flags & ~(_HELD | _WANTS_PREEMPT | _HAS_PIN):
        raise cursor.fault("unknown flags of a unit")
    detail = cursor.text()
    pin = None
    if flags & _HAS_PIN:
        number, pin_version, rest_ms = cursor.unpack(_PIN)
        node = _named_or_nobody(cursor, names, number)
        pin = Pin(node, pin_version, rest_ms * MILLISECOND_NS)
    return UnitReport(
        unit,
        _STATES[state],
        _REASONS.get(reason),
        priority,
        base,
        term,
        _named_or_nobody(cursor, names, master),
        detail,
        bool(flags & _HELD),
        bool(flags & _WANTS_PREEMPT),
        healthy_ms * MILLISECOND_NS,
        pin,
    )


def _read_hearing(cursor: Cursor, names: list[str]) -> Hearing:
    instance = cursor.name()
    number, ago_ms = cursor.unpack(_HEARING)
    return Hearing(instance, _named(cursor, names, number), ago_ms * MILLISECOND_NS)


def _read_speaker(cursor: Cursor, _names: list[str]) -> Speaker:
    instance, length = cursor.name(), cursor.count()
    if length not in _ADDRESS_LENGTHS:
        raise cursor.fault(f"an address of {length} bytes")
    return Speaker(instance, cursor.take(length))


def _named_or_nobody(cursor: Cursor, names: list[str], number: int) -> str:
    return "" if number == _NOBODY else _named(cursor, names, number)


def _named(cursor: Cursor, names: list[str], number: int) -> str:
    if number >= len(names):
        raise cursor.fault(f"name {number} of {len(names)}")
    return names[number]
