"""What a run is made of, drawn from its seed: every run tries another mixture ("swarm").

A run that could meet every fault meets each of them in the same surroundings. Here a seed draws
which kinds of fault exist at all, how many hosts, routers and groups there are, what they track,
and how bad the network and the clocks may get; rare combinations come up because other things are
absent. Everything drawn is printed with a failure, and drawn again from the same seed.

About half of the seeds are clusters (``is_cluster``), the others plain VRRP; either can be asked
for, and what a seed draws in one mode does not depend on the other.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace

from vipd.model import (
    MILLISECOND_NS,
    OWNER_PRIORITY,
    SECOND_NS,
    ChecksumForm,
    Duration,
    Family,
    Health,
    Track,
    TrackKind,
    Vip,
    parse_address,
)
from vipd.sim.cluster_plans import ClusterPlan, draw_cluster, without_owner
from vipd.sim.plans import (
    MAIN,
    SIDE,
    UPLINK,
    CheckPlan,
    GroupPlan,
    HostPlan,
    InstancePlan,
    main_vip,
)

FAULT_KINDS = (
    "cut",
    "one-way-cut",
    "member-cut",
    "loss",
    "slow-network",
    "engine-crash",
    "engine-hang",
    "supervisor-death",
    "supervisor-silent",
    "kill-both",
    "host-crash",
    "pause",
    "netlink-refuses",
    "netlink-overflow",
    "address-deleted",
    "foreign-address",
    "link-down",
    "link-recreated",
    "uplink-flaps",
    "stop",
    "reload-vips",
    "reload-priority",
    "reload-interval",
    "reload-identity",
    "reload-name",
    "reload-tracks",
    "reload-group",
    "send-refused",
    "deaf",
    "second-address",
    "new-mac",
    "check-flips",
    "maintenance",
    "switchover",
    "two-operators",
)

_GAPS_MS = {False: (1500, 3000, 6000, 9000), True: (1000, 2000, 4000, 8000)}
_PHASES_S = {False: (25, 45), True: (20, 32)}
"""A cluster has more to say in a second, and so costs more of ours."""

_MODE = 0x5EED_C1A5
_PLAIN_ONLY = ("two-operators",)
"""In a cluster operators place units (``pin``, ``two-pins``) instead of only giving them away."""

CLUSTER_FAULT_KINDS = (
    *(kind for kind in FAULT_KINDS if kind not in _PLAIN_ONLY),
    "pin",
    "two-pins",
    "pin-storm",
    "two-maintenances",
    "acts-lost",
    "acts-late",
    "replays",
    "channel-cut",
    "channel-cut-one-way",
    "adverts-cut",
    "adverts-cut-one-way",
    "path-cut",
    "killed-in-handover",
    "flaps-in-handover",
    "counter-lost",
    "foreign-speaker",
    "rolling-restart",
    "reload-cluster",
    "reload-keys",
    "reload-nodes",
    "drift",
)


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that a seed draws before the run starts.

    ``tracks`` is what may be tracked at all; ``first_verdict_ns`` how long checks may take for
    their first verdict. ``cluster`` None: plain VRRP.
    """

    hosts: tuple[HostPlan, ...]
    instances: tuple[InstancePlan, ...]
    groups: tuple[GroupPlan, ...]
    checks: tuple[CheckPlan, ...]
    tracks: tuple[Track, ...]
    first_verdict_ns: Duration
    fault_kinds: tuple[str, ...]
    fault_gap_ns: Duration
    fault_phase_ns: Duration
    delay_ns: tuple[Duration, Duration]
    netlink_ns: tuple[Duration, Duration]
    hiccup_chance: float
    late_ipv6_ns: Duration
    cluster: ClusterPlan | None = None

    def __str__(self) -> str:
        lines = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("hosts", "instances", "groups", "checks", "tracks"):
                lines += [f"  {each}" for each in map(_describe, value)]
            else:
                lines.append(f"  {field.name} = {value}")
        return "\n".join(lines)


def _describe(plan: HostPlan | InstancePlan | GroupPlan | CheckPlan | Track) -> str:
    shown = []
    for field in fields(plan):
        value = getattr(plan, field.name)
        if field.name == "vips":
            value = ", ".join(f"{vip}@{vip.interface}" for vip in value)
        elif field.name == "track":
            value = ", ".join(track.label for track in value)
        shown.append(f"{field.name}={value}")
    return " ".join(shown)


def is_cluster(seed: int) -> bool:
    return random.Random(seed ^ _MODE).random() < 0.5


