"""The judge of interop tests: sees the switch's capture and the kernels, never a daemon's word.

* Who is master? Whoever sends adverts with a priority above 0, by the switch port they come in
  at (a source address could lie).
* Who holds the VIPs? The kernel of each host that is alive and connected says.
* How long did a handover take? The difference of two captured frames.

Adverts are decoded by scapy, not by the code under test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from scapy.layers.l2 import ARP, Ether
from scapy.layers.vrrp import VRRP, VRRPv3

from vipd.lab.capture import Frame
from vipd.lab.hosts import now_ns, wait_for
from vipd.lab.netns import Lab
from vipd.lab.peers import Speaker
from vipd.lab.tools import Capture
from vipd.model import Instant

MS = 1_000_000
_TIMEOUT_S = 12.0
_BROADCAST = "ff:ff:ff:ff:ff:ff"


@dataclass(frozen=True, slots=True)
class SeenAdvert:
    """One advert on the wire; ``port`` is the host that sent it."""

    t_ns: Instant
    port: str
    version: int
    vrid: int
    priority: int

    @property
    def is_goodbye(self) -> bool:
        return self.priority == 0


def _is_vrrp(data: bytes) -> bool:
    return (data[12:14] == b"\x08\x00" and data[23] == 112) or (
        data[12:14] == b"\x86\xdd" and data[20] == 112
    )


def _decode(frame: Frame) -> SeenAdvert:
    packet = Ether(frame.data)
    vrrp = packet[VRRPv3] if VRRPv3 in packet else packet[VRRP]
    return SeenAdvert(frame.t_ns, frame.interface, vrrp.version, vrrp.vrid, vrrp.priority)


class Judge:
    """Watches one lab from its switch."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._capture = Capture(lab)
        self._decoded: dict[tuple[int, str], SeenAdvert] = {}

    def adverts(self, since_ns: Instant = 0) -> list[SeenAdvert]:
        """All adverts since an instant, in the order of the wire."""
        seen = []
        for frame in self._capture.frames():
            if frame.t_ns >= since_ns and _is_vrrp(frame.data):
                key = (frame.t_ns, frame.interface)
                if key not in self._decoded:
                    self._decoded[key] = _decode(frame)
                seen.append(self._decoded[key])
        return seen

    def _find(self, choose: Callable[[SeenAdvert], bool], since_ns: Instant, what: str) -> Instant:
        found: list[SeenAdvert] = []

        def seen() -> bool:
            found[:] = [advert for advert in self.adverts(since_ns) if choose(advert)]
            return bool(found)

        wait_for(seen, _TIMEOUT_S, what)
        return found[0].t_ns

    def first_advert(self, port: str, since_ns: Instant) -> Instant:
        """Wait for an advert of a master at this port."""
        return self._find(
            lambda advert: advert.port == port and not advert.is_goodbye,
            since_ns,
            f"no advert from {port}",
        )

    def goodbye(self, port: str, since_ns: Instant) -> Instant:
        """Wait for a priority 0 advert at this port."""
        return self._find(
            lambda advert: advert.port == port and advert.is_goodbye,
            since_ns,
            f"no priority 0 from {port}",
        )

    def last_advert(self, port: str, until_ns: Instant) -> Instant:
        """The last advert that this port sent before an instant."""
        return max(a.t_ns for a in self.adverts() if a.port == port and a.t_ns < until_ns)

    def announcements(self, since_ns: Instant) -> set[tuple[str, str]]:
        """The (port, address) of every gratuitous ARP to all since an instant.

        Not those to one host: a kernel that still has the address answers the gratuitous request
        of another one, which nobody else hears.
        """
        packets = (
            (frame.interface, Ether(frame.data))
            for frame in self._capture.frames()
            if frame.t_ns >= since_ns
        )
        return {
            (port, packet[ARP].psrc)
            for port, packet in packets
            if ARP in packet and packet[ARP].psrc == packet[ARP].pdst and packet.dst == _BROADCAST
        }

    def masters(self, since_ns: Instant, length_ns: int, connected: Iterable[Speaker]) -> set[str]:
        """The connected hosts that advertise in a window; blocks until the window is over."""
        end_ns = since_ns + length_ns
        wait_for(lambda: now_ns() > end_ns + 20 * MS, _TIMEOUT_S, "the window does not end")
        names = {speaker.host.name for speaker in connected}
        return {
            advert.port
            for advert in self.adverts(since_ns)
            if advert.t_ns <= end_ns and advert.port in names and not advert.is_goodbye
        }


def holders(connected: Iterable[Speaker]) -> set[str]:
    """The hosts of which the kernel has any of the VIPs, provided that none has only some."""
    some = [speaker for speaker in connected if speaker.holds_any()]
    partial = [speaker.host.name for speaker in some if not speaker.holds()]
    if partial:
        raise AssertionError(f"{partial} hold only some of their VIPs")
    return {speaker.host.name for speaker in some}
