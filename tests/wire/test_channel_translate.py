"""Core's values on one side, datagrams on the other: versions, reloads, and who is told what."""

from __future__ import annotations

from dataclasses import replace

import pytest
from channel_samples import (
    ACTS,
    ADDRESS,
    DIGEST,
    ELSEWHERE,
    FULL_BEAT,
    KEY,
    LB1,
    LB2,
    NEW_KEY,
    NONCE,
    SECOND_ADDRESS,
    heartbeat,
    outbox,
)

from vipd.core.actions import KeepWill, SendMessage
from vipd.core.events import MessageHeard, MessageRejected
from vipd.errors import InvariantViolated
from vipd.members import (
    ChannelDiscard,
    Gift,
    Goodbye,
    Heartbeat,
    Owner,
    Received,
    Tombstone,
    Versions,
)
from vipd.model import Address, ClusterConfig, MemberConfig, parse_address
from vipd.translate_channel import ChannelTranslator, Outgoing
from vipd.wire.channel_frame import SPOKEN

LB3 = Owner("lb3", 3, 0xC3)
WITNESS = Owner("wit", 1, 1)
THEIR = {
    "lb1": (ADDRESS, SECOND_ADDRESS),
    "lb2": (parse_address("192.0.2.12"),),
    "lb3": (parse_address("192.0.2.13"),),
    "wit": (parse_address("192.0.2.20"),),
}
VERSION_AT = 4


def cluster(*names: str, name: str = "edge", keys: tuple[bytes, ...] = (KEY,)) -> ClusterConfig:
    nodes = tuple(MemberConfig(node, THEIR[node]) for node in names or ("lb1", "lb2", "lb3"))
    witnesses = (MemberConfig("wit", THEIR["wit"]),)
    return ClusterConfig(name, nodes, keys, DIGEST, witnesses=witnesses)


def translator(owner: Owner = LB2, config: ClusterConfig | None = None) -> ChannelTranslator:
    made = ChannelTranslator()
    made.configure(config or cluster(), owner)
    return made


def arrive(
    receiver: ChannelTranslator, data: bytes, source: Address = ADDRESS, to: Address = b""
) -> MessageHeard | MessageRejected:
    return receiver.receive(data, source, to or THEIR["lb2"][0])


def rejected(
    receiver: ChannelTranslator, data: bytes, source: Address = ADDRESS, to: Address = b""
) -> ChannelDiscard:
    event = arrive(receiver, data, source, to)
    assert isinstance(event, MessageRejected)
    return event.reason


def said(sender: Owner = LB1, speaks: Versions = SPOKEN, version: int = 1) -> bytes:
    """One heartbeat of a new life of ``sender``."""
    (datagram,) = outbox(sender, speaks=speaks).datagrams(heartbeat(), version)
    return datagram


def versions(outgoing: tuple[Outgoing, ...]) -> set[int]:
    return {each.datagram[VERSION_AT] for each in outgoing}


# --- sending ------------------------------------------------------------------------------------


def test_a_heartbeat_to_all_is_made_once_and_goes_to_every_other_node() -> None:
    first, second = translator().encode(SendMessage(FULL_BEAT))
    assert (first.to, second.to) == ("lb1", "lb3")
    assert first.datagram is second.datagram


def test_all_parts_go_to_each_node_in_order() -> None:
    units = tuple(replace(FULL_BEAT.units[0], unit=f"unit-{number}") for number in range(100))
    sent = translator(LB1).encode(SendMessage(heartbeat(units=units)))
    receiver = translator()
    to_lb2 = [each.datagram for each in sent if each.to == "lb2"]
    assert len(to_lb2) > 2
    heard = [arrive(receiver, datagram) for datagram in to_lb2]
    messages = [event.received.message for event in heard if isinstance(event, MessageHeard)]
    assert [beat.part for beat in messages if isinstance(beat, Heartbeat)] == list(
        range(len(to_lb2))
    )


@pytest.mark.parametrize("message", ACTS, ids=lambda message: type(message).__name__)
def test_an_acting_message_goes_to_its_member_and_arrives(message: object) -> None:
    (only,) = translator(LB1).encode(SendMessage(message, "lb2"))  # type: ignore[arg-type]
    assert only.to == "lb2"
    event = arrive(translator(), only.datagram)
    assert event == MessageHeard(
        Received(LB1, event.received.sequence, 1, Versions(1, 2), False, message),  # type: ignore
        ADDRESS,
    )


def test_the_will_is_kept_for_each_member_and_outlives_the_numbers_of_the_living() -> None:
    sender, receiver = translator(LB1), translator()
    tombstones = tuple(
        (member, Tombstone(bytes(15) + bytes((number,)), LB1, (Gift("web", 3, 0, member),)))
        for number, member in enumerate(("lb2", "lb3"))
    )
    kept = sender.will(KeepWill(tombstones, ()))
    assert [each.to for each in kept] == ["lb2", "lb3"]
    assert kept[0].datagram != kept[1].datagram
    (beat, _) = sender.encode(SendMessage(FULL_BEAT))
    assert isinstance(arrive(receiver, beat.datagram), MessageHeard)
    event = arrive(receiver, kept[0].datagram)
    assert isinstance(event, MessageHeard)
    assert event.received.message == tombstones[0][1]
    (late, _) = sender.encode(SendMessage(FULL_BEAT))
    assert rejected(receiver, late.datagram) is ChannelDiscard.REPLAY


