"""Anonymous network namespaces, and what is needed to make them.

A namespace is an open file of ours: it has no name, so nobody can collide with it, and it ends
with the last file or process that refers to it; a crash leaves nothing in ``/run/netns``.

Namespaces belong to *threads*. A thread that is ``inside`` a namespace creates sockets and child
processes in it; all other threads stay where they are. So no helper program is needed to start a
command in a host, and several labs may be driven from several threads.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vipd.errors import PermissionMissing

CLONE_NEWNET = 0x40000000
SELF = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)

_ADVICE = (
    "the lab builds network namespaces: run it as root, or allow unprivileged user namespaces "
    "(Ubuntu >= 23.10: sysctl kernel.apparmor_restrict_unprivileged_userns=0; "
    "elsewhere: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone)"
)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        if code == errno.EPERM:
            raise PermissionMissing(f"{name} is not permitted; {_ADVICE}", code)
        raise OSError(code, f"{name}: {os.strerror(code)}")


class Namespace:
    """One network namespace, held by a file descriptor until ``close``."""

    def __init__(self) -> None:
        home = os.open(SELF, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("unshare", CLONE_NEWNET)
            try:
                self.fd = os.open(SELF, os.O_RDONLY | os.O_CLOEXEC)
            finally:
                _call("setns", home, CLONE_NEWNET)
        finally:
            os.close(home)
        self.inode = os.fstat(self.fd).st_ino

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in this namespace; sockets and children made here belong to it."""
        home = os.open(SELF, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("setns", self.fd, CLONE_NEWNET)
            try:
                yield
            finally:
                _call("setns", home, CLONE_NEWNET)
        finally:
            os.close(home)

    def close(self) -> None:
        os.close(self.fd)


def check_privileges() -> None:
    """Raise PermissionMissing, with a cure, where namespaces cannot be made."""
    Namespace().close()


def ensure_privileges() -> None:
    """Return where namespaces can be made; else start this program again in a user namespace.

    Call it first thing in a program: the second start repeats the whole command line. Raises
    PermissionMissing when the kernel refuses both ways.
    """
    try:
        check_privileges()
    except PermissionMissing as refused:
        command = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
        probe = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
        if os.geteuid() == 0 or probe.returncode != 0:
            raise PermissionMissing(f"{_ADVICE}: {probe.stderr.strip()}", errno.EPERM) from refused
        sys.stdout.flush()
        os.execvp("unshare", [*command, "--", sys.executable, *sys.orig_argv[1:]])
