"""Mastership moved on purpose between real daemons, judged by the kernels that hold the VIP."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from vipd.adapters.listeners import Listeners, find_listeners
from vipd.lab.frr import FrrVrrpd
from vipd.lab.hosts import wait_for
from vipd.lab.netns import BRIDGE, Lab
from vipd.lab.peers import Keepalived, Router, Speaker, VipdNode
from vipd.model import Family

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.together]

VIP4, VIP6 = ("192.0.2.100/24",), ("fe80::100/64", "2001:db8::100/64")
PATIENCE_S = 15.0
KINDS: list[type[Speaker]] = [Keepalived, VipdNode]


def router(priority: int, vips: tuple[str, ...] = VIP4, **more: Any) -> Router:
    return Router(vips=vips, priority=priority, interval_ms=200, **more)


def started(speaker: Speaker) -> Speaker:
    speaker.start()
    speaker.wait_ready()
    return speaker


def master(lab: Lab, **more: Any) -> VipdNode:
    """vipd on lb1, with the VIP."""
    node = VipdNode(lab["lb1"], router(200, **more))
    started(node)
    holds(node)
    return node


def holds(speaker: Speaker) -> None:
    wait_for(speaker.holds, PATIENCE_S, f"{speaker.host.name} does not hold its VIPs")


def order(node: VipdNode, *command: str) -> tuple[int, str]:
    done = node.cli(*command, check=False)
    return done.returncode, done.stdout + done.stderr


def ask(lab: Lab, family: Family, timeout_s: float = 2.0) -> Listeners:
    with lab["lb1"].namespace.inside():
        return asyncio.run(find_listeners("eth0", family, None, timeout_s=timeout_s))


# --- who listens ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, FrrVrrpd])
def test_a_silent_backup_is_found_and_a_stopped_one_is_not(kind: type[Speaker]) -> None:
    with Lab(["lb1", "lb2"]) as lab:
        master(lab)
        backup = started(kind(lab["lb2"], router(100)))
        assert ask(lab, Family.IPV4).found == ("192.0.2.12",)
        backup.freeze()
        assert ask(lab, Family.IPV4).found == ("192.0.2.12",)  # it cannot be told apart
        backup.thaw()
        backup.kill()
        assert ask(lab, Family.IPV4, 0.5).found == ()


@pytest.mark.parametrize("kind", KINDS)
def test_so_is_one_of_ipv6(kind: type[Speaker]) -> None:
    with Lab(["lb1", "lb2"]) as lab:
        master(lab, vips=VIP6)
        backup = started(kind(lab["lb2"], router(100, VIP6)))
        assert ask(lab, Family.IPV6).found == ("fe80::12",)
        backup.kill()
        assert ask(lab, Family.IPV6, 0.5).found == ()


def test_a_bridge_that_snoops_lets_the_reports_pass() -> None:
    with Lab(["lb1", "lb2"]) as lab:
        lab.switch.run(["ip", "link", "set", BRIDGE, "type", "bridge", "mcast_snooping", "1"])
        master(lab)
        started(Keepalived(lab["lb2"], router(100)))
        assert ask(lab, Family.IPV4).found == ("192.0.2.12",)


# --- switchover -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_peer_takes_over_and_keeps_it(kind: type[Speaker]) -> None:
    """Though this node has the higher priority and preempts, and though it starts again."""
    with Lab(["lb1", "lb2"]) as lab:
        node = master(lab)
        peer = started(kind(lab["lb2"], router(100)))
        code, words = order(node, "switchover", "web")
        assert (code, "web: 192.0.2.12 took over after" in words) == (0, True), words
        holds(peer)
        node.stop()
        node.wait()
        started(node)
        with pytest.raises(TimeoutError):
            wait_for(node.holds_any, 2.0, "it stays backup, as it should")
        assert peer.holds()
        assert order(node, "switchover", "web", "--auto")[0] == 0
        holds(node)


def test_a_lost_peer_ends_the_hold() -> None:
    with Lab(["lb1", "lb2"]) as lab:
        node = master(lab)
        peer = started(Keepalived(lab["lb2"], router(100)))
        assert order(node, "switchover", "web")[0] == 0
        holds(peer)
        peer.kill()
        holds(node)
        started(peer)
        assert "no switchover stands" in order(node, "switchover", "web", "--auto")[1]


def test_unicast_peers() -> None:
    with Lab(["lb1", "lb2"]) as lab:
        node = master(lab, source="192.0.2.11", unicast_peers=("192.0.2.12",))
        code, words = order(node, "switchover", "web")
        assert (code, "asked 192.0.2.12 whether it takes VRRP" in words) == (1, True), words
        peer = Keepalived(
            lab["lb2"], router(100, source="192.0.2.12", unicast_peers=("192.0.2.11",))
        )
        started(peer)
        assert order(node, "switchover", "web")[0] == 0
        holds(peer)


def test_alone_it_is_refused_and_nothing_moves() -> None:
    with Lab(["lb1", "lb2"]) as lab:
        node = master(lab)
        index = os.stat(node.log).st_size
        for command in (("switchover", "web"), ("maintenance", "on")):
            code, words = order(node, *command)
            assert (code, "nobody who could take over answered" in words) == (1, True), words
        assert node.holds()
        assert "BACKUP" not in node.log.read_text()[index:]


def test_a_frozen_peer_does_not_take_it() -> None:
    with Lab(["lb1", "lb2"]) as lab:
        node = master(lab)
        peer = started(VipdNode(lab["lb2"], router(100)))
        peer.freeze()
        code, words = order(node, "switchover", "web")
        assert (code, "this node is master again" in words) == (1, True), words
        holds(node)
        code, words = order(node, "maintenance", "on")
        assert (code, "maintenance was taken back" in words) == (1, True), words
        holds(node)


# --- maintenance ------------------------------------------------------------------------------


def test_maintenance_outlives_a_restart_and_a_lost_peer() -> None:
    with Lab(["lb1", "lb2"]) as lab:
        node = master(lab)
        peer = started(Keepalived(lab["lb2"], router(100)))
        code, words = order(node, "maintenance", "on")
        assert (code, "took over" in words) == (0, True), words
        holds(peer)
        node.kill()
        started(node)
        peer.kill()
        with pytest.raises(TimeoutError):
            wait_for(node.holds_any, 2.0, "it takes nothing, as it should")
        assert order(node, "maintenance", "off")[0] == 0
        holds(node)


def test_maintenance_ends_by_itself() -> None:
    with Lab(["lb1", "lb2"]) as lab:
        node = master(lab)
        peer = started(Keepalived(lab["lb2"], router(100)))
        assert order(node, "maintenance", "on", "--for", "4s")[0] == 0
        holds(peer)
        holds(node)
