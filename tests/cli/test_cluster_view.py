"""The cluster in ``vipd status``: every node from any node, what needs an eye first."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
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
    WITNESS,
    FakeDaemon,
    member,
    said,
    vipd,
)
from vipd.cli import cluster
from vipd.cli.app import app
from vipd.cli.tables import screen
from vipd.model import SECOND_NS, Reason, State
from vipd.snapshots import ClusterSnapshot, MemberSnapshot, PathSnapshot, PinSnapshot


@pytest.fixture
def node(daemon: FakeDaemon) -> FakeDaemon:
    daemon.instances = [FOLLOWER]
    daemon.cluster = CLUSTER
    return daemon


def status(daemon: FakeDaemon, *options: str) -> str:
    result = CliRunner().invoke(app, ["status", "--config", str(daemon.config), *options])
    assert result.exit_code == 0, result.output
    return result.output


def shown(daemon: FakeDaemon) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(status(daemon, "--json"))
    return value


def drawn(daemon: FakeDaemon, width: int = 80, most_rows: int | None = None) -> list[str]:
    stream = StringIO()
    console = Console(file=stream, width=width, highlight=False)
    console.print(screen(shown(daemon), time.time(), width, most_rows))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def lost(each: MemberSnapshot, seconds: int = 12) -> MemberSnapshot:
    then = NOW_NS - seconds * SECOND_NS
    paths = tuple(replace(path, last_heard_ns=then) for path in each.paths)
    return replace(each, alive=False, last_heard_ns=then, paths=paths)


def of(*members: MemberSnapshot, **more: Any) -> ClusterSnapshot:
    return replace(CLUSTER, members=members, **more)


# --- JSON ---------------------------------------------------------------------------------------


def test_plain_mode_has_no_cluster_and_no_pins(daemon: FakeDaemon) -> None:
    value = shown(daemon)
    assert (value["cluster"], value["pin"]) == (None, {})
    assert value["instances"]["web"]["term"] == 0
    assert value["instances"]["web"]["handing_to"] is None


def test_json_of_a_node(node: FakeDaemon) -> None:
    value = shown(node)["cluster"]
    assert (value["name"], value["heartbeat_timeout_ms"]) == ("shop", 1000)
    assert value["nodes"]["lb1"] == {
        **{"alive": True, "last_heard_ms": 40.0, "priority": 150, "self": False, "left": False},
        **{"software": "1.2.3", "wire_version": 2, "incarnation": 9, "maintenance": False},
        "drifted": False,
        "paths": [
            {"address": "10.0.0.1", "last_heard_ms": 40.0},
            {"address": "10.0.1.1", "last_heard_ms": 40.0},
        ],
        "units": {
            "web": {
                **{"state": "MASTER", "reason": "master-silent", "detail": "", "term": 7},
                "priority": {"base": 150, "effective": 150},
                **{"master": "lb1", "since": None},
            }
        },
    }
    assert value["nodes"]["lb2"]["self"]
    assert value["discarded"]["stale"] == 0


def test_a_node_with_several_units_has_no_single_priority(node: FakeDaemon) -> None:
    node.cluster = of(replace(LB1, units=(said("web"), said("api"))), LB2)
    assert shown(node)["cluster"]["nodes"]["lb1"]["priority"] is None


def test_json_of_witnesses_and_pins(node: FakeDaemon) -> None:
    ends = NOW_NS + 60 * SECOND_NS
    node.cluster = of(
        LB1,
        LB2,
        WITNESS,
        pins=(PinSnapshot("web", "lb1", 3, ends), PinSnapshot("api", "", 4, None)),
    )
    value = shown(node)
    assert value["cluster"]["witnesses"] == {
        "w1": {"alive": False, "last_heard_ms": None, "priority": None}
    }
    assert "w1" not in value["cluster"]["nodes"]
    assert set(value["pin"]) == {"web"}  # a pin that names nobody is none
    assert (value["pin"]["web"]["node"], value["pin"]["web"]["version"]) == ("lb1", 3)
    assert value["pin"]["web"]["until"] == pytest.approx(time.time() + 60, abs=5)


def test_json_of_a_wish_for_mastership(node: FakeDaemon) -> None:
    asks = NOW_NS + 2 * SECOND_NS
    node.instances = [replace(FOLLOWER, handing_to="lb3", refused_for="busy", asks_at_ns=asks)]
    web = shown(node)["instances"]["web"]
    assert (web["handing_to"], web["refused_for"]) == ("lb3", "busy")
    assert web["timers"]["asks_in_ms"] == 2000.0


# --- the tables ---------------------------------------------------------------------------------


def test_every_node_and_what_it_says_of_every_unit(node: FakeDaemon) -> None:
    lines = status(node).splitlines()
    assert lines[1] == "cluster shop: 3 nodes, all heard"
    assert lines[2].split(maxsplit=4) == [
        "NODE",
        "HEARD",
        "PATHS",
        "SOFTWARE",
        "MASTER OF  REMARKS",
    ]
    assert lines[3].split() == ["lb1", "0.0s", "ago", "2/2", "1.2.3", "web"]
    assert lines[4].split() == ["lb2", "this", "host", "1.2.3"]
    assert lines[7].split() == ["UNIT", "NODE", "STATE", "PRIO", "WHY"]
    assert lines[8].split() == ["web", "lb1", "MASTER", "150", "master-silent,", "term", "7"]
    assert lines[9].split() == ["web", "lb2", "BACKUP", "100", "higher-priority-heard"]
    assert lines[10].split() == ["web", "lb3", "BACKUP", "90", "higher-priority-heard"]
    assert "on this node, lb2:" in lines
    assert lines[-1].startswith("web")


def test_a_lost_node_is_not_shown_as_the_present(node: FakeDaemon) -> None:
    node.cluster = of(lost(LB1), LB2, LB3)
    lines = status(node).splitlines()
    assert lines[1] == "cluster shop: 3 nodes, 1 lost (lb1)"
    assert "lost 12s ago" in lines[3]
    assert lines[3].split() == ["lb1", "lost", "12s", "ago", "0/2", "1.2.3"]  # master of nothing
    assert lines[8].split()[:3] == ["web", "lb1", "lost"]
    assert "its last word: MASTER, master-silent" in lines[8]
    assert "NO MASTER: web: no node that is heard is its master" in lines


def test_a_node_that_left_and_one_never_heard(node: FakeDaemon) -> None:
    gone = replace(lost(LB1), left=True, units=())
    never = MemberSnapshot("lb3", False, None, paths=(PathSnapshot("10.0.0.3", None),))
    node.cluster = of(gone, LB2, never)
    lines = status(node).splitlines()
    assert lines[1] == "cluster shop: 3 nodes, 1 left (lb1), 1 never heard (lb3)"
    assert "left 12s ago" in lines[3]
    assert lines[5].split() == ["lb3", "never", "0/1"]


def test_what_an_engine_said_long_ago_has_grown_older(node: FakeDaemon) -> None:
    node.more = {"age_ms": 30_000.0}
    assert "30s ago" in status(node).splitlines()[3]


def test_remarks_of_a_node(node: FakeDaemon) -> None:
    then = NOW_NS - 12 * SECOND_NS
    paths = (PathSnapshot("10.0.0.1", NOW_NS), PathSnapshot("10.0.1.1", then))
    node.cluster = of(replace(LB1, paths=paths, maintenance=True, drifted=True), LB2)
    row = status(node).splitlines()[3]
    assert " 1/2 " in row
    assert row.endswith("maintenance, configuration differs, 10.0.1.1 silent 12s")


def test_a_witness_is_listed_as_one(node: FakeDaemon) -> None:
    node.cluster = of(LB1, LB2, WITNESS)
    assert "witness, not in use yet" in status(node)


def test_two_masters_are_shouted(node: FakeDaemon) -> None:
    node.cluster = of(LB1, LB2, replace(LB3, units=(said("web", State.MASTER),)))
    assert "TWO MASTERS: web: lb1, lb3 both say that they are" in status(node)


def test_a_backup_that_follows_another_master_says_so(node: FakeDaemon) -> None:
    node.cluster = of(LB1, LB2, replace(LB3, units=(said("web", master="lb9"),)))
    assert "higher-priority-heard; follows lb9" in status(node)
    node.cluster = of(LB1, LB2, replace(LB3, units=(said("web", master=""),)))
    assert "higher-priority-heard; knows no master" in status(node)


def test_a_handover_and_a_pin_are_told(node: FakeDaemon) -> None:
    node.cluster = of(LB1, LB2, pins=(PinSnapshot("web", "lb1", 3, None),))
    node.instances = [replace(FOLLOWER, handing_to="lb1")]
    output = status(node)
    assert "HANDOVER: web: on its way to lb1" in output
    assert "PIN: web: put on lb1 until it is ended, or until that node fails" in output


def test_a_unit_that_a_node_does_not_have(node: FakeDaemon) -> None:
    node.cluster = of(LB1, LB2, member("lb3"))
    assert "does not list it" in status(node)


def test_it_fits_80_columns_and_names_the_unit_once(node: FakeDaemon) -> None:
    node.cluster = of(
        LB1, LB2, replace(LB3, units=(said("web", State.FAULT, Reason.CHECK_FAILED),)), WITNESS
    )
    lines = drawn(node)
    assert max(map(len, lines)) <= 80
    rows = lines[next(i for i, line in enumerate(lines) if line.startswith("UNIT")) + 1 :][:3]
    assert [row[:6].strip() for row in rows] == ["web", "", ""]
    assert "check-failed" in rows[2]


# --- many units ---------------------------------------------------------------------------------

UNITS = [f"vip-{number:02}" for number in range(60)]


def crowd(name: str, ours: range, **more: Any) -> MemberSnapshot:
    states = [State.MASTER if number in ours else State.BACKUP for number in range(len(UNITS))]
    return member(name, *map(said, UNITS, states), **more)


@pytest.fixture
def many(node: FakeDaemon) -> FakeDaemon:
    node.cluster = of(crowd("lb1", range(30)), crowd("lb2", range(30, 60), is_self=True, paths=()))
    node.instances = [
        replace(FOLLOWER if number < 30 else MASTER, name=unit, unit=unit)
        for number, unit in enumerate(UNITS)
    ]
    return node


def test_units_alike_share_a_block_where_there_are_many(many: FakeDaemon) -> None:
    lines = drawn(many, most_rows=40)
    assert len(lines) < 24
    assert any(line.startswith("30 units: vip-00, vip-01 and") for line in lines)
    assert (
        "30 BACKUP, 30 MASTER, all VIPs as they should be; `vipd status --all` lists them" in lines
    )
    assert lines[4].split() == ["lb1", "0.0s", "ago", "2/2", "1.2.3", "30", "units"]


def test_what_needs_an_eye_comes_first_and_by_name(many: FakeDaemon) -> None:
    assert many.cluster is not None
    first, own = many.cluster.members
    units = list(own.units)
    units[7] = said("vip-07", State.FAULT, Reason.CHECK_FAILED, detail="nginx")
    many.cluster = of(first, replace(own, units=tuple(units)))
    many.instances[7] = replace(FAULT, name="vip-07", unit="vip-07")
    blocks = cluster.blocks(shown(many), 40)
    assert (blocks[0].units, blocks[0].is_usual) == (("vip-07",), False)
    assert [len(block.units) for block in blocks] == [1, 29, 30]
    assert blocks[0].rows[1].why == "check-failed (nginx)"
    assert sum("vip-07" in line for line in drawn(many, most_rows=40)) == 3  # unit, instance, FAULT


@pytest.mark.parametrize("masters", [0, 2])
def test_a_unit_without_one_master_is_unusual(node: FakeDaemon, masters: int) -> None:
    states = [State.MASTER] * masters + [State.BACKUP] * (2 - masters)
    nodes = [
        member(name, said("web", state)) for name, state in zip(("a", "b"), states, strict=True)
    ]
    node.cluster = of(*nodes)
    (block,) = cluster.blocks(shown(node))
    assert not block.is_usual
    node.cluster = of(member("a", said("web", State.MASTER)), member("b", said("web")))
    (block,) = cluster.blocks(shown(node))
    assert block.is_usual


def test_trouble_of_all_units_is_told_once(many: FakeDaemon) -> None:
    assert many.cluster is not None
    first, own = many.cluster.members
    many.cluster = of(lost(first), own)
    assert cluster.unit_lines(shown(many), time.time()) == [
        "NO MASTER: vip-00, vip-01, vip-02, vip-03, vip-04, vip-05 and 24 more: no node that is "
        "heard is its master"
    ]


def test_a_pipe_gets_every_unit(many: FakeDaemon) -> None:
    """It may lead to grep."""
    assert sum(line.startswith("vip-59 ") for line in status(many).splitlines()) == 3


def test_a_few_units_are_shown_one_by_one(node: FakeDaemon) -> None:
    assert [block.units for block in cluster.blocks(shown(node), 40)] == [("web",)]


# --- for monitoring -----------------------------------------------------------------------------


def test_check_fails_for_an_alarm_of_the_cluster(node: FakeDaemon) -> None:
    alarm = {
        "name": "no-standby",
        "since": 0,
        "subject": "web",
        "detail": "lb3 is lost",
        "cure": "",
    }
    node.more = {"alarms": [alarm]}
    result = vipd("status", "--check", "--config", node.config)
    assert result.returncode == 1
    assert result.stderr == "wrong: alarm no-standby (web: lb3 is lost)\n"


def test_check_of_a_healthy_cluster_is_silent(node: FakeDaemon) -> None:
    result = vipd("status", "--check", "--config", node.config)
    assert (result.returncode, result.stderr) == (0, "")
