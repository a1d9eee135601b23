"""One life of an engine after another: numbers grow, and no disk stops or delays them."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vipd.adapters import identity
from vipd.adapters.identity import FILE_NAME, Identities

NOW = 1_700_000_000
PATIENCE_S = 10.0


class Clock:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOW + 0.9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def kept(folder: Path) -> str:
    return (folder / FILE_NAME).read_text()


def lives(folder: Path, clock: Clock, limit_s: float = PATIENCE_S) -> Identities:
    """Those of a supervisor that just started. The disk is waited for, as long as it takes."""
    return Identities(folder, clock, limit_s)


def settle(drawn: Identities) -> None:
    """Until the attempt of the moment is over."""
    attempt = drawn._attempt
    assert attempt is not None
    attempt.wait(PATIENCE_S)
    assert attempt.is_over


# --- a life --------------------------------------------------------------------------------------


def test_a_first_life_counts_from_the_clock_and_is_kept(tmp_path: Path, clock: Clock) -> None:
    drawn = lives(tmp_path, clock)
    life = drawn.draw("lb1")
    assert (life.owner.node, life.owner.incarnation, life.kept) == ("lb1", NOW, "")
    assert kept(tmp_path) == f"{NOW}\n"
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert drawn.not_kept() is None


def test_lives_grow_within_a_second_and_over_a_restart(tmp_path: Path, clock: Clock) -> None:
    drawn = lives(tmp_path, clock)
    numbers = [drawn.draw("lb1").owner.incarnation for _ in range(3)]
    assert numbers == [NOW, NOW + 1, NOW + 2]
    assert lives(tmp_path, clock).draw("lb1").owner.incarnation == NOW + 3
    clock.now += 1000
    assert lives(tmp_path, clock).draw("lb1").owner.incarnation == NOW + 1000


def test_a_clock_that_is_set_back_does_not_set_lives_back(tmp_path: Path, clock: Clock) -> None:
    lives(tmp_path, clock).draw("lb1")
    clock.now = -5.0
    assert lives(tmp_path, clock).draw("lb1").owner.incarnation == NOW + 1


def test_a_host_without_clock_and_file_begins_with_one(tmp_path: Path, clock: Clock) -> None:
    clock.now = 0.0
    assert lives(tmp_path, clock).draw("lb1").owner.incarnation == 1


def test_a_power_cut_leaves_the_old_number_or_the_new_one(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new number is on the disk before it has the name, and the name before the engine runs."""
    (tmp_path / FILE_NAME).write_text("7\n")
    synced: list[tuple[bool, str]] = []

    def fsync(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), kept(tmp_path)))

    monkeypatch.setattr(identity.os, "fsync", fsync)
    lives(tmp_path, clock).draw("lb1")
    assert synced == [(False, "7\n"), (True, f"{NOW}\n")]


def test_nonce_and_seed_are_drawn_anew(tmp_path: Path, clock: Clock) -> None:
    drawn = lives(tmp_path, clock)
    one, two = drawn.draw("lb1"), drawn.draw("lb1")
    assert one.owner.nonce != two.owner.nonce
    assert one.seed != two.seed
    assert {len(one.seed), len(two.seed)} == {32}
    assert max(one.owner.nonce, two.owner.nonce).bit_length() > 32  # 64 bits: else one in 2**64
    assert repr(one.seed) not in repr(one)


