"""Bad files: each fault at its line and key, with what is wrong and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from vipd.config.load import HostFacts, load, load_text
from vipd.errors import ConfigError, ConfigFault
from vipd.model import ADDRESS_TAG, HostAddress, Link, parse_address

FACTS = HostFacts(
    links=(
        Link(1, "lo", True, b"", 65536),
        Link(2, "eth0", True, b"\2\0\0\0\0\1", 1500),
        Link(3, "small", True, b"\2\0\0\0\0\2", 68),
    ),
    addresses=(
        HostAddress(2, parse_address("192.0.2.11"), 24),
        HostAddress(2, parse_address("192.0.2.200"), 24),
        HostAddress(2, parse_address("192.0.2.201"), 24, tag=ADDRESS_TAG),
    ),
)


def web(*lines: str, vips: str = "[192.0.2.100/24]", vrid: str = "51") -> str:
    """A good instance in lines 1 to 5; ``lines`` follow from line 6."""
    body = f"instances:\n  web:\n    interface: eth0\n    vrid: {vrid}\n    vips: {vips}\n"
    return body + "".join(f"    {line}\n" for line in lines)


def faults_of(text: str, facts: HostFacts | None = FACTS) -> tuple[ConfigFault, ...]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, facts=facts, node="lb1")
    return caught.value.faults


MANY_V4 = "[" + ", ".join(f"10.0.{i // 200}.{i % 200 + 1}" for i in range(256)) + "]"
MANY_V6 = "[fe80::1, " + ", ".join(f"2001:db8::{i:x}" for i in range(1, 92)) + "]"

ONE_FAULT = [
    # text, line, key, problem, cure
    ("", 1, "", "the file is empty", "instances:"),
    ("# nothing\n", 1, "", "the file is empty", "instances:"),
    ("~", 1, "", "the file is empty", "instances:"),
    ("- 1\n", 1, "", "not a mapping", "instances:"),
    ("log: {}\n", 1, "instances", "missing", "add 'instances:'"),
    ("instances: {}\n", 1, "instances", "there is no instance", "add one"),
    ("instances:\n", 1, "instances", "nothing is not a mapping", "indented"),
    ("instances: [\n", 2, "", "not valid YAML", "syntax"),
    ("a: b: c\n", 1, "", "not valid YAML", "syntax"),
    ("\tinstances: 1\n", 1, "", "not valid YAML", "syntax"),
    ("x: \x07\n", 1, "", "U+0007", "remove it"),
    ('x: "\\UFFFFFFFF"\n', 1, "", "a bad escape", "code point"),
    ("a: *b\n", 1, "a", "*b is not defined", "&b"),
    ("a: &b [*b]\n", 1, "a[0]", "inside the value that it repeats", "after"),
    ("? [1]\n: 2\n", 1, "", "a key must be plain text", "plain word"),
    (web("version: 3", "version: 3"), 7, "instances.web.version", "twice, first in line 6", "keep"),
    (web() + "---\n{}\n", 6, "", "a second document", "one document"),
    (web("vrrid: 3"), 6, "instances.web.vrrid", "unknown key", "did you mean 'vrid'?"),
    (web("advert_int: 1"), 6, "instances.web.advert_int", "unknown key", "advert_interval"),
    (web("zzz: 1"), 6, "instances.web.zzz", "unknown key", "possible here: interface, vrid"),
    (web("priority: high"), 6, "instances.web.priority", "'high' is not a whole", "1 to 255"),
    (web("priority: true"), 6, "instances.web.priority", "true is not a whole", "1 to 255"),
    (web("priority: 0"), 6, "instances.web.priority", "0 is out of range", "1 to 255"),
    (web("priority: 256"), 6, "instances.web.priority", "256 is out of range", "1 to 255"),
    (web("priority: {lb2: 9}"), 6, "instances.web.priority", "lb1 is missing", "add 'lb1:'"),
    (web("priority: {}"), 6, "instances.web.priority", "lb1 is missing", "add 'lb1:'"),
    (web("priority:", "  lb1: 9", "  lb2: x"), 8, "instances.web.priority.lb2", "'x' is", "whole"),
    (web("priority: {lb1: 9, l/2: 8}"), 6, "instances.web.priority.l/2", "not a node name", "1 to"),
    (web("version: 4", "advert_interval: 50s"), 6, "instances.web.version", "4 is not", "2 or 3"),
    (web("version: 2", "auth:", "  type: pass"), 7, "instances.web.auth", "no secret", "give one"),
    (web("version: 4"), 6, "instances.web.version", "4 is not possible", "2 or 3"),
    (web("preempt: yes"), 6, "instances.web.preempt", "neither true nor false", "write true"),
    (web("checksum: on"), 6, "instances.web.checksum", "'on' is not", "auto, pseudo or plain"),
    (web("advert_interval: 1"), 6, "instances.web.advert_interval", "no unit", "1s or 1ms"),
    (web("advert_interval: 1 s"), 6, "instances.web.advert_interval", "not a duration", "500ms"),
    (web("advert_interval: 5ms"), 6, "instances.web.advert_interval", "out of range", "10ms"),
    (web("advert_interval: 41s"), 6, "instances.web.advert_interval", "too long", "40.95s"),
    (web("advert_interval: 15ms"), 6, "instances.web.advert_interval", "steps of 10ms", "10ms"),
    (
        web("version: 2", "advert_interval: 500ms"),
        7, "instances.web.advert_interval", "whole seconds", "version: 3",
    ),
    (
        web("version: 2", "advert_interval: 1.5s"),
        7, "instances.web.advert_interval", "1.5s is not possible", "1s to 255s",
    ),
    (web("auth: {type: pass, secret: abc}"), 6, "instances.web.auth", "version 3", "version: 2"),
    (web("version: 2", "auth: {type: pass}"), 7, "instances.web.auth", "no secret", "give one"),
    (web("version: 2", "auth: {type: ah}"), 7, "instances.web.auth.type", "this is", "pass"),
    (
        web("version: 2", "auth:", "  type: pass", "  secret_file: no/such"),
        9, "instances.web.auth.secret_file", "cannot be read: No such file", "mode 0600",
    ),
    (web("source: 2001:db8::1"), 6, "instances.web.source", "other family", "IPv4"),
    (web("source: 192.0.2.100"), 6, "instances.web.source", "one of the VIPs", "always has"),
    (web("source: 192.0.2.11/24"), 6, "instances.web.source", "not an IP", "without prefix"),
    (web("source: fe80::1%eth0"), 6, "instances.web.source", "has a zone", "'fe80::1'"),
    (web("unicast_peers: [192.0.2.11]"), 6, "instances.web.unicast_peers[0]", "own", "per node"),
    (
        web("source: 10.0.0.9", "unicast_peers:", "  - 10.0.0.8", "  - 10.0.0.9"),
        9, "instances.web.unicast_peers[1]", "own address", "remove it",
    ),
    (
        web("unicast_peers: {lb1: [10.0.0.1, '::1']}"),
        6, "instances.web.unicast_peers.lb1[1]", "other family", "IPv4",
    ),
    (
        web("unicast_peers: [10.0.0.1, 10.0.0.1]"),
        6, "instances.web.unicast_peers[1]", "listed twice", "remove",
    ),
    (web("unicast_peers: [224.0.0.18]"), 6, "instances.web.unicast_peers[0]", "no host's", "own"),
    (web("unicast_peers: [192.0.2.100]"), 6, "instances.web.unicast_peers[0]", "VIPs", "always"),
    (web("priority: 255"), 6, "instances.web.priority", "does not have 192.0.2.100/24", "1 to 254"),
    (
        web("priority: 255", vips="[192.0.2.200/24, 192.0.2.201/24]"),
        6, "instances.web.priority", "does not have 192.0.2.201/24", "1 to 254",
    ),
    (web(vips="[]"), 5, "instances.web.vips", "there is no VIP", "at least one"),
    (
        web(vips="[{address: 192.0.2.1, advertise: false}]"),
        5, "instances.web.vips", "every VIP has advertise: false", "at least one",
    ),
    (web(vips="192.0.2.1"), 5, "instances.web.vips", "'192.0.2.1' is not a list", "- item"),
    (web(vips="[192.0.2.1/33]"), 5, "instances.web.vips[0]", "prefix length", "/1 to /32"),
    (web(vips="[192.0.2.1/0]"), 5, "instances.web.vips[0]", "prefix length", "/1 to /32"),
    (web(vips="[example.org]"), 5, "instances.web.vips[0]", "not an IP", "192.0.2.100/24"),
    (web(vips="[192.0.2.0/24]"), 5, "instances.web.vips[0]", "of its network", "host's"),
    (web(vips="[192.0.2.255/24]"), 5, "instances.web.vips[0]", "broadcast address of", "host's"),
    (web(vips="[255.255.255.255]"), 5, "instances.web.vips[0]", "the broadcast", "host's"),
    (web(vips="[224.0.0.5]"), 5, "instances.web.vips[0]", "multicast", "host's"),
    (web(vips="[127.0.0.5]"), 5, "instances.web.vips[0]", "loopback", "host's"),
    (web(vips="[0.0.0.0]"), 5, "instances.web.vips[0]", "unspecified", "host's"),
    (web(vips="[fe80::1, '::1']"), 5, "instances.web.vips[1]", "loopback", "host's"),
    (web(vips="[fe80::1, '::']"), 5, "instances.web.vips[1]", "unspecified", "host's"),
    (web(vips="[fe80::1, 'ff02::5']"), 5, "instances.web.vips[1]", "multicast", "host's"),
    (web(vips="[fe80::1, '2001:db8::/64']"), 5, "instances.web.vips[1]", "anycast", "host's"),
    (web("strict: true", vips="[2001:db8::1/64]"), 5, "instances.web.vips[0]", "local", "fe80"),
    (web("version: 2", vips="[fe80::1/64]"), 6, "instances.web.version", "IPv6", "version: 3"),
    (web(vips=MANY_V4), 5, "instances.web.vips", "256 advertised", "give 1 of them"),
    (web(vips=MANY_V6), 5, "instances.web.vips", "but 90 fit", "give 2 of them"),
    (
        "instances:\n  a:\n    interface: small\n    vrid: 1\n"
        "    vips: [10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4, 10.0.0.5, 10.0.0.6, 10.0.0.7,"
        " 10.0.0.8, 10.0.0.9, 10.0.0.10, 10.0.0.11]\n",
        5, "instances.a.vips", "but 10 fit into an advert (the MTU is 68)", "give 1 of them",
    ),
    (web("announce: {count: 0}"), 6, "instances.web.announce.count", "out of range", "1 to 60"),
    (web() + "address_lifetime: 1.5s\n", 6, "address_lifetime", "whole seconds", "auto"),
    (web() + "address_lifetime: 0s\n", 6, "address_lifetime", "out of range", "auto, or 1s"),
    (web() + "runtime_dir: run\n", 6, "runtime_dir", "absolute path", "from '/'"),
    (web() + "node: 7\n", 6, "node", "is a number", "quotes"),
    (web() + "engine_timeout: never\n", 6, "engine_timeout", "not a duration", "500ms"),
    (web() + "log: debug\n", 6, "log", "'debug' is not a mapping", "indented"),
    # what later releases bring
    (web("accept: false"), 6, "instances.web.accept", "not supported yet", "remove it"),
    (web() + "fence: gate\n", 6, "fence", "not supported yet", "auto or lifetime"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "key", "problem", "cure"), ONE_FAULT)
def test_one_fault(text: str, line: int, key: str, problem: str, cure: str) -> None:
    (fault,) = faults_of(text)
    assert (fault.file, fault.line, fault.key) == ("vipd.yaml", line, key)
    assert problem in fault.problem
    assert cure in fault.cure


SECTIONS = [
    # text, every fault but "not supported yet" as line, key, problem
    ("quorum: {policy: require}\n", 6, "quorum.policy", "needs cluster mode"),
    (
        "quorum: {policy: require}\ncluster: {name: e, key_file: /k, nodes: {lb1: 10.0.0.1}}\n",
        6, "quorum.policy", "1 voters cannot",
    ),
    (
        "quorum: {profile: {lease: 900ms, exclusion: 1s, slice: 200ms, renew: 100ms}}\n",
        6, "quorum.profile.exclusion", "11/9",
    ),
    (
        "quorum: {profile: {lease: 900ms, exclusion: 1100ms, slice: 200ms, renew: 200ms}}\n",
        6, "quorum.profile.renew", "three renewals",
    ),
    (
        "quorum: {profile: {lease: 900ms, exclusion: 1100ms, slice: 40ms, renew: 100ms}}\n",
        6, "quorum.profile.slice", "4 kernel ticks",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("tail", "line", "key", "problem"), SECTIONS)
def test_sections_of_later_releases_are_judged(
    tail: str, line: int, key: str, problem: str
) -> None:
    faults = faults_of(web() + tail, facts=None)
    (fault,) = (fault for fault in faults if fault.problem != "not supported yet")
    assert (fault.line, fault.key) == (line, key)
    assert problem in fault.problem
    assert fault.cure


def test_same_router_twice_names_both_lines() -> None:
    text = web() + "  api:\n    interface: eth0\n    vrid: 51\n    vips: [192.0.2.7]\n"
    (fault,) = faults_of(text)
    assert (fault.line, fault.key) == (8, "instances.api.vrid")
    assert "by web in line 4" in fault.problem


def test_same_vrid_is_fine_for_the_other_family_or_interface() -> None:
    text = web() + (
        "  six: {interface: eth0, vrid: 51, vips: [fe80::1/64]}\n"
        "  far: {interface: lo, vrid: 51, vips: [192.0.2.7]}\n"
    )
    assert len(load_text(text, facts=FACTS, node="lb1").node_config.instances) == 3


def test_vip_twice_names_both_lines() -> None:
    text = web() + (
        "  api:\n    interface: lo\n    vrid: 51\n    vips:\n"
        "      - 192.0.2.7\n      - {address: 192.0.2.100/32, interface: eth0}\n"
    )
    (fault,) = faults_of(text)
    assert (fault.line, fault.key) == (11, "instances.api.vips[1]")
    assert "192.0.2.100 on eth0 is listed twice, first in line 5 (web)" in fault.problem


def test_all_faults_of_a_file_in_one_run_and_in_order() -> None:
    text = """\
