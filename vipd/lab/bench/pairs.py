"""A pair of vipd and a pair of keepalived in one lab, and the one client that asks both.

Four hosts on one switch; the two pairs differ in VRID and VIP only. Both run all the time and
faults are made in turn, so both see the same machine, the same client and the same minute.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pyroute2 import IPRoute

from vipd.lab.bench.figures import KEEPALIVED, VIPD, MeasurementFailed
from vipd.lab.hosts import INTERFACE, Host, now_ns, wait_for
from vipd.lab.netns import Lab
from vipd.lab.outages import Answer, tenures
from vipd.lab.peers import Keepalived, Router, Speaker, VipdNode
from vipd.lab.tools import Client, start_server
from vipd.model import MILLISECOND_NS, SECOND_NS, Duration, Instant

HIGH, LOW = 150, 100
ROUTERS = {
    VIPD: Router(("192.0.2.100/24",), HIGH, vrid=51),
    KEEPALIVED: Router(("192.0.2.101/24",), HIGH, vrid=52),
}
QUIET_LOG: dict[str, object] = {"log": {"level": "info", "format": "json"}}
_HOME_LIMIT_S = 30.0
_STEADY_NS = 150 * MILLISECOND_NS
_GROUP = "224.0.0.18"
_VRRP = 112


class Answers:
    """The client's log, read on from where it was read to."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close()
        self._rest = b""
        self._answers: dict[str, list[Answer]] = {}

    def close(self) -> None:
        self._file.close()

    def of(self, vip: str) -> list[Answer]:
        """All answers of a VIP so far."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            if line.startswith(b"R "):
                _, asked, sequence, instant, host = line.decode().split()
                answer = Answer(int(sequence), int(instant), host)
                self._answers.setdefault(asked, []).append(answer)
        return self._answers.get(vip, [])

    def forget(self, before_ns: Instant) -> None:
        """Nobody will ask about what is older: an hour at 1 kHz would fill the memory."""
        self._answers = {
            vip: [answer for answer in answers if answer.received_ns >= before_ns]
            for vip, answers in self._answers.items()
        }

    def steady(self, vip: str, host: str) -> bool:
        """For a moment now this host has answered, and no other."""
        recent = self.of(vip)[-300:]
        if not recent or now_ns() - recent[-1].received_ns > _STEADY_NS:
            return False
        newest = tenures(recent)[-1]
        return newest.host == host and newest.end_ns - newest.start_ns >= _STEADY_NS


@dataclass(slots=True)
class Pair:
    """Two speakers of one kind; ``high`` is master when all is well."""

    kind: str
    high: Speaker
    low: Speaker

    @property
    def vip(self) -> str:
        return self.high.router.addresses[0]

    @property
    def speakers(self) -> tuple[Speaker, Speaker]:
        return self.high, self.low


def make_speaker(kind: str, host: Host, router: Router) -> Speaker:
    if kind == VIPD:
        return VipdNode(host, router, extra=QUIET_LOG)
    return Keepalived(host, router)


def host_names(kind: str) -> tuple[str, str]:
    return (f"{kind[:4]}1", f"{kind[:4]}2")


Maker = Callable[[str, Host, Router], Speaker]


class Arena:
    """The lab with both pairs at home and the client running."""

    def __init__(self, lab: Lab, interval_ms: int, make: Maker = make_speaker) -> None:
        self.lab = lab
        self._make = make
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        self.pairs: Mapping[str, Pair] = {
            kind: self._pair(kind, replace(router, interval_ms=interval_ms))
            for kind, router in ROUTERS.items()
        }
        for pair in self.pairs.values():
            for speaker in pair.speakers:
                self.serve(speaker.host)
                speaker.start()
        self._client = Client(lab, [pair.vip for pair in self.pairs.values()])
        self.answers = Answers(self._client.path)
        self.ear = AdvertEar(lab.client)
        self.wait_home()

    def _pair(self, kind: str, router: Router) -> Pair:
        first, second = (self.lab[name] for name in host_names(kind))
        high = self._make(kind, first, router)
        return Pair(kind, high, self._make(kind, second, replace(router, priority=LOW)))

    def serve(self, host: Host) -> None:
        """Start what stands behind the VIP on a host, also again."""
        self.servers[host.name] = start_server(host)

    def close(self) -> None:
        self.ear.close()
        self.answers.close()

    def wait_home(self) -> None:
        """Every VIP is served by its pair's high host, and the others do not have it."""
        forget_neighbours(self.lab.client, [pair.vip for pair in self.pairs.values()])

        def home() -> bool:
            return all(self._is_home(pair) for pair in self.pairs.values())

        self.wait(home, _HOME_LIMIT_S, "the pairs do not come to rest")

    def _is_home(self, pair: Pair) -> bool:
        return self.answers.steady(pair.vip, pair.high.host.name) and not pair.low.holds_any()

    def wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> Instant:
        try:
            return wait_for(condition, timeout_s, what)
        except TimeoutError as error:
            raise MeasurementFailed(str(error)) from error


class Arenas:
    """One arena at a time, kept while the next measurement wants the same interval."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._interval_ms = 0
        self._arena: Arena | None = None

    def get(self, interval_ms: int) -> Arena:
        """Two pairs with this advert interval, at home."""
        if self._arena is None or interval_ms != self._interval_ms:
            self.close()
            lab = self._stack.enter_context(Lab([*host_names(VIPD), *host_names(KEEPALIVED)]))
            self._arena = self._stack.enter_context(closing(Arena(lab, interval_ms)))
            self._interval_ms = interval_ms
        return self._arena

    def close(self) -> None:
        """End the arena, if there is one."""
        self._arena = None
        self._stack.close()


def forget_neighbours(host: Host, vips: Collection[str]) -> None:
    """A client that resolves anew: how it learns of a return is not what is measured."""
    with host.namespace.inside(), IPRoute() as netlink:
        index = netlink.link_lookup(ifname=INTERFACE)[0]
        known = {entry.get("dst") for entry in netlink.get_neighbours(family=socket.AF_INET)}
        for vip in known.intersection(vips):
            netlink.neigh("del", ifindex=index, dst=vip)


class AdvertEar:
    """Hears adverts in a host as they come, so that faults can be made at a chosen phase."""

    def __init__(self, host: Host) -> None:
        self._socket = host.socket(socket.AF_INET, socket.SOCK_RAW, _VRRP)
        with host.namespace.inside():
            index = socket.if_nametoindex(INTERFACE)
        membership = struct.pack("=4s4si", socket.inet_aton(_GROUP), bytes(4), index)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)

    def close(self) -> None:
        self._socket.close()

    def wait_phase(self, speaker: Speaker, phase: float) -> None:
        """Return at this part (0..1) of the interval after an advert of the speaker."""
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._socket.recv(2048)
        self._socket.settimeout(5 * speaker.router.interval_ns / SECOND_NS + 1)
        while True:
            try:
                _, (source, _) = self._socket.recvfrom(2048)
            except TimeoutError as error:
                raise MeasurementFailed(f"no advert of {speaker.host.name}") from error
            if source == speaker.host.ipv4:
                break
        sleep_ns(int(phase * speaker.router.interval_ns))


def sleep_ns(duration_ns: Duration) -> None:
    """Let time pass."""
    end_ns = now_ns() + duration_ns
    wait_for(lambda: now_ns() >= end_ns, duration_ns / SECOND_NS + 10, "time stands still")


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    return {
        "kernel": os.uname().release,
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }
