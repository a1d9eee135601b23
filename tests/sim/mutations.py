"""Rules of the core, each broken once: the simulator must notice every one of them."""

from __future__ import annotations

from tests.sim import mutations_cluster, mutations_mastership, mutations_plain
from tests.sim.mutation import Mutation

MUTATIONS: tuple[Mutation, ...] = (
    *mutations_plain.MUTATIONS,
    *mutations_mastership.MUTATIONS,
    *mutations_cluster.MUTATIONS,
)

__all__ = ["MUTATIONS", "Mutation"]
