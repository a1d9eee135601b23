"""What a run is made of: hosts, routers, groups and what they track. Plain values.

A *unit* is what moves as one: a group, or a router that is in none. All members of a group have
one version, priority, interval and ``preempt``, as the configuration demands.
"""

from __future__ import annotations

from dataclasses import dataclass

from vipd.model import (
    SECOND_NS,
    Address,
    ChecksumForm,
    Duration,
    Family,
    GroupConfig,
    Health,
    InstanceConfig,
    Track,
    TrackKind,
    Vip,
    VipKey,
    parse_address,
)

MAIN, SIDE = "eth0", "eth1"
UPLINK = "eth2"
"""Carries no router: it is only tracked."""

LIFETIME_FLOOR_S = 2
_MIRROR = 25
"""Octets are 11 to 14: who has the higher address on one LAN has the lower one on another."""


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
    def side(self) -> Address:
        return parse_address(f"203.0.113.{_MIRROR - self.octet}")

    def link_local(self, interface: str) -> Address:
        last = _MIRROR - self.octet if interface == MAIN else self.octet
        return parse_address(f"fe80::{last}")

    def address(self, interface: str, family: Family) -> Address:
        """With which a router speaks there."""
        if family is Family.IPV6:
            return self.link_local(interface)
        return self.ipv4 if interface == MAIN else self.side


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """One check that exists on all hosts. ``numbers``: what a number check may give."""

    name: str
    at_rest: Health
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class InstancePlan:
    """One virtual router on all hosts; tuples go by host."""

    name: str
    interface: str
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
    track: tuple[Track, ...] = ()

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
            addresses = [each.address(self.interface, self.family) for each in hosts]
            source = addresses[host]
            peers = tuple(address for address in addresses if address != source)
        return InstanceConfig(
            name=self.name,
            interface=self.interface,
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
            track=self.track,
        )


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """Routers that move together; ``members`` are names."""

    name: str
    members: tuple[str, ...]
    track: tuple[Track, ...] = ()

    def config_for(self, host: int) -> GroupConfig:
        """Every host lists the members in another order: nothing may depend on it."""
        turn = host % len(self.members)
        return GroupConfig(self.name, self.members[turn:] + self.members[:turn], self.track)


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """A group, or a router that is in none."""

    name: str
    members: tuple[InstancePlan, ...]
    track: tuple[Track, ...]

    @property
    def first(self) -> InstancePlan:
        """Speaks for all members, where they agree."""
        return self.members[0]

    @property
    def keys(self) -> frozenset[VipKey]:
        return frozenset(vip.key for member in self.members for vip in member.vips)

    @property
    def longest_down_ns(self) -> Duration:
        return max(member.longest_down_ns for member in self.members)

    @property
    def slowest_ns(self) -> Duration:
        return max(member.slowest_ns for member in self.members)

    @property
    def longest_debounce_ns(self) -> Duration:
        return max((track.debounce_ns for track in self.track), default=0)


def units_of(
    instances: tuple[InstancePlan, ...], groups: tuple[GroupPlan, ...]
) -> tuple[UnitPlan, ...]:
    by_name = {plan.name: plan for plan in instances}
    units = []
    for group in groups:
        members = tuple(by_name[name] for name in group.members)
        tracks = (*group.track, *(track for member in members for track in member.track))
        units.append(UnitPlan(group.name, members, tuple(dict.fromkeys(tracks))))
    grouped = {name for group in groups for name in group.members}
    alone = [plan for plan in instances if plan.name not in grouped]
    return (*units, *(UnitPlan(plan.name, (plan,), plan.track) for plan in alone))


def checks_of(tracks: tuple[Track, ...]) -> set[str]:
    return {track.name for track in tracks if track.kind is TrackKind.CHECK}


def main_vip(family: Family, at: int, number: int, interface: str = MAIN) -> Vip:
    """VIP ``number`` of router ``at``; odd IPv4 ones lie outside the host's own subnet."""
    last = 60 + 48 * at + number
    if family is Family.IPV4:
        own = "192.0.2" if interface == MAIN else "203.0.113"
        subnet = "198.51.100" if number % 2 else own
        return Vip(parse_address(f"{subnet}.{last}"), 24, interface)
    if number == 0:  # RFC 9568 §5.2.9: the first one is link-local
        return Vip(parse_address(f"fe80::{last:x}:1"), 64, interface)
    return Vip(parse_address(f"2001:db8::{last:x}"), 64, interface)
