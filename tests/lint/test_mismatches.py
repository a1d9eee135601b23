"""What the nodes' files say differently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.lint.rig import files, found, instance, names, one_file, pair, unit_of
from vipd.lint.findings import Severity

V2 = {"version": 2}
SECRETS = ("tellnone", "whisper")


def auth(secret: str) -> dict[str, Any]:
    return {"version": 2, "auth": {"type": "pass", "secret": secret}}


@pytest.mark.parametrize(
    ("name", "one", "two", "values"),
    [
        ("vrid-differs", {"vrid": 51}, {"vrid": 52}, ("52 on lb2", "51 on lb1")),
        ("version-differs", {"version": 3}, V2, ("2 on lb2", "3 on lb1")),
        ("auth-differs", auth(SECRETS[0]), auth(SECRETS[1]), ("lb2 and lb1 differ",)),
        ("auth-differs", auth(SECRETS[0]), V2, ("no password on lb2", "a password")),
        (
            "advert-interval-differs",
            {"advert_interval": "1s", **V2},
            {"advert_interval": "2s", **V2},
            ("2s on lb2", "1s on lb1"),
        ),
        (
            "unicast-mode-differs",
            {"unicast_peers": ["192.0.2.12"]},
            {},
            ("multicast on lb2", "unicast on lb1"),
        ),
        (
            "unicast-peers-differ",
            {"source": "192.0.2.11", "unicast_peers": ["192.0.2.12"]},
            {"source": "192.0.2.12", "unicast_peers": ["192.0.2.13"]},
            ("lb1 speaks from 192.0.2.11", "lb2 lists 192.0.2.13"),
        ),
        ("family-differs", {}, {"vips": ["fe80::1/64", "192.0.2.100/24"]}, ("IPv6 first on lb2",)),
        ("checksum-differs", {"checksum": "plain"}, {"checksum": "pseudo"}, ("pseudo on lb2",)),
        (
            "vips-differ",
            V2,
            {"vips": ["192.0.2.100/24", "192.0.2.101/24"], **V2},
            ("192.0.2.101 only on lb2",),
        ),
        (
            "advertised-list-differs",
            {"vips": ["192.0.2.100/24", "192.0.2.101/24"], **V2},
            {"vips": ["192.0.2.100/24", {"address": "192.0.2.101/24", "advertise": False}], **V2},
            ("192.0.2.100 advertised on lb2, 192.0.2.100, 192.0.2.101 on lb1",),
        ),
    ],
)
def test_what_makes_two_masters_is_an_error_and_makes_two_masters(
    tmp_path: Path, name: str, one: dict[str, Any], two: dict[str, Any], values: tuple[str, ...]
) -> None:
    report = pair(tmp_path, one, two)
    finding = found(report, name)
    assert finding.severity is Severity.ERROR
    assert report.failed
    for value in values:
        assert value in finding.fault.problem
    assert not any(secret in str(each) for each in report.findings for secret in SECRETS)
    # the words agree with what the nodes do
    assert unit_of(report).normally == ("lb1", "lb2")


def test_a_finding_says_where(tmp_path: Path) -> None:
    fault = found(pair(tmp_path, {"vrid": 51}, {"vrid": 52}), "vrid-differs").fault
    assert (fault.file, fault.key) == (str(tmp_path / "lb2.yaml"), "instances.web.vrid")
    line = (tmp_path / "lb2.yaml").read_text().splitlines()[fault.line - 1]
    assert line.strip() == "vrid: 52"
    assert f"{tmp_path}/lb1.yaml:4" in fault.cure


@pytest.mark.parametrize(
    ("name", "one", "two"),
    [
        ("advert-interval-differs", {"advert_interval": "1s"}, {"advert_interval": "2s"}),
        ("preempt-differs", {"preempt": True}, {"preempt": False}),
        ("prefix-differs", {}, {"vips": ["192.0.2.100/32"]}),
        ("track-differs", {"track": [{"interface": "eth1"}]}, {}),
        (
            "advertised-list-differs",
            {"vips": ["192.0.2.100/24", "192.0.2.101/24"]},
            {"vips": ["192.0.2.100/24", {"address": "192.0.2.101/24", "advertise": False}]},
        ),
    ],
)
def test_what_is_only_odd_is_a_warning(
    tmp_path: Path, name: str, one: dict[str, Any], two: dict[str, Any]
) -> None:
    report = pair(tmp_path, one, two)
    assert found(report, name).severity is Severity.WARNING
    assert not report.failed
    assert unit_of(report).normally == ("lb1",)


def test_the_order_of_vips_is_free(tmp_path: Path) -> None:
    vips = ["192.0.2.100/24", "192.0.2.101/24"]
    report = pair(tmp_path, {"vips": vips, **V2}, {"vips": vips[::-1], **V2})
    assert names(report) == []
    assert unit_of(report).normally == ("lb1",)


def test_a_vip_that_only_one_node_has(tmp_path: Path) -> None:
    report = pair(tmp_path, {"vips": ["192.0.2.100/24", "192.0.2.101/24"]}, {})
    assert "192.0.2.101 only on lb1" in found(report, "vips-differ").fault.problem
    assert report.failed


def test_the_same_router_under_two_names(tmp_path: Path) -> None:
    report = files(
        tmp_path,
        lb1={"instances": {"web": instance(priority=150)}},
        lb2={"instances": {"www": instance(priority=100)}},
    )
    finding = found(report, "name-differs")
    assert finding.fault.key == "instances.www"
    assert unit_of(report, "web").normally == ("lb1",)
    assert names(report) == ["name-differs"]


def test_a_vrid_of_two_services_on_one_network(tmp_path: Path) -> None:
    report = files(
        tmp_path,
        lb1={"instances": {"web": instance(priority=150)}},
        lb2={"instances": {"api": instance(priority=100, vips=["192.0.2.110/24"])}},
    )
    finding = found(report, "vrid-used-twice")
    assert "VRID 51 is api on lb2 and web on lb1" in finding.fault.problem
    assert names(report).count("instance-missing") == 2


def test_one_vrid_on_two_networks_is_fine(tmp_path: Path) -> None:
    both = {"web": instance(), "api": instance(interface="eth1", vips=["198.51.100.1/24"])}
    assert names(one_file(tmp_path, {"instances": both})) == []


def test_interfaces_that_are_crossed_on_purpose_are_two_networks(tmp_path: Path) -> None:
    lan, wan = {"lb1": "eth0", "lb2": "eth1"}, {"lb1": "eth1", "lb2": "eth0"}
    both = {
        "web": instance(interface=lan),
        "api": instance(interface=wan, vips=["198.51.100.1/24"]),
    }
    report = one_file(tmp_path, {"instances": both})
    assert names(report) == []
    assert unit_of(report, "api").normally == ("lb1",)


def test_two_owners(tmp_path: Path) -> None:
    config = {"instances": {"web": instance(priority={"lb1": 255, "lb2": 255})}}
    assert found(one_file(tmp_path, config), "two-owners").severity is Severity.ERROR


def test_a_group_that_is_not_the_same_everywhere(tmp_path: Path) -> None:
    both = {
        "web": instance(priority=150),
        "api": instance(vrid=52, vips=["192.0.2.110/24"], priority=150),
    }
    group = {"groups": {"edge": {"instances": ["web", "api"]}}}
    report = files(tmp_path, lb1={"instances": both, **group}, lb2={"instances": both})
    assert "no such group on lb2, api, web on lb1" in found(report, "group-differs").fault.problem
    assert [each.plan.name for each in report.forecast.units] == ["edge"]


def test_groups_with_other_names_are_one(tmp_path: Path) -> None:
    both = {
        "web": instance(priority=150),
        "api": instance(vrid=52, vips=["192.0.2.110/24"], priority=150),
    }
    one, two = ({"groups": {name: {"instances": ["web", "api"]}}} for name in ("edge", "rim"))
    report = files(tmp_path, lb1={"instances": both, **one}, lb2={"instances": both, **two})
    assert set(names(report)) == {"equal-priorities"}
    assert [each.plan.name for each in report.forecast.units] == ["edge"]


def test_a_node_that_nobody_lists(tmp_path: Path) -> None:
    peers = {"lb1": ["192.0.2.12"], "lb2": ["192.0.2.11"], "lb3": ["192.0.2.11", "192.0.2.12"]}
    web = instance(priority={"lb1": 150, "lb2": 120, "lb3": 100}, unicast_peers=peers)
    report = one_file(tmp_path, {"instances": {"web": web}})
    assert "no address of lb3" in found(report, "unicast-peers-differ").fault.problem
    assert unit_of(report).normally == ("lb1", "lb3")
