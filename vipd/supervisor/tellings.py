"""What was done for the dead, in the log. Apart from the doing, which ``vipd release`` shares and
which must not wait for a logger to be imported.
"""

from __future__ import annotations

import structlog

from vipd.model import MILLISECOND_NS
from vipd.supervisor.last_will import Execution


def addresses_removed(removed: tuple[str, ...], left_by: str) -> None:
    """If there were any."""
    if removed:
        structlog.get_logger().warning(
            "addresses-removed", left_by=left_by, addresses=list(removed)
        )


def will_executed(done: Execution, left_by: str) -> None:
    """If there was one."""
    addresses_removed(done.removed, left_by)
    if not done.told and not done.goodbyes and not done.refusals and not done.too_late:
        return
    structlog.get_logger().warning(
        "last-will",
        left_by=left_by,
        owner=done.owner,
        told=list(done.told),
        goodbyes=list(done.goodbyes),
        too_late=list(done.too_late),
        refusals=list(done.refusals),
        left_out=done.left_out,
        prepared_ms=done.prepared_ns / MILLISECOND_NS,
        removed_ms=done.removed_ns / MILLISECOND_NS,
        sent_ms=done.sent_ns / MILLISECOND_NS,
    )
