"""Who has an address: the arithmetic on made-up logs, and the order of two kernels' words."""

from __future__ import annotations

import pytest

from vipd.lab.holders import Holding, decode, held_twice_ns, holders, read_line
from vipd.lab.hosts import now_ns, wait_for
from vipd.lab.netns import Lab
from vipd.lab.tools import Holders

VIP = "192.0.2.100"


def _log(*lines: str) -> list[Holding]:
    return [read_line(line) for line in lines]


def test_renewals_and_other_addresses_change_nothing() -> None:
    told = _log(f"+ lb1 {VIP} 1", "+ lb2 192.0.2.101 2", f"+ lb1 {VIP} 3", f"- lb1 {VIP} 4")
    assert list(holders(told, VIP)) == [(1, frozenset({"lb1"})), (4, frozenset())]


def test_a_handover_in_order_has_one_holder_at_a_time_even_at_one_instant() -> None:
    told = _log(f"+ lb1 {VIP} 1", f"- lb1 {VIP} 5", f"+ lb2 {VIP} 5")
    assert held_twice_ns(told, VIP, 0, 100) == 0


def test_an_overlap_counts_for_as_long_as_it_lasts_within_the_window() -> None:
    told = _log(f"+ lb1 {VIP} 10", f"+ lb2 {VIP} 20", f"- lb1 {VIP} 50", f"- lb2 {VIP} 90")
    assert held_twice_ns(told, VIP, 0, 100) == 30
    assert held_twice_ns(told, VIP, 30, 40) == 10
    assert held_twice_ns(told, VIP, 60, 100) == 0


def test_an_overlap_that_has_not_ended_counts_to_the_end_of_the_window() -> None:
    told = _log(f"+ lb1 {VIP} 10", f"+ lb2 {VIP} 20")
    assert held_twice_ns(told, VIP, 0, 100) == 80


def test_every_notification_of_a_datagram_is_read() -> None:
    address = bytes((192, 0, 2, 100))
    attribute = (8).to_bytes(2, "little") + (2).to_bytes(2, "little") + address
    body = bytes(8) + attribute
    parts = [
        (16 + len(body)).to_bytes(4, "little") + kind.to_bytes(2, "little") + bytes(10) + body
        for kind in (20, 16, 21)
    ]
    assert list(decode(b"".join(parts))) == [(True, address), (False, address)]


@pytest.mark.netns
def test_two_kernels_are_heard_in_the_order_in_which_they_spoke(lab: Lab) -> None:
    watch = Holders(lab, [VIP])
    start_ns = now_ns()
    for turn in range(5):
        first, second = ("lb1", "lb2") if turn % 2 == 0 else ("lb2", "lb1")
        for verb, name in (("add", first), ("del", first), ("add", second), ("del", second)):
            lab[name].run(["ip", "address", verb, f"{VIP}/24", "dev", "eth0"])
    wait_for(lambda: len(watch.told()) == 20, 5, "notifications are missing")
    assert held_twice_ns(watch.told(), VIP, start_ns, now_ns()) == 0
    for name in ("lb1", "lb2"):
        lab[name].run(["ip", "address", "add", f"{VIP}/24", "dev", "eth0"])
    wait_for(lambda: len(watch.told()) == 22, 5, "notifications are missing")
    assert held_twice_ns(watch.told(), VIP, start_ns, now_ns()) > 0
    watch.stop()
    with pytest.raises(RuntimeError, match="status"):
        watch.told()
