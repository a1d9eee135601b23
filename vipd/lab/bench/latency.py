"""From the packet that makes a backup master to its announcements on the wire.

The bench itself plays the better master: its adverts keep both backups down, its goodbye
(priority 0) starts both on their skew time (RFC 9568 §6.1). Instants are those of the switch's
capture. So a takeover costs a tenth of a second, and hundreds can be looked at.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace

from vipd.lab.bench.figures import (
    KEEPALIVED,
    KINDS,
    VIPD,
    Figure,
    MeasurementFailed,
    Progress,
    at_most_more,
    at_most_times,
    samples,
)
from vipd.lab.bench.outages import in_turn
from vipd.lab.bench.pairs import ROUTERS, AdvertEar, make_speaker, sleep_ns
from vipd.lab.capture import Frame
from vipd.lab.hosts import Host, now_ns, wait_for
from vipd.lab.netns import CLIENT, Lab
from vipd.lab.peers import Router, Speaker
from vipd.lab.timeline import advert_in, announced_in
from vipd.lab.tools import Capture
from vipd.model import MILLISECOND_NS, Advert, Instant
from vipd.wire.vrrp import encode

_BACKUP, _BETTER = 250, 254  # a short skew time: 6/256 of the interval
_GROUP = "224.0.0.18"
_VRRP = 112
_SETTLE_NS = 80 * MILLISECOND_NS
_HANDS_OFF = 10  # times the settling time
_MANY = 1000
_MANY_ADVERTISED = 200  # the rest goes along unadvertised: one packet cannot list them all
_LIMIT_S = 20.0


class Usurper:
    """The better master of one router, in the client's host."""

    def __init__(self, host: Host, router: Router) -> None:
        self._source = socket.inet_aton(host.ipv4)
        self._advert = Advert(
            version=3,
            vrid=router.vrid,
            priority=_BETTER,
            interval_ns=router.interval_ns,
            addresses=tuple(socket.inet_aton(vip.split("/")[0]) for vip in router.vips),
        )
        self._socket = host.socket(socket.AF_INET, socket.SOCK_RAW, _VRRP)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        self._socket.setsockopt(
            socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(host.ipv4)
        )

    def speak(self) -> None:
        self._send(self._advert)

    def leave(self) -> None:
        self._send(replace(self._advert, priority=0))

    def _send(self, advert: Advert) -> None:
        group = socket.inet_aton(_GROUP)
        message = encode(advert, source=self._source, destination=group)
        self._socket.sendto(message, (_GROUP, 0))

    def close(self) -> None:
        self._socket.close()


class _Stage:
    """One backup of each kind, both held down."""

    def __init__(self, lab: Lab, routers: Mapping[str, Router]) -> None:
        self.speakers: dict[str, Speaker] = {
            kind: make_speaker(kind, lab[kind], router) for kind, router in routers.items()
        }
        self.usurpers = {kind: Usurper(lab.client, routers[kind]) for kind in KINDS}
        self.capture = Capture(lab)
        self.ear = AdvertEar(lab.client)
        for speaker in self.speakers.values():
            speaker.start()
        wait_for(self._ready, _LIMIT_S, "a backup does not start")
        self.hold_down(10)

    def _ready(self) -> bool:
        self.speak()
        return all(
            speaker.log.exists() and speaker.is_ready(speaker.log.read_text())
            for speaker in self.speakers.values()
        )

    def speak(self) -> None:
        for usurper in self.usurpers.values():
            usurper.speak()

    def hold_down(self, times: int) -> None:
        for _ in range(times):
            self.speak()
            sleep_ns(_SETTLE_NS)

    def wait_gone(self, kind: str) -> None:
        """The better one is back: wait until the backup has let go of every address."""
        self.usurpers[kind].speak()

        def gone() -> bool:
            self.speak()
            return not self.speakers[kind].holds_any()

        wait_for(gone, _LIMIT_S, f"{kind} does not give way")

    def close(self) -> None:
        self.ear.close()
        for usurper in self.usurpers.values():
            usurper.close()


