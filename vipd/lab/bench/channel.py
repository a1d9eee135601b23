"""What the channel costs a node: three nodes at rest in cluster mode, beside three without it.

Both trios run at the same time, so that they share whatever else the machine does. Told is what a
node takes in all its processes; a difference belongs to two nodes with the same place in the
election, and the greatest one counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from vipd.lab.bench.figures import VIPD, MeasurementFailed, Progress, short
from vipd.lab.bench.pairs import HIGH, QUIET_LOG, ROUTERS, sleep_ns
from vipd.lab.bench.stage import agree
from vipd.lab.bench.steady import cpu_ns, resident_mib
from vipd.lab.cluster import Cluster
from vipd.lab.hosts import wait_for
from vipd.lab.netns import Lab
from vipd.lab.peers import VipdNode
from vipd.model import MILLISECOND_NS, SECOND_NS

_NAMES = ("lb1", "lb2", "lb3")
_STEP = 10  # of priority, from node to node
_START_LIMIT_S = 30.0
_SETTLE_NS = 3 * SECOND_NS
_MOST_CPU_MS = 20.0  # in a second: 2 % of a core
_MOST_MEMORY_MIB = 80.0


@dataclass(frozen=True, slots=True)
class CostFigure:
    """One row: a value of each node, the master first. The limit is for the difference, or else
    for the value in cluster mode.
    """

    heads: ClassVar[tuple[str, ...]] = (
        "three nodes at rest",
        "plain\nmost",
        "cluster\nmost",
        "difference\nmost",
        "goal",
        "met",
    )

    name: str
    what: str
    unit: str
    plain: tuple[float, ...]
    cluster: tuple[float, ...]
    limit: float
    of_difference: bool

    @property
    def difference(self) -> float:
        pairs = zip(self.cluster, self.plain, strict=True)
        return max(cluster - plain for cluster, plain in pairs)

    @property
    def met(self) -> bool:
        return (self.difference if self.of_difference else max(self.cluster)) <= self.limit

    @property
    def went_wrong(self) -> tuple[str, ...]:
        """Nothing: what goes wrong ends the measurement."""
        return ()

    def row(self) -> list[str]:
        values = (max(self.plain), max(self.cluster), self.difference)
        what = "difference " if self.of_difference else ""
        goal = f"{what}≤ {short(self.limit)} {self.unit}"
        met = "yes" if self.met else "MISSED"
        return [self.what, *(f"{short(value)} {self.unit}" for value in values), goal, met]

    def sentence(self) -> str:
        what, plain, cluster, difference, goal, met = self.row()
        return f"{what}: plain {plain}, cluster {cluster}, difference {difference} ({goal}: {met})"

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "plain": list(self.plain),
            "cluster": list(self.cluster),
            "limit": self.limit,
            "of_difference": self.of_difference,
            "met": self.met,
        }


@contextmanager
def _trio(in_cluster: bool) -> Iterator[Sequence[VipdNode]]:
    """Three nodes at rest, the master first."""
    with Lab(_NAMES) as lab:
        hosts = [lab[name] for name in _NAMES]
        cluster = Cluster(hosts) if in_cluster else None
        nodes = [
            VipdNode(
                host,
                replace(ROUTERS[VIPD], priority=HIGH - place * _STEP),
                QUIET_LOG,
                cluster=cluster,
            )
            for place, host in enumerate(hosts)
        ]
        for node in nodes:
            node.start()
        master, *others = nodes

        def rests() -> bool:
            held = master.holds() and not any(node.holds_any() for node in others)
            return held and (cluster is None or agree(nodes, master.host.name))

        try:
            wait_for(rests, _START_LIMIT_S, "the three do not come to rest", poll_s=0.1)
        except TimeoutError as error:
            raise MeasurementFailed(str(error)) from error
        yield nodes


def at_rest(seconds: int, progress: Progress) -> Iterator[CostFigure]:
    """CPU and memory of a node with two peers, with and without the channel."""
    with ExitStack() as stack:
        trios = [stack.enter_context(_trio(in_cluster)) for in_cluster in (False, True)]
        sleep_ns(_SETTLE_NS)
        progress(f"{seconds} s")
        pids = [[node.pids() for node in trio] for trio in trios]
        before = [[cpu_ns(node) for node in trio] for trio in pids]
        sleep_ns(seconds * SECOND_NS)
        after = [[cpu_ns(node) for node in trio] for trio in pids]
        memory_plain, memory_cluster = (tuple(map(resident_mib, trio)) for trio in pids)
    plain, cluster = (
        tuple((end - start) / MILLISECOND_NS / seconds for start, end in zip(*ends, strict=True))
        for ends in zip(before, after, strict=True)
    )
    cpu, size = "CPU of a node, 1 s adverts", "memory of a node, all processes (RSS)"
    yield CostFigure("cluster-cpu", cpu, "ms/s", plain, cluster, _MOST_CPU_MS, True)
    yield CostFigure(
        "cluster-memory", size, "MiB", memory_plain, memory_cluster, _MOST_MEMORY_MIB, False
    )
