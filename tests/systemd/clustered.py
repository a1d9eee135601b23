"""The two hosts as a cluster, and a client that asks the VIP a thousand times a second.

``lb1`` is the better node and gets the VIP back whenever it can. Client and echo are the lab's
(``vipd.lab``): they run outside the hosts' sandboxes, in their networks, and know no vipd.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.systemd.pair import VIP, Pair
from tests.systemd.rig import ROOT, Host, wait_for
from vipd.lab.bench.pairs import Answers
from vipd.model import MILLISECOND_NS, Instant

KEY_FILE = "/etc/vipd/cluster.key"
SECTION = """\
cluster:
  name: shop
  key_file: /etc/vipd/cluster.key
  heartbeat_timeout: 300ms
  nodes:
    lb1: [198.51.100.11]
    lb2: [198.51.100.12]
"""
CONFIG = f"""\
instances:
  web:
    interface: host0
    vrid: 51
    priority: {{lb1: 150, lb2: 100}}
    vips:
      - 198.51.100.100/24
address_lifetime: 60s
{SECTION}"""
SLOW_CONFIG = CONFIG.replace("300ms", "20s")
"""Silence alone moves nothing while a test looks."""

BACK_LIMIT_S = 20.0  # an engine that died waits 5 s before it asks for its VIPs
NOISE_MS = 5.0
_HTTP_PORT = "8080"  # not used, and not that of anything in the tree


@dataclass(frozen=True, slots=True)
class Move:
    """Another host answers; ``outage_ms`` before that nobody did. Counted from the event on."""

    to: str
    outage_ms: float
    after_ms: float

    def __str__(self) -> str:
        return f"to {self.to} {self.outage_ms:.1f} ms (at {self.after_ms:.0f} ms)"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the client saw of an event.

    ``gaps_ms``: all that were longer than 5 ms while the VIP stayed where it was. A busy machine
    makes some, short ones.
    """

    moves: tuple[Move, ...]
    gaps_ms: tuple[float, ...]

    @property
    def hosts(self) -> list[str]:
        return [move.to for move in self.moves]

    @property
    def total_ms(self) -> float:
        """Without an answer, whatever the cause."""
        return sum(move.outage_ms for move in self.moves) + sum(self.gaps_ms)

    def __str__(self) -> str:
        total_ms = sum(move.outage_ms for move in self.moves)
        moves = ", ".join(map(str, self.moves))
        text = f"{moves}; {total_ms:.1f} ms in total"
        if self.gaps_ms:
            text += f"; {len(self.gaps_ms)} gaps elsewhere, up to {max(self.gaps_ms):.1f} ms"
        return text


class Shop:
    """The cluster with its client, while the ``with`` block lasts."""

    def __init__(self, pair: Pair, directory: Path) -> None:
        self.better, self.other = pair.hosts
        self._hosts = pair.hosts
        self._namespace = pair.rig.bridge.namespace
        self._log = directory / "probes.log"
        self._log.touch()
        self._answers = Answers(self._log)
        self._running = ExitStack()

    def __enter__(self) -> Shop:
        for host in self._hosts:
            server = ("-m", "vipd.lab.server", host.name, "--http-port", _HTTP_PORT)
            self._start(host.on_its_network(sys.executable, *server))
        client = ("-m", "vipd.lab.client", "--out", str(self._log), VIP)
        self._start(["ip", "netns", "exec", self._namespace, sys.executable, *client])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()
        self._answers.close()

    def _start(self, command: list[str]) -> None:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self._running.callback(process.wait)
        self._running.callback(process.kill)

    def rest(self) -> None:
        """The better node serves, and each believes that the other lives and who is master."""
        self.wait_served_by(self.better)
        wait_for(
            lambda: [master_of(host) for host in self._hosts] == [self.better.name] * 2,
            "both nodes know each other and the master",
        )

    def wait_served_by(self, host: Host) -> None:
        wait_for(
            lambda: self._answers.steady(VIP, host.name),
            f"{host.name} serves, and nobody else",
            BACK_LIMIT_S,
        )

    def wait_moves(self, count: int, since_ns: Instant) -> None:
        wait_for(
            lambda: len(self.seen(since_ns).moves) >= count,
            f"the VIP moves {count} times",
            BACK_LIMIT_S,
        )

    def seen(self, since_ns: Instant) -> Seen:
        answers = [each for each in self._answers.of(VIP) if each.received_ns >= since_ns]
        moves, gaps_ms = [], []
        for old, new in itertools.pairwise(answers):
            gap_ms = (new.received_ns - old.received_ns) / MILLISECOND_NS
            if new.host != old.host:
                after_ms = (new.received_ns - since_ns) / MILLISECOND_NS
                moves.append(Move(new.host, gap_ms, after_ms))
            elif gap_ms > NOISE_MS:
                gaps_ms.append(gap_ms)
        return Seen(tuple(moves), tuple(gaps_ms))


def master_of(host: Host) -> str:
    """The node that has the VIP by this one's word; nobody, unless it hears all nodes."""
    said = host.run("vipd", "status", "--json", check=False)
    nodes = json.loads(said)["cluster"]["nodes"] if said.startswith("{") else {}
    if not nodes or not all(node["alive"] and "web" in node["units"] for node in nodes.values()):
        return ""
    masters = [name for name, node in nodes.items() if node["units"]["web"]["state"] == "MASTER"]
    return masters[0] if len(masters) == 1 else ""


def events(host: Host, kind: str) -> list[dict[str, Any]]:
    """What the journal has of one kind, the newest last."""
    lines = host.run("vipd", "events", "--json", "-n", "500").splitlines()
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    return [entry["fields"] for entry in entries if entry["kind"] == kind]


def incarnation(host: Host) -> int:
    """The number of lives that is kept."""
    return int(host.run("cat", "/var/lib/vipd/incarnation"))
