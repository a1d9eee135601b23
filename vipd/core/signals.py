"""What the three machines of an instance say to one another. Never leaves ``instance.py``.

Inputs are facts (past tense), outputs are wishes (``...Wanted``); the instance turns a wish of
one machine into the input of another, or into an action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from vipd.model import Duration, Instant, Note, Reason, Vip, VipKey

# --- inputs of the election -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The instance is configured and its interface usable (RFC: Startup)."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Stopped:
    """The unit shall end (RFC: Shutdown), or wait in INIT."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FaultRaised:
    """Something makes mastership impossible here."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class FaultCleared:
    """The last fault is gone."""


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The machine's own deadline has come."""


@dataclass(frozen=True, slots=True)
class PriorityChanged:
    """What our adverts say is another thing now: effective priority, interval, source."""


@dataclass(frozen=True, slots=True)
class StepDownOrdered:
    """The operator wants this node not to be master, now."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Appointed:
    """Cluster mode: this node is to be master now, because it was named or nobody else is."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class WaitSet:
    """Cluster mode: a backup takes over at ``until``; None: by the timers of the RFC."""

    until: Instant | None
    reason: Reason = Reason.MASTER_SILENT


@dataclass(frozen=True, slots=True)
class LeaseGranted:
    """We may be master."""


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """We may not, or no longer, be master."""


# --- inputs of the lease ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LeaseWanted:
    """The election wants to be master."""


@dataclass(frozen=True, slots=True)
class LeaseReturned:
    """The right is no longer needed; the kernel holds nothing any more."""


# --- inputs of the claim ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClaimWanted:
    """Make the kernel hold the VIPs."""


@dataclass(frozen=True, slots=True)
class ReleaseWanted:
    """Make the kernel give the VIPs up; with ``goodbye`` say priority 0 afterwards."""

    goodbye: bool


@dataclass(frozen=True, slots=True)
class VipSeen:
    vip: Vip


@dataclass(frozen=True, slots=True)
class VipGone:
    vip: Vip


@dataclass(frozen=True, slots=True)
class PresenceResynced:
    """After a dump: exactly these VIPs are on the host."""

    present: frozenset[VipKey]


@dataclass(frozen=True, slots=True)
class VipsChanged:
    """A reload: ``wanted`` replaces the list; ``retired`` are to be taken away.

    ``elsewhere`` are the VIPs that other instances have now: not ours to take away any more.
    """

    wanted: tuple[Vip, ...]
    retired: tuple[Vip, ...]
    elsewhere: frozenset[VipKey] = frozenset()


@dataclass(frozen=True, slots=True)
class AnnounceWanted:
    """Somebody else may have spoken for our VIPs: announce again, at most every ``gap_ns``."""

    gap_ns: Duration


# --- wishes that the instance fulfils ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AdvertWanted:
    """Send an advert now; ``leaving``: with priority 0; ``only``: on this member, not on all."""

    leaving: bool = False
    only: str = ""


@dataclass(frozen=True, slots=True)
class Released:
    """The kernel holds none of the VIPs: the lease may go back."""


@dataclass(frozen=True, slots=True)
class ClaimGivenUp:
    """The kernel does not hold the VIPs and will not: mastership must end here."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class AddWanted:
    vips: tuple[Vip, ...]


@dataclass(frozen=True, slots=True)
class RenewWanted:
    vips: tuple[Vip, ...]


@dataclass(frozen=True, slots=True)
class RemoveWanted:
    vips: tuple[Vip, ...]


@dataclass(frozen=True, slots=True)
class FramesWanted:
    """One announcement frame for each VIP."""

    vips: tuple[Vip, ...]


@dataclass(frozen=True, slots=True)
class GateWanted:
    open: bool


@dataclass(frozen=True, slots=True)
class ResyncWanted:
    """What the kernel said does not add up."""


Wish: TypeAlias = (
    LeaseWanted
    | LeaseReturned
    | LeaseGranted
    | LeaseLost
    | ClaimWanted
    | ReleaseWanted
    | AnnounceWanted
    | AdvertWanted
    | Released
    | ClaimGivenUp
    | AddWanted
    | RenewWanted
    | RemoveWanted
    | FramesWanted
    | GateWanted
    | ResyncWanted
    | Note
)
