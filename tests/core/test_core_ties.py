"""Ties of groups: several nodes of one priority that find one another after a cut.

Every node is a rig with a network between them: adverts are delayed by less than a millisecond
and overtake one another, members are cut in both directions or in one. Nobody but one may stay
master, and the VIPs must not be without a host for a whole Active_Down_Interval in between.
"""

from __future__ import annotations

import itertools
import random
from heapq import heappop, heappush

import pytest

from tests.core.rig import MS, Rig, S, router, vip
from vipd.core.actions import Action, SendAdvert
from vipd.core.events import AdvertHeard, DeadlinePassed, Event
from vipd.core.tie import Tie, Ties
from vipd.core.units import UnitConfig
from vipd.model import GroupConfig, HostAddress, Link, State, parse_address

Cut = tuple[str, int, int]
"""(member, from node, to node)."""


class Network:
    """``nodes`` hosts, each with a group of ``members`` routers on as many networks."""

    def __init__(self, seed: int, nodes: int, members: int, *, one_vrid: bool = False) -> None:
        self.now = 1000 * S
        self.rng = random.Random(seed)
        self.names = [f"m{at}" for at in range(members)]
        self.pairs = [(i, k) for i in range(nodes) for k in range(nodes) if i != k]
        self.cut: set[Cut] = {(name, *pair) for name in self.names for pair in self.pairs}
        self._under_way: list[tuple[int, int, int, Event]] = []
        self._count = itertools.count()
        places = [self.rng.sample(range(nodes), nodes) for _ in self.names]
        vrids = [51 if one_vrid else 51 + at for at in range(members)]
        self.rigs = [
            self._rig(node, [place[node] for place in places], vrids) for node in range(nodes)
        ]

    def _rig(self, node: int, places: list[int], vrids: list[int]) -> Rig:
        rig = Rig(sync=False)
        rig.kernel.links, rig.kernel.addresses = {}, {}
        configs = []
        for at, name in enumerate(self.names):
            rig.kernel.links[10 + at] = Link(10 + at, f"e{at}", True, bytes([2, 0, 0, 0, at, node]))
            own = parse_address(f"10.{at}.0.{10 + places[at]}")
            rig.kernel.put(HostAddress(10 + at, own, 24))
            address = vip(f"10.{at}.0.100/24", f"e{at}")
            configs.append(router(name=name, vrid=vrids[at], interface=f"e{at}", vips=(address,)))
        self.rng.shuffle(configs)  # each file has an order of its own
        rig.on_action = lambda action: self._carry(node, action)
        rig.now = self.now + self.rng.randrange(S)
        rig.feed(rig.kernel.dump())
        group = GroupConfig("edge", tuple(config.name for config in configs))
        rig.configure(*configs, groups=(group,))
        return rig

    def _carry(self, sender: int, action: Action) -> None:
        if not isinstance(action, SendAdvert):
            return
        heard = AdvertHeard(action.instance, action.source, action.advert)
        for receiver in range(len(self.rigs)):
            if receiver != sender and (action.instance, sender, receiver) not in self.cut:
                at = self.rigs[sender].now + self.rng.randrange(50_000, 500_000)
                heappush(self._under_way, (at, next(self._count), receiver, heard))

    def run(self, duration_ns: int) -> None:
        end = self.now + duration_ns
        while True:
            due = [(rig.node.deadline() or end + 1, at) for at, rig in enumerate(self.rigs)]
            at, who = min(due)
            if self._under_way and self._under_way[0][0] <= at:
                at, _, who, event = self._under_way[0]
            else:
                event = DeadlinePassed()
            if at > end:
                break
            if not isinstance(event, DeadlinePassed):
                heappop(self._under_way)
            self.rigs[who].now = max(at, self.rigs[who].now)
            self.rigs[who].feed(event)
        self.now = end

    def masters(self) -> int:
        return sum(rig.state("edge") is State.MASTER for rig in self.rigs)

    def heal(self, cut: set[Cut]) -> list[int]:
        """All are cut off and masters; then only ``cut`` is left. How many masters, each 50 ms."""
        self.run(6 * S)
        assert self.masters() == len(self.rigs)
        self.cut = cut
        counts = []
        for _ in range(20 * 20):
            self.run(50 * MS)
            counts.append(self.masters())
        return counts


