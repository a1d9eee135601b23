"""The engine's loop: one thread, one selector, one timer on CLOCK_BOOTTIME.

A turn: read the clock once; if it is later than it should be, read the sockets *before* acting
on any timer, because what waits there may be the very advert whose absence the timer is about;
then deadlines; then the results of our own actions, one at a time with deadlines in between;
then at most ``DATAGRAMS_PER_SOCKET`` from each socket. So a flood, a slow batch of addresses or a
slow supervisor costs an advert no more than one such step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from selectors import EVENT_READ, DefaultSelector

from vipd.adapters.channel_socket import ChannelSocket
from vipd.adapters.clock import DeadlineTimer, boottime_ns
from vipd.adapters.frame_socket import ArpListener, FrameSender, NeighbourListener
from vipd.adapters.netlink_codec import AddressTemplate
from vipd.adapters.vrrp_socket import VrrpSocket
from vipd.core.actions import ResyncKernel
from vipd.core.events import (
    Configured,
    DeadlinePassed,
    Event,
    HealthReported,
    Identified,
    KernelResynced,
    LinkGone,
    LinkSeen,
    LoopStalled,
    OrdersGiven,
    StallDrained,
    StopRequested,
)
from vipd.core.node import Node
from vipd.engine.channel import ChannelPaths
from vipd.engine.dispatch import Dispatcher
from vipd.engine.report import Report
from vipd.engine.sockets import VrrpSockets
from vipd.engine.will import WillKeeper
from vipd.errors import AdapterError
from vipd.ipc import (
    Channel,
    ChannelClosed,
    EngineState,
    HealthState,
    Message,
    OrdersState,
    SnapshotGiven,
    SnapshotWanted,
    StateApplied,
    StopWanted,
)
from vipd.model import MILLISECOND_NS, Duration, Instant, Reason
from vipd.translate import Translator
from vipd.translate_channel import ChannelTranslator
from vipd.will import Page
from vipd.wire.announce import arp_claim, neighbour_claim

DATAGRAMS_PER_SOCKET = 64
DATAGRAMS_AFTER_STALL = 4096

LATE_NS = MILLISECOND_NS
"""Later than this, the sockets are read before the timers (checklist TMR-4)."""

LONG_STALL_NS = 50 * MILLISECOND_NS

LOOK_NS = MILLISECOND_NS // 4
"""Deadlines are looked at again after results have taken this long."""

RESULTS_BUDGET_NS = 5 * MILLISECOND_NS
"""A long chain of batches (1000 addresses) lets the sockets in between after this long."""

OPEN_AGAIN_NS = 1000 * MILLISECOND_NS
"""A socket that could not be opened is tried again after this long."""

_LINK_EVENTS = (LinkSeen, LinkGone, KernelResynced)

FORWARDING = "/proc/sys/net/ipv6/conf/all/forwarding"


class Engine:
    """One node on the real host."""

    def __init__(
        self,
        channel: Channel,
        frames: FrameSender,
        arp: ArpListener,
        page: Page,
        prepare: Callable[[EngineState], None],
    ) -> None:
        self._node = Node()
        self._translator = Translator()
        self._channel_translator = ChannelTranslator()
        self._channel = channel
        self._prepare = prepare
        self._selector = DefaultSelector()
        self._report = Report(channel)
        self._sockets = VrrpSockets(self._selector, self._read_vrrp)
        self._paths = ChannelPaths(self._selector, self._read_members)
        self._page = page
        self._will = WillKeeper(page, self._translator, self._channel_translator)
        self._dispatcher = Dispatcher(
            self._translator,
            self._channel_translator,
            self._node.host,
            self._sockets,
            self._paths,
            frames,
            self._report,
            self._will,
        )
        self._timer = DeadlineTimer()
        self._queue: deque[Event] = deque()
        self._planned: Instant | None = None
        self._alive_interval_ns: Duration = 0
        self._alive_at: Instant | None = None
        self._arp = arp
        self._neighbours = _open_neighbour_listener()
        self._supervised = True
        self._sockets_stale = False
        self._open_again_at: Instant = 0
        self._register()

    def _register(self) -> None:
        register = self._selector.register
        register(self._channel, EVENT_READ, self._read_channel)
        register(self._timer, EVENT_READ, lambda _limit: 0)
        register(self._dispatcher.kernel_events, EVENT_READ, self._read_kernel)
        register(self._arp, EVENT_READ, self._read_arp)
        if self._neighbours is not None:
            register(self._neighbours, EVENT_READ, self._read_neighbours)

    # --- the loop -----------------------------------------------------------------------------

    def run(self) -> None:
        """Until everything is released after a stop, or after the supervisor's death."""
        while not self._dispatcher.finished:
            self._plan()
            ready = self._selector.select(0 if self._queue else None)
            self._turn([key.data for key, _events in ready])
            self._tell()

    def _plan(self) -> None:
        instants = [self._node.deadline(), self._alive_at]
        self._planned = min((at for at in instants if at is not None), default=None)
        self._timer.arm(self._planned)

    def _turn(self, ready: list[Callable[[int], int]]) -> None:
        now = boottime_ns()
        late_ns = -1 if self._planned is None else now - self._planned
        if late_ns >= 0:  # earlier it cannot have expired
            self._timer.acknowledge()
        if late_ns > LATE_NS:
            self._catch_up(late_ns, now)
        self._serve_deadlines()
        self._serve_results()
        for read in ready:
            read(DATAGRAMS_PER_SOCKET)
            self._serve_deadlines()
            self._serve_results()
        if self._sockets_stale:
            self._follow_links()
        if self._dispatcher.roles_changed:
            self._dispatcher.roles_changed = False
            self._listen_for_rivals()

    def _listen_for_rivals(self) -> None:
        """Only a master has rivals; a backup need not wake up for the ARP of a whole network."""
        wanted = self._node.is_master
        self._arp.listen(wanted)
        if self._neighbours is not None:
            self._neighbours.listen(wanted)

    def _catch_up(self, late_ns: Duration, now: Instant) -> None:
        self._feed(LoopStalled(late_ns), now)
        limit = DATAGRAMS_AFTER_STALL if late_ns > LONG_STALL_NS else DATAGRAMS_PER_SOCKET
        for sock in self._sockets.all():
            self._read_vrrp(sock, limit)
        for path in self._paths.all():
            self._read_members(path, limit)
        self._feed(StallDrained(), boottime_ns())

    def _serve_deadlines(self) -> None:
        due, now = self._node.deadline(), boottime_ns()
        self._page.live(now)
        if due is not None and due <= now:
            self._feed(DeadlinePassed(), now)
        if self._alive_at is not None and self._alive_at <= now:
            self._alive_at = now + self._alive_interval_ns
            self._sockets_stale |= self._is_wanting and now >= self._open_again_at

    @property
    def _is_wanting(self) -> bool:
        return self._sockets.is_wanting or self._paths.is_wanting

    def _serve_results(self) -> None:
        now = boottime_ns()
        enough = now + RESULTS_BUDGET_NS
        looked = now
        while self._queue and now < enough:
            event = self._queue.popleft()
            self._sockets_stale |= isinstance(event, _LINK_EVENTS)
            self._feed(event, now)
            now = boottime_ns()
            if now - looked > LOOK_NS:
                self._serve_deadlines()
                looked = now

    def _feed(self, event: Event, now: Instant) -> None:
        actions = self._node.handle(event, now)
        if self._sockets_stale:
            self._open_sockets()
        for action in actions:
            self._queue.extend(self._dispatcher.carry_out(action))

    def _open_sockets(self) -> None:
        """Before the first word of a new router, or on a new link."""
        routers = self._node.routers()
        self._queue.extend(self._sockets.open_for(routers, self._node.host.links.values()))
        self._open_paths()
        self._dispatcher.protect_host_addresses(
            vip for router in routers if not router.is_owner for vip in router.vips
        )

    def _open_paths(self) -> None:
        for note in self._paths.open_missing():
            self._report.note(note)

    # --- what can be read ---------------------------------------------------------------------

    def _read_vrrp(self, sock: VrrpSocket, limit: int) -> int:
        for count in range(limit):
            try:
                datagram = sock.receive()
            except AdapterError:  # the link went: its event closes this socket
                return count
            if datagram is None:
                return count
            event = self._translator.receive(datagram)
            if event is not None:
                self._feed(event, boottime_ns())
        return limit

    def _read_members(self, sock: ChannelSocket, limit: int) -> int:
        for count in range(limit):
            received = sock.receive()
            if received is None:
                return count
            event = self._channel_translator.receive(*received, sock.own)
            self._feed(event, boottime_ns())
        return limit

    def _read_kernel(self, limit: int) -> int:
        events = self._dispatcher.read_kernel(limit)
        self._queue.extend(events)
        return len(events)

    def _read_arp(self, limit: int) -> int:
        for count in range(limit):
            received = self._arp.receive()
            if received is None:
                return count
            index, frame = received
            self._judge_claim(index, arp_claim(frame))
        return limit

    def _read_neighbours(self, limit: int) -> int:
        for count in range(limit):
            received = self._neighbours.receive() if self._neighbours is not None else None
            if received is None:
                return count
            index, source, payload = received
            self._judge_claim(index, neighbour_claim(payload, source))
        return limit

    def _judge_claim(self, index: int, claim: tuple[bytes, bytes] | None) -> None:
        if claim is None:
            return
        rival = self._translator.rival(index, *claim)
        if rival is not None:
            self._feed(rival, boottime_ns())

    # --- the supervisor -----------------------------------------------------------------------

    def _read_channel(self, limit: int) -> int:
        for count in range(limit):
            try:
                message = self._channel.receive()
            except ChannelClosed:
                self._orphaned()
                return count
            if message is None:
                return count
            if isinstance(message, EngineState):
                self._take_state(message)
            elif isinstance(message, HealthState):
                self._feed(HealthReported(message.verdicts), boottime_ns())
            elif isinstance(message, OrdersState):
                self._feed(OrdersGiven(message.orders), boottime_ns())
            elif isinstance(message, StopWanted):
                self._feed(StopRequested(message.reason), boottime_ns())
            elif isinstance(message, SnapshotWanted):
                snapshot = self._node.snapshot(boottime_ns())
                self._say(SnapshotGiven(message.request, snapshot))
        return limit

    def _take_state(self, state: EngineState) -> None:
        first = self._alive_at is None
        if first:
            self._prepare(state)
        self._alive_interval_ns = state.alive_interval_ns
        self._dispatcher.templates = {
            # What leaves with this reload is still removed with its old template.
            **self._dispatcher.templates,
            **{key: AddressTemplate(*pair) for key, pair in state.templates.items()},
        }
        self._dispatcher.promote_secondaries = state.promote_secondaries
        self._translator.configure(state.config)
        self._channel_translator.configure(state.config.cluster, state.owner)
        self._paths.want(state.config)
        self._will.configure(state.config)
        self._translator.set_forwarding(_forwards())
        self._sockets_stale = True
        now = boottime_ns()
        if first:
            self._feed(Identified(state.owner, state.seed, state.version, state.after_death), now)
        # Before the configuration: no router starts without knowing what keeps it from mastership.
        self._feed(OrdersGiven(state.orders), now)
        self._feed(HealthReported(state.health), now)
        self._feed(Configured(state.config), now)
        # A daemon that is reloaded for years shall not keep every VIP that it ever had.
        needed = self._node.vip_keys() | state.templates.keys()
        self._dispatcher.templates = {
            key: each for key, each in self._dispatcher.templates.items() if key in needed
        }
        if first:
            self._queue.extend(self._dispatcher.carry_out(ResyncKernel()))
        self._serve_results()
        self._follow_links()
        self._alive_at = boottime_ns()
        self._say(StateApplied(state.config.generation))

    def _follow_links(self) -> None:
        routers = self._node.routers()
        self._queue.extend(self._sockets.follow(routers, self._node.host.links.values()))
        # Routers that are still leaving keep their sockets until the next look.
        self._sockets_stale = self._node.is_leaving
        self._open_paths()
        if not self._sockets_stale:
            self._paths.close_unwanted()
        if self._is_wanting:
            self._open_again_at = boottime_ns() + OPEN_AGAIN_NS

    def _say(self, message: Message) -> None:
        """To the supervisor, if it lives: its death is an order to release, never an error."""
        if self._supervised:
            try:
                self._report.send(message)
            except ChannelClosed:
                self._orphaned()

    def _tell(self) -> None:
        """What was noted in this turn."""
        if self._supervised:
            try:
                self._report.flush()
            except ChannelClosed:
                self._orphaned()

    def _orphaned(self) -> None:
        """The supervisor is gone: release everything cleanly, then end."""
        if self._supervised:
            self._supervised = False
            self._selector.unregister(self._channel)
            self._feed(StopRequested(Reason.STOPPED), boottime_ns())


def _open_neighbour_listener() -> NeighbourListener | None:
    try:
        return NeighbourListener()
    except AdapterError:  # a host without IPv6 has no neighbours to listen to
        return None


def _forwards() -> bool:
    try:
        with open(FORWARDING, encoding="ascii") as sysctl:
            return sysctl.read().strip() != "0"
    except OSError:
        return False
