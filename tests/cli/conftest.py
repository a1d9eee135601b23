"""A daemon that only answers: the real control server, and the real shape of the status, before
instances that a test makes up. Its socket is in a directory of its own, named by a configuration
file as on a host.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from vipd.members import ChannelDiscard
from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    ClaimState,
    ClusterConfig,
    DiscardReason,
    LeaseState,
    Reason,
    State,
)
from vipd.snapshots import (
    ClusterSnapshot,
    InstanceSnapshot,
    MasterSnapshot,
    MemberSnapshot,
    PathSnapshot,
    ReportSnapshot,
    Snapshot,
    VipSnapshot,
)
from vipd.supervisor.control import SOCKET_NAME, ControlServer
from vipd.supervisor.status import node_status

NOW_NS = 1_000 * SECOND_NS

BACKUP = InstanceSnapshot(
    name="web",
    interface="eth0",
    vrid=51,
    version=3,
    state=State.BACKUP,
    since_ns=NOW_NS - 252 * SECOND_NS,
    reason=Reason.HIGHER_PRIORITY_HEARD,
    detail="192.0.2.11 priority 150",
    faults=(),
    priority_base=100,
    priority_effective=100,
    contributions=(),
    master=MasterSnapshot("", "192.0.2.11", 150),
    source="192.0.2.12",
    vips=(
        VipSnapshot("192.0.2.100/24", "eth0", False),
        VipSnapshot("2001:db8::100/64", "eth0", False),
    ),
    lease=LeaseState.NONE,
    claim=ClaimState.ABSENT,
    deadline_ns=NOW_NS + 3200 * MILLISECOND_NS,
    deadline_means="takes over unless a master is heard",
    master_down_interval_ns=3_609_375_000,
    takeover_floor_ns=3 * SECOND_NS,
    skew_ns=609_375_000,
    learned_interval_ns=SECOND_NS,
    last_advert_heard_ns=NOW_NS - 400 * MILLISECOND_NS,
    counters={
        "adverts_sent": 7,
        "adverts_received": 250,
        "adverts_failed": 0,
        "transitions": 5,
        "addresses_restored": 0,
        "rival_announcements": 0,
    },
    discarded={reason.value: 0 for reason in DiscardReason},
)

MASTER = replace(
    BACKUP,
    name="api",
    state=State.MASTER,
    reason=Reason.MASTER_SILENT,
    detail="",
    priority_base=150,
    priority_effective=150,
    master=MasterSnapshot("lb2", "192.0.2.12", 150),
    vips=(VipSnapshot("192.0.2.101/24", "eth0", True),),
    lease=LeaseState.HELD,
    claim=ClaimState.PRESENT,
    deadline_ns=NOW_NS + 600 * MILLISECOND_NS,
    deadline_means="next advert",
    last_advert_heard_ns=None,
)

FAULT = replace(
    BACKUP,
    name="db",
    state=State.FAULT,
    reason=Reason.INTERFACE_DOWN,
    detail="eth1",
    faults=("interface-down: eth1", "vip-keeps-vanishing: 192.0.2.102/24"),
    master=None,
    deadline_ns=None,
    deadline_means="",
)


def said(
    unit: str,
    state: State = State.BACKUP,
    reason: Reason = Reason.HIGHER_PRIORITY_HEARD,
    priority: int = 100,
    **more: Any,
) -> ReportSnapshot:
    """What a node says of a unit, whose master is lb1 by its seventh mastership."""
    report = ReportSnapshot(unit, state, reason.value, "", priority, priority, 7, "lb1")
    return replace(report, **more)


def member(name: str, *units: ReportSnapshot, ago_ms: int = 40, **more: Any) -> MemberSnapshot:
    """A node that is heard by two paths."""
    heard = NOW_NS - ago_ms * MILLISECOND_NS
    number = name.removeprefix("lb")
    paths = tuple(PathSnapshot(f"10.0.{net}.{number}", heard) for net in (0, 1))
    shot = MemberSnapshot(
        name, True, heard, software="1.2.3", wire_version=2, incarnation=9, paths=paths, units=units
    )
    return replace(shot, **more)


LB1 = member("lb1", said("web", State.MASTER, Reason.MASTER_SILENT, 150))
LB2 = replace(member("lb2", said("web")), is_self=True, paths=(), last_heard_ns=None)
LB3 = member("lb3", said("web", priority=90))
WITNESS = MemberSnapshot("w1", False, None, is_witness=True)

CLUSTER = ClusterSnapshot(
    "shop", (LB1, LB2, LB3), {**{each.value: 0 for each in ChannelDiscard}, "stale": 0}
)
CLUSTER_CONFIG = ClusterConfig("shop", (), (), b"")

FOLLOWER = replace(
    BACKUP,
    unit="web",
    master=MasterSnapshot("lb1", "192.0.2.11", 150),
    term=7,
    deadline_ns=NOW_NS + 960 * MILLISECOND_NS,
)


@dataclass
class FakeDaemon:
    """What the control server asks; set the fields and look at what comes out."""

    config: Path
    instances: list[InstanceSnapshot] = field(default_factory=lambda: [BACKUP, MASTER])
    more: dict[str, Any] = field(default_factory=dict)
    plan: tuple[str, ...] = ()
    refusal: Exception | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    cluster: ClusterSnapshot | None = None

    async def status(self) -> dict[str, Any]:
        outside = {reason.value: 0 for reason in DiscardReason}
        instances = tuple(self.instances)
        snapshot = Snapshot(NOW_NS, "lb2", 3, instances, outside, cluster=self.cluster)
        answer = node_status(snapshot, time.time(), CLUSTER_CONFIG) | {
            "version": "1.2.3",
            "uptime_s": 3900.0,
            "age_ms": 0.6,
            "engine": {"pid": 77, "restarts": 2, "realtime": "nice -20", "memory": "locked"},
            "configuration": {"file": "/etc/vipd.yaml", "generation": 3},
            "alarms": [],
            "maintenance": None,
            "notes_dropped": 0,
        }
        return answer | self.more

    async def reload(self) -> tuple[str, ...]:
        if self.refusal is not None:
            raise self.refusal
        return self.plan

    def happened(self, instance: str, most: int) -> list[dict[str, Any]]:
        return self.history[-most:]

    def end_waiting(self) -> None:
        """Nobody waits here."""

    @property
    def socket(self) -> Path:
        return self.config.parent / SOCKET_NAME


class ServerThread:
    """The control server in a thread of its own."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self._server = ControlServer(daemon, daemon.socket)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(5)

    def __exit__(self, *_exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


@pytest.fixture
def absent() -> Iterator[FakeDaemon]:
    """A configuration file, and no daemon."""
    # Not tmp_path: the path of a Unix socket must be short.
    with tempfile.TemporaryDirectory(prefix="vipd-") as directory:
        config = Path(directory) / "vipd.yaml"
        config.write_text(f"runtime_dir: {directory}\n")
        yield FakeDaemon(config)


@pytest.fixture
def daemon(absent: FakeDaemon) -> Iterator[FakeDaemon]:
    with ServerThread(absent):
        yield absent


PROGRAM = [sys.executable, "-c", "from vipd.cli import main; main()"]


def vipd(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The program as the shell sees it."""
    return _run([*PROGRAM, *map(str, arguments)])


def vipd_without_privileges(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The program as a user whom no capability lets pass where the mode forbids it.

    Still root by number: an ordinary user might not be allowed to read Python's own libraries.
    """
    dropping = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    return _run([*dropping, *PROGRAM, *map(str, arguments)])


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
