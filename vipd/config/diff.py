"""What a reload would change, in words, for ``vipd reload`` and the log.

Instances are matched by name. A virtual router *is* (interface, VRID, family, version): when one of
these changes, the old router leaves and a new one starts; every other change is carried out while
the instance keeps its state.
"""

from __future__ import annotations

from vipd.config.types import format_duration
from vipd.model import InstanceConfig, NodeConfig, Vip, format_address


def plan(old: NodeConfig, new: NodeConfig) -> tuple[str, ...]:
    """One line per change, in the order of the new file, then what is removed."""
    lines: list[str] = []
    if old.node != new.node:
        lines.append(f"node {old.node} -> {new.node}")
    before = {item.name: item for item in old.instances}
    for item in new.instances:
        if item.name in before:
            lines += [f"{item.name}: {text}" for text in _changes(before[item.name], item)]
        else:
            lines.append(f"{item.name}: new: {_router(item)}, {_vips(item.vips)}")
    names = {item.name for item in new.instances}
    for item in old.instances:
        if item.name not in names:
            lines.append(f"{item.name}: removed: releases {_vips(item.vips)}")
    return tuple(lines)


def _changes(old: InstanceConfig, new: InstanceConfig) -> list[str]:
    changes = [*_settings(old, new), *_addresses(old, new)]
    if old.router_key != new.router_key:
        identity = f"restarted: {_router(old)} -> {_router(new)}"
        return [f"{identity}; releases {_vips(old.vips)} first", *changes]
    return changes or ["kept, unchanged"]


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
