"""pydantic's errors -> faults in our own words, each at the right line.

The values around a fault still have to be judged in the same run. So ``validate`` takes what is
wrong out of the tree, remembers it as *damaged*, puts a stand-in where a virtual router could not
exist without the key, and validates again until the rest is good. Cross checks then skip whatever
is damaged, so that one mistake is never reported twice.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from vipd.config.schema import Config, json_schema
from vipd.config.types import JsonSchema, show
from vipd.config.yamltree import Path, Tree, key_text
from vipd.errors import ConfigFault

KEEPALIVED_KEYS = {
    "virtual_router_id": "vipd calls it vrid",
    "virtual_ipaddress": "vipd calls it vips",
    "virtual_ipaddress_excluded": "list the address in vips with advertise: false",
    "virtual_addresses": "vipd calls it vips",
    "advert_int": "vipd calls it advert_interval and wants a unit, as in 1s",
    "vrrp_version": "vipd calls it version",
    "nopreempt": "write preempt: false",
    "state": "remove it: the state is elected, by priority",
    "authentication": "vipd calls it auth: {type: pass, secret: ...}",
    "auth_pass": "vipd calls it auth: {type: pass, secret: ...}",
    "mcast_src_ip": "vipd calls it source",
    "unicast_src_ip": "vipd calls it source",
    "unicast_peer": "vipd calls it unicast_peers",
    "track_script": "vipd calls it track, with {check: NAME, weight: N}",
    "track_interface": "vipd calls it track, with {interface: NAME}",
    "garp_master_refresh": "vipd calls it announce: {refresh: ...}",
    "notify_master": "vipd calls it notify: {master: ...}",
    "notify_backup": "vipd calls it notify: {backup: ...}",
    "notify_fault": "vipd calls it notify: {fault: ...}",
    "notify_stop": "vipd calls it notify: {stop: ...}",
    "notify": "write it in the instance or group: notify: {any: ...}",
    "vrrp_sync_group": "vipd calls it groups, at the top of the file",
    "vrrp_script": "vipd calls it checks, at the top of the file",
    "vrrp_track_process": "vipd calls it checks: {NAME: {process: ...}}",
    "vrrp_track_file": "vipd calls it checks: {NAME: {file: ..., number: true}}",
    "track_process": "vipd calls it track, with {check: NAME}; the check has process: ...",
    "track_file": "vipd calls it track, with {check: NAME}; the check has file: and number: true",
    "init_fail": "vipd calls it initial: unhealthy",
    "vrrp_strict": "vipd calls it strict, per instance",
}

STAND_INS: dict[tuple[str, str], Any] = {
    ("", "instances"): {},
    ("instances", "interface"): "none",
    ("instances", "vrid"): 1,
    ("instances", "vips"): [],
}
"""(section, required key) -> a value that lets the rest be judged; the key counts as damaged."""

SECRET_SECTIONS = {"auth", "headers"}
"""What stands in them is never repeated."""

_SHAPES = {
    "model_type": ("a mapping", "write 'key: value' lines below it, indented"),
    "dict_type": ("a mapping", "write 'name: value' lines below it, indented"),
    "list_type": ("a list", "write [] or one '- item' line each"),
}


class Damage:
    """The places whose value is wrong or missing."""

    def __init__(self) -> None:
        self._paths: set[Path] = set()
        self._around: set[Path] = set()

    def add(self, path: Path) -> None:
        self._paths.add(path)
        self._around.update(path[:length] for length in range(len(path) + 1))

    def touches(self, path: Path) -> bool:
        """True when something at, in or around ``path`` is damaged."""
        return path in self._around or any(
            path[:length] in self._paths for length in range(len(path))
        )


def validate(tree: Tree, file: str, faults: list[ConfigFault]) -> tuple[Config | None, Damage]:
    """The configuration without its damaged parts; None when nothing of it can be used."""
    damage = Damage()
    while True:
        try:
            return Config.model_validate(tree.plain()), damage
        except ValidationError as error:
            details = error.errors(include_url=False)
        places = [tree.nearest(_steps(tree, detail["loc"]))[0] for detail in details]
        for detail, node in zip(details, places, strict=True):
            missing = str(detail["loc"][-1]) if detail["type"] == "missing" else ""
            path = (*node.path, missing) if missing else node.path
            if not damage.touches(path):
                faults.append(_fault(detail, node, missing, file))
            damage.add(path)
        if not _take_out(details, places):
            return None, damage


def _take_out(details: list[Any], places: list[Tree]) -> bool:
    """Drop what is wrong, or stand in for what is missing; False when the whole file would go."""
    gone: dict[int, Tree] = {}
    for detail, node in zip(details, places, strict=True):
        if detail["type"] != "missing" or not _stand_in(node, str(detail["loc"][-1])):
            gone[id(node)] = node
    parents = {id(node.parent): node.parent for node in gone.values()}
    for parent in parents.values():
        if parent is None:
            return False
        parent.drop_children(set(gone))
    return True


def _steps(tree: Tree, loc: tuple[str | int, ...]) -> Path:
    """pydantic's location without the steps that the file does not have (union tags, '[key]')."""
    node, steps = tree, []
    for step in loc:
        child = node.child(step)
        if child is not None:
            node = child
            steps.append(step)
    return tuple(steps)


