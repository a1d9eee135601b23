"""A host of the lab: a namespace with ``eth0``, a directory, and the processes started in it."""

from __future__ import annotations

import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute

from vipd.lab.namespace import Namespace
from vipd.model import SECOND_NS

INTERFACE, SECOND_INTERFACE = "eth0", "eth1"
_POLL_S = 0.005
_DEATH_S = 10.0
_IFF_LOWER_UP = 0x10000


def now_ns() -> int:
    """CLOCK_BOOTTIME: the clock of everything that the lab measures."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wait_for(
    condition: Callable[[], bool], timeout_s: float, what: str, poll_s: float = _POLL_S
) -> int:
    """Poll until ``condition`` holds; the instant at which it did. Raises TimeoutError."""
    give_up_ns = now_ns() + int(timeout_s * SECOND_NS)
    while not condition():
        if now_ns() > give_up_ns:
            raise TimeoutError(f"after {timeout_s} s: {what}")
        time.sleep(poll_s)
    return now_ns()


@dataclass(frozen=True, slots=True)
class LabAddress:
    """An address that the kernel of a host has right now."""

    interface: str
    address: str
    prefix: int
    lifetime_s: int  # valid_lft; 4294967295 is for ever
    tag: int  # IFA_PROTO


def descendants(pid: int) -> list[int]:
    """``pid`` and all processes below it, parents first; those that still exist."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    children.setdefault(int(fields[1]), []).append(int(entry))
    family = [pid]
    for member in family:
        family += children.get(member, [])
    return [member for member in family if Path(f"/proc/{member}").exists()]


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send one signal to each of ``pids``; the ones that are gone do not matter."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_tree(pid: int) -> None:
    """SIGKILL a process and all below it so that none of them sees another one die.

    Everybody is stopped first: keepalived's child says goodbye when its parent dies, and its
    parent starts a new child when the child dies. A host that loses power does neither. Returns
    when all are dead: who owns packet sockets takes a while, and is heard until then.
    """
    stopped: list[int] = []
    while fresh := [member for member in descendants(pid) if member not in stopped]:
        signal_all(fresh, signal.SIGSTOP)
        stopped += fresh
    signal_all(stopped, signal.SIGKILL)
    wait_for(lambda: not any(map(_lives, stopped)), _DEATH_S, "a killed process lives on")


def _lives(pid: int) -> bool:
    """Neither gone nor waiting to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


class Host:
    """One host. Made by ``Lab``; ``number`` is the last byte of its addresses."""

    def __init__(self, name: str, number: int, namespace: Namespace, directory: Path) -> None:
        self.name = name
        self.number = number
        self.namespace = namespace
        self.directory = directory
        self.ipv4 = f"192.0.2.{number}"
        self.second_ipv4 = f"198.51.100.{number}"  # where the lab has a second network
        self.ipv6 = f"2001:db8::{number}"
        self.link_local = f"fe80::{number}"
        self.processes: list[subprocess.Popen[bytes]] = []
        directory.mkdir()

    def environment(self) -> Mapping[str, str]:
        """The caller's environment, with the host's own runtime and temporary directory."""
        return {
            **os.environ,
            "XDG_RUNTIME_DIR": str(self.directory),
            "TMPDIR": str(self.directory),
            "PYTHONUNBUFFERED": "1",
        }

    def spawn(self, argv: Sequence[str], log: str) -> subprocess.Popen[bytes]:
        """Start a command in the host; its output is appended to ``directory/log``."""
        with self.namespace.inside(), open(self.directory / log, "ab") as output:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self.environment(),
                start_new_session=True,  # Ctrl-C is for the owner, who then ends the lab
            )
        self.processes.append(process)
        return process

    def run(
        self, argv: Sequence[str], text: str = "", timeout_s: float = 20.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. ``check``: a failure raises, with what the command said."""
        with self.namespace.inside():
            done = subprocess.run(
                argv,
                input=text,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                cwd=self.directory,
                env=self.environment(),
                check=False,
            )
        if check and done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(argv)}: {done.stdout}{done.stderr}")
        return done

    def addresses(self) -> tuple[LabAddress, ...]:
        """What the kernel has, loopback left out."""
        with self.namespace.inside(), IPRoute() as netlink:
            names = {link["index"]: link.get("ifname") for link in netlink.get_links()}
            found = []
            for message in netlink.get_addr():
                address = message.get("local") or message.get("address")
                if ipaddress.ip_address(address).is_loopback:
                    continue
                lifetime = message.get("cacheinfo") or {}
                found.append(
                    LabAddress(
                        interface=names[message["index"]],
                        address=address,
                        prefix=message["prefixlen"],
                        lifetime_s=lifetime.get("ifa_valid", 0),
                        tag=message.get("proto") or 0,
                    )
                )
        return tuple(found)

    def holds(self, address: str) -> bool:
        """The kernel has ``address`` on some interface."""
        return any(entry.address == address for entry in self.addresses())

    def has_carrier(self) -> bool:
        """``eth0`` of the host sees its link as up."""
        with self.namespace.inside(), IPRoute() as netlink:
            (link,) = netlink.get_links(ifname=INTERFACE)
        return bool(link["flags"] & _IFF_LOWER_UP)

    def sysctl(self, key: str, value: str) -> None:
        """Write ``/proc/sys/net/KEY`` of the host."""
        with self.namespace.inside():
            Path("/proc/sys/net", key).write_text(value)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of the host in this process."""
        with self.namespace.inside():
            return socket.socket(family, kind, protocol)

    def keep(self, destination: Path) -> None:
        """Copy the host's files (logs, captures) out of the lab before it ends."""
        for path in self.directory.iterdir():
            if path.is_file():
                shutil.copy(path, destination / f"{self.name}-{path.name}")
