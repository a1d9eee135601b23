"""Threads for what the system can only do by blocking: names, files, certificates.

A lookup of a name or a file on a dead network mount can hang for minutes, and nothing can end it.
asyncio's own pool has a handful of threads: a few such calls would starve all others. Here each
hanging call occupies one thread and no other call waits for it:

* a call takes an idle thread, or a new one if there is none;
* an owner (a check) has one call at a time. The next one waits until the earlier has come back,
  so that a check that hangs for ever costs one thread, not one for each run;
* a few idle threads are kept. All are daemon threads: a hanging one does not keep us from ending.

All bookkeeping is done in the loop's thread, so there are no locks.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

IDLE_KEPT = 2

_Result = TypeVar("_Result")
_Job: TypeAlias = tuple[Callable[[], Any], asyncio.Future[Any]]
_Queue: TypeAlias = SimpleQueue[_Job | None]


class Threads:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._idle: list[_Queue] = []
        self._running: dict[object, asyncio.Future[Any]] = {}
        self._closed = False

    @property
    def busy(self) -> int:
        """Calls that have not come back."""
        return len(self._running)

    async def run(self, owner: object, work: Callable[[], _Result]) -> _Result:
        """What ``work`` returns or raises. Cancelling gives up waiting; the call itself goes on."""
        while (earlier := self._running.get(owner)) is not None:
            await asyncio.wait([earlier])
        future: asyncio.Future[_Result] = self._loop.create_future()
        self._running[owner] = future
        future.add_done_callback(lambda _: self._running.pop(owner, None))
        queue = self._idle.pop() if self._idle else self._new_thread()
        queue.put((work, future))
        return await asyncio.shield(future)

    def _new_thread(self) -> _Queue:
        queue: _Queue = SimpleQueue()
        threading.Thread(target=self._serve, args=(queue,), name="check", daemon=True).start()
        return queue

    def _serve(self, queue: _Queue) -> None:
        """The life of a thread. It ends when told so, or when the loop is no more."""
        while (job := queue.get()) is not None:
            work, future = job
            # What stands if the call raises what no call should: the thread ends by it.
            result, reusable = None, None
            error: Exception | None = RuntimeError("the call ended its thread")
            try:
                result, error = _attempt(work)
                reusable = queue
            finally:
                # There is nobody to tell once the loop is closed.
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._done, reusable, future, result, error)

    def _done(
        self,
        queue: _Queue | None,
        future: asyncio.Future[Any],
        result: object,
        error: Exception | None,
    ) -> None:
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
            future.exception()  # seen, even if nobody waits any more
        if queue is None:
            return
        if self._closed or len(self._idle) >= IDLE_KEPT:
            queue.put(None)
        else:
            self._idle.append(queue)

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().put(None)


def _attempt(work: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What a call returns, or the errors that a call may raise (those of ssl and of names, too)."""
    try:
        return work(), None
    except (OSError, ValueError) as error:
        return None, error
