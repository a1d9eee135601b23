"""``vipd check --against``: files, streams and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from tests.lint.rig import EXAMPLE, Config, instance
from vipd.cli.app import app
from vipd.errors import ConfigError


def vipd(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["check", *arguments])


def write(path: Path, **changes: object) -> str:
    config: Config = {"instances": {"web": instance(priority=100, **changes)}}
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return str(path)


def test_one_file_with_values_per_node_stands_for_itself() -> None:
    result = vipd("--against", str(EXAMPLE))
    assert result.exit_code == 0, result.output
    assert "  check nginx on lb1           lb2        lb1 again after" in result.output
    assert "warning: " in result.output
    assert "nobody-left" in result.output
    assert vipd("--config", str(EXAMPLE), "--against", str(EXAMPLE)).output == result.output


def test_json() -> None:
    answer = json.loads(vipd("--against", str(EXAMPLE), "--json").stdout)
    assert answer["units"]["web"]["master"] == ["lb1"]
    (row,) = [
        row
        for row in answer["rows"]
        if row["fault"] == {"kind": "check", "name": "gateway", "node": None}
    ]
    assert row["cells"]["web"]["master"] == []


def test_two_masters_are_exit_2(tmp_path: Path) -> None:
    one, two = write(tmp_path / "lb1.yaml"), write(tmp_path / "lb2.yaml", vrid=52)
    result = vipd("--config", one, "--node", "lb1", "--against", two)
    assert result.exit_code == 2
    assert "error: " in result.stdout
    assert "lb1 AND lb2" in result.stdout


def test_more_files_may_follow(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"lb{n}.yaml") for n in (1, 2, 3)]
    result = vipd("--config", paths[0], "--node", "lb1", "--against", paths[1], paths[2])
    assert result.exit_code == 0, result.output
    assert "priorities lb1 100, lb2 100, lb3 100" in result.output


def test_a_bad_file_is_said_as_everywhere(tmp_path: Path) -> None:
    one, two = write(tmp_path / "lb1.yaml"), write(tmp_path / "lb2.yaml", vrid=0)
    result = vipd("--config", one, "--against", two)
    assert isinstance(result.exception, ConfigError)
    assert "lb2.yaml" in str(result.exception)


@pytest.mark.parametrize("arguments", [["more.yaml"], ["--json"]])
def test_what_needs_against_says_so(arguments: list[str]) -> None:
    result = vipd("--config", str(EXAMPLE), *arguments)
    assert result.exit_code == 2
    assert "--against" in result.output
