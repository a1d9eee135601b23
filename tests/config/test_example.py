"""``etc/vipd.yaml`` and ``etc/vipd.schema.json`` stay true."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from vipd.config.load import load, load_text
from vipd.config.schema import json_schema
from vipd.config.yamltree import read_tree
from vipd.errors import ConfigError, ConfigFault

ETC = Path(__file__).parents[2] / "etc"
EXAMPLE = (ETC / "vipd.yaml").read_text()
SWITCHED_ON = re.sub(r"^( *)#(?=\S|  )", r"\1", EXAMPLE, flags=re.MULTILINE)
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def plain(text: str) -> Any:
    tree, faults = read_tree(text, "x")
    assert tree is not None
    assert faults == []
    return tree.plain()


def faults_of(text: str) -> tuple[ConfigFault, ...]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, node="lb1")
    return caught.value.faults


def test_the_example_is_good_on_both_nodes() -> None:
    first = load(ETC / "vipd.yaml", facts=None)
    assert first.warnings == ()
    assert first.node_config.node == "lb1"
    assert first.node_config.instances[0].priority == 150
    second = load(ETC / "vipd.yaml", facts=None, node="lb2")
    assert second.node_config.instances[0].priority == 100


def test_the_example_says_the_defaults() -> None:
    """Values that the example shows are those that a reader gets by leaving them out."""
    shown = load_text(EXAMPLE, node="lb1").config
    bare = load_text(
        "instances: {web: {interface: eth0, vrid: 51, priority: {lb1: 150, lb2: 100},"
        " vips: [192.0.2.100/24, 2001:db8::100/64]}}",
        node="lb1",
    ).config
    assert shown.model_copy(update={"node": None}) == bare


@pytest.mark.parametrize("node", ["lb1", "lb2"])
def test_switched_off_keys_are_good(node: str) -> None:
    """Everything that a reader may switch on does something: no fault, no warning, no orphan."""
    loaded = load_text(SWITCHED_ON, node=node)
    assert loaded.warnings == ()
    assert {type(check.probe).__name__.removesuffix("Probe") for check in loaded.duties.checks} == {
        "Http", "Script", "Tcp", "Ping", "Process", "File", "Interface", "Systemd",
    }  # fmt: skip
    assert [plan.unit for plan in loaded.duties.hooks if plan.sets] == ["edge"]
    assert [group.name for group in loaded.node_config.groups] == ["edge"]
    assert loaded.node_config.cluster is not None


def test_every_key_of_the_schema_is_in_the_example() -> None:
    schema = json_schema()
    keys = set(schema["properties"])
    for definition in [*schema["$defs"].values(), *schema["$defs"]["VipEntry"]["anyOf"]]:
        keys |= set(definition.get("properties", {}))
    words = set(re.findall(r"\b([a-z_]+):", EXAMPLE))
    assert keys - words == set()


def test_every_key_is_described() -> None:
    schema = json_schema()
    definitions = [schema, *schema["$defs"].values()]
    definitions += schema["$defs"]["VipEntry"]["anyOf"]
    described = {
        key: value.get("description")
        for definition in definitions
        for key, value in definition.get("properties", {}).items()
    }
    assert {"advertise", "vrid", "policy"} <= set(described)
    assert [key for key, text in described.items() if not text] == []


def test_the_schema_file_is_current() -> None:
    assert (ETC / "vipd.schema.json").read_text() == json.dumps(json_schema(), indent=2) + "\n"
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_editors_find_the_schema() -> None:
    first = EXAMPLE.splitlines()[0]
    name = first.removeprefix("# yaml-language-server: $schema=")
    assert (ETC / name).is_file()


@pytest.mark.parametrize("text", [EXAMPLE, SWITCHED_ON])
def test_the_schema_accepts_the_example(text: str) -> None:
    VALIDATOR.validate(plain(text))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("vrid: 51", "vrid: 0"),
        ("vrid: 51", "vird: 51"),
        ("advert_interval: 1s", "advert_interval: 1"),
        ("version: 3", "version: 4"),
        ("  web:", "  w eb:"),
        ("{lb1: 150, lb2: 100}", "{lb1: 150, lb2: high}"),
        ("preempt: true", "preempt: yes"),
        ("- 192.0.2.100/24", "- example.org"),
        ("policy: off", "policy: maybe"),
        ("fence: auto", "fence: maybe"),
        ("realtime: auto", "realtime: false"),
        ('"204-206"', '"204-"'),
        ("status: [200", "status: [600"),
        ("method: GET", "method: FETCH"),
        ("headers: {Accept:", "headers: {'Accept:':"),
        ('http: "http://127.0.0.1', 'http: "ftp://127.0.0.1'),
        ("192.0.2.50:5432", "192.0.2.50"),
        ("ping: 192.0.2.1}", "ping: 192.0.2.1, file: /x}"),
        ("initial: wait", "initial: unknown"),
        ("debounce: 2s", "debounce: 2"),
        ("retries: 0", "retries: -1"),
        ("count: 1}", "count: 0}"),
        ("weight: -60", "weight: 0"),
        ("user: vipd}", "user: '#0'}"),
        ("systemd: backup", "systemd: /backup"),
    ],
)
def test_the_schema_refuses_what_check_refuses(old: str, new: str) -> None:
    text = SWITCHED_ON.replace(old, new)
    assert text != SWITCHED_ON
    assert faults_of(text)
    assert not VALIDATOR.is_valid(plain(text))


def test_pyyaml_reads_the_example_too() -> None:
    assert yaml.safe_load(EXAMPLE)["instances"]["web"]["vrid"] == 51
