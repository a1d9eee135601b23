"""One run: draw the options, build the hosts, break things, mend everything, demand order."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from vipd.errors import InvariantViolated
from vipd.model import SECOND_NS, Duration
from vipd.sim.checkers import Checkers
from vipd.sim.convergence import converge_ns
from vipd.sim.host import Host
from vipd.sim.judge import Judge
from vipd.sim.network import Network
from vipd.sim.options import Options, draw, is_cluster
from vipd.sim.scenario import Scenario
from vipd.sim.world import Violation, World

AFTERWARDS_NS = 3 * SECOND_NS
"""How long the converged state is watched."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run showed. ``violation`` None: every promise was kept."""

    seed: int
    options: Options
    violation: Violation | None
    simulated_ns: Duration
    coverage: Counter[str]
    trace: list[str]


def run(
    seed: int,
    nodes: int | None = None,
    *,
    cluster: bool | None = None,
    tracing: bool = False,
) -> Result:
    """Play ``seed``. The same arguments give the same run, traced or not.

    ``cluster`` None: the seed decides.
    """
    rng = random.Random(seed)
    options = draw(rng, nodes, cluster=is_cluster(seed) if cluster is None else cluster)
    world = World(rng, tracing=tracing)
    violation = None
    try:
        _play(world, options)
    except Violation as found:
        violation = found
    except InvariantViolated as found:  # the core's own checker
        violation = Violation("core-invariant", str(found), world.now)
    return Result(seed, options, violation, world.now, world.coverage, world.lines)


def build(world: World, network: Network, options: Options) -> tuple[tuple[Host, ...], Scenario]:
    """The hosts and what is going to happen to them."""
    scenario = Scenario(world, options, network)
    judge = Judge(world)
    hosts = tuple(
        Host(
            world,
            network,
            plan,
            lambda at=at: scenario.config(at),  # type: ignore[misc]
            options.netlink_ns,
            options.hiccup_chance,
        )
        for at, plan in enumerate(options.hosts)
    )
    for host in hosts:
        host.judge = judge
        host.kernel.late_ipv6_ns = options.late_ipv6_ns
    network.hosts = scenario.hosts = hosts
    return hosts, scenario


def _play(world: World, options: Options) -> None:
    hosts, scenario = build(world, Network(world, options.delay_ns), options)
    checkers = Checkers(world, hosts, scenario, hosts[0].judge)
    scenario.begin()
    world.run_until(options.fault_phase_ns)
    scenario.heal()
    slowest = max(converge_ns(scenario.slowest(unit)) for unit in scenario.units)
    healed = max(world.now, checkers.convergence.fit_since) + options.first_verdict_ns
    world.run_until(healed + slowest + AFTERWARDS_NS)
