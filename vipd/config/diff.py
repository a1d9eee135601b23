"""What a reload would change, in words, for ``vipd reload`` and the log.

Instances are matched by name. A virtual router *is* (interface, VRID, family, version), and whom it
speaks to; what moves as one *is* its name and its routers. When one of these changes, the old one
leaves and a new one starts, which is a handover: so does a renamed instance, a renamed group, and
every member of a group that another instance joins or leaves. Every other change is carried out
while the instance keeps its state.

Checks and hooks are the supervisor's and move nothing by being changed. What is said about them
never repeats the value of a request header or the arguments of a command.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vipd.config.diff_cluster import cluster_plan
from vipd.config.diff_duties import duties_plan
from vipd.config.types import format_duration
from vipd.duties import Duties
from vipd.model import GroupConfig, InstanceConfig, NodeConfig, Track, Vip, format_address


def plan(
    old: NodeConfig,
    new: NodeConfig,
    old_duties: Duties | None = None,
    new_duties: Duties | None = None,
) -> tuple[str, ...]:
    """One line per change, in the order of the new file, then what is removed.

    Checks and hooks are compared when both duties are given.
    """
    lines: list[str] = []
    if old.node != new.node:
        lines.append(f"node {old.node} -> {new.node}")
    before = {item.name: item for item in old.instances}
    names = {item.name for item in new.instances}
    gone = {item.router_key: item.name for item in old.instances if item.name not in names}
    fates = _fates(old, new)
    for item in new.instances:
        if item.name in before:
            changes = _changes(before[item.name], item, fates.get(item.name))
            lines += [f"{item.name}: {text}" for text in changes]
        else:
            lines.append(f"{item.name}: {_arrival(item, gone.get(item.router_key))}")
    for item in old.instances:
        if item.name not in names:
            lines.append(f"{item.name}: removed: releases {_vips(item.vips)}")
    lines += _groups(old, new)
    lines += cluster_plan(old.cluster, new.cluster)
    if old_duties is not None and new_duties is not None:
        lines += duties_plan(old_duties, new_duties)
    return tuple(lines)


def _arrival(item: InstanceConfig, former_name: str | None) -> str:
    line = f"new: {_router(item)}, {_vips(item.vips)}"
    if former_name is None:
        return line
    return f"{line}; this is {former_name} renamed, a full handover: {former_name} releases first"


def _changes(old: InstanceConfig, new: InstanceConfig, fate: str | None) -> list[str]:
    changes = [*_settings(old, new), *_addresses(old, new), *_tracks(old.track, new.track)]
    causes = [
        *([f"{_router(old)} -> {_router(new)}"] if old.router_key != new.router_key else []),
        *(["other unicast_peers"] if old.unicast_peers != new.unicast_peers else []),
        *(["priority 255 means address owner"] if old.is_owner != new.is_owner else []),
    ]
    if not causes and fate is not None:
        causes = [fate]
    if causes:
        return [f"restarted: {', '.join(causes)}; releases {_vips(old.vips)} first", *changes]
    return changes or ["kept, unchanged"]


# --- groups -----------------------------------------------------------------------------------


def _fates(old: NodeConfig, new: NodeConfig) -> dict[str, str]:
    """Instances that start anew because of the unit that they move with: why."""
    before, after = _group_of(old), _group_of(new)
    former = {item.name: item for item in old.instances}
    fates: dict[str, str] = {}
    for item in new.instances:
        was, now = before.get(item.name), after.get(item.name)
        was_name, now_name = (group.name if group else None for group in (was, now))
        if item.name not in former:
            continue
        if was_name != now_name:
            left = f"leaves group {was_name}" if was_name else ""
            joined = f"joins group {now_name}" if now_name else ""
            fates[item.name] = " and ".join(filter(None, (left, joined)))
        elif was and now and _routers(was, old) != _routers(now, new):
            fates[item.name] = f"the routers of its group {now_name} change"
    return fates


def _group_of(config: NodeConfig) -> dict[str, GroupConfig]:
    return {name: group for group in config.groups for name in group.instances}


def _routers(group: GroupConfig, config: NodeConfig) -> frozenset[tuple[object, ...]]:
    return frozenset(
        (item.name, item.router_key, item.unicast_peers, item.is_owner)
        for item in config.instances
        if item.name in group.instances
    )


def _groups(old: NodeConfig, new: NodeConfig) -> Iterator[str]:
    before = {group.name: group for group in old.groups}
    for group in new.groups:
        label, members = f"group {group.name}", ", ".join(group.instances)
        was = before.pop(group.name, None)
        if was is None:
            yield f"{label}: new: {members} move together"
            yield from (f"{label}: {text}" for text in _tracks((), group.track))
            continue
        if was.instances != group.instances:
            yield f"{label}: instances {', '.join(was.instances)} -> {members}"
        yield from (f"{label}: {text}" for text in _tracks(was.track, group.track))
    for group in before.values():
        yield f"group {group.name}: removed: {', '.join(group.instances)} no longer move together"


# --- one instance -----------------------------------------------------------------------------


def _tracks(old: tuple[Track, ...], new: tuple[Track, ...]) -> list[str]:
    before: Mapping[str, Track] = {track.label: track for track in old}
    after: Mapping[str, Track] = {track.label: track for track in new}
    changes = [f"track {label} removed" for label in before if label not in after]
    for label, track in after.items():
        if label not in before:
            changes.append(f"track {label} added: {track_terms(track)}")
        elif before[label] != track:
            changes.append(f"track {label}: {track_terms(before[label])} -> {track_terms(track)}")
    return changes


def track_terms(track: Track) -> str:
    terms = ["no weight" if track.weight is None else f"weight {track.weight:+d}"]
    if track.reverse:
        terms.append("reversed")
    if track.debounce_ns:
        terms.append(f"debounce {format_duration(track.debounce_ns)}")
    if track.waits:
        terms.append("waited for")
    return ", ".join(terms)


def _settings(old: InstanceConfig, new: InstanceConfig) -> list[str]:
    """Changed values that a word and two values describe."""
    pairs = [
        ("priority", str(old.priority), str(new.priority)),
        (
            "advert_interval",
            *map(format_duration, (old.advert_interval_ns, new.advert_interval_ns)),
        ),
        ("preempt", _flag(old.preempt), _flag(new.preempt)),
        ("preempt_delay", *map(format_duration, (old.preempt_delay_ns, new.preempt_delay_ns))),
        ("source", _source(old), _source(new)),
        ("unicast_peers", _peers(old), _peers(new)),
        ("checksum", old.checksum.value, new.checksum.value),
        ("strict", _flag(old.strict), _flag(new.strict)),
        ("address_lifetime", f"{old.address_lifetime_s}s", f"{new.address_lifetime_s}s"),
        ("announce.count", str(old.announce_count), str(new.announce_count)),
        (
            "announce.refresh",
            *map(format_duration, (old.announce_refresh_ns, new.announce_refresh_ns)),
        ),
    ]
    changes = [f"{name} {before} -> {after}" for name, before, after in pairs if before != after]
    if old.auth_secret != new.auth_secret:
        what = {(True, False): "removed", (False, True): "added"}.get(
            (old.auth_secret is not None, new.auth_secret is not None), "changed"
        )
        changes.append(f"auth secret {what}")
    return changes


def _addresses(old: InstanceConfig, new: InstanceConfig) -> list[str]:
    before = {(vip.interface, vip.address): vip for vip in old.vips}
    after = {(vip.interface, vip.address): vip for vip in new.vips}
    changes = [f"VIP {_vip(vip)} removed" for key, vip in before.items() if key not in after]
    for key, vip in after.items():
        if key not in before:
            changes.append(f"VIP {_vip(vip)} added")
            continue
        if before[key].prefix != vip.prefix:
            changes.append(f"VIP {_vip(before[key])} -> {_vip(vip)}")
        if before[key].advertise != vip.advertise:
            now = "now" if vip.advertise else "no longer"
            changes.append(f"VIP {_vip(vip)} {now} advertised")
    if set(old.advertised) == set(new.advertised) and old.advertised != new.advertised:
        changes.append("order of the advertised VIPs changed")
    return changes


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _source(item: InstanceConfig) -> str:
    return format_address(item.source) if item.source else "automatic"


def _peers(item: InstanceConfig) -> str:
    return ", ".join(map(format_address, item.unicast_peers)) or "none (multicast)"


def _router(item: InstanceConfig) -> str:
    return f"VRRPv{item.version} IPv{item.family.value} VRID {item.vrid} on {item.interface}"


def _vip(vip: Vip) -> str:
    return f"{vip} on {vip.interface}"


def _vips(vips: tuple[Vip, ...]) -> str:
    return ", ".join(map(_vip, vips))
