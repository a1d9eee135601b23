"""Units: what moves as one. A group of instances, or an instance that is in none (QUORUM H5).

A unit has one election, lease, claim and hook queue. Its members are virtual routers of their
own on the wire (interface, VRID, family), with one priority, ``preempt`` and advert interval,
which the configuration demands of them; here the first member speaks for all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vipd.model import (
    Duration,
    Family,
    InstanceConfig,
    NodeConfig,
    Track,
    Vip,
    VipKey,
)


@dataclass(frozen=True, slots=True)
class UnitConfig:
    """One unit. ``members`` as configured; ``tracks`` are those of the group and of all members,
    equal ones once."""

    name: str
    members: tuple[InstanceConfig, ...]
    tracks: tuple[Track, ...] = ()
    is_group: bool = False

    @property
    def leader(self) -> InstanceConfig:
        """The member whose shared settings are read."""
        return self.members[0]

    @property
    def vips(self) -> tuple[Vip, ...]:
        return tuple(vip for member in self.members for vip in member.vips)

    @property
    def priority(self) -> int:
        return self.leader.priority

    @property
    def is_owner(self) -> bool:
        return self.leader.is_owner

    @property
    def address_lifetime_s(self) -> int:
        return min(member.address_lifetime_s for member in self.members)

    @property
    def announce_count(self) -> int:
        return max(member.announce_count for member in self.members)

    @property
    def announce_refresh_ns(self) -> Duration:
        """The shortest that any member wants; 0 only if none wants one."""
        wanted = [each.announce_refresh_ns for each in self.members if each.announce_refresh_ns]
        return min(wanted, default=0)

    @property
    def identity(self) -> frozenset[tuple[object, ...]]:
        """What makes it *this* unit: its routers on the wire, and whom they speak to."""
        return frozenset(
            (member.name, member.router_key, member.unicast_peers, member.is_owner)
            for member in self.members
        )

    def tie_order(self) -> list[InstanceConfig]:
        """The members in an order that is the same on all nodes, whatever their files' order.

        By what all nodes must agree on anyway. One VRID may serve on several networks, so the
        addresses that are advertised count, too.
        """
        return sorted(
            self.members,
            key=lambda each: (each.vrid, each.family is Family.IPV6, sorted(each.advertised)),
        )

    def without(self, elsewhere: frozenset[VipKey]) -> UnitConfig:
        """This unit, less the VIPs that others have now."""
        members = tuple(
            replace(member, vips=tuple(vip for vip in member.vips if vip.key not in elsewhere))
            for member in self.members
        )
        return replace(self, members=members)


def units_of(config: NodeConfig) -> dict[str, UnitConfig]:
    """The units of a configuration by name, in its order of instances."""
    group_of = {name: group for group in config.groups for name in group.instances}
    instances = {instance.name: instance for instance in config.instances}
    units: dict[str, UnitConfig] = {}
    for instance in config.instances:
        group = group_of.get(instance.name)
        if group is None:
            tracks = tuple(dict.fromkeys(instance.track))
            units[instance.name] = UnitConfig(instance.name, (instance,), tracks)
        elif group.name not in units:
            members = tuple(instances[name] for name in group.instances if name in instances)
            everything = (*group.track, *(each for member in members for each in member.track))
            tracks = tuple(dict.fromkeys(everything))
            units[group.name] = UnitConfig(group.name, members, tracks, is_group=True)
    return units
