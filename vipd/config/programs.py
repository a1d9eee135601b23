"""The programs of script checks and hooks, judged on the host that would run them.

Three things go wrong with scripts, and all of them can be told before the first run: there is no
such program, its user does not exist or may not reach it, or it would be run by root although
somebody else can change it. The last one is a way to become root, so it is refused (see
``vipd.adapters.trusted_path`` for the rule). The supervisor asks again before every run.

Nothing is judged when the host is not at hand: the file of another node names its programs.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Sequence
from pathlib import Path as FilePath

from vipd.adapters.trusted_path import untrusted_component
from vipd.config.context import Context
from vipd.config.yamltree import Path


def judge_user(owner: Path, user: str | None, context: Context) -> None:
    """``user`` as written at ``owner``."""
    if context.facts is not None and user is not None and _account(user) is None:
        cure = f"create it, for example with 'useradd --system {user}', or name another"
        context.fault((*owner, "user"), f"this host has no user {user}", cure)


def judge_program(path: Path, command: Sequence[str], user: str | None, context: Context) -> None:
    """The first word of the command that stands at ``path``; call it with a sound ``user`` only."""
    if context.facts is None:
        return
    program = command[0]
    trouble = _not_runnable(program)
    if trouble is not None:
        cure = f"create it, or chmod 755 {program}; write the absolute path of a program"
        context.fault(path, f"{program} {trouble}", cure)
        return
    if user is None:
        words = untrusted_component(program)
        if words is not None:
            cure = "chown root and chmod go-w it, or say with 'user:' who runs the program"
            context.fault(path, f"root would run {program}, but {words}", cure)
        return
    account = _account(user)
    barrier = _barrier(program, account) if account else None
    if barrier is not None:
        problem = f"{user} may not run {program}: the mode of {barrier} forbids it"
        context.warn(path, problem, f"chmod o+x {barrier}, or give {user} a group that may")


def _account(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return None


def _not_runnable(program: str) -> str | None:
    """Why nobody can run it. What may not be looked at is not judged: root may look."""
    try:
        mode = os.stat(program).st_mode
    except PermissionError:
        return None
    except OSError as error:
        return f"cannot be run: {error.strerror}"
    if not stat.S_ISREG(mode):
        return "is no regular file"
    if not mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH):
        return "is not executable"
    return None


def _barrier(program: str, account: pwd.struct_passwd) -> str | None:
    """The first part of the path that the user may not pass, going by the mode bits."""
    if account.pw_uid == 0:
        return None
    groups = set(os.getgrouplist(account.pw_name, account.pw_gid))
    for part in (*reversed(FilePath(program).parents), FilePath(program)):
        try:
            found = part.stat()
        except OSError:
            return None
        bit = stat.S_IXOTH
        if found.st_uid == account.pw_uid:
            bit = stat.S_IXUSR
        elif found.st_gid in groups:
            bit = stat.S_IXGRP
        if not found.st_mode & bit:
            return str(part)
    return None
