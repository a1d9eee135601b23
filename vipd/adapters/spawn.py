"""Starts a program of the operator's, with nothing of ours but what it is given.

What the program gets
---------------------
* **Identity**: user, group and supplementary groups of the account; no inheritable and no ambient
  capability. A program that runs as another user than root has no capability at all.
* **Descriptors**: 0 is /dev/null, 1 and 2 are the given one; none besides.
* **Signals**: default dispositions, empty mask; its own session, which it leads.
* **Rank**: an ordinary process: neither spared by the memory killer nor first in line, as vipd is.
* **End**: when vipd is killed, the kernel kills it (PR_SET_PDEATHSIG), so a script whose end nobody
  would see does not go on. Its own children are not covered: see ``session``.

How
---
``posix_spawn`` of ``setpriv`` (util-linux), which takes the privileges away and becomes the
program. ``subprocess`` with ``user=`` must fork: with 76 MiB in use it was measured at 2.9 ms per
run, 1.3 ms of them in our own loop, against 1.6 ms and 0.15 ms this way (0.6 ms without setpriv).
Where vipd is spared by the memory killer, ``choom`` comes first (0.5 ms), and ``nice`` where vipd
goes before others: to change this from outside we would have to be faster than the program.

A program whose start must be on record before it does anything is held behind a *gate*: a shell
with a fixed text that waits for a line and then becomes the next program. Without it a slow moment
between start and record, ended by kill -9, leaves a process that nobody knows (the torture test of
hooks found one in a few dozen kills).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import pwd
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vipd.errors import AdapterError, PermissionMissing

_SETPRIV = "/usr/bin/setpriv"
_CHOOM = "/usr/bin/choom"
_NICE = "/usr/bin/nice"
_GATE = ("/bin/sh", "-c", 'read -r _ && exec "$@" </dev/null', "gate")
"""Goes on when a line arrives, and not at all when the other end is closed before."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CLOSE_RANGE_CLOEXEC = 4
_FIRST_FOREIGN_FD = 3
_LAST_FD = 0xFFFFFFFF
_SIGNALS = tuple(int(number) for number in signal.valid_signals())
"""Made once: making them takes longer than starting a program."""

BELIEVED_S = 5.0

_libc = ctypes.CDLL(None, use_errno=True)
_accounts: dict[tuple[int, str | None], tuple[Account, float]] = {}


@dataclass(frozen=True, slots=True)
class Account:
    """Who a program runs as."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def account_of(user: str | None) -> Account:
    """The account of ``user``, None for our own. Raises AdapterError.

    PermissionMissing, where only root could become that user. What is found is believed for
    ``BELIEVED_S``: two hundred checks a second shall not read the user database four hundred times.
    """
    own, now = os.geteuid(), time.monotonic()
    known = _accounts.get((own, user))
    if known is not None and now < known[1]:
        return known[0]
    account = _look_up(user, own)
    _accounts[own, user] = (account, now + BELIEVED_S)
    return account


def _look_up(user: str | None, own: int) -> Account:
    try:
        entry = pwd.getpwuid(own) if user is None else pwd.getpwnam(user)
    except KeyError:
        who = f"the user {user}" if user is not None else f"the user of number {own}"
        raise AdapterError(f"{who} does not exist") from None
    if own not in (0, entry.pw_uid):
        raise PermissionMissing(f"only root can start a program as {entry.pw_name}")
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)


def start(
    command: Sequence[str],
    account: Account,
    environment: Mapping[str, str],
    output: int,
    gate: int | None = None,
) -> int:
    """Start ``command``; returns its process id, which is also its session and group.

    With a ``gate``, the reading end of a pipe, it begins when a line arrives there.

    That the program itself cannot be run shows in its exit status (126, 127) and output only.
    Raises AdapterError.
    """
    _keep_descriptors()
    clean = {
        "PATH": _PATH,
        "LANG": "C.UTF-8",
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        **environment,
    }
    resets = os.sched_getscheduler(0) & os.SCHED_RESET_ON_FORK  # then children begin at 0
    nice = 0 if resets else os.getpriority(os.PRIO_PROCESS, 0)
    chain = [*renouncing(account, _oom_score_adj(), nice), *command]
    if gate is not None:
        chain = [*_GATE, *chain]
    try:
        pid = os.posix_spawn(
            chain[0],
            chain,
            clean,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
                if gate is None
                else (os.POSIX_SPAWN_DUP2, gate, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_SIGNALS,
        )
    except FileNotFoundError as error:
        cure = "install util-linux"
        raise AdapterError(f"{chain[0]} is missing; {cure}", error.errno or 0) from error
    except OSError as error:
        message = f"starting {command[0]}: {error.strerror}"
        raise AdapterError(message, error.errno or 0) from error
    return pid


def renouncing(account: Account, oom_score_adj: int, nice: int) -> list[str]:
    """The programs that take away, one after the other, what the last one must not have."""
    chain = [_CHOOM, "-n", "0", "--"] if oom_score_adj < 0 else []
    chain += [_NICE, "-n", str(-nice)] if nice < 0 else []
    chain += [_SETPRIV, "--inh-caps=-all", "--ambient-caps=-all", "--pdeathsig=KILL"]
    if os.geteuid() == 0:
        groups = ",".join(map(str, account.groups))
        chain += [f"--reuid={account.uid}", f"--regid={account.gid}", f"--groups={groups}"]
    return [*chain, "--"]


def _keep_descriptors() -> None:
    """Ours are closed on exec by default; those that we were started with, from here on."""
    if _libc.close_range(_FIRST_FOREIGN_FD, _LAST_FD, _CLOSE_RANGE_CLOEXEC) == 0:
        return
    for name in os.listdir("/proc/self/fd"):  # a kernel before 5.11
        with contextlib.suppress(OSError):  # the descriptor that listed the directory
            if int(name) >= _FIRST_FOREIGN_FD:
                os.set_inheritable(int(name), False)


@functools.cache
def _oom_score_adj() -> int:
    """Ours since the start: nobody changes it while we run."""
    with open("/proc/self/oom_score_adj", "rb") as file:
        return int(file.read())
