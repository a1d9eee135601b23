"""The systemd rig: hosts that boot a real systemd, on one bridge, on one machine.

A host is a Debian 12 tree started by systemd-nspawn. It has its own network, process and mount
namespaces and its own cgroup, so the packaged unit meets the real service manager: sandbox,
notify protocol, kill order, ExecStopPost. The bridge lives in a network namespace of its own,
from which tests probe and watch; nothing touches the network of the machine.

What is slow to make is made once, below ``$XDG_CACHE_HOME/vipd/systemd-rig``: the tree (with
debootstrap, from the machine's own mirror) and the Python packages (as wheels for the Python of
the tree, because the hosts have no way out). A host sees the tree, and what it changes goes to
memory (an overlay): nothing has to be copied, and nothing has to be deleted at the end. A host can
begin with the changes of another one, as from an image of it.

Three habits of systemd-nspawn shape the code:

- two hosts started from one cgroup would see each other's units, so each gets a new one, in the
  unified tree and, on machines that still have it, in ``name=systemd``;
- the interface must be made by nspawn itself (``--network-bridge``): a host that joins a prepared
  namespace loses CAP_NET_ADMIN and sees the wrong /sys/class/net;
- nothing registers with a machine manager: commands enter with nsenter, through the host's first
  process.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vipd" / "systemd-rig"
SUITE = "bookworm"
SUITE_PYTHON = "3.11"
SUITE_GLIBC_MINOR = 36
TREE_PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "python3-venv", "iproute2")
DEFAULT_MIRROR = "http://deb.debian.org/debian"
CGROUP_ROOTS = (
    Path("/sys/fs/cgroup"),
    Path("/sys/fs/cgroup/unified"),
    Path("/sys/fs/cgroup/systemd"),
)
CLONE_NEWNET = 0x40000000
BOOT_LIMIT_S = 30.0
POWEROFF_LIMIT_S = 10.0


def wait_for(
    condition: Callable[[], bool], what: str, limit_s: float = 15.0, pause_s: float = 0.05
) -> None:
    """Wait until ``condition`` holds; the failure says what was waited for."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit_s:g} s: {what}")
        time.sleep(pause_s)


def run(*command: str | Path, check: bool = True, timeout_s: float = 60.0) -> str:
    """Run a command on this machine and return its output; on failure say everything it said."""
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}"
        )
    return done.stdout


# -- what is made once ----------------------------------------------------------------------------


@contextmanager
def _made_once(name: str) -> Iterator[tuple[Path, Path | None]]:
    """Yield (final path, unfinished path or None if it is there already), one maker at a time.

    The unfinished directory gets the final name only when the body ended well.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    final = CACHE / name
    with open(CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if final.exists():
            yield final, None
            return
        unfinished = CACHE / f"{name}.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        yield final, unfinished
        unfinished.rename(final)


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:12]


def debian_mirror() -> str:
    """The mirror this machine uses itself, if it is a Debian one."""
    release = platform.freedesktop_os_release()
    if release.get("ID") == "debian":
        targets = run(
            "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
        )  # fmt: skip
        for line in targets.splitlines():
            uri, suite, component = line.split()
            if (suite, component) == (release.get("VERSION_CODENAME"), "main"):
                return uri.rstrip("/")
    return DEFAULT_MIRROR


def base_tree() -> Path:
    """The Debian tree every host is a copy of."""
    with _made_once(f"{SUITE}-{_digest(*TREE_PACKAGES)}") as (final, unfinished):
        if unfinished:
            run(
                "debootstrap", "--variant=minbase", f"--include={','.join(TREE_PACKAGES)}",
                SUITE, unfinished, debian_mirror(), timeout_s=600.0,
            )  # fmt: skip
            shutil.rmtree(unfinished / "var/cache/apt", ignore_errors=True)
            shutil.rmtree(unfinished / "var/lib/apt/lists", ignore_errors=True)
    return final


def wheels() -> Path:
    """All Python packages that an installation in the tree needs, for the tree's Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    machine = platform.machine()
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(SUITE_GLIBC_MINOR, 4, -1)]
    platforms += [f"manylinux2014_{machine}"]
    with _made_once(f"wheels-{_digest(machine, *needed)}") as (final, unfinished):
        if unfinished:
            run(
                sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:",
                "--python-version", SUITE_PYTHON, "--implementation", "cp",
                *(word for name in platforms for word in ("--platform", name)),
                "--dest", unfinished, *needed, timeout_s=300.0,
            )  # fmt: skip
    return final


# -- the bridge -----------------------------------------------------------------------------------


