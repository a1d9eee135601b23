"""``vipd keygen`` and the key file: made, replaced step by step, refused where it is no secret."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import vipd
from vipd.adapters.keyfile import KeyFileRefused, new_key, read_keys, write_keys

OLD, NEW = b"\x11" * 32, b"\x22" * 32


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cluster.key"


def made(file: Path, *options: str) -> tuple[bytes, ...]:
    """The keys after ``vipd keygen`` with these options."""
    result = vipd("keygen", *options, file)
    assert (result.returncode, result.stderr) == (0, "")
    assert str(file) in result.stdout
    for key in read_keys(file):
        assert key.hex() not in result.stdout
    assert list(file.parent.iterdir()) == [file]
    return read_keys(file)


def refused(file: Path, *options: str) -> str:
    """What ``vipd keygen`` says when it refuses; the file is as it was."""
    before = file.read_bytes() if file.exists() else None
    result = vipd("keygen", *options, file)
    assert (result.returncode, result.stdout) == (1, "")
    assert (file.read_bytes() if file.exists() else None) == before
    return result.stderr


# --- vipd keygen ----------------------------------------------------------------------------------


def test_a_new_key_is_32_random_bytes_that_only_its_owner_may_read(file: Path) -> None:
    (key,) = made(file)
    found = file.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.geteuid())
    assert re.fullmatch(r"[0-9a-f]{64}\n", file.read_text())
    assert made(file, "--force") != (key,)


def test_a_key_is_never_overwritten_by_accident(file: Path) -> None:
    made(file)
    assert "--force" in refused(file)


def test_the_three_steps_of_a_replacement(file: Path) -> None:
    (old,) = made(file)
    (first, new) = made(file, "--add")
    assert first == old
    assert new != old
    assert made(file, "--swap") == (new, old)
    assert made(file, "--retire") == (new,)


def test_at_every_step_all_members_understand_each_other_if_one_is_a_step_behind(
    file: Path,
) -> None:
    keys = made(file)
    for step in ("--add", "--swap", "--retire"):
        before, keys = keys, made(file, step)
        assert keys[0] in before
        assert before[0] in keys


def test_rotate_puts_a_new_key_in_front(file: Path) -> None:
    (old,) = made(file)
    (newer, kept) = made(file, "--rotate")
    assert kept == old
    assert made(file, "--rotate")[1] == newer


def test_steps_that_do_not_fit_are_refused(file: Path) -> None:
    assert "vipd keygen" in refused(file, "--add")
    made(file)
    assert "--add" in refused(file, "--swap")
    assert "--add" in refused(file, "--retire")
    made(file, "--add")
    assert "--retire" in refused(file, "--add")


def test_two_steps_at_once_are_bad_usage(file: Path) -> None:
    assert vipd("keygen", "--add", "--swap", file).returncode == 2
    assert not file.exists()


def test_a_step_does_not_touch_a_file_that_is_no_secret(file: Path) -> None:
    made(file)
    file.chmod(0o644)
    assert "chmod 600" in refused(file, "--rotate")


def test_a_missing_directory_is_named_with_its_cure(tmp_path: Path) -> None:
    file = tmp_path / "no" / "cluster.key"
    assert f"mkdir -p {file.parent}" in refused(file)


# --- reading --------------------------------------------------------------------------------------


def complaint(file: Path) -> str:
    with pytest.raises(KeyFileRefused) as caught:
        read_keys(file)
    return str(caught.value)


def written(file: Path, text: str, mode: int = 0o600) -> Path:
    file.write_text(text)
    file.chmod(mode)
    return file


def test_one_or_two_keys_are_read_the_signing_one_first(file: Path) -> None:
    assert read_keys(written(file, f"{OLD.hex()}\n")) == (OLD,)
    assert read_keys(written(file, f"{NEW.hex().upper()}\n{OLD.hex()}\n", 0o400)) == (NEW, OLD)
    assert read_keys(written(file, f"{OLD.hex()}\r\n\r\n{NEW.hex()}")) == (OLD, NEW)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "one key, or two"),
        (f"{OLD.hex()}\n" * 3, "one key, or two"),
        (f"{OLD.hex()}\n" * 2, "the same key twice"),
        (f"{OLD.hex()}\n{OLD.hex().upper()}\n", "the same key twice"),
        (f"{NEW.hex()}\n{OLD.hex()[:-1]}\n", "line 2: a key is 64 hexadecimal digits"),
        (f"{NEW.hex()}0\n", "line 1"),
        ("g" * 64, "line 1"),
        ("é" * 64, "line 1"),
        ("0" * 100_000, "line 1"),
    ],
)
def test_what_is_no_key_is_refused_without_being_shown(file: Path, text: str, words: str) -> None:
    said = complaint(written(file, text))
    assert words in said
    assert str(file) in said
    assert NEW.hex() not in said


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o700, 0o601])
def test_a_file_that_others_may_touch_is_refused(file: Path, mode: int) -> None:
    said = complaint(written(file, OLD.hex(), mode))
    assert f"mode {mode:04o}" in said
    assert f"chmod 600 {file}" in said


def test_a_file_of_another_user_is_refused(file: Path) -> None:
    os.chown(written(file, OLD.hex()), 12345, 12345)
    said = complaint(file)
    assert "user 12345" in said
    assert f"chown root {file}" in said


def test_a_missing_file_names_the_command_that_makes_one(file: Path) -> None:
    assert f"vipd keygen {file}" in complaint(file)


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path, file: Path) -> None:
    os.mkfifo(file, 0o600)
    assert "no regular file" in complaint(file)
    assert "no regular file" in complaint(tmp_path)


def test_the_file_behind_a_link_is_judged(tmp_path: Path, file: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(written(file, OLD.hex(), 0o644))
    assert "mode 0644" in complaint(link)
    file.chmod(0o600)
    assert read_keys(link) == (OLD,)


# --- writing --------------------------------------------------------------------------------------


def test_a_link_is_written_through(tmp_path: Path, file: Path) -> None:
    write_keys(file, (OLD,), replace=False)
    link = tmp_path / "link"
    link.symlink_to(file)
    write_keys(link, (NEW, OLD), replace=True)
    assert link.is_symlink()
    assert read_keys(file) == (NEW, OLD)


def test_the_mode_does_not_depend_on_the_umask(file: Path) -> None:
    before = os.umask(0o777)
    try:
        write_keys(file, (OLD,), replace=False)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_without_replace_a_file_stays_as_it_is(file: Path) -> None:
    write_keys(file, (OLD,), replace=False)
    with pytest.raises(KeyFileRefused):
        write_keys(file, (NEW,), replace=False)
    assert read_keys(file) == (OLD,)
    assert list(file.parent.iterdir()) == [file]


def test_no_two_keys_are_alike() -> None:
    assert len({new_key() for _ in range(100)}) == 100
