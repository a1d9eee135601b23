"""Random sequences of events, in random time, on a kernel that obeys, refuses and delays.

What must hold whatever happens: no event raises, the invariants (checked inside after every
input) stand, the same sequence gives the same actions, priority 0 is said only when nothing of
ours is on the host, and after the last trouble a stop ends with an empty host and ``Finished``
exactly once.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.rig import (
    EPERM,
    ETH0,
    ETH1,
    HIGHER,
    LOWER,
    MS,
    OWN,
    Rig,
    S,
    advert,
    only,
    router,
    vip,
)
from vipd.core.actions import (
    AddAddresses,
    Announce,
    Finished,
    RemoveAddresses,
    RenewAddresses,
    SendAdvert,
)
from vipd.core.events import (
    AddressesApplied,
    AdvertFailed,
    AdvertHeard,
    AdvertRejected,
    AdvertSent,
    DeadlinePassed,
    Deafened,
    GateOpened,
    GateShut,
    HealthReported,
    LoopStalled,
    OrdersGiven,
    RivalAnnounced,
    StallDrained,
    Undeafened,
)
from vipd.core.node import HANDLERS
from vipd.model import (
    ADDRESS_TAG,
    DiscardReason,
    Family,
    Health,
    InstanceConfig,
    Orders,
    Remark,
    State,
    Verdict,
    parse_address,
)

A, B, C = vip("192.0.2.100/24"), vip("192.0.2.101/24"), vip("203.0.113.100/24", "eth1")
A6 = vip("2001:db8::100/64")
V4, V6 = Family.IPV4, Family.IPV6

CONFIGS: list[tuple[InstanceConfig, ...]] = [
    (router(), router(V6, name="six", vrid=52)),
    (router(vips=(A, B)), router(V6, name="six", vrid=52, preempt=False)),
    (router(vips=(B, C)), router(V6, name="six", vrid=52, vips=(A6, A), priority=200)),
    (router(version=2, advert_interval_ns=2 * S), router(name="api", vrid=53, vips=(B,))),
    (router(vrid=54, preempt_delay_ns=3 * S), router(name="api", vrid=53, vips=(B, C))),
    (router(priority=255, vips=(vip("192.0.2.11/24"),)),),
    (router(advert_interval_ns=10 * MS, priority=254),),
    (),
]
NAMES = ["web", "six", "api", "nobody", ""]
SOURCES = [*LOWER.values(), *OWN.values(), *HIGHER.values()]
FOREIGN = ["192.0.2.100/24", "192.0.2.100/32", "192.0.2.101/24", "2001:db8::100/64"]
OTHERS = ["192.0.2.11/24", "192.0.2.2/24", "fe80::11/64", "192.0.2.77/24"]
LINKS = [
    ETH0,
    replace(ETH0, up=False),
    replace(ETH0, name="lan0"),
    replace(ETH0, mac=bytes(6)),
    replace(ETH0, index=7),
    ETH1,
    replace(ETH1, up=False),
]
ORDERS = [kind("web", (A, B)) for kind in (AddAddresses, RenewAddresses, RemoveAddresses)]

names, sources = st.sampled_from(NAMES), st.sampled_from(SOURCES)
adverts = st.builds(
    AdvertHeard,
    names,
    sources,
    st.builds(
        advert,
        st.sampled_from([0, 1, 99, 100, 101, 254, 255]),
        st.sampled_from([10 * MS, S, 3 * S]),
    ),
    st.lists(st.sampled_from(Remark), max_size=2).map(tuple),
)
orders = st.builds(
    Orders,
    st.booleans(),
    st.lists(names, max_size=2).map(tuple),
    st.lists(st.tuples(names, st.integers(0, 3)), max_size=2).map(tuple),
)
health = st.lists(
    st.builds(Verdict, st.sampled_from(["nginx", "db"]), st.sampled_from(Health)), max_size=2
).map(tuple)
wire_events = st.one_of(
    adverts,
    st.builds(AdvertRejected, names, st.sampled_from(DiscardReason), st.none() | sources),
    st.builds(RivalAnnounced, st.sampled_from([2, 3, 9]), st.just(A.address), st.just(bytes(6))),
    st.builds(AdvertSent, names),
    st.builds(AdvertFailed, names, st.just(100)),
    st.builds(Deafened, names, st.just(24)),
    st.builds(Undeafened, names),
    st.builds(OrdersGiven, orders),
    st.builds(HealthReported, health),
    st.builds(GateOpened, names),
    st.builds(GateShut, names),
    st.builds(DeadlinePassed),
    st.builds(AddressesApplied, st.sampled_from(ORDERS), st.sampled_from([(), ((0, EPERM),)])),
)
steps = st.one_of(
    st.tuples(st.just("feed"), wire_events),
    st.tuples(st.just("configure"), st.sampled_from(CONFIGS)),
    st.tuples(st.just("link"), st.sampled_from(LINKS)),
    st.tuples(st.just("lose"), st.sampled_from([2, 3, 7])),
    st.tuples(
        st.just("put"),
        st.tuples(
            st.sampled_from(FOREIGN + OTHERS),
            st.sampled_from([2, 3]),
            st.sampled_from([0, 18, ADDRESS_TAG]),
        ),
    ),
    st.tuples(st.just("take"), st.sampled_from([A.address, B.address, A6.address, *OWN.values()])),
    st.tuples(st.just("refuse"), st.sampled_from([AddAddresses, RemoveAddresses, None])),
    st.tuples(st.just("obey"), st.booleans()),
    st.tuples(st.just("dump"), st.none()),
    st.tuples(st.just("send"), st.sampled_from([0, 100])),
    st.tuples(st.just("wait"), st.sampled_from([0, MS, 200 * MS, S, 4 * S, 30 * S])),
    st.tuples(
        st.just("stall"),
        st.tuples(st.sampled_from([MS, 3 * S, 60 * S]), st.lists(adverts, max_size=3)),
    ),
    st.tuples(st.just("late"), st.sampled_from([MS, S, 20 * S])),
)
histories = st.lists(steps, min_size=5, max_size=60)
RUNS = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Trial(Rig):
    """A rig that acts out one history and looks over the node's shoulder."""

    def __init__(self) -> None:
        super().__init__(*CONFIGS[0])
        self.on_action = self._judge

    def _judge(self, action: object) -> None:
        if isinstance(action, SendAdvert):
            assert action.source is not None
        if isinstance(action, Announce):
            assert action.vips
        if isinstance(action, Finished):
            held = [i for i in self.node.units.values() if not i.is_released]
            assert not held

    def act(self, step: tuple[str, object]) -> None:
        getattr(self, f"_do_{step[0]}")(step[1])

    def _do_feed(self, event: object) -> None:
        self.feed(event)  # type: ignore[arg-type]

    def _do_configure(self, configs: tuple[InstanceConfig, ...]) -> None:
        self.configure(*configs)

    def _do_link(self, link: object) -> None:
        self.see_link(link)  # type: ignore[arg-type]

    def _do_lose(self, index: int) -> None:
        if index in self.kernel.links:
            self.lose_link(index)

    def _do_put(self, what: tuple[str, int, int]) -> None:
        text, index, tag = what
        if index in self.kernel.links:
            self.put(text, index=index, tag=tag)

    def _do_take(self, address: bytes) -> None:
        self.take_away(address)

    def _do_refuse(self, kind: type | None) -> None:
        self.kernel.refusals.clear()
        if kind is not None:
            self.kernel.refusals[kind, A.address] = EPERM

    def _do_obey(self, obeys: bool) -> None:
        self.obeys = obeys
        while obeys and self.orders:
            self.feed(*self.carry_out(self.orders.popleft()))

    def _do_dump(self, _nothing: None) -> None:
        self.feed(self.kernel.dump())

    def _do_send(self, errno: int) -> None:
        self.send_errno = errno

    def _do_wait(self, duration_ns: int) -> None:
        self.run(duration_ns)

    def _do_late(self, duration_ns: int) -> None:
        self.now += duration_ns
        self.feed(DeadlinePassed())

    def _do_stall(self, stall: tuple[int, list[AdvertHeard]]) -> None:
        late_ns, heard = stall
        self.now += late_ns
        self.feed(LoopStalled(late_ns), DeadlinePassed(), *heard, StallDrained())

    def heal(self) -> None:
        """All troubles end: orders are carried out, links and own addresses are there."""
        self._do_refuse(None)
        self.send_errno = 0
        self._do_obey(True)
        for index in [index for index in self.kernel.links if index not in (2, 3)]:
            self.lose_link(index)
        self.see_link(ETH0)
        self.see_link(ETH1)
        foreign = [parse_address(text.partition("/")[0]) for text in FOREIGN]
        for entry in list(self.kernel.addresses.values()):
            if entry.address in foreign and entry.tag != ADDRESS_TAG:
                self.feed(*self.kernel.drop(entry))
        self.put("192.0.2.11/24")
        self.put("fe80::11/64")
        self.feed(OrdersGiven(Orders()), *(Undeafened(name) for name in NAMES))
        self._do_dump(None)

    def tagged(self) -> list[bytes]:
        return [e.address for e in self.kernel.addresses.values() if e.tag == ADDRESS_TAG]


