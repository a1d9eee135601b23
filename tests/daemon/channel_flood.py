"""Sends garbage to the cluster channel at a rate: ``channel_flood TARGET PORT RATE SECONDS``.

Prints how many were sent: half are noise, half begin like a datagram of vipd, so that their proof
must be checked before they are known to be nothing.
"""

from __future__ import annotations

import random
import socket
import sys
import time

STEP_S = 0.002
HEAD = b"VIPC\x02\x01\x02\x01"


def main(target: str, port: int, rate: int, seconds: float) -> int:
    sock = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM)
    noise = [random.randbytes(random.randrange(1, 1400)) for _ in range(64)]
    forged = [HEAD + random.randbytes(random.randrange(80, 1100)) for _ in range(64)]
    begin, sent = time.monotonic(), 0
    while (now := time.monotonic() - begin) < seconds:
        while sent < now * rate:
            sock.sendto((noise, forged)[sent % 2][sent // 2 % 64], (target, port))
            sent += 1
        time.sleep(STEP_S)
    return sent


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
