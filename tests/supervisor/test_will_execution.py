"""Carrying a will out: in which order, when not, and never twice. No kernel, no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vipd.adapters.clock import boottime_ns
from vipd.errors import AdapterError
from vipd.members import Owner
from vipd.model import SECOND_NS, Address, Family, Link, format_address
from vipd.supervisor import last_will, leftovers
from vipd.will import PAGE_SIZE, Goodbye, Page, Tombstone, Will, encode_will

HERE, THERE, HERE6, THERE6 = (
    bytes((192, 0, 2, 11)),
    bytes((192, 0, 2, 12)),
    bytes(15) + b"\x01",
    bytes(15) + b"\x02",
)
STONE = Tombstone("lb2", ((HERE, THERE), (HERE6, THERE6)), 3112, b"stone")
GOODBYE = Goodbye("web", 7, HERE, bytes((224, 0, 0, 18)), b"bye", 2 * SECOND_NS)
WILL = Will((STONE,), (GOODBYE,))
STONES = [f"stone {format_address(THERE)}", f"stone {format_address(THERE6)}"]
SENT = [*STONES, "bye on 7", *STONES]
"""A tombstone is said twice: a datagram may be lost, and nobody else repeats it."""


class Host:
    """Notes what is done to it, in order; refuses what it is told to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.refuses: set[str] = set()
        self.open = 0

    def refuse(self, what: str) -> None:
        if what in self.refuses:
            raise AdapterError(f"{what} is refused", 1)

    def remove(self, _runtime_dir: Path) -> tuple[str, ...]:
        self.refuse("removal")
        self.done.append("removed")
        return ("192.0.2.100",)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host()

    class Channel:
        def __init__(self, own: Address, port: int) -> None:
            made.refuse(f"bind {format_address(own)}")
            self.own, self.refused = own, Counter[int]()
            made.open += 1

        def send(self, datagram: bytes, destination: Address) -> None:
            if f"send {format_address(destination)}" in made.refuses:
                self.refused[101] += 1
            else:
                made.done.append(f"{datagram.decode()} {format_address(destination)}")

        def close(self) -> None:
            made.open -= 1

    class Vrrp:
        def __init__(self, link: Link, _family: Family, *, multicast: bool) -> None:
            assert not multicast, "who only sends joins nothing"
            self.index = link.index
            made.open += 1

        def send(self, payload: bytes, _source: Address, _destination: Address) -> None:
            made.refuse("advert")
            made.done.append(f"{payload.decode()} on {self.index}")

        def close(self) -> None:
            made.open -= 1

    monkeypatch.setattr(last_will, "ChannelSocket", Channel)
    monkeypatch.setattr(last_will, "VrrpSocket", Vrrp)
    monkeypatch.setattr(leftovers, "remove_listed", made.remove)
    yield made
    assert made.open == 0, "the next engine needs these addresses and ports"


@pytest.fixture
def page() -> Page:
    made = Page(memoryview(bytearray(PAGE_SIZE)))
    made.begin(Owner("lb1", 4, 5))
    made.live(boottime_ns())
    return made


def execute(page: Page | None) -> last_will.Execution:
    return last_will.execute(page, Path("/nowhere"))


def test_the_addresses_go_first_then_tombstones_then_priority_zero(host: Host, page: Page) -> None:
    page.keep(encode_will(WILL))
    execution = execute(page)
    assert host.done == ["removed", *SENT]
    assert execution.owner == "lb1/4"
    assert (execution.told, execution.goodbyes) == (("lb2",), ("web",))
    assert 0 <= execution.prepared_ns <= execution.removed_ns <= execution.sent_ns


def test_without_the_kernels_word_nothing_is_sent_and_the_will_stays(
    host: Host, page: Page
) -> None:
    page.keep(encode_will(WILL))
    host.refuses.add("removal")
    with pytest.raises(AdapterError):
        execute(page)
    assert host.done == []
    host.refuses.clear()
    execute(page)
    assert host.done == ["removed", *SENT]


def test_a_will_is_carried_out_once(host: Host, page: Page) -> None:
    page.keep(encode_will(WILL))
    execute(page)
    again = execute(page)
    assert host.done == ["removed", *SENT, "removed"]
    assert (again.told, again.goodbyes) == ((), ())


@pytest.mark.parametrize("age_ns", [3 * SECOND_NS, -SECOND_NS])
def test_a_late_goodbye_is_none_but_a_tombstone_always_counts(
    host: Host, page: Page, age_ns: int
) -> None:
    """Somebody else may be master by then; or the page is of an earlier boot."""
    page.keep(encode_will(WILL))
    page.live(boottime_ns() - age_ns)
    execution = execute(page)
    assert host.done == ["removed", *STONES, *STONES]
    assert execution.too_late == ("web",)


def test_one_path_that_is_refused_does_not_stop_the_others(host: Host, page: Page) -> None:
    page.keep(encode_will(WILL))
    host.refuses |= {f"bind {format_address(HERE)}", "advert"}
    execution = execute(page)
    assert host.done == ["removed", STONES[1], STONES[1]]
    assert len(execution.refusals) == 2


def test_what_the_network_refuses_is_told(host: Host, page: Page) -> None:
    page.keep(encode_will(WILL))
    host.refuses.add(f"send {format_address(THERE)}")
    assert host.done == []
    (refusal,) = execute(page).refusals
    assert "192.0.2.11" in refusal
    assert host.done == ["removed", STONES[1], "bye on 7", STONES[1]]


def test_an_engine_that_ended_cleanly_left_nothing(host: Host, page: Page) -> None:
    page.keep(encode_will(WILL))
    page.clear()
    execute(page)
    assert host.done == ["removed"]


def test_without_a_page_the_addresses_go_all_the_same(host: Host) -> None:
    execute(None)
    assert host.done == ["removed"]


def test_a_page_that_cannot_be_read_does_not_keep_the_addresses(host: Host, page: Page) -> None:
    page.keep(encode_will(WILL)[:-1])
    execution = execute(page)
    assert host.done == ["removed"]
    assert "cannot be read" in execution.refusals[0]


def test_each_socket_is_opened_once(host: Host, page: Page) -> None:
    many = Will((STONE, replace(STONE, to="lb3")), (GOODBYE, replace(GOODBYE, instance="api")))
    page.keep(encode_will(many))
    execution = execute(page)
    assert execution.told == ("lb2", "lb3")
    assert execution.goodbyes == ("web", "api")
    assert len(host.done) == 1 + 4 + 2 + 4
