"""Joins core and wire: a datagram becomes an event, an action becomes bytes.

The engine and the simulator use the same ``Translator``, so the simulator's packets pass the
real parser. It decides three things that belong to neither side:

**For whom is a datagram?** A virtual router is (link, family, VRID). The VRID is read before
anything is judged, to know whose rules apply. A VRID that nobody configured is judged by a
stranger's rules: all checks that need no configuration, in order, and then ``vrid``.

**Which addresses are this host's own?** Those the kernel has, except VIPs: a VIP that this master
holds is no proof that an advert from it is ours (the address owner may use it as its source). An
address owner's VIPs *are* its own. A link-local address is own only on its link.

**Which checksum form does a v3 IPv4 peer use?** (Checklist D1.) On ``checksum: auto`` the first
valid advert of a source decides, and the other form is refused from then on: taking either one
for ever would double the odds that corruption passes. Two valid adverts of the other form in a
row, with none of the old between them, mean that the peer was reconfigured; it is learned anew,
because to refuse a live master for ever means two masters. Sent is what the peer was seen to
use: in unicast mode each peer its own form, in multicast mode that of the last peer accepted,
with pseudo header before any was heard.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from vipd.core.actions import Announce, SendAdvert
from vipd.core.events import (
    AddressGone,
    AddressSeen,
    AdvertHeard,
    AdvertRejected,
    Event,
    KernelResynced,
    LinkGone,
    LinkSeen,
    RivalAnnounced,
)
from vipd.errors import WireError
from vipd.model import (
    ADDRESS_TAG,
    Address,
    ChecksumForm,
    Datagram,
    DiscardReason,
    Family,
    HostAddress,
    InstanceConfig,
    Link,
    NodeConfig,
    family_of,
    is_link_local,
)
from vipd.wire import announce, vrrp
from vipd.wire.receiver import Receiver, group_of, receiver_for, stranger

MAX_KNOWN_FORMS = 256
"""Sources whose checksum form is remembered, per instance. Further ones stay on either form: a
flood of invented sources can neither grow the table nor push a real peer out of it."""

_RELEARN_AFTER = 2
_AUTO = ChecksumForm.AUTO
_RouterKey: TypeAlias = tuple[int, Family, int]
_AddressKey: TypeAlias = tuple[int, Address, int]
_FormsKey: TypeAlias = tuple[str, tuple[str, int, Family, int], ChecksumForm]


@dataclass(frozen=True, slots=True)
class OutgoingAdvert:
    """One datagram to send: ``payload`` is the VRRP message, the kernel adds the IP header."""

    family: Family
    index: int
    source: Address
    destination: Address
    payload: bytes

    def arrive(self, index: int) -> Datagram:
        """The datagram that a receiver on its link ``index`` gets (for the simulator)."""
        if self.family is Family.IPV4:
            packet = vrrp.ipv4_packet(self.source, self.destination, self.payload)
            return Datagram(Family.IPV4, index, packet)
        return Datagram(
            Family.IPV6, index, self.payload, self.source, self.destination, vrrp.HOP_LIMIT
        )


@dataclass(slots=True)
class _Forms:
    """The checksum forms that the peers of one instance use."""

    known: dict[Address, ChecksumForm] = field(default_factory=dict)
    doubts: dict[Address, int] = field(default_factory=dict)
    last: ChecksumForm = ChecksumForm.PSEUDO

    def accepted(self, source: Address, form: ChecksumForm) -> None:
        if form is _AUTO:
            return
        self.last = form
        if self.doubts:
            self.doubts.pop(source, None)
        if source not in self.known and len(self.known) < MAX_KNOWN_FORMS:
            self.known[source] = form

    def doubted(self, source: Address) -> bool:
        """A valid advert in the other form; True once it is time to learn the source anew."""
        self.doubts[source] = self.doubts.get(source, 0) + 1
        if self.doubts[source] < _RELEARN_AFTER:
            return False
        del self.known[source]
        return True

    def of(self, peer: Address) -> ChecksumForm:
        return self.known.get(peer, self.last)


_NOTHING_LEARNED = _Forms()


class _Own:
    """The host's own addresses, sorted once: hundreds of VLANs ask for theirs one by one."""

    def __init__(self, addresses: Iterable[HostAddress]) -> None:
        self._by_index: dict[int, list[HostAddress]] = {}
        anywhere: dict[Family, set[Address]] = {family: set() for family in Family}
        for each in addresses:
            self._by_index.setdefault(each.index, []).append(each)
            if not is_link_local(each.address):
                anywhere[family_of(each.address)].add(each.address)
        self._anywhere = {family: frozenset(found) for family, found in anywhere.items()}

    def on(self, index: int) -> list[HostAddress]:
        return self._by_index.get(index, [])

    def sources(self, index: int, family: Family) -> frozenset[Address]:
        """What is our own when it comes in on the link ``index``."""
        anywhere = self._anywhere[family]
        only_here = {
            each.address for each in self.on(index) if family_of(each.address) is family
        } - anywhere
        return anywhere | only_here if only_here else anywhere


