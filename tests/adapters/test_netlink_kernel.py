"""The netlink adapter against a real kernel: what it sends works, what it hears is true."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence

import pytest
from pyroute2 import IPRoute

from tests.adapters.conftest import Namespace, packed, wait_for
from vipd.adapters.netlink import (
    AddressChange,
    AddressRemoval,
    AddressTemplate,
    EventSocket,
    KernelChange,
    LinkChange,
    LinkRemoval,
    Overrun,
    RequestSocket,
    address_add,
    address_delete,
    dump,
    link_request,
    removal_of,
)
from vipd.adapters.netlink_compile import compile_address, compile_promote_secondaries
from vipd.model import ADDRESS_TAG, HostAddress, Vip

pytestmark = pytest.mark.netns

LIFETIME_S = 60


@pytest.fixture
def host(namespace: Namespace) -> Iterator[Namespace]:
    """A namespace with ``eth0``, up and with carrier; the thread is inside."""
    namespace.run(
        """
        ip link add eth0 type veth peer name far
        ip link set eth0 addrgenmode none
        ip link set far up
        ip link set eth0 up
        """
    )
    with namespace:
        yield namespace


@pytest.fixture
def requests(host: Namespace) -> Iterator[RequestSocket]:
    sock = RequestSocket()
    yield sock
    sock.close()


@pytest.fixture
def events(host: Namespace) -> Iterator[EventSocket]:
    sock = EventSocket()
    yield sock
    sock.close()


def templates(
    addresses: Sequence[str], prefix: int, lifetime_s: int = LIFETIME_S
) -> list[AddressTemplate]:
    return [
        compile_address(
            Vip(packed(address), prefix, "eth0"), lifetime_s=lifetime_s, tag=ADDRESS_TAG
        )
        for address in addresses
    ]


def ours() -> dict[bytes, HostAddress]:
    return {known.address: known for known in dump()[1] if known.tag == ADDRESS_TAG}


def drain(events: EventSocket) -> list[KernelChange]:
    changes: list[KernelChange] = []
    while (some := events.receive()) is not None:
        changes += some
    return changes


def added_addresses(events: EventSocket) -> list[HostAddress]:
    return [change.address for change in drain(events) if isinstance(change, AddressChange)]


def seen_by_pyroute2() -> dict[str, tuple[int, int, int, int]]:
    """Address -> (prefix, tag, valid, preferred)."""
    found = {}
    with IPRoute() as route:
        for message in route.get_addr():
            cache = message.get_attr("IFA_CACHEINFO")
            found[message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")] = (
                message["prefixlen"],
                message.get_attr("IFA_PROTO") or 0,
                cache["ifa_valid"],
                cache["ifa_preferred"],
            )
    return found


FAMILIES = pytest.mark.parametrize(
    ("pattern", "prefix"),
    [
        ("198.51.100.{}", 24),
        ("198.51.100.{}", 32),
        ("2001:db8:5::{:x}", 64),
        ("2001:db8:5::{:x}", 128),
    ],
)


@FAMILIES
def test_two_hundred_addresses_come_are_renewed_and_go(
    host: Namespace, requests: RequestSocket, events: EventSocket, pattern: str, prefix: int
) -> None:
    names = [pattern.format(number) for number in range(1, 201)]
    wanted = templates(names, prefix)
    index = host.link("eth0").index
    adds = [address_add(template, index, prefix) for template in wanted]

    assert requests.apply(adds) == ()

    expected = [HostAddress(index, packed(name), prefix, ADDRESS_TAG) for name in names]
    added = list(added_addresses(events))
    if ":" in pattern:  # the kernel confirms new IPv6 addresses from a work queue
        wait_for(lambda: len(added) == 200 or added.extend(added_addresses(events)))
    assert added == expected
    seen = seen_by_pyroute2()
    for name in names:
        shown_prefix, tag, valid, preferred = seen[name]
        assert (shown_prefix, tag) == (prefix, ADDRESS_TAG)
        assert valid in (LIFETIME_S, LIFETIME_S - 1)
        assert preferred in ((0,) if ":" in name else (LIFETIME_S, LIFETIME_S - 1))

    assert requests.apply(adds) == ()
    assert len(ours()) == 200, "a renewal keeps the tag"
    assert added_addresses(events) == expected

    deletes = [address_delete(template, index, prefix) for template in reversed(wanted)]
    assert requests.apply(deletes) == ()
    assert ours() == {}
    gone = [change.address for change in drain(events) if isinstance(change, AddressRemoval)]
    assert [known.address for known in gone] == [packed(name) for name in reversed(names)]


def test_an_ipv6_vip_is_usable_at_once_and_never_a_default_source(
    pair: tuple[Namespace, Namespace],
) -> None:
    left, right = pair
    index = left.link("eth0").index
    [template] = templates(["2001:db8::100"], 64)
    with left:
        requests = RequestSocket()
        assert requests.apply([address_add(template, index, 64)]) == ()
        requests.close()
        assert not ours()[packed("2001:db8::100")].tentative
    right.run("ping -6 -c 1 -W 2 2001:db8::100")
    assert "src 2001:db8::1 " in left.run("ip -6 route get 2001:db8::2")


def test_a_lifetime_that_is_not_renewed_ends(
    host: Namespace, requests: RequestSocket, events: EventSocket
) -> None:
    index = host.link("eth0").index
    both = templates(["198.51.100.1"], 24, 1) + templates(["2001:db8:5::1"], 64, 1)
    assert requests.apply([address_add(both[0], index, 24), address_add(both[1], index, 64)]) == ()
    assert len(ours()) == 2
    wait_for(lambda: not ours(), seconds=10)
    gone = [change for change in drain(events) if isinstance(change, AddressRemoval)]
    assert len(gone) == 2


def test_failures_name_their_positions_and_the_rest_is_carried_out(
    host: Namespace, requests: RequestSocket
) -> None:
    names = [f"198.51.100.{number}" for number in range(1, 6)]
    index = host.link("eth0").index
    adds = [address_add(template, index, 24) for template in templates(names, 24)]
    adds[2] = address_add(templates(["198.51.100.3"], 24)[0], 9999, 24)
    adds[4] = address_add(templates(["198.51.100.5"], 24)[0], index, 33)
    assert requests.apply(adds) == ((2, errno.ENODEV), (4, errno.EINVAL))
    assert set(ours()) == {packed(names[position]) for position in (0, 1, 3)}
    # A batch after a failed one is not disturbed by it.
    assert requests.apply(adds[:2]) == ()


@pytest.mark.parametrize("buffer_size", [4096, 4 * 1024 * 1024])
def test_every_message_may_fail(host: Namespace, buffer_size: int) -> None:
    """1000 error replies fit: none is lost, whatever the size of the buffers."""
    requests = RequestSocket(buffer_size)
    [template] = templates(["198.51.100.1"], 24)
    messages = [address_delete(template, host.link("eth0").index, 24)] * 1000
    failures = requests.apply(messages)
    assert failures == tuple((position, errno.EADDRNOTAVAIL) for position in range(1000))
    requests.close()


def test_a_batch_beyond_the_send_buffer_is_split(host: Namespace) -> None:
    requests = RequestSocket(16 * 1024)
    requests._most_messages = 10_000  # replies are few here: let only the size of requests split
    names = [f"198.51.{number // 250}.{number % 250 + 1}" for number in range(1000)]
    index = host.link("eth0").index
    adds = [address_add(template, index, 32) for template in templates(names, 32)]
    assert len(b"".join(adds)) > 2 * 16 * 1024
    adds[500] = address_add(templates([names[500]], 32)[0], 9999, 32)
    assert requests.apply(adds) == ((500, errno.ENODEV),)
    assert len(ours()) == 999
    requests.close()


def test_an_empty_batch_asks_nothing(requests: RequestSocket) -> None:
    assert requests.apply([]) == ()


@pytest.mark.parametrize(
    ("name", "narrow", "wide"), [("198.51.100.1", 32, 24), ("2001:db8:5::1", 128, 64)]
)
def test_a_delete_needs_the_prefix_that_the_kernel_reports(
    host: Namespace, requests: RequestSocket, name: str, narrow: int, wide: int
) -> None:
    index = host.link("eth0").index
    [template] = templates([name], narrow)
    assert requests.apply([address_add(template, index, narrow)]) == ()
    refused = requests.apply([address_delete(template, index, wide)])
    assert refused == ((0, errno.EADDRNOTAVAIL),)
    assert requests.apply([address_delete(template, index, ours()[packed(name)].prefix)]) == ()
    assert ours() == {}


def test_the_same_address_with_another_prefix(host: Namespace, requests: RequestSocket) -> None:
    """IPv4 then has it twice; IPv6 renews the one that it has, with the prefix that it has."""
    index = host.link("eth0").index
    [four] = templates(["198.51.100.1"], 32)
    [six] = templates(["2001:db8:5::1"], 128)
    adds = [address_add(four, index, prefix) for prefix in (32, 24)]
    adds += [address_add(six, index, prefix) for prefix in (128, 64)]
    assert requests.apply(adds) == ()
    _links, addresses = dump()
    prefixes = sorted((len(a.address), a.prefix) for a in addresses if a.tag == ADDRESS_TAG)
    assert prefixes == [(4, 24), (4, 32), (16, 128)]


def test_an_address_of_another_program_can_be_removed(
    host: Namespace, requests: RequestSocket
) -> None:
    host.run("ip addr add 198.51.100.1/24 dev eth0; ip addr add 2001:db8:5::1/64 dev eth0 nodad")
    index = host.link("eth0").index
    found = [known for known in dump()[1] if known.index == index]
    assert [known.tag for known in found] == [0, 0]
    assert requests.apply([removal_of(known) for known in found]) == ()
    assert not [known for known in dump()[1] if known.index == index]


def test_promote_secondaries_saves_the_other_addresses(
    host: Namespace, requests: RequestSocket
) -> None:
    setting = "cat /proc/sys/net/ipv4/conf/eth0/promote_secondaries"
    host.run("echo 0 > /proc/sys/net/ipv4/conf/eth0/promote_secondaries")
    with IPRoute() as route:  # pyroute2 keeps state in its classes: it must not spoil ours
        route.get_links()
    index = host.link("eth0").index
    assert requests.apply([link_request(compile_promote_secondaries(), index)]) == ()
    assert host.run(setting).strip() == "1"
    names = ["198.51.100.1", "198.51.100.2"]
    first, second = templates(names, 24)
    assert requests.apply([address_add(t, index, 24) for t in (first, second)]) == ()
    assert requests.apply([address_delete(first, index, 24)]) == ()
    assert list(ours()) == [packed(names[1])]


def test_a_vip_leaves_the_connected_route_of_the_host_alone(
    host: Namespace, requests: RequestSocket
) -> None:
    """An IPv6 VIP in the host's own /64 comes with a lifetime and goes; the route stays."""
    host.run("ip addr add 2001:db8:5::a/64 dev eth0 nodad")
    before = host.run("ip -6 route show 2001:db8:5::/64")
    index = host.link("eth0").index
    [template] = templates(["2001:db8:5::1"], 64)
    assert requests.apply([address_add(template, index, 64)]) == ()
    assert host.run("ip -6 route show 2001:db8:5::/64") == before
    assert requests.apply([address_delete(template, index, 64)]) == ()
    assert host.run("ip -6 route show 2001:db8:5::/64") == before
    assert before.strip()


