"""What the commands that move mastership need of the daemon, so that tests can be the daemon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vipd.adapters.clock import boottime_ns
from vipd.adapters.listeners import Listeners, find_listeners
from vipd.duties import Duties
from vipd.model import Address, Instant, NodeConfig, Orders, Reason
from vipd.snapshots import Snapshot
from vipd.supervisor.handover import OrderRefused

POLL_S = 0.02
"""How often a snapshot is taken while a takeover is awaited."""


@dataclass(frozen=True, slots=True)
class Means:
    """What the operator's commands need of the daemon.

    * ``snapshot``: a fresh one; an old one, or None, where the engine does not answer.
    * ``config``: the configuration in force. ``nodes``: every node that the file names.
    * ``neighbours``: addresses of the other nodes' adverts for an instance, as far as the file
      says them; ``send``: tell the engine, until it has taken it.
    * ``leaving``: run those hooks of these units that are master here, within their budget;
      ``has_leaving``: whether a unit has any.
    * ``journal``: kind, subject, fields.
    """

    snapshot: Callable[[], Awaitable[Snapshot | None]]
    config: Callable[[], NodeConfig]
    nodes: Callable[[], Sequence[str]]
    leaving: Callable[[Sequence[str], Reason], Awaitable[None]]
    send: Callable[[Orders], None]
    journal: Callable[[str, str, Mapping[str, Any]], object]
    neighbours: Callable[[str], Sequence[Address]] = lambda _instance: ()
    duties: Callable[[], Duties] = Duties
    find: Callable[..., Awaitable[Listeners]] = find_listeners
    wall: Callable[[], float] = time.time
    now_ns: Callable[[], Instant] = boottime_ns
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def look(self) -> Snapshot:
        """A snapshot of now. Raises OrderRefused where the engine does not answer."""
        asked_ns = self.now_ns()
        snapshot = await self.snapshot()
        if snapshot is None or snapshot.now_ns < asked_ns:
            raise OrderRefused("the engine does not answer just now; see the log, then try again")
        return snapshot
