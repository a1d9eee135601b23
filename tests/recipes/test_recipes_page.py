"""``docs/recipes.md`` stays true, and every recipe is what it says about them all."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.recipes.shop import ROOT
from vipd.config.load import load_text

PAGE = (ROOT / "docs/recipes.md").read_text()
SNIPPETS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)
FILES = sorted((ROOT / "etc/hooks").iterdir()) + sorted((ROOT / "etc/checks").iterdir())
BASE = {
    "instances": {
        "web": {
            "interface": "eth0",
            "vrid": 51,
            "priority": {"lb1": 150, "lb2": 100},
            "vips": ["192.0.2.100/24"],
        }
    }
}


def merged(base: Mapping[str, object], more: Mapping[str, object]) -> dict[str, object]:
    result = dict(base)
    for key, value in more.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = merged(old, value)
        result[key] = value
    return result


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippet_is_a_good_configuration(snippet: str) -> None:
    file = yaml.safe_dump(merged(BASE, yaml.safe_load(snippet)))
    assert load_text(file, node="lb1")


def test_page_has_a_snippet_with_every_recipe_and_no_other() -> None:
    named = set(re.findall(r"/etc/vipd/((?:hooks|checks)/[\w-]+)", "\n".join(SNIPPETS)))
    assert named == {f"{path.parent.name}/{path.name}" for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_recipe_is_one_file_without_dependencies(path: Path) -> None:
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o755
    if text.startswith("#!/bin/sh\n"):
        assert "\nset -eu\n" in text
        subprocess.run(["sh", "-n", path], check=True)
    else:
        # -I: neither the directory it is started in nor PYTHONPATH can slip a module in
        assert text.startswith("#!/usr/bin/python3 -I\n")
        imported = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
        }
        assert imported <= set(sys.stdlib_module_names)
        subprocess.run(
            [Path(sys.executable).parent / "ruff", "check", "--quiet", "--ignore=T20", path],
            check=True,
        )
