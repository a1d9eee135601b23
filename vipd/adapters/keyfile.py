"""The key file of the cluster: the secret that proves who belongs to it.

One or two lines, each a key of 32 bytes in hexadecimal. The first one signs, both verify: while a
key is being replaced, members with the old and the new file understand each other.

Whoever can read the file can speak for every member, and whoever can write it decides who is one.
So it is refused unless it belongs to root or to the user that reads it, and nobody else may read or
write it. What is judged is the very file that is read, not what its name led to a moment ago.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

from vipd.errors import AdapterError

KEY_LENGTH = 32
MOST_KEYS = 2

_MODE = 0o600
_LARGEST = 4096  # more than any two keys
_KEY = re.compile(r"[0-9a-fA-F]{64}")


class KeyFileRefused(AdapterError):
    """The key file cannot be used; the message says why, and what to do about it."""


def new_key() -> bytes:
    return secrets.token_bytes(KEY_LENGTH)


def read_keys(path: Path) -> tuple[bytes, ...]:
    """One or two keys, the signing one first. Raises KeyFileRefused."""
    try:
        # NONBLOCK: a FIFO in the place of the file must not stop the daemon.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        cure = f"make one with 'vipd keygen {path}' and copy it to every member"
        raise KeyFileRefused(f"{path} is not there; {cure}", error.errno or 0) from error
    except OSError as error:
        raise KeyFileRefused(f"{path}: {error.strerror}", error.errno or 0) from error
    try:
        _judge(path, os.fstat(descriptor))
        return _parse(path, os.read(descriptor, _LARGEST))
    finally:
        os.close(descriptor)


def _judge(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise KeyFileRefused(f"{path} is no regular file; name the file that holds the key")
    if found.st_uid not in (0, os.geteuid()):
        raise KeyFileRefused(
            f"{path} belongs to user {found.st_uid}, who could change it; 'chown root {path}'"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & ~_MODE:
        raise KeyFileRefused(
            f"{path} has mode {mode:04o}: the key is a secret; 'chmod 600 {path}', and if others "
            "may have read it, replace the key"
        )


def _parse(path: Path, data: bytes) -> tuple[bytes, ...]:
    lines = data.decode("ascii", errors="replace").split()
    if not 1 <= len(lines) <= MOST_KEYS:
        raise KeyFileRefused(
            f"{path} must hold one key, or two while one is being replaced, each on a line; "
            f"make one with 'vipd keygen --force {path}'"
        )
    for number, line in enumerate(lines, 1):
        if not _KEY.fullmatch(line):
            raise KeyFileRefused(
                f"{path}, line {number}: a key is 64 hexadecimal digits; copy the file again, or "
                f"make a new one with 'vipd keygen --force {path}'"
            )
    keys = tuple(bytes.fromhex(line) for line in lines)
    if len(set(keys)) < len(keys):
        raise KeyFileRefused(f"{path} holds the same key twice; remove one of its lines")
    return keys


def write_keys(path: Path, keys: tuple[bytes, ...], *, replace: bool) -> None:
    """Write ``keys``; the file is there with all of them or not at all, also after a power cut.

    Raises KeyFileRefused, also when there is a file and ``replace`` is false.
    """
    try:
        _write(path, "".join(f"{key.hex()}\n" for key in keys).encode(), replace=replace)
    except FileExistsError as error:
        cure = "use --force if no member needs that key any more, or --rotate to replace it"
        raise KeyFileRefused(f"{path} is there already; {cure}", error.errno or 0) from error
    except FileNotFoundError as error:
        raise KeyFileRefused(
            f"{path}: its directory is not there; 'mkdir -p {path.parent}'", error.errno or 0
        ) from error
    except OSError as error:
        raise KeyFileRefused(f"{path}: {error.strerror}", error.errno or 0) from error


def _write(path: Path, data: bytes, *, replace: bool) -> None:
    target = path.resolve() if replace else path
    draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, _MODE)  # whatever the umask takes away
            os.fsync(descriptor)
        if replace:
            os.rename(draft, target)
        else:
            os.link(draft, target)  # unlike rename it fails where there is a file
    finally:
        draft.unlink(missing_ok=True)
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
