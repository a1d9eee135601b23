"""The window of sequence numbers, and the lives of a sender."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from vipd.members import ChannelDiscard, Owner
from vipd.wire.replay import TURNS, WIDTH, ReplayWindow, SenderGuard

OLD, NEW = Owner("lb1", 6, 0xA0), Owner("lb1", 7, 0xA1)
TWIN = Owner("lb1", 7, 0xEE)


class SlowWindow:
    """The same rule, told with a set."""

    def __init__(self) -> None:
        self.heard: set[int] = set()

    def admit(self, sequence: int) -> bool:
        highest = max(self.heard, default=0)
        if sequence in self.heard or sequence + WIDTH <= highest:
            return False
        self.heard.add(sequence)
        return True


near = st.integers(1, 3 * WIDTH)
far = st.integers((1 << 64) - 3 * WIDTH, (1 << 64) - 1)


@given(st.lists(near | near | near | far, max_size=200))
@example([1, 1024, 1025, 1, 2, 2, 1024])
@example([(1 << 64) - 1, 1, (1 << 64) - 1024, (1 << 64) - 1025])
@settings(max_examples=300, deadline=None)
def test_the_window_is_the_set_of_what_was_heard(sequences: list[int]) -> None:
    window, slow = ReplayWindow(), SlowWindow()
    for sequence in sequences:
        assert window.admit(sequence) == slow.admit(sequence), sequence


def test_exactly_1024_numbers_may_come_in_any_order() -> None:
    window = ReplayWindow()
    assert window.admit(5000)
    assert all(window.admit(number) for number in range(5000 - 1023, 5000))
    assert not window.admit(5000 - 1024)
    assert not any(window.admit(number) for number in range(5000 - 1023, 5001))


def test_a_huge_jump_costs_nothing() -> None:
    window = ReplayWindow()
    window.admit(1)
    assert window.admit((1 << 64) - 1)
    assert not window.admit(1)


def test_two_paths_deliver_each_number_once() -> None:
    guard = SenderGuard()
    assert guard.judge(NEW, 1, "a") is None
    assert guard.judge(NEW, 1, "b") is ChannelDiscard.COPY
    assert guard.judge(NEW, 3, "b") is None
    assert guard.judge(NEW, 2, "b") is None
    assert guard.judge(NEW, 3, "a") is ChannelDiscard.COPY
    assert guard.judge(NEW, 2, "a") is ChannelDiscard.COPY


def test_the_same_path_twice_is_a_replay() -> None:
    guard = SenderGuard()
    guard.judge(NEW, 1, "a")
    assert guard.judge(NEW, 1, "a") is ChannelDiscard.REPLAY
    assert guard.judge(NEW, 1, "b") is ChannelDiscard.COPY
    assert guard.judge(NEW, 1, "b") is ChannelDiscard.REPLAY


def test_what_is_older_than_the_window_is_a_replay_on_every_path() -> None:
    guard = SenderGuard()
    guard.judge(NEW, 1, "a")
    guard.judge(NEW, 1 + WIDTH, "a")
    assert guard.judge(NEW, 1, "b") is ChannelDiscard.REPLAY


def test_a_newer_incarnation_starts_anew_and_ends_the_older_one() -> None:
    guard = SenderGuard()
    assert guard.judge(OLD, 50, "a") is None
    assert guard.judge(NEW, 1, "a") is None
    assert guard.judge(OLD, 51, "a") is ChannelDiscard.OLD_INCARNATION
    assert guard.judge(OLD, 20, "a") is ChannelDiscard.OLD_INCARNATION
    assert guard.judge(NEW, 2, "a") is None


def test_an_incarnation_that_was_never_heard_is_old_too() -> None:
    guard = SenderGuard()
    guard.judge(NEW, 1, "a")
    for number in range(1, 10):
        guard.judge(NEW, 1 + number, "a")
        assert guard.judge(OLD, number, "a") is ChannelDiscard.OLD_INCARNATION


def test_the_same_incarnation_with_another_nonce_is_a_duplicate_node() -> None:
    guard = SenderGuard()
    guard.judge(NEW, 1, "a")
    assert guard.judge(TWIN, 2, "a") is ChannelDiscard.DUPLICATE_NODE
    assert guard.judge(NEW, 2, "a") is None


def test_two_lives_in_turn_are_a_duplicate_node() -> None:
    guard = SenderGuard()
    guard.judge(OLD, 10, "a")
    verdicts = []
    for turn in range(1, TURNS + 3):
        assert guard.judge(NEW, turn, "a") is None
        verdicts.append(guard.judge(OLD, 10 + turn, "a"))
    first = [ChannelDiscard.OLD_INCARNATION] * (TURNS - 1)
    assert verdicts == first + [ChannelDiscard.DUPLICATE_NODE] * 3


def test_what_was_on_its_way_when_its_sender_died_is_no_duplicate_node() -> None:
    guard = SenderGuard()
    guard.judge(OLD, 10, "a")
    guard.judge(NEW, 1, "a")
    late = [guard.judge(OLD, number, "a") for number in range(11, 60)]
    assert set(late) == {ChannelDiscard.OLD_INCARNATION}


def test_recordings_of_an_old_life_are_no_duplicate_node() -> None:
    guard = SenderGuard()
    for number in range(1, 51):
        guard.judge(OLD, number, "a")
    for number in range(1, 51):
        assert guard.judge(NEW, number, "a") is None
        assert guard.judge(OLD, number, "a") is ChannelDiscard.OLD_INCARNATION


def test_after_its_tombstone_a_life_has_nothing_new_to_say() -> None:
    guard = SenderGuard()
    guard.judge(OLD, 10, "a")
    assert guard.judge(OLD, (1 << 64) - 1, "a") is None
    assert guard.judge(OLD, 11, "a") is ChannelDiscard.REPLAY
    for number in range(1, 10):
        assert guard.judge(NEW, number, "a") is None
        assert guard.judge(OLD, 11 + number, "a") is ChannelDiscard.OLD_INCARNATION
