"""Commands of cluster mode given to real daemons, judged by the kernels that hold the VIP."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vipd.lab.cluster import Cluster
from vipd.lab.hosts import wait_for
from vipd.lab.netns import Lab
from vipd.lab.peers import Router, VipdNode

pytestmark = [pytest.mark.netns, pytest.mark.together]

VIP = ("192.0.2.100/24",)
PRIORITIES = {"lb1": 200, "lb2": 150, "lb3": 100}
PATIENCE_S = 15.0
LEAVING = {"web": {"notify": {"leaving": "/bin/true"}}}


@contextmanager
def three_nodes(**settings: object) -> Iterator[dict[str, VipdNode]]:
    """Three nodes that know each other; lb1 is master, with the highest priority."""
    with Lab(list(PRIORITIES)) as lab:
        hosts = [lab[name] for name in PRIORITIES]
        cluster = Cluster(hosts, settings=settings)
        made = {
            host.name: VipdNode(
                host, Router(VIP, PRIORITIES[host.name]), more=LEAVING, cluster=cluster
            )
            for host in hosts
        }
        for node in made.values():
            node.start()
        for node in made.values():
            node.wait_ready()
        wait_for(lambda: holders(made) == ["lb1"], PATIENCE_S, "lb1 is not the master")
        wait_for(
            lambda: all(sees(node) == len(made) for node in made.values()),
            PATIENCE_S,
            "not every node sees all of them",
        )
        yield made


def holders(nodes: dict[str, VipdNode]) -> list[str]:
    return [name for name, node in nodes.items() if node.holds_any()]


def sees(node: VipdNode) -> int:
    """How many nodes it believes to live, and to have the unit."""
    found = node.status()["cluster"]["nodes"].values()
    return sum(each["alive"] and "web" in each["units"] for each in found)


def order(node: VipdNode, *command: str) -> tuple[int, str]:
    done = node.cli(*command, check=False)
    return done.returncode, done.stdout + done.stderr


# --- switchover -------------------------------------------------------------------------------


def test_a_third_node_moves_it_and_any_node_ends_that() -> None:
    with three_nodes() as nodes:
        code, words = order(nodes["lb3"], "switchover", "web", "--to", "lb2")
        assert (code, "web: lb2 took over within" in words) == (0, True), words
        assert "leaving hooks of web were not run" in words
        assert holders(nodes) == ["lb2"]
        with pytest.raises(TimeoutError):  # though lb1 preempts, and would be the better one
            wait_for(nodes["lb1"].holds_any, 2.0, "it stays where it was put, as it should")
        assert order(nodes["lb1"], "switchover", "web", "--auto")[0] == 0
        wait_for(lambda: holders(nodes) == ["lb1"], PATIENCE_S, "lb1 does not take it back")


def test_a_backup_fetches_it_and_the_master_gives_it_to_the_best() -> None:
    with three_nodes() as nodes:
        code, words = order(nodes["lb3"], "switchover", "web", "--to", "lb3")
        assert (code, "web: lb3 took over after" in words) == (0, True), words
        assert holders(nodes) == ["lb3"]
        code, words = order(nodes["lb3"], "switchover", "web")
        assert (code, "web: lb1 took over" in words, "warning" in words) == (0, True, False), words
        assert holders(nodes) == ["lb1"]
        assert "lb1 is master already" in order(nodes["lb2"], "switchover", "web", "--to", "lb1")[1]


def test_a_pin_outlives_the_restart_of_the_node_that_it_was_given_on() -> None:
    with three_nodes() as nodes:
        assert order(nodes["lb1"], "switchover", "web", "--to", "lb3")[0] == 0
        nodes["lb1"].stop()
        nodes["lb1"].wait()
        nodes["lb1"].start()
        nodes["lb1"].wait_ready()
        wait_for(lambda: sees(nodes["lb1"]) == 3, PATIENCE_S, "lb1 does not see all nodes")
        with pytest.raises(TimeoutError):
            wait_for(nodes["lb1"].holds_any, 2.0, "it stays where it was put, as it should")
        assert holders(nodes) == ["lb3"]


def test_an_engine_that_starts_again_does_not_repeat_an_order() -> None:
    """Its supervisor tells it what it once ordered; the pin of that has been ended elsewhere."""
    with three_nodes() as nodes:
        assert order(nodes["lb1"], "switchover", "web", "--to", "lb2")[0] == 0
        assert order(nodes["lb3"], "switchover", "web", "--auto")[0] == 0
        wait_for(lambda: holders(nodes) == ["lb1"], PATIENCE_S, "lb1 does not take it back")
        killed = nodes["lb1"].engine_pid()
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: nodes["lb1"].engine_pid() not in (0, killed), PATIENCE_S, "no next engine")
        wait_for(lambda: holders(nodes) == ["lb1"], PATIENCE_S, "lb1 does not take it back")
        # Nor when it is told something else together with it.
        assert order(nodes["lb1"], "maintenance", "on")[0] == 0
        assert order(nodes["lb1"], "maintenance", "off")[0] == 0
        wait_for(lambda: holders(nodes) == ["lb1"], PATIENCE_S, "lb1 does not take it back")
        assert [node.status()["pin"] for node in nodes.values()] == [{}, {}, {}]


def test_a_frozen_node_does_not_take_it_and_the_pin_goes() -> None:
    """It counts as alive for a while, so the order goes out; then somebody else serves."""
    with three_nodes(heartbeat_timeout="5s") as nodes:
        nodes["lb2"].freeze()
        code, words = order(nodes["lb1"], "switchover", "web", "--to", "lb2")
        assert (code, "lb2 did not take it" in words) == (1, True), words
        wait_for(lambda: len(holders(nodes)) == 1, PATIENCE_S, "not one holder")
        wait_for(lambda: sees(nodes["lb1"]) == 2, PATIENCE_S, "lb2 is still taken for alive")
        code, words = order(nodes["lb3"], "switchover", "web", "--to", "lb2", "--force")
        assert (code, "lb2 is not heard" in words) == (1, True), words
        assert nodes["lb1"].status()["pin"] == {}


# --- maintenance ------------------------------------------------------------------------------


def test_the_last_node_is_refused_maintenance() -> None:
    with three_nodes() as nodes:
        for name, successor in (("lb1", "lb2"), ("lb2", "lb3")):
            code, words = order(nodes[name], "maintenance", "on")
            assert (code, f"web: {successor} took over" in words) == (0, True), words
            assert holders(nodes) == [successor]
        code, words = order(nodes["lb3"], "maintenance", "on")
        assert (code, "lb1 is in maintenance; lb2 is in maintenance" in words) == (1, True), words
        code, words = order(nodes["lb3"], "switchover", "web", "--to", "lb1", "--force")
        assert (code, "lb1 is in maintenance" in words) == (1, True), words
        assert holders(nodes) == ["lb3"]
        assert order(nodes["lb1"], "maintenance", "off")[0] == 0
        wait_for(lambda: holders(nodes) == ["lb1"], PATIENCE_S, "lb1 does not take it back")