def _stand_in(node: Tree, missing: str) -> bool:
    section = str(node.path[0]) if len(node.path) == 2 else "" if not node.path else "-"
    if not isinstance(node.value, dict) or (section, missing) not in STAND_INS:
        return False
    value = STAND_INS[section, missing]
    path = (*node.path, missing)
    node.value[missing] = Tree(path, node.line, node.key_line, value, node)
    return True


def _fault(detail: Any, node: Tree, missing: str, file: str) -> ConfigFault:
    key = key_text((*node.path, missing) if missing else node.path)
    kind = detail["type"]
    if kind == "missing":
        cure = f"add '{missing}:'{_purpose(node.path, missing)}"
        return ConfigFault(file, node.key_line, key, "the key is missing", cure)
    if kind == "extra_forbidden":
        name = str(node.path[-1])
        cure = unknown_key_cure(name, known_keys(node.path[:-1]))
        return ConfigFault(file, node.key_line, key, "unknown key", cure)
    if kind == "vipd":
        context = detail["ctx"]
        problem, cure = context["problem"], context["cure"]
        line = node.key_line if detail["loc"][-1] == "[key]" else node.line
    else:
        value = "this" if SECRET_SECTIONS & set(node.path) else show(node.plain())
        problem, cure = _builtin(detail, value)
        line = node.line
    return ConfigFault(file, line, key, problem, cure)


def _builtin(detail: Any, value: str) -> tuple[str, str]:
    kind = detail["type"]
    if kind == "literal_error":
        expected = detail["ctx"]["expected"].replace("'", "")
        return f"{value} is not possible here", f"write {expected}"
    if kind in _SHAPES:
        wanted, cure = _SHAPES[kind]
        return f"{value} is not {wanted}", cure
    return f"{value} is wrong: {detail['msg']}", "see 'vipd schema' for what is possible"


def unknown_key_cure(name: str, known: tuple[str, ...]) -> str:
    """Did you mean ...? Else keepalived's word in ours, else the list of what there is."""
    if name in KEEPALIVED_KEYS:
        return KEEPALIVED_KEYS[name]
    close = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"remove it; possible here: {', '.join(known)}" if known else "remove it"


def meant(name: str, known: Iterable[str]) -> str:
    """The cure for a name that nothing in the file has."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"write one of: {', '.join(names)}" if names else "define it first"


def known_keys(path: Path) -> tuple[str, ...]:
    """The keys that the schema allows in the mapping at ``path``."""
    names: dict[str, None] = {}
    for schema in _schemas_at(path):
        names.update(dict.fromkeys(schema.get("properties", ())))
    return tuple(names)


def _purpose(path: Path, key: str) -> str:
    for schema in _schemas_at(path):
        description = schema.get("properties", {}).get(key, {}).get("description")
        if description:
            return f" ({description.rstrip('.')})"
    return ""


def _schemas_at(path: Path) -> list[JsonSchema]:
    """Every alternative of the JSON Schema for the value at ``path``."""
    root = json_schema()
    found = _alternatives(root, root)
    for step in path:
        inner: list[JsonSchema] = []
        for schema in found:
            child = schema.get("items") if isinstance(step, int) else None
            if isinstance(step, str):
                named = next(iter(schema.get("patternProperties", {}).values()), None)
                child = schema.get("properties", {}).get(step, named)
            if isinstance(child, dict):
                inner += _alternatives(child, root)
        found = inner
    return found


def _alternatives(schema: JsonSchema, root: JsonSchema) -> list[JsonSchema]:
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    parts = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return [schema, *(found for part in parts for found in _alternatives(part, root))]
