"""Values per node: one file serves all hosts, so its mappings should name the same nodes.

In cluster mode ``cluster.nodes`` says who they are: a name that is not there is a slip of the pen,
or a host that left the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator

from vipd.config.context import Context
from vipd.config.schema import Config
from vipd.config.wording import meant
from vipd.config.yamltree import Path


def check_nodes(config: Config, context: Context) -> None:
    mappings = {
        path: tuple(value)
        for path, value in _values_per_node(config)
        if isinstance(value, dict) and context.sound(path[:-1], str(path[-1]))
    }
    members: tuple[str, ...] = ()
    if config.cluster is not None and context.sound(("cluster",), "nodes"):
        members = tuple(config.cluster.nodes)
    nodes = dict.fromkeys(name for names in (*mappings.values(), members) for name in names)
    for path, names in mappings.items():
        strangers = [name for name in names if members and name not in members]
        for name in strangers:
            problem = f"{name} is no node of the cluster"
            context.warn((*path, name), problem, f"{meant(name, members)}, or remove it")
        known = members or tuple(nodes)
        absent = [name for name in known if name not in names and name != context.node]
        if absent:
            problem = f"{', '.join(absent)} is named elsewhere in the file, but not here"
            context.warn(path, problem, "add it, or that node will refuse this file")


def _values_per_node(config: Config) -> Iterator[tuple[Path, object]]:
    """Everything that may be one value for all nodes, or a mapping."""
    for name, instance in config.instances.items():
        for key in ("interface", "priority", "source", "unicast_peers"):
            yield ("instances", name, key), getattr(instance, key)
        for index, vip in enumerate(instance.vips):
            yield ("instances", name, "vips", index, "interface"), vip.interface
    for section, owners in (("instances", config.instances), ("groups", config.groups)):
        for name, owner in owners.items():
            for index, entry in enumerate(owner.track):
                yield (section, name, "track", index, "interface"), entry.interface
    for name, check in config.checks.items():
        for key in ("interface", "source", "address"):
            yield ("checks", name, key), getattr(check, key)