@dataclass(frozen=True, slots=True)
class _Router:
    instance: str
    receiver: Receiver
    forms: _Forms


class Translator:
    """Holds no decisions of the core: only what is needed to read and write its packets."""

    def __init__(self) -> None:
        self._configs: tuple[InstanceConfig, ...] = ()
        self._forms: dict[_FormsKey, _Forms] = {}
        self._vip_addresses: frozenset[Address] = frozenset()
        self._links: dict[int, Link] = {}
        self._addresses: dict[_AddressKey, HostAddress] = {}
        self._forwarding = False
        self._stale = True
        self._indexes: dict[str, int] = {}
        self._own_macs: frozenset[bytes] = frozenset()
        self._vips_by_index: dict[int, frozenset[Address]] = {}
        self._routers: dict[_RouterKey, _Router] = {}
        self._strangers: dict[tuple[int, Family], Receiver] = {}
        self._frames: dict[tuple[Address, bytes, bool], bytes] = {}

    # --- what it must know ----------------------------------------------------------------------

    def configure(self, config: NodeConfig) -> None:
        """Take over a configuration. Unchanged routers keep what was learned of their peers."""
        before, self._configs = self._configs, config.instances
        # A router that a reload removes still says goodbye after it, in its peers' form.
        self._forms = {
            key: self._forms.get(key, _Forms())
            for key in map(_forms_key, (*before, *self._configs))
        }
        self._vip_addresses = frozenset(
            vip.address for each in config.instances if not each.is_owner for vip in each.vips
        )
        self._frames.clear()
        self._stale = True

    def set_host(self, links: Iterable[Link], addresses: Iterable[HostAddress]) -> None:
        """Replace all that is known of the host's links and addresses."""
        self._links = {link.index: link for link in links}
        self._addresses = {_address_key(each): each for each in addresses}
        self._stale = True

    def observe(self, event: Event) -> None:
        """Follow the kernel one event at a time (others are ignored); cheap for our own VIPs."""
        if isinstance(event, AddressSeen):
            self.observe_address(event.address)
        elif isinstance(event, AddressGone):
            gone = self._addresses.pop(_address_key(event.address), None)
            self._stale |= gone is not None and not self._is_vip(gone)
        elif isinstance(event, LinkSeen):
            self._stale |= self._links.get(event.link.index) != event.link
            self._links[event.link.index] = event.link
        elif isinstance(event, LinkGone):
            self._stale |= self._links.pop(event.index, None) is not None
        elif isinstance(event, KernelResynced):
            self.set_host(event.links, event.addresses)

    def observe_address(self, new: HostAddress) -> None:
        """``observe`` of one ``AddressSeen``."""
        key = (new.index, new.address, new.prefix)
        old = self._addresses.get(key)
        if old is None and new.tag == ADDRESS_TAG:
            return  # a VIP of ours is nobody's source here, and the most frequent news
        if new != old:
            self._addresses[key] = new
            self._stale |= not (self._is_vip(new) and (old is None or self._is_vip(old)))

    def set_forwarding(self, router: bool) -> None:
        """Whether this host forwards IPv6: the Router flag of its announcements (D9)."""
        self._stale |= router != self._forwarding
        self._forwarding = router

    # --- receiving ------------------------------------------------------------------------------

    def receive(self, datagram: Datagram) -> AdvertHeard | AdvertRejected | None:
        """The event that a datagram is; None if it came in on a link without an instance."""
        if self._stale:
            self._rebuild()
        vrid, source = vrrp.peek(datagram)
        router = self._routers.get((datagram.index, datagram.family, vrid))
        if router is None:
            return self._receive_strange(datagram, source)
        try:
            heard = vrrp.decode(datagram, router.receiver, router.forms.known)
        except WireError as error:
            doubted = error.reason is DiscardReason.CHECKSUM and source in router.forms.known
            relearned = self._relearn(datagram, router) if doubted else None
            if relearned is None:
                return AdvertRejected(router.instance, error.reason, source, error.detail)
            heard = relearned
        router.forms.accepted(heard.source, heard.form)
        return AdvertHeard(router.instance, heard.source, heard.advert, heard.remarks)

    def _receive_strange(self, datagram: Datagram, source: Address | None) -> AdvertRejected | None:
        receiver = self._strangers.get((datagram.index, datagram.family))
        if receiver is None:
            return None
        try:
            vrrp.decode(datagram, receiver)
        except WireError as error:
            return AdvertRejected("", error.reason, source, error.detail)
        return AdvertRejected("", DiscardReason.VRID, source)

    def _relearn(self, datagram: Datagram, router: _Router) -> vrrp.Heard | None:
        """The advert, if its source was reconfigured to the other checksum form."""
        try:
            heard = vrrp.decode(datagram, router.receiver)
        except WireError:
            return None
        return heard if router.forms.doubted(heard.source) else None

    def rival(self, index: int, mac: bytes, address: Address) -> RivalAnnounced | None:
        """Somebody's statement that ``address`` is at ``mac``: a rival if the VIP is ours."""
        if self._stale:
            self._rebuild()
        if address not in self._vips_by_index.get(index, ()) or mac in self._own_macs:
            return None
        return RivalAnnounced(index, address, mac)

    # --- sending --------------------------------------------------------------------------------

    def encode(self, action: SendAdvert) -> tuple[OutgoingAdvert, ...]:
        """One datagram for the group, or one per unicast peer; none where the link is missing.

        Not cached: an advert is summed in 1-5 µs, hardly more than looking it up would cost.
        """
        if self._stale:
            self._rebuild()
        config = action.config
        index = self._indexes.get(config.interface)
        if index is None:
            return ()
        destinations = config.unicast_peers or (group_of(config.family),)
        forms = self._forms_for(config, destinations)
        return tuple(
            _outgoing(action, index, destination, form)
            for destination, form in zip(destinations, forms, strict=True)
        )

    def announcements(self, action: Announce) -> list[tuple[int, bytes]]:
        """(link index, Ethernet frame) for each VIP whose link exists and has a MAC."""
        if self._stale:
            self._rebuild()
        found = []
        for vip in action.vips:
            index = self._indexes.get(vip.interface)
            if index is not None:
                frame = self._frame(vip.address, self._links[index].mac)
                if frame is not None:
                    found.append((index, frame))
        return found

    def _frame(self, address: Address, mac: bytes) -> bytes | None:
        key = (address, mac, self._forwarding)
        frame = self._frames.get(key)
        if frame is None and len(mac) == 6 and any(mac):  # tunnels have none, loopback has zeros
            frame = announce.announcement(mac, address, router=self._forwarding)
            self._frames[key] = frame
        return frame

    def _forms_for(
        self, config: InstanceConfig, destinations: tuple[Address, ...]
    ) -> tuple[ChecksumForm, ...]:
        if config.checksum is not _AUTO:
            return (config.checksum,) * len(destinations)
        forms = self._forms.get(_forms_key(config), _NOTHING_LEARNED)
        return tuple(forms.of(destination) for destination in destinations)

    # --- derived tables -------------------------------------------------------------------------

    def _is_vip(self, address: HostAddress) -> bool:
        return address.tag == ADDRESS_TAG or address.address in self._vip_addresses

    def _rebuild(self) -> None:
        self._indexes = {link.name: link.index for link in self._links.values()}
        macs = frozenset(link.mac for link in self._links.values())
        if macs != self._own_macs:
            self._own_macs = macs
            self._frames.clear()
        own = _Own(each for each in self._addresses.values() if not self._is_vip(each))
        self._routers, self._strangers = {}, {}
        vips: dict[int, set[Address]] = {}
        for config in self._configs:
            for vip in config.vips:
                if vip.interface in self._indexes:
                    index = self._indexes[vip.interface]
                    vips.setdefault(index, set()).add(vip.address)
                    self._frame(vip.address, self._links[index].mac)  # ready before the claim
            if config.interface in self._indexes:
                self._add_router(config, self._indexes[config.interface], own)
        self._vips_by_index = {index: frozenset(found) for index, found in vips.items()}
        self._stale = False

    def _add_router(self, config: InstanceConfig, index: int, own: _Own) -> None:
        for family in Family:
            if (index, family) not in self._strangers:
                self._strangers[index, family] = stranger(family, own.sources(index, family))
        sources = own.sources(index, config.family)
        if config.source is not None:
            sources |= {config.source}
        prefixes = [(each.address, each.prefix) for each in own.on(index)]
        self._routers[index, config.family, config.vrid] = _Router(
            config.name, receiver_for(config, sources, prefixes), self._forms[_forms_key(config)]
        )


def _outgoing(
    action: SendAdvert, index: int, destination: Address, form: ChecksumForm
) -> OutgoingAdvert:
    payload = vrrp.encode(
        action.advert,
        source=action.source,
        destination=destination,
        form=form,
        auth_secret=action.config.auth_secret,
    )
    return OutgoingAdvert(action.config.family, index, action.source, destination, payload)


def _address_key(address: HostAddress) -> _AddressKey:
    # With the prefix: the kernel may have one IPv4 address twice.
    return (address.index, address.address, address.prefix)


def _forms_key(config: InstanceConfig) -> _FormsKey:
    return (config.name, config.router_key, config.checksum)
