"""Two keepalived in the lab: the lab's instruments on a known pair, before vipd joins."""

from __future__ import annotations

import pytest

from vipd.lab.hosts import now_ns, wait_for
from vipd.lab.netns import Lab
from vipd.lab.outages import interleavings, longest_outage
from vipd.lab.peers import Keepalived, Router
from vipd.lab.tools import Client, start_server

pytestmark = [pytest.mark.netns, pytest.mark.interop]
MS = 1_000_000
VIP = "192.0.2.100"


def test_sigterm_moves_the_vip_after_the_skew_time(lab: Lab) -> None:
    for name in ("lb1", "lb2"):
        start_server(lab[name])
    first = Keepalived(lab["lb1"], Router((f"{VIP}/24",), 150, version=2))
    second = Keepalived(lab["lb2"], Router((f"{VIP}/24",), 100, version=2))
    for speaker in (first, second):
        speaker.start()
    wait_for(first.holds, 10, "lb1 never became master")
    assert not second.holds_any()
    client = Client(lab, [VIP])
    wait_for(lambda: len(client.answers()) == 1, 5, "no answers")
    stopped_ns = now_ns()
    first.stop()
    wait_for(second.holds, 5, "lb2 did not take over")
    assert first.wait() == 0
    assert not first.holds_any()
    client.stop()
    answers = client.answers()[VIP]
    outage = longest_outage(answers, stopped_ns, answers[-1].received_ns)
    assert (outage.before, outage.after) == ("lb1", "lb2")
    assert second.router.skew_ns - 10 * MS < outage.length_ns < second.router.skew_ns + 400 * MS
    assert interleavings(answers) == 0


def test_sigkill_of_everything_says_nothing_and_leaves_the_vip(lab: Lab) -> None:
    first = Keepalived(lab["lb1"], Router((f"{VIP}/24",), 150, interval_ms=100))
    second = Keepalived(lab["lb2"], Router((f"{VIP}/24",), 100, interval_ms=100))
    for speaker in (first, second):
        speaker.start()
    wait_for(first.holds, 10, "lb1 never became master")
    first.kill()
    killed_ns = now_ns()
    assert first.pids() == []
    taken_ns = wait_for(second.holds, 5, "lb2 did not take over")
    # a goodbye would have moved it after the skew time, 61 ms
    assert taken_ns - killed_ns > second.router.master_down_ns - 100 * MS - 20 * MS
    assert first.holds()


def test_a_frozen_master_thaws(lab: Lab) -> None:
    speaker = Keepalived(lab["lb1"], Router((f"{VIP}/24",), 150, interval_ms=100))
    speaker.start()
    wait_for(speaker.holds, 10, "never became master")
    rival = Keepalived(lab["lb2"], Router((f"{VIP}/24",), 100, interval_ms=100))
    rival.start()
    rival.wait_ready()
    speaker.freeze()
    wait_for(rival.holds, 5, "the rival did not see the silence")
    speaker.thaw()
    wait_for(lambda: not rival.holds_any(), 5, "the thawed master did not come back")
