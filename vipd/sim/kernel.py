"""A fake kernel: links, addresses with lifetimes, and an event socket.

As Linux does it: an order is carried out entry by entry, a failure stops nothing; adding what is
there refreshes it (IPv4: same prefix; IPv6: any) and replaces its tag; a new IPv6 address may be
reported a moment after the order was answered; an address ends up to 0.87 s after its lifetime;
IPv6 addresses leave when a link is taken down, IPv4 ones stay; a removed link takes its addresses
along, and comes back under another index.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from vipd.core.events import AddressGone, AddressSeen, Event, LinkGone, LinkSeen
from vipd.model import (
    ADDRESS_TAG,
    MILLISECOND_NS,
    SECOND_NS,
    Address,
    Duration,
    HostAddress,
    Instant,
    Link,
    VipKey,
    format_address,
)
from vipd.sim.world import World

ENODEV, EADDRNOTAVAIL, ENETDOWN = 19, 99, 100
EXPIRY_LATENESS_NS = 870 * MILLISECOND_NS
_DAD_NS = 1000 * MILLISECOND_NS

_EntryKey = tuple[int, Address, int]


def ignore(_said: object) -> None:
    """Nobody listens."""


@dataclass(slots=True)
class Entry:
    """One address; ``expires`` None: for ever."""

    address: HostAddress
    expires: Instant | None
    timed: bool = False


class FakeKernel:
    """The kernel of one host. ``emit`` receives what the event socket would give.

    ``present``, ``tagged`` (ours) and ``foreign`` (not ours) hold the addresses by (interface
    name, address); IPv4 may have one address both ways, with two prefixes.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.links: dict[str, Link] = {}
        self.admin_down: set[str] = set()
        self.entries: dict[_EntryKey, Entry] = {}
        self.emit: Callable[[Event], None] = ignore
        self.on_change: Callable[[VipKey], None] = ignore
        self.on_expiry: Callable[[VipKey], None] = ignore
        self.present: set[VipKey] = set()
        self.tagged: set[VipKey] = set()
        self.foreign: set[VipKey] = set()
        self.late_ipv6_ns: Duration = 0
        self._names: dict[int, str] = {}
        self._by_vip: dict[VipKey, set[_EntryKey]] = {}
        self._next_index = 2

    # --- links --------------------------------------------------------------------------------

    def create_link(self, name: str, mac: bytes) -> None:
        link = Link(self._next_index, name, True, mac)
        self._next_index += 1
        self._names[link.index] = name
        self.links[name] = link
        self.admin_down.discard(name)
        self.emit(LinkSeen(link))

    def delete_link(self, name: str) -> None:
        link = self.links[name]
        for key in [key for key in self.entries if key[0] == link.index]:
            self._drop(key)
        del self.links[name]
        self.emit(LinkGone(link.index))

    def set_link(self, name: str, *, up: bool, admin: bool) -> None:
        link = self.links.get(name)
        if link is None or link.up == up:
            return
        self.links[name] = replace(link, up=up)
        if up:
            self.admin_down.discard(name)
        elif admin:
            self.admin_down.add(name)
        self.emit(LinkSeen(self.links[name]))
        if not up and admin:
            for key in [k for k in self.entries if k[0] == link.index and len(k[1]) == 16]:
                self._drop(key)

    def set_mac(self, name: str, mac: bytes) -> None:
        if name in self.links:
            self.links[name] = replace(self.links[name], mac=mac)
            self.emit(LinkSeen(self.links[name]))

    def name_of(self, index: int) -> str:
        return self._names[index]

    # --- addresses ----------------------------------------------------------------------------

    def has(self, key: VipKey) -> bool:
        return key in self.present

    def _index(self, vip: VipKey) -> None:
        tags = {self.entries[key].address.tag for key in self._by_vip.get(vip, ())}
        for members, belongs in (
            (self.present, bool(tags)),
            (self.tagged, ADDRESS_TAG in tags),
            (self.foreign, bool(tags - {ADDRESS_TAG})),
        ):
            if belongs:
                members.add(vip)
            else:
                members.discard(vip)

    def add(
        self, interface: str, address: Address, prefix: int, *, tag: int, lifetime_s: int | None
    ) -> int:
        """0 or an errno."""
        link = self.links.get(interface)
        if link is None:
            return ENODEV
        key = (link.index, address, prefix if len(address) == 4 else 0)
        entry = self.entries.get(key)
        fresh = entry is None
        if entry is None:
            entry = self.entries[key] = Entry(HostAddress(link.index, address, prefix, tag), None)
            self._by_vip.setdefault((interface, address), set()).add(key)
            self._index((interface, address))
            self.on_change((interface, address))
        elif entry.address.tag != tag:
            entry.address = replace(entry.address, tag=tag)
            self._index((interface, address))
        if lifetime_s is not None:
            late = self.world.between(0, EXPIRY_LATENESS_NS)
            entry.expires = self.world.now + lifetime_s * SECOND_NS + late
            if not entry.timed:
                entry.timed = True
                self.world.at(entry.expires, self._expire, key, entry)
        if fresh and len(address) == 16 and self.late_ipv6_ns:
            delay = self.world.between(0, self.late_ipv6_ns)
            self.world.after(delay, self._say_late, key, entry)
        else:
            self.emit(AddressSeen(entry.address))
        return 0

    def _say_late(self, key: _EntryKey, entry: Entry) -> None:
        if self.entries.get(key) is entry:
            self.emit(AddressSeen(entry.address))

    def add_tentative(self, interface: str, address: Address, prefix: int) -> None:
        """A link-local address of the host itself: usable once DAD is over."""
        if self.add(interface, address, prefix, tag=0, lifetime_s=None):
            return
        key = (self.links[interface].index, address, 0)
        entry = self.entries[key]
        entry.address = replace(entry.address, tentative=True)
        self.emit(AddressSeen(entry.address))
        self.world.after(_DAD_NS, self._end_dad, key, entry)

    def _end_dad(self, key: _EntryKey, entry: Entry) -> None:
        if self.entries.get(key) is entry:
            entry.address = replace(entry.address, tentative=False)
            self.emit(AddressSeen(entry.address))

    def remove(self, interface: str, address: Address, prefix: int) -> int:
        link = self.links.get(interface)
        if link is None:
            return ENODEV
        key = (link.index, address, prefix if len(address) == 4 else 0)
        if key not in self.entries:
            return EADDRNOTAVAIL
        self._drop(key)
        return 0

    def remove_entry(self, address: HostAddress) -> None:
        prefix = address.prefix if len(address.address) == 4 else 0
        if (address.index, address.address, prefix) in self.entries:
            self._drop((address.index, address.address, prefix))

    def delete_vip(self, key: VipKey) -> None:
        """Somebody's ``ip addr del``."""
        for each in sorted(self._by_vip.get(key, ())):
            self._drop(each)

    def delete_tagged(self) -> None:
        """What ``vipd release`` and the last will do."""
        for key in [k for k, e in self.entries.items() if e.address.tag == ADDRESS_TAG]:
            self._drop(key)

    def dump(self) -> tuple[tuple[Link, ...], tuple[HostAddress, ...]]:
        """All links and addresses. In what order a dump lists addresses is not promised."""
        addresses = [entry.address for entry in self.entries.values()]
        self.world.rng.shuffle(addresses)
        return tuple(self.links.values()), tuple(addresses)

    def clear(self) -> None:
        """The machine is off: nothing is left, and nobody is told."""
        self.emit = ignore
        for key in list(self.entries):
            self._drop(key)
        self.links.clear()
        self.admin_down.clear()

    def is_usable(self, index: int, address: Address) -> bool:
        return any(
            key[0] == index and key[1] == address and not entry.address.tentative
            for key, entry in self.entries.items()
        )

    def has_own(self, index: int, address: Address) -> bool:
        return any(key[0] == index and key[1] == address for key in self.entries)

    def _expire(self, key: _EntryKey, entry: Entry) -> None:
        if self.entries.get(key) is not entry or entry.expires is None:
            return
        if entry.expires > self.world.now:
            self.world.at(entry.expires, self._expire, key, entry)
            return
        vip = (self._names[key[0]], key[1])
        self.world.trace(self.name, f"(kernel) lifetime over: {format_address(key[1])}")
        self._drop(key)
        self.on_expiry(vip)

    def _drop(self, key: _EntryKey) -> None:
        entry = self.entries.pop(key)
        vip = (self._names[key[0]], key[1])
        self._by_vip[vip].discard(key)
        self._index(vip)
        self.on_change(vip)
        self.emit(AddressGone(entry.address))
