"""YAML text -> a tree of values that remember where they stand.

Why not ``yaml.safe_load``: it forgets lines, lets a duplicate key win in silence, expands aliases
without limit and reads ``off`` as a boolean. This module builds the tree from the parser's events:

* plain scalars follow the YAML 1.2 core schema, as editors do: ``true``/``false`` are the only
  booleans, so ``policy: off`` is the word *off*;
* a key is always text, whatever it looks like;
* a duplicate key is a fault, the first one stays; anchors, aliases and ``<<`` merges work;
* size, depth and the number of values after alias expansion are bounded; an alias inside its own
  anchor is a fault. No text makes this module raise.

It needs PyYAML and the standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

import yaml

from vipd.errors import ConfigFault

Path: TypeAlias = tuple[str | int, ...]
Scalar: TypeAlias = str | int | float | bool | None

MAX_TEXT = 1024 * 1024
MAX_DEPTH = 40
MAX_VALUES = 100_000

_INTEGER = re.compile(r"[-+]?[0-9]{1,30}|0x[0-9a-fA-F]{1,16}|0o[0-7]{1,20}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?", re.ASCII)
_STRING_TAG = "tag:yaml.org,2002:str"


@dataclass(slots=True, eq=False)
class Tree:
    """One value. ``path`` is where it stands in the file, even after neighbours were dropped."""

    path: Path
    line: int
    key_line: int
    value: Scalar | dict[str, Tree] | list[Tree]
    parent: Tree | None = None

    def plain(self) -> object:
        """The bare Python value, as pydantic wants it."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def child(self, step: str | int) -> Tree | None:
        if isinstance(self.value, dict) and isinstance(step, str):
            return self.value.get(step)
        if isinstance(self.value, list) and isinstance(step, int) and step < len(self.value):
            return self.value[step]
        return None

    def nearest(self, path: Path) -> tuple[Tree, Path]:
        """The deepest value on ``path`` and the steps that lead beyond it."""
        node = self
        for position, step in enumerate(path):
            child = node.child(step)
            if child is None:
                return node, path[position:]
            node = child
        return node, ()

    def drop_children(self, gone: set[int]) -> None:
        """Take out the children whose ``id()`` is in ``gone``."""
        if isinstance(self.value, dict):
            self.value = {key: c for key, c in self.value.items() if id(c) not in gone}
        elif isinstance(self.value, list):
            self.value = [child for child in self.value if id(child) not in gone]


