"""Changes of the configuration that a reload brings; all hosts get the same.

What decides an election is changed in all members of a group alike. Routers keep their place in
the tuple for a whole run, whatever they are called.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from vipd.model import MILLISECOND_NS, OWNER_PRIORITY, Duration, Track
from vipd.sim.options import pick_tracks
from vipd.sim.plans import GroupPlan, InstancePlan, main_vip

Desired: TypeAlias = tuple[tuple[InstancePlan, ...], tuple[GroupPlan, ...]]
Change: TypeAlias = Callable[[list[tuple[int, InstancePlan]], random.Random], list[InstancePlan]]
"""From the members of one unit with their places to what they become."""


def changed_unit(desired: Desired, change: Change, rng: random.Random) -> Desired | None:
    """One unit becomes what ``change`` says; None if there is none that may change."""
    instances, groups = desired
    grouped = {name for group in groups for name in group.members}
    places = {plan.name: at for at, plan in enumerate(instances)}
    units = [[places[name] for name in group.members] for group in groups]
    units += [[at] for at, plan in enumerate(instances) if plan.name not in grouped]
    plain = [
        unit for unit in units if all(OWNER_PRIORITY not in instances[at].priorities for at in unit)
    ]
    if not plain:
        return None
    unit = rng.choice(plain)
    changed = list(instances)
    for at, plan in zip(unit, change([(at, instances[at]) for at in unit], rng), strict=True):
        changed[at] = plan
    return tuple(changed), groups


def other_vips(members: list[tuple[int, InstancePlan]], rng: random.Random) -> list[InstancePlan]:
    """Longer, shorter, or with a gap; VIPs that only ride along stay. One member's."""
    chosen = rng.randrange(len(members))
    made = [plan for _, plan in members]
    at, plan = members[chosen]
    extra = [vip for vip in plan.vips if not vip.advertise]
    count = rng.choice((1, 2, 3, 6, 12))
    first = [main_vip(plan.family, at, number, plan.interface) for number in range(count)]
    if count > 2 and rng.random() < 0.5:
        del first[rng.randrange(1, count)]
    made[chosen] = replace(plan, vips=(*first, *extra))
    return made


def other_priorities(
    members: list[tuple[int, InstancePlan]], rng: random.Random
) -> list[InstancePlan]:
    priorities = list(members[0][1].priorities)
    rng.shuffle(priorities)
    priorities[0] = rng.randint(1, 254)
    return [replace(plan, priorities=tuple(priorities)) for _, plan in members]


def other_interval(
    members: list[tuple[int, InstancePlan]], rng: random.Random
) -> list[InstancePlan]:
    first = members[0][1]
    choices = (1000, 2000, 3000) if first.version == 2 else (100, 300, 1000, 1500)
    interval_ns: Duration = rng.choice(choices) * MILLISECOND_NS
    return [
        replace(plan, intervals_ns=(interval_ns,) * len(plan.priorities)) for _, plan in members
    ]


def other_identity(
    members: list[tuple[int, InstancePlan]], rng: random.Random
) -> list[InstancePlan]:
    """Another VRID: the router leaves, and its successor of the same name starts."""
    chosen = rng.randrange(len(members))
    return [
        replace(plan, vrid=plan.vrid % 250 + 4) if at == chosen else plan
        for at, (_, plan) in enumerate(members)
    ]


def renamed(desired: Desired, rng: random.Random) -> Desired:
    """One router, or one group, gets another name; its VIPs stay what they are."""
    instances, groups = desired
    if groups and rng.random() < 0.4:
        return instances, (replace(groups[0], name=_next_name(groups[0].name)), *groups[1:])
    chosen = rng.randrange(len(instances))
    old = instances[chosen].name
    new = _next_name(old)
    changed = replace(instances[chosen], name=new)
    groups = tuple(
        replace(group, members=tuple(new if name == old else name for name in group.members))
        for group in groups
    )
    return (*instances[:chosen], changed, *instances[chosen + 1 :]), groups


def _next_name(name: str) -> str:
    """``vi1`` -> ``vi1-a`` -> ``vi1-b`` -> ``vi1-a``."""
    stem, _, letter = name.partition("-")
    return f"{stem}-b" if letter == "a" else f"{stem}-a"


def other_tracks(desired: Desired, tracks: tuple[Track, ...], rng: random.Random) -> Desired:
    instances, groups = desired
    if groups and rng.random() < 0.5:
        return instances, (replace(groups[0], track=pick_tracks(rng, tracks)), *groups[1:])
    chosen = rng.randrange(len(instances))
    changed = replace(instances[chosen], track=pick_tracks(rng, tracks))
    return (*instances[:chosen], changed, *instances[chosen + 1 :]), groups


def regrouped(desired: Desired, rng: random.Random) -> Desired | None:
    """A group is split, or gives a member away; or routers that were alone move as one."""
    instances, groups = desired
    if groups:
        members = groups[0].members
        if len(members) > 2 and rng.random() < 0.5:
            leaves = rng.choice(members)
            left = tuple(name for name in members if name != leaves)
            return instances, (replace(groups[0], members=left),)
        return instances, ()
    plain = [at for at, plan in enumerate(instances) if OWNER_PRIORITY not in plan.priorities]
    if len(plain) < 2:
        return None
    chosen = plain[:2]
    first, second = instances[chosen[0]], instances[chosen[1]]
    if first.version != second.version:
        return None  # a group has one version
    agreed = replace(
        second,
        priorities=first.priorities,
        intervals_ns=first.intervals_ns,
        preempt=first.preempt,
        preempt_delay_ns=first.preempt_delay_ns,
    )
    changed = tuple(agreed if at == chosen[1] else plan for at, plan in enumerate(instances))
    return changed, (GroupPlan("edge", (first.name, second.name)),)
