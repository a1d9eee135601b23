"""The host as the kernel tells it: links and addresses, and what follows from them.

Two questions are answered here:

* *Which source do the adverts of a router have?* The configured one while the host has it; else
  the first address of the interface that is no VIP (IPv6: link-local), and that one for as long
  as it stays: a second, numerically lower address must not make the source flip. What carries
  our tag is never a source: a VIP that an earlier run left behind is about to go.
* *With which prefix is a VIP added?* IPv4 VIPs become /32 wherever another address of the host
  covers them. Otherwise VIP and host address would be primary and secondary of one subnet, and
  the end of one could take the other, and the default route, along.
"""

from __future__ import annotations

from collections.abc import Iterable

from vipd.model import (
    ADDRESS_TAG,
    Address,
    Family,
    HostAddress,
    InstanceConfig,
    Link,
    Vip,
    VipKey,
    family_of,
    is_link_local,
)

_EntryKey = tuple[int, Address, int]


class HostView:
    """Links by index and addresses in the kernel's order."""

    def __init__(self) -> None:
        self.links: dict[int, Link] = {}
        self._by_name: dict[str, Link] = {}
        self._entries: dict[_EntryKey, HostAddress] = {}
        self._untagged: dict[_EntryKey, HostAddress] = {}  # few, beside a thousand VIPs
        self._prefixes: dict[tuple[int, Address], set[int]] = {}

    # --- what the kernel says -----------------------------------------------------------------

    def resync(self, links: Iterable[Link], addresses: Iterable[HostAddress]) -> None:
        """Replace everything by a full dump."""
        self.links = {link.index: link for link in links}
        self._by_name = {link.name: link for link in self.links.values()}
        self._entries.clear()
        self._untagged.clear()
        self._prefixes.clear()
        for address in addresses:
            self.see_address(address)

    def see_link(self, link: Link) -> None:
        self.forget_link_name(link.index)
        self.links[link.index] = link
        self._by_name[link.name] = link

    def forget_link_name(self, index: int) -> None:
        old = self.links.get(index)
        if old is not None and self._by_name.get(old.name) is old:
            del self._by_name[old.name]

    def lose_link(self, index: int) -> list[HostAddress]:
        """The link is gone and its addresses with it; returns those that were known."""
        self.forget_link_name(index)
        self.links.pop(index, None)
        lost = [entry for entry in self._entries.values() if entry.index == index]
        for entry in lost:
            self.lose_address(entry)
        return lost

    def see_address(self, address: HostAddress) -> bool:
        """Note ``address``; True if exactly this was known already."""
        # IPv4 may have one address twice, with different prefixes; IPv6 may not.
        packed = address.address
        entry = (address.index, packed, address.prefix if len(packed) == 4 else 0)
        if self._entries.get(entry) == address:
            return True
        self._entries[entry] = address
        if address.tag != ADDRESS_TAG:
            self._untagged[entry] = address
        elif entry in self._untagged:
            del self._untagged[entry]
        prefixes = self._prefixes.get(entry[:2])
        if prefixes is None:
            self._prefixes[entry[:2]] = {entry[2]}
        else:
            prefixes.add(entry[2])
        return False

    def lose_address(self, address: HostAddress) -> None:
        entry = _entry_key(address)
        self._entries.pop(entry, None)
        self._untagged.pop(entry, None)
        prefixes = self._prefixes.get(address.key)
        if prefixes is not None:
            prefixes.discard(entry[2])
            if not prefixes:
                del self._prefixes[address.key]

    # --- looking things up --------------------------------------------------------------------

    def link_named(self, name: str) -> Link | None:
        return self._by_name.get(name)

    def is_up(self, name: str) -> bool:
        """Is there an interface of this name, up and with carrier?"""
        link = self._by_name.get(name)
        return link is not None and link.up

    def addresses(self) -> Iterable[HostAddress]:
        return self._entries.values()

    def key_of(self, address: HostAddress) -> VipKey | None:
        """(interface name, address), None while the link is unknown."""
        link = self.links.get(address.index)
        return None if link is None else (link.name, address.address)

    def entries(self, key: VipKey) -> list[HostAddress]:
        """All entries of one address on one interface; ours (tagged) first."""
        link = self._by_name.get(key[0])
        if link is None:
            return []
        prefixes = self._prefixes.get((link.index, key[1]), ())
        found = [self._entries[link.index, key[1], prefix] for prefix in prefixes]
        if len(found) < 2:
            return found
        return sorted(found, key=lambda entry: (entry.tag != ADDRESS_TAG, entry.prefix))

    def has(self, key: VipKey) -> bool:
        link = self._by_name.get(key[0])
        return link is not None and (link.index, key[1]) in self._prefixes

    # --- what follows -------------------------------------------------------------------------

    def source_for(
        self, config: InstanceConfig, vips: frozenset[Address], current: Address | None
    ) -> Address | None:
        """The source of the router's adverts; ``vips`` are all VIPs of the node."""
        link = self._by_name.get(config.interface)
        if link is None:
            return None
        usable = [
            entry.address
            for entry in self._untagged.values()
            if entry.index == link.index
            and not entry.tentative
            and family_of(entry.address) is config.family
        ]
        if config.source is not None:
            return config.source if config.source in usable else None
        own = [
            address
            for address in usable
            if (config.is_owner or address not in vips)
            and (config.family is Family.IPV4 or is_link_local(address))
        ]
        if current in own:
            return current
        return own[0] if own else None

    def place(self, vips: Iterable[Vip], all_vips: frozenset[Address]) -> tuple[Vip, ...]:
        """The VIPs with the prefix that they have, or get, in the kernel."""
        networks = [
            _network(entry.address, entry.prefix)
            for entry in self._untagged.values()
            if len(entry.address) == 4 and entry.address not in all_vips
        ]
        return tuple([self._place(vip, networks) for vip in vips])

    def _place(self, vip: Vip, networks: list[tuple[int, int]]) -> Vip:
        packed = vip.address
        link = self._by_name.get(vip.interface)
        if link is not None and (link.index, packed) in self._prefixes:
            return _with_prefix(vip, self.entries(vip.key)[0].prefix)
        if len(packed) == 4:
            value = int.from_bytes(packed)
            for network, shift in networks:
                if value >> shift == network:
                    return _with_prefix(vip, 32)
        return vip


def _with_prefix(vip: Vip, prefix: int) -> Vip:
    if vip.prefix == prefix:
        return vip
    return Vip(vip.address, prefix, vip.interface, vip.advertise)


def _entry_key(address: HostAddress) -> _EntryKey:
    packed = address.address
    return (address.index, packed, address.prefix if len(packed) == 4 else 0)


def _network(address: Address, prefix: int) -> tuple[int, int]:
    shift = 32 - prefix
    return (int.from_bytes(address) >> shift, shift)
