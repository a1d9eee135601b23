"""The fakes behave as what they stand for: kernel, clock, network."""

from __future__ import annotations

import random

import pytest

from vipd.core.events import AddressGone, AddressSeen, Event, LinkGone, LinkSeen
from vipd.model import ADDRESS_TAG, MILLISECOND_NS, SECOND_NS, parse_address
from vipd.sim.clock import DriftingClock
from vipd.sim.kernel import EADDRNOTAVAIL, ENODEV, EXPIRY_LATENESS_NS, FakeKernel
from vipd.sim.render import short
from vipd.sim.world import Violation, World

VIP = parse_address("192.0.2.100")
GLOBAL = parse_address("2001:db8::100")
KEY = ("eth0", VIP)


@pytest.fixture
def world() -> World:
    return World(random.Random(1), tracing=True)


@pytest.fixture
def kernel(world: World) -> FakeKernel:
    made = FakeKernel(world, "lb1")
    made.create_link("eth0", b"\2\0\0\0\0\1")
    return made


def test_events_of_one_instant_keep_their_order(world: World) -> None:
    seen: list[str] = []
    for name in "abc":
        world.at(5, seen.append, name)
    world.at(2, seen.append, "first")
    world.run_until(10)
    assert seen == ["first", "a", "b", "c"]
    assert world.now == 10


def test_a_violation_says_when_and_is_traced(world: World) -> None:
    world.run_until(1500 * MILLISECOND_NS)
    with pytest.raises(Violation, match=r"one-holder: two \(at 1\.500000 s\)"):
        world.violated("one-holder", "two")
    assert "one-holder: two" in world.lines[-1]


@pytest.mark.parametrize("drift", [-10_000_000, -3, 0, 7, 10_000_000])
def test_the_clock_finds_the_first_true_instant(drift: int) -> None:
    clock = DriftingClock(123_456_789, drift)
    for local in (123_456_790, 5 * SECOND_NS, 3600 * SECOND_NS + 1):
        true = clock.true(local)
        assert clock.local(true) >= local > clock.local(true - 1)


def test_an_address_ends_late_but_not_too_late(world: World, kernel: FakeKernel) -> None:
    kernel.add("eth0", VIP, 32, tag=ADDRESS_TAG, lifetime_s=3)
    world.run_until(3 * SECOND_NS - 1)
    assert kernel.has(KEY)
    world.run_until(3 * SECOND_NS + EXPIRY_LATENESS_NS + 1)
    assert not kernel.has(KEY)


def test_renewal_prolongs(world: World, kernel: FakeKernel) -> None:
    kernel.add("eth0", VIP, 32, tag=ADDRESS_TAG, lifetime_s=3)
    world.run_until(2 * SECOND_NS)
    kernel.add("eth0", VIP, 32, tag=ADDRESS_TAG, lifetime_s=3)
    world.run_until(5 * SECOND_NS - 1)
    assert kernel.has(KEY)


def test_one_ipv4_address_twice_is_gone_only_when_both_are(kernel: FakeKernel) -> None:
    kernel.add("eth0", VIP, 32, tag=ADDRESS_TAG, lifetime_s=None)
    kernel.add("eth0", VIP, 24, tag=0, lifetime_s=None)
    assert KEY in kernel.tagged & kernel.foreign
    assert kernel.remove("eth0", VIP, 32) == 0
    assert kernel.has(KEY)
    assert KEY not in kernel.tagged
    assert kernel.remove("eth0", VIP, 32) == EADDRNOTAVAIL
    assert kernel.remove("eth9", VIP, 32) == ENODEV


def test_word_of_a_new_ipv6_address_may_come_late(world: World, kernel: FakeKernel) -> None:
    events: list[Event] = []
    kernel.emit = events.append
    kernel.late_ipv6_ns = 3 * MILLISECOND_NS
    kernel.add("eth0", GLOBAL, 64, tag=ADDRESS_TAG, lifetime_s=None)
    kernel.add("eth0", VIP, 32, tag=ADDRESS_TAG, lifetime_s=None)
    assert [len(each.address.address) for each in events if isinstance(each, AddressSeen)] == [4]
    world.run_until(3 * MILLISECOND_NS)
    assert len(events) == 2


def test_taking_a_link_down_flushes_ipv6_only(kernel: FakeKernel) -> None:
    kernel.add("eth0", VIP, 32, tag=ADDRESS_TAG, lifetime_s=None)
    kernel.add("eth0", GLOBAL, 64, tag=ADDRESS_TAG, lifetime_s=None)
    kernel.set_link("eth0", up=False, admin=True)
    assert kernel.tagged == {KEY}


def test_losing_the_carrier_keeps_the_addresses(kernel: FakeKernel) -> None:
    kernel.add("eth0", GLOBAL, 64, tag=ADDRESS_TAG, lifetime_s=None)
    kernel.set_link("eth0", up=False, admin=False)
    assert kernel.has(("eth0", GLOBAL))


def test_a_removed_link_takes_its_addresses_along_and_returns_as_another(
    kernel: FakeKernel,
) -> None:
    events: list[Event] = []
    kernel.add("eth0", VIP, 32, tag=ADDRESS_TAG, lifetime_s=None)
    old = kernel.links["eth0"].index
    kernel.emit = events.append
    kernel.delete_link("eth0")
    kernel.create_link("eth0", b"\2\0\0\0\0\1")
    assert [type(event) for event in events] == [AddressGone, LinkGone, LinkSeen]
    assert kernel.links["eth0"].index != old


def test_link_local_addresses_are_tentative_at_first(world: World, kernel: FakeKernel) -> None:
    events: list[Event] = []
    kernel.emit = events.append
    address = parse_address("fe80::1")
    kernel.add_tentative("eth0", address, 64)
    assert not kernel.is_usable(kernel.links["eth0"].index, address)
    world.run_until(2 * SECOND_NS)
    assert kernel.is_usable(kernel.links["eth0"].index, address)
    seen = [event.address.tentative for event in events if isinstance(event, AddressSeen)]
    assert seen == [False, True, False]


def test_traces_show_addresses_as_people_write_them() -> None:
    assert short((VIP, {"a": GLOBAL}, None)) == "(192.0.2.100, {a=2001:db8::100}, None)"
