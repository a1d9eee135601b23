"""What the engine shows of itself: frozen values, made by the core, read by status and explain.

Conventions as in ``model``. Only additions: old consumers must find what they know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vipd.model import (
    Alarm,
    ClaimState,
    Contribution,
    Duration,
    Health,
    Instant,
    LeaseState,
    Reason,
    State,
    TrackKind,
)


@dataclass(frozen=True, slots=True)
class VipSnapshot:
    address: str
    interface: str
    present: bool


@dataclass(frozen=True, slots=True)
class MasterSnapshot:
    """The master as this node knows it; ``node`` is empty where only the address is known."""

    node: str
    address: str
    priority: int


@dataclass(frozen=True, slots=True)
class TrackSnapshot:
    """One track as it counts now. ``number`` as in ``Verdict``; ``weight`` None: FAULT."""

    label: str
    kind: TrackKind
    health: Health
    weight: int | None
    reverse: bool
    contribution: int
    number: int | None = None


@dataclass(frozen=True, slots=True)
class PathSnapshot:
    """One address of a member, and when it was last heard from there."""

    address: str
    last_heard_ns: Instant | None


@dataclass(frozen=True, slots=True)
class ReportSnapshot:
    """One unit as its node reports it. ``reason`` and ``detail`` are words.

    ``since_ns``: since when that node is heard to be its master; None: it is not.
    """

    unit: str
    state: State
    reason: str
    detail: str
    priority: int
    priority_base: int
    term: int
    master: str
    since_ns: Instant | None = None


@dataclass(frozen=True, slots=True)
class MemberSnapshot:
    """One member of the cluster. This node itself is alive and has no paths.

    ``left``: it said that it ends, or its supervisor that it died. ``drifted``: its configuration
    differs from ours in what must be equal.
    """

    name: str
    alive: bool
    last_heard_ns: Instant | None
    is_self: bool = False
    is_witness: bool = False
    left: bool = False
    software: str = ""
    wire_version: int = 0
    incarnation: int = 0
    maintenance: bool = False
    drifted: bool = False
    paths: tuple[PathSnapshot, ...] = ()
    units: tuple[ReportSnapshot, ...] = ()


@dataclass(frozen=True, slots=True)
class PinSnapshot:
    """``until_ns`` None: until somebody ends it."""

    unit: str
    node: str
    version: int
    until_ns: Instant | None


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """The cluster as this node knows it. ``discarded`` counts datagrams of the channel by reason;
    ``stale`` is among its keys: acting messages that were about something else."""

    name: str
    members: tuple[MemberSnapshot, ...]
    discarded: Mapping[str, int]
    pins: tuple[PinSnapshot, ...] = ()


@dataclass(frozen=True, slots=True)
class InstanceSnapshot:
    """One instance at one instant; instants are CLOCK_BOOTTIME ns, None where nothing runs.

    ``unit`` is the group that it is in, or its own name. ``held``: it does not take over from a
    live master because its mastership was given away on purpose.

    In a cluster a better node asks the master for the mastership: ``asks_at_ns`` is when (again),
    ``refused_for`` why the last answer was no, empty if there was none.
    """

    name: str
    interface: str
    vrid: int
    version: int
    state: State
    since_ns: Instant
    reason: Reason
    detail: str
    faults: tuple[str, ...]
    priority_base: int
    priority_effective: int
    contributions: tuple[Contribution, ...]
    master: MasterSnapshot | None
    source: str
    vips: tuple[VipSnapshot, ...]
    lease: LeaseState
    claim: ClaimState
    deadline_ns: Instant | None
    deadline_means: str
    master_down_interval_ns: Duration
    takeover_floor_ns: Duration
    skew_ns: Duration
    learned_interval_ns: Duration
    last_advert_heard_ns: Instant | None
    counters: Mapping[str, int]
    discarded: Mapping[str, int]
    unit: str = ""
    tracks: tuple[TrackSnapshot, ...] = ()
    held: bool = False
    preempt: bool = True
    term: int = 0
    handing_to: str = ""
    asks_at_ns: Instant | None = None
    refused_for: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole node at instant ``now_ns``."""

    now_ns: Instant
    node: str
    generation: int
    instances: tuple[InstanceSnapshot, ...]
    discarded_without_instance: Mapping[str, int]
    alarms: tuple[Alarm, ...] = ()
    maintenance: bool = False
    cluster: ClusterSnapshot | None = None
