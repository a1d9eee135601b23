"""What a configuration is judged against: the host, as far as it is known."""

from __future__ import annotations

from dataclasses import dataclass

from vipd.model import ADDRESS_TAG, Address, HostAddress, Link

DEFAULT_MTU = 1500


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The links and addresses of the host that the file is loaded for."""

    links: tuple[Link, ...]
    addresses: tuple[HostAddress, ...]

    def link(self, name: str) -> Link | None:
        return next((link for link in self.links if link.name == name), None)

    def own_addresses(self, interface: str | None = None) -> frozenset[Address]:
        """Addresses that are the host's own (not put there by vipd), on one interface or all."""
        link = self.link(interface) if interface else None
        if interface and link is None:
            return frozenset()
        return frozenset(
            entry.address
            for entry in self.addresses
            if entry.tag != ADDRESS_TAG and (link is None or entry.index == link.index)
        )


def mtu_of(facts: HostFacts | None, interface: str) -> int:
    """The link's MTU; Ethernet's where the link is not known."""
    link = facts.link(interface) if facts else None
    return link.mtu if link else DEFAULT_MTU