def takeover(repetitions: int, progress: Progress) -> Iterator[Figure]:
    """Priority 0 on the wire until the first gratuitous ARP, less the skew time."""
    routers = {kind: replace(router, priority=_BACKUP) for kind, router in ROUTERS.items()}
    with Lab(KINDS) as lab:
        stage = _Stage(lab, routers)
        for repetition in range(repetitions):
            for kind in in_turn(repetition):
                stage.hold_down(1)
                stage.usurpers[kind].leave()
                stage.ear.wait_phase(stage.speakers[kind], 0)
                sleep_ns(_SETTLE_NS)
                stage.usurpers[kind].speak()
            progress(f"{repetition + 1}/{repetitions}")
        sleep_ns(_SETTLE_NS)
        frames = stage.capture.frames()
        stage.close()
    values = {kind: _first_announcements(frames, kind, routers[kind]) for kind in KINDS}
    for kind in KINDS:
        if len(values[kind]) < repetitions * 9 // 10:
            raise MeasurementFailed(f"{kind}: {len(values[kind])} of {repetitions} takeovers seen")
    yield Figure(
        "takeover",
        "priority 0 to first GARP, less the skew time",
        "ms",
        samples(values[VIPD]),
        samples(values[KEEPALIVED]),
        "≤ keepalived + 1 ms",
        at_most_more(1.0),
    )


def _first_announcements(frames: list[Frame], kind: str, router: Router) -> list[float]:
    values = []
    left_ns: Instant | None = None
    for frame in frames:
        advert = advert_in(frame)
        if advert is not None and advert.port == CLIENT and advert.vrid == router.vrid:
            left_ns = advert.t_ns if advert.priority == 0 else None
        elif left_ns is not None and _announces(frame, kind, router):
            values.append((frame.t_ns - left_ns - router.skew_ns) / MILLISECOND_NS)
            left_ns = None
    return values


def _announces(frame: Frame, kind: str, router: Router) -> bool:
    return frame.interface == kind and announced_in(frame) in router.addresses


def many_vips(repetitions: int, progress: Progress) -> Iterator[Figure]:
    """1000 VIPs on one router: the new master's first advert to the last VIP's first GARP."""
    routers = {
        kind: _with_many_vips(replace(router, priority=_BACKUP), 10 + number)
        for number, (kind, router) in enumerate(ROUTERS.items())
    }
    values: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with Lab(KINDS) as lab:
        stage = _Stage(lab, routers)
        for repetition in range(repetitions):
            for kind in in_turn(repetition):
                values[kind].append(_one_of_many(stage, kind, routers[kind]))
                progress(f"{repetition + 1}/{repetitions} {kind} {values[kind][-1]:.0f} ms")
        stage.close()
    yield Figure(
        "vips",
        f"{_MANY} VIPs: first advert to last first GARP",
        "ms",
        samples(values[VIPD]),
        samples(values[KEEPALIVED]),
        "≤ keepalived",
        at_most_times(1.0),
    )


def _with_many_vips(router: Router, second_byte: int) -> Router:
    vips = tuple(f"10.{second_byte}.{n // 200}.{n % 200 + 1}/32" for n in range(_MANY))
    return replace(router, vips=vips[:_MANY_ADVERTISED], unadvertised=vips[_MANY_ADVERTISED:])


def _one_of_many(stage: _Stage, kind: str, router: Router) -> float:
    stage.hold_down(2)
    start_ns = now_ns()
    stage.usurpers[kind].leave()
    other = next(name for name in KINDS if name != kind)

    # Nobody looks while it happens: reading the capture costs as much CPU as the claim itself.
    for _ in range(_HANDS_OFF):
        stage.usurpers[other].speak()
        sleep_ns(_SETTLE_NS)

    def announced() -> float | None:
        stage.usurpers[other].speak()
        return _spread(stage.capture.frames(), kind, router, start_ns)

    wait_for(lambda: announced() is not None, _LIMIT_S, f"{kind}: not every VIP was announced")
    value = announced()
    if value is None:
        raise MeasurementFailed(f"{kind}: the capture shrank")
    stage.wait_gone(kind)
    return value


def _spread(frames: list[Frame], kind: str, router: Router, since_ns: Instant) -> float | None:
    """First advert to the last first GARP in milliseconds; None while VIPs are missing."""
    advert_ns: Instant | None = None
    wanted = set(router.addresses)
    first: dict[str, Instant] = {}
    for frame in frames:
        if frame.t_ns < since_ns or frame.interface != kind:
            continue
        advert = advert_in(frame)
        if advert is not None and advert.priority and advert_ns is None:
            advert_ns = frame.t_ns
        address = announced_in(frame)
        if address in wanted and address is not None:
            first.setdefault(address, frame.t_ns)
    if advert_ns is None or len(first) < len(wanted):
        return None
    return (max(first.values()) - advert_ns) / MILLISECOND_NS
