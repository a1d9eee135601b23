"""Client, servers and captures against each other and against independent readers."""

from __future__ import annotations

import subprocess

import pytest
from scapy.layers.l2 import ARP, Ether
from scapy.utils import RawPcapNgReader

from vipd.lab.hosts import now_ns, wait_for
from vipd.lab.netns import Lab
from vipd.lab.outages import longest_outage, tenures
from vipd.lab.tools import Capture, Client, probe_http, start_server

pytestmark = pytest.mark.netns
VIPS = ("192.0.2.100", "2001:db8::100")
MS = 1_000_000


def _move_vips(lab: Lab, source: str, target: str) -> None:
    for vip in VIPS:
        extra = ["nodad"] if ":" in vip else []
        prefix = "128" if ":" in vip else "32"
        if source:
            lab[source].run(["ip", "addr", "del", f"{vip}/{prefix}", "dev", "eth0"])
        lab[target].run(["ip", "addr", "add", f"{vip}/{prefix}", "dev", "eth0", *extra])


def test_the_client_sees_who_answers_and_for_how_long_nobody_does(lab: Lab) -> None:
    for name in ("lb1", "lb2"):
        start_server(lab[name])
    _move_vips(lab, "", "lb1")
    assert [probe_http(lab.client, vip) for vip in VIPS] == ["lb1", "lb1"]
    client = Client(lab, VIPS)
    wait_for(lambda: len(client.answers()) == 2, 5, "no answers")
    begin_ns = now_ns()
    lab.cut("lb1")
    wait_for(lambda: now_ns() > begin_ns + 300 * MS, 5, "time stands still")
    lab.heal("lb1")
    end_ns = now_ns()
    wait_for(lambda: now_ns() > end_ns + 300 * MS, 5, "time stands still")
    client.stop()
    for vip in VIPS:
        answers = client.answers()[vip]
        assert 250 * MS < longest_outage(answers, begin_ns, end_ns).length_ns < 600 * MS
        assert {tenure.host for tenure in tenures(answers)} == {"lb1"}


def test_no_holder_no_answer(lab: Lab) -> None:
    start_server(lab["lb1"])
    assert probe_http(lab.client, VIPS[0], timeout_s=0.2) == ""


def test_a_capture_on_the_switch_sees_each_frame_once_and_its_port(lab: Lab) -> None:
    capture = Capture(lab)
    before_ns = now_ns()
    lab.cut("lb1")  # what a cut host says is seen as well
    lab["lb1"].run(["ping", "-c1", "-W0.2", "192.0.2.12"], check=False)
    lab["lb2"].run(["ping", "-c1", "-W1", "192.0.2.200"])
    capture.stop()
    asked = [
        (frame.interface, Ether(frame.data)[ARP].pdst)
        for frame in capture.frames()
        if ARP in Ether(frame.data) and Ether(frame.data)[ARP].op == 1
    ]
    assert asked == [("lb1", "192.0.2.12"), ("lb2", "192.0.2.200")]
    assert all(before_ns < frame.t_ns < now_ns() for frame in capture.frames())
    assert not any(b"\x08\x00\x45" in frame.data[12:15] for frame in capture.frames())


def test_independent_readers_agree_with_ours(lab: Lab) -> None:
    capture = Capture(lab, lab["lb1"], control_only=False)
    lab.client.run(["ping", "-c2", "-i0.05", "-W1", "192.0.2.11"])
    capture.stop()
    ours = capture.frames()
    assert {frame.outgoing for frame in ours} == {True, False}
    with RawPcapNgReader(str(capture.path)) as reader:
        assert [data for data, _ in reader] == [frame.data for frame in ours]
    columns = ["-T", "fields", "-e", "frame.time_epoch", "-e", "frame.interface_name"]
    tshark = subprocess.run(
        ["tshark", "-r", str(capture.path), *columns], capture_output=True, text=True, check=True
    )
    expected = []
    for frame in ours:
        seconds, nanoseconds = divmod(frame.t_ns + lab.clock_offset_ns, 1_000_000_000)
        expected.append(f"{seconds}.{nanoseconds:09d}\t{frame.interface}")
    assert tshark.stdout.splitlines() == expected