nodee: lb1
log: {level: inof}
instances:
  web:
    interface: eth0/1
    vrid: 300
    version: 2
    advert_interval: 500ms
    vips:
      - 192.0.2.300/24
      - 192.0.2.0/24
      - {address: 192.0.2.7, adress: 3}
      - 192.0.2.127/25
    accept: off
  api:
    priority: {lb7: 3}
    announce: {refresh: 60}
  web: {}
fence: gate
"""
    assert [(f.line, f.key, f.problem.split(" ")[0]) for f in faults_of(text)] == [
        (1, "nodee", "unknown"),
        (2, "log.level", "'inof'"),
        (5, "instances.web.interface", "'eth0/1'"),
        (6, "instances.web.vrid", "300"),
        (8, "instances.web.advert_interval", "500ms"),
        (10, "instances.web.vips[0]", "'192.0.2.300'"),
        (11, "instances.web.vips[1]", "192.0.2.0/24"),
        (12, "instances.web.vips[2].adress", "unknown"),
        (13, "instances.web.vips[3]", "192.0.2.127/25"),
        (14, "instances.web.accept", "'off'"),
        (15, "instances.api.interface", "the"),
        (15, "instances.api.vrid", "the"),
        (15, "instances.api.vips", "the"),
        (16, "instances.api.priority", "node"),
        (17, "instances.api.announce.refresh", "60"),
        (18, "instances.web", "the"),
        (19, "fence", "not"),
    ]


def test_merge_anchors_and_aliases() -> None:
    text = """\
