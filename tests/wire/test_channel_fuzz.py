"""Whatever arrives, reading it ends in a value or in a ChannelError.

A hundred thousand datagrams: noise, good ones with some bytes changed, and the same *proved again*,
because only those reach what lies behind the proof. Hypothesis draws the beginnings, so that a
failure is shown at its simplest.
"""

from __future__ import annotations

import random
from collections import Counter

from channel_samples import (
    ACTS,
    ADDRESS,
    FULL_BEAT,
    LB1,
    LB2,
    PROOF_LENGTH,
    acts,
    beats,
    heartbeat,
    inbox,
    one,
    outbox,
    proved,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from vipd.errors import ChannelError
from vipd.members import ChannelDiscard
from vipd.wire.channel import Inbox

ROUNDS = 100
PER_ROUND = 1000
BODY = len(b"VIPC") + 36 + len(b"\x03lb1")
BEGINNINGS = [one(message) for message in (FULL_BEAT, heartbeat(), *ACTS)]

told: Counter[str] = Counter()


def read(receiver: Inbox, data: bytes) -> None:
    try:
        told[type(receiver.read(data, ADDRESS).message).__name__] += 1
    except ChannelError as error:
        told[error.reason.value] += 1


def mutated(data: bytes, luck: random.Random) -> bytes:
    piece = bytearray(data)
    for _ in range(luck.randint(1, 4)):
        at = luck.randrange(len(piece))
        match luck.randrange(5):
            case 0:
                piece[at] = luck.randrange(256)
            case 1:
                piece[at] ^= 1 << luck.randrange(8)
            case 2:
                del piece[at : at + luck.randint(1, 8)]
            case 3:
                piece[at:at] = luck.randbytes(luck.randint(1, 8))
            case 4:
                piece[at : at + 8] = b"\xff" * 8
        if not piece:
            return b""
    return bytes(piece)


def attack(receiver: Inbox, beginnings: list[bytes], luck: random.Random, rounds: int) -> None:
    for _ in range(rounds):
        data = luck.choice(beginnings)
        match luck.randrange(5):
            case 0:
                read(receiver, luck.randbytes(luck.randint(0, 1300)))
            case 1:
                read(receiver, mutated(data, luck))
            case 2:
                if luck.random() < 0.5:
                    receiver.forget("lb1")
                read(receiver, proved(mutated(data[:-PROOF_LENGTH], luck)))
            case _:
                receiver.forget("lb1")  # else most would be told to be replays, and never read
                read(receiver, proved(data[:BODY] + mutated(data[BODY:-PROOF_LENGTH], luck)))


@given(st.integers(0, (1 << 64) - 1), beats, acts)
@settings(max_examples=ROUNDS, deadline=None, derandomize=True)
def test_nothing_but_a_value_or_a_channel_error(seed: int, beat: object, act: object) -> None:
    luck = random.Random(seed)
    drawn = [
        datagram
        for message in (beat, act)
        for datagram in outbox().datagrams(message, luck.choice((1, 2)))  # type: ignore[arg-type]
    ]
    attack(inbox(), BEGINNINGS + drawn, luck, PER_ROUND)


def test_the_fuzz_reaches_every_check() -> None:
    """A fuzz whose datagrams all fail at the same place has shown nothing."""
    luck = random.Random(4)
    told.clear()
    for own in (LB1, LB2, LB2, LB2):
        attack(inbox(own=own), BEGINNINGS, luck, 2500)
    reachable = set(ChannelDiscard) - {
        ChannelDiscard.FOREIGN_ADDRESS,  # no byte of the datagram decides these two
        ChannelDiscard.COPY,
        ChannelDiscard.DUPLICATE_NODE,  # here every life is forgotten soon
        ChannelDiscard.OLD_INCARNATION,
    }
    assert {reason.value for reason in reachable} <= set(told)
    assert {"Unknown", *(type(message).__name__ for message in (FULL_BEAT, *ACTS))} <= set(told)
    assert told[ChannelDiscard.BODY.value] > 2000
