"""The nodes that are looked at together, each with its resolved configuration.

Which nodes are there?

* One file: those that it names, that is the keys of its per-node values and of ``cluster.nodes``.
* Several files: one node for each. Its name is the file's ``node:``. The first file is this
  host's: ``--node`` wins there, and without ``node:`` it is the host name, as for the daemon. A
  later file without ``node:`` is named as the file is, without suffix.

Instances and groups that are the same thing under another name on some node (same VRID, family
and an advertised VIP in common) get the name that the first node gives them, so that everything
after this module can compare by name. ``Member.own_name`` leads back to the file's words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vipd.config.context import KeyReader
from vipd.config.digest import fingerprint
from vipd.config.load import Loaded, examine
from vipd.config.yamltree import Path as KeyPath
from vipd.config.yamltree import Tree, key_text, read_tree
from vipd.core.units import UnitConfig, units_of
from vipd.duties import CheckConfig
from vipd.errors import AdapterError, ConfigError, ConfigFault
from vipd.model import GroupConfig, InstanceConfig, NodeConfig

PER_NODE_KEYS = frozenset({"interface", "priority", "source", "unicast_peers", "address"})
"""Keys whose value is a mapping only where it is given per node."""


@dataclass(frozen=True, slots=True)
class Member:
    """One node: ``config`` with the common names, ``checks`` by name.

    ``keys``: the fingerprints of its cluster keys, as far as they can be read here.
    """

    name: str
    file: str
    config: NodeConfig
    checks: Mapping[str, CheckConfig]
    tree: Tree
    own_names: Mapping[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()

    def own_name(self, name: str) -> str:
        """What this node's file calls the instance or group."""
        return self.own_names.get(name, name)

    def instance(self, name: str) -> InstanceConfig | None:
        return next((each for each in self.config.instances if each.name == name), None)

    def units(self) -> dict[str, UnitConfig]:
        return units_of(self.config)

    def fault(self, path: KeyPath, problem: str, cure: str) -> ConfigFault:
        """A fault at ``path``, which begins with ``instances`` or ``groups`` and a common name.

        It stands at this node's part of a per-node value, or at the key above one that the file
        leaves to its default.
        """
        if len(path) > 1 and path[0] in ("instances", "groups"):
            path = (path[0], self.own_name(str(path[1])), *path[2:])
        if self.tree.nearest((*path, self.name))[1] == ():
            path = (*path, self.name)
        line = self.tree.nearest(path)[0].line
        return ConfigFault(self.file, line, key_text(path), problem, cure)


@dataclass(frozen=True, slots=True)
class Cluster:
    """All members, and what was said about their files one by one."""

    members: tuple[Member, ...]
    warnings: tuple[ConfigFault, ...]

    def instances(self) -> tuple[str, ...]:
        return _in_order(each.name for member in self.members for each in member.config.instances)

    def having(self, instance: str) -> list[tuple[Member, InstanceConfig]]:
        """The members that have the instance."""
        pairs = ((member, member.instance(instance)) for member in self.members)
        return [(member, config) for member, config in pairs if config is not None]

    def checks(self) -> tuple[str, ...]:
        return _in_order(name for member in self.members for name in member.checks)


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


# --- which files, which nodes -----------------------------------------------------------------


def named_nodes(file: Path) -> tuple[str, ...]:
    """The nodes that a file names in per-node values and in ``cluster.nodes``."""
    tree = _read(file)
    names = list(_per_node_names(tree))
    cluster = tree.child("cluster")
    nodes = cluster.child("nodes") if cluster is not None else None
    if nodes is not None and isinstance(nodes.value, dict):
        names += nodes.value
    return _in_order(names)


def _per_node_names(tree: Tree) -> Iterator[str]:
    if isinstance(tree.value, dict):
        for key, child in tree.value.items():
            if key in PER_NODE_KEYS and isinstance(child.value, dict):
                yield from child.value
            else:
                yield from _per_node_names(child)
    elif isinstance(tree.value, list):
        for child in tree.value:
            yield from _per_node_names(child)


