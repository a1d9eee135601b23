"""``vipd watch`` between two hosts of its own, with real packets."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vrrp import VRRPv3
from scapy.packet import Raw

from tests.adapters.conftest import Namespace, wait_for
from tests.cli.conftest import PROGRAM, vipd, vipd_without_privileges
from vipd.cli.watch import frames, open_tap
from vipd.errors import AdapterError
from vipd.model import parse_address
from vipd.wire.announce import gratuitous_arp, neighbour_advertisement

pytestmark = pytest.mark.netns

MAC = "02:00:00:00:00:0a"
PACKED_MAC = bytes.fromhex(MAC.replace(":", ""))
ADVERT = Ether(src=MAC, dst="01:00:5e:00:00:12") / IP(
    src="192.0.2.1", dst="224.0.0.18", ttl=255, proto=112
)


@dataclass
class Cable:
    """Two hosts; ``send`` puts frames on the wire at the left one."""

    left: Namespace
    right: Namespace

    def send(self, *frames: bytes, at: Namespace | None = None) -> None:
        with at or self.left, socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("eth0", 0))
            for frame in frames:
                sender.send(frame)


@pytest.fixture
def cable() -> Iterator[Cable]:
    left, right = Namespace(), Namespace()
    with left:
        peer = f"/proc/{os.getpid()}/fd/{right.fd}"
        command = f"ip link add eth0 type veth peer name eth0 netns {peer}"
        subprocess.run(command.split(), check=True)
    for host in (left, right):
        # No address, and IPv6 off: nothing is on the wire but what a test sends.
        host.run("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1; ip link set eth0 up")
    wait_for(lambda: left.link("eth0").up and right.link("eth0").up)
    yield Cable(left, right)
    left.close()
    right.close()


@contextmanager
def watching(host: Namespace, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The program on ``host``, once it listens."""
    command = [*PROGRAM, "watch", *options]
    with host:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    sockets = Path(f"/proc/{process.pid}/net/packet")
    try:
        # Protocol 0003, everything: the socket is open, with its filter before it.
        wait_for(lambda: " 0003 " in sockets.read_text(), 20)
        yield process
    finally:
        process.kill()
        process.communicate()


def test_what_passes_is_shown_in_order_and_noise_is_not(cable: Cable) -> None:
    advert = VRRPv3(vrid=51, priority=150, adv=100, addrlist=["192.0.2.100"])
    noise = [
        bytes(Ether(src=MAC) / ARP(psrc="192.0.2.1", pdst="192.0.2.2")),
        bytes(Ether(src=MAC) / IP(src="192.0.2.1", dst="192.0.2.2") / UDP()),
    ]
    before = time.time()
    with watching(cable.right, "-i", "eth0", "--json", "--count", "4") as process:
        cable.send(
            bytes(ADVERT / advert),
            *noise,
            gratuitous_arp(PACKED_MAC, parse_address("192.0.2.100")),
            neighbour_advertisement(PACKED_MAC, parse_address("2001:db8::100"), router=False),
        )
        cable.send(bytes(ADVERT / VRRPv3(vrid=51, priority=0, addrlist=["192.0.2.100"])),
                   at=cable.right)  # fmt: skip
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    first, arp, na, last = map(json.loads, output.splitlines())
    assert first == {
        "time": first["time"],
        "interface": "eth0",
        "direction": "in",
        "kind": "advert",
        "source": "192.0.2.1",
        "mac": MAC,
        "destination": "224.0.0.18",
        "version": 3,
        "vrid": 51,
        "priority": 150,
        "interval_ms": 1000,
        "addresses": ["192.0.2.100"],
        "checksum": "A",
        "remarks": [],
    }
    assert before < first["time"] < time.time()
    assert (arp["kind"], arp["address"], arp["mac"]) == ("arp", "192.0.2.100", MAC)
    assert (na["kind"], na["address"], na["mac"]) == ("na", "2001:db8::100", MAC)
    assert (last["direction"], last["remarks"]) == ("out", ["leaving"])


def test_text_on_all_interfaces_until_ctrl_c(cable: Cable) -> None:
    with watching(cable.right) as process:
        cable.send(
            bytes(ADVERT / VRRPv3(vrid=7, priority=0, adv=20, addrlist=["192.0.2.100"])),
            gratuitous_arp(PACKED_MAC, parse_address("192.0.2.100")),
        )
        assert process.stdout is not None
        advert, arp = process.stdout.readline(), process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert advert.split(" ", 1)[1] == (
        f"eth0 in VRRP 192.0.2.1 ({MAC}) > 224.0.0.18 v3 vrid 7 priority 0 every 0.2s "
        "checksum A 192.0.2.100 [leaving]\n"
    )
    assert arp.split(" ", 1)[1] == f"eth0 in ARP 192.0.2.100 is at {MAC} (request)\n"
    assert (process.returncode, rest, errors) == (0, "", "")


def test_it_goes_on_after_the_link_was_down(cable: Cable) -> None:
    with watching(cable.right, "-i", "eth0", "--count", "1") as process:
        cable.right.run("ip link set eth0 down; ip link set eth0 up")
        wait_for(lambda: cable.left.link("eth0").up)
        cable.send(gratuitous_arp(PACKED_MAC, parse_address("192.0.2.100")))
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert "192.0.2.100 is at" in output


def test_an_unknown_interface_is_bad_usage() -> None:
    result = vipd("watch", "-i", "no-such0")
    assert result.returncode == 2
    assert "no interface no-such0; there is lo" in " ".join(result.stderr.split())


def test_without_the_privilege_one_clear_line() -> None:
    result = vipd_without_privileges("watch")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "vipd: watching needs root, or CAP_NET_RAW: Operation not permitted\n"


def test_the_kernel_drops_what_is_not_watched(cable: Cable) -> None:
    watched = [
        bytes(ADVERT / VRRPv3(vrid=7, addrlist=["192.0.2.100"])),
        bytes(Ether(src=MAC) / IPv6(src="fe80::1", dst="ff02::12", nh=112) / Raw(bytes(8))),
        neighbour_advertisement(PACKED_MAC, parse_address("2001:db8::100"), router=False),
        bytes(Ether(src=MAC) / ARP(psrc="192.0.2.1", pdst="192.0.2.2")),
    ]
    noise = [
        bytes(Ether(src=MAC) / IP(src="192.0.2.1", dst="192.0.2.2") / UDP()),
        bytes(Ether(src=MAC) / IPv6(src="fe80::1", dst="fe80::2") / UDP()),
        bytes(Ether(src=MAC) / IPv6(src="fe80::1", dst="fe80::2") / ICMPv6ND_NS()),
        bytes(Ether(src=MAC, type=0x88CC) / Raw(bytes(60))),
    ]
    with cable.right:
        tap = open_tap("eth0")
    with tap:
        tap.settimeout(5)
        cable.send(*noise, *(frame for pair in zip(watched, noise, strict=True) for frame in pair))
        heard = [frame.data for frame in itertools.islice(frames(tap), len(watched))]
        tap.setblocking(False)
        with pytest.raises(AdapterError):
            next(frames(tap))
    assert heard == watched
