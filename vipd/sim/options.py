"""What a run is made of, drawn from its seed: every run tries another mixture ("swarm").

A run that could meet every fault meets each of them in the same surroundings. Here a seed draws
which kinds of fault exist at all, how many hosts and routers there are, and how bad the network
and the clocks may get; rare combinations come up because other things are absent. Everything
drawn is printed with a failure, and drawn again from the same seed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace

from vipd.model import (
    MILLISECOND_NS,
    OWNER_PRIORITY,
    SECOND_NS,
    Address,
    ChecksumForm,
    Duration,
    Family,
    InstanceConfig,
    Vip,
    parse_address,
)

FAULT_KINDS = (
    "cut",
    "one-way-cut",
    "loss",
    "slow-network",
    "engine-crash",
    "engine-hang",
    "supervisor-death",
    "kill-both",
    "host-crash",
    "pause",
    "netlink-refuses",
    "netlink-overflow",
    "address-deleted",
    "foreign-address",
    "link-down",
    "link-recreated",
    "stop",
    "reload-vips",
    "reload-priority",
    "reload-interval",
    "reload-identity",
    "send-refused",
    "second-address",
    "new-mac",
)

MAIN, SIDE = "eth0", "eth1"
LIFETIME_FLOOR_S = 2


@dataclass(frozen=True, slots=True)
class HostPlan:
    """One host: ``octet`` ends all its addresses, so it decides ties."""

    name: str
    octet: int
    clock_offset_ns: int
    clock_drift_ppb: int

    @property
    def ipv4(self) -> Address:
        return parse_address(f"192.0.2.{self.octet}")

    @property
    def link_local(self) -> Address:
        return parse_address(f"fe80::{self.octet}")

    @property
    def side(self) -> Address:
        return parse_address(f"203.0.113.{self.octet}")


@dataclass(frozen=True, slots=True)
class InstancePlan:
    """One virtual router on all hosts; tuples go by host."""

    name: str
    vrid: int
    version: int
    family: Family
    priorities: tuple[int, ...]
    intervals_ns: tuple[Duration, ...]
    preempt: tuple[bool, ...]
    preempt_delay_ns: Duration
    vips: tuple[Vip, ...]
    unicast: bool
    checksum: ChecksumForm
    auth_secret: bytes | None
    announce_refresh_ns: Duration

    @property
    def slowest_ns(self) -> Duration:
        return max(self.intervals_ns)

    @property
    def longest_down_ns(self) -> Duration:
        """The longest silence that any host of it may wait through: priority 1, slowest master."""
        return 3 * self.slowest_ns + (SECOND_NS if self.version == 2 else self.slowest_ns)

    @property
    def lifetime_s(self) -> int:
        return max(LIFETIME_FLOOR_S, self.longest_down_ns // SECOND_NS + 1)

    def config_for(self, host: int, hosts: tuple[HostPlan, ...]) -> InstanceConfig:
        peers: tuple[Address, ...] = ()
        source = None
        if self.unicast:
            addresses = [h.ipv4 if self.family is Family.IPV4 else h.link_local for h in hosts]
            source = addresses[host]
            peers = tuple(address for address in addresses if address != source)
        return InstanceConfig(
            name=self.name,
            interface=MAIN,
            vrid=self.vrid,
            version=self.version,
            family=self.family,
            priority=self.priorities[host],
            advert_interval_ns=self.intervals_ns[host],
            vips=self.vips,
            address_lifetime_s=self.lifetime_s,
            preempt=self.preempt[host],
            preempt_delay_ns=self.preempt_delay_ns,
            source=source,
            unicast_peers=peers,
            auth_secret=self.auth_secret,
            checksum=self.checksum,
            announce_refresh_ns=self.announce_refresh_ns,
        )


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that a seed draws before the run starts."""

    hosts: tuple[HostPlan, ...]
    instances: tuple[InstancePlan, ...]
    fault_kinds: tuple[str, ...]
    fault_gap_ns: Duration
    fault_phase_ns: Duration
    delay_ns: tuple[Duration, Duration]
    netlink_ns: tuple[Duration, Duration]
    hiccup_chance: float
    late_ipv6_ns: Duration

    def __str__(self) -> str:
        lines = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("hosts", "instances"):
                lines += [f"  {each}" for each in map(_describe, value)]
            else:
                lines.append(f"  {field.name} = {value}")
        return "\n".join(lines)


