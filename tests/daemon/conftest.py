"""All tests of this directory run side by side (``tests/conftest.py``)."""

from __future__ import annotations

from pathlib import Path

import pytest

DIRECTORY = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == DIRECTORY:
            item.add_marker(pytest.mark.together)
