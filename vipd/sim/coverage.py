"""What a batch of runs tried. A promise that was never strained was not kept, only not broken."""

from __future__ import annotations

from collections import Counter

from vipd.sim.options import CLUSTER_FAULT_KINDS, FAULT_KINDS

MINIMUM_RUNS = 100
"""Smaller batches are not judged."""

MINIMA_PER_100_RUNS: dict[str, float] = {
    "takeovers": 400,
    "goodbyes": 50,
    "last wills": 10,
    "convergence judged": 1000,
    "convergence judged: groups": 300,
    "convergence judged: nobody may": 50,
    "late wake-ups": 50,
    "netlink refused": 20,
    "adverts refused": 20,
    "packets lost": 50,
    "packets duplicated": 20,
    "addresses deleted": 20,
    "kernel events lost": 3,
    "first verdicts": 200,
    "starts that waited for a verdict": 40,
    "uplink flaps": 50,
    "fallen masters replaced": 3,
    "held back": 10,
    "masterships not taken in maintenance": 10,
    "priority changes said": 20,
    "ties of groups": 15,
    "ties of groups, not decisive": 5,
    "ties judged": 1,
    "note released": 100,
    "note address-restored": 10,
    "note loop-stalled": 5,
    "note stray-address-removed": 5,
    "note foreign-address-removed": 5,
    "note source-changed": 1,
    "note priority-changed": 100,
    "note health-stale": 3,
    "note health-fresh": 3,
    "role MASTER": 200,
    "role BACKUP": 300,
    "role FAULT": 50,
    "role INIT": 50,
    "reason master-silent": 100,
    "reason master-left": 20,
    "reason lower-priority-master": 20,
    "reason higher-priority-heard": 20,
    "reason equal-priority-higher-address": 5,
    "reason overtaken-while-stalled": 2,
    "reason maintenance": 10,
    "reason switchover": 10,
    "reason check-failed": 20,
    "reason tracked-interface-down": 0.5,
    "reason waiting-for-checks": 3,
    "reason removed-from-configuration": 30,
    "reason kernel-refused-the-vip": 2,
    "reason vip-keeps-vanishing": 1,
    "reason adverts-cannot-be-sent": 2,
    "reason adverts-cannot-be-heard": 5,
    "reason vip-owned-by-another-program": 0.5,
    "reason address-owner": 1,
} | {f"fault {kind}": 6 for kind in FAULT_KINDS}


CLUSTER_MINIMA_PER_100_RUNS: dict[str, float] = {
    "takeovers": 400,
    "last wills": 20,
    "tombstones": 10,
    "wills of masters": 15,
    "convergence judged": 500,
    "convergence judged: groups": 30,
    "convergence judged: pinned": 5,
    "handovers timed": 5,
    "handover offered": 150,
    "handover taken": 150,
    "handover refused": 8,
    "handover failed": 30,
    "pins ordered": 100,
    "maintenances withdrawn": 5,
    "acting messages lost": 15,
    "acting messages delayed": 15,
    "datagrams lost": 300,
    "datagrams replayed": 150,
    "stale messages": 40,
    "discarded copy": 10_000,
    "discarded replay": 300,
    "discarded old-incarnation": 30,
    "foreign adverts": 8,
    "killed at leaving": 0.5,
    "killed at released": 0.5,
    "killed at go-said": 0.5,
    "killed at go-heard": 0.5,
    "killed at taken-said": 0.5,
    "alarm no-standby": 50,
    "alarm drift": 10,
    "alarm path-down": 10,
    "alarm adverts-lost": 1,
    "alarm foreign-master": 10,
    "note member-left": 30,
    "note member-lost": 80,
    "note pin": 10,
    "reason handed-over": 150,
    "reason preempted": 20,
    "reason handover-failed": 10,
    "reason adverts-lost": 0.5,
    "reason master-silent": 60,
    "reason master-left": 100,
    "reason maintenance": 15,
    "reason switchover": 30,
} | {f"fault {kind}": 3 for kind in CLUSTER_FAULT_KINDS}


def minima(*, cluster: bool) -> dict[str, float]:
    return CLUSTER_MINIMA_PER_100_RUNS if cluster else MINIMA_PER_100_RUNS


def too_little(coverage: Counter[str], runs: int, *, cluster: bool = False) -> list[str]:
    """Each minimum that ``runs`` runs of one mode did not reach."""
    return [
        f"{name}: {coverage[name]} of at least {minimum * runs // 100:.0f}"
        for name, minimum in minima(cluster=cluster).items()
        if coverage[name] < minimum * runs // 100
    ]


def report(coverage: Counter[str]) -> str:
    width = max((len(name) for name in coverage), default=0)
    return "\n".join(f"  {name:<{width}} {coverage[name]}" for name in sorted(coverage))