# --- a file that is no use -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"", b"x\n", b"-5\n", b"1 2\n", b"\xff\xfe", b"9" * 31, b"1" * 4096, b"%d\n" % 2**63],
)
def test_a_damaged_file_is_said_and_replaced(tmp_path: Path, clock: Clock, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    drawn = lives(tmp_path, clock)
    life = drawn.draw("lb1")
    assert life.owner.incarnation == NOW
    assert "was damaged" in life.kept
    assert drawn.not_kept() is None
    assert kept(tmp_path) == f"{NOW}\n"
    assert drawn.draw("lb1").kept == ""


def test_a_pipe_in_the_place_of_the_file_is_damage(tmp_path: Path, clock: Clock) -> None:
    os.mkfifo(tmp_path / FILE_NAME)
    os.mkfifo(tmp_path / f"{FILE_NAME}.new")
    assert "was damaged" in lives(tmp_path, clock).draw("lb1").kept
    assert kept(tmp_path) == f"{NOW}\n"


def test_what_a_crash_left_half_written_is_no_hindrance(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / FILE_NAME).write_text(f"{NOW + 7}\n")
    (tmp_path / f"{FILE_NAME}.new").write_text("17")
    life = lives(tmp_path, clock).draw("lb1")
    assert (life.owner.incarnation, life.kept) == (NOW + 8, "")
    assert kept(tmp_path) == f"{NOW + 8}\n"


# --- a disk that is no use -----------------------------------------------------------------------


def refusing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(identity.os, "fsync", refuse)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_stops_nothing_and_is_tried_again(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / FILE_NAME).write_text(f"{NOW + 7}\n")
    drawn = lives(tmp_path, clock)
    with monkeypatch.context() as patch:
        refusing(patch, number)
        life = drawn.draw("lb1")
        assert life.owner.incarnation == NOW + 8  # it could be read
        assert os.strerror(number) in life.kept
        assert str(tmp_path / FILE_NAME) in life.kept
        assert kept(tmp_path) == f"{NOW + 7}\n"
        assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
        assert os.strerror(number) in (drawn.not_kept() or "")
        settle(drawn)
        assert drawn.draw("lb1").owner.incarnation == NOW + 9
    assert os.strerror(number) in (drawn.not_kept() or "")
    settle(drawn)
    assert drawn.not_kept() is None
    assert kept(tmp_path) == f"{NOW + 9}\n"  # the life that runs, no other one


def test_without_its_directory(tmp_path: Path, clock: Clock) -> None:
    drawn = lives(tmp_path / "absent", clock)
    life = drawn.draw("lb1")
    assert life.owner.incarnation == NOW
    assert "No such file or directory" in life.kept
    (tmp_path / "absent").mkdir()
    drawn.not_kept()
    settle(drawn)
    assert drawn.not_kept() is None
    assert kept(tmp_path / "absent") == f"{NOW}\n"


def test_without_room_for_a_thread(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    drawn = lives(tmp_path, clock)
    with monkeypatch.context() as patch:
        patch.setattr(identity.threading.Thread, "start", refuse)
        life = drawn.draw("lb1")
    assert life.owner.incarnation == NOW
    assert "can't start new thread" in life.kept
    drawn.not_kept()
    settle(drawn)
    assert drawn.not_kept() is None


class Hanging:
    """A system call that hangs until it is let go."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str) -> None:
        self.calls = 0
        self.is_hanging = threading.Event()
        self._let_go = threading.Event()
        self._real = getattr(os, name)
        patch.setattr(identity.os, name, self._hang)

    def _hang(self, *arguments: object) -> object:
        self.calls += 1
        self.is_hanging.set()
        self._let_go.wait(PATIENCE_S)
        return self._real(*arguments)

    def let_go(self) -> None:
        self._let_go.set()


@pytest.fixture
def hanging_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    hanging = Hanging(monkeypatch, "read")
    yield hanging
    hanging.let_go()


@pytest.fixture
def hanging_fsync(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    hanging = Hanging(monkeypatch, "fsync")
    yield hanging
    hanging.let_go()


def test_a_disk_that_hangs_is_waited_for_and_left(
    tmp_path: Path, clock: Clock, hanging_fsync: Hanging
) -> None:
    drawn = Identities(tmp_path, clock)
    begin = time.monotonic()
    life = drawn.draw("lb1")
    took_s = time.monotonic() - begin
    assert identity.LIMIT_S * 0.9 < took_s < PATIENCE_S / 2
    assert life.owner.incarnation == NOW
    assert "the disk does not answer" in life.kept
    hanging_fsync.let_go()
    settle(drawn)
    assert drawn.not_kept() is None
    assert kept(tmp_path) == f"{NOW}\n"


def test_lives_grow_while_the_disk_hangs_and_threads_do_not_pile_up(
    tmp_path: Path, clock: Clock, hanging_fsync: Hanging
) -> None:
    drawn = lives(tmp_path, clock, 0.01)
    assert [drawn.draw("lb1").owner.incarnation for _ in range(3)] == [NOW, NOW + 1, NOW + 2]
    assert "does not answer" in (drawn.not_kept() or "")
    assert hanging_fsync.is_hanging.wait(PATIENCE_S)
    assert hanging_fsync.calls == 1
    hanging_fsync.let_go()
    settle(drawn)
    assert "too late" in (drawn.not_kept() or "")  # the first of them was written
    settle(drawn)
    assert drawn.not_kept() is None
    assert kept(tmp_path) == f"{NOW + 2}\n"


def test_a_number_that_was_read_in_time_counts_although_the_write_hangs(
    tmp_path: Path, clock: Clock, hanging_fsync: Hanging
) -> None:
    (tmp_path / FILE_NAME).write_text(f"{NOW + 7}\n")
    assert lives(tmp_path, clock, 1.0).draw("lb1").owner.incarnation == NOW + 8


def test_a_number_that_was_read_too_late_and_is_higher_stays_an_alarm(
    tmp_path: Path, clock: Clock, hanging_read: Hanging
) -> None:
    """Only with a clock that was set back: peers may discard what this engine says."""
    (tmp_path / FILE_NAME).write_text(f"{NOW + 7}\n")
    drawn = lives(tmp_path, clock, 0.01)
    assert drawn.draw("lb1").owner.incarnation == NOW
    hanging_read.let_go()
    settle(drawn)
    for _ in range(3):
        assert f"holds {NOW + 8}, and the engine runs as {NOW}" in (drawn.not_kept() or "")
        settle(drawn)
    drawn._limit_s = PATIENCE_S
    assert drawn.draw("lb1").owner.incarnation == NOW + 9
    assert drawn.not_kept() is None
