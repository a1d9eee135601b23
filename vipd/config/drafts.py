"""Instances half way from the file to what this node does: its values, with their places.

``resolve`` makes them; the cross checks judge them before they become frozen configuration.
"""

from __future__ import annotations

from dataclasses import dataclass

from vipd.config.schema import Instance
from vipd.config.yamltree import Path
from vipd.model import Address, Family, family_of, format_address


@dataclass(frozen=True, slots=True)
class DraftVip:
    """A VIP of the file with its place in it."""

    path: Path
    address: Address
    prefix: int
    interface: str | None
    advertise: bool

    def __str__(self) -> str:
        return f"{format_address(self.address)}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class Draft:
    """An instance with this node's values; None where the file gives none that can be used."""

    name: str
    entry: Instance
    interface: str | None
    priority: int | None
    source: Address | None
    unicast_peers: tuple[Address, ...] | None
    vips: tuple[DraftVip, ...]
    family: Family | None

    @property
    def path(self) -> Path:
        return ("instances", self.name)

    @property
    def advertised(self) -> tuple[DraftVip, ...]:
        """VIPs that the adverts list."""
        return tuple(
            vip for vip in self.vips if vip.advertise and family_of(vip.address) is self.family
        )
