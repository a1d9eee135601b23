"""What stands for a cluster in the simulator: its channel, its recorder, its drawn sections."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from vipd.model import MILLISECOND_NS, OWNER_PRIORITY, SECOND_NS, Family
from vipd.sim.channel import GO, HEARTBEAT, Carried
from vipd.sim.cluster_faults import STEPS
from vipd.sim.cluster_plans import key_step
from vipd.sim.coverage import CLUSTER_MINIMA_PER_100_RUNS, MINIMA_PER_100_RUNS, minima
from vipd.sim.foreign import ForeignRouter
from vipd.sim.host import Host
from vipd.sim.network import ADVERTS, CHANNEL, Network
from vipd.sim.options import CLUSTER_FAULT_KINDS, Options, draw, is_cluster
from vipd.sim.plans import MAIN, SIDE
from vipd.sim.run import build, run
from vipd.sim.scenario import Scenario
from vipd.sim.world import World

SEED = 3


class Rig:
    """Two hosts that are up, without daemons; what arrives is kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = World(random.Random(1))
        self.network = Network(self.world, (MILLISECOND_NS, MILLISECOND_NS))
        options = draw(random.Random(SEED), 2, cluster=True)
        self.hosts, self.scenario = build(self.world, self.network, options)
        self.arrived: list[Carried] = []
        monkeypatch.setattr(Host, "datagram_arrives", lambda _host, each: self.arrived.append(each))
        for host in self.hosts:
            host.boot()
        self.channel = self.scenario.channel

    def datagram(self, kind: int, interface: str = MAIN) -> Carried:
        one, two = self.hosts
        data = bytes(7) + bytes((kind,)) + bytes(40)
        source, destination = (each.plan.address(interface, Family.IPV4) for each in (one, two))
        return Carried(one, two, interface, source, destination, data, 0)

    def carried(self, *datagrams: Carried) -> int:
        """How many of them arrive within 5 s."""
        self.arrived.clear()
        for datagram in datagrams:
            self.channel.send(datagram)
        self.world.run_until(self.world.now + 5 * SECOND_NS)
        return len(self.arrived)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def test_a_datagram_arrives_where_it_was_sent(rig: Rig) -> None:
    assert rig.carried(rig.datagram(HEARTBEAT)) == 1
    assert rig.arrived[0].receiver is rig.hosts[1]


def test_the_channel_can_be_cut_alone_and_so_can_the_adverts(rig: Rig) -> None:
    one, two = rig.hosts
    rig.network.cut(one, two, "", CHANNEL)
    assert rig.network.is_cut(one, two, MAIN, CHANNEL)
    assert not rig.network.is_cut(one, two, MAIN, ADVERTS)
    assert rig.network.carries_adverts
    assert rig.carried(rig.datagram(HEARTBEAT)) == 0
    rig.network.mend(one, two, "", CHANNEL)
    rig.network.cut(one, two, "", ADVERTS)
    assert rig.carried(rig.datagram(HEARTBEAT)) == 1
    assert not rig.network.carries_adverts


def test_one_path_can_be_cut(rig: Rig) -> None:
    one, two = rig.hosts
    rig.network.cut(one, two, SIDE, CHANNEL)
    assert rig.carried(rig.datagram(HEARTBEAT, SIDE), rig.datagram(HEARTBEAT, MAIN)) == 1
    assert not rig.network.is_whole


def test_what_acts_is_lost_or_late_for_itself(rig: Rig) -> None:
    rig.channel.loses = {GO: 1.0}
    assert rig.carried(rig.datagram(GO), rig.datagram(HEARTBEAT)) == 1
    rig.channel.loses = {}
    rig.channel.delays = {GO: 1.0}
    rig.channel.send(rig.datagram(GO))
    rig.world.run_until(rig.world.now + 2 * MILLISECOND_NS)
    assert rig.world.coverage["acting messages delayed"] == 1
    assert rig.arrived == [rig.datagram(HEARTBEAT)]
    assert rig.channel.late_until > rig.world.now
    rig.world.run_until(rig.channel.late_until)
    assert rig.arrived == [rig.datagram(HEARTBEAT), rig.datagram(GO)]


