"""Snapshot -> the JSON of ``vipd status --json``. Keys are a contract: additions only."""

from __future__ import annotations

from typing import Any

from vipd.model import MILLISECOND_NS, SECOND_NS, Instant, LeaseState
from vipd.snapshots import InstanceSnapshot, Snapshot, TrackSnapshot
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
        "master_down_interval_ms": shot.master_down_interval_ns / MILLISECOND_NS,
        "skew_ms": shot.skew_ns / MILLISECOND_NS,
        "learned_interval_ms": shot.learned_interval_ns / MILLISECOND_NS,
        "last_advert_heard_ms": None if heard is None else -heard,
    }


def node_status(snapshot: Snapshot, wall_now: float) -> dict[str, Any]:
    """What the engine knows; the supervisor adds its own: checks, hooks, maintenance, alarms."""
    now = snapshot.now_ns
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
    }
