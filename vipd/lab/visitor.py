"""A user of the web in the lab: asks every VIP over HTTP, and writes down who answered when.

What ``client.py`` asks is an echo that stands for the host; this one asks the service itself. The
log has the same lines, so ``outages.py`` judges both; ``E`` stands here for everything but status
200: refused, another status, or no whole answer within ``--give-up`` (then without a reason).

Each question is a connection of its own that waits for no other one: a proxy that hangs does not
keep the visitor from seeing the next host answer.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import signal
import sys
from typing import TextIO

from vipd.lab.hosts import now_ns
from vipd.lab.server import HTTP_PORT

_FLUSH_S = 0.05
_GOOD = b" 200 "


class _Visitor:
    def __init__(self, out: TextIO, give_up_s: float) -> None:
        self._out = out
        self._give_up_s = give_up_s
        self._running: set[asyncio.Task[None]] = set()

    async def ask_for_ever(self, vip: str, period_s: float) -> None:
        loop = asyncio.get_running_loop()
        due_s, sequence = loop.time(), 0
        while True:
            task = loop.create_task(self._ask(vip, sequence))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            sequence += 1
            due_s = max(due_s + period_s, loop.time())  # late questions are not made up for
            await asyncio.sleep(due_s - loop.time())

    async def flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._out.flush()

    async def _ask(self, vip: str, sequence: int) -> None:
        self._out.write(f"S {vip} {sequence} {now_ns()}\n")
        try:
            async with asyncio.timeout(self._give_up_s):
                name = await _name_of(vip)
        except TimeoutError:
            name, code = "", 0
        except OSError as error:
            name, code = "", error.errno or 0
        else:
            code = errno.EBADMSG
        kind, what = ("R", name) if name else ("E", str(code))
        self._out.write(f"{kind} {vip} {sequence} {now_ns()} {what}\n")


async def _name_of(vip: str) -> str:
    """The host that answers; empty when what comes is no good answer."""
    reader, writer = await asyncio.open_connection(vip, HTTP_PORT)
    try:
        writer.write(f"GET / HTTP/1.0\r\nHost: {vip}\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.transport.abort()  # nothing of it lingers, and a late answer finds nobody
    return body.decode().strip() if _GOOD in head.split(b"\r\n")[0] + b" " else ""


async def _run(vips: list[str], period_s: float, give_up_s: float, out: TextIO) -> None:
    visitor = _Visitor(out, give_up_s)
    questions = (visitor.ask_for_ever(vip, period_s) for vip in vips)
    everything = asyncio.gather(visitor.flush_for_ever(), *questions)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, everything.cancel)
    try:
        await everything
    except asyncio.CancelledError:
        return


def main() -> int:
    """``visitor --out FILE VIP...``; runs until SIGTERM."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("vips", nargs="+")
    parser.add_argument("--out", required=True)
    parser.add_argument("--rate", type=int, default=100, help="questions per second and VIP")
    parser.add_argument("--give-up", type=float, default=0.25, metavar="SECONDS")
    options = parser.parse_args()
    with open(options.out, "a") as out:
        asyncio.run(_run(options.vips, 1 / options.rate, options.give_up, out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
