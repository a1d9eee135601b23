"""VRRP speakers of the lab: real keepalived, vipd, and how each one is started and ended.

One ``Router`` says what a virtual router is; each speaker turns it into its own configuration.
The ways to end a speaker are the same for all, so that a test can put any two into one pair.
FRR stands in ``frr.py``: it keeps its VIPs on devices of its own.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vipd.cli.client import SOCKET_NAME, ask
from vipd.lab.cluster import Cluster
from vipd.lab.hosts import INTERFACE, Host, descendants, kill_tree, signal_all, wait_for
from vipd.model import SECOND_NS, Instant

VIPD_COMMAND_VARIABLE = "VIPD_LAB_COMMAND"
_VIPD_MAIN = "from vipd.cli import main; main()"  # the console script, installed or not
_ENGINE_MODULE = b"vipd.engine"
_READY_S = 20.0
_STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class Router:
    """A virtual router as one node sees it. The family is the one of the first VIP."""

    vips: tuple[str, ...]  # with prefix length: 192.0.2.100/24
    priority: int
    version: int = 3
    vrid: int = 51
    interval_ms: int = 1000
    preempt: bool = True
    secret: str = ""  # v2 PASS
    source: str = ""
    unicast_peers: tuple[str, ...] = ()
    unadvertised: tuple[str, ...] = ()  # held like the others, but in no advert

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.vips[0]

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(vip.split("/")[0] for vip in (*self.vips, *self.unadvertised))

    @property
    def group(self) -> str:
        return "ff02::12" if self.is_ipv6 else "224.0.0.18"

    @property
    def interval_ns(self) -> int:
        return self.interval_ms * 1_000_000

    @property
    def skew_ns(self) -> int:
        """v2 skews by the second, whatever the interval; v3 by the interval (RFC 9568 6.1)."""
        unit_ns = SECOND_NS if self.version == 2 else self.interval_ns
        return (256 - self.priority) * unit_ns // 256

    @property
    def master_down_ns(self) -> int:
        return 3 * self.interval_ns + self.skew_ns


class Speaker(ABC):
    """A VRRP daemon on a host. Not running until ``start``."""

    kind = ""

    def __init__(self, host: Host, router: Router) -> None:
        self.host = host
        self.router = router
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Write the configuration; the command line that runs on it in the foreground."""

    @abstractmethod
    def is_ready(self, log: str) -> bool:
        """This run's log says that the router has left its initial state."""

    @property
    def first_advert_lag_ns(self) -> int:
        """How much later than it becomes master the first advert is seen; a flaw of some."""
        return 0

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.kind} on {self.host.name} was never started")
        return self._process

    @property
    def log(self) -> Path:
        """The output of the newest run."""
        return self.host.directory / f"{self.kind}-{self._starts}.log"

    def start(self) -> None:
        self._starts += 1
        self._process = self.host.spawn(self.command(), self.log.name)

    def wait_ready(self) -> Instant:
        """Block until the router runs; the instant at which that was seen."""

        def ready() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.kind} ended: {self.log.read_text()}")
            return self.is_ready(self.log.read_text())

        return wait_for(ready, _READY_S, f"{self.kind} is not ready: {self.log}")

    def pids(self) -> list[int]:
        """Every process of the speaker, the one that was started first; none once that ended."""
        return [] if self._has_ended() else descendants(self.process.pid)

    def _has_ended(self) -> bool:
        """Asked before each signal: a pid that was waited for may be somebody else's by now."""
        return self.process.poll() is not None

    def stop(self) -> None:
        """SIGTERM; does not wait, the leaving takes its time."""
        self.process.terminate()

    def wait(self) -> int:
        """The exit status, once it has ended."""
        return self.process.wait(_STOP_S)

    def kill(self) -> None:
        """Power failure: SIGKILL to all processes, none of which sees another one die."""
        if not self._has_ended():
            kill_tree(self.process.pid)
            self.process.wait(_STOP_S)

    def freeze(self) -> None:
        signal_all(self.pids(), signal.SIGSTOP)

    def thaw(self) -> None:
        signal_all(reversed(self.pids()), signal.SIGCONT)

    def holds(self) -> bool:
        """The kernel has every VIP; False too when it has only some of them."""
        present = {entry.address for entry in self.host.addresses()}
        return present.issuperset(self.router.addresses)

    def holds_any(self) -> bool:
        """The kernel has at least one VIP."""
        present = {entry.address for entry in self.host.addresses()}
        return not present.isdisjoint(self.router.addresses)


@dataclass(frozen=True, slots=True)
class TrackedScript:
    """A script that keepalived runs once a second, its fastest; one run decides."""

    command: str
    weight: int = 0  # 0: FAULT while it fails

    def block(self, name: str) -> str:
        return (
            f'vrrp_script {name} {{\nscript "{self.command}"\ninterval 1\ntimeout 1\n'
            f"rise 1\nfall 1\nweight {self.weight}\nuser root\n}}\n"
        )


