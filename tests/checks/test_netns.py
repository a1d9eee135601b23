"""ping and interface, in network namespaces."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing

import pytest

from tests.adapters.conftest import Namespace, packed
from tests.checks.rig import config
from vipd.adapters.echo import Echo, checksum
from vipd.adapters.netlink import EventSocket
from vipd.duties import InterfaceProbe, PingProbe
from vipd.errors import AdapterError
from vipd.supervisor.checks.board import CheckBoard, Workshop
from vipd.supervisor.checks.findings import CheckEvent, Finding, ProbeFailed, Word

pytestmark = pytest.mark.netns

Pair = tuple[Namespace, Namespace]
LOOPBACK = bytes([127, 0, 0, 1])


async def ping(target: str, source: str | None = None) -> Finding:
    workshop = Workshop()
    probe = PingProbe(packed(target), packed(source) if source else None)
    try:
        return await asyncio.wait_for(
            workshop.make(config(probe=probe), lambda: None).run(1), timeout=1
        )
    finally:
        workshop.close()


# --- ping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["192.0.2.2", "2001:db8::2"])
def test_a_neighbour_answers(pair: Pair, target: str) -> None:
    left, _right = pair
    with left:
        found = asyncio.run(ping(target))
    assert found.word is Word.HEALTHY
    assert found.detail.startswith(f"{target} answers after ")


@pytest.mark.parametrize("target", ["192.0.2.1", "127.0.0.1", "::1"])
def test_an_address_of_our_own_answers(pair: Pair, target: str) -> None:
    with pair[0]:
        assert asyncio.run(ping(target)).word is Word.HEALTHY


def test_the_source_is_used(pair: Pair) -> None:
    left, right = pair
    left.run("ip addr add 192.0.2.77/24 dev eth0")
    right.run("ip route add blackhole 192.0.2.1/32")
    with left:
        with pytest.raises(TimeoutError):
            asyncio.run(ping("192.0.2.2"))
        assert asyncio.run(ping("192.0.2.2", "192.0.2.77")).word is Word.HEALTHY
        with pytest.raises(ProbeFailed, match="Cannot assign requested address"):
            asyncio.run(ping("192.0.2.2", "192.0.2.99"))


@pytest.mark.parametrize("target", ["198.51.100.1", "2001:db8:ffff::1"])
def test_without_a_route_it_fails_at_once(pair: Pair, target: str) -> None:
    with pair[0], pytest.raises(ProbeFailed, match="Network is unreachable"):
        asyncio.run(ping(target))


def test_a_router_that_says_unreachable_is_believed_at_once(pair: Pair) -> None:
    left, right = pair
    left.run("ip route add 198.51.100.0/24 via 192.0.2.2")
    right.run("sysctl -q net.ipv4.ip_forward=1\nip route add unreachable 198.51.100.0/24")
    with left, pytest.raises(ProbeFailed, match="No route to host"):
        asyncio.run(ping("198.51.100.1"))


def test_silence_is_a_timeout(pair: Pair) -> None:
    left, right = pair
    right.run("sysctl -q net.ipv4.icmp_echo_ignore_all=1")
    with left, pytest.raises(TimeoutError):
        asyncio.run(ping("192.0.2.2"))


def test_the_answers_to_others_are_not_even_seen(pair: Pair) -> None:
    """With a hundred checks that ping, each would else read the answers of all."""
    with pair[0]:
        ours = Echo(packed("192.0.2.2"), None)
        stranger = Echo(packed("192.0.2.1"), None)
        assert asyncio.run(ping("192.0.2.1")).word is Word.HEALTHY
        with pytest.raises(BlockingIOError):
            ours.receive()
        stranger.close()
        ours.close()


def test_only_our_own_reply_counts() -> None:
    with closing(Echo(LOOPBACK, None)) as ours, closing(Echo(LOOPBACK, None)) as other:
        request = ours.request()
        header = bytes([0x45]) + bytes(19)
        reply = bytes([0]) + request[1:]
        assert ours.is_reply(header + reply)
        assert not ours.is_reply(header + request)  # a request is no reply
        assert not ours.is_reply(header + reply[:-1])
        assert not ours.is_reply(header + bytes([0]) + other.request()[1:])
        assert not ours.is_reply(b"")
        assert not ours.is_reply(header)
        longer = bytes([0x46]) + bytes(23)  # with IP options
        assert ours.is_reply(longer + reply)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes.fromhex("0001f203f4f5f6f7"), 0x220D),  # the example of RFC 1071 §3
        (bytes(8), 0xFFFF),
        (b"\xff" * 8, 0),
    ],
)
def test_checksum(data: bytes, expected: int) -> None:
    assert checksum(data) == expected


# --- interface --------------------------------------------------------------------------------


async def watch(probe: InterfaceProbe, changes: list[tuple[Namespace, str, str]]) -> list[float]:
    """Makes each change, and waits for the detail that it must lead to; how long that took."""
    details: asyncio.Queue[CheckEvent] = asyncio.Queue()
    board = CheckBoard(lambda _: None, details.put_nowait)
    board.configure((config(probe=probe, interval_ms=60_000),))
    took = []
    for host, command, detail in changes:
        if command:
            await asyncio.to_thread(host.run, command)
        began = time.monotonic()
        event = await asyncio.wait_for(details.get(), 5)
        assert event.detail == detail
        took.append(time.monotonic() - began)
    await board.stop()
    return took


def test_an_interface_is_followed_without_waiting_for_the_interval(pair: Pair) -> None:
    left, right = pair
    changes = [
        (left, "", "eth0 is up"),
        (left, "ip link set eth0 down", "eth0 is down, or has no carrier"),
        (left, "ip link set eth0 up", "eth0 is up"),
        (right, "ip link set eth0 down", "eth0 is down, or has no carrier"),
        (right, "ip link set eth0 up", "eth0 is up"),
        (left, "ip link del eth0", "there is no interface eth0"),
    ]
    with left:
        took = asyncio.run(watch(InterfaceProbe("eth0"), changes))
    assert max(took) < 5


def test_an_address_of_an_interface_is_followed(pair: Pair) -> None:
    left, _right = pair
    changes = [
        (left, "", "eth0 does not have 192.0.2.50"),
        (left, "ip addr add 192.0.2.50/24 dev eth0", "eth0 is up with 192.0.2.50"),
        (left, "ip addr del 192.0.2.50/24 dev eth0", "eth0 does not have 192.0.2.50"),
    ]
    with left:
        asyncio.run(watch(InterfaceProbe("eth0", packed("192.0.2.50")), changes))


def test_an_interface_that_appears_later(namespace: Namespace) -> None:
    changes = [
        (namespace, "", "there is no interface d0"),
        (
            namespace,
            "ip link add d0 type veth peer name d1\nip link set d1 up\nip link set d0 up",
            "d0 is up",
        ),
    ]
    with namespace:
        asyncio.run(watch(InterfaceProbe("d0"), changes))


def test_events_that_end_are_a_failure_and_the_next_run_opens_them_again(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> list[str]:
        told = asyncio.Event()
        workshop = Workshop()
        check = workshop.make(config(probe=InterfaceProbe("lo")), told.set)
        said = [(await check.run(1)).detail]
        with monkeypatch.context() as broken:
            broken.setattr(EventSocket, "receive", refuse)
            await asyncio.to_thread(namespace.run, "ip link set lo mtu 1600")
            await asyncio.wait_for(told.wait(), 5)
        told.clear()
        said.append((await check.run(1)).detail)
        await asyncio.to_thread(namespace.run, "ip link set lo down")
        await asyncio.wait_for(told.wait(), 5)
        with pytest.raises(ProbeFailed):
            await check.run(1)
        check.close()
        workshop.close()
        return said

    def refuse(_socket: EventSocket) -> None:
        raise AdapterError("no events any more")

    with namespace:
        assert asyncio.run(main()) == ["lo is up", "lo is up"]
