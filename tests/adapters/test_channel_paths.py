"""Which sockets the engine keeps for the channel, and that every datagram takes every path."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from selectors import DefaultSelector

import pytest

from tests.adapters.conftest import Namespace, packed, wait_for
from vipd.adapters.channel_socket import ChannelSocket
from vipd.engine.channel import ChannelPaths, paths_of
from vipd.model import Address, ClusterConfig, MemberConfig, NodeConfig, Note, NoteKind
from vipd.translate_channel import Outgoing

pytestmark = pytest.mark.netns

LB1 = MemberConfig("lb1", (packed("192.0.2.1"), packed("2001:db8::1")))
LB2 = MemberConfig("lb2", (packed("192.0.2.2"), packed("192.0.2.22"), packed("2001:db8::2")))
LB3 = MemberConfig("lb3", (packed("192.0.2.3"),))
CLUSTER = ClusterConfig("edge", (LB1, LB2), (bytes(32),), bytes(8))


def node(name: str, cluster: ClusterConfig | None = CLUSTER) -> NodeConfig:
    return NodeConfig(name, (), cluster=cluster)


class End:
    """One host's sockets, and what arrived: (to, from, data)."""

    def __init__(self, host: Namespace) -> None:
        self.host = host
        self.selector = DefaultSelector()
        self.paths = ChannelPaths(self.selector, self._read)
        self.heard: list[tuple[Address, Address, bytes]] = []

    def _read(self, sock: ChannelSocket, limit: int) -> int:
        for count in range(limit):
            received = sock.receive()
            if received is None:
                return count
            self.heard.append((sock.own, received[1], received[0]))
        return limit

    def configure(self, config: NodeConfig) -> None:
        self.begin(config)
        self.paths.close_unwanted()

    def begin(self, config: NodeConfig) -> list[Note]:
        with self.host:
            self.paths.want(config)
            return self.paths.open_missing()

    def listen(self) -> None:
        for key, _events in self.selector.select(0):
            key.data(64)

    def wait(self, count: int) -> set[tuple[Address, Address, bytes]]:
        def enough() -> bool:
            self.listen()
            return len(self.heard) >= count

        wait_for(enough)
        return set(self.heard)

    def bound(self) -> set[tuple[Address, int]]:
        return {(sock.own, sock.port) for sock in self.paths.all()}

    def close(self) -> None:
        self.configure(node("lb1", None))
        self.selector.close()


@contextmanager
def ends(*hosts: Namespace) -> Iterator[list[End]]:
    made = [End(host) for host in hosts]
    yield made
    for end in made:
        end.close()


def test_a_datagram_takes_each_pair_of_addresses_of_one_family(
    pair: tuple[Namespace, Namespace],
) -> None:
    left, right = pair
    right.run("ip addr add 192.0.2.22/24 dev eth0")
    with ends(left, right) as (one, two):
        one.configure(node("lb1"))
        two.configure(node("lb2"))
        one.paths.send(Outgoing("lb2", b"beat"))
        assert two.wait(3) == {
            (there, here, b"beat")
            for here, there in (
                (LB1.addresses[0], LB2.addresses[0]),
                (LB1.addresses[0], LB2.addresses[1]),
                (LB1.addresses[1], LB2.addresses[2]),
            )
        }
        assert len(two.heard) == 3
        one.paths.send(Outgoing("lb9", b"to nobody"))
        assert not any(sock.refused for sock in one.paths.all())


def test_nobody_is_reached_without_a_cluster_or_where_it_does_not_list_us() -> None:
    assert paths_of(node("lb1", None)) == {}
    assert paths_of(node("lb9")) == {}
    only_ipv6 = replace(LB3, addresses=(packed("2001:db8::3"),))
    only_ipv4 = replace(LB1, addresses=LB1.addresses[:1])
    assert paths_of(node("lb1", replace(CLUSTER, nodes=(only_ipv4, only_ipv6)))) == {"lb3": ()}


def test_who_leaves_is_spoken_to_until_it_has_left(pair: tuple[Namespace, Namespace]) -> None:
    left, right = pair
    with ends(left, right) as (one, two):
        one.configure(node("lb1"))
        two.configure(node("lb2"))
        before = one.paths.all()
        one.begin(node("lb1", replace(CLUSTER, nodes=(LB1, LB3))))
        one.paths.send(Outgoing("lb2", b"farewell"))
        assert {data for _to, _from, data in two.wait(2)} == {b"farewell"}
        one.paths.close_unwanted()
        one.paths.send(Outgoing("lb2", b"too late"))
        one.paths.send(Outgoing("lb3", b"hello"))
        assert one.paths.all() == before[:1], "what is still needed is not opened again"
        one.begin(node("lb1", None))
        assert one.bound() == {(LB1.addresses[0], 3112)}
        one.paths.close_unwanted()
        assert one.bound() == set()
        assert not one.selector.get_map()


def test_another_port_is_another_socket(namespace: Namespace) -> None:
    with ends(namespace) as (one,):
        one.configure(node("lb1"))
        one.configure(node("lb1", replace(CLUSTER, port=4000)))
        assert one.bound() == {(address, 4000) for address in LB1.addresses}


def test_a_taken_port_is_tried_again(namespace: Namespace) -> None:
    with ends(namespace) as (one,):
        with namespace:
            taken = ChannelSocket(LB1.addresses[0], 3112)
        with closing(taken):
            (deaf,) = one.begin(node("lb1"))
            fields = {"address": "192.0.2.1", "port": 3112}
            assert deaf == Note(NoteKind.CHANNEL_DEAF, "", {**fields, "errno": errno.EADDRINUSE})
            assert one.paths.is_wanting
            with namespace:
                assert one.paths.open_missing() == [], "told once"
            assert one.bound() == {(LB1.addresses[1], 3112)}
            one.paths.send(Outgoing("lb2", b"by the other path"))
        with namespace:
            assert one.paths.open_missing() == [Note(NoteKind.CHANNEL_OPEN, "", fields)]
            assert one.paths.open_missing() == []
        assert not one.paths.is_wanting
        assert one.bound() == {(address, 3112) for address in LB1.addresses}
