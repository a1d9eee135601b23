"""The cluster section of a run: who is in it, over which LANs they talk, how fast, with which keys.

All hosts have the same one but for the moments of a reload, and for the wire versions that each
speaks: the hosts of a cluster are upgraded one after the other.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace

from vipd.members import Versions
from vipd.model import (
    MILLISECOND_NS,
    OWNER_PRIORITY,
    Address,
    ClusterConfig,
    Duration,
    Family,
    MemberConfig,
    parse_address,
)
from vipd.sim.plans import MAIN, SIDE, HostPlan, InstancePlan

_OLD, _NEW = Versions(1, 1), Versions(1, 2)
_GHOST = "lb9"


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """``paths``: the LANs. ``keys``: the first signs. ``ghost``: a node that never answers."""

    paths: tuple[str, ...]
    heartbeat_interval_ns: Duration
    heartbeat_timeout_ns: Duration
    speaks: tuple[Versions, ...]
    keys: tuple[int, ...] = (1,)
    ghost: bool = False
    edition: int = 0

    def addresses(self, host: HostPlan) -> tuple[Address, ...]:
        return tuple(host.address(path, Family.IPV4) for path in self.paths)

    def config_for(self, hosts: tuple[HostPlan, ...], generation: int) -> ClusterConfig:
        nodes = [MemberConfig(host.name, self.addresses(host)) for host in hosts]
        if self.ghost:
            nodes.append(MemberConfig(_GHOST, (parse_address("192.0.2.99"),)))
        named = f"{generation} {self.edition} {self.ghost} {self.heartbeat_timeout_ns}"
        return ClusterConfig(
            name="edge",
            nodes=tuple(nodes),
            keys=tuple(bytes((key,)) * 32 for key in self.keys),
            digest=hashlib.sha256(named.encode()).digest()[:8],
            heartbeat_interval_ns=self.heartbeat_interval_ns,
            heartbeat_timeout_ns=self.heartbeat_timeout_ns,
        )


def draw_cluster(rng: random.Random, count: int) -> ClusterPlan:
    interval_ns = rng.choice((50, 100, 100, 200, 200, 200)) * MILLISECOND_NS
    timeout_ns = rng.choice((300, 300, 1000, 1000, 2000)) * MILLISECOND_NS
    mixed = rng.random() < 0.25
    return ClusterPlan(
        paths=rng.choice(((MAIN,), (MAIN,), (SIDE,), (MAIN, SIDE), (MAIN, SIDE))),
        heartbeat_interval_ns=interval_ns,
        heartbeat_timeout_ns=max(timeout_ns, 3 * interval_ns),
        speaks=tuple(_OLD if mixed and rng.random() < 0.5 else _NEW for _ in range(count)),
    )


def without_owner(plan: InstancePlan, rng: random.Random) -> InstancePlan:
    """An address owner cannot hand over: cluster mode has none."""
    priorities = tuple(
        rng.choice((50, 100, 150, 200)) if each == OWNER_PRIORITY else each
        for each in plan.priorities
    )
    return replace(plan, priorities=priorities)


# --- reloads of the section -------------------------------------------------------------------


def other_timing(plan: ClusterPlan, rng: random.Random) -> ClusterPlan:
    interval_ns = rng.choice((50, 100, 200)) * MILLISECOND_NS
    timeout_ns = rng.choice((400, 1000, 1500)) * MILLISECOND_NS
    return replace(
        plan,
        heartbeat_interval_ns=interval_ns,
        heartbeat_timeout_ns=max(timeout_ns, 3 * interval_ns),
        edition=plan.edition + 1,
    )


def key_step(plan: ClusterPlan, number: int) -> ClusterPlan:
    """As ``vipd keygen`` does it: add, swap, retire. Each step goes to all hosts."""
    keys = plan.keys
    if number == 0:
        return replace(plan, keys=(keys[0], keys[0] % 250 + 1))
    if number == 1:
        return replace(plan, keys=tuple(reversed(keys)))
    return replace(plan, keys=keys[:1])