def _describe(plan: HostPlan | InstancePlan) -> str:
    shown = []
    for field in fields(plan):
        value = getattr(plan, field.name)
        if field.name == "vips":
            value = ", ".join(f"{vip}@{vip.interface}" for vip in value)
        shown.append(f"{field.name}={value}")
    return " ".join(shown)


def draw(rng: random.Random, nodes: int | None = None) -> Options:
    """The options of one run; ``nodes`` fixes the number of hosts."""
    count = nodes or rng.choice((2, 2, 2, 3))
    hosts = _hosts(rng, count)
    instances = tuple(_instance(rng, at, count) for at in range(rng.choice((1, 1, 2, 2, 3))))
    if len(instances) > 1 and rng.random() < 0.6:  # active/active: crossed priorities
        first = instances[0].priorities
        crossed = replace(instances[1], priorities=tuple(reversed(first)))
        if OWNER_PRIORITY not in first:
            instances = (instances[0], crossed, *instances[2:])
    kinds = tuple(kind for kind in FAULT_KINDS if rng.random() < 0.4)
    slow = rng.choice((200, 500, 2000, 10_000)) * 1000
    return Options(
        hosts=hosts,
        instances=instances,
        fault_kinds=kinds or (rng.choice(FAULT_KINDS),),
        fault_gap_ns=rng.choice((1500, 3000, 6000, 9000)) * MILLISECOND_NS,
        fault_phase_ns=rng.randint(25, 45) * SECOND_NS,
        delay_ns=(30_000, slow),
        netlink_ns=(50_000, rng.choice((200, 1000, 10_000)) * 1000),
        hiccup_chance=rng.choice((0.0, 0.002, 0.01)),
        late_ipv6_ns=rng.choice((0, 3 * MILLISECOND_NS)),
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


def _instance(rng: random.Random, at: int, count: int) -> InstancePlan:
    version, family = rng.choice(
        ((2, Family.IPV4), (3, Family.IPV4), (3, Family.IPV4), (3, Family.IPV6))
    )
    preempt = rng.random() < 0.7
    unicast = rng.random() < 0.25
    delayed = preempt and rng.random() < 0.2
    secret = b"s3cr3t\0\0" if version == 2 and rng.random() < 0.3 else None
    return InstancePlan(
        name=f"vi{at + 1}",
        vrid=51 + at,
        version=version,
        family=family,
        priorities=_priorities(rng, count, owner=not unicast and rng.random() < 0.06),
        intervals_ns=_intervals(rng, version, count),
        preempt=(preempt,) * count,
        preempt_delay_ns=rng.randint(1, 4) * SECOND_NS if delayed else 0,
        vips=vips(family, at, rng.choice((1, 1, 1, 1, 2, 2, 2, 3, 3, 5, 8, 12, 40)), rng),
        unicast=unicast,
        checksum=rng.choice((ChecksumForm.AUTO, ChecksumForm.PSEUDO, ChecksumForm.PLAIN)),
        auth_secret=secret,
        announce_refresh_ns=rng.choice((0, 5, 60)) * SECOND_NS,
    )


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
        found.append(Vip(parse_address(f"203.0.113.{100 + at}"), 24, SIDE, advertise=False))
    if family is Family.IPV4 and rng.random() < 0.15:
        found.append(Vip(parse_address(f"2001:db8::{at + 1}:0"), 64, MAIN, advertise=False))
    return tuple(found)


def main_vip(family: Family, at: int, number: int) -> Vip:
    """VIP ``number`` of router ``at``; odd IPv4 ones lie outside the host's own subnet."""
    last = 100 + 45 * at + number
    if family is Family.IPV4:
        subnet = "198.51.100" if number % 2 else "192.0.2"
        return Vip(parse_address(f"{subnet}.{last}"), 24, MAIN)
    if number == 0:  # RFC 9568 §5.2.9: the first one is link-local
        return Vip(parse_address(f"fe80::{last:x}:1"), 64, MAIN)
    return Vip(parse_address(f"2001:db8::{last:x}"), 64, MAIN)
