"""A fake supervisor: as much of it as an engine hears of, that is health and orders.

It lives as long as the daemon. A new one knows nothing of its checks until each has given its
first verdict; a new engine under the same supervisor is told everything at once. Maintenance and
held units survive on disk (``Host.maintenance``, ``Host.held``); how often a unit was told to
step down, or was put on a node, is counted anew by each daemon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vipd.core.events import HealthReported, OrdersGiven
from vipd.model import MILLISECOND_NS, SECOND_NS, Duration, Health, Orders, PinOrder, Verdict

if TYPE_CHECKING:
    from vipd.sim.host import Host

REPORT_NS = SECOND_NS
_NOTICE_NS = (5 * MILLISECOND_NS, 100 * MILLISECOND_NS)
"""How long a check takes to see what happened."""


class FakeSupervisor:
    """One life of one supervisor."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.world = host.world
        self.alive = True
        self.silent = False
        self.step_downs: dict[str, int] = {}
        self.pins: dict[str, PinOrder] = {}
        self.verdicts = {name: Verdict(name, Health.UNKNOWN) for name in host.checks}
        for name in host.checks:
            self.world.after(self.world.between(0, host.first_verdict_ns), self._look, name)
        self.world.after(REPORT_NS, self._tick)

    @property
    def orders(self) -> Orders:
        counts = tuple(sorted(self.step_downs.items()))
        pins = tuple(self.pins[unit] for unit in sorted(self.pins))
        return Orders(self.host.maintenance, tuple(sorted(self.host.held)), counts, pins)

    def first_words(self) -> tuple[OrdersGiven, HealthReported]:
        """What a new engine is told before its configuration."""
        return OrdersGiven(self.orders), self._report()

    def _report(self) -> HealthReported:
        return HealthReported(tuple(self.verdicts.values()))

    def _tick(self) -> None:
        if self.alive:
            self.tell_health()
            self.world.after(REPORT_NS, self._tick)

    def tell_health(self) -> None:
        if not self.silent and self.host.engine is not None:
            self.host.engine.told_by_supervisor(self._report())

    def tell_orders(self) -> None:
        if self.host.engine is not None:
            self.host.engine.told_by_supervisor(OrdersGiven(self.orders))

    def order_pin(self, unit: str, node: str, for_ns: Duration) -> None:
        count = self.pins[unit].count + 1 if unit in self.pins else 1
        self.pins[unit] = PinOrder(unit, node, count, for_ns)
        self.tell_orders()

    def begins_anew(self, check: str) -> None:
        """A reload changed what the check does: nothing is known of it until it has run."""
        self.verdicts[check] = Verdict(check, Health.UNKNOWN)
        self.tell_health()
        self.world.after(self.world.between(0, self.host.first_verdict_ns), self._look, check)

    def notices(self, check: str) -> None:
        """What the check looks at has changed."""
        self.world.after(self.world.between(*_NOTICE_NS), self._look, check)

    def _look(self, check: str) -> None:
        found = self.host.truth[check]
        if not self.alive or self.verdicts[check] == found:
            return
        if self.verdicts[check].health is Health.UNKNOWN:
            self.world.coverage["first verdicts"] += 1
        self.verdicts[check] = found
        self.host.on_verdict()
        self.tell_health()
