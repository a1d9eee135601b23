"""Random histories of a small cluster: orders, deaths, restarts, cuts, sleeps, lost datagrams.

Invariants: no two holders while nothing is cut, asleep or lost; it heals to exactly one master
within a bound; it is quiet then.
"""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.cluster_rig import World
from tests.core.rig import MS, S

HEALS_NS = 12 * S
"""RFC timers (3.6 s), a node that had trouble asks again (5 s), a question that was refused."""

KINDS = (
    "pin",
    "unpin",
    "maintenance",
    "back",
    "stop",
    "die",
    "vanish",
    "start",
    "freeze",
    "thaw",
    "isolate",
    "cut-channel",
    "cut-wire",
    "heal",
    "lossy",
    "jitter",
)

Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(1, 3), st.sampled_from((0, 1, 7, 60, 400, 2000))),
    min_size=1,
    max_size=8,
)


class History:
    """Carries steps out, and knows whether anything is wrong with the network at the moment."""

    def __init__(self, priorities: tuple[int, int, int], seed: int) -> None:
        self.world = World(*priorities)
        self.random = Random(seed)
        self.count = 0
        self.wrong = False
        self.world.start()

    def do(self, kind: str, number: int, wait_ms: int) -> None:
        world, name = self.world, f"lb{number}"
        member = world[name]
        other = f"lb{number % 3 + 1}"
        if kind == "start" and not member.alive:
            world.restart(name, after_death=True)
        elif kind in ("heal", "lossy", "jitter"):
            self._change_network(kind)
        elif kind in ("isolate", "cut-channel", "cut-wire"):
            self.wrong = True
            if kind == "isolate":
                world.isolate(name)
            cuts = world.cut_wire if kind == "cut-wire" else world.cut_channel
            cuts |= {(name, other), (other, name)}
        elif member.alive:
            self._do_to(kind, number, wait_ms)
        world.run(wait_ms * MS)

    def _do_to(self, kind: str, number: int, wait_ms: int) -> None:
        world, name = self.world, f"lb{number}"
        member = world[name]
        if kind in ("pin", "unpin"):
            self.count += 1
            target = f"lb{(number + wait_ms) % 3 + 1}" if kind == "pin" else ""
            member.pin(target, self.count)
        elif kind in ("maintenance", "back"):
            member.order(maintenance=kind == "maintenance")
        elif kind == "freeze":
            self.wrong = True
            if member.backlog is None:
                member.freeze()
        elif kind == "thaw" and member.backlog is not None:
            member.thaw()
        elif kind in ("stop", "die", "vanish"):
            self.wrong |= kind == "vanish"
            getattr(member, kind)()

    def _change_network(self, kind: str) -> None:
        world, random = self.world, self.random
        self.wrong = True
        if kind == "lossy":
            world.lose = lambda sender, to, datagram: random.random() < 0.3
        elif kind == "jitter":
            world.delay = lambda sender, to, datagram: random.randrange(20 * MS)
        else:
            self._make_whole()

    def _make_whole(self) -> None:
        world = self.world
        world.cut_channel, world.cut_wire = set(), set()
        world.lose = lambda sender, to, datagram: False
        world.delay = lambda sender, to, datagram: 0

    def heal(self) -> None:
        self._make_whole()
        for name, member in list(self.world.members.items()):
            if member.alive and member.backlog is not None:
                member.thaw()
            self.world.run(30 * MS)  # a will that is still to be said
            if not self.world[name].alive:
                self.world.restart(name)
            self.world[name].order(maintenance=False)


@settings(max_examples=40, deadline=None)
@given(
    st.permutations((150, 100, 100)),
    steps,
    st.integers(0, 1000),
)
def test_it_heals_to_one_master_and_is_quiet(
    priorities: list[int], history: list[Step], seed: int
) -> None:
    one, two, three = priorities
    run = History((one, two, three), seed)
    for step in history:
        run.do(*step)
    run.heal()
    world = run.world
    world.run(HEALS_NS)
    assert len(world.masters) == 1
    master = world[world.masters[0]]
    assert master.holds
    healed = world.now
    before = len(world.carried)
    world.run(2 * S)
    assert world.overlaps(healed) == []
    assert len(world.carried) - before <= 2 * 10 * 6 + 20
    assert [each.name for each in world.members.values() if each.holds] == [master.name]
    assert {each.node.cluster.pins.of("web").node for each in world.members.values()} <= {
        "",
        master.name,
    }


orders = st.lists(
    st.tuples(
        st.sampled_from(("pin", "unpin", "maintenance", "back", "stop", "die", "start")),
        st.integers(1, 3),
        st.sampled_from((0, 1, 2, 5, 7, 11, 60, 150, 400, 2000)),
    ),
    min_size=1,
    max_size=9,
)


@settings(max_examples=80, deadline=None)
@given(st.permutations((150, 100, 100)), orders)
def test_orders_and_deaths_never_make_two_holders(
    priorities: list[int], history: list[Step]
) -> None:
    one, two, three = priorities
    run = History((one, two, three), 0)
    for step in history:
        run.do(*step)
    run.world.run(3 * S)
    assert not run.wrong
    assert run.world.overlaps() == []
