"""What a claim wishes for, as the action that asks the kernel for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from vipd.core.actions import (
    Action,
    AddAddresses,
    Announce,
    OpenGate,
    RemoveAddresses,
    RenewAddresses,
    ResyncKernel,
    ShutGate,
)
from vipd.core.signals import (
    AddWanted,
    FramesWanted,
    GateWanted,
    RemoveWanted,
    RenewWanted,
    ResyncWanted,
)
from vipd.errors import InvariantViolated
from vipd.model import Vip

Place: TypeAlias = Callable[[Iterable[Vip]], tuple[Vip, ...]]


def kernel_action(unit: str, wish: object, place: Place) -> Action:
    """``place`` gives VIPs the prefix that they have, or get, in the kernel."""
    match wish:
        case AddWanted(vips):
            return AddAddresses(unit, place(vips))
        case RenewWanted(vips):
            return RenewAddresses(unit, place(vips))
        case RemoveWanted(vips):
            return RemoveAddresses(unit, place(vips))
        case FramesWanted(vips):
            return Announce(unit, vips)
        case GateWanted(is_open):
            return OpenGate(unit) if is_open else ShutGate(unit)
        case ResyncWanted():
            return ResyncKernel()
    raise InvariantViolated(f"nobody fulfils {wish!r}")
