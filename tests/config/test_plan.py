"""The plan of a reload: what starts anew, what is tracked, checked and run from then on."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from vipd.config.diff import plan
from vipd.config.load import Loaded, load_text
from vipd.duties import CheckConfig, HookSet, HttpProbe, Initial
from vipd.ipc import Compiled, CompileWanted
from vipd.supervisor.compile import compile_file

WEB = "  web: {interface: eth0, vrid: 51, vips: [192.0.2.100/24]}\n"
API = "  api: {interface: eth0, vrid: 52, vips: [192.0.2.101/24]}\n"
APART = f"instances:\n{WEB}{API}"
TOGETHER = f"{APART}groups: {{edge: {{instances: [web, api]}}}}\n"
ROUTER_WEB = "VRRPv3 IPv4 VRID 51 on eth0, 192.0.2.100/24 on eth0"
RELEASES_WEB = "releases 192.0.2.100/24 on eth0"
RELEASES_API = "releases 192.0.2.101/24 on eth0"
KEPT = ("web: kept, unchanged", "api: kept, unchanged")


def load(text: str) -> Loaded:
    return load_text(text, node="lb1")


def planned(old: str, new: str) -> tuple[str, ...]:
    before, after = load(old), load(new)
    return plan(before.node_config, after.node_config, before.duties, after.duties)


def test_a_renamed_instance_is_a_handover() -> None:
    assert planned(APART, APART.replace(" web:", " site:")) == (
        f"site: new: {ROUTER_WEB}; this is web renamed, a full handover: web releases first",
        "api: kept, unchanged",
        f"web: removed: {RELEASES_WEB}",
    )


def test_another_router_under_another_name_is_no_rename() -> None:
    new = APART.replace(" web:", " site:").replace("vrid: 51", "vrid: 53")
    assert planned(APART, new)[0] == f"site: new: {ROUTER_WEB.replace('51', '53')}"


def test_a_new_owner_or_new_peers_start_anew() -> None:
    owner = APART.replace("vrid: 51,", "vrid: 51, priority: 255,")
    assert planned(APART, owner)[:2] == (
        f"web: restarted: priority 255 means address owner; {RELEASES_WEB} first",
        "web: priority 100 -> 255",
    )
    peers = APART.replace("vrid: 51,", "vrid: 51, unicast_peers: [10.0.0.1],")
    assert planned(APART, peers)[:2] == (
        f"web: restarted: other unicast_peers; {RELEASES_WEB} first",
        "web: unicast_peers none (multicast) -> 10.0.0.1",
    )


def test_joining_and_leaving_a_group() -> None:
    assert planned(TOGETHER, TOGETHER) == KEPT
    assert planned(APART, TOGETHER) == (
        f"web: restarted: joins group edge; {RELEASES_WEB} first",
        f"api: restarted: joins group edge; {RELEASES_API} first",
        "group edge: new: web, api move together",
    )
    assert planned(TOGETHER, APART) == (
        f"web: restarted: leaves group edge; {RELEASES_WEB} first",
        f"api: restarted: leaves group edge; {RELEASES_API} first",
        "group edge: removed: web, api no longer move together",
    )
    assert planned(TOGETHER, TOGETHER.replace("{edge:", "{rim:"))[0] == (
        f"web: restarted: leaves group edge and joins group rim; {RELEASES_WEB} first"
    )


def test_the_rest_of_a_group_starts_anew_with_the_member_that_changes() -> None:
    assert planned(TOGETHER, TOGETHER.replace("[web, api]", "[web]")) == (
        f"web: restarted: the routers of its group edge change; {RELEASES_WEB} first",
        f"api: restarted: leaves group edge; {RELEASES_API} first",
        "group edge: instances web, api -> web",
    )
    assert planned(TOGETHER, TOGETHER.replace("vrid: 52", "vrid: 53")) == (
        f"web: restarted: the routers of its group edge change; {RELEASES_WEB} first",
        "api: restarted: VRRPv3 IPv4 VRID 52 on eth0 -> VRRPv3 IPv4 VRID 53 on eth0; "
        f"{RELEASES_API} first",
    )
    in_place = TOGETHER.replace("[web, api]", "[api, web]")
    assert planned(TOGETHER, in_place) == (*KEPT, "group edge: instances web, api -> api, web")


def test_tracks() -> None:
    checks = "checks: {a: {file: /a}, b: {file: /b}}\n"
    track = "track: [{check: a}, {interface: eth1, debounce: 2s, weight: 9}]"
    old = APART.replace("vrid: 51,", f"vrid: 51, {track},") + checks
    track = "track: [{check: a, weight: -9, reverse: true}, {check: b}]"
    new = APART.replace("vrid: 51,", f"vrid: 51, {track},") + checks
    assert planned(old, new)[:-1] == (
        "web: track interface eth1 removed",
        "web: track a: no weight, waited for -> weight -9, reversed",
        "web: track b added: no weight, waited for",
    )
    tracking = TOGETHER.replace("api]", "api], track: [{interface: eth1, debounce: 2s, weight: 9}]")
    line = "group edge: track interface eth1 added: weight +9, debounce 2s"
    assert planned(TOGETHER, tracking) == (*KEPT, line)
    assert planned(APART, tracking)[-1] == line


PROBES = [
    ("http: 'http://h/'", "http http://h/"),
    ("script: /bin/true --password=hunter2", "script /bin/true"),
    ("tcp: '[::1]:80'", "tcp ::1 port 80"),
    ("ping: 192.0.2.1", "ping 192.0.2.1"),
    ("process: nginx", "process nginx"),
    ("file: /run/x", "file /run/x"),
    ("interface: eth1", "interface eth1"),
    ("systemd: nginx", "systemd nginx.service"),
]


@pytest.mark.parametrize(("probe", "shown"), PROBES)
def test_checks_come_change_and_go(probe: str, shown: str) -> None:
    one = f"{APART}checks: {{a: {{{probe}}}}}\n"
    assert planned(APART, one) == (*KEPT, f"check a: new: {shown}, every 1s")
    assert planned(one, APART) == (*KEPT, "check a: removed")
    other = f"{APART}checks: {{a: {{file: /other, interval: 2s, fall: 4, initial: healthy}}}}\n"
    assert planned(one, other) == (
        *KEPT,
        f"check a: {shown} -> file /other",
        "check a: interval 1s -> 2s",
        "check a: fall 3 -> 4",
        "check a: initial wait -> healthy",
    )


def test_options_of_a_check_are_not_repeated() -> None:
    old = f"{APART}checks: {{a: {{http: 'http://h/', headers: {{Authorization: hunter1}}}}}}\n"
    lines = planned(old, old.replace("hunter1", "hunter2"))
    assert lines == (*KEPT, "check a: options of http http://h/ changed")


def test_every_field_of_a_check_is_seen() -> None:
    loaded = load(f"{APART}checks: {{a: {{http: 'http://h/'}}}}\n")
    (check,) = loaded.duties.checks
    others = {"interval_ns": 9, "timeout_ns": 9, "rise": 9, "fall": 9}
    others["initial"] = Initial.HEALTHY
    assert set(others) == {field.name for field in fields(CheckConfig)} - {"name", "probe"}
    probes = [
        replace(check.probe, **{field.name: "other"})
        for field in fields(HttpProbe)
        if field.name != "headers"
    ]
    changed = [replace(check, probe=probe) for probe in probes]
    changed += [replace(check, **{name: value}) for name, value in others.items()]
    for other in changed:
        duties = replace(loaded.duties, checks=(other,))
        lines = plan(loaded.node_config, loaded.node_config, loaded.duties, duties)
        assert len(lines) == 3, other


def test_hooks() -> None:
    old = APART.replace("vrid: 51,", "vrid: 51, notify: {master: /m, fault: /f x, any: /a y},")
    terms = "timeout: 3s, retries: 2, user: vipd"
    notify = f"notify: {{master: /n, fault: /f z, stop: /s, {terms}}}"
    new = APART.replace("vrid: 51,", f"vrid: 51, {notify},")
    assert planned(old, new) == (
        *KEPT,
        "web: notify.master /m -> /n",
        "web: notify.fault /f -> /f with other arguments",
        "web: notify.any removed",
        "web: notify.stop added: /s",
        "web: notify.timeout 10s -> 3s",
        "web: notify.retries 0 -> 2",
        "web: notify.user root -> vipd",
    )
    assert planned(APART, new)[-2:] == ("web: notify.fault added: /f", "web: notify.stop added: /s")
    assert planned(new, APART)[-1] == "web: notify.stop removed"
    grouped = TOGETHER.replace("api]", "api], notify: {any: /a}")
    assert planned(TOGETHER, grouped) == (*KEPT, "group edge: notify.any added: /a")
    assert {field.name for field in fields(HookSet)} == {
        "kind", "name", "commands", "timeout_ns", "retries", "user", "vips",
    }  # fmt: skip


def test_without_duties_only_the_engines_part_is_compared() -> None:
    one = load(f"{APART}checks: {{a: {{file: /x}}}}\n")
    assert plan(load(APART).node_config, one.node_config) == KEPT


def test_the_child_that_reads_the_file_hands_over_duties_and_plan(tmp_path: Path) -> None:
    config = tmp_path / "vipd.yaml"
    config.write_text(f"node: lb1\n{APART}checks: {{a: {{file: /x}}}}\n")
    old = load(APART)
    compiled = compile_file(CompileWanted(str(config), 2, old.node_config, old.duties))
    assert isinstance(compiled, Compiled)
    assert [check.name for check in compiled.duties.checks] == ["a"]
    assert compiled.changes == (*KEPT, "check a: new: file /x, every 1s")
    first = compile_file(CompileWanted(str(config), 1))
    assert isinstance(first, Compiled)
    assert (first.changes, first.duties) == ((), compiled.duties)
