"""Sends frames of one kind at a rate: ``flood INTERFACE MAC SOURCE KIND RATE SECONDS``.

Prints how many were sent. Packets are built here from the RFC, not by the code under test.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import time
from collections.abc import Callable

GROUP = "224.0.0.18"
GROUP_MAC = bytes.fromhex("01005e000012")
BROADCAST = b"\xff" * 6
VRID, VIP = 51, "192.0.2.100"
STEP_S = 0.002
VARIANTS = 256


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def advert(source: str, vrid: int = VRID, priority: int = 10, spoil: int = 0) -> bytes:
    """A VRRPv3 message with its checksum over the pseudo-header."""
    body = struct.pack("!BBBBHH", 0x31, vrid, priority, 1, 20, 0) + socket.inet_aton(VIP)
    pseudo = socket.inet_aton(source) + socket.inet_aton(GROUP) + struct.pack("!BBH", 0, 112, 12)
    return body[:6] + struct.pack("!H", checksum(pseudo + body) ^ spoil) + body[8:]


def packet(mac: bytes, source: str, body: bytes, ttl: int = 255) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0xC0, 20 + len(body), 0, 0, ttl, 112, 0)
    head += socket.inet_aton(source) + socket.inet_aton(GROUP)
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return GROUP_MAC + mac + b"\x08\x00" + head + body


def claim(mac: bytes) -> bytes:
    """A gratuitous ARP: somebody else says that it has the VIP."""
    address = socket.inet_aton(VIP)
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + address + b"\0" * 6 + address
    return BROADCAST + mac + b"\x08\x06" + body


KINDS: dict[str, Callable[[bytes, str], bytes]] = {
    "malformed": lambda mac, source: packet(
        mac, source, random.randbytes(random.randrange(100)), random.choice((255, 255, 1))
    ),
    "ttl": lambda mac, source: packet(mac, source, advert(source, priority=200), 254),
    "checksum": lambda mac, source: packet(
        mac, source, advert(source, priority=200, spoil=random.randrange(1, 1 << 15))
    ),
    "vrid": lambda mac, source: packet(mac, source, advert(source, 99, 200)),
    "lower": lambda mac, source: packet(mac, source, advert(source)),
    "rival": lambda mac, _source: claim(mac),
}


def main() -> None:
    interface, mac, source, kind, rate, seconds = sys.argv[1:]
    make = KINDS[kind]
    frames = [make(bytes.fromhex(mac.replace(":", "")), source) for _ in range(VARIANTS)]
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.bind((interface, 0))
    begin = time.monotonic()
    sent = 0
    while (passed := time.monotonic() - begin) < float(seconds):
        for _ in range(int(passed * float(rate)) - sent):
            sock.send(frames[sent % VARIANTS])
            sent += 1
        time.sleep(STEP_S)
    sys.stdout.write(f"{sent}\n")


if __name__ == "__main__":
    main()
