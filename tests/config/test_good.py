"""Good files: the exact values, per node, defaults, warnings, and the plan of a reload."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipd.config.diff import plan
from vipd.config.load import HostFacts, Loaded, load, load_text, short_host_name
from vipd.config.resolve import auto_lifetime_s
from vipd.config.types import format_duration, parse_duration
from vipd.errors import ConfigError
from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    ChecksumForm,
    Family,
    HostAddress,
    InstanceConfig,
    Link,
    NodeConfig,
    Track,
    TrackKind,
    Vip,
    parse_address,
)

FULL = """\
runtime_dir: /run/test
log: {level: debug, format: json}
realtime: off
engine_timeout: 0.5s
quorum: {policy: off}
instances:
  web:
    interface: {lb1: eth0, lb2: ens3}
    vrid: 51
    priority: {lb1: 150, lb2: 100}
    advert_interval: 300ms
    preempt: false
    source: {lb1: 192.0.2.11, lb2: 192.0.2.12}
    unicast_peers: {lb1: [192.0.2.12], lb2: [192.0.2.11]}
    checksum: plain
    strict: true
    announce: {count: 3, refresh: 2m}
    vips:
      - 192.0.2.100/24
      - {address: 2001:db8::100/64}
      - {address: 192.0.2.101, interface: eth1, advertise: false}
  old:
    interface: eth0
    vrid: 52
    version: 2
    advert_interval: 2s
    preempt_delay: 1m
    auth: {type: pass, secret: abc}
    vips: [192.0.2.110/25]