def test_lost_events_are_reported_once_and_a_dump_tells_the_truth(
    host: Namespace, requests: RequestSocket
) -> None:
    events = EventSocket(buffer_size=4096)
    index = host.link("eth0").index
    names = [f"198.51.100.{number}" for number in range(1, 201)]
    adds = [address_add(template, index, 32) for template in templates(names, 32)]
    assert requests.apply(adds) == ()
    with pytest.raises(Overrun) as caught:
        events.receive()
    assert caught.value.errno == errno.ENOBUFS
    assert events.receive() is None, "what waited is stale and was drained"
    assert set(ours()) == {packed(name) for name in names}
    assert set(ours()) == {packed(name) for name in seen_by_pyroute2() if name in names}
    # And it goes on hearing.
    assert requests.apply(adds[:1]) == ()
    assert len(drain(events)) == 1
    events.close()


def test_only_the_kernel_is_believed(host: Namespace, events: EventSocket) -> None:
    with (
        socket.socket(fileno=os.dup(events.fileno())) as same,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as forger,
    ):
        port, _groups = same.getsockname()
        [template] = templates(["198.51.100.1"], 24)
        forger.sendto(address_add(template, 1, 24), (port, 0))
    assert events.receive() == ()
    assert events.receive() is None


def test_what_happens_to_a_link_is_heard(host: Namespace, events: EventSocket) -> None:
    link = host.link("eth0")
    assert link.up
    assert link.mtu == 1500
    assert len(link.mac) == 6

    def heard(command: str) -> list[KernelChange]:
        drain(events)
        host.run(command)
        return [
            change
            for change in drain(events)
            if (isinstance(change, LinkChange) and change.link.index == link.index)
            or (isinstance(change, LinkRemoval) and change.index == link.index)
        ]

    def last_link(command: str) -> str:
        change = heard(command)[-1]
        assert isinstance(change, LinkChange)
        assert change.link == next(known for known in dump()[0] if known.index == link.index)
        return f"{change.link.name} {change.link.up} {change.link.mac.hex()} {change.link.mtu}"

    mac = link.mac.hex()
    assert last_link("ip link set eth0 down") == f"eth0 False {mac} 1500"
    assert last_link("ip link set eth0 address 02:00:00:00:00:07") == "eth0 False 020000000007 1500"
    assert last_link("ip link set eth0 mtu 1400") == "eth0 False 020000000007 1400"
    assert last_link("ip link set eth0 name wan0") == "wan0 False 020000000007 1400"
    heard("ip link set wan0 up")
    wait_for(lambda: host.link("wan0").up)
    drain(events)
    host.run("ip link set far down")  # the carrier goes, the will stays
    wait_for(
        lambda: any(
            isinstance(change, LinkChange) and change.link.name == "wan0" and not change.link.up
            for change in drain(events)
        )
    )
    assert not host.link("wan0").up
    assert heard("ip link del wan0")[-1] == LinkRemoval(link.index)


