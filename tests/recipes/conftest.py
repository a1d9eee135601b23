"""A host of a lab, and the ready-made hooks and checks as they are installed there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.recipes.shop import Shop
from vipd.lab.netns import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """``lb1`` runs the program, ``lb2`` is its peer."""
    with Lab(["lb1", "lb2"]) as running:
        running.directory.chmod(0o755)  # programs that give up root must find their files
        yield running


@pytest.fixture
def shop(lab: Lab) -> Shop:
    return Shop(lab["lb1"])
