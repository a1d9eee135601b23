"""The ``cluster`` section: its rules, and what the engine gets of it.

What must hold so that the channel can work at all:

* Everybody is somebody: this host is one of the nodes, no name and no address belongs to two
  members, and every node shares an address family with every member that it talks to.
* An address of a member is always that host's own. A VIP is not: it moves. A link-local one is not
  either: it means nothing without an interface, and members are addresses.
* One lost heartbeat is no lost node: ``heartbeat_timeout`` has room for two of them.
* The key is read, and judged, only where the file is loaded for this very host: another host has
  its own copy. How it is read is the caller's business (``Context.read_keys``).

An address owner (priority 255) never lets its addresses go, so there is nothing to hand over: plain
mode only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vipd.config.addresses import why_unusable
from vipd.config.context import Context
from vipd.config.digest import configuration_digest
from vipd.config.drafts import Draft
from vipd.config.schema import Cluster, Config
from vipd.config.types import format_duration
from vipd.config.yamltree import Path
from vipd.errors import AdapterError
from vipd.model import (
    MILLISECOND_NS,
    OWNER_PRIORITY,
    SECOND_NS,
    Address,
    ClusterConfig,
    Duration,
    MemberConfig,
    NodeConfig,
    family_of,
    format_address,
    is_link_local,
)

FEWEST_BEATS = 2
TIMEOUT_NS = SECOND_NS
TIMEOUT_WITH_QUORUM_NS = 300 * MILLISECOND_NS

_PATH: Path = ("cluster",)


def check_cluster(config: Config, drafts: tuple[Draft, ...], context: Context) -> None:
    """Every rule, and the keys into ``context``."""
    cluster = config.cluster
    if cluster is None:
        return
    _timeout(config, cluster, context)
    _keys(cluster, context)
    _owners(config, context)
    if not context.sound(_PATH, "nodes", "witnesses"):
        return
    _names(cluster, context)
    _addresses(cluster, drafts, context)
    _families(cluster, context)
    _own_addresses(cluster, context)


def with_cluster(config: Config, node_config: NodeConfig, context: Context) -> NodeConfig:
    """``node_config`` in its cluster; call it only when no fault was found."""
    if config.cluster is None:
        return node_config
    cluster = ClusterConfig(
        name=config.cluster.name,
        nodes=_members(config.cluster.nodes),
        keys=context.keys,
        digest=b"",
        port=config.cluster.port,
        heartbeat_interval_ns=config.cluster.heartbeat_interval,
        heartbeat_timeout_ns=_timeout_ns(config, config.cluster),
        witnesses=_members(config.cluster.witnesses),
    )
    digest = configuration_digest(node_config, cluster)
    return replace(node_config, cluster=replace(cluster, digest=digest))


def _members(section: dict[str, list[Address]]) -> tuple[MemberConfig, ...]:
    return tuple(MemberConfig(name, tuple(addresses)) for name, addresses in section.items())


# --- times and key ----------------------------------------------------------------------------


def _timeout_ns(config: Config, cluster: Cluster) -> Duration:
    if cluster.heartbeat_timeout is not None:
        return cluster.heartbeat_timeout
    return TIMEOUT_NS if config.quorum.policy == "off" else TIMEOUT_WITH_QUORUM_NS


def _timeout(config: Config, cluster: Cluster, context: Context) -> None:
    if not context.sound(_PATH, "heartbeat_timeout", "heartbeat_interval"):
        return
    interval_ns, timeout_ns = cluster.heartbeat_interval, _timeout_ns(config, cluster)
    if timeout_ns >= FEWEST_BEATS * interval_ns:
        return
    least = format_duration(FEWEST_BEATS * interval_ns)
    if cluster.heartbeat_timeout is not None:
        problem = "shorter than two heartbeats: a single lost one would look like a dead node"
        context.fault((*_PATH, "heartbeat_timeout"), problem, f"write at least {least}")
        return
    auto, most = format_duration(timeout_ns), format_duration(timeout_ns // FEWEST_BEATS)
    problem = f"two heartbeats do not fit into heartbeat_timeout, which is {auto} (auto)"
    cure = f"write at most {most}, or heartbeat_timeout: {least}"
    context.fault((*_PATH, "heartbeat_interval"), problem, cure)


def _keys(cluster: Cluster, context: Context) -> None:
    if context.read_keys is None or not context.sound(_PATH, "key_file"):
        return
    try:
        context.keys = context.read_keys(context.folder / cluster.key_file)
    except AdapterError as error:
        problem, _, cure = str(error).partition("; ")
        cure = cure or "make it with 'vipd keygen'; the same file on all members"
        context.fault((*_PATH, "key_file"), problem, cure)


# --- members ----------------------------------------------------------------------------------


def _names(cluster: Cluster, context: Context) -> None:
    if context.node in cluster.witnesses:
        problem = f"{context.node} is a witness, which votes and holds no address"
        cure = "write it below nodes, or do not run this on a witness"
        context.fault((*_PATH, "witnesses", context.node), problem, cure)
    elif context.node not in cluster.nodes:
        known = ", ".join(cluster.nodes) or "them"
        cure = f"add it, or say with 'node:' which of {known} this host is"
        context.fault((*_PATH, "nodes"), f"node {context.node} is missing", cure)
    elif len(cluster.nodes) == 1:
        cure = "add the other nodes, or remove the cluster section"
        context.warn((*_PATH, "nodes"), "there is no other node to hand over to", cure)
    for name in cluster.witnesses:
        if name in cluster.nodes:
            path = (*_PATH, "witnesses", name)
            context.fault(path, f"{name} is a node, too", "rename one")


def _by_path(cluster: Cluster) -> Iterator[tuple[Path, str, list[Address]]]:
    for section, members in (("nodes", cluster.nodes), ("witnesses", cluster.witnesses)):
        for name, addresses in members.items():
            yield (*_PATH, section, name), name, addresses


def _addresses(cluster: Cluster, drafts: tuple[Draft, ...], context: Context) -> None:
    vips = {vip.address: item.name for item in drafts for vip in item.vips}
    owner: dict[Address, str] = {}
    for path, name, addresses in _by_path(cluster):
        for address in addresses:
            problem, cure = _trouble_with(address, name, owner, vips)
            owner.setdefault(address, name)
            if problem:
                context.fault(path, problem, cure)


def _trouble_with(
    address: Address, name: str, owner: dict[Address, str], vips: dict[Address, str]
) -> tuple[str, str]:
    text = format_address(address)
    if owner.get(address) == name:
        return f"{text} is listed twice", "remove one of the two"
    if address in owner:
        cure = "give every member its own addresses"
        return f"{name} has an address of {owner[address]}: {text}", cure
    if address in vips:
        cure = "write an address that the host always has"
        return f"{text} is a VIP of {vips[address]}, which moves from host to host", cure
    special = why_unusable(address, len(address) * 8)
    if special:
        return f"{text} is {special}", "write an address at which the other members reach it"
    if is_link_local(address):
        cure = "write a global or unique local address, or an IPv4 one"
        return f"{text} is link-local, and means nothing without an interface", cure
    return "", ""


def _families(cluster: Cluster, context: Context) -> None:
    """The first node, in the order of the file, that cannot reach a member is told once for it."""
    for path, name, addresses in _by_path(cluster):
        spoken = {family_of(address) for address in addresses}
        for node, others in cluster.nodes.items():
            if node == name:
                break  # those that follow look at this pair from their side
            if spoken.isdisjoint(family_of(address) for address in others):
                problem = f"{name} and {node} have no address of the same family"
                cure = "give both an IPv4 address, or both an IPv6 address"
                context.fault(path, problem, cure)


def _own_addresses(cluster: Cluster, context: Context) -> None:
    if context.facts is None:
        return
    own = context.facts.own_addresses()
    missing = [each for each in cluster.nodes.get(context.node, ()) if each not in own]
    if missing:
        there = sorted(
            each
            for each in own
            if not why_unusable(each, len(each) * 8) and not is_link_local(each)
        )
        problem = f"this host does not have {_texts(missing)} now"
        cure = f"nothing is said or heard there until it has; there is {_texts(there) or 'none'}"
        context.warn((*_PATH, "nodes", context.node), problem, cure)


def _texts(addresses: list[Address]) -> str:
    return ", ".join(map(format_address, addresses))


# --- instances --------------------------------------------------------------------------------


def _owners(config: Config, context: Context) -> None:
    """On any node: the file serves all of them."""
    for name, entry in config.instances.items():
        path: Path = ("instances", name)
        if not context.sound(path, "priority"):
            continue
        priority = entry.priority
        values = priority if isinstance(priority, dict) else {"": priority}
        for node, value in values.items():
            if value == OWNER_PRIORITY:
                place = (*path, "priority", *([node] if node else []))
                problem = "an address owner never hands over, so it cannot be in a cluster"
                context.fault(place, problem, "write 1 to 254, or remove the cluster section")
