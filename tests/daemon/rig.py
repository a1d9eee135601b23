"""Two daemons and a client on one switch, and what can be seen of them from outside.

Nothing here asks the daemon what it did, except where its status is what is tested. Witnesses
are the kernels (addresses, netlink events), the switch (captured frames) and the client.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pyroute2 import IPRoute
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

from vipd.lab.capture import Frame, read_capture
from vipd.lab.hosts import INTERFACE, Host, descendants, wait_for
from vipd.lab.netns import Lab
from vipd.lab.peers import Router, VipdNode
from vipd.model import Instant

MS = 1_000_000
VIP = "192.0.2.100"
TAG = 86
PATIENCE_S = 15.0

RTM_NEWADDR, RTM_DELADDR = 20, 21


# --- the daemon -------------------------------------------------------------------------------


class Daemon(VipdNode):
    """vipd on a host of the lab, with the handles that these tests need."""

    def command(self) -> list[str]:
        """What ``vipd run`` becomes; the command line's own imports only cost time here."""
        super().command()
        return [sys.executable, "-m", "vipd.supervisor", "--config", str(self.config)]

    def write(self, configuration: dict[str, Any] | str) -> None:
        """Another configuration, not yet loaded."""
        text = configuration if isinstance(configuration, str) else yaml.safe_dump(configuration)
        self.config.write_text(text)

    def change(self, **instance: Any) -> None:
        """Other values for the instance ``web``, not yet loaded."""
        configuration = yaml.safe_load(self.config.read_text())
        configuration["instances"]["web"] |= instance
        self.write(configuration)

    @property
    def supervisor(self) -> int:
        return self.process.pid

    @property
    def engine(self) -> int:
        """The pid of the engine; 0 while there is none."""
        for pid in descendants(self.process.pid):
            if is_engine(pid):
                return pid
        return 0

    def wait_engine(self, other_than: int = 0) -> int:
        """The pid of an engine that was seen, and is not one that is just dying."""
        seen = 0

        def lives() -> bool:
            nonlocal seen
            seen = self.engine
            return seen not in (0, other_than)

        wait_for(lives, PATIENCE_S, "no engine")
        return seen

    def ask(
        self, path: str, method: str = "GET", timeout_s: float = 10.0, body: object = None
    ) -> tuple[int, dict[str, Any]]:
        """One request to the control socket: status and JSON."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(timeout_s)
        try:
            connection.sock.connect(str(self.control))
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            body = answer.read()
            is_json = answer.headers.get_content_type() == "application/json"
            return answer.status, json.loads(body) if is_json else {}
        finally:
            connection.close()

    @property
    def control(self) -> Path:
        return self.host.directory / "run" / "control.sock"

    def status(self) -> dict[str, Any]:
        return self.ask("/status")[1]

    def instance(self, name: str = "web") -> dict[str, Any]:
        found: dict[str, Any] = self.status()["instances"][name]
        return found

    def state(self, name: str = "web") -> str:
        return str(self.instance(name)["state"])

    def wait_state(self, state: str, name: str = "web", timeout_s: float = PATIENCE_S) -> Instant:
        try:
            return wait_for(lambda: self.state(name) == state, timeout_s, f"not {state}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.instance(name)}\n{self.log.read_text()}") from None

    def wait_holds(self, timeout_s: float = PATIENCE_S) -> Instant:
        try:
            return wait_for(self.holds, timeout_s, "does not hold its VIPs")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log.read_text()}") from None

    def wait_free(self, timeout_s: float = PATIENCE_S) -> Instant:
        return wait_for(lambda: not self.holds_any(), timeout_s, "still holds a VIP")

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """The log's lines of one kind, of all runs so far."""
        found = []
        for number in range(1, self._starts + 1):
            text = (self.host.directory / f"{self.kind}-{number}.log").read_text()
            found += [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return [line for line in found if kind in ("", line["event"])]

    def wait_event(self, kind: str, count: int = 1) -> dict[str, Any]:
        wait_for(lambda: len(self.events(kind)) >= count, PATIENCE_S, f"no {kind} in the log")
        return self.events(kind)[count - 1]


def is_engine(pid: int) -> bool:
    try:
        return b"vipd.engine" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """A process that is not there is an error of the test; to 0 it would be all of us."""
    assert pid > 0, "no such process"
    os.kill(pid, number)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


# --- what the kernel says ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AddressEvent:
    """One netlink event; ``t_ns`` is never before the event itself."""

    t_ns: Instant
    added: bool
    address: str
    prefix: int
    index: int
    tag: int


class Recorder:
    """The netlink events of a host from now on."""

    def __init__(self, host: Host) -> None:
        self._path = host.directory / f"netlink-{len(host.processes)}.log"
        program = Path(__file__).with_name("recorder.py")
        host.spawn([sys.executable, "-I", str(program), str(self._path)], "recorder.log")
        wait_for(self._path.exists, PATIENCE_S, "no recorder")
        wait_for(lambda: self._path.stat().st_size > 0, PATIENCE_S, "no recorder")

    def addresses(self, address: str = "", since_ns: Instant = 0) -> list[AddressEvent]:
        events = []
        for line in self._path.read_text(encoding="ascii").splitlines()[1:]:
            stamp, _, code = line.partition(" ")
            if int(stamp) >= since_ns:
                events += _address_events(int(stamp), bytes.fromhex(code))
        return [event for event in events if address in ("", event.address)]


def _address_events(t_ns: Instant, data: bytes) -> list[AddressEvent]:
    events = []
    while len(data) >= 16:
        length, kind = int.from_bytes(data[:4], sys.byteorder), int.from_bytes(data[4:6], "little")
        if kind in (RTM_NEWADDR, RTM_DELADDR):
            message = ifaddrmsg(data[:length])
            message.decode()
            attributes = dict(message["attrs"])
            address = attributes.get("IFA_LOCAL") or attributes["IFA_ADDRESS"]
            tag = attributes.get("IFA_PROTO") or 0
            events.append(
                AddressEvent(
                    t_ns, kind == RTM_NEWADDR, address, message["prefixlen"], message["index"], tag
                )
            )
        data = data[(length + 3) & ~3 :]
    return events


@contextmanager
def netlink_of(host: Host) -> Iterator[IPRoute]:
    with host.namespace.inside(), IPRoute() as netlink:
        yield netlink


def index_of(host: Host, name: str = INTERFACE) -> int:
    with netlink_of(host) as netlink:
        (index,) = netlink.link_lookup(ifname=name)
    return int(index)


def add_address(host: Host, address: str, prefix: int, **attributes: Any) -> None:
    with netlink_of(host) as netlink:
        index = netlink.link_lookup(ifname=attributes.pop("interface", INTERFACE))[0]
        netlink.addr("replace", index=index, address=address, prefixlen=prefix, **attributes)


def remove_address(host: Host, address: str, prefix: int) -> None:
    with netlink_of(host) as netlink:
        index = netlink.link_lookup(ifname=INTERFACE)[0]
        netlink.addr("del", index=index, address=address, prefixlen=prefix)


def prefix_of(host: Host, address: str) -> int:
    (found,) = [entry for entry in host.addresses() if entry.address == address]
    return found.prefix


# --- what the wire says -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SeenAdvert:
    t_ns: Instant
    port: str
    source: str
    source_mac: str
    vrid: int
    priority: int


@dataclass(frozen=True, slots=True)
class SeenAnnouncement:
    """A gratuitous ARP or an unsolicited Neighbor Advertisement."""

    t_ns: Instant
    port: str
    address: str
    mac: str


class Wire:
    """What each host sent, judged at its switch port; decoded here, not by the code under test."""

    def __init__(self, lab: Lab, port: str = "") -> None:
        self._offset_ns = lab.clock_offset_ns
        self._path = lab.switch.directory / f"wire-{port or 'all'}-{len(lab.switch.processes)}"
        argv = [sys.executable, "-m", "vipd.lab.capture", "--out", str(self._path)]
        argv += ["--control-only", "--incoming-only", "--clock-offset-ns", str(self._offset_ns)]
        argv += ["--interface", port] if port else ["--skip", "br0"]
        lab.switch.spawn(argv, "wire.log")
        wait_for(
            lambda: self._path.exists() and self._path.stat().st_size > 0, PATIENCE_S, "no capture"
        )

    def frames(self, since_ns: Instant = 0) -> list[Frame]:
        frames = read_capture(self._path, self._offset_ns)
        return [frame for frame in frames if frame.t_ns >= since_ns]

    def adverts(self, port: str = "", since_ns: Instant = 0) -> list[SeenAdvert]:
        found = (_advert(frame) for frame in self.frames(since_ns))
        return [seen for seen in found if seen is not None and port in ("", seen.port)]

    def announcements(
        self, address: str = "", port: str = "", since_ns: Instant = 0
    ) -> list[SeenAnnouncement]:
        found = (_announcement(frame) for frame in self.frames(since_ns))
        return [
            seen
            for seen in found
            if seen is not None and address in ("", seen.address) and port in ("", seen.port)
        ]

    def wait_advert(self, port: str, since_ns: Instant, priority: int | None = None) -> SeenAdvert:
        found: list[SeenAdvert] = []

        def seen() -> bool:
            found[:] = [
                advert
                for advert in self.adverts(port, since_ns)
                if priority in (None, advert.priority)
            ]
            return bool(found)

        wait_for(seen, PATIENCE_S, f"no advert (priority {priority}) from {port}")
        return found[0]

    def largest_gap_ms(
        self, port: str, since_ns: Instant, until_ns: Instant, vrid: int = 0
    ) -> float:
        """Between two adverts of a port in a window; the window's ends count as adverts."""
        instants = [
            advert.t_ns
            for advert in self.adverts(port, since_ns)
            if advert.t_ns <= until_ns and vrid in (0, advert.vrid)
        ]
        instants = [since_ns, *instants, until_ns]
        return max(b - a for a, b in itertools.pairwise(instants)) / MS


def _advert(frame: Frame) -> SeenAdvert | None:
    data = frame.data
    mac = data[6:12].hex(":")
    if data[12:14] == b"\x08\x00" and data[23] == 112:
        body, source = data[14 + 4 * (data[14] & 15) :], socket.inet_ntop(2, data[26:30])
    elif data[12:14] == b"\x86\xdd" and data[20] == 112:
        body, source = data[54:], socket.inet_ntop(10, data[22:38])
    else:
        return None
    if len(body) < 8:
        return None
    return SeenAdvert(frame.t_ns, frame.interface, source, mac, body[1], body[2])


def _announcement(frame: Frame) -> SeenAnnouncement | None:
    data = frame.data
    if data[12:14] == b"\x08\x06" and data[28:32] == data[38:42]:
        address = socket.inet_ntop(socket.AF_INET, data[28:32])
        return SeenAnnouncement(frame.t_ns, frame.interface, address, data[22:28].hex(":"))
    if data[12:14] == b"\x86\xdd" and data[20] == 58 and data[54] == 136:
        address = socket.inet_ntop(socket.AF_INET6, data[62:78])
        return SeenAnnouncement(frame.t_ns, frame.interface, address, data[80:86].hex(":"))
    return None


# --- scenes -----------------------------------------------------------------------------------


def router(
    priority: int, vips: Sequence[str] = (f"{VIP}/24",), interval_ms: int = 200, **more: Any
) -> Router:
    return Router(tuple(vips), priority, interval_ms=interval_ms, **more)


@contextmanager
def pair(
    vips: Sequence[str] = (f"{VIP}/24",),
    interval_ms: int = 200,
    extra: dict[str, object] | None = None,
    **more: Any,
) -> Iterator[tuple[Lab, Daemon, Daemon]]:
    """``lb1`` (priority 150) is master and holds the VIPs, ``lb2`` (100) is its backup."""
    with Lab(["lb1", "lb2"]) as lab:
        one = Daemon(lab["lb1"], router(150, vips, interval_ms, **more), extra)
        two = Daemon(lab["lb2"], router(100, vips, interval_ms, **more), extra)
        one.start()
        two.start()
        one.wait_ready()
        two.wait_ready()
        one.wait_holds()
        one.wait_state("MASTER")
        two.wait_state("BACKUP")
        two.wait_free()
        yield lab, one, two


@contextmanager
def single(
    vips: Sequence[str] = (f"{VIP}/24",),
    interval_ms: int = 100,
    extra: dict[str, object] | None = None,
    **more: Any,
) -> Iterator[tuple[Lab, Daemon]]:
    """One daemon, on ``lb1``; master."""
    with Lab(["lb1"]) as lab:
        daemon = Daemon(lab["lb1"], router(150, vips, interval_ms, **more), extra)
        daemon.start()
        daemon.wait_ready()
        daemon.wait_holds()
        daemon.wait_state("MASTER")
        yield lab, daemon


def sleep_ms(duration_ms: float) -> None:
    """Let real time pass: something must *not* happen meanwhile."""
    time.sleep(duration_ms / 1000)


def holders(*daemons: Daemon) -> set[str]:
    return {daemon.host.name for daemon in daemons if daemon.holds_any()}
