"""Everything that can happen to a node. Past tense: an event is a fact, never a wish.

Events come from three places: the wire (``translate``), the kernel (adapters), and the loop
itself (time, results of actions, configuration). The simulator makes the same values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from vipd.core.actions import AddAddresses, RemoveAddresses, RenewAddresses
from vipd.members import ChannelDiscard, Owner, Received
from vipd.model import (
    Address,
    Advert,
    DiscardReason,
    Duration,
    HostAddress,
    Link,
    NodeConfig,
    Orders,
    Reason,
    Remark,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Configured:
    """The whole desired state; comes at start and again at every reload."""

    config: NodeConfig


@dataclass(frozen=True, slots=True)
class HealthReported:
    """The whole health vector; comes at every change, and regularly without one."""

    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class OrdersGiven:
    """What the operator wants beyond the configuration: all of it, each time."""

    orders: Orders


@dataclass(frozen=True, slots=True)
class Identified:
    """Who this engine is, for its whole life; comes once, before everything else.

    ``seed``: random bytes, from which the nonces that it tells its peers follow. ``software``: our
    version, for people. ``after_death``: the engine before this one died.
    """

    owner: Owner
    seed: bytes
    software: str = ""
    after_death: bool = False


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The daemon ends: release everything, then say ``Finished``."""

    reason: Reason = Reason.STOPPED


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """``now`` reached what ``Node.deadline()`` returned."""


@dataclass(frozen=True, slots=True)
class LoopStalled:
    """The loop woke ``late_ns`` after it meant to. The sockets have *not* been read yet."""

    late_ns: Duration


@dataclass(frozen=True, slots=True)
class StallDrained:
    """Everything that waited in the sockets during the stall has been handled."""


@dataclass(frozen=True, slots=True)
class KernelResynced:
    """A full dump: replaces all that was known of links and addresses."""

    links: tuple[Link, ...]
    addresses: tuple[HostAddress, ...]


@dataclass(frozen=True, slots=True)
class LinkSeen:
    """A link appeared or changed (state, name, MAC, MTU)."""

    link: Link


@dataclass(frozen=True, slots=True)
class LinkGone:
    index: int


@dataclass(frozen=True, slots=True)
class AddressSeen:
    """The kernel has the address (new, renewed or changed)."""

    address: HostAddress


@dataclass(frozen=True, slots=True)
class AddressGone:
    """The kernel no longer has exactly this entry (IPv4 may have one address twice)."""

    address: HostAddress


@dataclass(frozen=True, slots=True)
class AdvertHeard:
    """A valid advert for ``instance``: passed every receive check."""

    instance: str
    source: Address
    advert: Advert
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class AdvertRejected:
    """A datagram failed a receive check; ``instance`` is empty where none could be named."""

    instance: str
    reason: DiscardReason
    source: Address | None
    detail: str = field(default="", compare=False)  # words for people


@dataclass(frozen=True, slots=True)
class MessageHeard:
    """A member of the cluster said something; ``source`` is the address that it came from."""

    received: Received
    source: Address


@dataclass(frozen=True, slots=True)
class MessageRejected:
    """A datagram of the channel was discarded; ``sender`` is empty where none was proved."""

    reason: ChannelDiscard
    sender: str
    source: Address
    detail: str = field(default="", compare=False)  # words for people


@dataclass(frozen=True, slots=True)
class RivalAnnounced:
    """Somebody else's ARP or NA claimed ``address`` with ``mac`` on the link ``index``."""

    index: int
    address: Address
    mac: bytes


@dataclass(frozen=True, slots=True)
class AdvertSent:
    """The kernel took the advert of ``instance``."""

    instance: str


@dataclass(frozen=True, slots=True)
class AdvertFailed:
    """The kernel refused the advert of ``instance``."""

    instance: str
    errno: int


@dataclass(frozen=True, slots=True)
class Deafened:
    """The router ``instance`` cannot hear: its socket could not be opened (``errno``)."""

    instance: str
    errno: int


@dataclass(frozen=True, slots=True)
class Undeafened:
    """The router ``instance`` can hear (again)."""

    instance: str


@dataclass(frozen=True, slots=True)
class AddressesApplied:
    """The kernel worked through the batch of ``action``.

    ``failures`` maps positions in ``action.vips`` to errnos. Success is believed only when the
    kernel says of an address that it has it: ``seen`` is what it has said by now, many
    ``AddressSeen`` in one; what it says later comes as ``AddressSeen``. What left comes as
    ``AddressGone`` before this event.
    """

    action: AddAddresses | RemoveAddresses | RenewAddresses
    failures: tuple[tuple[int, int], ...] = ()
    seen: tuple[HostAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class GateOpened:
    instance: str


@dataclass(frozen=True, slots=True)
class GateShut:
    instance: str


Event: TypeAlias = (
    Identified
    | Configured
    | HealthReported
    | OrdersGiven
    | StopRequested
    | DeadlinePassed
    | LoopStalled
    | StallDrained
    | KernelResynced
    | LinkSeen
    | LinkGone
    | AddressSeen
    | AddressGone
    | AdvertHeard
    | AdvertRejected
    | MessageHeard
    | MessageRejected
    | RivalAnnounced
    | AdvertSent
    | AdvertFailed
    | Deafened
    | Undeafened
    | AddressesApplied
    | GateOpened
    | GateShut
)