def key_text(path: Path) -> str:
    """``("vips", 0, "address")`` -> ``vips[0].address``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def read_tree(text: str, file: str) -> tuple[Tree | None, list[ConfigFault]]:
    """The tree of the only document in ``text``, or None, and every fault that was met."""
    if len(text) > MAX_TEXT:
        cure = "is it the right file? vipd reads at most 1 MiB"
        return None, [ConfigFault(file, 1, "", "the file is too large", cure)]
    builder = _Builder(text, file)
    try:
        return builder.document(), builder.faults
    except _Hopeless as stop:
        return None, [*builder.faults, stop.fault]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = f"not valid YAML: {error.problem or error.context}"
        cure = "mend the syntax here or just above (indentation, quotes, a colon with a space)"
        line = mark.line + 1 if mark else 1
        return None, [*builder.faults, ConfigFault(file, line, "", problem, cure)]
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"not valid YAML: the character U+{ord(text[error.position]):04X} is not allowed"
        return None, [ConfigFault(file, line, "", problem, "remove it, or write it as an escape")]
    except (ValueError, OverflowError):
        # PyYAML lets chr() and int() complain about escapes and directives beyond their range.
        cure = "write a code point up to U+10FFFF"
        return None, [ConfigFault(file, builder.line, "", "not valid YAML: a bad escape", cure)]


class _Hopeless(Exception):
    """Nothing after this fault can be read."""

    def __init__(self, fault: ConfigFault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class _Builder:
    """Turns parser events into a tree; one method per kind of value."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.faults: list[ConfigFault] = []
        self._text = text
        self._loader = yaml.SafeLoader("")
        self._anchors: dict[str, Tree | None] = {}
        self._values = 0

    @property
    def line(self) -> int:
        return int(self._loader.line) + 1

    def document(self) -> Tree | None:
        self._loader = yaml.SafeLoader(self._text)  # raises on forbidden characters
        self._next()  # stream start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        root = self._value(self._next(), (), None, None)
        self._next()  # document end
        if not isinstance(event := self._next(), yaml.StreamEndEvent):
            problem, cure = "a second document begins here", "keep one document, without '---'"
            self._report(_line(event), (), problem, cure)
        return root

    def _next(self) -> yaml.Event:
        event: yaml.Event = self._loader.get_event()  # type: ignore[no-untyped-call]
        return event

    def _report(self, line: int, path: Path, problem: str, cure: str) -> None:
        self.faults.append(ConfigFault(self.file, line, key_text(path), problem, cure))

    def _stop(self, line: int, path: Path, problem: str, cure: str) -> _Hopeless:
        key = key_text(path)
        return _Hopeless(ConfigFault(self.file, line, key, problem, cure))

    def _count(self, line: int, path: Path) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            cure = f"keep it below {MAX_VALUES} values; aliases count each time they are used"
            raise self._stop(line, path, "the file grows too large here", cure)
        if len(path) > MAX_DEPTH:
            cure = f"no value stands deeper than {MAX_DEPTH} levels"
            raise self._stop(line, path[:6], "nested too deeply", cure)

    def _value(
        self, event: yaml.Event, path: Path, key_line: int | None, parent: Tree | None
    ) -> Tree:
        line = _line(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path, key_line or line, parent)
        self._count(line, path)
        tree = Tree(path, line, key_line or line, None, parent)
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, yaml.MappingStartEvent):
            tree.line = tree.key_line
            self._mapping(tree)
        elif isinstance(event, yaml.SequenceStartEvent):
            tree.line = tree.key_line
            self._sequence(tree)
        elif isinstance(event, yaml.ScalarEvent):
            tree.value = self._scalar(event, path)
        if anchor is not None:
            self._anchors[anchor] = tree
        return tree

    def _alias(
        self, event: yaml.AliasEvent, path: Path, key_line: int, parent: Tree | None
    ) -> Tree:
        line = _line(event)
        if event.anchor not in self._anchors:
            cure = f"define it above with &{event.anchor}"
            raise self._stop(line, path, f"the alias *{event.anchor} is not defined", cure)
        target = self._anchors[event.anchor]
        if target is None:
            problem = f"the alias *{event.anchor} stands inside the value that it repeats"
            raise self._stop(line, path, problem, "use it after that value has ended")
        tree = self._copy(target, path, parent)
        tree.line, tree.key_line = line, key_line
        return tree

    def _copy(self, tree: Tree, path: Path, parent: Tree | None) -> Tree:
        self._count(tree.line, path)
        copy = Tree(path, tree.line, tree.key_line, None, parent)
        if isinstance(tree.value, dict):
            copy.value = {
                key: self._copy(child, (*path, key), copy) for key, child in tree.value.items()
            }
        elif isinstance(tree.value, list):
            copy.value = [
                self._copy(child, (*path, index), copy) for index, child in enumerate(tree.value)
            ]
        else:
            copy.value = tree.value
        return copy

    def _mapping(self, tree: Tree) -> None:
        children: dict[str, Tree] = {}
        merged: list[Tree] = []
        tree.value = children
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            line = _line(event)
            key = self._key(event, tree.path)
            is_merge = key == "<<" and isinstance(event, yaml.ScalarEvent) and event.style is None
            child = self._value(self._next(), (*tree.path, key), line, tree)
            if is_merge:
                merged.append(child)
            elif key in children:
                problem = f"the key is given twice, first in line {children[key].key_line}"
                self._report(line, child.path, problem, "keep one of the two")
            else:
                children[key] = child
        for source in merged:
            self._merge(tree, source)

    def _key(self, event: yaml.Event, path: Path) -> str:
        line = _line(event)
        if isinstance(event, yaml.ScalarEvent):
            self._count(line, path)
            if not _encodable(event.value):
                raise self._stop(
                    line, path, "a key holds half a surrogate pair", "write plain text"
                )
            return str(event.value)
        cure = "write a plain word; a value that holds ': ' or starts with '[' or '{' needs quotes"
        raise self._stop(line, path, "a key must be plain text", cure)

    def _merge(self, tree: Tree, source: Tree) -> None:
        """YAML's ``<<``: keys that are written out win, then the first source that has the key."""
        if not isinstance(tree.value, dict):
            return
        parts = source.value if isinstance(source.value, list) else [source]
        for part in parts:
            if not isinstance(part.value, dict):
                cure = "name an anchored mapping, as in '<<: *defaults'"
                self._report(part.line, source.path, "only mappings can be merged", cure)
                continue
            for key, child in part.value.items():
                if key not in tree.value:
                    tree.value[key] = self._copy(child, (*tree.path, key), tree)

    def _sequence(self, tree: Tree) -> None:
        items: list[Tree] = []
        tree.value = items
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(event, (*tree.path, len(items)), None, tree))

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> Scalar:
        text: str = event.value
        if not _encodable(text):
            line = _line(event)
            self._report(
                line, path, "half a surrogate pair is no text", "write the character itself"
            )
            return ""
        if event.tag not in (None, "!", _STRING_TAG):
            line = _line(event)
            self._report(line, path, f"the tag {event.tag} is unknown", "remove the tag")
            return text
        return _plain_scalar(text) if event.tag is None and event.implicit[0] else text


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _plain_scalar(text: str) -> Scalar:
    """YAML 1.2 core schema."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if _INTEGER.fullmatch(text):
        base = {"0x": 16, "0o": 8}.get(text[:2], 10)
        return int(text, base)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
