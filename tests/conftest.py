"""Runs the tests marked ``together`` side by side: they wait most of their time.

Each of them builds labs of its own and takes no fixtures, so it may run in a thread. Those of one
directory begin together, with the first of them; pytest reports them one by one. Tests marked
``alone`` as well judge how evenly something happens, or need the whole machine: they run in their
turn, when the others of their directory are done.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from vipd.lab.namespace import check_privileges

PARALLEL = 4
ALONE_LIMIT_S = 600  # it waits for the others first


class _Together:
    """The tests of a directory that run side by side, and how each of them ended."""

    def __init__(self, items: Sequence[pytest.Function]) -> None:
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


_RUNNING: pytest.StashKey[dict[Path, _Together]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "together: may run while others of its directory do")
    config.addinivalue_line("markers", "alone: nothing else of its directory runs meanwhile")
    config.stash[_RUNNING] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("alone") is not None:
            item.add_marker(pytest.mark.timeout(ALONE_LIMIT_S))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if pyfuncitem.get_closest_marker("together") is None:
        return None
    running, directory = pyfuncitem.config.stash[_RUNNING], pyfuncitem.path.parent
    if directory not in running:
        running[directory] = _Together(_marked_in(directory, pyfuncitem.session))
    running[directory].outcome(pyfuncitem)
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    for together in session.config.stash[_RUNNING].values():
        together.end()


def _marked_in(directory: Path, session: pytest.Session) -> list[pytest.Function]:
    functions = [item for item in session.items if isinstance(item, pytest.Function)]
    return [
        item
        for item in functions
        if item.path.parent == directory and item.get_closest_marker("together") is not None
    ]


def _arguments(item: pytest.Function) -> dict[str, object]:
    return dict(item.callspec.params) if hasattr(item, "callspec") else {}