def test_the_recorder_plays_back_what_was_lost_as_well(rig: Rig) -> None:
    rig.channel.loses = {GO: 1.0}
    assert rig.carried(rig.datagram(GO)) == 0
    assert rig.channel.replay(acts=True, count=3, within_ns=SECOND_NS) == 3
    rig.world.run_until(rig.channel.late_until)
    assert rig.arrived == [rig.datagram(GO)] * 3


def test_nothing_leaves_from_an_address_that_is_gone(rig: Rig) -> None:
    one, _ = rig.hosts
    one.kernel.remove(MAIN, one.plan.ipv4, 24)
    assert rig.carried(rig.datagram(HEARTBEAT)) == 0


def test_a_foreign_router_speaks_until_it_hears_a_better_one(rig: Rig) -> None:
    plan = replace(rig.scenario.instances[0], unicast=False)
    router = ForeignRouter(rig.world, rig.network, plan, 100)
    rig.world.run_until(5 * plan.slowest_ns)
    spoken = rig.world.coverage["foreign adverts"]
    assert spoken >= 5
    better = router._packet()
    payload = bytearray(better.payload)
    payload[2] = 200
    rig.network.listener(plan.interface, replace(better, payload=bytes(payload)))
    rig.world.run_until(rig.world.now + 3 * plan.slowest_ns)
    assert rig.world.coverage["foreign adverts"] == spoken
    rig.world.run_until(rig.world.now + 3 * plan.slowest_ns)
    assert rig.world.coverage["foreign adverts"] > spoken


def test_about_half_of_the_seeds_are_clusters() -> None:
    assert 400 < sum(map(is_cluster, range(1000))) < 600


def test_a_seed_is_the_same_in_plain_mode_whatever_clusters_draw() -> None:
    assert draw(random.Random(SEED)).cluster is None
    assert run(SEED, cluster=False).coverage == run(SEED, cluster=False).coverage


@pytest.mark.parametrize("seed", range(40))
def test_what_a_cluster_draws_is_a_cluster(seed: int) -> None:
    options: Options = draw(random.Random(seed), cluster=True)
    plan = options.cluster
    assert plan is not None
    assert plan.heartbeat_timeout_ns >= 3 * plan.heartbeat_interval_ns
    assert len(plan.speaks) == len(options.hosts)
    assert all(OWNER_PRIORITY not in each.priorities for each in options.instances)
    config = plan.config_for(options.hosts, 0)
    assert [node.name for node in config.nodes] == [host.name for host in options.hosts]
    assert all(len(node.addresses) == len(plan.paths) for node in config.nodes)


def test_keys_are_replaced_in_three_steps_that_always_share_one() -> None:
    plan = draw(random.Random(SEED), cluster=True).cluster
    assert plan is not None
    steps = [plan]
    for number in range(3):
        steps.append(key_step(steps[-1], number))
        assert set(steps[-1].keys) & set(steps[-2].keys)
        assert steps[-1].keys[0] in steps[-2].keys  # what signs now was known before
    assert steps[-1].keys != plan.keys


def test_every_fault_and_every_step_has_a_minimum() -> None:
    assert minima(cluster=False) is MINIMA_PER_100_RUNS
    known = minima(cluster=True)
    assert known is CLUSTER_MINIMA_PER_100_RUNS
    assert {f"fault {kind}" for kind in CLUSTER_FAULT_KINDS} <= set(known)
    assert {f"killed at {step}" for step in STEPS} <= set(known)
    assert all(hasattr(Scenario, "_" + kind.replace("-", "_")) for kind in CLUSTER_FAULT_KINDS)
