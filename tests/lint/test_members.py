"""Which nodes a set of files stands for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.lint.rig import instance
from vipd.errors import ConfigError
from vipd.lint.members import load_cluster, named_nodes


def write(path: Path, **top: object) -> Path:
    config = {"instances": {"web": instance(priority=100)}, **top}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def test_a_file_names_nodes_in_its_per_node_values(tmp_path: Path) -> None:
    path = tmp_path / "vipd.yaml"
    web = instance(
        priority={"b": 100, "a": 90},
        vips=[{"address": "192.0.2.1/24", "interface": {"a": "eth0", "c": "eth1"}}],
    )
    path.write_text(yaml.safe_dump({"instances": {"web": web}}, sort_keys=False))
    assert named_nodes(path) == ("b", "a", "c")


def test_several_files_are_named_by_their_node_or_their_name(tmp_path: Path) -> None:
    here = write(tmp_path / "vipd.yaml")
    there = write(tmp_path / "two.yaml", node="lb2")
    third = write(tmp_path / "lb3.yaml")

    def names(node: str | None, host: str) -> list[str]:
        return [each.name for each in load_cluster([here, there, third], node, host).members]

    assert names(None, "lb1") == ["lb1", "lb2", "lb3"]
    assert names("lb9", "lb1") == ["lb9", "lb2", "lb3"]


def test_one_file_must_name_two_nodes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two are wanted; give the other nodes' files"):
        load_cluster([write(tmp_path / "vipd.yaml")])


def test_two_files_must_not_be_one_node(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.yaml", node="lb1") for name in ("a", "b")]
    with pytest.raises(ConfigError, match=r"b\.yaml:.*node: it is node lb1, and so is .*a\.yaml"):
        load_cluster(files)


def test_faults_of_all_files_come_together(tmp_path: Path) -> None:
    one = write(tmp_path / "one.yaml", fence="nonsense")
    two = write(tmp_path / "two.yaml", realtime="nonsense")
    with pytest.raises(ConfigError) as caught:
        load_cluster([one, two])
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize("content", [b"", b"- 1\n", b"a: [", b"\xff\xfe"])
def test_what_is_no_configuration_is_said_as_such(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.yaml:1: "):
        load_cluster([path])
    with pytest.raises(ConfigError, match="cannot be read"):
        load_cluster([tmp_path / "none.yaml"])