instances:
  web: &base
    interface: eth0
    vrid: 51
    preempt: false
    vips: [192.0.2.100/24]
  api:
    <<: *base
    vrid: 52
    vips: [192.0.2.101/24]
"""
    api = load_text(text, node="lb1").node_config.instances[1]
    assert (api.vrid, api.preempt, str(api.vips[0])) == (52, False, "192.0.2.101/24")
    (fault,) = faults_of(text.replace("preempt: false", "preempt: 7").replace("  web", "  web"))[:1]
    assert (fault.line, fault.key) == (5, "instances.web.preempt")


def test_alias_bomb_and_deep_nesting_end() -> None:
    bomb = "a0: &a0 [x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
    )
    assert "grows too large" in faults_of(bomb)[-1].problem
    assert "too deeply" in faults_of("x: " + "[" * 5000)[-1].problem
    assert "too large" in faults_of("#" * 2_000_000)[-1].problem


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def fault_of(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load(path, facts=None)
        (fault,) = caught.value.faults
        assert fault.file == str(path)
        return f"{fault.line} {fault.problem}"

    assert fault_of(tmp_path / "absent") == "1 cannot be read: No such file or directory"
    assert fault_of(tmp_path) == "1 cannot be read: Is a directory"
    (tmp_path / "latin").write_bytes(b"node: a\nlog: \xe9\n")
    assert fault_of(tmp_path / "latin") == "2 not UTF-8 text"


SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    "lines",
    [
        ("version: 3", f"auth: {{type: pass, secret: {SECRET}}}"),
        ("version: 2", f"auth: {SECRET}"),
        ("version: 2", f"auth: [{SECRET}]"),
        ("version: 2", f"auth: {{type: {SECRET}}}"),
        ("version: 2", f"auth: {{type: pass, secrte: {SECRET}}}"),
        ("version: 2", f"auth: {{type: pass, secret: [{SECRET}]}}"),
        ("version: 2", f"auth_pass: {SECRET}"),
    ],
)
def test_faults_never_show_a_secret(lines: tuple[str, ...]) -> None:
    shown = "\n".join(map(str, faults_of(web(*lines))))
    assert "auth" in shown
    assert "hunter2" not in shown
