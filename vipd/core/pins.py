"""Pins: where an operator put a unit (QUORUM H3). A register that all nodes keep alike.

``switchover`` on any node gives the unit's pin a version above all that this node knows, and
heartbeats spread it. Rules:

1. Of two pins the higher version counts; of equal versions (two operators at once) the greater
   node name. So all nodes come to the same one, whatever arrives first.
2. Nobody preempts a pinned master; a master that sees a pin on another fit node hands over to it.
3. A pin ends by its time, by an order, or when another node becomes master because the pinned one
   is not fit, or did not take it: each is a higher version that names nobody. Only durations
   travel, so every node ends it by its own clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from vipd.members import Pin
from vipd.model import Duration, Instant, PinOrder

NOBODY = ""


@dataclass(frozen=True, slots=True)
class Register:
    """The pin of one unit. ``until`` None: until somebody ends it."""

    node: str = NOBODY
    version: int = 0
    until: Instant | None = None


class Pins:
    """The pins of all units of this node. Methods return True when something changed."""

    def __init__(self) -> None:
        self._registers: dict[str, Register] = {}
        self._counts: dict[str, int] = {}

    def of(self, unit: str) -> Register:
        return self._registers.get(unit, _NONE)

    def known(self) -> dict[str, Register]:
        return dict(self._registers)

    def learn_counts(self, orders: tuple[PinOrder, ...]) -> None:
        """What was ordered before this engine lived is no order to it."""
        self._counts = {order.unit: order.count for order in orders}

    def obey(self, orders: tuple[PinOrder, ...], now: Instant) -> list[str]:
        """Units for which the operator ordered something new."""
        moved = []
        for order in orders:
            if order.count > self._counts.get(order.unit, 0):
                self._set(order.unit, order.node, now, order.for_ns)
                moved.append(order.unit)
        self.learn_counts(orders)
        return moved

    def hear(self, unit: str, pin: Pin | None, now: Instant) -> bool:
        if pin is None:
            return False
        known = self.of(unit)
        if (pin.version, pin.node) <= (known.version, known.node):
            return False
        until = now + pin.rest_ns if pin.rest_ns else None
        self._registers[unit] = Register(pin.node, pin.version, until)
        return True

    def clear(self, unit: str) -> bool:
        """It is over: a version that names nobody."""
        known = self.of(unit)
        if known.node == NOBODY:
            return False
        self._registers[unit] = Register(NOBODY, known.version + 1)
        return True

    def expire(self, now: Instant) -> list[str]:
        over = [
            unit
            for unit, each in self._registers.items()
            if each.until is not None and now >= each.until
        ]
        for unit in over:
            self.clear(unit)
        return over

    @property
    def deadline(self) -> Instant | None:
        ends = (each.until for each in self._registers.values() if each.until is not None)
        return min(ends, default=None)

    def told(self, unit: str, now: Instant) -> Pin | None:
        """What a heartbeat says of it; None: there never was one."""
        known = self._registers.get(unit)
        if known is None:
            return None
        rest_ns = 0 if known.until is None else max(1_000_000, known.until - now)
        return Pin(known.node, known.version, rest_ns)

    def _set(self, unit: str, node: str, now: Instant, for_ns: Duration) -> None:
        until = now + for_ns if for_ns and node != NOBODY else None
        self._registers[unit] = Register(node, self.of(unit).version + 1, until)


_NONE = Register()
