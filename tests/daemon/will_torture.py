"""Kills and stops processes of two nodes at random moments, and watches from outside.

``python -m tests.daemon.will_torture SECONDS [SEED]`` runs it by hand for as long as wanted.

What must hold, whatever dies (``Torture.check``):

* Once a node's processes are dead and its service manager has run ``vipd release``, it has no VIP.
* No host has two engines.
* After the tombstone of a life of an engine nothing else of that life is on the wire (L2: no will
  for an engine that lives; the datagram's frame says whose it is), and by then its host's kernel
  had no VIP (L1).
* The page can be read after every death.
* In the end, one holder, and the best one.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.daemon.rig import PATIENCE_S, TAG, VIP, Daemon, is_alive, kill, router, sleep_ms
from vipd.lab.cluster import Cluster
from vipd.lab.hosts import Host, now_ns, signal_all, wait_for
from vipd.lab.netns import Lab
from vipd.lab.tools import Holders
from vipd.model import Instant
from vipd.will import FILE_NAME, PAGE_SIZE, Page

TOMBSTONE = 6
_MOST_SILENT_S = 4.0  # what a service manager waits before it kills
_PACKET_OUTGOING = 4
_EVERYTHING = 0x0003  # a bridge takes frames before sockets of one protocol see them
_LATE_NS = 60_000_000  # how late this process may note what it sees


@dataclass(frozen=True, slots=True)
class Seen:
    """The frame of one datagram of the channel, as it entered the switch."""

    t_ns: Instant
    source: str
    kind: int
    incarnation: int


class Channel:
    """Every datagram of the cluster channel, by what its open frame says."""

    def __init__(self, lab: Lab) -> None:
        self.seen: list[Seen] = []
        protocol = socket.htons(_EVERYTHING)
        self._socket = lab.switch.socket(socket.AF_PACKET, socket.SOCK_RAW, protocol)
        self._socket.settimeout(0.2)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._ending.is_set():
            with suppress(TimeoutError):
                data, where = self._socket.recvfrom(2048)
                body = data[14 + 20 + 8 :]
                is_ours = data[12:14] == b"\x08\x00" and data[23] == socket.IPPROTO_UDP
                is_ours = is_ours and body[:4] == b"VIPC"
                if is_ours and where[2] != _PACKET_OUTGOING and where[0] != "br0":
                    source = socket.inet_ntop(socket.AF_INET, data[26:30])
                    incarnation = int.from_bytes(body[16:24], "big")
                    self.seen.append(Seen(now_ns(), source, body[7], incarnation))


class Node:
    """One daemon, and the service manager's part for it."""

    def __init__(self, host: Host, priority: int, cluster: Cluster) -> None:
        self.host = host
        self.daemon = Daemon(host, router(priority, interval_ms=200), cluster=cluster)
        self.page = host.directory / "run" / FILE_NAME

    def engines(self) -> list[int]:
        """All engines of this host, whoever their parent is; not those that are dying."""
        found = []
        for entry in os.listdir("/proc"):
            with suppress(OSError):
                if (
                    entry.isdigit()
                    and b"vipd.engine" in Path(f"/proc/{entry}/cmdline").read_bytes()
                ):
                    ours = os.readlink(f"/proc/{entry}/cwd") == str(self.host.directory)
                    if ours and is_alive(int(entry)):
                        found.append(int(entry))
        return found

    def holds_tagged(self) -> bool:
        return any(entry.tag == TAG for entry in self.host.addresses())

    def read_page(self) -> None:
        """Raises what makes it unreadable."""
        with open(self.page, "rb") as file, mmap.mmap(file.fileno(), PAGE_SIZE, prot=1) as memory:
            page = Page(memoryview(bytearray(memory)))
            assert page.is_ours
            page.read()

    def serve(self) -> None:
        """The service manager: nothing is left of what has died, and it starts anew."""
        if self.daemon.process.poll() is None:
            return
        limit = now_ns() + int(_MOST_SILENT_S * 1e9)
        while self.engines() and now_ns() < limit:
            sleep_ms(10)
        signal_all(self.engines(), signal.SIGKILL)
        wait_for(lambda: not self.engines(), PATIENCE_S, "an engine that SIGKILL does not end")
        self.read_page()
        self.daemon.cli("release")
        assert not self.holds_tagged(), f"{self.host.name}: a VIP is left behind"
        self.read_page()
        self.daemon.start()


