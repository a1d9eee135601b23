"""``vipd watch``: VRRP adverts and address announcements, live from the wire.

Independent of the daemon: it works without one, on any host of the network. A filter in the
kernel passes only VRRP, ARP and Neighbor Advertisements, so a busy interface costs nothing.
Interfaces without Ethernet frames (tunnels) are left out.
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vipd.adapters import bpf
from vipd.errors import AdapterError, PermissionMissing

if TYPE_CHECKING:
    from vipd.cli.packets import Seen

_ETH_P_ALL = 0x0003
_ETHERNET_KINDS = (1, 772)  # ARPHRD_ETHER, ARPHRD_LOOPBACK
_PACKET_OUTGOING = 4
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_MR_ALLMULTI = 2
_MEMBERSHIP = struct.Struct("=iHH8s")
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")
_LARGEST_FRAME = 2048
_BUFFER = 1024 * 1024

_LINK_PROTOCOL = 0xFFFFF000  # SKF_AD_OFF + SKF_AD_PROTOCOL: the EtherType, whatever the link is
FILTER = (
    bpf.load_word(_LINK_PROTOCOL),
    bpf.skip_unless_equal(0x0806, 1),  # ARP
    bpf.ACCEPT,
    bpf.skip_unless_equal(0x0800, 4),  # IPv4: protocol 112
    bpf.load_byte(bpf.NETWORK_HEADER + 9),
    bpf.skip_unless_equal(112, 1),
    bpf.ACCEPT,
    bpf.DROP,
    bpf.skip_unless_equal(0x86DD, 7),  # IPv6: next header 112, or ICMPv6 type 136
    bpf.load_byte(bpf.NETWORK_HEADER + 6),
    bpf.skip_unless_equal(112, 1),
    bpf.ACCEPT,
    bpf.skip_unless_equal(58, 3),
    bpf.load_byte(bpf.NETWORK_HEADER + 40),
    bpf.skip_unless_equal(136, 1),
    bpf.ACCEPT,
    bpf.DROP,
)

InterfaceOption = Annotated[
    str | None, typer.Option("-i", "--interface", help="Default: all interfaces.")
]
CountOption = Annotated[int, typer.Option("--count", min=0, help="Stop after so many; 0: never.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]

app = typer.Typer()


@app.callback()
def _group() -> None:
    """Commands that look at the wire."""


@app.command("watch")
def watch(
    interface: InterfaceOption = None, count: CountOption = 0, as_json: JsonOption = False
) -> None:
    """Show VRRP adverts, gratuitous ARP and unsolicited NA as they pass. Needs root."""
    sock = open_tap(interface)
    # After the socket: what passes while scapy is loaded is shown as well.
    from vipd.cli.packets import decode

    shown = 0
    try:
        for frame in frames(sock):
            seen = decode(frame.data)
            if seen is None:
                continue
            print(json.dumps(as_values(frame, seen)) if as_json else line(frame, seen), flush=True)
            shown += 1
            if shown == count:
                return
    except KeyboardInterrupt:
        return  # the way to end it
    finally:
        sock.close()


@dataclass(frozen=True, slots=True)
class Frame:
    """A captured Ethernet frame; ``wall`` is the kernel's time of arrival."""

    wall: float
    interface: str
    sent: bool
    data: bytes


def open_tap(interface: str | None) -> socket.socket:
    """A packet socket that hears what is watched, on one interface or on all."""
    protocol = socket.htons(_ETH_P_ALL) if interface is None else 0  # 0: nothing before bind()
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, protocol)
    except PermissionError as error:
        message = f"watching needs root, or CAP_NET_RAW: {error.strerror}"
        raise PermissionMissing(message, error.errno or 0) from error
    bpf.attach(sock, FILTER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    links = {name: index for index, name in socket.if_nameindex()}
    if interface is None:
        chosen = list(links.values())
    elif interface in links:
        chosen = [links[interface]]
        sock.bind((interface, _ETH_P_ALL))
    else:
        sock.close()
        known = ", ".join(links)
        raise typer.BadParameter(f"no interface {interface}; there is {known}", param_hint="-i")
    for index in chosen:
        _join_all_groups(sock, index)
    return sock


def _join_all_groups(sock: socket.socket, index: int) -> None:
    """Adverts of groups that this host is no member of pass the network card, too."""
    membership = _MEMBERSHIP.pack(index, _PACKET_MR_ALLMULTI, 0, b"")
    with contextlib.suppress(OSError):  # a link that cannot filter, or that just went
        sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)


def frames(sock: socket.socket) -> Iterator[Frame]:
    """What passes, for ever."""
    while True:
        try:
            data, ancillary, _flags, sender = sock.recvmsg(_LARGEST_FRAME, 64)
        except OSError as error:
            if error.errno == errno.ENETDOWN:
                continue  # said once when the link goes down; it may come up again
            raise AdapterError(f"watching: {error.strerror}", error.errno or 0) from error
        name, _protocol, direction, hardware, _address = sender
        if hardware in _ETHERNET_KINDS:
            yield Frame(_arrival(ancillary), name, direction == _PACKET_OUTGOING, data)


def _arrival(ancillary: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return float(seconds + nanoseconds / 1e9)
    return time.time()


def as_values(frame: Frame, seen: Seen) -> dict[str, Any]:
    """The packet for ``--json``."""
    return {
        "time": frame.wall,
        "interface": frame.interface,
        "direction": _direction(frame),
        "kind": seen.kind,
        "source": seen.source,
        "mac": seen.mac,
        **seen.values,
        "remarks": seen.remarks,
    }


def line(frame: Frame, seen: Seen) -> str:
    """The packet as one line of text."""
    fraction = int(frame.wall % 1 * 1e6)
    clock = f"{time.strftime('%H:%M:%S', time.localtime(frame.wall))}.{fraction:06d}"
    remarks = f" [{', '.join(seen.remarks)}]" if seen.remarks else ""
    text = _advert(seen) if seen.kind == "advert" else _announcement(seen)
    return f"{clock} {frame.interface} {_direction(frame)} {text}{remarks}"


def _direction(frame: Frame) -> str:
    return "out" if frame.sent else "in"


def _advert(seen: Seen) -> str:
    start = f"VRRP {seen.source} ({seen.mac})"
    if not seen.values:
        return start
    values = seen.values
    return (
        f"{start} > {values['destination']} v{values['version']} vrid {values['vrid']} "
        f"priority {values['priority']} every {values['interval_ms'] / 1000:g}s "
        f"checksum {values['checksum']} {','.join(values['addresses'])}"
    )


def _announcement(seen: Seen) -> str:
    name = {"arp": "ARP", "na": "NA"}[seen.kind]
    return f"{name} {seen.values['address']} is at {seen.mac} ({seen.values['operation']})"
