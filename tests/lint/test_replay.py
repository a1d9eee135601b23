"""Every cell of the table in docs/lint.md, replayed on three real daemons.

What is replayed is the example itself, with faster adverts, and with checks that are easy to fail
from outside: each looks for a file. The cells come from the lint's own JSON. For each row the fault
is applied and the holders are compared, cured and compared; and for each master that the table
lets die on top of it, every process of it is killed, and the heirs are compared.

Holders are who has the VIP in its kernel, dead hosts left out: the table speaks of power loss, and
these machines keep their kernel. Nothing is asked of the daemons.

Five labs work at the same time, because nearly all of the time is waiting.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from socket import AF_INET
from typing import Any

import pytest
import yaml
from pyroute2 import IPRoute

from tests.lint.rig import EXAMPLE
from vipd.lab.hosts import Host
from vipd.lab.netns import Lab
from vipd.lab.peers import Router, VipdNode
from vipd.lint.report import as_json, examine_files

pytestmark = pytest.mark.netns

ADVERT_S = 0.1
CHECK_S = 0.1
DWELL_S = 0.9
"""What can happen after a fault happens within this: two runs of a check, the debounce of the
example, and four adverts. What must not happen gets as long to happen."""
STEADY_S = 0.2
PATIENCE_S = 10.0
POLL_S = 0.04
LANES = 5

Holders = dict[str, list[str]]
Row = dict[str, Any]


def quickened(folder: Path) -> dict[str, Any]:
    """The example with the checks of one host as files in ``folder``, and fast adverts."""
    config: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    for instance in config["instances"].values():
        instance["advert_interval"] = f"{ADVERT_S * 1000:.0f}ms"
    span = f"{CHECK_S * 1000:.0f}ms"
    for name in config["checks"]:
        config["checks"][name] = {
            "file": str(folder / f"{name}.ok"),
            **{"interval": span, "timeout": span, "rise": 1, "fall": 1},
        }
    return config


class Node(VipdNode):
    """A daemon with the example's file."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, Router(("192.0.2.100/24",), 100))

    def configuration(self) -> dict[str, object]:
        ours = super().configuration()
        kept = {key: ours[key] for key in ("node", "runtime_dir", "state_dir", "log")}
        return {**kept, **quickened(self.host.directory)}


class Cluster:
    """Three daemons in one lab, and what can be done to them."""

    def __init__(self, lab: Lab, answer: dict[str, Any]) -> None:
        self.vips = {unit: set(each["vips"]) for unit, each in answer["units"].items()}
        self.normally: Holders = {unit: each["master"] for unit, each in answer["units"].items()}
        self.nodes = {name: Node(lab[name]) for name in answer["nodes"]}
        self.checks = list(quickened(Path())["checks"])
        self.dead: set[str] = set()
        # One socket for each host, kept: they are asked some ten times a second.
        self._netlink: dict[str, IPRoute] = {}
        for name, node in self.nodes.items():
            with node.host.namespace.inside():
                self._netlink[name] = IPRoute()

    def close(self) -> None:
        for netlink in self._netlink.values():
            netlink.close()

    def start(self) -> None:
        for node in self.nodes.values():
            node.host.run(["ip", "link", "add", "eth1", "type", "veth", "peer", "far1"])
            for interface in ("eth1", "far1"):
                node.host.run(["ip", "link", "set", interface, "up"])
            for check in self.checks:
                self._file(node, check).touch()
            node.start()
        for node in self.nodes.values():
            node.wait_ready()

    @staticmethod
    def _file(node: Node, check: str) -> Path:
        return node.host.directory / f"{check}.ok"

    def holders(self) -> Holders:
        present = {
            name: {message.get("local") for message in netlink.get_addr(family=AF_INET)}
            for name, netlink in self._netlink.items()
            if name not in self.dead
        }
        return {
            unit: [name for name, addresses in present.items() if vips <= addresses]
            for unit, vips in self.vips.items()
        }

    def settled(self, expected: Holders) -> Holders:
        """The holders once they are as expected and stay so, or after all patience."""
        begin = steady_from = time.monotonic()
        while True:
            seen, now = self.holders(), time.monotonic()
            if any(seen[unit] != who for unit, who in expected.items()):
                steady_from = now
            if now - begin > PATIENCE_S:
                return seen
            if now - begin > DWELL_S and now - steady_from > STEADY_S:
                return seen
            time.sleep(POLL_S)

    def change(self, fault: dict[str, Any], *, broken: bool) -> None:
        for name, node in self.nodes.items():
            if fault["node"] not in (None, name):
                continue
            if fault["kind"] == "node":
                if broken:
                    self.kill(name)
                else:
                    self.revive(name)
            elif fault["kind"] == "interface":
                state = "down" if broken else "up"
                node.host.run(["ip", "link", "set", fault["name"], state])
            elif broken:
                self._file(node, fault["name"]).unlink()
            else:
                self._file(node, fault["name"]).touch()

    def kill(self, name: str) -> None:
        self.dead.add(name)
        self.nodes[name].kill()

    def revive(self, name: str) -> None:
        self.nodes[name].start()
        self.nodes[name].wait_ready()
        self.dead.discard(name)


