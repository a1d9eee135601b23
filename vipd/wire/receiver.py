"""What a virtual router accepts, worked out once per configuration.

A ``Receiver`` is the configured side of every check in ``vrrp.decode``, in the shape in which the
check is cheapest: a flood of adverts must cost little. Nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from vipd.model import (
    Address,
    ChecksumForm,
    Family,
    InstanceConfig,
    parse_address,
)

GROUP_IPV4 = parse_address("224.0.0.18")
GROUP_IPV6 = parse_address("ff02::12")
AUTH_LENGTH = 8
ANY_VERSION = 0
"""``Receiver.version`` of a receiver that stands for no router."""


def group_of(family: Family) -> Address:
    """The multicast group of all virtual routers of a family."""
    return GROUP_IPV4 if family is Family.IPV4 else GROUP_IPV6


def padded(secret: bytes) -> bytes:
    """A PASS secret as it is sent: 8 bytes, zero padded (RFC 3768 §5.3.10)."""
    return secret[:AUTH_LENGTH].ljust(AUTH_LENGTH, b"\0")


@dataclass(frozen=True, slots=True)
class Receiver:
    """What one virtual router accepts. Made by ``receiver_for`` or ``stranger``.

    ``own_sources``: addresses that we send from; ``destinations``: where adverts may go to;
    ``peers``: who may send (empty: anybody); ``networks``: (network, mask) of the interface's
    own IPv4 addresses, empty where a foreign subnet is no oddity.
    """

    family: Family
    version: int
    vrid: int
    own_sources: frozenset[Address]
    destinations: frozenset[Address]
    priority: int = 0
    interval_ns: int = 0
    advertised: tuple[Address, ...] = ()
    auth_secret: bytes | None = field(default=None, repr=False)
    checksum: ChecksumForm = ChecksumForm.AUTO
    strict: bool = False
    peers: frozenset[Address] = frozenset()
    networks: tuple[tuple[int, int], ...] = ()
    broadcasts: frozenset[Address] = frozenset()
    packed_list: bytes = field(default=b"", repr=False)


def receiver_for(
    config: InstanceConfig,
    own_sources: Iterable[Address],
    prefixes: Iterable[tuple[Address, int]] = (),
) -> Receiver:
    """The receiver of a configured instance; ``prefixes`` are those of its interface."""
    own = frozenset(own_sources)
    unicast = bool(config.unicast_peers)
    networks = _networks(prefixes) if config.family is Family.IPV4 else ()
    secret = config.auth_secret
    return Receiver(
        family=config.family,
        version=config.version,
        vrid=config.vrid,
        own_sources=own,
        destinations=own if unicast else frozenset((group_of(config.family),)),
        priority=config.priority,
        interval_ns=config.advert_interval_ns,
        advertised=config.advertised,
        auth_secret=None if secret is None else padded(secret),
        checksum=config.checksum,
        strict=config.strict,
        peers=frozenset(config.unicast_peers),
        # A configured peer may live behind a router: its subnet is the operator's choice.
        networks=() if unicast else networks,
        broadcasts=_broadcasts(networks),
        packed_list=b"".join(config.advertised),
    )


def stranger(family: Family, own_sources: Iterable[Address]) -> Receiver:
    """The receiver for VRIDs that nobody configured: the best a datagram can get is ``vrid``."""
    own = frozenset(own_sources)
    return Receiver(
        family=family,
        version=ANY_VERSION,
        vrid=0,
        own_sources=own,
        destinations=own | {group_of(family)},
    )


def _networks(prefixes: Iterable[tuple[Address, int]]) -> tuple[tuple[int, int], ...]:
    masks = (
        (int.from_bytes(address, "big"), (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF)
        for address, prefix in prefixes
        if len(address) == 4
    )
    return tuple(sorted({(number & mask, mask) for number, mask in masks}))


def _broadcasts(networks: tuple[tuple[int, int], ...]) -> frozenset[Address]:
    """Directed broadcast addresses; networks of one or two addresses have none (RFC 3021)."""
    return frozenset(
        (network | ~mask & 0xFFFFFFFF).to_bytes(4, "big")
        for network, mask in networks
        if mask < 0xFFFFFFFE
    )
