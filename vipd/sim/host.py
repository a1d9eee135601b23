"""A host: kernel, drifting clock, engine and supervisor, and what its checks would find.

What dies together and who cleans up (DESIGN: "who takes the VIP away"):

* engine crashed: the supervisor removes the VIPs at once, then says what the last will tells it to
  say, byte by byte, and starts the next one;
* engine hung: the supervisor kills it after ``engine_timeout``, then the same;
* supervisor gone: the engine releases cleanly and ends; the service manager starts both anew;
* both killed: nobody cleans up, the kernel ends the VIPs with their lifetime;
* host crashed: nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vipd.core.events import Configured, Identified, StopRequested
from vipd.members import Owner, Versions
from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    Address,
    Duration,
    Family,
    Instant,
    NodeConfig,
    Verdict,
)
from vipd.sim.channel import Carried, Channel
from vipd.sim.clock import DriftingClock
from vipd.sim.engine import FakeEngine, _Packet
from vipd.sim.kernel import FakeKernel
from vipd.sim.network import Network
from vipd.sim.plans import MAIN, SIDE, UPLINK, CheckPlan, HostPlan
from vipd.sim.supervisor import FakeSupervisor
from vipd.sim.world import World
from vipd.translate_channel import Outgoing
from vipd.wire.channel_frame import SPOKEN

if TYPE_CHECKING:
    from vipd.sim.judge import Judge

ENGINE_TIMEOUT_NS = 200 * MILLISECOND_NS
_LAST_WILL_NS = (MILLISECOND_NS, 40 * MILLISECOND_NS)
_RESTART_NS = (50 * MILLISECOND_NS, SECOND_NS)
_WILL_RETRY_NS = 200 * MILLISECOND_NS
_WITHDRAWN_NS = 2 * SECOND_NS
_WALL_CLOCK_S = 1_790_000_000


class Host:
    """One load balancer. ``died_at``: since when no process of vipd lives on it."""

    def __init__(
        self,
        world: World,
        network: Network,
        plan: HostPlan,
        config: Callable[[], NodeConfig],
        netlink_ns: tuple[int, int],
        hiccup_chance: float,
    ) -> None:
        self.world = world
        self.network = network
        self.plan = plan
        self.name = plan.name
        self.config = config
        self.netlink_ns = netlink_ns
        self.hiccup_chance = hiccup_chance
        self.clock = DriftingClock(plan.clock_offset_ns, plan.clock_drift_ppb)
        self.kernel = FakeKernel(world, plan.name)
        self.judge: Judge
        self.engine: FakeEngine | None = None
        self.supervisor: FakeSupervisor | None = None
        self.checks: tuple[str, ...] = ()
        self.truth: dict[str, Verdict] = {}
        self.first_verdict_ns: Duration = 0
        self.on_verdict: Callable[[], None] = _nobody
        self.on_step: Callable[[FakeEngine, str], None] = _ignore
        self.maintenance = False
        self.held: set[str] = set()
        self.deaf: dict[tuple[str, Family], int] = {}
        self.up = False
        self.stopped = False
        self.died_at: Instant = 0
        self.disturbed_at: Instant = 0
        self.stray_refused_at: Instant = -10 * SECOND_NS
        self.netlink_errno = 0
        self.send_errno = 0
        self.owned: tuple[tuple[str, Address, int], ...] = ()
        self.channel: Channel | None = None
        self.paths: tuple[str, ...] = ()
        self.speaks: Versions = SPOKEN
        self.kept_incarnation = 0
        self.drifted = False
        self._life = 0

    # --- the machine --------------------------------------------------------------------------

    def boot(self) -> None:
        self.up = True
        self.disturbed()
        for name in (MAIN, SIDE, UPLINK):
            self._build_link(name)

    def _build_link(self, name: str) -> None:
        self.kernel.create_link(name, self.mac(name))
        if name != UPLINK:
            address = self.plan.address(name, Family.IPV4)
            self.kernel.add(name, address, 24, tag=0, lifetime_s=None)
            self.kernel.add_tentative(name, self.plan.link_local(name), 64)
        for interface, address, prefix in self.owned:
            if interface == name:
                self.kernel.add(interface, address, prefix, tag=0, lifetime_s=None)

    def mac(self, name: str) -> bytes:
        return bytes((2, 0, 0, 0, (MAIN, SIDE, UPLINK).index(name), self.plan.octet))

    def recreate_link(self, name: str) -> None:
        if self.up and name not in self.kernel.links:
            self._build_link(name)
            self.disturbed()

    def link_restored(self, name: str) -> None:
        """The link is up again: its IPv6 link-local address comes back."""
        self.disturbed()
        self.kernel.set_link(name, up=True, admin=False)
        link = self.kernel.links.get(name)
        if name == UPLINK or link is None:
            return
        if not self.kernel.has_own(link.index, self.plan.link_local(name)):
            self.kernel.add_tentative(name, self.plan.link_local(name), 64)
        for interface, address, prefix in self.owned:
            if interface == name:
                self.kernel.add(interface, address, prefix, tag=0, lifetime_s=None)

    def crash(self) -> None:
        if self.up:
            self.kill_both()
            self.kernel.clear()
            self.up = False

    def reboot(self) -> None:
        if not self.up:
            self.boot()
            self.start()

    def link_is_up(self, name: str) -> bool:
        link = self.kernel.links.get(name)
        return self.up and link is not None and link.up

    def owns(self, interface: str, address: Address) -> bool:
        link = self.kernel.links.get(interface)
        return self.up and link is not None and self.kernel.has_own(link.index, address)

    def arrive(self, interface: str, packet: _Packet) -> None:
        if self.engine is not None and self.link_is_up(interface):
            self.engine.arrive(self.kernel.links[interface].index, packet)

    # --- the channel --------------------------------------------------------------------------

    def _identity(self) -> Identified:
        """Who the next engine is; plain mode never looks at it."""
        if self.channel is None:
            return Identified(Owner(self.name, 1, 1), bytes(32))
        rng, wall_s = self.world.rng, _WALL_CLOCK_S + self.world.now // SECOND_NS
        self.kept_incarnation = max(self.kept_incarnation + 1, wall_s)
        owner = Owner(self.name, self.kept_incarnation, rng.getrandbits(64))
        return Identified(owner, rng.randbytes(32))

    def send_datagram(self, outgoing: Outgoing) -> None:
        """On every path to the member: from each own address to its address on the same LAN."""
        if self.channel is None:
            return
        receiver = next((host for host in self.network.hosts if host.name == outgoing.to), None)
        if receiver is None:
            return  # nobody has installed that node yet
        for interface in self.paths:
            source = self.plan.address(interface, Family.IPV4)
            destination = receiver.plan.address(interface, Family.IPV4)
            data, now = outgoing.datagram, self.world.now
            self.channel.send(Carried(self, receiver, interface, source, destination, data, now))

    def datagram_arrives(self, datagram: Carried) -> None:
        if self.engine is not None:
            self.engine.datagram_arrives(datagram)

    # --- the processes ------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self.engine is not None

    @property
    def lively(self) -> bool:
        return self.engine is not None and not self.engine.paused

    def disturbed(self) -> None:
        """Something happened here that a bounded reaction may be counted from."""
        self.disturbed_at = self.world.now

    def start(self) -> None:
        """Start the daemon unless it runs."""
        if self.engine is None and self.up:
            self._life += 1
            self.stopped = False
            self.disturbed()
            if self.supervisor is None:
                self.supervisor = FakeSupervisor(self)
            self.engine = FakeEngine(self, self._identity())
            self.judge.started(self.engine)
            self.engine.start()

    def start_later(self, delay: int) -> None:
        self.world.after(delay, self._start_if, self._life)

    def _start_if(self, life: int) -> None:
        if life == self._life:
            self.start()

    def _engine_dies(self) -> FakeEngine | None:
        engine, self.engine = self.engine, None
        if engine is not None:
            engine.die()
            self.died_at = self.world.now
            self.disturbed()
        return engine

    def engine_crashes(self) -> None:
        engine = self._engine_dies()
        if engine is not None:
            self.judge.dies(engine)
            delay = self.world.between(*_LAST_WILL_NS)
            self.world.after(delay, self._last_will, engine, self._life)

    def _last_will(self, dead: FakeEngine, life: int) -> None:
        """The supervisor's: addresses gone, then priority 0, then a new engine."""
        if not self.up or life != self._life:
            return
        if self.netlink_errno:
            self.world.after(_WILL_RETRY_NS, self._last_will, dead, life)
            return
        self.world.coverage["last wills"] += 1
        self.kernel.delete_tagged()
        for outgoing in dead.tombstones:
            self.world.coverage["tombstones"] += 1
            self.send_datagram(outgoing)
        for goodbye in dead.will.goodbyes:
            if not goodbye.config.is_owner:
                self.judge.leaves(dead, goodbye, supervised=True)
            for packet in dead.translator.encode(goodbye):
                self.network.send_advert(self, goodbye.config.interface, packet)
        self.start_later(self.world.between(*_RESTART_NS))

    def engine_hangs(self) -> None:
        engine = self.engine
        if engine is not None and not engine.paused:
            engine.pause()
            self.world.after(ENGINE_TIMEOUT_NS, self._kill_hung, engine)

    def _kill_hung(self, engine: FakeEngine) -> None:
        if self.engine is engine and engine.paused:
            self.engine_crashes()

    def stop(self) -> None:
        """SIGTERM to the daemon, or the supervisor's death: the engine releases and ends."""
        if self.engine is not None:
            self.stopped = True
            self._supervisor_ends()
            self.disturbed()
            engine = self.engine
            if not engine.paused:
                engine.feed(StopRequested())

    def engine_finished(self, engine: FakeEngine) -> None:
        if self.engine is engine:
            self.judge.finished(engine)
            self._engine_dies()

    def kill_both(self) -> None:
        self._engine_dies()
        self._supervisor_ends()

    def _supervisor_ends(self) -> None:
        if self.supervisor is not None:
            self.supervisor.alive = False
            self.supervisor = None

    def pause(self) -> None:
        if self.engine is not None:
            self.engine.pause()

    def thaw(self) -> None:
        if self.engine is not None and self.engine.paused:
            self.disturbed()
            self.engine.thaw()
        if self.engine is not None and self.stopped:
            self.engine.feed(StopRequested())
        elif self.engine is not None:
            self.engine.feed(Configured(self.config()))
            self.engine.follow_sockets()

    def reload(self) -> None:
        if self.engine is not None and not self.engine.paused:
            self.disturbed()
            self.engine.feed(Configured(self.config()))
            self.engine.follow_sockets()

    # --- checks and orders --------------------------------------------------------------------

    def knows(self, checks: tuple[CheckPlan, ...], first_verdict_ns: Duration) -> None:
        """Which checks run here, and how long the first run of each takes at most."""
        self.checks = tuple(check.name for check in checks)
        self.first_verdict_ns = first_verdict_ns
        self.truth = {check.name: Verdict(check.name, check.at_rest) for check in checks}

    def turns(self, verdict: Verdict) -> None:
        """What the check looks at is otherwise from now on."""
        self.truth[verdict.check] = verdict
        if self.supervisor is not None:
            self.supervisor.notices(verdict.check)

    def maintenance_ordered(self) -> None:
        """In a cluster it takes effect when a successor is seen, else the supervisor withdraws."""
        if self.maintenance and self.supervisor is not None and self.channel is not None:
            self.world.after(_WITHDRAWN_NS, self._withdraw, self.supervisor)

    def _withdraw(self, supervisor: FakeSupervisor) -> None:
        engine = self.engine
        if not supervisor.alive or not self.maintenance or engine is None:
            return
        if engine.node.is_master:
            self.world.coverage["maintenances withdrawn"] += 1
            self.judge.withdrawn(engine)
            self.maintenance = False
            self.on_verdict()
            supervisor.tell_orders()

    def tell_orders(self) -> None:
        if self.supervisor is not None:
            self.supervisor.tell_orders()
            self.maintenance_ordered()

    def cannot_hear(self, interface: str, family: Family, errno: int) -> None:
        """The VRRP socket there cannot be opened; 0: it can again."""
        if errno:
            self.deaf[interface, family] = errno
        else:
            self.deaf.pop((interface, family), None)
            self.disturbed()
        if self.engine is not None:
            self.engine.follow_sockets()

    def holds_tagged(self) -> bool:
        return bool(self.kernel.tagged)


def _nobody() -> None:
    """Nobody listens."""


def _ignore(_engine: FakeEngine, _step: str) -> None:
    """Nobody waits for a step of a handover."""
