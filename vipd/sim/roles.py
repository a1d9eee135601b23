"""What a unit tells the hooks: a role counts only when the kernel agrees with it.

=====================  =========================================================================
role-early             MASTER was said before the kernel has all VIPs and they were announced, or
                       another role while a VIP of ours is still on the host
role-repeated          the same role twice in a row
role-missed            state and kernel agree for 0.7 s, and the role was not said
=====================  =========================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vipd.model import Note, State, VipKey, format_address

if TYPE_CHECKING:
    from vipd.sim.engine import FakeEngine
    from vipd.sim.host import Host
    from vipd.sim.world import World


class Roles:
    """The last role of each unit on each host. Every engine begins anew, with INIT."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._last: dict[Host, dict[str, State]] = {}

    def started(self, host: Host) -> None:
        self._last[host] = {}

    def last(self, host: Host, unit: str) -> State:
        return self._last.get(host, {}).get(unit, State.INIT)

    def said(self, engine: FakeEngine, note: Note, keys: frozenset[VipKey]) -> None:
        """``keys`` are the VIPs of the unit."""
        host, unit = engine.host, note.instance
        before, state = self.last(host, unit), State(note.fields["state"])
        self._last[host][unit] = state
        self.world.coverage[f"role {state.value}"] += 1
        where = f"{host.name} {unit}: {state.value}"
        if state is before:
            self.world.violated("role-repeated", where)
        if engine.overflowing:
            return  # the kernel may have changed without a word
        if state is State.MASTER:
            wrong = sorted(key for key in keys if not host.kernel.has(key))
            if not host.owned:  # an owner's addresses were there and known before
                wrong += sorted(keys & set(host.judge.unannounced[host]))
        elif before is State.MASTER:
            wrong = sorted(keys & host.kernel.tagged)
        else:
            return
        if wrong:
            self.world.violated("role-early", f"{where}, and {format_address(wrong[0][1])} is not")