def draw(rng: random.Random, nodes: int | None = None, *, cluster: bool = False) -> Options:
    """The options of one run; ``nodes`` fixes the number of hosts."""
    count = nodes or rng.choice((2, 2, 2, 3))
    hosts = _hosts(rng, count)
    checks, tracks = _tracked(rng)
    grouped = rng.choice((0, 0, 0, 2, 2, 3))
    alone = rng.choice((1, 1, 2, 2, 3)) if not grouped else rng.choice((0, 0, 1))
    instances = tuple(_instance(rng, at, count, tracks) for at in range(grouped + alone))
    if cluster:
        instances = tuple(without_owner(plan, rng) for plan in instances)
    if not grouped and len(instances) > 1 and rng.random() < 0.6:  # active/active: crossed
        first = instances[0].priorities
        crossed = replace(instances[1], priorities=tuple(reversed(first)))
        if OWNER_PRIORITY not in first:
            instances = (instances[0], crossed, *instances[2:])
    groups: tuple[GroupPlan, ...] = ()
    if grouped:
        instances = (*harmonised(instances[:grouped], rng), *instances[grouped:])
        names = tuple(plan.name for plan in instances[:grouped])
        groups = (GroupPlan("edge", names, pick_tracks(rng, tracks)),)
    known = CLUSTER_FAULT_KINDS if cluster else FAULT_KINDS
    kinds = tuple(kind for kind in known if rng.random() < (0.25 if cluster else 0.4))
    slow = rng.choice((200, 500, 2000, 10_000)) * 1000
    return Options(
        hosts=hosts,
        instances=instances,
        groups=groups,
        checks=checks,
        tracks=tracks,
        first_verdict_ns=rng.choice((50, 1500, 6000)) * MILLISECOND_NS,
        fault_kinds=kinds or (rng.choice(known),),
        fault_gap_ns=rng.choice(_GAPS_MS[cluster]) * MILLISECOND_NS,
        fault_phase_ns=rng.randint(*_PHASES_S[cluster]) * SECOND_NS,
        delay_ns=(30_000, slow),
        netlink_ns=(50_000, rng.choice((200, 1000, 10_000)) * 1000),
        hiccup_chance=rng.choice((0.0, 0.002, 0.01)),
        late_ipv6_ns=rng.choice((0, 3 * MILLISECOND_NS)),
        cluster=draw_cluster(rng, count) if cluster else None,
    )


def _hosts(rng: random.Random, count: int) -> tuple[HostPlan, ...]:
    octets = rng.sample((11, 12, 13, 14), count)
    scale = rng.choice((0, 100_000, 1_000_000, 10_000_000))
    return tuple(
        HostPlan(
            name=f"lb{at + 1}",
            octet=octet,
            clock_offset_ns=rng.randint(1, 10**15),
            clock_drift_ppb=rng.randint(-scale, scale),
        )
        for at, octet in enumerate(octets)
    )


# --- routers and groups -----------------------------------------------------------------------


def _instance(rng: random.Random, at: int, count: int, tracks: tuple[Track, ...]) -> InstancePlan:
    version, family = rng.choice(
        ((2, Family.IPV4), (3, Family.IPV4), (3, Family.IPV4), (3, Family.IPV6))
    )
    preempt = rng.random() < 0.7
    unicast = rng.random() < 0.25
    delayed = preempt and rng.random() < 0.2
    secret = b"s3cr3t\0\0" if version == 2 and rng.random() < 0.3 else None
    return InstancePlan(
        name=f"vi{at + 1}",
        interface=MAIN,
        vrid=51 + at,
        version=version,
        family=family,
        priorities=_priorities(rng, count, owner=not unicast and rng.random() < 0.09),
        intervals_ns=_intervals(rng, version, count),
        preempt=(preempt,) * count,
        preempt_delay_ns=rng.randint(1, 4) * SECOND_NS if delayed else 0,
        vips=vips(family, at, rng.choice((1, 1, 1, 1, 2, 2, 2, 3, 3, 5, 8, 12, 40)), rng),
        unicast=unicast,
        checksum=rng.choice((ChecksumForm.AUTO, ChecksumForm.PSEUDO, ChecksumForm.PLAIN)),
        auth_secret=secret,
        announce_refresh_ns=rng.choice((0, 5, 60)) * SECOND_NS,
        track=pick_tracks(rng, tracks),
    )


