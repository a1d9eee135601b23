"""The log's descriptor: lines are written whole, or dropped and counted, and never waited for."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest

from vipd.supervisor.log import Stream

PAGE = 4096
LONG = "x" * (3 * PAGE) + "\n"

pytestmark = pytest.mark.timeout(10)  # a write that waits for room waits for ever


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Reader and writer of a pipe with room for two pages."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 2 * PAGE)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_a_line_longer_than_the_room_is_broken_off_and_counted(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    stream = Stream(writer)
    stream.write(LONG)
    assert stream.lost == 1
    assert os.read(reader, 8 * PAGE) == b"x" * (2 * PAGE)
    stream.write("next\n")
    assert os.read(reader, PAGE) == b"\nnext\n"
    assert stream.lost == 1


def test_without_room_a_line_is_lost_as_a_whole(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, bytes(2 * PAGE))
    stream = Stream(writer)
    stream.write("lost\n")
    assert stream.lost == 1
    os.read(reader, 2 * PAGE)
    stream.write("next\n")
    assert os.read(reader, PAGE) == b"next\n"


def test_a_long_line_with_room_is_whole() -> None:
    reader, writer = os.pipe()
    stream = Stream(writer)
    stream.write(LONG)
    assert os.read(reader, 8 * PAGE) == LONG.encode()
    assert stream.lost == 0
    os.close(reader)
    stream.write("nobody\n")
    assert stream.lost == 1
    os.close(writer)
