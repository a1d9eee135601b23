"""What a good file means, in a few lines: the answer of ``vipd check``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vipd.config.diff import track_terms
from vipd.config.diff_duties import target_of
from vipd.config.digest import fingerprint
from vipd.config.health import detection_ns
from vipd.config.load import Loaded
from vipd.config.resolve import takeover_ns
from vipd.config.types import format_duration
from vipd.duties import CheckConfig, Duties, HookSet
from vipd.model import ClusterConfig, GroupConfig, InstanceConfig, Track, format_address


def summary(path: Path, loaded: Loaded) -> list[str]:
    """One line for the file, then a few for each instance, group and check."""
    config, duties = loaded.node_config, loaded.duties
    lines = [f"{path}: good for node {config.node}, {_count(len(config.instances), 'instance')}"]
    for item in config.instances:
        lines += [f"  {item.name}: {text}" for text in _instance(item, config.cluster, duties)]
    for group in config.groups:
        lines += [f"  {group.name}: {text}" for text in _group(group, duties)]
    lines += [f"  check {check.name}: {_check(check)}" for check in duties.checks]
    if config.cluster is not None:
        lines += [f"  cluster {config.cluster.name}: {text}" for text in _cluster(config.cluster)]
    return lines


def _instance(item: InstanceConfig, cluster: ClusterConfig | None, duties: Duties) -> Iterator[str]:
    peers = ", ".join(map(format_address, item.unicast_peers))
    preempt = "" if item.preempt else ", no preemption"
    yield (
        f"VRRPv{item.version} IPv{item.family.value}, VRID {item.vrid} on {item.interface}, "
        f"priority {item.priority}{preempt}, {f'unicast to {peers}' if peers else 'multicast'}"
    )
    vips = ", ".join(f"{vip}{_remarks(item, vip.interface, vip.advertise)}" for vip in item.vips)
    yield f"{_count(len(item.vips), 'VIP')}: {vips}"
    takeover = format_duration(takeover_ns(item.version, item.advert_interval_ns))
    yield (
        f"an advert every {format_duration(item.advert_interval_ns)}; "
        f"{'' if cluster is None else 'without the channel '}a silent master is replaced within "
        f"{takeover}; unrenewed addresses end after {item.address_lifetime_s}s"
    )
    yield from _tracks(item.track)
    yield from _hooks("INSTANCE", item.name, duties)


def _cluster(cluster: ClusterConfig) -> Iterator[str]:
    """The digest and the keys are there to be compared with the other hosts."""
    for kind, members in (("node", cluster.nodes), ("witness", cluster.witnesses)):
        for member in members:
            addresses = ", ".join(map(format_address, member.addresses))
            yield f"{kind} {member.name} at {addresses}"
    yield (
        f"UDP port {cluster.port}, a heartbeat every "
        f"{format_duration(cluster.heartbeat_interval_ns)}; a node that is silent on the channel "
        f"and on the VIPs' network is replaced after "
        f"{format_duration(cluster.heartbeat_timeout_ns)}"
    )
    keys = " and ".join(map(fingerprint, cluster.keys)) or "not looked at"
    yield f"configuration digest {cluster.digest.hex()}, keys {keys}; the same on all nodes"


def _group(group: GroupConfig, duties: Duties) -> Iterator[str]:
    yield f"group of {', '.join(group.instances)}, which move together"
    yield from _tracks(group.track)
    yield from _hooks("GROUP", group.name, duties)


def _tracks(tracks: tuple[Track, ...]) -> Iterator[str]:
    if tracks:
        yield f"tracks {'; '.join(f'{track.label}, {track_terms(track)}' for track in tracks)}"


def _hooks(kind: str, name: str, duties: Duties) -> Iterator[str]:
    sets = (item for plan in duties.hooks for item in plan.sets)
    for hooks in sets:
        if (hooks.kind, hooks.name) == (kind, name) and hooks.commands:
            yield f"hooks as {hooks.user or 'root'}: {_occasions(hooks)}"


def _occasions(hooks: HookSet) -> str:
    return ", ".join(f"{key.value} {command[0]}" for key, command in hooks.commands.items())


def _check(check: CheckConfig) -> str:
    every, known = format_duration(check.interval_ns), format_duration(detection_ns(check))
    return f"{target_of(check.probe)}, every {every}; a failure is known within {known}"


def _remarks(item: InstanceConfig, interface: str, advertise: bool) -> str:
    remarks = [] if interface == item.interface else [f"on {interface}"]
    if not advertise:
        remarks.append("not advertised")
    return f" ({', '.join(remarks)})" if remarks else ""


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
