from __future__ import annotations

from collections.abc import Iterator

import pytest

from vipd.lab.netns import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(["lb1", "lb2"]) as running:
        yield running
