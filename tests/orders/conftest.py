"""The cable between two hosts that the tests of adapters have."""

from __future__ import annotations

from tests.adapters.conftest import pair

__all__ = ["pair"]
