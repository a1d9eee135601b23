"""The network namespaces of the adapters' tests."""

from __future__ import annotations

from tests.adapters.conftest import namespace, pair

__all__ = ["namespace", "pair"]