class Torture:
    """``steps`` says what was done how often."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.steps: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._watch = Holders(lab, [VIP])
        self._channel = Channel(lab)
        cluster = Cluster([lab["lb1"], lab["lb2"]])
        self.nodes = [Node(lab["lb1"], 150, cluster), Node(lab["lb2"], 100, cluster)]
        self._faults: tuple[Callable[[Node], None], ...] = (
            self._kill_engine,
            self._kill_supervisor,
            self._kill_both,
            self._stop_engine,
            self._stop_supervisor,
        )
        self._moves: tuple[Callable[[Node], None], ...] = (
            self._nothing,
            self._nothing,
            self._switchover,
            self._reload,
            self._end,
        )

    # --- what is done -------------------------------------------------------------------------

    def begin(self) -> None:
        for node in self.nodes:
            node.daemon.start()
        for node in self.nodes:
            node.daemon.wait_ready()
        self.nodes[0].daemon.wait_state("MASTER")

    def step(self) -> None:
        """A move may be under way when the fault comes, from its first moment to its last."""
        if self._chance.random() < 0.6:
            self._settle()
        mover, node = self._chance.choice(self.nodes), self._victim()
        move, fault = self._chance.choice(self._moves), self._chance.choice(self._faults)
        self.steps[move.__name__] += 1
        self.steps[fault.__name__] += 1
        move(mover)
        sleep_ms(self._chance.choice((0, 1, 5, 20, 80)) * self._chance.random())
        fault(node)
        for each in self.nodes:
            assert len(each.engines()) <= 1, f"{each.host.name}: two engines"
        for each in self.nodes:
            each.serve()
        sleep_ms(self._chance.random() * 900)

    def _settle(self) -> None:
        """Until the nodes know each other, for a while: a will names who was heard."""
        with suppress(TimeoutError):
            wait_for(lambda: all(map(self._at_rest, self.nodes)), 8, "not at rest", 0.1)

    def _at_rest(self, node: Node) -> bool:
        try:
            status = node.daemon.status()
        except (OSError, ValueError):
            return False  # it is just being started
        members = (status.get("cluster") or {}).get("nodes", {})
        known = len(members) == 2 and all(member["alive"] for member in members.values())
        return known and status["instances"]["web"]["state"] in ("MASTER", "BACKUP")

    def _victim(self) -> Node:
        """Mostly the one that has something to lose."""
        holders = [node for node in self.nodes if node.holds_tagged()]
        most = holders if holders and self._chance.random() < 0.8 else self.nodes
        return self._chance.choice(most)

    def _nothing(self, _node: Node) -> None:
        """No move."""

    def _switchover(self, node: Node) -> None:
        argv = ["switchover", "web", "--to", self._chance.choice(("lb1", "lb2"))]
        threading.Thread(target=node.daemon.cli, args=argv, kwargs={"check": False}).start()
        sleep_ms(500 * self._chance.random())  # the command needs a while to begin

    def _reload(self, node: Node) -> None:
        """Another interval is another router: it releases, and begins anew."""
        node.daemon.change(advert_interval=f"{self._chance.choice((200, 210, 220))}ms")
        signal_all([node.daemon.supervisor], signal.SIGHUP)
        sleep_ms(700 * self._chance.random())

    def _end(self, node: Node) -> None:
        node.daemon.stop()

    def _kill_engine(self, node: Node) -> None:
        signal_all(node.engines(), signal.SIGKILL)

    def _kill_supervisor(self, node: Node) -> None:
        if node.daemon.process.poll() is None:
            kill(node.daemon.supervisor)
            node.daemon.wait()

    def _kill_both(self, node: Node) -> None:
        node.daemon.kill()
        signal_all(node.engines(), signal.SIGKILL)

    def _stop_engine(self, node: Node) -> None:
        signal_all(node.engines(), signal.SIGSTOP)
        sleep_ms(300)

    def _stop_supervisor(self, node: Node) -> None:
        if node.daemon.process.poll() is None:
            kill(node.daemon.supervisor, signal.SIGSTOP)
            sleep_ms(600 * self._chance.random())
            kill(node.daemon.supervisor, signal.SIGCONT)

    # --- what must hold -----------------------------------------------------------------------

    def heal(self) -> None:
        """Nothing dies any more: the best node alone holds the VIP."""
        one, two = self.nodes
        for node in self.nodes:
            node.serve()
            node.daemon.change(advert_interval="200ms")
        for node in self.nodes:
            node.daemon.wait_engine()
            wait_for(node.daemon.control.exists, PATIENCE_S, "no control socket")
            wait_for(lambda node=node: self._answers(node), PATIENCE_S, "no answer")
            signal_all([node.daemon.supervisor], signal.SIGHUP)
        one.daemon.cli("switchover", "web", "--auto", check=False)
        wait_for(lambda: one.holds_tagged() and not two.holds_tagged(), 30, "not the best one")

    def _answers(self, node: Node) -> bool:
        try:
            return bool(node.daemon.status()["instances"])
        except OSError:
            return False

    def check(self) -> int:
        """The wire's story; returns how many tombstones it has."""
        held = self._watch.told()
        over: dict[tuple[str, int], Instant] = {}
        for seen in self._channel.seen:
            life = (seen.source, seen.incarnation)
            if seen.kind == TOMBSTONE:
                over.setdefault(life, seen.t_ns)
                host = next(node.host for node in self.nodes if node.host.ipv4 == seen.source)
                told = [one for one in held if one.host == host.name and one.t_ns <= seen.t_ns]
                soon = [
                    one
                    for one in held
                    if one.host == host.name and 0 < one.t_ns - seen.t_ns < _LATE_NS
                ]
                gone = not told or not told[-1].has or any(not one.has for one in soon)
                assert gone, f"{host.name}: a tombstone before the VIP was gone"
            else:
                assert life not in over, f"{seen}: its tombstone was at {over.get(life)}"
        return len(over)

    def close(self) -> None:
        self._channel.close()


@contextmanager
def torture(seed: int) -> Iterator[Torture]:
    with Lab(["lb1", "lb2"]) as lab:
        made = Torture(lab, seed)
        try:
            made.begin()
            yield made
        finally:
            made.close()


def run(seconds: float, seed: int) -> tuple[Counter[str], int]:
    """Steps for so long, then heal and check; what was done, and how many tombstones were sent."""
    with torture(seed) as made:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            made.step()
        made.heal()
        return made.steps, made.check()


if __name__ == "__main__":
    print(*run(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1), sep="\n")
