"""What a member says is what the other one reads, in as many datagrams as it takes."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import fields, replace

import pytest
from channel_samples import (
    ACTS,
    ADDRESS,
    DIGEST,
    FULL_BEAT,
    LB1,
    LB2,
    NONCE,
    SECOND_ADDRESS,
    UNIT,
    acts,
    beats,
    heartbeat,
    inbox,
    one,
    outbox,
    proved,
)
from hypothesis import given, settings

from vipd.errors import ChannelError, InvariantViolated
from vipd.members import (
    Acting,
    ChannelDiscard,
    Echo,
    Gift,
    Go,
    Goodbye,
    Hearing,
    Heartbeat,
    Owner,
    Pin,
    RefusalReason,
    Speaker,
    Tombstone,
    UnitReport,
)
from vipd.model import MILLISECOND_NS, Reason, State
from vipd.wire.channel_acts import REFUSAL_CODES
from vipd.wire.channel_frame import LARGEST_DATAGRAM, LAST_SEQUENCE, LONGEST_NAME
from vipd.wire.channel_heartbeat import REASON_CODES, STATE_CODES


def read_all(message: Heartbeat | Acting, sender: Owner = LB1, version: int = 2) -> list[object]:
    receiver = inbox(own=Owner("me", 1, 1), addresses={sender.node: (ADDRESS,)})
    datagrams = outbox(sender).datagrams(message, version)
    assert all(len(datagram) <= LARGEST_DATAGRAM for datagram in datagrams)
    return [receiver.read(datagram, ADDRESS).message for datagram in datagrams]


def joined(parts: list[object]) -> Heartbeat:
    """The beat that was cut into ``parts``."""
    beats = [part for part in parts if isinstance(part, Heartbeat)]
    assert [(beat.part, beat.parts) for beat in beats] == [
        (number, len(parts)) for number in range(len(parts))
    ]
    return replace(
        beats[0],
        echoes=tuple(echo for beat in beats for echo in beat.echoes),
        units=tuple(unit for beat in beats for unit in beat.units),
        hearings=tuple(hearing for beat in beats for hearing in beat.hearings),
        speakers=tuple(speaker for beat in beats for speaker in beat.speakers),
        part=0,
        parts=1,
    )


def test_a_heartbeat_arrives_as_it_was() -> None:
    assert read_all(FULL_BEAT) == [FULL_BEAT]


@pytest.mark.parametrize("message", ACTS, ids=lambda message: type(message).__name__)
def test_an_acting_message_arrives_as_it_was(message: Acting) -> None:
    assert read_all(message) == [message]


@given(beats)
@settings(max_examples=100, deadline=None)
def test_any_heartbeat_arrives_whole(beat: Heartbeat) -> None:
    assert joined(read_all(beat)) == beat


@given(acts)
@settings(max_examples=100, deadline=None)
def test_any_acting_message_arrives_whole(message: Acting) -> None:
    own = isinstance(message, Go | Tombstone | Goodbye)
    sender = message.owner if own else LB1
    if sender.node == "me":
        return  # the receiver's own name: another test
    parts = read_all(message, sender)
    assert all(type(part) is type(message) for part in parts)
    for name in (field.name for field in fields(message)):
        values = [getattr(part, name) for part in parts]
        if isinstance(values[0], tuple):
            assert tuple(item for value in values for item in value) == getattr(message, name)
        else:
            assert set(values) == {getattr(message, name)}


def test_510_units_are_spread_over_datagrams_that_can_be_read_alone() -> None:
    units = tuple(replace(UNIT, unit=f"unit-{number}") for number in range(510))
    hearings = tuple(Hearing(unit.unit, "lb2", MILLISECOND_NS) for unit in units)
    speakers = tuple(Speaker(unit.unit, SECOND_ADDRESS) for unit in units)
    echoes = (Echo("lb2", NONCE, 0),)
    beat = heartbeat(units=units, hearings=hearings, speakers=speakers, echoes=echoes)
    parts = read_all(beat)
    assert len(parts) > 10
    assert joined(parts) == beat
    for part in parts:
        assert isinstance(part, Heartbeat)
        assert (part.nonce, part.configuration, part.beat) == (NONCE, DIGEST, 1)


def test_the_longest_names_fit() -> None:
    name, node = "é" * (LONGEST_NAME // 2), "n" * LONGEST_NAME
    units = tuple(
        replace(FULL_BEAT.units[1], unit=name, master=node[:-1], detail="d" * LONGEST_NAME)
        for _ in range(20)
    )
    beat = heartbeat(units=units, software="s" * LONGEST_NAME)
    assert joined(read_all(beat, Owner(node, 1, 1))) == beat


def test_a_name_that_finds_no_room_is_in_the_next_table_only() -> None:
    units = tuple(
        replace(UNIT, unit=f"unit-{number:02}", master=f"{number:02}" + "n" * 50)
        for number in range(40)
    )
    beat = heartbeat(units=units)
    assert joined(read_all(beat)) == beat


def test_a_tombstone_of_510_units_with_the_longest_names_is_possible() -> None:
    node = "n" * LONGEST_NAME
    gifts = tuple(Gift(f"{number:064}", 1, 0, node) for number in range(510))
    owner = Owner(node, 1, 1)
    parts = read_all(Tombstone(NONCE, owner, gifts), owner)
    assert [gift for part in parts for gift in part.gifts] == list(gifts)  # type: ignore[attr-defined]


def test_a_tombstone_has_the_last_numbers_and_can_be_made_ahead() -> None:
    box, receiver = outbox(), inbox()
    tombstone = Tombstone(NONCE, LB1, (Gift("web", 3, 0, "lb2"),))
    made_ahead = [one(tombstone, box) for _ in range(3)]
    assert len(set(made_ahead)) == 1
    assert receiver.read(one(heartbeat(), box), ADDRESS).sequence == 1
    assert receiver.read(made_ahead[0], ADDRESS).sequence == LAST_SEQUENCE


def test_durations_are_rounded_down_and_bounded() -> None:
    unit = replace(UNIT, healthy_for_ns=1_999_999)
    (beat,) = read_all(heartbeat(units=(unit,), hearings=(Hearing("web", "lb2", 10**30),)))
    assert isinstance(beat, Heartbeat)
    assert beat.units[0].healthy_for_ns == MILLISECOND_NS
    assert beat.hearings[0].ago_ns == 0xFFFF_FFFF * MILLISECOND_NS


def test_words_for_humans_are_cut_between_letters_and_cleaned() -> None:
    unit = replace(UNIT, detail="a\n\x1b[31m" + "é" * 64)
    (beat,) = read_all(heartbeat(units=(unit,)))
    assert isinstance(beat, Heartbeat)
    assert beat.units[0].detail == "a  [31m" + "é" * 28  # 7 + 2 * 28 = 63 bytes


def test_version_1_has_no_echoes_and_no_speakers() -> None:
    (beat,) = read_all(FULL_BEAT, version=1)
    assert beat == replace(FULL_BEAT, echoes=(), speakers=())


@pytest.mark.parametrize("pin", [Pin("", 7), Pin("lb2", 7), Pin("", 7, 60_000 * MILLISECOND_NS)])
@pytest.mark.parametrize("version", [1, 2])
def test_a_pin_that_was_ended_has_no_node_and_one_for_ever_no_rest(pin: Pin, version: int) -> None:
    unit = replace(UNIT, pin=pin)
    (beat,) = read_all(heartbeat(units=(unit,)), version=version)
    assert isinstance(beat, Heartbeat)
    assert beat.units == (unit,)


@pytest.mark.parametrize("length", [0, 3, 5, 15, 17, 255])
def test_an_address_has_4_or_16_bytes(length: int) -> None:
    with pytest.raises(InvariantViolated):
        outbox().datagrams(heartbeat(speakers=(Speaker("web", bytes(length)),)), 2)
    datagram = one(heartbeat(speakers=(Speaker("web", ADDRESS),)))
    end = b"\x04" + ADDRESS
    assert datagram[:-32].endswith(end)
    said = proved(datagram[: -32 - len(end)] + bytes((length,)) + bytes(length))
    with pytest.raises(ChannelError) as caught:
        inbox().read(said, ADDRESS)
    assert caught.value.reason is ChannelDiscard.BODY


def test_an_address_that_ends_too_early() -> None:
    datagram = one(heartbeat(speakers=(Speaker("web", SECOND_ADDRESS),)))
    with pytest.raises(ChannelError) as caught:
        inbox().read(proved(datagram[:-33]), ADDRESS)
    assert caught.value.reason is ChannelDiscard.BODY


def test_every_word_has_a_number_of_its_own() -> None:
    assert set(STATE_CODES) == set(State)
    assert set(REASON_CODES) == set(Reason)
    assert set(REFUSAL_CODES) == set(RefusalReason)
    for codes in (STATE_CODES, REASON_CODES, REFUSAL_CODES):
        assert len(set(codes.values())) == len(codes)
        assert max(codes.values()) <= 255
    assert 0 not in REASON_CODES.values()


@pytest.mark.parametrize(
    "message",
    [
        heartbeat(nonce=b"short"),
        heartbeat(configuration=b"short"),
        heartbeat(echoes=(Echo("lb2", b"short", 0),)),
        heartbeat(units=(replace(UNIT, unit=""),)),
        heartbeat(units=(replace(UNIT, unit="x" * 65),)),
        heartbeat(units=(replace(UNIT, unit="a\nb"),)),
        Goodbye(b"short", LB1),
    ],
    ids=repr,
)
def test_what_cannot_be_said_is_our_own_fault(message: Heartbeat | Acting) -> None:
    with pytest.raises(InvariantViolated):
        outbox().datagrams(message, 2)


def test_the_layout_is_the_one_on_the_page() -> None:
    """Byte by byte, written down here a second time."""
    speakers = (Speaker("web", ADDRESS),)
    echoes = (Echo("lb2", NONCE, 5_000_000),)
    datagram = one(heartbeat(echoes=echoes, speakers=speakers, interval_ns=100_000_000))
    assert datagram[:8] == b"VIPC\x02\x01\x02\x01"
    assert datagram[8:16] == hashlib.sha256(b"edge").digest()[:8]
    assert datagram[16:40] == struct.pack("!QQQ", 7, 0xA1, 1)
    assert datagram[40:44] == b"\x03lb1"
    body = datagram[44:-32]
    assert body == (
        struct.pack("!IHHB", 1, 0, 1, 0) + NONCE + DIGEST
        + b"\x051.0.0" + struct.pack("!I", 100)
        + b"\x02" b"\x03lb2" b"\x03lb1"
        + b"\x01" b"\x00" + NONCE + struct.pack("!I", 5)
        + b"\x01" b"\x03web" + bytes((4, 3, 150, 150, 0)) + struct.pack("!QI", 3, 0) + b"\x01\x00"
        + b"\x00"
        + b"\x01" b"\x03web" b"\x04" + bytes((192, 0, 2, 11))
    )  # fmt: skip
    go = one(Go(NONCE, LB1, (Gift("web", 3, 1, "lb2"),)))
    assert go[44:-32] == (
        NONCE + b"\x03lb1" + struct.pack("!QQ", 7, 0xA1)
        + b"\x01" b"\x03web" + struct.pack("!QB", 3, 1) + b"\x03lb2"
    )  # fmt: skip


def test_an_unknown_reason_is_none_and_an_unknown_refusal_other() -> None:
    """A newer release knows more words; its message is still good."""
    datagram = one(heartbeat(units=(UNIT,)))
    code = bytes((4, REASON_CODES[Reason.MASTER_SILENT], 150, 150))
    assert datagram.count(code) == 1
    changed = proved(datagram[:-32].replace(code, bytes((4, 250, 150, 150))))
    beat = inbox().read(changed, ADDRESS).message
    assert isinstance(beat, Heartbeat)
    assert beat.units == (replace(UNIT, reason=None),)
    refused = one(ACTS[3])
    assert refused[-33] == REFUSAL_CODES[RefusalReason.MAINTENANCE]
    told = inbox().read(proved(refused[:-33] + b"\xfa"), ADDRESS).message
    assert told.refusals[0].reason is RefusalReason.OTHER  # type: ignore[union-attr]


def test_units_are_reported_by_a_backup_too() -> None:
    unit = UnitReport("web", State.BACKUP, Reason.MASTER_HEARD, 100, 100, master="")
    (beat,) = read_all(heartbeat(units=(unit,)), LB2)
    assert isinstance(beat, Heartbeat)
    assert beat.units == (unit,)
