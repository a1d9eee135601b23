"""Every step of every host, and every instant at which something leaves one.

The judge gives each step to the ``Twin`` of the unit that it concerns, and looks at the kernel
at the very instant at which an advert, an announcement or a role leaves. The tables of what it
demands are in ``reference.py``, ``entitlement.py`` and ``roles.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vipd.core.actions import (
    Action,
    AddAddresses,
    Announce,
    RemoveAddresses,
    RenewAddresses,
    SendAdvert,
    SendMessage,
)
from vipd.core.events import (
    AdvertHeard,
    DeadlinePassed,
    Event,
    HealthReported,
    LoopStalled,
    MessageHeard,
    MessageRejected,
    OrdersGiven,
    StallDrained,
)
from vipd.core.unit import Unit
from vipd.model import LEAVING_PRIORITY, Instant, Note, NoteKind, Reason, State, VipKey
from vipd.sim.cluster_twin import ClusterTwin
from vipd.sim.entitlement import MOVES_WORTH
from vipd.sim.reference import Twin
from vipd.sim.render import short
from vipd.sim.roles import Roles
from vipd.sim.worth import Told

if TYPE_CHECKING:
    from vipd.sim.cluster_judge import ClusterJudge
    from vipd.sim.engine import FakeEngine
    from vipd.sim.host import Host
    from vipd.sim.world import World

_ORDERS = (AddAddresses, RenewAddresses, RemoveAddresses)
_JUDGED_WITHOUT_ACTIONS = (AdvertHeard, LoopStalled, StallDrained, *MOVES_WORTH)
_LAST_WORDS = (AdvertHeard,)
_LAST_WORDS_OF_CLUSTER = (AdvertHeard, MessageHeard, DeadlinePassed)
"""In a cluster the end of a pin, too, may end a mastership in the step of an advert."""

_DECISIONS = (OrdersGiven, HealthReported)
_DECIDED = frozenset(
    each.value
    for each in (
        Reason.SWITCHOVER,
        Reason.MAINTENANCE,
        Reason.PREEMPTED,
        Reason.ADVERTS_LOST,
        Reason.STOPPED,
        Reason.REMOVED,
    )
)


class Judge:
    """Sees every step of every host. One for all hosts. ``cluster``: of cluster runs only."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cluster: ClusterJudge | None = None
        self.roles = Roles(world)
        self.told: dict[Host, Told] = {}
        self.twins: dict[Host, dict[str, Twin]] = {}
        self.owes_goodbye: dict[tuple[Host, str], Instant] = {}
        self.beaten: set[tuple[Host, str]] = set()
        self.unannounced: dict[Host, dict[VipKey, Instant]] = {}
        self.on_note: Callable[[FakeEngine, Note], None] = _ignore

    def started(self, engine: FakeEngine) -> None:
        host = engine.host
        self.twins[host] = {}
        self.told[host] = Told()
        self.unannounced.setdefault(host, {})
        self.roles.started(host)
        for key in [key for key in self.owes_goodbye if key[0] is host]:
            del self.owes_goodbye[key]
        self.beaten = {key for key in self.beaten if key[0] is not host}
        if self.cluster is not None:
            self.cluster.started(engine)

    def finished(self, engine: FakeEngine) -> None:
        """The engine says that everything is released and ends."""
        host = engine.host
        if host.kernel.tagged:
            self.world.violated("finished-early", f"{host.name}: VIPs are left on the host")
        if self.cluster is not None:
            self.cluster.manners.finished(engine)
        for owing, name in self.owes_goodbye:
            if owing is host:
                self.world.violated("goodbye-missing", f"{host.name} {name} ended in silence")

    def after(
        self, engine: FakeEngine, event: Event, actions: tuple[Action, ...], now: Instant
    ) -> None:
        if self.cluster is not None:
            self.cluster.after(engine, event)
        told = self.told[engine.host]
        told.learn(event, now)
        twins, units = self.twins[engine.host], engine.node.units
        news = [n for n, u in units.items() if n not in twins or twins[n].unit is not u]
        if not actions and not news and type(event) not in _JUDGED_WITHOUT_ACTIONS:
            return  # every transition is noted, so nothing happened
        for action in actions:
            if type(action) in _ORDERS:
                self._judge_order(engine, action)
        for name in news:
            kind = Twin if self.cluster is None else ClusterTwin
            twins[name] = kind(self.world, engine.host, units[name], told)
        only = event.instance if type(event) is AdvertHeard else None
        for name, unit in units.items():
            if only is not None and only not in unit.routers:
                continue
            twin = twins[name]
            if twin.step(event, actions, now):  # what it holds by now is to be announced
                for key in twin.keys & engine.host.kernel.present:
                    self.unannounced[engine.host][key] = self.world.now

    def _judge_order(self, engine: FakeEngine, order: Action) -> None:
        unit = engine.node.units.get(getattr(order, "instance", ""))
        if unit is not None and unit.config.is_owner:
            self.world.violated("owner-touched", f"{engine.host.name}: {short(order)}")

    def address_changed(self, host: Host, key: VipKey) -> None:
        """An address appeared, which somebody has to announce, or left."""
        pending = self.unannounced.setdefault(host, {})
        if host.kernel.has(key):
            pending[key] = self.world.now
        else:
            pending.pop(key, None)
        if self.cluster is not None:
            self.cluster.address_changed(host, key)

    # --- the channel --------------------------------------------------------------------------

    def hears(
        self, engine: FakeEngine, event: MessageHeard | MessageRejected, sent_at: Instant
    ) -> None:
        if self.cluster is not None:
            self.cluster.hears(engine, event, sent_at)

    def says(self, engine: FakeEngine, action: SendMessage) -> None:
        if self.cluster is not None:
            self.cluster.says(engine, action)

    def withdrawn(self, engine: FakeEngine) -> None:
        if self.cluster is not None:
            self.cluster.manners.withdrawn(engine)

    def adds(self, engine: FakeEngine, order: AddAddresses) -> None:
        if self.cluster is not None:
            self.cluster.carries_out(engine, order)

    def dies(self, engine: FakeEngine) -> None:
        if self.cluster is not None:
            self.cluster.dies(engine)

    # --- at the instant at which something leaves the host ------------------------------------

    def leaves(self, engine: FakeEngine, sent: SendAdvert, *, supervised: bool = False) -> None:
        if sent.advert.priority == LEAVING_PRIORITY:
            self.owes_goodbye.pop((engine.host, sent.instance), None)
            self._says_goodbye(engine, sent, supervised)
            return
        unit = unit_of(engine, sent.instance)
        twin = None if unit is None else self.twins[engine.host].get(unit.config.name)
        if twin is not None and twin.unit is not unit:
            twin = None
        speaks = unit is not None and unit.election.state is State.MASTER
        was_master = twin is not None and twin.state is State.MASTER
        last_words = _LAST_WORDS if self.cluster is None else _LAST_WORDS_OF_CLUSTER
        if was_master and not speaks and type(engine.handled) in last_words:
            return  # still in the step in which it was beaten
        if self.cluster is not None:
            self.cluster.carries_out(engine, sent)
        if unit is None or not speaks:
            where = f"{engine.host.name} {sent.instance}"
            self.world.violated("speaks-unasked", f"{where}: an advert although it is not master")
            return
        if twin is None:
            return
        if twin.suspended and unit.election.suspended:
            twin.fail("stall", "an advert before all sockets were read")
        old = twin.sources.get(sent.instance)
        if old not in (None, sent.source):
            self._judge_source(engine, sent, twin, old or b"")
        twin.sources[sent.instance] = sent.source

    def _judge_source(self, engine: FakeEngine, sent: SendAdvert, twin: Twin, old: bytes) -> None:
        link = engine.host.kernel.links.get(sent.config.interface)
        usable = link is not None and engine.host.kernel.is_usable(link.index, old)
        if usable and sent.config.source is None:
            twin.fail("source-flip", f"{old.hex()} -> {sent.source.hex()}")

    def _says_goodbye(self, engine: FakeEngine, sent: SendAdvert, supervised: bool) -> None:
        where = f"{engine.host.name} {sent.instance}"
        if not sent.config.is_owner:
            for vip in sent.config.vips:
                if engine.host.kernel.has(vip.key):
                    self.world.violated("goodbye-early", f"{where}: {vip} is still on the host")
        if not supervised and (engine.host, sent.instance) in self.beaten:
            self.world.violated("goodbye-unasked", f"{where}: priority 0 after it was beaten")
        self.world.coverage["goodbyes"] += 1

    def send_refused(self, engine: FakeEngine, sent: SendAdvert) -> None:
        self.owes_goodbye.pop((engine.host, sent.instance), None)

    def announces(self, engine: FakeEngine, action: Announce) -> None:
        kernel = engine.host.kernel
        for vip in action.vips:
            link = kernel.links.get(vip.interface)
            if link is None:
                continue
            if (link.index, vip.address) not in engine.told:
                self.world.violated(
                    "announce-unheld", f"{engine.host.name}: {vip} is announced, not confirmed"
                )
            self.unannounced[engine.host].pop(vip.key, None)
        twin = self.twins[engine.host].get(action.instance)
        if twin is not None:
            twin.owes_word_since = None

    def noted(self, engine: FakeEngine, note: Note) -> None:
        if note.kind is NoteKind.TRANSITION:
            self._transition(engine, note)
        elif note.kind is NoteKind.ROLE:
            twin = self.twins[engine.host].get(note.instance)
            self.roles.said(engine, note, frozenset() if twin is None else twin.keys)
        elif note.kind is NoteKind.HEALTH_STALE:
            self.told[engine.host].stale = True
        self.on_note(engine, note)

    def _transition(self, engine: FakeEngine, note: Note) -> None:
        """Who leaves MASTER by decision owes a priority 0, who was beaten must not say it."""
        twin = self.twins[engine.host].get(note.instance)
        if twin is None:
            return
        left = note.fields["from"] == State.MASTER.value
        decided = type(engine.handled) in _DECISIONS or note.fields["to"] == State.INIT.value
        if self.cluster is not None:
            decided |= note.fields["reason"] in _DECIDED
            if left:
                self.cluster.manners.leaves(engine, note)
            if left and decided:
                engine.host.on_step(engine, "leaving")
                self.cluster.gives(engine, note)
            elif note.fields["to"] == State.MASTER.value:
                self.cluster.takes(engine, note)
        for name in twin.unit.routers:
            if note.fields["to"] == State.MASTER.value:
                self.owes_goodbye.pop((engine.host, name), None)
            if left:
                self.beaten.discard((engine.host, name))
            if left and decided:
                self.owes_goodbye[engine.host, name] = self.world.now
            elif left and note.fields["to"] == State.BACKUP.value:
                self.beaten.add((engine.host, name))


def unit_of(engine: FakeEngine, router: str) -> Unit | None:
    """The unit that this router is in now."""
    return next((unit for unit in engine.node.units.values() if router in unit.routers), None)


def _ignore(_engine: FakeEngine, _note: Note) -> None:
    """Nobody listens."""
