"""``vipd explain`` in a cluster: who, why not this node, and what if the master were lost."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.cli.conftest import (
    CLUSTER,
    FAULT,
    FOLLOWER,
    LB1,
    LB2,
    LB3,
    MASTER,
    NOW_NS,
    FakeDaemon,
    member,
    said,
)
from vipd.cli.app import app
from vipd.cli.succession import STEP_MS, candidates
from vipd.core.watch import STEP_NS
from vipd.model import MILLISECOND_NS, SECOND_NS, Health, Reason, State, TrackKind
from vipd.snapshots import MemberSnapshot, PinSnapshot, TrackSnapshot

LEADER = replace(MASTER, name="web", unit="web", term=7)
OWN_MASTER = replace(LB2, units=(said("web", State.MASTER, priority=150, master="lb2"),))
LB1_BACKUP = replace(LB1, units=(said("web", priority=120, master="lb2"),))


@pytest.fixture
def node(daemon: FakeDaemon) -> FakeDaemon:
    daemon.instances = [FOLLOWER]
    daemon.cluster = CLUSTER
    return daemon


def explain(daemon: FakeDaemon, *members: MemberSnapshot, **cluster: Any) -> str:
    assert daemon.cluster is not None
    daemon.cluster = replace(daemon.cluster, members=members or daemon.cluster.members, **cluster)
    result = CliRunner().invoke(app, ["explain", "web", "--config", str(daemon.config)])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_a_backup_names_the_master_and_its_own_rank(node: FakeDaemon) -> None:
    text = explain(node)
    assert "master lb1, term 7, with priority 150 (VRRPv3, VRID 51, eth0)." in text
    assert "not here its priority 100 is not above the 150 of lb1." in text
    assert "next 1. lb2 (100, this host), 2. lb3 (90)." in text
    assert (
        "what if lb1 were lost now: this host takes over, 1000 ms after its last sign of life "
        "(`heartbeat_timeout`); each next one waits 50 ms longer." in text
    )
    assert "lb3, 0.0s ago: BACKUP, higher-priority-heard, priority 90, term 7; its" in text
    assert "waits for 1.0s: then it takes over unless a master is heard." in text
    assert "three intervals" not in text  # the RFC's timers are not those of a cluster


def test_the_master_says_since_when_and_who_would_follow(node: FakeDaemon) -> None:
    node.instances = [LEADER]
    text = explain(node, LB1_BACKUP, OWN_MASTER, LB3)
    assert "master this host, as 192.0.2.12, since " in text
    assert ", term 7 (VRRPv3" in text
    assert "next 1. lb1 (120), 2. lb3 (90)." in text
    assert "what if this host were lost now: lb1 takes over" in text
    assert "not here" not in text
    assert "waits for 0.6s: then it sends its next advert." in text


def test_since_when_another_node_is_master(node: FakeDaemon) -> None:
    report = replace(LB1.units[0], since_ns=NOW_NS - 60 * SECOND_NS)
    assert "master lb1 since " in explain(node, replace(LB1, units=(report,)), LB2)


def test_a_handover_under_way(node: FakeDaemon) -> None:
    node.instances = [replace(LEADER, handing_to="lb1")]
    assert "it is handing it over to lb1 just now." in explain(node, LB1_BACKUP, OWN_MASTER)


def test_without_a_master_the_lost_one_is_named(node: FakeDaemon) -> None:
    lost = replace(LB1, alive=False, last_heard_ns=NOW_NS - 2 * SECOND_NS)
    text = explain(node, lost, LB2, LB3)
    assert "master none is heard (VRRPv3" in text
    assert "the last one was lb1, not heard for 2.0s." in text
    assert "were lost now" not in text
    assert "not lb1: not heard for 2.0s." in text
    assert "lb1, 2.0s ago, and is not heard any more: MASTER" in text


def test_two_masters(node: FakeDaemon) -> None:
    text = explain(node, LB1, LB2, replace(LB3, units=(said("web", State.MASTER),)))
    assert "more than one node says that it is." in text


BETTER = replace(FOLLOWER, priority_base=200, priority_effective=200)


def test_a_pin_keeps_the_better_node_back(node: FakeDaemon) -> None:
    node.instances = [BETTER]
    text = explain(node, pins=(PinSnapshot("web", "lb1", 3, None),))
    assert "pin an operator put it on lb1 until it is ended, or until that node fails." in text
    assert "`vipd switchover web --auto` lets priority decide again" in text
    assert "not here its priority 200 is above the 150 of lb1, but for the pin." in text


def test_preempt_false_keeps_it_back(node: FakeDaemon) -> None:
    node.instances = [replace(BETTER, preempt=False)]
    assert "above the 150 of lb1, but `preempt: false` leaves mastership" in explain(node)


def test_maintenance_keeps_it_back(node: FakeDaemon) -> None:
    node.instances = [BETTER]
    node.more = {"maintenance": {"since": 0.0, "until": None, "by": "uid 0"}}
    text = explain(node, LB1, replace(LB2, maintenance=True), LB3)
    assert "not here this node is in maintenance" in text
    assert "not lb2: in maintenance." in text


def test_a_wish_that_was_refused_waits(node: FakeDaemon) -> None:
    node.instances = [BETTER]
    assert "It asks lb1 to hand over, when `preempt_delay` has passed." in explain(node)
    asks = NOW_NS + 4 * SECOND_NS
    node.instances = [replace(BETTER, asks_at_ns=asks)]
    assert "It asks lb1 to hand over in 4.0s." in explain(node)
    node.instances = [replace(BETTER, asks_at_ns=asks, refused_for="busy")]
    assert "to hand over again in 4.0s; the last answer was no: busy." in explain(node)


def test_a_stranger_means_the_timers_of_the_rfc(node: FakeDaemon) -> None:
    node.more = {
        "alarms": [{"name": "foreign-master", "since": 0, "subject": "web", "detail": "192.0.2.7"}]
    }
    text = explain(node)
    assert "stranger a router that is no node of this cluster speaks for this VRID" in text
    assert "this host takes over, about 3.6s after its last advert" in text


def test_nobody_could_take_over(node: FakeDaemon) -> None:
    node.instances = [LEADER]
    broken = replace(LB1, units=(said("web", State.FAULT, Reason.CHECK_FAILED, detail="nginx"),))
    left = replace(LB3, alive=False, left=True, units=())
    text = explain(
        node, broken, OWN_MASTER, left, member("lb4"), MemberSnapshot("lb5", False, None)
    )
    assert "this host were lost now: nobody could take over, the VIPs would be without" in text
    assert "not lb1: FAULT, check-failed (nginx)." in text
    assert "not lb3: it has left." in text
    assert "not lb4: its configuration has no such unit." in text
    assert "not lb5: never heard." in text


def test_equal_priorities_go_by_address(node: FakeDaemon) -> None:
    units = (said("web", priority=90),)
    text = explain(node, LB1, LB2, replace(LB3, units=units), member("lb4", *units))
    assert "2. lb4 (90), 3. lb3 (90); of equal priorities the higher cluster address" in text


def test_a_fault_waits_for_its_end(node: FakeDaemon) -> None:
    node.instances = [replace(FAULT, name="web", unit="web")]
    assert "waits for the end of its faults" in explain(node)


@pytest.mark.parametrize(
    ("weight", "told"),
    [
        (-60, "priority 90; lb1 with 120 asks for the mastership and gets it."),
        (-10, "priority 140, not below the 120 of lb1: it stays master."),
    ],
)
def test_what_a_failing_check_would_do_to_a_master(
    node: FakeDaemon, weight: int, told: str
) -> None:
    track = TrackSnapshot("nginx", TrackKind.CHECK, Health.HEALTHY, weight, False, 0)
    node.instances = [replace(LEADER, tracks=(track,))]
    assert f"if nginx fails: {told}" in explain(node, LB1_BACKUP, OWN_MASTER)


def test_discards_of_the_channel_are_told_but_for_copies(node: FakeDaemon) -> None:
    counters = {"wrong-key": 3, "stale": 1, "copy": 100, "body": 0, "future": 2}
    text = explain(node, discarded=counters)
    assert "3 messages discarded (wrong-key): signed with a key that this host does not" in text
    assert "1 message discarded (stale): about a mastership or a moment that is over" in text
    assert "2 messages discarded (future): future." in text
    assert "(copy)" not in text
    assert "(body)" not in text


def test_alarms_of_nodes_are_told_for_the_node(node: FakeDaemon) -> None:
    alarm = {"name": "drift", "since": 0, "subject": "lb3", "detail": "differs", "cure": "Copy it."}
    node.more = {"alarms": [alarm, alarm | {"name": "no-standby", "subject": "web"}]}
    text = explain(node)
    assert re.search(r"alarm lb3: drift for \w+: differs\. Copy it\.", text)
    assert text.count("no-standby") == 1


def test_the_step_between_candidates_is_the_cores() -> None:
    assert STEP_MS * MILLISECOND_NS == STEP_NS


def test_candidates_are_alive_fit_and_not_in_maintenance(node: FakeDaemon) -> None:
    assert node.cluster is not None
    node.cluster = replace(
        CLUSTER, members=(LB1, LB2, replace(LB3, maintenance=True), member("lb4", said("web")))
    )
    answer = CliRunner().invoke(app, ["status", "--json", "--config", str(node.config)])
    names = [each.node for each in candidates("web", json.loads(answer.output))]
    assert names == ["lb4", "lb2"]
