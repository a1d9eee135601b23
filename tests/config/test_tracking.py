"""``track``, ``groups`` and ``notify``: values, every fault and warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.test_faults import FACTS, faults_of, web
from vipd.config.load import load_text
from vipd.duties import HookPlan, HookSet, Occasion
from vipd.model import SECOND_NS, GroupConfig, Track, TrackKind

CHECKS = "checks:\n  a: {file: /a}\n  b: {file: /b}\n"
API = "  api: {interface: eth0, vrid: 52, vips: [192.0.2.101/24]%s}\n"
EDGE = "groups:\n  edge: {instances: [web, api]%s}\n"


def both(web_lines: tuple[str, ...] = (), api: str = "", group: str = "", tail: str = "") -> str:
    """web and api in the group edge; ``api`` and ``group`` are more of their keys."""
    more = (f", {text}" if text else "" for text in (api, group))
    return web(*web_lines) + API % next(more) + EDGE % next(more) + tail


def tracks_of(entries: str, checks: str = CHECKS, node: str = "lb1") -> tuple[Track, ...]:
    loaded = load_text(web(f"track: {entries}") + checks, node=node)
    return loaded.node_config.instances[0].track


def check(
    name: str, weight: int | None = None, reverse: bool = False, waits: bool = False
) -> Track:
    return Track(TrackKind.CHECK, name, weight, reverse, waits)


def interface(name: str, weight: int | None = None, debounce_s: int = 0) -> Track:
    return Track(TrackKind.INTERFACE, name, weight, debounce_ns=debounce_s * SECOND_NS)


# --- tracks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "tracks"),
    [
        ("[]", ()),
        ("[{check: a}]", (check("a", waits=True),)),
        ("[{check: a, reverse: true}]", (check("a", reverse=True, waits=True),)),
        ("[{check: a, weight: -253}]", (check("a", -253),)),
        ("[{check: b, weight: 253, reverse: true}]", (check("b", 253, True),)),
        ("[{interface: eth1}]", (interface("eth1"),)),
        ("[{interface: eth1, weight: 9, debounce: 2s}]", (interface("eth1", 9, 2),)),
        ("[{interface: {lb1: eth1, lb2: eth2}}]", (interface("eth1"),)),
        ("[{check: b}, {check: a}]", (check("b", waits=True), check("a", waits=True))),
        ("[{check: a, weight: 5}, {check: a, weight: 5}]", (check("a", 5),)),
        ("[{interface: eth1}, {interface: {lb1: eth1}}]", (interface("eth1"),)),
    ],
)
def test_tracks(entries: str, tracks: tuple[Track, ...]) -> None:
    assert tracks_of(entries) == tracks


@pytest.mark.parametrize(
    ("initial", "without_weight", "with_weight"),
    [
        ("", True, False),
        (", initial: wait", True, True),
        (", initial: healthy", False, False),
        (", initial: unhealthy", False, False),
    ],
)
def test_which_tracks_wait(initial: str, without_weight: bool, with_weight: bool) -> None:
    checks = f"checks: {{a: {{file: /a{initial}}}}}\n"
    assert tracks_of("[{check: a}]", checks)[0].waits is without_weight
    assert tracks_of("[{check: a, weight: 5}]", checks)[0].waits is with_weight


FAULTS = [
    # track entry, key below the entry, problem, cure
    ("{}", "", "exactly one of check and interface", "give one"),
    ("{check: a, interface: eth1}", "", "exactly one of check and interface", "give one"),
    ("{check: aa}", ".check", "there is no check aa", "did you mean 'a'?"),
    ("{check: zz}", ".check", "there is no check zz", "write one of: a, b"),
    ("{check: a, weight: 0}", ".weight", "0 changes nothing", "-253 to 253, not 0"),
    ("{check: a, weight: 254}", ".weight", "out of range", "-253 to 253"),
    ("{check: a, weight: '5'}", ".weight", "not a whole number", "-253 to 253"),
    ("{check: a, reverse: yes}", ".reverse", "neither true nor false", "write true"),
    ("{check: a, debounce: 1s}", ".debounce", "belongs to tracked interfaces", "'rise'"),
    ("{interface: eth1, debounce: 1}", ".debounce", "no unit", "1s"),
    ("{interface: eth1, debounce: 2h}", ".debounce", "out of range", "0s to 1h"),
    ("{interface: {lb2: eth1}}", ".interface", "lb1 is missing", "add 'lb1:'"),
    ("{interface: eth0/1}", ".interface", "not an interface name", "ip link"),
    ("{script: a}", ".script", "unknown key", "possible here: check, interface"),
]


@pytest.mark.parametrize(("entry", "key", "problem", "cure"), FAULTS)
@pytest.mark.parametrize("owner", ["instances.web", "groups.edge"])
def test_one_fault(owner: str, entry: str, key: str, problem: str, cure: str) -> None:
    text = web(f"track: [{entry}]") + CHECKS if owner == "instances.web" else ""
    text = text or both(group=f"track: [{entry}]", tail=CHECKS)
    found = faults_of(text, facts=None)
    (fault,) = (
        item for item in found if "exactly" in problem or item.key == f"{owner}.track[0]{key}"
    )
    line = 6 if owner == "instances.web" else 8
    assert str(fault).startswith(f"vipd.yaml:{line}: {owner}.track[0]{key}: ")
    assert problem in fault.problem
    assert cure in fault.cure


def test_no_checks_at_all() -> None:
    (fault,) = faults_of(web("track: [{check: a}]"))
    assert fault.cure == "define it first"


def test_a_damaged_check_is_not_missing() -> None:
    (fault,) = faults_of(web("track: [{check: a}]") + "checks: {a: 7}\n")
    assert fault.key == "checks.a"


@pytest.mark.parametrize(
    ("first", "second", "label"),
    [
        ("{check: a}", "{check: a, weight: 5}", "a"),
        ("{check: a, weight: 5}", "{check: a, weight: 6}", "a"),
        ("{check: a, weight: 5}", "{check: a, weight: 5, reverse: true}", "a"),
        ("{interface: eth1}", "{interface: eth1, debounce: 1s}", "interface eth1"),
    ],
)
def test_one_thing_tracked_in_two_ways(first: str, second: str, label: str) -> None:
    (fault,) = faults_of(web(f"track: [{first}, {second}]") + CHECKS, facts=None)
    assert (fault.line, fault.key) == (6, "instances.web.track[1]")
    assert fault.problem == f"{label} is tracked in another way in line 6 (web)"
    assert "write weight, reverse and debounce alike, or remove one" in fault.cure


def test_an_interface_and_a_check_of_one_name_are_two_things() -> None:
    checks = "checks: {eth1: {file: /a}}\n"
    entries = "[{check: eth1, weight: 5}, {interface: eth1, weight: 6}]"
    assert tracks_of(entries, checks) == (check("eth1", 5), interface("eth1", 6))


def test_two_instances_may_track_one_check_differently() -> None:
    text = web("track: [{check: a}]") + API % ", track: [{check: a, weight: 5}]" + CHECKS
    assert len(load_text(text, node="lb1").node_config.instances) == 2


def test_a_group_counts_each_thing_once() -> None:
    own = "track: [{check: b, weight: 6}]"
    (fault,) = faults_of(
        both(("track: [{check: a}]",), "track: [{check: b, weight: 5}]", own, CHECKS), facts=None
    )
    assert (fault.line, fault.key) == (9, "groups.edge.track[0]")
    assert fault.problem == "b is tracked in another way in line 7 (api)"
    (fault,) = faults_of(
        both(("track: [{check: a}]",), "track: [{check: a, weight: 5}]", "", CHECKS)
    )
    assert (fault.line, fault.key) == (7, "instances.api.track[0]")
    same = "track: [{check: a}]"
    config = load_text(both((same,), same, same, CHECKS), node="lb1").node_config
    expected = (check("a", waits=True),)
    assert [item.track for item in config.instances] == [expected, expected]
    assert config.groups == (GroupConfig("edge", ("web", "api"), expected),)


@pytest.mark.parametrize(
    ("lines", "key", "problem"),
    [
        (("priority: 255", "track: [{check: a, weight: 5}]"), "", "never counts"),
        (("preempt: false", "track: [{check: a, weight: 5}]"), "", "no backup takes over"),
        (("preempt: false", "track: [{interface: eth1, weight: 5}]"), "", "no backup takes over"),
        (("preempt: false", "track: [{check: number}]"), "", "no backup takes over"),
        (("preempt: true", "track: [{interface: eth0}]"), "", "web's own interface"),
        (("preempt: true", "track: [{interface: {lb1: e1, lb9: e1}}]"), "", ""),
        (("priority: 255", "track: [{check: a}]"), "", ""),
        (("preempt: false", "track: [{check: a}]"), "", ""),
        (("priority: {lb1: 9, lb2: 8}", "track: [{interface: {lb1: e}}]"), ".interface", "lb2 is"),
    ],
)
@pytest.mark.parametrize("grouped", [False, True])
def test_warnings(lines: tuple[str, ...], key: str, problem: str, grouped: bool) -> None:
    tail = "checks: {a: {file: /a}, number: {file: /n, number: true}}\n"
    text = web(*lines) + ("groups: {edge: {instances: [web]}}\n" if grouped else "") + tail
    found = load_text(text, node="lb1").warnings
    warnings = [item for item in found if "nothing tracks it" not in item.problem]
    if not problem:
        assert warnings == []
        return
    (warning,) = warnings
    assert (warning.line, warning.key) == (7, f"instances.web.track[0]{key}")
    assert problem in warning.problem
    assert warning.cure


def test_a_groups_track_is_judged_by_its_members() -> None:
    group = "track: [{check: a, weight: 5}]"
    loaded = load_text(both(("preempt: false",), "preempt: false", group, CHECKS), node="lb1")
    warning = loaded.warnings[0]
    assert (warning.line, warning.key) == (9, "groups.edge.track[0]")
    assert "no backup takes over" in warning.problem


def test_a_tracked_interface_that_the_host_lacks() -> None:
    (warning,) = load_text(web("track: [{interface: eth7}]"), facts=FACTS, node="lb1").warnings
    assert (warning.line, warning.key) == (6, "instances.web.track[0].interface")
    assert warning.problem == "this host has no interface eth7 now"


# --- groups -----------------------------------------------------------------------------------


GROUP_FAULTS = [
    ("groups: {g: {instances: []}}\n", "groups.g.instances", "the group is empty"),
    ("groups: {g: {}}\n", "groups.g.instances", "the key is missing"),
    ("groups: {g: {instances: [w eb]}}\n", "groups.g.instances[0]", "not a name"),
    ("groups: {g: {instances: [wep]}}\n", "groups.g.instances[0]", "no instance wep"),
    ("groups: {g: {instances: [web, web]}}\n", "groups.g.instances[1]", "already in group g"),
    (
        "groups: {g: {instances: [web]}, h: {instances: [web]}}\n",
        "groups.h.instances[0]", "already in group g",
    ),
    ("groups: {web: {instances: [web]}}\n", "groups.web", "an instance has this name, too"),
]  # fmt: skip


@pytest.mark.parametrize(("tail", "key", "problem"), GROUP_FAULTS)
def test_group_faults(tail: str, key: str, problem: str) -> None:
    (fault,) = faults_of(web() + tail, facts=None)
    assert (fault.line, fault.key) == (6, key)
    assert problem in fault.problem
    assert fault.cure


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("priority", "90"),
        ("priority", "{lb1: 100, lb2: 90}"),
        ("preempt", "false"),
        ("preempt_delay", "1s"),
        ("advert_interval", "2s"),
        ("version", "2"),
    ],
)
def test_members_of_a_group_agree(key: str, value: str) -> None:
    (fault,) = faults_of(both(api=f"{key}: {value}"), facts=None)
    assert (fault.line, fault.key) == (6, f"instances.api.{key}")
    assert fault.problem == "it differs from that of web, in the same group"
    assert fault.cure == f"make {key} the same in all members of the group"


def test_agreement_is_judged_by_value() -> None:
    text = both(("priority: 100",), "priority: {lb1: 100, lb2: 100}")
    assert load_text(text, node="lb1").node_config.groups == (GroupConfig("edge", ("web", "api")),)


# --- hooks ------------------------------------------------------------------------------------

HOOKS = """\
notify:
      master: /m
      backup: [/b, -q]
      fault: /f 'a b'
      stop: /s
      leaving: /l
      any: /a
      timeout: 3s
      retries: 2
      user: vipd"""


def test_hooks_of_an_instance() -> None:
    assert load_text(web(HOOKS), node="lb1").duties.hooks == (
        HookPlan(
            "web",
            (
                HookSet(
                    kind="INSTANCE",
                    name="web",
                    commands={
                        Occasion.MASTER: ("/m",),
                        Occasion.BACKUP: ("/b", "-q"),
                        Occasion.FAULT: ("/f", "a b"),
                        Occasion.STOP: ("/s",),
                        Occasion.LEAVING: ("/l",),
                        Occasion.ANY: ("/a",),
                    },
                    timeout_ns=3 * SECOND_NS,
                    retries=2,
                    user="vipd",
                    vips=("192.0.2.100/24",),
                ),
            ),
        ),
    )


def test_hooks_of_a_group_come_after_those_of_its_members() -> None:
    hook = "notify: {any: /a}"
    duties = load_text(both((hook,), hook, hook), node="lb1").duties
    (plan,) = duties.hooks
    assert plan.unit == "edge"
    web_vip, api_vip = "192.0.2.100/24", "192.0.2.101/24"
    assert [(item.kind, item.name, item.vips) for item in plan.sets] == [
        ("INSTANCE", "web", (web_vip,)),
        ("INSTANCE", "api", (api_vip,)),
        ("GROUP", "edge", (web_vip, api_vip)),
    ]
    (own,) = load_text(both(group=hook), node="lb1").duties.hooks
    assert own == HookPlan("edge", (plan.sets[2],))
    assert (own.sets[0].timeout_ns, own.sets[0].retries, own.sets[0].user) == (
        10 * SECOND_NS, 0, None,
    )  # fmt: skip
    # Without hooks as well: when a reload gives it some, its role is known.
    assert load_text(both(), node="lb1").duties.hooks == (HookPlan("edge", ()),)


@pytest.mark.parametrize(
    ("notify", "key", "problem", "cure"),
    [
        ("{master: run}", "master", "'run' is not an absolute path", "/etc/vipd/hooks"),
        ("{mastr: /m}", "mastr", "unknown key", "'master'"),
        ("{any: /a, timeout: 10ms}", "timeout", "out of range", "100ms to 1h"),
        ("{any: /a, retries: -1}", "retries", "-1 is out of range", "0 to 100"),
        ("{any: /a, user: a b}", "user", "'a b' is not a user name", "user of this system"),
    ],
)
def test_hook_faults(notify: str, key: str, problem: str, cure: str) -> None:
    (fault,) = faults_of(web(f"notify: {notify}"), facts=None)
    assert str(fault).startswith(f"vipd.yaml:6: instances.web.notify.{key}: ")
    assert problem in fault.problem
    assert cure in fault.cure


def test_programs_of_hooks_are_judged_on_the_host(tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o777)
    notify = f"notify: {{master: {hook}, any: [/no/such, x]}}"
    group = "groups: {g: {instances: [web], notify: {stop: /no/stop, user: no-such-user}}}\n"
    found = faults_of(web(notify) + group, facts=FACTS)
    assert [(fault.line, fault.key) for fault in found] == [
        (6, "instances.web.notify.master"),
        (6, "instances.web.notify.any"),
        (7, "groups.g.notify.user"),
        (7, "groups.g.notify.stop"),
    ]
    assert found[0].problem.startswith(f"root would run {hook}, but /")
    assert found[1].problem.startswith("/no/such cannot be run")
    assert load_text(web(notify) + group, facts=None, node="lb1")


def test_a_damaged_user_is_not_taken_for_root(tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o777)
    (fault,) = faults_of(web(f"notify: {{any: {hook}, user: a b}}"), facts=FACTS)
    assert fault.key == "instances.web.notify.user"


@pytest.mark.parametrize(
    ("notify", "warned"),
    [
        ("{leaving: /l, timeout: 5100ms}", True),
        ("{leaving: /l, timeout: 5s}", False),
        ("{leaving: /l}", False),
        ("{master: /m, timeout: 1m}", False),
    ],
)
def test_leaving_has_five_seconds(notify: str, warned: bool) -> None:
    warnings = load_text(web(f"notify: {notify}"), node="lb1").warnings
    assert [item.key for item in warnings] == ["instances.web.notify.timeout"] * warned
    assert all("'leaving' is ended after 5s" in item.problem for item in warnings)
