"""The lab's helper processes as their owner sees them: start, ready, results."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pyroute2 import IPRoute

from vipd.lab.capture import Frame, read_capture
from vipd.lab.holders import Holding, read_line
from vipd.lab.hosts import INTERFACE, Host, wait_for
from vipd.lab.netns import BRIDGE, Lab
from vipd.lab.outages import Answer, read_answers
from vipd.lab.server import HTTP_PORT

_READY_S = 10.0
_STOP_S = 5.0


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"vipd.lab.{name}", *arguments]


def _started(process: subprocess.Popen[bytes], file: Path, log: Path, word: bytes = b"") -> None:
    """Wait until the helper wrote ``word`` to ``file``; repeat what it said if it ended instead."""

    def written() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{file.name}: status {process.returncode}: {log.read_text()}")
        return file.exists() and file.stat().st_size > 0 and word in file.read_bytes()[:1000]

    wait_for(written, _READY_S, f"{file.name} is empty")


class _Helper:
    """A process that writes one file until it is stopped."""

    def __init__(self, host: Host, argv: list[str], path: Path) -> None:
        self.path = path
        log = host.directory / f"{path.name}.log"
        self._process = host.spawn(argv, log.name)
        _started(self._process, path, log)

    def stop(self) -> None:
        """End the process; its file is complete then."""
        self._process.terminate()
        self._process.wait(_STOP_S)


def start_server(host: Host, http_port: int = HTTP_PORT) -> subprocess.Popen[bytes]:
    """The UDP echo and the HTTP server of a host; returns when they answer."""
    log = host.directory / f"server-{len(host.processes)}.log"  # it may be started again
    process = host.spawn(_module("server", host.name, "--http-port", str(http_port)), log.name)
    _started(process, log, log, b"ready")
    return process


class Client(_Helper):
    """The 1 kHz client of a lab."""

    def __init__(self, lab: Lab, vips: Sequence[str], rate: int = 1000) -> None:
        path = lab.client.directory / "probes.log"
        argv = _module("client", "--out", str(path), "--rate", str(rate), *vips)
        super().__init__(lab.client, argv, path)

    def answers(self) -> dict[str, list[Answer]]:
        """The answers of each VIP so far (the last 50 ms may still be unwritten)."""
        return read_answers(self.path)


class Visitor(_Helper):
    """Asks VIPs over HTTP, 100 times a second each; ``answers`` as the client's."""

    def __init__(self, lab: Lab, vips: Sequence[str], rate: int = 100) -> None:
        path = lab.client.directory / "visits.log"
        argv = _module("visitor", "--out", str(path), "--rate", str(rate), *vips)
        super().__init__(lab.client, argv, path)

    def answers(self) -> dict[str, list[Answer]]:
        """The answers of each VIP so far (the last 50 ms may still be unwritten)."""
        return read_answers(self.path)


class Capture(_Helper):
    """A capture; by default on all ports of the switch, each frame once, control traffic only."""

    def __init__(
        self, lab: Lab, host: Host | None = None, name: str = "", control_only: bool = True
    ) -> None:
        self._clock_offset_ns = lab.clock_offset_ns
        host = host or lab.switch
        path = host.directory / (name or f"{host.name}.pcapng")
        argv = _module("capture", "--out", str(path))
        argv += ["--clock-offset-ns", str(lab.clock_offset_ns)]
        argv += ["--control-only"] if control_only else []
        on_switch = host is lab.switch
        argv += ["--incoming-only", "--skip", BRIDGE] if on_switch else ["--interface", INTERFACE]
        super().__init__(host, argv, path)

    def frames(self) -> list[Frame]:
        """The frames so far, with CLOCK_BOOTTIME instants."""
        return read_capture(self.path, self._clock_offset_ns)


class Holders(_Helper):
    """Who has which of these addresses, by the kernels of all hosts. Begin before they have any."""

    def __init__(self, lab: Lab, addresses: Sequence[str]) -> None:
        path = lab.switch.directory / "holders.log"
        argv = _module("holders", "--out", str(path))
        with lab.switch.namespace.inside(), IPRoute() as netlink:
            for host in lab.hosts.values():
                nsid = netlink.get_netnsid(fd=host.namespace.fd)["nsid"]  # given with its cable
                argv += ["--host", f"{host.name}={nsid}"]
        super().__init__(lab.switch, [*argv, *addresses], path)

    def told(self) -> list[Holding]:
        """Everything so far. Raises RuntimeError if nobody listens any more."""
        if self._process.poll() is not None:
            raise RuntimeError(f"holders ended with status {self._process.returncode}")
        _, *lines = self.path.read_text().split("\n")[:-1]
        return [read_line(line) for line in lines]


def probe_http(host: Host, address: str, port: int = HTTP_PORT, timeout_s: float = 1.0) -> str:
    """Ask the HTTP server at ``address`` from ``host``; the name that answered, or ``""``."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = http.client.HTTPConnection(address, port)
    connection.sock = host.socket(family, socket.SOCK_STREAM)
    connection.sock.settimeout(timeout_s)
    try:
        connection.sock.connect((address, port))
        connection.request("GET", "/")
        return connection.getresponse().read().decode().strip()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