class Keepalived(Speaker):
    """Debian's keepalived, VRRP part only, with its own pid files so that many run at once."""

    kind = "keepalived"

    def __init__(
        self, host: Host, router: Router, scripts: Mapping[str, TrackedScript] | None = None
    ) -> None:
        super().__init__(host, router)
        self._scripts = scripts or {}

    def _configuration(self) -> str:
        router = self.router
        lines = [
            f"interface {INTERFACE}",
            "state BACKUP",
            f"virtual_router_id {router.vrid}",
            f"priority {router.priority}",
            f"advert_int {router.interval_ms / 1000:g}",
        ]
        if not router.preempt:
            lines.append("nopreempt")
        if router.secret:
            lines.append(f"authentication {{\nauth_type PASS\nauth_pass {router.secret}\n}}")
        if router.source:
            lines.append(f"unicast_src_ip {router.source}")
        if router.unicast_peers:
            lines.append("unicast_peer {\n" + "\n".join(router.unicast_peers) + "\n}")
        lines.append("virtual_ipaddress {\n" + "\n".join(router.vips) + "\n}")
        excluded = "\n".join(router.unadvertised)
        lines.append(f"virtual_ipaddress_excluded {{\n{excluded}\n}}" if excluded else "")
        if self._scripts:
            lines.append("track_script {\n" + "\n".join(self._scripts) + "\n}")
        body = "\n".join(lines)
        scripts = "".join(script.block(name) for name, script in self._scripts.items())
        head = f"global_defs {{\nvrrp_version {router.version}\n}}\n{scripts}"
        return f"{head}vrrp_instance web {{\n{body}\n}}\n"

    def command(self) -> list[str]:
        directory = self.host.directory
        configuration = directory / "keepalived.conf"
        configuration.write_text(self._configuration())
        configuration.chmod(0o600)
        options = ["-n", "-l", "-D", "-P", "-G", "-f", str(configuration)]
        for letter in "prc":
            file = directory / f"keepalived-{letter}.pid"
            # a host that comes back from a power failure has an empty /run; a pid file that is
            # left over makes keepalived refuse to start if some process has that pid by now
            file.unlink(missing_ok=True)
            options += [f"-{letter}", str(file)]
        return ["keepalived", *options]

    def is_ready(self, log: str) -> bool:
        return "Entering BACKUP STATE" in log or "Entering MASTER STATE" in log


def vipd_command() -> list[str]:
    """How vipd is started; ``$VIPD_LAB_COMMAND`` replaces it (an installed vipd, a wrapper)."""
    configured = os.environ.get(VIPD_COMMAND_VARIABLE)
    return shlex.split(configured) if configured else [sys.executable, "-c", _VIPD_MAIN]


def _is_engine(pid: int) -> bool:
    """By its command line, which is there from its exec until its death."""
    try:
        return _ENGINE_MODULE in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


class VipdNode(Speaker):
    """vipd on a host, with its files in the host's directory.

    ``extra`` is merged over the top level of the configuration (``checks``, ``fence``, ...),
    ``more`` over the instance of each name (``track``, ``notify``, ...). With ``cluster`` it runs
    in cluster mode.
    """

    kind = "vipd"

    def __init__(
        self,
        host: Host,
        router: Router,
        extra: dict[str, object] | None = None,
        others: Sequence[tuple[str, Router]] = (),
        more: Mapping[str, Mapping[str, object]] | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        super().__init__(host, router)
        self._more = more or {}
        self._cluster = cluster
        self._routers = (("web", router), *others)
        self._extra = extra or {}
        self.config = host.directory / "vipd.yaml"

    @staticmethod
    def _instance(router: Router) -> dict[str, object]:
        instance: dict[str, object] = {
            "interface": INTERFACE,
            "vrid": router.vrid,
            "version": router.version,
            "priority": router.priority,
            "advert_interval": f"{router.interval_ms}ms",
            "preempt": router.preempt,
            "vips": [
                *router.vips,
                *({"address": vip, "advertise": False} for vip in router.unadvertised),
            ],
        }
        if router.secret:
            instance["auth"] = {"type": "pass", "secret": router.secret}
        if router.source:
            instance["source"] = router.source
        if router.unicast_peers:
            instance["unicast_peers"] = list(router.unicast_peers)
        return instance

    def configuration(self) -> dict[str, object]:
        """The content of ``vipd.yaml``."""
        cluster = {} if self._cluster is None else {"cluster": self._cluster.section(self.host)}
        return {
            "node": self.host.name,
            "runtime_dir": str(self.host.directory / "run"),
            "state_dir": str(self.host.directory / "state"),
            "log": {"level": "debug", "format": "json"},
            "instances": {
                name: {**self._instance(router), **self._more.get(name, {})}
                for name, router in self._routers
            },
            **cluster,
            **self._extra,
        }

    def command(self) -> list[str]:
        self.config.write_text(yaml.safe_dump(self.configuration(), sort_keys=False))
        self.config.chmod(0o600)  # it may hold a secret
        return [*vipd_command(), "run", "--config", str(self.config)]

    def is_ready(self, log: str) -> bool:
        return "BACKUP" in log or "MASTER" in log

    def join(self, cluster: Cluster) -> None:
        """From the next start on it runs in cluster mode."""
        self._cluster = cluster

    def engine_pid(self) -> int:
        """The engine that runs now; 0 if there is none."""
        return next((pid for pid in self.pids() if _is_engine(pid)), 0)

    def status(self) -> dict[str, Any]:
        """What ``vipd status --json`` prints, without a process for it. Raises VipdError."""
        return ask(self.host.directory / "run" / SOCKET_NAME, "/status")

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run another vipd command on this node, with its configuration."""
        argv = [*vipd_command(), *arguments, "--config", str(self.config)]
        return self.host.run(argv, check=check)