def play(history: list[tuple[str, object]]) -> Trial:
    trial = Trial()
    for step in history:
        trial.act(step)
    return trial


def test_every_event_type_is_among_the_random_ones() -> None:
    fed_by_steps = {
        "Configured",
        "StopRequested",
        "KernelResynced",
        "LinkSeen",
        "LinkGone",
        "AddressSeen",
        "AddressGone",
    }
    generated = {
        "AdvertHeard",
        "AdvertRejected",
        "RivalAnnounced",
        "AdvertSent",
        "AdvertFailed",
        "Deafened",
        "Undeafened",
        "OrdersGiven",
        "HealthReported",
        "GateOpened",
        "GateShut",
        "DeadlinePassed",
        "LoopStalled",
        "StallDrained",
        "AddressesApplied",
    }
    in_clusters = {"Identified", "MessageHeard", "MessageRejected"}  # cluster_rig.py has those
    assert {kind.__name__ for kind in HANDLERS} == fed_by_steps | generated | in_clusters


@RUNS
@given(histories)
def test_nothing_raises_and_the_same_history_gives_the_same_actions(
    history: list[tuple[str, object]],
) -> None:
    assert play(history).log == play(history).log


@RUNS
@given(histories)
def test_a_stop_after_any_history_leaves_nothing_behind(
    history: list[tuple[str, object]],
) -> None:
    trial = play(history)
    trial.heal()
    trial.stop()
    trial.run(5 * S)
    assert trial.tagged() == []
    assert len(only(trial.log_actions, Finished)) == 1
    assert trial.node.deadline() is None
    trial.run(200 * S)
    assert not [sent for at, sent in trial.times(SendAdvert) if at > trial.now - 190 * S]


