"""Snapshot -> the JSON of ``vipd status --json``. Keys are a contract: additions only."""

from __future__ import annotations

from typing import Any

from vipd.model import MILLISECOND_NS, SECOND_NS, ClusterConfig, Instant, LeaseState
from vipd.snapshots import (
    ClusterSnapshot,
    InstanceSnapshot,
    MemberSnapshot,
    PinSnapshot,
    ReportSnapshot,
    Snapshot,
    TrackSnapshot,
)
from vipd.supervisor.words import spell


def instance_status(shot: InstanceSnapshot, now: Instant, wall_now: float) -> dict[str, Any]:
    """One instance. ``wall_now`` is the wall clock at ``now``: instants become dates by it."""
    master = shot.master
    return {
        "state": shot.state.value,
        "since": wall_now - (now - shot.since_ns) / SECOND_NS,
        "reason": shot.reason.value,
        "detail": spell(shot.detail),
        "faults": [spell(fault) for fault in shot.faults],
        "unit": shot.unit or shot.name,
        "group": shot.unit if shot.unit not in ("", shot.name) else None,
        "interface": shot.interface,
        "vrid": shot.vrid,
        "protocol": shot.version,
        "source": shot.source,
        "priority": {
            "base": shot.priority_base,
            "effective": shot.priority_effective,
            "contributions": [
                {"name": part.name, "weight": part.weight} for part in shot.contributions
            ],
        },
        "tracks": [_track(track) for track in shot.tracks],
        "preempt": shot.preempt,
        "held": shot.held,
        "term": shot.term,
        "handing_to": shot.handing_to or None,
        "refused_for": shot.refused_for or None,
        "master": None
        if master is None
        else {
            "node": master.node,
            "address": master.address,
            "priority": master.priority,
        },
        "vips": [
            {"address": vip.address, "interface": vip.interface, "present": vip.present}
            for vip in shot.vips
        ],
        "lease": {
            "held": shot.lease is LeaseState.HELD,
            "owner": None,
            "expires_in_ms": None,
            "votes": None,
            "voters": None,
        },
        "claim": shot.claim.value,
        "timers": _timers(shot, now),
    }


def _track(track: TrackSnapshot) -> dict[str, Any]:
    return {
        "name": track.label,
        "kind": track.kind.value,
        "health": track.health.value,
        "number": track.number,
        "weight": track.weight,
        "reverse": track.reverse,
        "contribution": track.contribution,
    }


def _timers(shot: InstanceSnapshot, now: Instant) -> dict[str, Any]:
    def in_ms(instant: Instant | None) -> float | None:
        return None if instant is None else round((instant - now) / MILLISECOND_NS, 3)

    heard = in_ms(shot.last_advert_heard_ns)
    return {
        "next": shot.deadline_means,
        "next_in_ms": in_ms(shot.deadline_ns),
        "asks_in_ms": in_ms(shot.asks_at_ns),
        "master_down_interval_ms": shot.master_down_interval_ns / MILLISECOND_NS,
        "skew_ms": shot.skew_ns / MILLISECOND_NS,
        "learned_interval_ms": shot.learned_interval_ns / MILLISECOND_NS,
        "last_advert_heard_ms": None if heard is None else -heard,
    }


def _ago_ms(instant: Instant | None, now: Instant) -> float | None:
    return None if instant is None else round((now - instant) / MILLISECOND_NS, 3)


def _wall(instant: Instant | None, now: Instant, wall_now: float) -> float | None:
    """``wall_now`` is the wall clock at ``now``."""
    return None if instant is None else wall_now + (instant - now) / SECOND_NS


def _cluster(
    shot: ClusterSnapshot, config: ClusterConfig | None, now: Instant, wall_now: float
) -> dict[str, Any]:
    """Nodes by name, as each one reports itself; durations count back from ``now``."""
    times = {} if config is None else _channel_times(config)
    return {
        "name": shot.name,
        **times,
        "nodes": {
            each.name: _node(each, now, wall_now) for each in shot.members if not each.is_witness
        },
        "witnesses": {
            each.name: {
                "alive": each.alive,
                "last_heard_ms": _ago_ms(each.last_heard_ns, now),
                "priority": None,
            }
            for each in shot.members
            if each.is_witness
        },
        "discarded": dict(shot.discarded),
    }


def _channel_times(config: ClusterConfig) -> dict[str, float]:
    return {
        "heartbeat_interval_ms": config.heartbeat_interval_ns / MILLISECOND_NS,
        "heartbeat_timeout_ms": config.heartbeat_timeout_ns / MILLISECOND_NS,
    }


def _node(member: MemberSnapshot, now: Instant, wall_now: float) -> dict[str, Any]:
    """``priority`` is that of the only unit: with several there is no single one."""
    units = member.units
    return {
        "alive": member.alive,
        "last_heard_ms": _ago_ms(member.last_heard_ns, now),
        "priority": units[0].priority if len(units) == 1 else None,
        "self": member.is_self,
        "left": member.left,
        "software": member.software,
        "wire_version": member.wire_version,
        "incarnation": member.incarnation,
        "maintenance": member.maintenance,
        "drifted": member.drifted,
        "paths": [
            {"address": path.address, "last_heard_ms": _ago_ms(path.last_heard_ns, now)}
            for path in member.paths
        ],
        "units": {report.unit: _report(report, now, wall_now) for report in units},
    }


def _report(report: ReportSnapshot, now: Instant, wall_now: float) -> dict[str, Any]:
    return {
        "state": report.state.value,
        "reason": report.reason,
        "detail": spell(report.detail),
        "priority": {"base": report.priority_base, "effective": report.priority},
        "term": report.term,
        "master": report.master or None,
        "since": _wall(report.since_ns, now, wall_now),
    }


def _pin(pin: PinSnapshot, now: Instant, wall_now: float) -> dict[str, Any]:
    until = _wall(pin.until_ns, now, wall_now)
    return {"node": pin.node, "version": pin.version, "until": until}


def node_status(
    snapshot: Snapshot, wall_now: float, config: ClusterConfig | None = None
) -> dict[str, Any]:
    """What the engine knows; the supervisor adds its own: checks, hooks, maintenance, alarms.

    ``config`` is the cluster's, in cluster mode; ``cluster`` is None in plain mode.
    """
    now, cluster = snapshot.now_ns, snapshot.cluster
    counters: dict[str, Any] = {
        shot.name: {**shot.counters, "discarded": dict(shot.discarded)}
        for shot in snapshot.instances
    }
    return {
        "node": snapshot.node,
        "instances": {
            shot.name: instance_status(shot, now, wall_now) for shot in snapshot.instances
        },
        "counters": counters,
        "discarded": dict(snapshot.discarded_without_instance),
        "cluster": None if cluster is None else _cluster(cluster, config, now, wall_now),
        "pin": {}
        if cluster is None
        else {pin.unit: _pin(pin, now, wall_now) for pin in cluster.pins if pin.node},
    }