def test_leaving_a_bridge_is_not_leaving_the_host(host: Namespace, events: EventSocket) -> None:
    host.run("ip link add br0 type bridge; ip link set br0 up")
    index = host.link("eth0").index
    drain(events)
    host.run("ip link set eth0 master br0; ip link set eth0 nomaster")
    changes = drain(events)
    assert LinkRemoval(index) not in changes
    assert any(isinstance(change, LinkChange) for change in changes)


def test_a_dump_equals_what_pyroute2_lists(host: Namespace, requests: RequestSocket) -> None:
    host.run(
        """
        ip addr add 198.51.100.1/24 dev eth0
        ip addr add 198.51.100.2 peer 198.51.100.3/32 dev eth0
        ip addr add 2001:db8:5::1/64 dev eth0
        ip addr add 2001:db8:5::2 peer 2001:db8:5::3/128 dev far nodad
        """
    )
    links, addresses = dump()
    with IPRoute() as route:
        expected_links = {
            (
                m["index"],
                m.get_attr("IFLA_IFNAME"),
                m.get_attr("IFLA_MTU"),
                m.get_attr("IFLA_ADDRESS"),
            )
            for m in route.get_links()
        }
        expected_addresses = {
            (
                m["index"],
                packed(m.get_attr("IFA_LOCAL") or m.get_attr("IFA_ADDRESS")),
                m["prefixlen"],
                bool(m.get_attr("IFA_FLAGS") & 0x40),
            )
            for m in route.get_addr()
        }
    assert {(k.index, k.name, k.mtu, k.mac.hex(":")) for k in links} == expected_links
    assert {(a.index, a.address, a.prefix, a.tentative) for a in addresses} == expected_addresses
