"""Every step of every host, and every instant at which something leaves one.

The judge gives each step to the ``Twin`` of the router that it concerns, and looks at the kernel
at the very instant at which an advert or an announcement leaves. The table of what it demands is
in ``reference.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from vipd.core.actions import (
    Action,
    AddAddresses,
    Announce,
    RemoveAddresses,
    RenewAddresses,
    SendAdvert,
)
from vipd.core.events import AdvertHeard, DeadlinePassed, Event, LoopStalled, StallDrained
from vipd.model import LEAVING_PRIORITY, Instant, Note, NoteKind, State, VipKey
from vipd.sim.reference import Twin
from vipd.sim.render import short

if TYPE_CHECKING:
    from vipd.sim.engine import FakeEngine
    from vipd.sim.host import Host
    from vipd.sim.world import World

_ORDERS = (AddAddresses, RenewAddresses, RemoveAddresses)
_JUDGED_WITHOUT_ACTIONS = (AdvertHeard, DeadlinePassed, LoopStalled, StallDrained)


class Judge:
    """Sees every step of every host. One for all hosts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.twins: dict[Host, dict[str, Twin]] = {}
        self.owes_goodbye: set[tuple[Host, str]] = set()
        self.left_to: dict[tuple[Host, str], str] = {}
        self.unannounced: dict[Host, dict[VipKey, Instant]] = {}
        self.on_note: Callable[[FakeEngine, Note], None] = _ignore

    def started(self, engine: FakeEngine) -> None:
        self.twins[engine.host] = {}
        self.owes_goodbye = {owed for owed in self.owes_goodbye if owed[0] is not engine.host}
        for key in [key for key in self.left_to if key[0] is engine.host]:
            del self.left_to[key]

    def finished(self, engine: FakeEngine) -> None:
        """The engine says that everything is released and ends."""
        host = engine.host
        if host.kernel.tagged:
            self.world.violated("finished-early", f"{host.name}: VIPs are left on the host")
        for owing, name in self.owes_goodbye:
            if owing is host:
                self.world.violated("goodbye-missing", f"{host.name} {name} ended in silence")

    def after(
        self, engine: FakeEngine, event: Event, actions: tuple[Action, ...], now: Instant
    ) -> None:
        if not actions and type(event) not in _JUDGED_WITHOUT_ACTIONS:
            return  # every transition is noted, so nothing happened
        for action in actions:
            if type(action) in _ORDERS:
                self._judge_order(engine, action)
        twins, instances = self.twins[engine.host], engine.node.instances
        concerned: Iterable[str] = instances
        if type(event) is AdvertHeard:
            concerned = (event.instance,) if event.instance in instances else ()
        for name in concerned:
            instance = instances[name]
            twin = twins.get(name)
            if twin is None or twin.instance is not instance:
                twin = twins[name] = Twin(self.world, engine.host, instance)
            if twin.step(event, actions, now):  # what it holds by now is to be announced
                for key in twin.keys & engine.host.kernel.present:
                    self.unannounced[engine.host][key] = self.world.now

    def _judge_order(self, engine: FakeEngine, order: Action) -> None:
        instance = engine.node.instances.get(getattr(order, "instance", ""))
        if instance is not None and instance.config.is_owner:
            self.world.violated("owner-touched", f"{engine.host.name}: {short(order)}")

    def address_changed(self, host: Host, key: VipKey) -> None:
        """An address appeared, which somebody has to announce, or left."""
        pending = self.unannounced.setdefault(host, {})
        if host.kernel.has(key):
            pending[key] = self.world.now
        else:
            pending.pop(key, None)

    # --- at the instant at which something leaves the host ------------------------------------

    def leaves(self, engine: FakeEngine, sent: SendAdvert, *, supervised: bool = False) -> None:
        if sent.advert.priority == LEAVING_PRIORITY:
            self.owes_goodbye.discard((engine.host, sent.instance))
            self._says_goodbye(engine, sent, supervised)
            return
        instance = engine.node.instances.get(sent.instance)
        twin = self.twins[engine.host].get(sent.instance)
        was_master = twin is not None and twin.state is State.MASTER and instance is not None
        if was_master and instance is not None and instance.election.state is State.BACKUP:
            return  # still in the step in which it was beaten: its last word
        where = f"{engine.host.name} {sent.instance}"
        if instance is None or instance.election.state is not State.MASTER:
            self.world.violated("speaks-unasked", f"{where}: an advert although it is not master")
            return
        if twin is None or twin.instance is not instance:
            return
        if twin.suspended and instance.election.suspended:
            twin.fail("stall", "an advert before all sockets were read")
        if twin.source not in (None, sent.source):
            self._judge_source(engine, sent, twin)
        twin.source = sent.source

    def _judge_source(self, engine: FakeEngine, sent: SendAdvert, twin: Twin) -> None:
        old = twin.source or b""
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
        if not supervised and self.left_to.get((engine.host, sent.instance)) == "BACKUP":
            self.world.violated("goodbye-unasked", f"{where}: priority 0 after it was beaten")
        self.world.coverage["goodbyes"] += 1

    def send_refused(self, engine: FakeEngine, sent: SendAdvert) -> None:
        self.owes_goodbye.discard((engine.host, sent.instance))

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
        if note.kind is NoteKind.TRANSITION and note.fields["from"] == State.MASTER.value:
            to = str(note.fields["to"])
            self.left_to[engine.host, note.instance] = to
            if to == State.INIT.value:
                self.owes_goodbye.add((engine.host, note.instance))
        self.on_note(engine, note)


def _ignore(_engine: FakeEngine, _note: Note) -> None:
    """Nobody listens."""
