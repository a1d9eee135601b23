"""No address of ours without a claim.

An address that carries our tag and belongs to no claim is removed, whenever it is seen. This
covers what an earlier run left behind, VIPs that are no longer configured, and interfaces that
were renamed under us. Removals may be refused: it looks again until the kernel says that they are
gone.
"""

from __future__ import annotations

from collections.abc import Callable

from vipd.core.actions import Action, RemoveStray
from vipd.core.host import HostView
from vipd.model import (
    ADDRESS_TAG,
    SECOND_NS,
    FieldValue,
    HostAddress,
    Instant,
    Note,
    NoteKind,
    VipKey,
    format_address,
)

STRAY_RETRY_NS = SECOND_NS
"""After this long a stray that is still there is removed again."""


class Strays:
    """``is_covered``: does a claim answer for it?"""

    def __init__(
        self, host: HostView, is_covered: Callable[[VipKey], bool], actions: list[Action]
    ) -> None:
        self.deadline: Instant | None = None
        self._host = host
        self._is_covered = is_covered
        self._actions = actions

    def fire(self, now: Instant) -> None:
        if self.deadline is not None and now >= self.deadline:
            self.sweep(now)

    def sweep(self, now: Instant) -> None:
        """Look at all addresses of this host."""
        self.deadline = None
        strays = []
        for address in self._host.addresses():
            key = self._host.key_of(address)
            if address.tag == ADDRESS_TAG and (key is None or not self._is_covered(key)):
                strays.append(address)
        self._remove(strays, now)

    def see(self, address: HostAddress, key: VipKey, now: Instant) -> None:
        """One that the kernel has told of."""
        if address.tag == ADDRESS_TAG and not self._is_covered(key):
            self._remove([address], now)

    def _remove(self, strays: list[HostAddress], now: Instant) -> None:
        if strays:
            self.deadline = now + STRAY_RETRY_NS
            names = ", ".join(format_address(stray.address) for stray in strays[:3])
            fields: dict[str, FieldValue] = {"addresses": names, "count": len(strays)}
            self._actions.append(Note(NoteKind.STRAY_ADDRESS_REMOVED, "", fields))
            self._actions.append(RemoveStray(tuple(reversed(strays))))