def harmonised(members: tuple[InstancePlan, ...], rng: random.Random) -> tuple[InstancePlan, ...]:
    """As members of one group: what decides an election is the same in all of them."""
    first = members[0]
    priorities = first.priorities
    if OWNER_PRIORITY in priorities or rng.random() < 0.4:
        same = rng.randint(1, 254)  # ties are what a group needs a rule for
        priorities = (same,) * len(priorities)
    made = []
    for at, plan in enumerate(members):
        family = plan.family if first.version == 3 else Family.IPV4
        interface = rng.choice((MAIN, SIDE))
        kept = len([vip for vip in plan.vips if vip.advertise])
        made.append(
            replace(
                plan,
                interface=interface,
                version=first.version,
                family=family,
                priorities=priorities,
                intervals_ns=first.intervals_ns,
                preempt=first.preempt,
                preempt_delay_ns=first.preempt_delay_ns,
                auth_secret=plan.auth_secret if first.version == 2 else None,
                vips=tuple(
                    main_vip(family, at, number, interface) for number in range(min(kept, 12))
                ),
            )
        )
    return tuple(made)


def _priorities(rng: random.Random, count: int, *, owner: bool) -> tuple[int, ...]:
    kind = rng.random()
    if owner:
        return (OWNER_PRIORITY, *(rng.randint(1, 254) for _ in range(count - 1)))
    if kind < 0.25:
        return (rng.randint(1, 254),) * count
    if kind < 0.4:  # neighbours: their skews differ by as little as possible
        low = rng.randint(1, 250)
        return tuple(rng.sample(range(low, low + count), count))
    return tuple(rng.choice((1, 50, 100, 150, 200, 254)) for _ in range(count))


def _intervals(rng: random.Random, version: int, count: int) -> tuple[Duration, ...]:
    if version == 2:
        return (rng.choice((1, 1, 2)) * SECOND_NS,) * count
    choices = (1000, 1000, 1000, 1000, 700, 500, 500, 300, 200, 100)
    if rng.random() < 0.2:  # v3 backups learn the master's interval
        return tuple(rng.choice(choices) * MILLISECOND_NS for _ in range(count))
    return (rng.choice(choices) * MILLISECOND_NS,) * count


def vips(family: Family, at: int, count: int, rng: random.Random) -> tuple[Vip, ...]:
    """``count`` VIPs of router number ``at``; some ride along on the side interface."""
    found = [main_vip(family, at, number) for number in range(count)]
    if rng.random() < 0.2:
        found.append(Vip(parse_address(f"203.0.113.{20 + at}"), 24, SIDE, advertise=False))
    if family is Family.IPV4 and rng.random() < 0.15:
        found.append(Vip(parse_address(f"2001:db8::{at + 1}:0"), 64, MAIN, advertise=False))
    return tuple(found)


# --- checks and tracks ------------------------------------------------------------------------


def pick_tracks(rng: random.Random, tracks: tuple[Track, ...]) -> tuple[Track, ...]:
    """Some of what is tracked at all."""
    return tuple(track for track in tracks if rng.random() < 0.5)


def _tracked(rng: random.Random) -> tuple[tuple[CheckPlan, ...], tuple[Track, ...]]:
    """What exists to be tracked in this run: no check or interface in two ways."""
    checks, tracks = [], []
    for name in ("web", "proxy", "load")[: rng.choice((0, 1, 2, 2, 3))]:
        check, track = _check(rng, name)
        checks.append(check)
        tracks.append(track)
    if rng.random() < 0.4:
        tracks.append(
            Track(
                TrackKind.INTERFACE,
                rng.choice((UPLINK, UPLINK, SIDE)),
                weight=rng.choice((None, None, -60, 60)),
                debounce_ns=rng.choice((0, 300, 2000)) * MILLISECOND_NS,
            )
        )
    return tuple(checks), tuple(tracks)


def _check(rng: random.Random, name: str) -> tuple[CheckPlan, Track]:
    kind = rng.random()
    reverse = rng.random() < 0.3
    waits = rng.random() < 0.6
    if kind < 0.35:  # no weight: FAULT, so that being well is what keeps it out
        rest = Health.UNHEALTHY if reverse else Health.HEALTHY
        return CheckPlan(name, rest), Track(TrackKind.CHECK, name, None, reverse, waits)
    if kind < 0.8:
        weight = rng.choice((5, 30, 60, 253, -5, -30, -60, -60, -253))
        return CheckPlan(name, Health.HEALTHY), Track(
            TrackKind.CHECK, name, weight, reverse, waits and rng.random() < 0.5
        )
    numbers = (-300, -254, -253, -60, -5, 0, 1, 40, 300)
    factor = rng.choice((None, None, 1, -1, 2))
    plan = CheckPlan(name, Health.HEALTHY, numbers)
    return plan, Track(TrackKind.CHECK, name, factor, reverse and factor is not None, waits)
