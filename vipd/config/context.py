"""The notebook of one run over a file: collects faults and warnings, each at its line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import TypeAlias, TypeVar

from vipd.config.facts import HostFacts
from vipd.config.wording import Damage
from vipd.config.yamltree import Path, Tree, key_text
from vipd.errors import ConfigFault

T = TypeVar("T")

KeyReader: TypeAlias = Callable[[FilePath], tuple[bytes, ...]]
"""The keys in a cluster's key file; raises AdapterError with what is wrong, "; ", and the cure."""


@dataclass(slots=True)
class Context:
    """What every check needs beside the configuration. ``folder``: where relative paths start.

    ``read_keys`` None: the file is another host's, and its key file is not looked at.
    """

    file: str
    node: str
    tree: Tree
    damage: Damage
    facts: HostFacts | None
    folder: FilePath
    read_keys: KeyReader | None = None
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    secrets: dict[str, bytes] = field(default_factory=dict, repr=False)  # by instance
    faults: list[ConfigFault] = field(default_factory=list)
    warnings: list[ConfigFault] = field(default_factory=list)

    def fault(self, path: Path, problem: str, cure: str) -> None:
        self.faults.append(self._entry(path, problem, cure))

    def warn(self, path: Path, problem: str, cure: str) -> None:
        self.warnings.append(self._entry(path, problem, cure))

    def line(self, path: Path) -> int:
        """Where ``path`` stands; its mapping's line where the key itself is not written."""
        return self.tree.nearest(path)[0].line

    def written(self, path: Path) -> bool:
        """True when the file has a value at ``path``."""
        return not self.tree.nearest(path)[1]

    def sound(self, path: Path, *keys: str) -> bool:
        """True when none of the keys at ``path`` is damaged: their values can be compared."""
        return not any(self.damage.touches((*self.original(path), key)) for key in keys)

    def original(self, path: Path) -> Path:
        """The path as the file counts it: list items may have been dropped since."""
        node, beyond = self.tree.nearest(path)
        return (*node.path, *beyond)

    def _entry(self, path: Path, problem: str, cure: str) -> ConfigFault:
        return ConfigFault(self.file, self.line(path), key_text(self.original(path)), problem, cure)


def of_node(value: T | dict[str, T], path: Path, context: Context) -> T | None:
    """This node's value; None, and a fault, where a mapping does not name it."""
    if context.damage.touches(context.original(path)):
        return None
    if not isinstance(value, dict):
        return value
    if context.node in value:
        return value[context.node]
    if context.node:
        names = ", ".join(value) or "nothing"
        cure = f"add '{context.node}:', or say with 'node:' or --node which host this is"
        context.fault(path, f"node {context.node} is missing (there is {names})", cure)
    return None
