"""Everything a node can ask for. Imperative: an action is an order, carried out in sequence.

The order of the actions that one ``handle`` returns is a contract (``claim.py`` says why). The
one who carries them out (engine, simulator) feeds the results back as events:

=====================  ===================================================================
action                 comes back as
=====================  ===================================================================
SendAdvert             AdvertSent or AdvertFailed
AddAddresses           AddressesApplied, with what the kernel has said of them by then;
                       AddressSeen for what it says later (IPv6 addresses, by a moment)
RenewAddresses         the same
RemoveAddresses        AddressGone for each that left, then AddressesApplied
RemoveStray            AddressGone
Announce               nothing: frames may be lost anyway, repeats are scheduled
OpenGate, ShutGate     GateOpened, GateShut
ResyncKernel           KernelResynced
SendMessage            nothing: what is lost is repeated
KeepWill               nothing; it is kept before the actions behind it are carried out
Note, Finished         nothing
=====================  ===================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from vipd.members import Message, Tombstone
from vipd.model import Address, Advert, HostAddress, InstanceConfig, Note, Vip


@dataclass(frozen=True, slots=True)
class SendAdvert:
    """Send ``advert`` from ``source`` to the group, or to each unicast peer.

    ``config`` is the router as it speaks here: a router that a reload removed says goodbye with
    its old settings.
    """

    config: InstanceConfig
    source: Address
    advert: Advert

    @property
    def instance(self) -> str:
        return self.config.name


@dataclass(frozen=True, slots=True)
class AddAddresses:
    """Add (or refresh) ``vips`` on their interfaces, with the instance's lifetime and our tag."""

    instance: str
    vips: tuple[Vip, ...]


@dataclass(frozen=True, slots=True)
class RenewAddresses:
    """Give the present ``vips`` their full lifetime again."""

    instance: str
    vips: tuple[Vip, ...]


@dataclass(frozen=True, slots=True)
class RemoveAddresses:
    """Remove ``vips``, in this order."""

    instance: str
    vips: tuple[Vip, ...]


@dataclass(frozen=True, slots=True)
class RemoveStray:
    """Remove addresses that carry our tag and belong to no claim (an interface was renamed)."""

    addresses: tuple[HostAddress, ...]


@dataclass(frozen=True, slots=True)
class Announce:
    """One gratuitous ARP (IPv4) or unsolicited NA (IPv6) for each of ``vips``."""

    instance: str
    vips: tuple[Vip, ...]


@dataclass(frozen=True, slots=True)
class OpenGate:
    """Let the packets of the instance's VIPs pass. Without a gate: confirmed at once."""

    instance: str


@dataclass(frozen=True, slots=True)
class ShutGate:
    """Stop the packets of the instance's VIPs. Without a gate: confirmed at once."""

    instance: str


@dataclass(frozen=True, slots=True)
class ResyncKernel:
    """Dump links and addresses: what we believe may be stale."""


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Say ``message`` on the channel, on every path: to the member ``to``, or to all (empty)."""

    message: Message
    to: str = ""


@dataclass(frozen=True, slots=True)
class KeepWill:
    """The last will (QUORUM §10), all of it: what is to be said for this engine once it is dead
    and its VIPs are gone. Replaces what was kept before.

    ``tombstones`` by member; then ``goodbyes``, adverts of priority 0.
    """

    tombstones: tuple[tuple[str, Tombstone], ...]
    goodbyes: tuple[SendAdvert, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """Everything is released; the process may end."""


Action: TypeAlias = (
    SendAdvert
    | AddAddresses
    | RenewAddresses
    | RemoveAddresses
    | RemoveStray
    | Announce
    | OpenGate
    | ShutGate
    | ResyncKernel
    | SendMessage
    | KeepWill
    | Note
    | Finished
)