def _read(file: Path) -> Tree:
    """The tree of a file; raises ConfigError when there is none."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError):
        # ``examine`` has the words for it.
        raise ConfigError(examine(file, facts=None).faults) from None
    tree, faults = read_tree(text, str(file))
    if tree is None or not isinstance(tree.value, dict):
        raise ConfigError(tuple(faults) or examine(file, facts=None).faults)
    return tree


def load_cluster(
    files: Sequence[Path],
    node: str | None = None,
    host: str = "",
    read_keys: KeyReader | None = None,
) -> Cluster:
    """The members of ``files``; ``node`` and ``host`` name the first of several files.

    Raises ConfigError with all faults of all files.
    """
    faults: list[ConfigFault] = []
    warnings: list[ConfigFault] = []
    loaded: list[tuple[str, Path, Loaded]] = []
    for name, file in _assignments(files, node, host):
        report = examine(file, facts=None, node=name)
        faults += report.faults
        warnings += report.warnings
        if report.loaded is not None:
            loaded.append((name, file, report.loaded))
    if faults:
        raise ConfigError(tuple(dict.fromkeys(faults)))
    members = [_member(name, file, each, read_keys) for name, file, each in loaded]
    return Cluster(_with_common_names(members), tuple(dict.fromkeys(warnings)))


def _assignments(files: Sequence[Path], node: str | None, host: str) -> list[tuple[str, Path]]:
    if len(files) == 1:
        names = named_nodes(files[0])
        if len(names) < 2:
            problem = f"it names {'one node' if names else 'no node'}, and two are wanted"
            cure = "give the other nodes' files after --against, or write values per node"
            raise ConfigError((ConfigFault(str(files[0]), 1, "", problem, cure),))
        return [(name, files[0]) for name in names]
    found: dict[str, Path] = {}
    for position, file in enumerate(files):
        key = _read(file).child("node")
        written = key.value if key is not None and isinstance(key.value, str) else None
        name = (node or written or host or file.stem) if position == 0 else (written or file.stem)
        if name in found:
            problem = f"it is node {name}, and so is {found[name]}"
            line = key.line if key is not None else 1
            fault = ConfigFault(str(file), line, "node", problem, "write each node's name in it")
            raise ConfigError((fault,))
        found[name] = file
    return list(found.items())


def _member(name: str, file: Path, loaded: Loaded, read_keys: KeyReader | None) -> Member:
    checks = {check.name: check for check in loaded.duties.checks}
    keys = _fingerprints(file, loaded, read_keys)
    return Member(name, str(file), loaded.node_config, checks, _read(file), keys=keys)


def _fingerprints(file: Path, loaded: Loaded, read_keys: KeyReader | None) -> tuple[str, ...]:
    """Of a key file that may well be another host's: nothing is wrong if it cannot be read."""
    cluster = loaded.config.cluster
    if cluster is None or read_keys is None:
        return ()
    try:
        return tuple(map(fingerprint, read_keys(file.parent / cluster.key_file)))
    except AdapterError:
        return ()


# --- common names -----------------------------------------------------------------------------


def _with_common_names(members: Sequence[Member]) -> tuple[Member, ...]:
    done: list[Member] = []
    for member in members:
        names = _instance_names(member, done)
        names |= _group_names(member, done, names)
        done.append(_renamed(member, names) if names else member)
    return tuple(done)


def _instance_names(member: Member, before: Sequence[Member]) -> dict[str, str]:
    """Own name -> common name, where they differ."""
    known = {each.name: each for other in before for each in other.config.instances}
    own = {each.name for each in member.config.instances}
    names: dict[str, str] = {}
    for each in member.config.instances:
        if each.name in known:
            continue
        same = [name for name in known if name not in own and _same_router(each, known[name])]
        if same and same[0] not in names.values():
            names[each.name] = same[0]
    return names


def _same_router(one: InstanceConfig, other: InstanceConfig) -> bool:
    same_id = (one.vrid, one.family) == (other.vrid, other.family)
    return same_id and not set(one.advertised).isdisjoint(other.advertised)


def _group_names(
    member: Member, before: Sequence[Member], instances: Mapping[str, str]
) -> dict[str, str]:
    known = {each.name: each for other in before for each in other.config.groups}
    own = {each.name for each in member.config.groups}
    names: dict[str, str] = {}
    for each in member.config.groups:
        inside = {instances.get(name, name) for name in each.instances}
        for name, other in known.items():
            if each.name not in known and name not in own and inside & set(other.instances):
                names[each.name] = name
    return names


def _renamed(member: Member, names: Mapping[str, str]) -> Member:
    def common(name: str) -> str:
        return names.get(name, name)

    config = member.config
    instances = tuple(replace(each, name=common(each.name)) for each in config.instances)
    groups = tuple(
        GroupConfig(common(each.name), tuple(map(common, each.instances)), each.track)
        for each in config.groups
    )
    return replace(
        member,
        config=replace(config, instances=instances, groups=groups),
        own_names={new: old for old, new in names.items()},
    )
