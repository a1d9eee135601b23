"""May root run this program? Whoever can change what a path leads to decides what root runs.

A path is safe when root alone can change what it leads to. It is walked from ``/`` component by
component, as the kernel walks it: a symbolic link is judged itself (its owner can replace it), and
so is every directory on the way to it and to its target. Each component must

* belong to root, and
* not be writable by its group or by others. The sticky bit lifts this for directories: there only
  the owner of an entry, or of the directory, can replace the entry, and the entry is judged too.
  An access list needs no look of its own: its mask shows in the bits of the group.

The program must be a regular file that root may execute. A script hands its text to the interpreter
named in its first line, so that path is judged by the same rules.

What lies behind a safe path only root can change, so nothing can be exchanged between judging
and running. What this cannot see: files named by arguments (``/bin/sh /tmp/x``), and what the
program itself reads.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections import deque

_MOST_LINKS = 40  # as the kernel
_MOST_INTERPRETERS = 4  # as the kernel
_FIRST_LINE = 256  # the kernel reads no more
_MOST_BEGINNINGS = 1000

_beginnings: dict[str, tuple[tuple[int, ...], bytes]] = {}


def untrusted_component(program: str) -> str | None:
    """Names the component because of which root must not run ``program``; None: root may."""
    path = program
    for _ in range(_MOST_INTERPRETERS):
        fault = _judge_path(path)
        if fault is not None:
            return fault
        interpreter = _interpreter_of(path)
        if interpreter is None:
            return None
        if not interpreter.startswith("/"):
            return f"{path} names the interpreter {interpreter!r}, which is no absolute path"
        path = interpreter
    return f"{program} has too many interpreters one after the other"


def _judge_path(path: str) -> str | None:
    if not path.startswith("/"):
        return f"{path} is no absolute path"
    return _judge_component("/", os.lstat("/")) or _walk(path)


def _walk(path: str) -> str | None:
    reached, links = "/", 0
    rest = deque(_components(path))
    while rest:
        name = rest.popleft()
        if name == "..":
            reached = os.path.dirname(reached)  # judged on the way here
            continue
        here = os.path.join(reached, name)
        try:
            found = os.lstat(here)
            target = os.readlink(here) if stat.S_ISLNK(found.st_mode) else None
        except OSError as error:
            return f"{here}: {error.strerror}"
        fault = _judge_component(here, found)
        if fault is not None:
            return fault
        if target is None:
            reached = here
            continue
        links += 1
        if links > _MOST_LINKS:
            return f"{path} leads through too many symbolic links"
        if target.startswith("/"):
            reached = "/"
        rest.extendleft(reversed(_components(target)))
    return _judge_program(reached)


def _components(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _judge_component(path: str, found: os.stat_result) -> str | None:
    if found.st_uid != 0:
        return f"{path} belongs to {_user(found.st_uid)}, not to root"
    if stat.S_ISLNK(found.st_mode):
        return None  # the bits of a link mean nothing
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
        return None
    if found.st_mode & stat.S_IWOTH:
        return f"{path} is writable by everybody"
    if found.st_mode & stat.S_IWGRP:
        return f"{path} is writable by the group {_group(found.st_gid)}"
    return None


def _judge_program(path: str) -> str | None:
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        return f"{path}: {error.strerror}"
    if not stat.S_ISREG(mode):
        return f"{path} is no regular file"
    if not mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH):
        return f"{path} is not executable"
    return None


def first_bytes(path: str) -> bytes:
    """How the file begins; read again only when it is another one. Raises OSError."""
    found = os.stat(path)
    mark = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    known = _beginnings.get(path)
    if known is not None and known[0] == mark:
        return known[1]
    with open(path, "rb") as file:
        start = file.read(_FIRST_LINE)
    if len(_beginnings) >= _MOST_BEGINNINGS:
        _beginnings.clear()
    _beginnings[path] = (mark, start)
    return start


def _interpreter_of(path: str) -> str | None:
    """The program in a ``#!`` line; None for a binary."""
    try:
        start = first_bytes(path)
    except OSError:
        return None  # a binary may be unreadable; a script whose interpreter cannot read it fails
    if not start.startswith(b"#!"):
        return None
    words = start[2:].split(b"\n", 1)[0].split()
    return os.fsdecode(words[0]) if words else None


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"gid {gid}"