"""

LB1_WEB = InstanceConfig(
    name="web",
    interface="eth0",
    vrid=51,
    version=3,
    family=Family.IPV4,
    priority=150,
    advert_interval_ns=300 * MILLISECOND_NS,
    vips=(
        Vip(parse_address("192.0.2.100"), 24, "eth0"),
        Vip(parse_address("2001:db8::100"), 64, "eth0", advertise=False),
        Vip(parse_address("192.0.2.101"), 32, "eth1", advertise=False),
    ),
    address_lifetime_s=2,
    preempt=False,
    source=parse_address("192.0.2.11"),
    unicast_peers=(parse_address("192.0.2.12"),),
    checksum=ChecksumForm.PLAIN,
    strict=True,
    announce_count=3,
    announce_refresh_ns=120 * SECOND_NS,
)
LB1_OLD = InstanceConfig(
    name="old",
    interface="eth0",
    vrid=52,
    version=2,
    family=Family.IPV4,
    priority=100,
    advert_interval_ns=2 * SECOND_NS,
    vips=(Vip(parse_address("192.0.2.110"), 25, "eth0"),),
    address_lifetime_s=7,
    preempt_delay_ns=60 * SECOND_NS,
    auth_secret=b"abc\0\0\0\0\0",
)


def one(*lines: str, vips: str = "[192.0.2.100/24]") -> str:
    body = f"instances:\n  web:\n    interface: eth0\n    vrid: 51\n    vips: {vips}\n"
    return body + "".join(f"    {line}\n" for line in lines)


def warnings_of(loaded: Loaded) -> list[tuple[int, str, str]]:
    return [(item.line, item.key, item.problem) for item in loaded.warnings]


def test_exact_values() -> None:
    loaded = load_text(FULL, node="lb1")
    assert loaded.node_config == NodeConfig("lb1", (LB1_WEB, LB1_OLD), generation=0)
    assert loaded.warnings == ()
    assert (loaded.runtime_dir, loaded.state_dir) == (Path("/run/test"), Path("/var/lib/vipd"))
    assert (loaded.log.level, loaded.log.format) == ("debug", "json")
    assert (loaded.realtime, loaded.engine_timeout_ns) == ("off", 500 * MILLISECOND_NS)


def test_the_same_file_on_the_other_node() -> None:
    web = load_text(FULL, node="lb2").node_config.instances[0]
    assert web == replace(
        LB1_WEB,
        interface="ens3",
        priority=100,
        source=parse_address("192.0.2.12"),
        unicast_peers=(parse_address("192.0.2.11"),),
        vips=(
            replace(LB1_WEB.vips[0], interface="ens3"),
            replace(LB1_WEB.vips[1], interface="ens3"),
            LB1_WEB.vips[2],
        ),
    )


def test_defaults() -> None:
    loaded = load_text(one())
    assert loaded.node_config.instances == (
        InstanceConfig(
            name="web",
            interface="eth0",
            vrid=51,
            version=3,
            family=Family.IPV4,
            priority=100,
            advert_interval_ns=SECOND_NS,
            vips=(Vip(parse_address("192.0.2.100"), 24, "eth0"),),
            address_lifetime_s=4,
        ),
    )
    assert loaded.config.address_lifetime is None
    assert (loaded.realtime, loaded.engine_timeout_ns) == ("auto", 200 * MILLISECOND_NS)


def test_which_node() -> None:
    assert load_text(one()).node_config.node == short_host_name()
    assert load_text("node: lb1\n" + one()).node_config.node == "lb1"
    assert load_text("node: lb1\n" + one(), node="lb2").node_config.node == "lb2"


@pytest.mark.parametrize(
    ("version", "interval", "lifetime_s"),
    [
        (3, "10ms", 2),
        (3, "500ms", 2),
        (3, "510ms", 3),
        (3, "1s", 4),
        (3, "40.95s", 164),
        (2, "1s", 4),
        (2, "255s", 766),
    ],
)
def test_auto_lifetime(version: int, interval: str, lifetime_s: int) -> None:
    assert auto_lifetime_s(version, parse_duration(interval)) == lifetime_s


def test_explicit_lifetime() -> None:
    loaded = load_text(one() + "address_lifetime: 3s\n")
    assert loaded.node_config.instances[0].address_lifetime_s == 3
    assert warnings_of(loaded) == [
        (6, "address_lifetime", "3s is shorter than the 4s that auto gives")
    ]
    assert load_text(one() + "address_lifetime: 4s\n").warnings == ()


@pytest.mark.parametrize(
    ("text", "line", "key", "problem"),
    [
        (one(vips="[2001:db8::1/64]"), 5, "instances.web.vips[0]", "not link-local"),
        (one("preempt: false", "preempt_delay: 1s"), 7, "instances.web.preempt_delay", "no effect"),
        (one("checksum: plain", vips="[fe80::1]"), 6, "instances.web.checksum", "no effect"),
        (
            one("version: 2", "auth: {type: pass, secret: ninebytes}"),
            7, "instances.web.auth.secret", "has 9 bytes",
        ),
        (
            one("priority: {lb1: 1, lb2: 2}", "source: {lb1: 192.0.2.11}"),
            7, "instances.web.source", "lb2 is named elsewhere",
        ),
        (one("source: 2001:db8::9", vips="[fe80::1]"), 6, "instances.web.source", "not link-local"),
        (one("source: 192.0.2.77"), 6, "instances.web.source", "does not have 192.0.2.77 now"),
        (
            one(vips="[{address: 192.0.2.1, interface: eth7}]"),
            5, "instances.web.vips[0].interface", "no interface eth7",
        ),
        (one().replace("eth0", "eth9"), 3, "instances.web.interface", "no interface eth9"),
    ],
)  # fmt: skip
def test_warnings(text: str, line: int, key: str, problem: str) -> None:
    addresses = (HostAddress(2, parse_address("192.0.2.11"), 24),)
    if "2001:db8::9" in text:
        addresses += (HostAddress(2, parse_address("2001:db8::9"), 64),)
    facts = HostFacts((Link(2, "eth0", True, b""),), addresses)
    (warning,) = load_text(text, node="lb1", facts=facts).warnings
    assert (warning.line, warning.key) == (line, key)
    assert problem in warning.problem
    assert warning.cure


def test_long_secret_is_cut_as_keepalived_does() -> None:
    loaded = load_text(one("version: 2", "auth: {type: pass, secret: ninebytes}"))
    assert loaded.node_config.instances[0].auth_secret == b"ninebyte"


def test_secret_file(tmp_path: Path) -> None:
    config, secret = tmp_path / "vipd.yaml", tmp_path / "secret"
    config.write_text(one("version: 2", "auth: {type: pass, secret_file: secret}"))
    secret.write_text("s3cr3t\n")
    secret.chmod(0o600)
    loaded = load(config, facts=None)
    assert loaded.node_config.instances[0].auth_secret == b"s3cr3t\0\0"
    assert loaded.warnings == ()
    secret.chmod(0o644)
    (warning,) = load(config, facts=None).warnings
    assert warning.key == "instances.web.auth.secret_file"
    assert warning.cure == "chmod 600 secret"
    secret.write_text("\n")
    with pytest.raises(ConfigError, match="the secret is empty"):
        load(config, facts=None)


def test_world_readable_file_with_a_secret(tmp_path: Path) -> None:
    config = tmp_path / "vipd.yaml"
    config.write_text(one("version: 2", "auth: {type: pass, secret: s3cr3t}"))
    config.chmod(0o640)
    assert load(config, facts=None).warnings == ()
    config.chmod(0o644)
    (warning,) = load(config, facts=None).warnings
    assert (warning.line, warning.key) == (7, "instances.web.auth.secret")
    assert "every user can read" in warning.problem


def test_no_secret_in_any_repr() -> None:
    loaded = load_text(one("version: 2", "auth: {type: pass, secret: s3cr3t}"))
    assert "s3cr3t" not in repr(loaded)


def test_owner_with_and_without_facts() -> None:
    text = one("priority: {lb1: 255, lb2: 100}")
    facts = HostFacts(
        (Link(2, "eth0", True, b""),), (HostAddress(2, parse_address("192.0.2.100"), 24),)
    )
    for known in (facts, None):
        assert load_text(text, node="lb1", facts=known).node_config.instances[0].is_owner


def test_many_vips_that_are_not_advertised() -> None:
    vips = [
        "fe80::1",
        *(f"{{address: '2001:db8::{i:x}', advertise: false}}" for i in range(1, 400)),
    ]
    (web,) = load_text(one(vips=f"[{', '.join(vips)}]")).node_config.instances
    assert (len(web.vips), len(web.advertised)) == (400, 1)


@given(st.integers(0, 10**6))
def test_durations_read_back(milliseconds: int) -> None:
    duration_ns = milliseconds * MILLISECOND_NS
    assert parse_duration(f"{milliseconds}ms") == duration_ns
    text = format_duration(duration_ns)
    if len(text.partition(".")[2]) <= 4:  # three digits and the unit
        assert parse_duration(text) == duration_ns


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1us", 1000),
        ("0.001us", 1),
        ("1.5s", 1_500_000_000),
        ("2m", 120 * SECOND_NS),
        ("1h", 3600 * SECOND_NS),
        ("40.95s", 40_950 * MILLISECOND_NS),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


# --- what a reload would change ---------------------------------------------------------------


def test_plan() -> None:
    old = NodeConfig("lb1", (LB1_WEB, LB1_OLD))
    vip = LB1_WEB.vips
    web = replace(
        LB1_WEB,
        priority=100,
        advert_interval_ns=SECOND_NS,
        vips=(vip[0], replace(vip[2], advertise=True), Vip(parse_address("192.0.2.9"), 24, "eth0")),
    )
    assert plan(old, NodeConfig("lb1", (web, replace(LB1_OLD, auth_secret=b"secret!!")))) == (
        "web: priority 150 -> 100",
        "web: advert_interval 300ms -> 1s",
        "web: VIP 2001:db8::100/64 on eth0 removed",
        "web: VIP 192.0.2.101/32 on eth1 now advertised",
        "web: VIP 192.0.2.9/24 on eth0 added",
        "old: auth secret changed",
    )


def test_plan_of_identity() -> None:
    old = NodeConfig("lb1", (LB1_WEB, LB1_OLD))
    assert plan(old, old) == ("web: kept, unchanged", "old: kept, unchanged")
    assert plan(NodeConfig("lb1", (LB1_OLD,)), NodeConfig("lb2", (replace(LB1_OLD, vrid=53),))) == (
        "node lb1 -> lb2",
        "old: restarted: VRRPv2 IPv4 VRID 52 on eth0 -> VRRPv2 IPv4 VRID 53 on eth0; "
        "releases 192.0.2.110/25 on eth0 first",
    )


def test_plan_sees_every_field() -> None:
    """A field of InstanceConfig that plan() forgets would be changed without a word."""
    changed = {
        "interface": "eth9", "vrid": 9, "version": 3, "family": Family.IPV6, "priority": 9,
        "advert_interval_ns": 9 * SECOND_NS, "vips": (), "address_lifetime_s": 9, "preempt": False,
        "preempt_delay_ns": 9, "source": b"\1\1\1\1", "unicast_peers": (b"\1\1\1\1",),
        "auth_secret": None, "checksum": ChecksumForm.PLAIN, "strict": True, "announce_count": 9,
        "announce_refresh_ns": 9, "track": (Track(TrackKind.CHECK, "nginx"),),
    }  # fmt: skip
    fields = set(InstanceConfig.__dataclass_fields__) - {"name"}
    assert fields == set(changed)
    for field, value in changed.items():
        lines = plan(
            NodeConfig("n", (LB1_OLD,)), NodeConfig("n", (replace(LB1_OLD, **{field: value}),))
        )
        assert lines != ("old: kept, unchanged",), field
