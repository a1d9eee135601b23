"""Changes of a router's configuration that a reload brings; all hosts get the same."""

from __future__ import annotations

import random
from dataclasses import replace

from vipd.model import MILLISECOND_NS
from vipd.sim.options import InstancePlan, main_vip


def other_vips(plan: InstancePlan, at: int, rng: random.Random) -> InstancePlan:
    """Longer, shorter, or with a gap; VIPs that only ride along stay."""
    extra = [vip for vip in plan.vips if not vip.advertise]
    count = rng.choice((1, 2, 3, 6, 12))
    first = [main_vip(plan.family, at, number) for number in range(count)]
    if count > 2 and rng.random() < 0.5:
        del first[rng.randrange(1, count)]
    return replace(plan, vips=(*first, *extra))


def other_priorities(plan: InstancePlan, _at: int, rng: random.Random) -> InstancePlan:
    priorities = list(plan.priorities)
    rng.shuffle(priorities)
    priorities[0] = rng.randint(1, 254)
    return replace(plan, priorities=tuple(priorities))


def other_interval(plan: InstancePlan, _at: int, rng: random.Random) -> InstancePlan:
    choices = (1000, 2000, 3000) if plan.version == 2 else (100, 300, 1000, 1500)
    interval_ns = rng.choice(choices) * MILLISECOND_NS
    return replace(plan, intervals_ns=(interval_ns,) * len(plan.priorities))


def other_identity(plan: InstancePlan, _at: int, _rng: random.Random) -> InstancePlan:
    """Another VRID: the router leaves, and its successor of the same name starts."""
    return replace(plan, vrid=plan.vrid % 250 + 4)
