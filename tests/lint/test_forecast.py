"""What the nodes do when something fails, on a stage where nothing else goes wrong."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lint.rig import (
    EXAMPLE,
    cell,
    check,
    dead,
    files,
    instance,
    interface,
    masters,
    names,
    one_file,
    pair,
    unit_of,
)
from vipd.lint.layout import addresses_of, networks
from vipd.lint.members import load_cluster
from vipd.lint.report import as_json, examine_files
from vipd.lint.stage import Player, Stage
from vipd.model import SECOND_NS
from vipd.translate import OutgoingAdvert

NGINX = {"file": "/run/nginx.pid"}


def test_a_weight_moves_mastership_and_gives_it_back(tmp_path: Path) -> None:
    track = [{"check": "nginx", "weight": -60}]
    report = one_file(
        tmp_path, {"instances": {"web": instance(track=track)}, "checks": {"nginx": NGINX}}
    )
    assert unit_of(report).normally == ("lb1",)
    moved = cell(report, check("nginx", "lb1"))
    assert (moved.masters, moved.healed) == (("lb2",), ("lb1",))
    assert moved.standings["lb1"].effective == 90
    # one advert interval at most: the new priority is said at once
    assert moved.after_ns is not None
    assert moved.after_ns <= SECOND_NS
    assert masters(report, check("nginx", "lb2")) == ("lb1",)
    assert masters(report, check("nginx")) == ("lb1",)  # 90 against 40


def test_without_weight_a_failure_is_fault_and_who_fails_everywhere_is_nobody(
    tmp_path: Path,
) -> None:
    track = [{"check": "nginx"}]
    report = one_file(
        tmp_path, {"instances": {"web": instance(track=track)}, "checks": {"nginx": NGINX}}
    )
    assert masters(report, check("nginx", "lb1")) == ("lb2",)
    assert masters(report, check("nginx")) == ()
    heirless = cell(report, check("nginx", "lb1"))
    assert (heirless.dies, heirless.heirs) == ("lb2", ())


def test_reverse_fails_by_being_healthy(tmp_path: Path) -> None:
    track = [{"check": "drain", "reverse": True}]
    config = {"instances": {"web": instance(track=track)}, "checks": {"drain": NGINX}}
    report = one_file(tmp_path, config)
    assert unit_of(report).normally == ("lb1",)
    assert masters(report, check("drain", "lb1")) == ("lb2",)


def test_a_check_that_looks_at_an_interface_fails_with_it(tmp_path: Path) -> None:
    checks = {"uplink": {"interface": "eth1"}}
    track = [{"check": "uplink"}, {"interface": "eth1", "weight": -10}]
    report = one_file(tmp_path, {"instances": {"web": instance(track=track)}, "checks": checks})
    assert masters(report, interface("eth1", "lb1")) == ("lb2",)


def test_the_own_interface_takes_as_long_as_death(tmp_path: Path) -> None:
    report = one_file(tmp_path, {"instances": {"web": instance()}})
    lost = cell(report, interface("eth0", "lb1"))
    died = cell(report, dead("lb1"))
    assert lost.masters == died.masters == ("lb2",)
    assert lost.after_ns == died.after_ns
    assert died.healed == ("lb1",)
    assert interface("eth0") not in report.forecast.faults  # nobody would be left to serve


def test_interfaces_may_have_other_names_on_each_node(tmp_path: Path) -> None:
    places = {"lb1": "eth0", "lb2": "ens3"}
    report = one_file(tmp_path, {"instances": {"web": instance(interface=places)}})
    assert unit_of(report).normally == ("lb1",)
    assert masters(report, interface("ens3", "lb2")) == ("lb1",)
    assert masters(report, interface("eth0", "lb1")) == ("lb2",)


def test_a_group_moves_as_one(tmp_path: Path) -> None:
    web = instance(track=[{"interface": "eth1"}])
    api = instance(vrid=52, vips=["192.0.2.110/24"])
    groups = {"edge": {"instances": ["web", "api"], "track": [{"check": "nginx", "weight": -60}]}}
    config = {"instances": {"web": web, "api": api}, "groups": groups, "checks": {"nginx": NGINX}}
    report = one_file(tmp_path, config)
    assert [each.plan.name for each in report.forecast.units] == ["edge"]
    assert unit_of(report, "edge").normally == ("lb1",)
    assert masters(report, interface("eth1", "lb1"), "edge") == ("lb2",)
    assert masters(report, check("nginx", "lb1"), "edge") == ("lb2",)


def test_unicast_and_ipv6(tmp_path: Path) -> None:
    peers = {"lb1": ["192.0.2.12"], "lb2": ["192.0.2.11"]}
    six = instance(vrid=52, vips=["fe80::100/64", "2001:db8::100/64"])
    config = {"instances": {"web": instance(unicast_peers=peers), "six": six}}
    report = one_file(tmp_path, config)
    for unit in ("web", "six"):
        assert unit_of(report, unit).normally == ("lb1",)
        assert masters(report, dead("lb1"), unit) == ("lb2",)
    assert names(report) == []


def test_preempt_false_keeps_mastership_where_it_went(tmp_path: Path) -> None:
    report = one_file(tmp_path, {"instances": {"web": instance(preempt=False)}})
    assert unit_of(report).normally == ("lb1",)
    assert cell(report, dead("lb1")).healed == ("lb2",)
    assert cell(report, dead("lb1")).back_ns is None


def test_a_long_preempt_delay_is_played_short_and_told_in_full(tmp_path: Path) -> None:
    web = instance(preempt_delay="10m", track=[{"check": "nginx", "weight": -60}])
    config = {"instances": {"web": web}, "checks": {"nginx": NGINX}}
    before = time.process_time()
    report = one_file(tmp_path, config)
    assert time.process_time() - before < 5
    moved = cell(report, check("nginx", "lb1"))
    for duration in (moved.after_ns, moved.back_ns):
        assert duration is not None
        assert 600 * SECOND_NS < duration < 610 * SECOND_NS
    death = cell(report, dead("lb1"))
    assert death.after_ns is not None
    assert death.after_ns < 4 * SECOND_NS  # the delay is for live masters


def test_a_debounce_delays(tmp_path: Path) -> None:
    web = instance(track=[{"interface": "eth1", "debounce": "2s"}])
    report = one_file(tmp_path, {"instances": {"web": web}})
    moved = cell(report, interface("eth1", "lb1"))
    assert moved.after_ns is not None
    assert 2 * SECOND_NS < moved.after_ns < 3 * SECOND_NS


def test_a_number_is_not_failed(tmp_path: Path) -> None:
    web = instance(track=[{"check": "load", "weight": -1}])
    checks = {"load": {"file": "/run/load", "number": True}}
    report = one_file(tmp_path, {"instances": {"web": web}, "checks": checks})
    assert report.forecast.left_out == ("load",)
    assert check("load", "lb1") not in report.forecast.faults
    assert unit_of(report).standings["lb1"].effective == 150


def test_the_address_owner_is_master_at_once(tmp_path: Path) -> None:
    priority = {"lb1": 255, "lb2": 100}
    report = one_file(tmp_path, {"instances": {"web": instance(priority=priority)}})
    assert masters(report, dead("lb1")) == ("lb2",)
    assert cell(report, dead("lb1")).healed == ("lb1",)


def test_nodes_that_do_not_understand_each_other_are_both_master(tmp_path: Path) -> None:
    report = pair(tmp_path, {"vrid": 51}, {"vrid": 52})
    assert unit_of(report).normally == ("lb1", "lb2")
    assert report.failed


@pytest.mark.parametrize("checks", [10])
def test_three_nodes_with_many_checks_take_a_second_or_two(tmp_path: Path, checks: int) -> None:
    track: list[dict[str, Any]] = [{"check": f"c{n}", "weight": -60} for n in range(checks)]
    priority = {"lb1": 150, "lb2": 120, "lb3": 100}
    config = {
        "instances": {"web": instance(track=track, priority=priority)},
        "checks": {f"c{n}": NGINX for n in range(checks)},
    }
    before = time.process_time()
    report = one_file(tmp_path, config)
    assert time.process_time() - before < 10  # 0.8 s on an idle machine
    assert all(masters(report, check(f"c{n}", "lb1")) == ("lb2",) for n in range(checks))


def test_the_same_files_give_the_same_answer() -> None:
    assert as_json(examine_files([EXAMPLE])) == as_json(examine_files([EXAMPLE]))


def test_every_row_has_a_cell_for_every_unit() -> None:
    answer = as_json(examine_files([EXAMPLE]))
    assert answer["nodes"] == ["lb1", "lb2", "lb3"]
    for row in answer["rows"]:
        assert set(row["cells"]) == {"web", "api"}
    # 2 checks on 3 nodes and on all, eth0 on 3, eth1 on 3 and on all, 3 nodes
    assert len(answer["rows"]) == 2 * 4 + 3 + 4 + 3


def test_three_files_are_three_nodes(tmp_path: Path) -> None:
    report = files(
        tmp_path,
        lb1={"instances": {"web": instance(priority=150)}},
        lb2={"instances": {"web": instance(priority=120)}},
        lb3={"instances": {"web": instance(priority=100)}},
    )
    assert unit_of(report).normally == ("lb1",)
    death = cell(report, dead("lb1"))
    assert (death.masters, death.dies, death.heirs) == (("lb2",), "lb2", ("lb3",))


class Listener(Player):
    """A player that keeps what reaches it."""

    def arrive(self, interface: str, advert: OutgoingAdvert) -> None:
        self.heard = {*getattr(self, "heard", ()), interface}
        super().arrive(interface, advert)


def test_an_advert_stays_on_its_network(tmp_path: Path) -> None:
    """Two routers of one group may have one VRID, on two networks."""
    path = tmp_path / "vipd.yaml"
    path.write_text(yaml.safe_dump({"instances": {"web": instance(track=[{"interface": "eth1"}])}}))
    cluster = load_cluster([path])
    stage = Stage(networks(cluster))
    listeners = []
    for member in cluster.members:
        addresses = addresses_of(cluster, member, networks(cluster))
        listeners.append(Listener(stage, member.config, addresses, {}, ()))
        stage.enter(listeners[-1])
    for player in listeners:
        player.boot()
    stage.run(10 * SECOND_NS)
    assert listeners[1].heard == {"eth0"}
