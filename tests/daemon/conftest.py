"""Runs the tests of this directory side by side: they wait most of their time.

Every test builds labs of its own and takes no fixtures, so each may run in a thread. All begin
with the first one; pytest reports them one by one. Tests marked ``alone`` judge how evenly
something happens, or need the whole machine: they run in their turn, when the others are done.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

from vipd.lab.namespace import check_privileges

PARALLEL = 4
DIRECTORY = "tests/daemon/"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: nothing else of this directory runs meanwhile")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test that wants to be alone waits for all the others."""
    for item in items:
        if item.nodeid.startswith(DIRECTORY) and item.get_closest_marker("alone") is not None:
            item.add_marker(pytest.mark.timeout(600))


class _Together:
    """The tests that run side by side, and how each of them ended."""

    def __init__(self, items: list[pytest.Function]) -> None:
        check_privileges()
        self._pool = ThreadPoolExecutor(PARALLEL)
        self._futures: dict[str, Future[None]] = {
            item.nodeid: self._pool.submit(item.obj, **_arguments(item))
            for item in items
            if item.get_closest_marker("alone") is None
        }

    def outcome(self, item: pytest.Function) -> None:
        """Wait for the test, and fail as it failed."""
        future = self._futures.get(item.nodeid)
        if future is not None:
            future.result()
            return
        wait(self._futures.values())
        item.obj(**_arguments(item))

    def end(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _arguments(item: pytest.Function) -> dict[str, object]:
    return dict(item.callspec.params) if hasattr(item, "callspec") else {}


@pytest.fixture(scope="session")
def together(request: pytest.FixtureRequest) -> Iterator[_Together]:
    items = [item for item in request.session.items if item.nodeid.startswith(DIRECTORY)]
    running = _Together([item for item in items if isinstance(item, pytest.Function)])
    yield running
    running.end()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not pyfuncitem.nodeid.startswith(DIRECTORY):
        return None
    pyfuncitem.session.config.stash[_KEY].outcome(pyfuncitem)
    return True


_KEY: pytest.StashKey[_Together] = pytest.StashKey()


@pytest.fixture(autouse=True)
def _side_by_side(request: pytest.FixtureRequest, together: _Together) -> None:
    request.config.stash[_KEY] = together
