"""The other nodes, as far as a file that serves all of them tells: their names and addresses.

Plain VRRP has no members: a backup is silent. What a file says per node is the only hint.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vipd.config.schema import Config
from vipd.model import Address


def node_names(config: Config) -> tuple[str, ...]:
    """Every node that the file names, in its order."""
    named = {name: None for value in _per_node(config) for name in value}
    if config.cluster is not None:
        named |= dict.fromkeys(config.cluster.nodes)
    return tuple(named)


def neighbours(config: Config, node: str) -> dict[str, tuple[Address, ...]]:
    """Instance -> the addresses from which the other nodes send its adverts."""
    found = {}
    for name, instance in config.instances.items():
        sources = instance.source if isinstance(instance.source, dict) else {}
        found[name] = tuple(address for other, address in sources.items() if other != node)
    return {name: addresses for name, addresses in found.items() if addresses}


def _per_node(config: Config) -> Iterator[dict[str, Any]]:
    for instance in config.instances.values():
        values = (instance.interface, instance.priority, instance.source, instance.unicast_peers)
        for value in (*values, *(vip.interface for vip in instance.vips)):
            if isinstance(value, dict):
                yield value