def test_nothing_to_say_without_a_cluster_or_without_others() -> None:
    silent = ChannelTranslator()
    silent.configure(None, LB1)
    assert silent.encode(SendMessage(FULL_BEAT)) == ()
    assert silent.will(KeepWill((("lb2", Tombstone(NONCE, LB1, ())),), ())) == ()
    assert translator(LB1, cluster("lb1")).encode(SendMessage(FULL_BEAT)) == ()
    with pytest.raises(InvariantViolated):
        silent.receive(b"", ADDRESS, ADDRESS)


# --- receiving ----------------------------------------------------------------------------------


def test_another_path_tells_that_it_lives_and_the_same_one_is_a_replay() -> None:
    receiver, data = translator(), said()
    assert isinstance(arrive(receiver, data), MessageHeard)
    assert arrive(receiver, data, SECOND_ADDRESS) == MessageRejected(
        ChannelDiscard.COPY, "lb1", SECOND_ADDRESS
    )
    assert rejected(receiver, data, to=ELSEWHERE) is ChannelDiscard.COPY
    assert rejected(receiver, data) is ChannelDiscard.REPLAY


def test_what_is_not_proved_names_nobody() -> None:
    assert arrive(translator(), b"x" * 100, ELSEWHERE) == MessageRejected(
        ChannelDiscard.NOT_VIPD, "", ELSEWHERE
    )


def test_who_is_named_in_a_rejection_was_proved() -> None:
    event = arrive(translator(), said(), ELSEWHERE)
    assert event == MessageRejected(ChannelDiscard.FOREIGN_ADDRESS, "lb1", ELSEWHERE)
    assert rejected(translator(), said(WITNESS), THEIR["wit"][0]) is ChannelDiscard.UNKNOWN_SENDER


# --- versions -----------------------------------------------------------------------------------


def test_the_lower_version_first_then_the_highest_that_all_understand() -> None:
    made = translator()
    assert versions(made.encode(SendMessage(FULL_BEAT))) == {1}
    arrive(made, said(LB1))
    assert versions(made.encode(SendMessage(FULL_BEAT))) == {2}
    arrive(made, said(LB3, Versions(0, 1)), THEIR["lb3"][0])
    assert versions(made.encode(SendMessage(FULL_BEAT))) == {1}
    assert versions(made.encode(SendMessage(Goodbye(NONCE, LB2), "lb1"))) == {1}


def test_a_node_that_was_upgraded_is_spoken_to_in_the_new_version() -> None:
    made = translator()
    arrive(made, said(LB1, Versions(0, 1)))
    assert made.version == 1
    arrive(made, said(replace(LB1, incarnation=8)))
    assert made.version == 2


def test_what_a_datagram_in_an_unknown_version_says_is_learned() -> None:
    made = translator()
    arrive(made, said(LB3), THEIR["lb3"][0])
    assert made.version == 2
    newer = said(LB1, Versions(3, 4), 3)
    assert rejected(made, newer) is ChannelDiscard.VERSION
    assert made.version == 2
    older = said(LB1, Versions(0, 1), 0)
    assert rejected(made, older, ELSEWHERE) is ChannelDiscard.VERSION
    assert made.version == 2, "not from one of its addresses"
    assert rejected(made, older) is ChannelDiscard.VERSION
    assert made.version == 1


def test_a_node_that_was_removed_holds_no_version_back() -> None:
    made = translator()
    arrive(made, said(LB1))
    arrive(made, said(LB3, Versions(0, 1)), THEIR["lb3"][0])
    assert made.version == 1
    made.configure(cluster("lb1", "lb2"), LB2)
    assert made.version == 2


# --- reload -------------------------------------------------------------------------------------


def test_a_reload_changes_keys_and_nodes_and_forgets_no_number() -> None:
    sender, receiver = translator(LB1), translator()
    first = sender.encode(SendMessage(FULL_BEAT))[0].datagram
    arrive(receiver, first)
    keys = (NEW_KEY, KEY)
    receiver.configure(cluster("lb1", "lb2", keys=keys), LB2)
    assert rejected(receiver, first) is ChannelDiscard.REPLAY
    (old_key,) = (each for each in sender.encode(SendMessage(FULL_BEAT)) if each.to == "lb2")
    event = arrive(receiver, old_key.datagram)
    assert isinstance(event, MessageHeard)
    assert event.received.old_key
    sender.configure(cluster("lb1", "lb2", keys=keys), LB1)
    (new_key,) = sender.encode(SendMessage(FULL_BEAT))
    event = arrive(receiver, new_key.datagram)
    assert isinstance(event, MessageHeard)
    assert (event.received.sequence, event.received.old_key) == (3, False)


def test_without_a_cluster_the_last_words_still_go_out_and_nothing_is_forgotten() -> None:
    sender, receiver = translator(LB1), translator()
    first = sender.encode(SendMessage(FULL_BEAT))[0].datagram
    arrive(receiver, first)
    sender.configure(None, LB1)
    receiver.configure(None, LB2)
    (farewell,) = sender.encode(SendMessage(Goodbye(NONCE, LB1), "lb2"))
    receiver.configure(cluster(), LB2)
    assert rejected(receiver, first) is ChannelDiscard.REPLAY
    assert isinstance(arrive(receiver, farewell.datagram), MessageHeard)


def test_a_new_life_begins_with_new_numbers() -> None:
    made = translator(LB1)
    made.encode(SendMessage(FULL_BEAT))
    reborn = replace(LB1, incarnation=8, nonce=5)
    made.configure(cluster(), reborn)
    event = arrive(translator(), made.encode(SendMessage(FULL_BEAT))[0].datagram)
    assert isinstance(event, MessageHeard)
    assert (event.received.sender, event.received.sequence) == (reborn, 1)
