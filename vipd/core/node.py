"""One host's part in every virtual router: the core's only door.

``handle(event, now)`` returns the actions that follow, in order; ``deadline()`` says when it
wants to be called with ``DeadlinePassed``; ``snapshot(now)`` shows everything. Same events and
instants in, same actions out: there is no clock, socket, randomness or logger in here.

What the node itself decides
----------------------------
* No router starts before the first dump of links and addresses (``KernelResynced``).
* A reload moves only differences. A unit whose identity changed (its routers' interface, VRID,
  family, version, ownership, peers; the members of a group) leaves properly before its successor
  of the same name starts.
* After ``StopRequested`` every unit leaves; ``Finished`` comes when the kernel holds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from vipd.core import snapshot as snapshots
from vipd.core.actions import Action, Finished
from vipd.core.cluster import Cluster, Surroundings, joined
from vipd.core.cluster_view import ClusterView, cluster_snapshot
from vipd.core.events import (
    AddressesApplied,
    AddressGone,
    AddressSeen,
    AdvertFailed,
    AdvertHeard,
    AdvertRejected,
    AdvertSent,
    Configured,
    DeadlinePassed,
    Deafened,
    Event,
    GateOpened,
    GateShut,
    HealthReported,
    Identified,
    KernelResynced,
    LinkGone,
    LinkSeen,
    LoopStalled,
    MessageHeard,
    MessageRejected,
    OrdersGiven,
    RivalAnnounced,
    StallDrained,
    StopRequested,
    Undeafened,
)
from vipd.core.health import Reported
from vipd.core.host import HostView
from vipd.core.strangers import Strangers
from vipd.core.strays import Strays
from vipd.core.timing import soonest
from vipd.core.unit import Unit
from vipd.core.units import UnitConfig, units_of
from vipd.core.will import Will
from vipd.model import (
    ADDRESS_TAG,
    Address,
    Alarm,
    ClaimState,
    InstanceConfig,
    Instant,
    Link,
    NodeConfig,
    Note,
    NoteKind,
    Orders,
    Reason,
    State,
    TrackKind,
    Verdict,
    VipKey,
)
from vipd.snapshots import Snapshot


class Node:
    """All virtual routers of this host."""

    def __init__(self) -> None:
        self.host = HostView()
        self.config = NodeConfig("", ())
        self.orders = Orders()
        self.units: dict[str, Unit] = {}
        self.cluster: Cluster | None = None
        self.will = Will()
        self._view = ClusterView()
        self._identity: Identified | None = None
        self._deaf: dict[str, Deafened] = {}
        self._leaving: dict[str, Unit] = {}
        self._waiting: dict[str, UnitConfig] = {}
        self._by_router: dict[str, Unit] = {}
        self._by_vip: dict[VipKey, Unit] = {}
        self._vip_addresses: frozenset[Address] = frozenset()
        self._deadlines: dict[Unit, Instant] = {}
        self._actions: list[Action] = []
        self._joins = Surroundings(self.units, self._named, self._actions)
        self._health = Reported(self._actions)
        self._strays = Strays(self.host, self._is_covered, self._actions)
        self._strangers = Strangers(self._actions)
        self._synced = False
        self._reading_after_stall = False
        self._stopping: Reason | None = None
        self._finished = False

    # --- the contract -------------------------------------------------------------------------

    def handle(self, event: Event, now: Instant) -> tuple[Action, ...]:
        """Apply one event. Never raises for anything a peer, the kernel or a user did."""
        HANDLERS[type(event)](self, event, now)
        if self.cluster is not None:
            self.cluster.flush(now)
        self._finish()
        will = self.will.news(self.cluster)
        # Kept before what it answers for is done.
        actions = tuple(self._actions) if will is None else (will, *self._actions)
        self._actions.clear()
        return actions

    def deadline(self) -> Instant | None:
        """When ``DeadlinePassed`` is wanted; None: wake me for events only.

        Between ``LoopStalled`` and ``StallDrained`` no timer counts (checklist TMR-4): what waits
        in the sockets may be the very advert whose absence the timer is about.
        """
        if self._reading_after_stall:
            return None
        return soonest(
            min(self._deadlines.values(), default=None),
            self._strays.deadline,
            self._health.deadline,
            None if self.cluster is None else self.cluster.deadline,
        )

    @property
    def is_master(self) -> bool:
        return any(each.election.state is State.MASTER for each in self.units.values())

    @property
    def is_leaving(self) -> bool:
        """True while a unit that a reload took away still has something to release."""
        return bool(self._leaving)

    def routers(self) -> tuple[InstanceConfig, ...]:
        """The routers that may speak now: those configured, and those that are still leaving."""
        return tuple(member for unit in self._everybody() for member in unit.config.members)

    def vip_keys(self) -> set[VipKey]:
        """Every VIP that may still be added or removed, those of routers that wait excepted."""
        return {key for each in self._everybody() for key in each.vip_keys}

    def snapshot(self, now: Instant) -> Snapshot:
        return Snapshot(
            now_ns=now,
            node=self.config.node,
            generation=self.config.generation,
            instances=tuple(
                snapshots.take(unit, member, self.host, self.config.node)
                for unit in self._everybody()
                for member in unit.config.members
            ),
            discarded_without_instance=dict(self._strangers.discarded),
            alarms=self._alarms(now),
            maintenance=self.orders.maintenance,
            cluster=None if self.cluster is None else cluster_snapshot(self.cluster, now),
        )

    # --- configuration ------------------------------------------------------------------------

    def _configured(self, event: Configured, now: Instant) -> None:
        if self._stopping is not None:
            return
        self.config = event.config
        if self.cluster is not None and event.config.cluster is None:
            self.cluster.retire(now)
        self.cluster = joined(
            self.cluster, self._identity, event.config.cluster, self.orders, self._joins, now
        )
        wanted = units_of(event.config)
        self._vip_addresses = frozenset(
            vip.address for config in wanted.values() for vip in config.vips
        )
        holders = {vip.key: name for name, config in wanted.items() for vip in config.vips}
        tracked = any(t.kind is TrackKind.CHECK for unit in wanted.values() for t in unit.tracks)
        self._health.configure(tracked, now)
        self._dismiss(wanted, holders, now)
        for name, config in wanted.items():
            self._take_over(name, config, set(holders), now)
        self._index()
        if self._synced:
            self._look_anew(now)
        generation = event.config.generation
        self._actions.append(Note(NoteKind.CONFIGURED, "", {"generation": generation}))

    def _dismiss(
        self, wanted: dict[str, UnitConfig], holders: dict[VipKey, str], now: Instant
    ) -> None:
        """Routers that are gone, or became another router, leave first."""
        self._waiting.clear()
        for name, unit in self._leaving.items():
            unit.let_go_of(_held_elsewhere(unit, name, holders), now)
        for name, unit in list(self.units.items()):
            config = wanted.get(name)
            if config is not None and unit.can_become(config):
                continue
            unit.vip_addresses |= self._vip_addresses
            unit.let_go_of(_held_elsewhere(unit, name, holders), now)
            unit.stop(Reason.REMOVED, now)
            del self.units[name]
            if self.cluster is not None:
                self.cluster.drop_report(name)
            if not unit.is_done:
                self._leaving[name] = unit
            self._touch(unit, now)

    def _take_over(
        self, name: str, config: UnitConfig, elsewhere: set[VipKey], now: Instant
    ) -> None:
        unit = self.units.get(name)
        if unit is not None:
            unit.vip_addresses = self._vip_addresses
            unit.join(self.cluster, now)
            unit.reconfigure(config, self.orders, elsewhere, now)
            self._touch(unit, now)
        elif name in self._leaving:
            self._waiting[name] = config
        else:
            self._create(config, now)

    def _create(self, config: UnitConfig, now: Instant) -> None:
        host, health, orders, vips = self.host, self.verdicts, self.orders, self._vip_addresses
        unit = Unit(config, host, health, orders, vips, self._actions, now)
        self.units[config.name] = unit
        unit.join(self.cluster, now)
        for name in [name for name in unit.routers if name in self._deaf]:
            unit.hearing_changed(self._deaf[name], now)  # who was deaf hears no better now
        if self._synced:
            unit.start(now)
        self._touch(unit, now)

    def _index(self) -> None:
        last_wins = (*self._leaving.values(), *self.units.values())
        self._by_vip = {key: each for each in last_wins for key in each.claim.retired}
        self._by_vip |= {vip.key: each for each in last_wins for vip in each.config.vips}
        self._by_router = {
            member.name: unit for unit in self.units.values() for member in unit.config.members
        }

    # --- health and orders --------------------------------------------------------------------

    @property
    def verdicts(self) -> dict[str, Verdict]:
        return self._health.verdicts

    def _health_reported(self, event: HealthReported, now: Instant) -> None:
        if not self._health.take(event.verdicts, now):
            return
        for unit in self.units.values():
            if unit.needs_checks:
                unit.judge(now)
                self._touch(unit, now)

    def _alarms(self, now: Instant) -> tuple[Alarm, ...]:
        alarms = self._health.alarms()
        if self.cluster is not None:
            alarms += self._view.alarms(self.cluster, now)
        return alarms

    def _orders_given(self, event: OrdersGiven, now: Instant) -> None:
        if event.orders == self.orders:
            return
        self.orders = event.orders
        if self.cluster is not None:
            self.cluster.obey(event.orders, now)
        for unit in self.units.values():
            unit.obey(event.orders, now)
            self._touch(unit, now)

    def _stop(self, event: StopRequested, now: Instant) -> None:
        if self._stopping is None:
            self._stopping = event.reason
            self._waiting.clear()
            for unit in self.units.values():
                unit.stop(event.reason, now)
                self._touch(unit, now)

    def _finish(self) -> None:
        if self._stopping is None or self._finished or self._leaving:
            return
        if all(unit.is_done for unit in self.units.values()):
            self._finished = True
            if self.cluster is not None:
                self.cluster.goodbye()
            self._actions.append(Finished())

    # --- time ---------------------------------------------------------------------------------

    def _deadline_passed(self, _event: DeadlinePassed, now: Instant) -> None:
        if self._reading_after_stall:
            return
        # Who is lost first: what is due may be about it.
        if self.cluster is not None and self.cluster.lose(now):
            self._follow_all(now)
        for unit in [who for who, due in self._deadlines.items() if due <= now]:
            unit.fire(now)
            self._touch(unit, now)
        if self.cluster is not None and self.cluster.fire(now):
            self._follow_all(now)
        self._strays.fire(now)
        self._health.fire(now)

    def _stalled(self, event: LoopStalled, now: Instant) -> None:
        self._reading_after_stall = True
        if self.cluster is not None:
            self.cluster.oversleep(event.late_ns)
        suspended = 0
        # A late wake-up is common, one that is late enough to matter to a router is not.
        replaced = [e for e in self.units.values() if e.election.may_be_replaced(now)]
        for unit in replaced:
            unit.stalled(event, now)
            suspended += unit.election.suspended
            self._touch(unit, now)
        if suspended:
            fields = {"late_ms": event.late_ns // 1_000_000, "suspended": suspended}
            self._actions.append(Note(NoteKind.LOOP_STALLED, "", fields))

    def _stall_drained(self, event: StallDrained, now: Instant) -> None:
        self._reading_after_stall = False
        if self.cluster is not None:
            self.cluster.oversleep(0)
        for unit in [each for each in self.units.values() if each.election.suspended]:
            unit.stall_over(event, now)
            self._touch(unit, now)

    # --- the wire -----------------------------------------------------------------------------

    def _advert_heard(self, event: AdvertHeard, now: Instant) -> None:
        unit = self._by_router.get(event.instance)
        if unit is not None:
            unit.hear(event, now)
            self._touch(unit, now)

    def _advert_rejected(self, event: AdvertRejected, now: Instant) -> None:
        unit = self._by_router.get(event.instance)
        if unit is not None:
            unit.reject(event, now)
            return
        self._strangers.reject(event, now)

    def _rival_announced(self, event: RivalAnnounced, now: Instant) -> None:
        link = self.host.links.get(event.index)
        if link is None:
            return
        unit = self._by_vip.get((link.name, event.address))
        if unit is not None:
            unit.rival(event, now)
            self._touch(unit, now)

    # --- the cluster --------------------------------------------------------------------------

    def _identified(self, event: Identified, _now: Instant) -> None:
        self._identity = event

    def _message_heard(self, event: MessageHeard, now: Instant) -> None:
        if self.cluster is None:
            return
        concerned = self.cluster.hear(event, now)
        if concerned is None:
            self._follow_all(now)
            return
        for name in concerned:
            for unit in (self.units.get(name), self._leaving.get(name)):
                if unit is not None:
                    self._touch(unit, now)

    def _message_rejected(self, event: MessageRejected, now: Instant) -> None:
        if self.cluster is not None:
            self.cluster.reject(event, now)

    def _follow_all(self, now: Instant) -> None:
        for unit in self._everybody():
            self._touch(unit, now)

    # --- the kernel ---------------------------------------------------------------------------

    def _kernel_resynced(self, event: KernelResynced, now: Instant) -> None:
        self.host.resync(event.links, event.addresses)
        first, self._synced = not self._synced, True
        if first:
            self._strays.sweep(now)
            for unit in self.units.values():
                unit.start(now)
                self._touch(unit, now)
        else:
            self._look_anew(now)

    def _look_anew(self, now: Instant) -> None:
        self._look_at(self._everybody(), now)

    def _look_at(self, concerned: Iterable[Unit], now: Instant) -> None:
        for unit in concerned:
            unit.resync(now)
            self._touch(unit, now)
        self._strays.sweep(now)

    def _link_seen(self, event: LinkSeen, now: Instant) -> None:
        old = self.host.links.get(event.link.index)
        self.host.see_link(event.link)
        if not self._synced or old == event.link:
            return
        for unit in self.units.values():
            if event.link.name in unit.interfaces:
                unit.link_changed(old, event.link, now)
        self._judge_link(old, event.link, now)

    def _link_gone(self, event: LinkGone, now: Instant) -> None:
        old = self.host.links.get(event.index)
        self.host.lose_link(event.index)
        if self._synced:
            self._judge_link(old, None, now)

    def _judge_link(self, old: Link | None, new: Link | None, now: Instant) -> None:
        """Only links that a router uses matter to it; hosts of containers have many others."""
        names = {link.name for link in (old, new) if link is not None}
        self._look_at([each for each in self._everybody() if each.uses(names)], now)

    def _address_seen(self, event: AddressSeen, now: Instant) -> None:
        known = self.host.see_address(event.address)
        if not self._synced:
            return
        key = self.host.key_of(event.address)
        if key is None:
            return
        unit = self._by_vip.get(key)
        if known and unit is not None and unit.claim.is_settled:
            return  # a renewal: by far the most frequent event, and no news
        if unit is not None:
            before = unit.claim.state
            unit.vip_seen(key, now)
            # Hundreds in a row while a claim is under way; only the last one moves a deadline.
            if before is not ClaimState.ADDING or unit.claim.state is not before:
                self._touch(unit, now)
        if event.address.tag != ADDRESS_TAG:
            self._judge_sources(event.address.address, now)
        self._strays.see(event.address, key, now)

    def _address_gone(self, event: AddressGone, now: Instant) -> None:
        key = self.host.key_of(event.address)
        self.host.lose_address(event.address)
        if not self._synced or key is None or self.host.has(key):
            return
        unit = self._by_vip.get(key)
        if unit is not None:
            unit.vip_gone(key, now)
            self._touch(unit, now)
        self._judge_sources(event.address.address, now)

    def _judge_sources(self, address: Address, now: Instant) -> None:
        """Only those whom ``address`` can concern: a thousand VIPs come and go in one go."""
        for unit in self.units.values():
            if unit.lacks_source or address in unit.sources:
                unit.judge(now)
                self._touch(unit, now)

    def _addresses_applied(self, event: AddressesApplied, now: Instant) -> None:
        unit = self._named(event.action.instance)
        if event.seen:
            self._addresses_seen(event, unit, now)
        if unit is not None:
            unit.applied(event, now)
            self._touch(unit, now)

    def _addresses_seen(self, event: AddressesApplied, unit: Unit | None, now: Instant) -> None:
        """The kernel's word that came with its answer: in one go what is the batch's own."""
        own = {(vip.interface, vip.address) for vip in event.action.vips}
        if unit is None or unit.is_released:
            own.clear()
        claimed = []
        links, see_address = self.host.links, self.host.see_address
        for address in event.seen:
            link = links.get(address.index)
            key = ("" if link is None else link.name, address.address)
            if key in own:
                see_address(address)
                claimed.append(key)
            else:
                self._address_seen(AddressSeen(address), now)
        if unit is not None and claimed:
            unit.claim.take_word(claimed)

    def _gate_moved(self, event: GateOpened | GateShut, now: Instant) -> None:
        unit = self._named(event.instance)
        if unit is not None:
            unit.gate(event, now)
            self._touch(unit, now)

    def _advert_sent(self, event: AdvertSent, _now: Instant) -> None:
        unit = self._speaker(event.instance)
        if unit is not None:
            unit.sent(event.instance)

    def _advert_failed(self, event: AdvertFailed, now: Instant) -> None:
        unit = self._speaker(event.instance)
        if unit is not None:
            unit.send_failed(event, now)
            self._touch(unit, now)

    def _hearing_changed(self, event: Deafened | Undeafened, now: Instant) -> None:
        if isinstance(event, Deafened):
            self._deaf[event.instance] = event
        else:
            self._deaf.pop(event.instance, None)
        unit = self._by_router.get(event.instance)
        if unit is not None:
            unit.hearing_changed(event, now)
            self._touch(unit, now)

    def _is_covered(self, key: VipKey) -> bool:
        unit = self._by_vip.get(key)
        if unit is not None and unit.claim.covers(key):
            return True
        return any(unit.claim.covers(key) for unit in self._everybody())

    # --- bookkeeping --------------------------------------------------------------------------

    def _everybody(self) -> tuple[Unit, ...]:
        return (*self.units.values(), *self._leaving.values())

    def _named(self, name: str) -> Unit | None:
        """The unit that an answer is for: one that is leaving acts alone under its name."""
        return self._leaving.get(name) or self.units.get(name)

    def _speaker(self, router: str) -> Unit | None:
        """The unit whose router sent an advert; one that is leaving says the last one."""
        for unit in self._leaving.values():
            if router in unit.routers:
                return unit
        return self._by_router.get(router)

    def _touch(self, unit: Unit, now: Instant) -> None:
        """After anything happened to ``unit``: its deadline, and whether it has left."""
        unit.follow(now)
        self.will.look_at(unit)
        if self.cluster and unit.coop and unit is self.units.get(unit.config.name):
            self.cluster.take_report(unit.coop.report(now), now)
        due = unit.deadline()
        if due is None:
            self._deadlines.pop(unit, None)
        else:
            self._deadlines[unit] = due
        name = unit.config.name
        if self._leaving.get(name) is unit and unit.is_done:
            del self._leaving[name]
            self.will.forget(unit)
            self._deadlines.pop(unit, None)
            successor = self._waiting.pop(name, None)
            if successor is not None:
                self._create(successor, now)
            self._index()


def _held_elsewhere(unit: Unit, name: str, holders: dict[VipKey, str]) -> set[VipKey]:
    """Those VIPs of the router ``name`` that another router has by the new configuration."""
    return {key for key in unit.vip_keys if holders.get(key, name) != name}


HANDLERS: dict[type, Callable[[Node, Any, Instant], None]] = {
    Identified: Node._identified,
    Configured: Node._configured,
    HealthReported: Node._health_reported,
    OrdersGiven: Node._orders_given,
    StopRequested: Node._stop,
    DeadlinePassed: Node._deadline_passed,
    LoopStalled: Node._stalled,
    StallDrained: Node._stall_drained,
    KernelResynced: Node._kernel_resynced,
    LinkSeen: Node._link_seen,
    LinkGone: Node._link_gone,
    AddressSeen: Node._address_seen,
    AddressGone: Node._address_gone,
    AdvertHeard: Node._advert_heard,
    AdvertRejected: Node._advert_rejected,
    MessageHeard: Node._message_heard,
    MessageRejected: Node._message_rejected,
    RivalAnnounced: Node._rival_announced,
    AdvertSent: Node._advert_sent,
    AdvertFailed: Node._advert_failed,
    Deafened: Node._hearing_changed,
    Undeafened: Node._hearing_changed,
    AddressesApplied: Node._addresses_applied,
    GateOpened: Node._gate_moved,
    GateShut: Node._gate_moved,
}
"""Which method takes which event; a test demands one row for each event type."""
