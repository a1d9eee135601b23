"""Who shares a network, which address a node speaks from, and what moves as one.

The files do not say how the hosts are wired. Assumed is what any sensible wiring makes true:

* The interfaces that one instance names on the nodes are on one network. Interfaces of one name
  are, too, unless an instance puts one of them elsewhere.
* A node speaks from ``source``; without one, in unicast mode, from the address that all others
  list and it does not. Where neither tells, an address is made up, higher on later nodes: it
  decides nothing but ties, and a finding says so wherever a tie is possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vipd.lint.members import Cluster, Member
from vipd.model import Address, Family, InstanceConfig, NodeConfig

FIRST_HOST = 11
_V4_PREFIX, _V6_PREFIX = 24, 64

Port = tuple[str, str]
"""(node, interface)"""


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """What moves as one on at least one node. ``instances``: all that any node puts into it."""

    name: str
    instances: tuple[str, ...]
    is_group: bool = False

    def part_of(self, config: NodeConfig) -> NodeConfig:
        """Only this unit of a node's configuration."""
        return replace(
            config,
            instances=tuple(each for each in config.instances if each.name in self.instances),
            groups=tuple(
                each
                for each in config.groups
                if any(name in self.instances for name in each.instances)
            ),
        )


def unit_plans(cluster: Cluster) -> tuple[UnitPlan, ...]:
    """Every unit; instances that a group joins on *any* node are looked at together."""
    bundles: dict[str, set[str]] = {name: {name} for name in cluster.instances()}
    title: dict[str, str] = {}
    for member in cluster.members:
        for group in member.config.groups:
            joined = set().union(*(bundles[name] for name in group.instances if name in bundles))
            for name in joined:
                bundles[name] = joined
                title.setdefault(name, group.name)
    plans: dict[frozenset[str], UnitPlan] = {}
    for name in cluster.instances():
        bundle = frozenset(bundles[name])
        inside = tuple(each for each in cluster.instances() if each in bundle)
        group_name = title.get(inside[0])
        plans.setdefault(bundle, UnitPlan(group_name or name, inside, group_name is not None))
    return tuple(plans.values())


# --- networks ---------------------------------------------------------------------------------


def networks(cluster: Cluster) -> dict[Port, int]:
    """The number of the network that each interface of each node is on."""
    network: dict[Port, int] = {}
    for name in cluster.instances():
        ports = [(member.name, config.interface) for member, config in cluster.having(name)]
        _join(network, ports)
    shared = {number for number in network.values() if _nodes_on(network, number) > 1}
    for interface in {interface for member in cluster.members for interface in used_by(member)}:
        ports = [
            (member.name, interface)
            for member in cluster.members
            if interface in used_by(member)
            if network.get((member.name, interface)) not in shared
        ]
        _join(network, ports)
    return network


def _nodes_on(network: dict[Port, int], number: int) -> int:
    return len({node for (node, _), each in network.items() if each == number})


def _join(network: dict[Port, int], ports: Sequence[Port]) -> None:
    old = {network[port] for port in ports if port in network}
    number = min(old, default=len(network) + 1)
    for port, each in network.items():
        if each in old:
            network[port] = number
    network.update(dict.fromkeys(ports, number))


def used_by(member: Member) -> tuple[str, ...]:
    """Every interface that the node's instances and tracks name, in order."""
    names: list[str] = []
    for config in member.config.instances:
        names.append(config.interface)
        names += [vip.interface for vip in config.vips]
    for unit in member.units().values():
        names += [track.name for track in unit.tracks if track.kind.value == "interface"]
    return tuple(dict.fromkeys(names))


# --- addresses --------------------------------------------------------------------------------


def known_source(cluster: Cluster, node: str, instance: str) -> Address | None:
    """The address that the node speaks from, where the files tell."""
    having = cluster.having(instance)
    own = next((config for member, config in having if member.name == node), None)
    if own is None:
        return None
    if own.source is not None or not own.unicast_peers:
        return own.source
    lists = [set(config.unicast_peers) for member, config in having if member.name != node]
    if not lists:
        return None
    candidates = set.intersection(*lists) - set(own.unicast_peers)
    return candidates.pop() if len(candidates) == 1 else None


def made_up_source(family: Family, network: int, position: int) -> Address:
    """An address from the block for benchmarks (RFC 2544), or a link-local one."""
    host = FIRST_HOST + position
    if family is Family.IPV4:
        return bytes((198, 18 + network // 256 % 2, network % 256, host))
    return bytes.fromhex("fe80") + bytes(10) + network.to_bytes(2, "big") + bytes((0, host))


def addresses_of(
    cluster: Cluster, member: Member, network: dict[Port, int]
) -> dict[str, list[tuple[Address, int]]]:
    """Interface -> (address, prefix) of the host itself, as far as the instances need them."""
    position = cluster.members.index(member)
    found: dict[str, list[tuple[Address, int]]] = {name: [] for name in used_by(member)}
    for config in member.config.instances:
        number = network[member.name, config.interface]
        source = known_source(cluster, member.name, config.name) or made_up_source(
            config.family, number, position
        )
        prefix = _V4_PREFIX if config.family is Family.IPV4 else _V6_PREFIX
        _add(found[config.interface], (source, prefix))
        _add_owned(config, found)
    return found


def _add_owned(config: InstanceConfig, found: dict[str, list[tuple[Address, int]]]) -> None:
    if config.is_owner:
        for vip in config.vips:
            _add(found[vip.interface], (vip.address, vip.prefix))


def _add(entries: list[tuple[Address, int]], entry: tuple[Address, int]) -> None:
    if entry not in entries:
        entries.append(entry)
