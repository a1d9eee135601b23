"""The page of the last will: whatever interrupts its writer, a reader finds a whole will."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipd.adapters.page import create_page, find_page
from vipd.errors import AdapterError
from vipd.members import Owner
from vipd.will import (
    FILE_NAME,
    PAGE_SIZE,
    SLOT_SIZE,
    Goodbye,
    Page,
    Tombstone,
    Will,
    decode_will,
    encode_will,
)

OWNER = Owner("lb1", 1_700_000_000, 2**64 - 1)
V4 = (bytes((192, 0, 2, 11)), bytes((192, 0, 2, 12)))
V6 = (bytes(15) + b"\x01", bytes(15) + b"\x02")
STONE = Tombstone("lb2", (V4, V6), 3112, b"a tombstone")
GOODBYE = Goodbye("web", 7, V4[0], bytes((224, 0, 0, 18)), b"priority 0", 2_000_000_000)
WILL = Will((STONE, replace(STONE, to="lb3")), (GOODBYE,))
OTHER = Will((replace(STONE, datagram=b"another"),), (GOODBYE, replace(GOODBYE, instance="api")))


def blank() -> bytearray:
    return bytearray(PAGE_SIZE)


def begun(memory: bytearray) -> Page:
    page = Page(memoryview(memory))
    page.begin(OWNER)
    return page


def reader(memory: bytes | bytearray) -> Page:
    return Page(memoryview(bytearray(memory)))


# --- bytes ------------------------------------------------------------------------------------

names = st.text(max_size=60)
octets = st.binary(max_size=40)
addresses = st.sampled_from([4, 16]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
paths = st.sampled_from([4, 16]).flatmap(
    lambda size: st.tuples(*[st.binary(min_size=size, max_size=size)] * 2)
)
tombstones = st.builds(
    Tombstone,
    names,
    st.lists(paths, max_size=5).map(tuple),
    st.integers(0, 65535),
    octets,
)
goodbyes = paths.flatmap(
    lambda path: st.builds(
        Goodbye,
        names,
        st.integers(0, 2**32 - 1),
        st.just(path[0]),
        st.just(path[1]),
        octets,
        st.integers(0, 2**63),
    )
)
wills = st.builds(
    Will, st.lists(tombstones, max_size=4).map(tuple), st.lists(goodbyes, max_size=4).map(tuple)
)


@given(wills)
def test_a_will_is_read_as_it_was_written(will: Will) -> None:
    assert decode_will(encode_will(will)) == will


@given(wills, st.integers(0, 400))
def test_a_will_that_does_not_fit_is_cut_at_its_end(will: Will, room: int) -> None:
    data = encode_will(will, max(room, 12))
    assert len(data) <= max(room, 12)
    read = decode_will(data)
    all_of = (*will.tombstones, *will.goodbyes)
    kept = (*read.tombstones, *read.goodbyes)
    assert kept == all_of[: len(kept)]
    assert read.left_out == len(all_of) - len(kept)
    if read.left_out:
        count, stones = len(kept) + 1, len(will.tombstones)
        more = Will(will.tombstones[:count], will.goodbyes[: max(0, count - stones)])
        assert len(encode_will(more)) > max(room, 12), "one more would have fitted"


@given(st.binary(max_size=200))
def test_what_is_no_will_is_refused(data: bytes) -> None:
    try:
        will = decode_will(data)
    except AdapterError:
        return
    assert encode_will(replace(will, left_out=0))[12:] == data[12:]


@pytest.mark.parametrize("change", [b"", b"\0"])
def test_a_will_of_another_length_is_refused(change: bytes) -> None:
    data = encode_will(WILL)
    with pytest.raises(AdapterError):
        decode_will(data + change if change else data[:-1])


def test_hundreds_of_units_and_three_peers_fit() -> None:
    stones = tuple(
        Tombstone(f"lb{peer}", (V4, V6, V4, V6), 3112, bytes(1200))
        for peer in range(3)
        for _part in range(15)
    )
    byes = tuple(replace(GOODBYE, instance=f"web{n}", payload=bytes(60)) for n in range(510))
    data = encode_will(Will(stones, byes))
    assert decode_will(data).left_out == 0
    assert len(data) < SLOT_SIZE / 5


# --- the page ---------------------------------------------------------------------------------


def test_a_new_life_has_nothing_to_say() -> None:
    memory = blank()
    assert reader(memory).read() is None, "nor has a file that is new"
    page = begun(memory)
    page.keep(encode_will(WILL))
    page.begin(replace(OWNER, incarnation=5))
    assert reader(memory).read() is None
    assert reader(memory).owner == Owner("lb1", 5, OWNER.nonce)


def test_the_newest_will_counts_whoever_wrote_it() -> None:
    memory = blank()
    begun(memory)
    for number in range(5):
        will = replace(WILL, tombstones=(replace(STONE, port=number),))
        Page(memoryview(memory)).keep(encode_will(will))  # a writer that knows the page only
        assert reader(memory).read() == will


def test_the_same_will_again_is_not_written() -> None:
    memory = blank()
    page = begun(memory)
    page.keep(encode_will(WILL))
    before = bytes(memory)
    page.keep(encode_will(WILL))
    assert memory == before


def test_a_writer_that_dies_at_any_byte_leaves_the_old_will_or_the_new_one() -> None:
    """Contents first, then the head of the slot; both may stop anywhere."""
    memory = blank()
    page = begun(memory)
    for old, new in ((None, WILL), (WILL, OTHER), (OTHER, WILL), (WILL, Will())):
        before = bytes(memory)
        page.keep(encode_will(new))
        changed = [at for at in range(len(memory)) if memory[at] != before[at]]
        head = [at for at in changed if (at - 4096) % SLOT_SIZE < 16]
        written = [at for at in changed if at not in head] + head
        state = bytearray(before)
        for at in written[:-1]:
            state[at] = memory[at]
            assert reader(state).read() == old
        state[written[-1]] = memory[written[-1]]
        assert reader(state).read() == new


def test_clearing_never_brings_an_older_will_back() -> None:
    """Who dies between the two steps leaves the newer one."""
    memory = blank()
    page = begun(memory)
    page.keep(encode_will(WILL))
    page.keep(encode_will(OTHER))
    found = [reader(memory).read() for _step in page.clearing()]
    assert found == [OTHER, None]


def test_a_will_after_clearing_counts() -> None:
    memory = blank()
    page = begun(memory)
    page.keep(encode_will(WILL))
    page.clear()
    page.keep(encode_will(WILL))
    assert reader(memory).read() == WILL


def test_a_page_of_another_layout_says_nothing() -> None:
    memory = blank()
    page = begun(memory)
    page.keep(encode_will(WILL))
    memory[19] += 1
    assert reader(memory).read() is None


def test_the_sign_of_life_stands_beside_the_will() -> None:
    memory = blank()
    page = begun(memory)
    page.keep(encode_will(WILL))
    other = Page(memoryview(memory))
    for instant in (1, 2**40, 2**62):
        page.live(instant)
        assert other.last_turn == instant
    assert other.read() == WILL
    page.begin(OWNER)
    assert other.last_turn == 0


# --- the file ---------------------------------------------------------------------------------


def test_the_file_outlives_who_made_it(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    made = create_page(path, PAGE_SIZE)
    page = Page(made.buffer)
    page.begin(OWNER)
    page.keep(encode_will(WILL))
    del page
    made.close()
    found = find_page(path, PAGE_SIZE)
    assert found is not None
    page = Page(found.buffer)
    assert (page.owner, page.read()) == (OWNER, WILL)
    del page
    found.close()
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_both_processes_see_what_either_writes(tmp_path: Path) -> None:
    made = create_page(tmp_path / FILE_NAME, PAGE_SIZE)
    page = Page(made.buffer)
    page.begin(OWNER)
    code = (
        "import sys; from vipd.adapters.page import inherited_page; from vipd.will import *\n"
        "page = Page(inherited_page(int(sys.argv[1]), PAGE_SIZE).buffer)\n"
        "page.live(page.last_turn + 1); page.keep(encode_will(Will((), (), 0)))"
    )
    page.live(41)
    argv = [sys.executable, "-c", code, str(made.fd)]
    subprocess.run(argv, pass_fds=(made.fd,), check=True)
    assert page.last_turn == 42
    assert page.read() == Will()
    del page
    made.close()


def test_nobody_gets_the_page_while_one_of_its_owners_lives(tmp_path: Path) -> None:
    """Also when the supervisor is gone and the engine, which inherited it, is not."""
    path = tmp_path / FILE_NAME
    made = create_page(path, PAGE_SIZE)
    heir = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        pass_fds=(made.fd,),
        stdin=subprocess.PIPE,
    )
    for attempt in (create_page, find_page):
        with pytest.raises(AdapterError) as refusal:
            attempt(path, PAGE_SIZE)
        assert refusal.value.errno == errno.EBUSY
    made.close()
    with pytest.raises(AdapterError):
        find_page(path, PAGE_SIZE)
    heir.communicate()
    found = find_page(path, PAGE_SIZE)
    assert found is not None
    found.close()


def test_a_file_of_another_size_is_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    assert find_page(path, PAGE_SIZE) is None
    path.write_bytes(b"x" * 100)
    assert find_page(path, PAGE_SIZE) is None
    made = create_page(path, PAGE_SIZE)
    assert bytes(made.buffer[:100]) == bytes(100)
    assert os.stat(path).st_blocks * 512 >= PAGE_SIZE, "no write may meet a full file system"
    made.close()


def test_a_full_file_system_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by a signal in the middle of a mastership."""

    def refuse(_fd: int, _offset: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(AdapterError) as refusal:
        create_page(tmp_path / FILE_NAME, PAGE_SIZE)
    assert refusal.value.errno == errno.ENOSPC
    assert len(os.listdir("/proc/self/fd")) == before


# --- a real writer, really killed -------------------------------------------------------------

_WRITER = """
import sys
from vipd.adapters.page import inherited_page
from vipd.will import *
page = Page(inherited_page(int(sys.argv[1]), PAGE_SIZE).buffer)
wills = [
    encode_will(Will(tuple(Tombstone("", (), 0, bytes([n]) * 60_000) for _ in range(15))))
    for n in range(5)
]
print("ready", flush=True)
while True:
    for will in wills:
        page.keep(will)
"""


def test_a_writer_that_is_killed_leaves_a_whole_will(tmp_path: Path) -> None:
    """Almost a megabyte at a time, so that most kills hit it in the middle of a copy."""
    made = create_page(tmp_path / FILE_NAME, PAGE_SIZE)
    chance, torn = random.Random(4), 0
    for _each in range(25):
        Page(made.buffer).begin(OWNER)
        argv = [sys.executable, "-c", _WRITER, str(made.fd)]
        with subprocess.Popen(argv, pass_fds=(made.fd,), stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(0.01 + chance.random() * 0.005)
            writer.kill()
        will = Page(made.buffer).read()
        assert will is not None
        assert len({each.datagram for each in will.tombstones}) == 1
        assert len(will.tombstones) == 15
        torn += 0 in [Page(made.buffer)._slot(number)[0] for number in (0, 1)]
    made.close()
    assert torn >= 5, "too few kills hit a copy to mean anything"