@pytest.mark.parametrize("one_vrid", [False, True])
@pytest.mark.parametrize(("nodes", "members"), [(2, 2), (2, 3), (3, 2)])
@pytest.mark.parametrize("seed", range(12))
def test_exactly_one_stays_when_all_is_healed(
    seed: int, nodes: int, members: int, one_vrid: bool
) -> None:
    counts = Network(seed, nodes, members, one_vrid=one_vrid).heal(set())
    assert min(counts) == 1
    assert set(counts[30:]) == {1}  # one interval, a reply, and the way there


@pytest.mark.parametrize("seed", range(12))
def test_exactly_one_stays_when_they_meet_on_a_later_member_only(seed: int) -> None:
    network = Network(seed, 2, 2)
    counts = network.heal({("m0", *pair) for pair in network.pairs})
    assert min(counts) == 1
    assert set(counts[50:]) == {1}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("deaf", [0, 1])
@pytest.mark.parametrize("member", ["m0", "m1"])
def test_exactly_one_stays_when_one_member_is_cut_in_one_direction(
    seed: int, deaf: int, member: str
) -> None:
    counts = Network(seed, 2, 2).heal({(member, 1 - deaf, deaf)})
    assert min(counts) == 1
    assert set(counts[90:]) == {1}  # the floor and an interval


def test_the_order_of_ties_is_that_of_all_nodes_also_with_one_vrid_on_two_networks() -> None:
    one = router(name="a", interface="eth0", vips=(vip("192.0.2.100/24"),))
    two = router(name="b", interface="eth1", vips=(vip("203.0.113.100/24", "eth1"),))
    orders = [
        UnitConfig("edge", each, is_group=True).tie_order() for each in ((one, two), (two, one))
    ]
    assert orders[0] == orders[1]


LOW, HIGH = b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x09"
OWN = {"m0": b"\x0a\x00\x00\x05", "m1": b"\x0a\x00\x00\x05"}


def loses(ties: Ties, member: str, rival: bytes, now: int) -> Tie:
    return ties.judge(member, rival, OWN, S, now)


def test_one_router_yields_to_the_higher_address_at_once() -> None:
    assert loses(Ties(), "m0", HIGH, 0) is Tie.YIELD
    assert loses(Ties(), "m0", LOW, 0) is Tie.STAY


def test_a_later_member_waits_for_the_first_one_for_an_interval() -> None:
    ties = Ties()
    assert loses(ties, "m1", HIGH, 0) is Tie.STAY
    assert loses(ties, "m1", HIGH, S - 1) is Tie.STAY
    assert loses(ties, "m1", HIGH, S) is Tie.YIELD


def test_a_break_as_long_as_the_floor_begins_anew() -> None:
    ties = Ties()
    assert loses(ties, "m1", HIGH, 0) is Tie.STAY
    assert loses(ties, "m1", HIGH, 3 * S) is Tie.STAY
    assert loses(ties, "m1", HIGH, 4 * S) is Tie.YIELD


def test_a_rival_that_stays_where_we_win_is_asked_whether_it_hears_us() -> None:
    ties = Ties()
    for at in range(3):
        assert loses(ties, "m0", LOW, at * S) is Tie.STAY
        assert loses(ties, "m1", HIGH, at * S) is Tie.STAY
    assert loses(ties, "m0", LOW, 3 * S) is Tie.STAY
    assert loses(ties, "m1", HIGH, 3 * S) is Tie.ASK
    ties.asked_at = 3 * S
    assert loses(ties, "m1", HIGH, 3 * S + S // 4 - 1) is Tie.STAY  # its last word, perhaps
    assert loses(ties, "m1", HIGH, 3 * S + S // 4) is Tie.YIELD


@pytest.mark.parametrize("deaf", [0, 1])
@pytest.mark.parametrize("seed", range(40))
def test_a_cut_in_one_direction_that_ends_when_it_is_about_to_decide(seed: int, deaf: int) -> None:
    """Whoever is about to yield because it seems not to be heard may be heard just then."""
    network = Network(seed, 2, 2)
    network.run(6 * S)
    network.cut = {("m0", 1 - deaf, deaf)}
    network.run(2500 * MS + network.rng.randrange(2500) * MS)
    network.cut = set()
    counts = []
    for _ in range(200):
        network.run(50 * MS)
        counts.append(network.masters())
    assert min(counts) == 1
    assert set(counts[90:]) == {1}
