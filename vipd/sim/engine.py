"""A fake engine process: the real core and translator on a fake kernel and network.

It does what the engine's loop does, in the same order:

* Events are handled one at a time, in the order in which the sockets gave them. The results of
  actions come back through the same queue, kernel notifications before the answer to an order.
* Orders to the kernel are carried out one after the other and take a while; everything else
  goes on meanwhile.
* A wake-up that comes more than a millisecond after the deadline is a stall: first
  ``LoopStalled``, then everything that waits in the sockets, then ``StallDrained``, and only
  then ``DeadlinePassed``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from vipd.core.actions import (
    Action,
    AddAddresses,
    Announce,
    Finished,
    KeepWill,
    OpenGate,
    RemoveAddresses,
    RemoveStray,
    RenewAddresses,
    ResyncKernel,
    SendAdvert,
    SendMessage,
    ShutGate,
)
from vipd.core.events import (
    AddressesApplied,
    AddressGone,
    AddressSeen,
    AdvertFailed,
    AdvertSent,
    Configured,
    DeadlinePassed,
    Deafened,
    Event,
    GateOpened,
    GateShut,
    Identified,
    KernelResynced,
    LinkGone,
    LinkSeen,
    LoopStalled,
    MessageHeard,
    StallDrained,
    Undeafened,
)
from vipd.core.node import Node
from vipd.model import ADDRESS_TAG, MILLISECOND_NS, Address, Instant, Note
from vipd.sim.channel import Carried
from vipd.sim.kernel import ENETDOWN, ENODEV, ignore
from vipd.sim.render import short
from vipd.translate import OutgoingAdvert, Translator
from vipd.translate_channel import ChannelTranslator, Outgoing
from vipd.wire.channel_frame import SPOKEN

if TYPE_CHECKING:
    from vipd.sim.host import Host

STALL_NS = MILLISECOND_NS
_SOCKET_BUFFER = 400
_WAKE_LATE_NS = 300_000
_HICCUP_NS = (MILLISECOND_NS, 30 * MILLISECOND_NS)

_LOOK_AGAIN_NS = 5 * MILLISECOND_NS
_LINK_EVENTS = (LinkSeen, LinkGone, KernelResynced)

_MOST_WAKES = 200
"""At one instant; a thousand announcements are cut into eight turns."""

_Order: TypeAlias = AddAddresses | RenewAddresses | RemoveAddresses | RemoveStray
_Packet: TypeAlias = OutgoingAdvert | tuple[bytes, tuple[Address, ...]]


class FakeEngine:
    """One life of one engine process."""

    def __init__(self, host: Host, identity: Identified) -> None:
        self.host = host
        self.world = host.world
        self.identity = identity
        self.born_at = self.now()
        self.node = Node()
        self.translator = Translator()
        self.channel = ChannelTranslator(host.speaks)
        self.will = KeepWill((), ())
        self.tombstones: tuple[Outgoing, ...] = ()
        self.alive = True
        self.paused = False
        self.overflowing = False
        self.told: set[tuple[int, Address]] = set()
        self.handled: Event | None = None
        self._inbox: deque[Event] = deque()
        self._sockets: deque[tuple[int, _Packet]] = deque()
        self._datagrams: deque[Carried] = deque()
        self._kernel_socket: deque[Event] = deque()
        self._supervisor: deque[Event] = deque()
        self._deaf: set[str] = set()
        self._orders: deque[_Order] = deque()
        self._ordering = False
        self._handling = False
        self._armed: Instant | None = None
        self._woken_at: Instant = -1
        self._wakes = 0

    def now(self) -> Instant:
        return self.host.clock.local(self.world.now)

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        self.host.kernel.emit = self.kernel_says
        supervisor = self.host.supervisor
        self.feed(self.identity)
        for event in () if supervisor is None else supervisor.first_words():
            self.feed(event)
        self.feed(Configured(self.host.config()))
        self.feed(KernelResynced(*self.host.kernel.dump()))
        self.follow_sockets()

    def die(self) -> None:
        """SIGKILL or a crash. The order that the kernel works on may still be carried out."""
        if self._orders and self._ordering and self.world.chance(0.5):
            self._apply(self._orders[0])
        self.alive = False
        self.host.kernel.emit = ignore

    def pause(self) -> None:
        self.paused = True

    def thaw(self) -> None:
        """SIGCONT: the first thing that the process does is to look how late it is."""
        self.paused = False
        due = self.node.deadline()
        late = 0 if due is None else self.now() - due
        if late > STALL_NS:
            self.feed(LoopStalled(late))
        self._read_sockets()
        if late > STALL_NS:
            self.feed(StallDrained())
        while self._supervisor and self.alive:
            self.feed(self._supervisor.popleft())
        self._next_order()
        self._wake_if_due()

    def _read_sockets(self) -> None:
        while self._kernel_socket:
            self.feed(self._kernel_socket.popleft())
        while self._sockets and self.alive:
            self._read(*self._sockets.popleft())
        while self._datagrams and self.alive:
            self._read_datagram(self._datagrams.popleft())

    # --- what comes in ------------------------------------------------------------------------

    def kernel_says(self, event: Event) -> None:
        if self.overflowing:
            self.world.coverage["kernel events lost"] += 1
        elif self.paused:
            self._kernel_socket.append(event)
        else:
            self.feed(event)

    def told_by_supervisor(self, event: Event) -> None:
        if self.paused:
            self._supervisor.append(event)
        else:
            self.feed(event)

    def follow_sockets(self) -> None:
        """Open what the routers need now, and tell the node of those that cannot hear.

        The engine looks again after every reload and change of links, and until those that leave
        have left.
        """
        if not self.alive or self.paused:
            return
        names = {
            router.name: self.host.deaf[router.interface, router.family]
            for router in self.node.routers()
            if (router.interface, router.family) in self.host.deaf
            and router.interface in self.host.kernel.links
        }
        before, self._deaf = self._deaf, set(names)
        for name in sorted(before - self._deaf):
            self.feed(Undeafened(name))
        for name in sorted(self._deaf - before):
            self.feed(Deafened(name, names[name]))
        if self.node.is_leaving:
            self.world.after(_LOOK_AGAIN_NS, self.follow_sockets)

    def overflowed(self) -> None:
        """ENOBUFS on the event socket: events were lost, so dump and compare."""
        self.overflowing = False
        dump = KernelResynced(*self.host.kernel.dump())
        if self.paused:
            self._kernel_socket.append(dump)
        else:
            self.feed(dump)

    def arrive(self, index: int, packet: _Packet) -> None:
        if not self.paused:
            self._read(index, packet)
        elif len(self._sockets) < _SOCKET_BUFFER:
            self._sockets.append((index, packet))

    def datagram_arrives(self, datagram: Carried) -> None:
        if not self.paused:
            self._read_datagram(datagram)
        elif len(self._datagrams) < _SOCKET_BUFFER:
            self._datagrams.append(datagram)

    def _read_datagram(self, datagram: Carried) -> None:
        """The socket is bound to its address, so only what is configured can arrive."""
        event = self.channel.receive(datagram.data, datagram.source, datagram.destination)
        if isinstance(event, MessageHeard) and self.host.speaks != SPOKEN:
            # A release that speaks version 1 only knows nothing of echoes, and demands none.
            event = replace(event, received=replace(event.received, speaks=self.host.speaks))
        self.host.judge.hears(self, event, datagram.sent_at)
        self.feed(event)

    def _read(self, index: int, packet: _Packet) -> None:
        if isinstance(packet, OutgoingAdvert):
            if (self.host.kernel.name_of(index), packet.family) in self.host.deaf:
                return
            event: Event | None = self.translator.receive(packet.arrive(index))
            if event is not None:
                self.feed(event)
            return
        mac, addresses = packet
        for address in addresses:
            event = self.translator.rival(index, mac, address)
            if event is not None:
                self.feed(event)

    # --- the loop -----------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Queue an event; unless one is being handled right now, handle all that are queued."""
        self._inbox.append(event)
        self._drain()

    def _drain(self) -> None:
        if self._handling:
            return
        self._handling = True
        while self._inbox and self.alive:
            self._handle(self._inbox.popleft())
        self._handling = False
        self._arm()

    def _handle(self, event: Event) -> None:
        now = self.now()
        if self.world.tracing:
            self.world.trace(self.host.name, f"<- {short(event)}")
        if isinstance(event, Configured):
            self.translator.configure(event.config)
            self.channel.configure(event.config.cluster, self.identity.owner)
        else:
            self.translator.observe(event)
            self._note_told(event)
        judge = self.host.judge
        self.handled = event
        actions = self.node.handle(event, now)
        for action in actions:
            if self.world.tracing:
                self.world.trace(self.host.name, f"-> {short(action)}")
            self._dispatch(action)
        judge.after(self, event, actions, now)
        if isinstance(event, _LINK_EVENTS):
            self.world.after(0, self.follow_sockets)

    def _note_told(self, event: Event) -> None:
        """Keep what the kernel has told this process: it may announce nothing else."""
        if isinstance(event, AddressSeen):
            self.told.add(event.address.key)
        elif isinstance(event, AddressGone):
            if not self.host.kernel.has_own(*event.address.key):
                self.told.discard(event.address.key)
        elif isinstance(event, KernelResynced):
            self.told = {address.key for address in event.addresses}

    def _arm(self) -> None:
        due = self.node.deadline() if self.alive and not self.paused else None
        if due is None or (self._armed is not None and self._armed <= due):
            return
        self._armed = due
        late = self.world.between(0, _WAKE_LATE_NS)
        if self.host.hiccup_chance and self.world.chance(self.host.hiccup_chance):
            late = self.world.between(*_HICCUP_NS)
        self.world.at(self.host.clock.true(due) + late, self._wake, due)

    def _wake(self, armed: Instant) -> None:
        if armed != self._armed:
            return
        self._armed = None
        if self.alive and not self.paused:
            self._wake_if_due()

    def _wake_if_due(self) -> None:
        due, now = self.node.deadline(), self.now()
        if due is None or due > now:
            self._arm()
            return
        if now - due > STALL_NS:
            self.world.coverage["late wake-ups"] += 1
            self.feed(LoopStalled(now - due))
            self.feed(StallDrained())
            due = self.node.deadline()
        if due is not None and due <= now and self.alive:
            self._count_wake()
            self.feed(DeadlinePassed())

    def _count_wake(self) -> None:
        """A deadline that never moves would keep the engine busy for ever."""
        self._wakes = self._wakes + 1 if self._woken_at == self.world.now else 0
        self._woken_at = self.world.now
        if self._wakes > _MOST_WAKES:
            self.world.violated("livelock", f"{self.host.name}: the deadline stays in the past")

    # --- carrying out actions -----------------------------------------------------------------

    def _dispatch(self, action: Action) -> None:
        kind = type(action)
        if kind is SendAdvert:
            self._send(action)  # type: ignore[arg-type]
        elif kind is SendMessage:
            self._say(action)  # type: ignore[arg-type]
        elif kind is KeepWill:
            self._keep_will(action)  # type: ignore[arg-type]
        elif kind is Note:
            self.host.judge.noted(self, action)  # type: ignore[arg-type]
        elif kind is Announce:
            self._announce(action)  # type: ignore[arg-type]
        elif kind is OpenGate:
            self._inbox.append(GateOpened(action.instance))  # type: ignore[union-attr]
        elif kind is ShutGate:
            self._inbox.append(GateShut(action.instance))  # type: ignore[union-attr]
        elif kind is ResyncKernel:
            self.world.coverage["dumps asked for"] += 1
            self._inbox.append(KernelResynced(*self.host.kernel.dump()))
        elif kind is Finished:
            self.world.after(0, self.host.engine_finished, self)
        else:
            if kind is AddAddresses:
                self.host.judge.adds(self, action)  # type: ignore[arg-type]
            self._orders.append(action)  # type: ignore[arg-type]
            self._next_order()

    def _send(self, action: SendAdvert) -> None:
        host, name = self.host, action.instance
        interface = action.config.interface
        link = host.kernel.links.get(interface)
        errno = ENODEV if link is None else host.send_errno
        if interface in host.kernel.admin_down:
            errno = ENETDOWN
        if errno:
            self.world.coverage["adverts refused"] += 1
            host.judge.send_refused(self, action)
            self._inbox.append(AdvertFailed(name, errno))
            return
        host.judge.leaves(self, action)
        for advert in self.translator.encode(action):
            host.network.send_advert(host, interface, advert)
        self._inbox.append(AdvertSent(name))

    def _say(self, action: SendMessage) -> None:
        self.host.judge.says(self, action)
        for outgoing in self.channel.encode(action):
            self.host.send_datagram(outgoing)

    def _keep_will(self, action: KeepWill) -> None:
        self.world.coverage["wills kept"] += 1
        self.will, self.tombstones = action, self.channel.will(action)

    def _announce(self, action: Announce) -> None:
        host = self.host
        host.judge.announces(self, action)
        by_interface: dict[str, list[Address]] = {}
        for vip in action.vips:
            by_interface.setdefault(vip.interface, []).append(vip.address)
        for interface, addresses in by_interface.items():
            link = host.kernel.links.get(interface)
            if link is not None:
                host.network.send_announcement(host, interface, link.mac, tuple(addresses))

    # --- orders to the kernel -----------------------------------------------------------------

    def _next_order(self) -> None:
        if self._orders and not self._ordering and not self.paused:
            self._ordering = True
            self.world.after(self.world.between(*self.host.netlink_ns), self._carry_out)

    def _carry_out(self) -> None:
        if not self.alive:
            return
        order = self._orders.popleft()
        self._handling = True  # a batch is one system call: its events are read after it
        failures = self._apply(order)
        self._handling = False
        if isinstance(order, RemoveStray):
            self._drain()
        else:
            answer = AddressesApplied(order, failures)
            if self.paused:
                self._kernel_socket.append(answer)
            else:
                self.feed(answer)
        self._ordering = False
        self._next_order()

    def _apply(self, order: _Order) -> tuple[tuple[int, int], ...]:
        """Entry by entry; kernel events are emitted before the answer."""
        kernel, failures = self.host.kernel, []
        if isinstance(order, RemoveStray):
            if not self.host.netlink_errno:
                for address in order.addresses:
                    kernel.remove_entry(address)
            else:
                self.host.stray_refused_at = self.world.now
            return ()
        unit = self.node.units.get(order.instance)
        lifetime_s = 2 if unit is None else unit.config.address_lifetime_s
        for position, vip in enumerate(order.vips):
            errno = self.host.netlink_errno
            if errno:
                self.world.coverage["netlink refused"] += 1
            elif isinstance(order, RemoveAddresses):
                errno = kernel.remove(vip.interface, vip.address, vip.prefix)
            else:
                errno = kernel.add(
                    vip.interface, vip.address, vip.prefix, tag=ADDRESS_TAG, lifetime_s=lifetime_s
                )
            if errno:
                failures.append((position, errno))
        return tuple(failures)
