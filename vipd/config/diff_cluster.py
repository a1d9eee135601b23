"""What a reload changes in the cluster, in words.

Nothing here moves a VIP. But members that do not agree on name, port, key or addresses do not hear
each other, and go on by the timers of the RFC until they do: so every line says who is concerned,
and a change is best made on all hosts within a minute. Keys are told apart by their fingerprints.
"""

from __future__ import annotations

from collections.abc import Iterator

from vipd.config.digest import fingerprint
from vipd.config.types import format_duration
from vipd.model import ClusterConfig, MemberConfig, format_address


def cluster_plan(old: ClusterConfig | None, new: ClusterConfig | None) -> Iterator[str]:
    """One line per change; nothing where nothing changes."""
    if old is None and new is not None:
        nodes = ", ".join(f"{each.name} ({_addresses(each)})" for each in new.nodes)
        yield f"cluster: new: {new.name} of {nodes}; cluster mode from now on"
    elif old is not None and new is None:
        yield f"cluster: removed: {old.name}; plain VRRP from now on"
    elif old is not None and new is not None:
        yield from (f"cluster: {text}" for text in _changes(old, new))


def _changes(old: ClusterConfig, new: ClusterConfig) -> Iterator[str]:
    for key, before, after in (("name", old.name, new.name), ("port", old.port, new.port)):
        if before != after:
            yield f"{key} {before} -> {after}; members that keep the old {key} are not heard"
    for key, before_ns, after_ns in (
        ("heartbeat_interval", old.heartbeat_interval_ns, new.heartbeat_interval_ns),
        ("heartbeat_timeout", old.heartbeat_timeout_ns, new.heartbeat_timeout_ns),
    ):
        if before_ns != after_ns:
            yield f"{key} {format_duration(before_ns)} -> {format_duration(after_ns)}"
    yield from _members("node", old.nodes, new.nodes)
    yield from _members("witness", old.witnesses, new.witnesses)
    yield from _keys(old.keys, new.keys)
    if old.digest != new.digest:
        yield (
            f"what must be equal on all nodes changes (digest {old.digest.hex()} -> "
            f"{new.digest.hex()}); drift is alarmed until all of them have it"
        )


def _members(
    kind: str, old: tuple[MemberConfig, ...], new: tuple[MemberConfig, ...]
) -> Iterator[str]:
    before = {each.name: each for each in old}
    for each in new:
        was = before.pop(each.name, None)
        if was is None:
            yield f"{kind} {each.name} added at {_addresses(each)}"
        elif was != each:
            yield f"{kind} {each.name} moves from {_addresses(was)} to {_addresses(each)}"
    for name in before:
        yield f"{kind} {name} removed; it is not heard any more"


def _keys(old: tuple[bytes, ...], new: tuple[bytes, ...]) -> Iterator[str]:
    if old[:1] != new[:1] and new:
        yield f"signs with key {fingerprint(new[0])}; members that do not have it are deaf to us"
    for key in new[1:]:
        if key not in old:
            yield f"key {fingerprint(key)} verifies, too"
    for key in old:
        if key not in new:
            yield f"key {fingerprint(key)} does not verify any more"


def _addresses(member: MemberConfig) -> str:
    return ", ".join(map(format_address, member.addresses))
