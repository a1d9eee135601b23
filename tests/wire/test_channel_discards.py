"""Every reason to discard a datagram, the order of the checks, and that none has an effect."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
from channel_samples import (
    ACTS,
    ADDRESS,
    ELSEWHERE,
    FOREIGN_KEY,
    FULL_BEAT,
    KEY,
    LB1,
    LB2,
    NEW_KEY,
    SECOND_ADDRESS,
    heartbeat,
    inbox,
    one,
    outbox,
    proved,
)

from vipd.errors import ChannelError, InvariantViolated
from vipd.members import ChannelDiscard, Gift, Owner, Tombstone, Unknown, Versions
from vipd.wire.channel import Inbox, Outbox, common_version
from vipd.wire.channel_frame import FIRST_RESERVED, LAST_SEQUENCE, Kind

PAGE = (Path(__file__).parents[2] / "docs" / "channel.md").read_text(encoding="utf-8")
GOOD = one(FULL_BEAT)


def refusal(data: bytes, receiver: Inbox | None = None, source: bytes = ADDRESS) -> ChannelError:
    with pytest.raises(ChannelError) as caught:
        (receiver or inbox()).read(data, source)
    return caught.value


def reason(data: bytes, receiver: Inbox | None = None, source: bytes = ADDRESS) -> ChannelDiscard:
    return refusal(data, receiver, source).reason


def changed(at: int, data: bytes, datagram: bytes = GOOD) -> bytes:
    """``datagram`` with other bytes, and proved again."""
    unproved = bytearray(datagram[:-32])
    unproved[at : at + len(data)] = data
    return proved(bytes(unproved))


# --- each reason --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 73, 1201, 65507])
def test_length(size: int) -> None:
    assert reason(b"VIPC" * (size // 4) + b"x" * (size % 4)) is ChannelDiscard.LENGTH


def test_not_vipd() -> None:
    assert reason(changed(0, b"vipc")) is ChannelDiscard.NOT_VIPD


def test_wrong_key() -> None:
    assert reason(one(FULL_BEAT, outbox(key=FOREIGN_KEY))) is ChannelDiscard.WRONG_KEY


def test_one_bit_anywhere_and_the_proof_fails() -> None:
    for at in range(4 * 8, len(GOOD) * 8):
        data = bytearray(GOOD)
        data[at // 8] ^= 1 << at % 8
        assert reason(bytes(data)) is ChannelDiscard.WRONG_KEY, at


def test_a_piece_of_a_datagram_fails_its_proof() -> None:
    for size in range(74, len(GOOD)):
        assert reason(GOOD[:size]) is ChannelDiscard.WRONG_KEY


def test_wrong_cluster() -> None:
    other = Outbox("other", LB1, KEY)
    assert reason(one(FULL_BEAT, other)) is ChannelDiscard.WRONG_CLUSTER


@pytest.mark.parametrize("version", [0, 3, 255])
def test_version(version: int) -> None:
    speaks = bytes((version, min(version, 7), version))
    error = refusal(changed(4, speaks))
    assert (error.reason, error.sender) == (ChannelDiscard.VERSION, "lb1")
    assert error.speaks == Versions(min(version, 7), version)


def test_header() -> None:
    assert reason(changed(5, b"\x00\x01")) is ChannelDiscard.HEADER  # says 2, speaks 0 and 1
    assert reason(changed(40, b"\x00")) is ChannelDiscard.HEADER
    assert reason(changed(40, b"\x41")) is ChannelDiscard.HEADER
    assert reason(changed(41, b"\xff")) is ChannelDiscard.HEADER
    assert reason(changed(41, b"\n")) is ChannelDiscard.HEADER
    assert reason(proved(GOOD[:40] + b"\x09lb1")) is ChannelDiscard.HEADER


def test_sequence() -> None:
    assert reason(changed(32, bytes(8))) is ChannelDiscard.SEQUENCE
    reserved = struct.pack("!Q", FIRST_RESERVED)
    assert reason(changed(32, reserved)) is ChannelDiscard.SEQUENCE
    tombstone = one(ACTS[4])
    assert reason(changed(32, struct.pack("!Q", 5), tombstone)) is ChannelDiscard.SEQUENCE


def test_own_datagrams_that_come_back() -> None:
    assert reason(one(FULL_BEAT, outbox(LB2))) is ChannelDiscard.OWN


def test_our_own_name_from_another_host_is_a_duplicate_node() -> None:
    twin = Owner(LB2.node, LB2.incarnation, LB2.nonce + 1)
    assert reason(one(FULL_BEAT, outbox(twin))) is ChannelDiscard.DUPLICATE_NODE


def test_unknown_sender() -> None:
    assert reason(one(FULL_BEAT, outbox(Owner("lb9", 1, 1)))) is ChannelDiscard.UNKNOWN_SENDER


def test_foreign_address() -> None:
    assert reason(GOOD, source=ELSEWHERE) is ChannelDiscard.FOREIGN_ADDRESS


def test_duplicate_node_and_old_incarnation() -> None:
    receiver = inbox()
    receiver.read(GOOD, ADDRESS)
    older, twin = Owner("lb1", 6, 0), Owner("lb1", 7, 0)
    assert reason(one(FULL_BEAT, outbox(older)), receiver) is ChannelDiscard.OLD_INCARNATION
    assert reason(one(FULL_BEAT, outbox(twin)), receiver) is ChannelDiscard.DUPLICATE_NODE


def test_replay_and_copy() -> None:
    receiver = inbox()
    receiver.read(GOOD, ADDRESS)
    assert reason(GOOD, receiver) is ChannelDiscard.REPLAY
    assert reason(GOOD, receiver, SECOND_ADDRESS) is ChannelDiscard.COPY


def test_the_same_source_to_two_of_our_addresses_is_two_paths() -> None:
    receiver = inbox()
    receiver.read(GOOD, ADDRESS, b"\x0a\0\0\1")
    with pytest.raises(ChannelError) as caught:
        receiver.read(GOOD, ADDRESS, b"\x0a\0\0\2")
    assert caught.value.reason is ChannelDiscard.COPY


BAD_BODIES = {
    "empty": GOOD[:44],
    "a byte too many": GOOD[:-32] + b"\0",
    "a byte too few": GOOD[:-33],
    "part 1 of 1": GOOD[:48] + b"\0\1" + GOOD[50:-32],
    "no parts": GOOD[:50] + b"\0\0" + GOOD[52:-32],
    "unknown flag": GOOD[:52] + b"\4" + GOOD[53:-32],
    "a goodbye with items": one(ACTS[5])[:-33] + b"\1",
    "a go for another's mastership": one(ACTS[1])[:-32].replace(b"\x03lb1", b"\x03lb3"),
}


@pytest.mark.parametrize("unproved", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_body(unproved: bytes) -> None:
    assert unproved not in (GOOD[:-32], one(ACTS[1])[:-32])
    receiver = inbox(addresses={"lb1": (ADDRESS,), "lb3": (ADDRESS,)})
    if b"\x03lb3" in unproved[:45]:  # the frame names the sender: leave that as it was
        unproved = unproved[:40] + b"\x03lb1" + unproved[44:]
    error = refusal(proved(unproved), receiver)
    assert (error.reason, error.sender) == (ChannelDiscard.BODY, "lb1")


@pytest.mark.parametrize("message", [FULL_BEAT, *ACTS], ids=lambda value: type(value).__name__)
def test_every_shorter_or_longer_body_is_refused(message: object) -> None:
    unproved = one(message)[:-32]  # type: ignore[arg-type]
    for size in range(44, len(unproved)):
        assert reason(proved(unproved[:size])) is ChannelDiscard.BODY, size
    assert reason(proved(unproved + b"\0")) is ChannelDiscard.BODY


def test_an_unknown_state_and_a_name_out_of_the_table_are_refused() -> None:
    web = GOOD.index(b"\x03web") + 4
    assert reason(changed(web, b"\x09")) is ChannelDiscard.BODY
    assert reason(changed(web + 4, b"\x08")) is ChannelDiscard.BODY
    assert reason(changed(web + 17, b"\x03")) is ChannelDiscard.BODY  # lb2, wit, lb1: 0 to 2
    assert reason(changed(web + 17, b"\xfe")) is ChannelDiscard.BODY


# --- their order, and that nothing else happens -------------------------------------------------


def test_no_discarded_datagram_uses_up_a_sequence_number() -> None:
    receiver = inbox()
    for data, source in [
        (changed(0, b"vipc"), ADDRESS),
        (one(FULL_BEAT, outbox(key=FOREIGN_KEY)), ADDRESS),
        (one(FULL_BEAT, Outbox("other", LB1, KEY)), ADDRESS),
        (changed(4, b"\x03\x02\x03"), ADDRESS),
        (GOOD, ELSEWHERE),
    ]:
        refusal(data, receiver, source)
    assert receiver.read(GOOD, ADDRESS).message == FULL_BEAT


def test_an_unproved_datagram_tells_nothing_but_that() -> None:
    """Whatever else is wrong with it: who lacks the key learns nothing, and moves nothing."""
    for data in (
        one(FULL_BEAT, Outbox("other", Owner("lb9", 1, 1), FOREIGN_KEY)),
        GOOD[:4] + b"\x09" + GOOD[5:],
        GOOD[:-32] + bytes(32),
    ):
        error = refusal(data, source=ELSEWHERE)
        assert (error.reason, error.detail, error.sender) == (ChannelDiscard.WRONG_KEY, "", "")


def test_a_higher_incarnation_from_elsewhere_does_not_end_the_real_one() -> None:
    receiver, box = inbox(), outbox()
    receiver.read(one(FULL_BEAT, box), ADDRESS)
    clone = outbox(Owner("lb1", 99, 1))
    assert reason(one(FULL_BEAT, clone), receiver, ELSEWHERE) is ChannelDiscard.FOREIGN_ADDRESS
    assert receiver.read(one(FULL_BEAT, box), ADDRESS).sequence == 2


def test_what_was_proved_is_remembered_for_a_while_and_changes_no_verdict() -> None:
    receiver, box = inbox(), outbox()
    datagrams = [one(FULL_BEAT, box) for _ in range(200)]
    for data in datagrams:
        receiver.read(data, ADDRESS)
        assert reason(data, receiver, SECOND_ADDRESS) is ChannelDiscard.COPY
        assert reason(data, receiver, ELSEWHERE) is ChannelDiscard.FOREIGN_ADDRESS
    assert all(reason(data, receiver) is ChannelDiscard.REPLAY for data in datagrams)


def test_a_key_that_was_retired_proves_nothing_that_it_proved_before() -> None:
    receiver = inbox(keys=(KEY, NEW_KEY))
    data = one(FULL_BEAT, outbox(key=NEW_KEY))
    receiver.read(data, ADDRESS)
    receiver.configure("edge", (KEY,), {"lb1": (ADDRESS, SECOND_ADDRESS)})
    assert reason(data, receiver, SECOND_ADDRESS) is ChannelDiscard.WRONG_KEY


# --- keys ---------------------------------------------------------------------------------------


def test_both_keys_verify_and_the_older_one_is_told() -> None:
    receiver = inbox(keys=(NEW_KEY, KEY))
    box = outbox()
    assert receiver.read(one(FULL_BEAT, box), ADDRESS).old_key
    box.configure("edge", NEW_KEY)
    assert not receiver.read(one(FULL_BEAT, box), ADDRESS).old_key
    box.configure("edge", FOREIGN_KEY)
    assert reason(one(FULL_BEAT, box), receiver) is ChannelDiscard.WRONG_KEY


def test_a_reload_changes_keys_and_addresses_and_forgets_no_number() -> None:
    receiver, box = inbox(), outbox()
    first = one(FULL_BEAT, box)
    receiver.read(first, ADDRESS)
    receiver.configure("edge", (NEW_KEY, KEY), {"lb1": (ADDRESS,)})
    assert reason(first, receiver) is ChannelDiscard.REPLAY
    assert receiver.read(one(FULL_BEAT, box), ADDRESS).sequence == 2
    assert reason(one(FULL_BEAT, box), receiver, SECOND_ADDRESS) is ChannelDiscard.FOREIGN_ADDRESS
    receiver.configure("edge", (NEW_KEY, KEY), {})
    assert reason(one(FULL_BEAT, box), receiver) is ChannelDiscard.UNKNOWN_SENDER


def test_a_reload_that_renames_the_cluster_goes_on_with_the_numbers() -> None:
    receiver, box = inbox(), outbox()
    first = one(FULL_BEAT, box)
    receiver.read(first, ADDRESS)
    receiver.configure("core", (KEY,), {"lb1": (ADDRESS,)})
    assert reason(one(FULL_BEAT, box), receiver) is ChannelDiscard.WRONG_CLUSTER
    box.configure("core", KEY)
    assert receiver.read(one(FULL_BEAT, box), ADDRESS).sequence == 3


def test_a_forgotten_member_may_begin_again_with_a_lower_incarnation() -> None:
    receiver = inbox()
    receiver.read(GOOD, ADDRESS)
    reborn = outbox(Owner("lb1", 1, 5))
    assert reason(one(FULL_BEAT, reborn), receiver) is ChannelDiscard.OLD_INCARNATION
    receiver.forget("lb1")
    assert receiver.read(one(FULL_BEAT, reborn), ADDRESS).sender.incarnation == 1


# --- versions -----------------------------------------------------------------------------------

OLDER, NEWER = Versions(0, 1), Versions(2, 3)


def test_the_highest_version_that_all_understand_is_spoken() -> None:
    ours = Versions(1, 2)
    assert common_version([], ours) == 1
    assert common_version([ours], ours) == 2
    assert common_version([NEWER], ours) == 2
    assert common_version([NEWER, OLDER], ours) == 1
    assert common_version([Versions(0, 0)], ours) == 1


@pytest.mark.parametrize(("other", "common"), [(OLDER, 1), (NEWER, 2)])
def test_neighbouring_releases_find_a_common_version(other: Versions, common: int) -> None:
    """Each learns from the other's datagrams, even from those that it cannot read."""
    boxes = (outbox(LB1), outbox(LB2, speaks=other))
    spoken = (Versions(1, 2), other)
    inboxes = (
        inbox(own=LB1, addresses={"lb2": (ADDRESS,)}),
        inbox(own=LB2, known=other),
    )
    heard: tuple[list[Versions], list[Versions]] = ([], [])
    understood: list[int | None] = []
    for _ in range(3):
        for here, there in ((0, 1), (1, 0)):
            version = common_version(heard[here], spoken[here])
            told = understand(inboxes[there], one(FULL_BEAT, boxes[here], version))
            understood.append(version if told.understood else None)
            heard[there].append(told.speaks)
    assert understood[2:] == [common] * 4