class Bridge:
    """A bridge in a network namespace of its own, and an outsider's view from it."""

    DEVICE = "br0"

    def __init__(self, namespace: str, address: str) -> None:
        self.namespace = namespace
        self.address = address.split("/")[0]
        run("ip", "netns", "add", namespace)
        self._ip("link", "add", self.DEVICE, "type", "bridge", "mcast_snooping", "0")
        self._ip("address", "add", address, "dev", self.DEVICE)
        self._ip("link", "set", self.DEVICE, "up")

    def _ip(self, *words: str) -> str:
        return run("ip", "-n", self.namespace, *words)

    def close(self) -> None:
        run("ip", "netns", "del", self.namespace)

    def packet_socket(self, protocol: int) -> socket.socket:
        """A packet socket on the bridge. A socket stays in the namespace it was opened in."""
        made: list[socket.socket] = []

        def make() -> None:
            with open(f"/run/netns/{self.namespace}") as namespace:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
            opened.bind((self.DEVICE, protocol))
            made.append(opened)

        # Only this thread changes its namespace, and it ends here.
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]

    def answers_to(self, address: str, window_s: float = 0.2) -> set[str]:
        """The MAC addresses that answer an ARP request for ``address``: who really serves it."""
        arp = 0x0806
        with self.packet_socket(arp) as sock:
            own_mac = sock.getsockname()[4]
            wanted = socket.inet_aton(address)
            request = (
                b"\xff" * 6 + own_mac + b"\x08\x06" + b"\x00\x01\x08\x00\x06\x04\x00\x01"
                + own_mac + socket.inet_aton(self.address) + bytes(6) + wanted
            )  # fmt: skip
            sock.send(request)
            macs: set[str] = set()
            end = time.monotonic() + window_s
            while (left_s := end - time.monotonic()) > 0:
                sock.settimeout(left_s)
                with suppress(TimeoutError):
                    frame = sock.recv(2048)
                    if frame[20:22] == b"\x00\x02" and frame[28:32] == wanted:
                        macs.add(frame[22:28].hex(":"))
            return macs


# -- a host ---------------------------------------------------------------------------------------


