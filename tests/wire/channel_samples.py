"""A small cluster, and messages of every kind, that the tests of the channel share."""

from __future__ import annotations

import hmac
from typing import Any

from hypothesis import strategies as st

from vipd.members import (
    Acting,
    Echo,
    Gift,
    Go,
    Goodbye,
    Hearing,
    Heartbeat,
    Owner,
    Pin,
    Refusal,
    RefusalReason,
    Refused,
    Speaker,
    Taken,
    Taking,
    Tombstone,
    TransferRequest,
    UnitReport,
    Wish,
)
from vipd.model import MILLISECOND_NS, Reason, State, parse_address
from vipd.wire.channel import Inbox, Outbox
from vipd.wire.channel_frame import LONGEST_NAME, VERSION

KEY, NEW_KEY, FOREIGN_KEY = b"\x11" * 32, b"\x22" * 32, b"\x33" * 32
LB1, LB2 = Owner("lb1", 7, 0xA1), Owner("lb2", 12, 0xB2)
ADDRESS, SECOND_ADDRESS = parse_address("192.0.2.11"), parse_address("2001:db8::11")
ELSEWHERE = parse_address("198.51.100.1")
NONCE = bytes(range(16))
DIGEST = b"config-1"
UNIT = UnitReport("web", State.MASTER, Reason.MASTER_SILENT, 150, 150, term=3, master="lb1")

PROOF_LENGTH = 32


def heartbeat(**changes: Any) -> Heartbeat:
    values: dict[str, Any] = {"beat": 1, "nonce": NONCE, "configuration": DIGEST}
    return Heartbeat(**values | {"software": "1.0.0", "units": (UNIT,)} | changes)


ACTS: tuple[Acting, ...] = (
    TransferRequest(NONCE, LB2, (Wish("web", 3, 200), Wish("api", 1, 120))),
    Go(NONCE, LB1, (Gift("web", 3, 0, "lb2"), Gift("api", 9, 1, "lb3"))),
    Taken(NONCE, LB2, (Taking("web", 3),)),
    Refused(NONCE, LB2, (Refusal("web", 3, RefusalReason.MAINTENANCE),)),
    Tombstone(NONCE, LB1, (Gift("web", 3, 0, "lb2"),)),
    Goodbye(NONCE, LB1),
)
FULL_BEAT = heartbeat(
    maintenance=True,
    complete=False,
    echoes=(Echo("lb2", NONCE, 40 * MILLISECOND_NS), Echo("wit", bytes(16), 0)),
    units=(
        UNIT,
        UnitReport(
            "api",
            State.FAULT,
            None,
            1,
            254,
            term=(1 << 64) - 1,
            detail="check nginx: refused",
            held=True,
            wants_preempt=True,
            healthy_for_ns=90_000 * MILLISECOND_NS,
            pin=Pin("lb2", 4, 60_000 * MILLISECOND_NS),
        ),
    ),
    hearings=(Hearing("web", "lb2", 1_000 * MILLISECOND_NS),),
    speakers=(Speaker("web", ADDRESS), Speaker("web6", SECOND_ADDRESS)),
)


def outbox(sender: Owner = LB1, key: bytes = KEY, **options: Any) -> Outbox:
    return Outbox("edge", sender, key, **options)


def inbox(**changes: Any) -> Inbox:
    values: dict[str, Any] = {
        "cluster": "edge",
        "own": LB2,
        "keys": (KEY,),
        "addresses": {"lb1": (ADDRESS, SECOND_ADDRESS)},
    }
    return Inbox(**values | changes)


def one(message: Heartbeat | Acting, sender: Outbox | None = None, version: int = VERSION) -> bytes:
    """The only datagram of ``message``."""
    (datagram,) = (sender or outbox()).datagrams(message, version)
    return datagram


def proved(unproved: bytes, key: bytes = KEY) -> bytes:
    """What a member with the key, and with a fault, might send."""
    return unproved + hmac.digest(key, unproved, "sha256")


# --- any message at all -------------------------------------------------------------------------

_LETTERS = st.characters(codec="utf-8").filter(str.isprintable)


def _fits(text: str) -> bool:
    return len(text.encode()) <= LONGEST_NAME


names = st.text(_LETTERS, min_size=1, max_size=LONGEST_NAME).filter(_fits)
texts = st.text(_LETTERS, max_size=LONGEST_NAME).filter(_fits)
nonces = st.binary(min_size=16, max_size=16)
numbers64 = st.integers(0, (1 << 64) - 1)
bytes8 = st.integers(0, 255)
durations = st.integers(0, (1 << 32) - 1).map(lambda ms: ms * MILLISECOND_NS)
addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
owners = st.builds(Owner, names, numbers64, numbers64)
pins = st.builds(Pin, st.just("") | names, st.integers(0, (1 << 32) - 1), durations)
units = st.builds(
    UnitReport,
    unit=names,
    state=st.sampled_from(State),
    reason=st.none() | st.sampled_from(Reason),
    priority=bytes8,
    priority_base=bytes8,
    term=numbers64,
    master=st.just("") | names,
    detail=texts,
    held=st.booleans(),
    wants_preempt=st.booleans(),
    healthy_for_ns=durations,
    pin=st.none() | pins,
)


def lists(items: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=12).map(tuple)


beats = st.builds(
    Heartbeat,
    beat=st.integers(0, (1 << 32) - 1),
    nonce=nonces,
    configuration=st.binary(min_size=8, max_size=8),
    software=texts,
    maintenance=st.booleans(),
    complete=st.booleans(),
    echoes=lists(st.builds(Echo, names, nonces, durations)),
    units=lists(units),
    hearings=lists(st.builds(Hearing, names, names, durations)),
    speakers=lists(st.builds(Speaker, names, addresses)),
)
gifts = st.builds(Gift, names, numbers64, bytes8, names)
acts = st.one_of(
    st.builds(TransferRequest, nonces, owners, lists(st.builds(Wish, names, numbers64, bytes8))),
    st.builds(Go, nonces, owners, lists(gifts)),
    st.builds(Taken, nonces, owners, lists(st.builds(Taking, names, numbers64))),
    st.builds(
        Refused,
        nonces,
        owners,
        lists(st.builds(Refusal, names, numbers64, st.sampled_from(RefusalReason))),
    ),
    st.builds(Tombstone, nonces, owners, lists(gifts)),
    st.builds(Goodbye, nonces, owners),
)
