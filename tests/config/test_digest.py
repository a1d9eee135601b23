"""The configuration digest: one test for everything that counts, and for what does not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from vipd.config.load import load_text

Config = dict[str, Any]

BASE: Config = {
    "instances": {
        "web": {
            "interface": {"lb1": "eth0", "lb2": "ens3"},
            "vrid": 51,
            "version": 2,
            "priority": {"lb1": 150, "lb2": 100},
            "source": {"lb1": "192.0.2.11", "lb2": "192.0.2.12"},
            "auth": {"type": "pass", "secret": "s3cr3t"},
            "vips": ["192.0.2.100/24", {"address": "192.0.2.101/24", "advertise": False}],
        },
        "api": {"interface": "eth0", "vrid": 52, "vips": ["192.0.2.110/24", "192.0.2.111/24"]},
        "one": {"interface": "eth0", "vrid": 54, "vips": ["192.0.2.130/24"]},
        "two": {"interface": "eth0", "vrid": 55, "vips": ["192.0.2.140/24"]},
        "six": {"interface": "eth0", "vrid": 53, "vips": ["fe80::1/64", "192.0.2.120/24"]},
    },
    "groups": {"edge": {"instances": ["one", "two"]}},
    "cluster": {
        "name": "edge",
        "key_file": "/k",
        "nodes": {"lb1": ["192.0.2.11", "10.0.0.1"], "lb2": "192.0.2.12"},
        "witnesses": {"wit": "192.0.2.21"},
    },
}


def digest(config: Config, node: str = "lb1") -> str:
    text = yaml.safe_dump(config, sort_keys=False)
    cluster = load_text(text, node=node).node_config.cluster
    assert cluster is not None
    return cluster.digest.hex()


def changed(change: Callable[[Config], object]) -> Config:
    config = copy.deepcopy(BASE)
    change(config)
    assert config != BASE
    return config


def at(*path: Any, value: Any) -> Callable[[Config], object]:
    def change(config: Config) -> None:
        inner: Any = config
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value

    return change


def drop(*path: str) -> Callable[[Config], object]:
    def change(config: Config) -> None:
        inner: Any = config
        for step in path[:-1]:
            inner = inner[step]
        del inner[path[-1]]

    return change


def renamed(section: str, old: str, new: str) -> Callable[[Config], object]:
    def change(config: Config) -> None:
        config[section] = {new if k == old else k: v for k, v in config[section].items()}

    return change


def renamed_instance(config: Config) -> None:
    renamed("instances", "six", "sechs")(config)


def renamed_group(config: Config) -> None:
    renamed("groups", "edge", "rim")(config)


WEB, API, SIX = ("instances", "web"), ("instances", "api"), ("instances", "six")

NEW = {"interface": "eth0", "vrid": 60, "vips": ["192.0.2.9"]}
ON_ETH1 = {"address": "192.0.2.110/24", "interface": "eth1"}
PEERS = {"lb1": ["192.0.2.12"], "lb2": ["192.0.2.11"]}

COUNTS = {
    "cluster name": at("cluster", "name", value="rim"),
    "port": at("cluster", "port", value=4000),
    "heartbeat_interval": at("cluster", "heartbeat_interval", value="50ms"),
    "heartbeat_timeout": at("cluster", "heartbeat_timeout", value="900ms"),
    "another node": at("cluster", "nodes", "lb3", value="192.0.2.13"),
    "address of a node": at("cluster", "nodes", "lb2", value="192.0.2.13"),
    "second address of a node": at("cluster", "nodes", "lb1", value="192.0.2.11"),
    "order of a node's addresses": at("cluster", "nodes", "lb1", value=["10.0.0.1", "192.0.2.11"]),
    "no witness": drop("cluster", "witnesses"),
    "address of a witness": at("cluster", "witnesses", "wit", value="192.0.2.22"),
    "another instance": at("instances", "new", value=NEW),
    "name of an instance": renamed_instance,
    "no instance": drop(*SIX),
    "vrid": at(*API, "vrid", value=62),
    "version": at(*API, "version", value=2),
    "family": at(*SIX, "vips", value=["192.0.2.120/24", "fe80::1/64"]),
    "advert_interval": at(*API, "advert_interval", value="500ms"),
    "a VIP more": at(*API, "vips", value=["192.0.2.110/24", "192.0.2.111/24", "192.0.2.112/24"]),
    "another VIP": at(*API, "vips", value=["192.0.2.110/24", "192.0.2.112/24"]),
    "advertised or not": at(*WEB, "vips", value=["192.0.2.100/24", "192.0.2.101/24"]),
    "other password": at(*WEB, "auth", "secret", value="s3cr3u"),
    "no password": drop(*WEB, "auth"),
    "preempt": at(*API, "preempt", value=False),
    "preempt_delay": at(*API, "preempt_delay", value="3s"),
    "checksum": at(*API, "checksum", value="plain"),
    "no group": drop("groups", "edge"),
    "name of a group": renamed_group,
    "member of a group": at("groups", "edge", "instances", value=["one"]),
}  # fmt: skip


@pytest.mark.parametrize("what", COUNTS)
def test_this_must_be_equal_on_all_nodes(what: str) -> None:
    assert digest(changed(COUNTS[what])) != digest(BASE)


def test_no_two_of_them_are_the_same() -> None:
    found = [digest(changed(change)) for change in COUNTS.values()]
    assert len(set(found)) == len(found)


def reordered(config: Config) -> None:
    for section in (config["instances"], config["cluster"]["nodes"]):
        for name in reversed(list(section)):
            section[name] = section.pop(name)
    config["instances"]["api"]["vips"].reverse()
    config["groups"]["edge"]["instances"].reverse()


DOES_NOT_COUNT = {
    "priority": at(*WEB, "priority", value=7),
    "interface": at(*WEB, "interface", value="bond0"),
    "interface of a VIP": at(*API, "vips", 0, value=ON_ETH1),
    "source": drop(*WEB, "source"),
    "prefix of a VIP": at(*API, "vips", 0, value="192.0.2.110/32"),
    "unicast_peers": at(*API, "unicast_peers", value=PEERS),
    "checks and tracks": lambda config: config.update(
        checks={"up": {"file": "/x"}},
        groups={"edge": {"instances": ["one", "two"], "track": [{"check": "up"}]}},
    ),
    "hooks": at(*SIX, "notify", value={"any": "/bin/true"}),
    "announcements": at(*API, "announce", value={"count": 2}),
    "logs": at("log", value={"level": "debug"}),
    "directories": at("state_dir", value="/srv/vipd"),
    "engine_timeout": at("engine_timeout", value="1s"),
    "address_lifetime": at("address_lifetime", value="9s"),
    "key file": at("cluster", "key_file", value="/other"),
    "a default written down": at("cluster", "port", value=3112),
    "auto written down": at("cluster", "heartbeat_timeout", value="1s"),
    "the same in another unit": at(*API, "advert_interval", value="1000ms"),
    "order": reordered,
}  # fmt: skip


@pytest.mark.parametrize("what", DOES_NOT_COUNT)
def test_this_may_differ(what: str) -> None:
    assert digest(changed(DOES_NOT_COUNT[what])) == digest(BASE)


def test_keys_may_differ() -> None:
    text = yaml.safe_dump(BASE)
    found = [
        load_text(text, node="lb1", read_keys=lambda _, key=key: (key,)) for key in (b"a", b"b")
    ]
    one, two = (each.node_config.cluster for each in found)
    assert one is not None
    assert two is not None
    assert one.keys != two.keys
    assert one.digest == two.digest


def own_file(node: str) -> Config:
    """The same for one host: every value per node is one value."""

    def own(value: Any) -> Any:
        if isinstance(value, dict):
            if value.keys() == {"lb1", "lb2"} and value is not config["cluster"]["nodes"]:
                return value[node]
            return {key: own(inner) for key, inner in value.items()}
        return value

    config = copy.deepcopy(BASE)
    return {"node": node, **own(config)}


def test_one_file_for_all_and_a_file_for_each_host_give_the_same() -> None:
    assert own_file("lb2")["instances"]["web"]["priority"] == 100
    found = {
        digest(BASE),
        digest(BASE, "lb2"),
        digest(own_file("lb1"), "lb1"),
        digest(own_file("lb2"), "lb2"),
    }
    assert len(found) == 1


def test_the_form_is_fixed() -> None:
    """Nodes of two releases compare it: another form is an alarm on every rolling upgrade."""
    assert digest(BASE) == "9823b687beeac1a6"