@contextmanager
def cluster(answer: dict[str, Any]) -> Iterator[Cluster]:
    with Lab(answer["nodes"]) as lab:
        running = Cluster(lab, answer)
        try:
            running.start()
            assert running.settled(running.normally) == running.normally
            yield running
        finally:
            running.close()


def column(row: Row, key: str) -> Holders:
    return {unit: cell[key] for unit, cell in row["cells"].items()}


def deaths(row: Row) -> list[str]:
    """Every master that some unit of the row lets die."""
    return sorted({cell["then_dies"] for cell in row["cells"].values() if cell["then_dies"]})


class Lane:
    """Plays rows on one cluster, and keeps what differs."""

    def __init__(self, running: Cluster) -> None:
        self._running = running
        self.cells = 0
        self.differences: list[str] = []

    def compare(self, what: str, expected: Holders) -> None:
        """``expected`` may leave units out that the table says nothing about."""
        seen = self._running.settled(expected)
        self.cells += len(expected)
        self.differences += [
            f"{what}: {unit} is held by {seen[unit]}, the table says {expected[unit]}"
            for unit in expected
            if seen[unit] != expected[unit]
        ]

    def play_cure(self, row: Row) -> None:
        """The columns "master is" and "once it is healed"."""
        fault = row["fault"]
        self._running.change(fault, broken=True)
        self.compare(f"{fault}", column(row, "master"))
        self._running.change(fault, broken=False)
        self.compare(f"{fault} healed", column(row, "healed"))

    def play_deaths(self, row: Row) -> None:
        """The column "and if that master dies", for every master of the row."""
        fault = row["fault"]
        self._running.change(fault, broken=True)
        self._running.settled(column(row, "master"))
        for name in deaths(row):
            self._running.kill(name)
            heirs = {
                unit: cell["heir"]
                for unit, cell in row["cells"].items()
                if cell["then_dies"] == name
            }
            self.compare(f"{fault} and {name} dies", heirs)
            self._running.revive(name)
            self._running.settled(column(row, "master"))
        self._running.change(fault, broken=False)
        self._running.settled(self._running.normally)


def shares(rows: list[Row]) -> list[list[tuple[str, Row]]]:
    """The work in equal parts: a cure costs two waits, each death two."""
    jobs = [("cure", row) for row in rows] + [("deaths", row) for row in rows if deaths(row)]
    lanes: list[list[tuple[str, Row]]] = [[] for _ in range(LANES)]
    load = [0] * LANES
    for kind, row in jobs:
        lane = load.index(min(load))
        lanes[lane].append((kind, row))
        load[lane] += 2 if kind == "cure" else 2 + 2 * len(deaths(row))
    return lanes


def play(share: list[tuple[str, Row]], answer: dict[str, Any]) -> Lane:
    with cluster(answer) as running:
        lane = Lane(running)
        for kind, row in share:
            if kind == "cure":
                lane.play_cure(row)
            else:
                lane.play_deaths(row)
        return lane


def test_every_cell_of_the_example_on_real_daemons() -> None:
    answer = json.loads(json.dumps(as_json(examine_files([EXAMPLE]))))
    with ThreadPoolExecutor(LANES) as pool:
        lanes = list(pool.map(play, shares(answer["rows"]), [answer] * LANES))
    assert [each for lane in lanes for each in lane.differences] == []
    wanted = sum(
        2 + (cell["then_dies"] is not None)
        for row in answer["rows"]
        for cell in row["cells"].values()
    )
    assert sum(lane.cells for lane in lanes) == wanted


def test_what_is_replayed_is_the_example(tmp_path: Path) -> None:
    """Faster adverts and other probes change no cell."""
    path = tmp_path / "vipd.yaml"
    path.write_text(yaml.safe_dump(quickened(tmp_path), sort_keys=False))
    original, copy = (as_json(examine_files([file])) for file in (EXAMPLE, path))
    for one, other in zip(original["rows"], copy["rows"], strict=True):
        assert one["fault"] == other["fault"]
        for key in ("master", "healed", "then_dies", "heir"):
            assert column(one, key) == column(other, key)