class AddressLog:
    """Every change of addresses in a host's network namespace, as the kernel reports it."""

    def __init__(self, command: list[str]) -> None:
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)

    def deleted(self, address: str) -> int:
        """How often ``address`` was taken off an interface."""
        return sum(
            line.startswith("Deleted") and f" {address}/" in line for line in list(self._lines)
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Host:
    """One booted container. ``address`` is its own, on interface ``host0``."""

    DEVICE = "host0"

    def __init__(self, name: str, address: str, rig: Rig, like: Host | None = None) -> None:
        self.name = name
        self.address = address
        self.machine = f"{rig.name}-{name}"
        self.tree = rig.directory / name
        self.changes = rig.directory / f"{name}.changes"
        self.console = rig.directory / f"{name}.console"
        self._make_tree(like)
        self._cgroups = self._make_cgroups()
        self._process = self._spawn(rig)
        self._leader = 0

    def boot(self) -> None:
        self._leader = self._wait_for_leader()
        wait_for(self._booted, f"{self.name} boots; its console: {self.console}", BOOT_LIMIT_S)
        self.ip("link", "set", self.DEVICE, "up")
        self.ip("address", "add", self.address, "dev", self.DEVICE)
        self.mac = self.ip("link", "show", self.DEVICE).split("link/ether ")[1].split()[0]

    # starting and stopping

    def _make_tree(self, like: Host | None) -> None:
        work = self.changes.with_suffix(".work")  # of the overlay itself
        work.mkdir()
        if like is None:
            self.changes.mkdir()
        else:
            run("cp", "-a", like.changes, self.changes)
        self.tree.mkdir()
        options = f"lowerdir={base_tree()},upperdir={self.changes},workdir={work}"
        run("mount", "-t", "overlay", self.machine, "-o", options, self.tree)
        (self.tree / "etc/machine-id").write_text(uuid.uuid4().hex + "\n")
        (self.tree / "etc/hostname").write_text(self.name + "\n")

    def _make_cgroups(self) -> list[Path]:
        roots = [r for r in CGROUP_ROOTS if (r / "cgroup.procs").exists()]
        cgroups = [root / self.machine for root in roots]
        for cgroup in cgroups:
            cgroup.mkdir()
        return cgroups

    def _spawn(self, rig: Rig) -> subprocess.Popen[bytes]:
        nspawn = [
            "systemd-nspawn", "--quiet", "--boot", f"--directory={self.tree}",
            f"--machine={self.machine}",
            "--register=no", "--keep-unit", "--resolv-conf=off", "--timezone=off",
            f"--network-bridge={Bridge.DEVICE}", f"--bind-ro={wheels()}:/wheels",
            # nspawn's system call filter lets mlockall pass only with this.
            "--capability=CAP_IPC_LOCK",
        ]  # fmt: skip
        # The shell enters the cgroups first, so that nspawn never runs outside them.
        enter = (
            'for group; do [ "$group" = -- ] && break; echo $$ >"$group/cgroup.procs"; shift; done'
        )
        shell = f'{enter}; shift; exec "$@"'
        with open(self.console, "wb") as console:
            return subprocess.Popen(
                [
                    "sh", "-ec", shell, "sh", *map(str, self._cgroups), "--",
                    "nsenter", f"--net=/run/netns/{rig.bridge.namespace}", *nspawn,
                ],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            )  # fmt: skip

    def _wait_for_leader(self) -> int:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")

        def leader_is_systemd() -> bool:
            if self._process.poll() is not None:
                raise AssertionError(f"systemd-nspawn ended:\n{self.console.read_text()}")
            found = children.read_text().split()
            return len(found) == 1 and Path(f"/proc/{found[0]}/comm").read_text() == "systemd\n"

        wait_for(leader_is_systemd, f"{self.name}: first process runs", BOOT_LIMIT_S)
        return int(children.read_text())

    def _booted(self) -> bool:
        return self.run("systemctl", "is-system-running", check=False).strip() in (
            "running",
            "degraded",
        )

    def close(self) -> None:
        """Power off; a host that does not listen is killed with everything in it."""
        if self._leader:
            with suppress(ProcessLookupError):
                os.kill(self._leader, signal.SIGRTMIN + 4)
        else:
            self._process.terminate()
        try:
            self._process.wait(POWEROFF_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # nspawn's end is the end of its first process, and that of all
            self._process.wait(POWEROFF_LIMIT_S)
        wait_for(self._remove_cgroups, f"the processes of {self.name} are gone")
        run("umount", self.tree)

    def _remove_cgroups(self) -> bool:
        """The kernel refuses while the last process is still on its way out."""
        for cgroup in self._cgroups:
            for directory, _, _ in os.walk(cgroup, topdown=False):
                try:
                    Path(directory).rmdir()
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
                    return False
        return True

    # commands inside

    def command(self, *words: str) -> list[str]:
        enter = ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-C", "--"]
        clean = ["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        return [*enter, *clean, *words]

    def run(self, *words: str, check: bool = True, timeout_s: float = 60.0) -> str:
        return run(*self.command(*words), check=check, timeout_s=timeout_s)

    def succeeds(self, *words: str) -> bool:
        return (
            subprocess.run(self.command(*words), capture_output=True, check=False).returncode == 0
        )

    def write(self, path: str, text: str) -> None:
        target = self.tree / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def property(self, name: str) -> str:
        return self.run("systemctl", "show", "--value", f"--property={name}", "vipd").strip()

    # judged from outside: the machine's own programs in the host's network namespace

    def on_its_network(self, *words: str) -> list[str]:
        return ["nsenter", "-t", str(self._leader), "-n", "--", *words]

    def ip(self, *words: str) -> str:
        return run(*self.on_its_network("ip", *words))

    def addresses(self) -> set[str]:
        shown = self.ip("-o", "-4", "address", "show", "dev", self.DEVICE)
        return set(re.findall(r"inet (\S+?)/", shown))

    @contextmanager
    def address_log(self) -> Iterator[AddressLog]:
        log = AddressLog(self.on_its_network("ip", "-o", "monitor", "address"))
        try:
            yield log
        finally:
            log.close()


# -- everything together --------------------------------------------------------------------------


class Rig:
    """A bridge and the hosts on it. Leaving the ``with`` block leaves nothing behind."""

    def __init__(self) -> None:
        self.name = f"vipdrig{uuid.uuid4().hex[:6]}"
        base_tree()
        wheels()
        self.bridge = Bridge(self.name, "198.51.100.1/24")
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=CACHE))
        run("mount", "-t", "tmpfs", self.name, "-o", "mode=0755", self.directory)
        self.hosts: list[Host] = []

    def boot(self, name: str, address: str, like: Host | None = None) -> Host:
        host = Host(name, address, self, like)
        self.hosts.append(host)  # before it boots: `close` ends it also when it never came up
        host.boot()
        return host

    def close(self) -> None:
        for host in self.hosts:
            host.close()
        self.bridge.close()
        run("umount", self.directory)
        self.directory.rmdir()
        leftovers = self.leftovers()
        if leftovers:
            raise AssertionError(f"the rig left behind: {leftovers}")

    def leftovers(self) -> list[str]:
        """What carries the rig's name on this machine; empty after ``close``."""
        mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines()
                  if self.name in line]  # fmt: skip
        nspawn = Path("/run/systemd/nspawn")
        places = [*CGROUP_ROOTS, Path("/run/netns"), CACHE, nspawn, *nspawn.glob("*/")]
        entries = [
            str(entry)
            for place in places
            if place.is_dir()
            for entry in place.glob(
                f"**/*{self.name}*" if place.name == "nspawn" else f"*{self.name}*"
            )
        ]
        processes = [
            line
            for line in run("ps", "-eo", "pid,args").splitlines()
            if f"--machine={self.name}" in line
        ]
        return mounts + entries + processes

    def __enter__(self) -> Rig:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