@dataclass
class Told:
    understood: bool
    speaks: Versions


def understand(receiver: Inbox, datagram: bytes) -> Told:
    try:
        return Told(True, receiver.read(datagram, ADDRESS).speaks)
    except ChannelError as error:
        if error.speaks is None:
            raise
        return Told(False, error.speaks)


def test_a_version_that_is_not_spoken_is_never_said() -> None:
    with pytest.raises(InvariantViolated):
        outbox().datagrams(heartbeat(), 3)


# --- kinds, numbers -----------------------------------------------------------------------------


def test_an_unknown_kind_is_no_error_and_uses_its_number() -> None:
    receiver = inbox()
    for number, kind in enumerate((0, 16, 255), 1):
        datagram = changed(32, struct.pack("!Q", number), changed(7, bytes((kind,))))
        assert receiver.read(datagram, ADDRESS).message == Unknown(kind)
        assert reason(datagram, receiver) is ChannelDiscard.REPLAY


def test_numbers_grow_by_one_and_a_tombstone_uses_none() -> None:
    box, receiver = outbox(), inbox()
    numbers = []
    for message in (heartbeat(), ACTS[0], ACTS[4], heartbeat()):
        numbers.append(receiver_number(receiver, one(message, box)))
    assert numbers == [1, 2, LAST_SEQUENCE, "replay"]


def receiver_number(receiver: Inbox, datagram: bytes) -> object:
    try:
        return receiver.read(datagram, ADDRESS).sequence
    except ChannelError as error:
        return error.reason.value


def test_a_tombstone_that_needs_too_many_datagrams_is_refused() -> None:
    gifts = tuple(Gift("u" * 64, 1, 0, "n" * 64) for _ in range(2000))
    with pytest.raises(InvariantViolated):
        outbox().datagrams(Tombstone(bytes(16), LB1, gifts), 2)


# --- the page -----------------------------------------------------------------------------------


def test_the_page_has_every_reason_and_every_kind() -> None:
    words = set(re.findall(r"`([^`\n]+)`", PAGE))
    assert {reason.value for reason in ChannelDiscard} - words == set()
    kinds = PAGE[PAGE.index("| kind | name |") :].split("\n\n", 1)[0]
    table = {int(number): name for number, name in re.findall(r"^\| (\d+) \| (\w+)", kinds, re.M)}
    assert table == {kind.value: kind.name.lower() for kind in Kind}