@RUNS
@given(histories)
def test_after_any_history_a_healed_host_alone_becomes_master_of_everything(
    history: list[tuple[str, object]],
) -> None:
    trial = play(history)
    trial.heal()
    trial.configure(*CONFIGS[1])
    trial.run(140 * S)
    for name, instance in trial.node.units.items():
        assert trial.state(name) is State.MASTER, instance.faults
        assert trial.holds(*instance.config.vips)
    wanted = {each.address for config in CONFIGS[1] for each in config.vips}
    assert set(trial.tagged()) == wanted


class Watched(Trial):
    """Knows which VIPs each router may hold, to judge its goodbye."""

    def _judge(self, action: object) -> None:
        super()._judge(action)
        if isinstance(action, SendAdvert) and action.advert.priority == 0:
            holder = {
                vip.key
                for each in self.node.units.values()
                if each.config.name != action.instance
                for vip in each.config.vips
            }
            for each in action.config.vips:
                if each.key in holder or action.config.is_owner:
                    continue
                index = self.kernel.index_of(each.interface)
                ours = [
                    entry
                    for entry in self.kernel.addresses.values()
                    if (entry.index, entry.address, entry.tag) == (index, each.address, ADDRESS_TAG)
                ]
                assert not ours, "priority 0 with the VIP on the host"


calm_steps = steps.filter(
    lambda step: (
        step[0] not in ("obey", "put", "link", "lose")
        and not isinstance(step[1], AddressesApplied | GateShut | GateOpened)
    )
)


@RUNS
@given(st.lists(calm_steps, min_size=5, max_size=60))
def test_priority_zero_is_never_said_with_a_vip_on_the_host(
    history: list[tuple[str, object]],
) -> None:
    """Without forged answers; with refusals, reloads, stalls, rivals and lost addresses."""
    trial = Watched()
    for step in history:
        trial.act(step)
    trial.heal()
    trial.stop()
