"""Carries the core's actions out on the real host and brings the results back as events.

Thin on purpose: each arm is a few lines, the order is the core's. A refusal by the kernel is a
result, not an error; only what leaves the outcome unknown is raised, and ends the engine.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vipd.adapters import netlink
from vipd.adapters.frame_socket import FrameSender
from vipd.adapters.gate import NullGate
from vipd.adapters.netlink_codec import (
    AddressChange,
    AddressRemoval,
    AddressTemplate,
    KernelChange,
    LinkChange,
    address_add,
    address_delete,
    link_request,
    removal_of,
)
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
    Event,
    GateOpened,
    GateShut,
    KernelResynced,
    LinkGone,
    LinkSeen,
)
from vipd.core.host import HostView
from vipd.engine.channel import ChannelPaths
from vipd.engine.report import Report
from vipd.engine.sockets import VrrpSockets
from vipd.engine.will import WillKeeper
from vipd.errors import AdapterError
from vipd.model import Family, Note, NoteKind, Vip, VipKey
from vipd.translate import Translator
from vipd.translate_channel import ChannelTranslator

CONFIRMATIONS = 1024
"""Read after a change of our own: enough for a whole batch of it, and for some of others'."""

_Change = Callable[[AddressTemplate, int, int], bytes]


class Dispatcher:
    """The engine's hands. Owns every socket that changes the host."""

    def __init__(
        self,
        translator: Translator,
        channel_translator: ChannelTranslator,
        host: HostView,
        sockets: VrrpSockets,
        paths: ChannelPaths,
        frames: FrameSender,
        report: Report,
        will: WillKeeper,
    ) -> None:
        self.finished = False
        self.roles_changed = True
        self.templates: Mapping[VipKey, AddressTemplate] = {}
        self.promote_secondaries = b""
        self.kernel_events = netlink.EventSocket()
        self._translator = translator
        self._channel_translator = channel_translator
        self._host = host
        self._sockets = sockets
        self._paths = paths
        self._frames = frames
        self._report = report
        self._will = will
        self._gate = NullGate()
        self._requests = netlink.RequestSocket()
        self._promoting: set[int] = set()

    def carry_out(self, action: Action) -> list[Event]:
        """Do what ``action`` says; returns what came of it, in order."""
        return ARMS[type(action)](self, action)

    # --- the wire -----------------------------------------------------------------------------

    def _send_advert(self, action: SendAdvert) -> list[Event]:
        """Sent if at least one destination got it: one dead unicast peer is no failure."""
        refusal, sent = errno.ENODEV, False
        for outgoing in self._translator.encode(action):
            sock = self._sockets.get((outgoing.index, outgoing.family))
            if sock is None:
                continue
            try:
                sock.send(outgoing.payload, outgoing.source, outgoing.destination)
                sent = True
            except AdapterError as error:
                refusal = error.errno
        if sent:
            return [AdvertSent(action.instance)]
        return [AdvertFailed(action.instance, refusal)]

    def _send_message(self, action: SendMessage) -> list[Event]:
        for outgoing in self._channel_translator.encode(action):
            self._paths.send(outgoing)
        return []

    def _announce(self, action: Announce) -> list[Event]:
        batches: dict[tuple[int, int], list[bytes]] = {}
        for index, frame in self._translator.announcements(action):
            batches.setdefault((index, len(frame)), []).append(frame)
        for (index, _length), frames in batches.items():
            # A full queue or a link that went refuses some: the burst repeats itself.
            self._frames.send_many(index, frames)
        return []

    # --- addresses ----------------------------------------------------------------------------

    def _add(self, action: AddAddresses | RenewAddresses) -> list[Event]:
        failures = self._apply(action.vips, address_add)
        changes, lost = self._read_changes(CONFIRMATIONS)
        if not lost and all(type(change) is AddressChange for change in changes):
            # The common case, hundreds at a time: in one event.
            seen = tuple(change.address for change in changes if type(change) is AddressChange)
            for address in seen:
                self._translator.observe_address(address)
            return [AddressesApplied(action, failures, seen)]
        return [*self._events(changes, lost), AddressesApplied(action, failures)]

    def _remove(self, action: RemoveAddresses) -> list[Event]:
        failures = self._apply(action.vips, address_delete)
        return [*self.read_kernel(), AddressesApplied(action, failures)]

    def _remove_stray(self, action: RemoveStray) -> list[Event]:
        # What the kernel refuses here is not renewed by anybody and ends with its lifetime.
        self._try([removal_of(address) for address in action.addresses])
        return self.read_kernel()

    def _apply(self, vips: tuple[Vip, ...], change: _Change) -> tuple[tuple[int, int], ...]:
        """One batch for all ``vips`` whose link exists; the others fail with ENODEV."""
        failures: list[tuple[int, int]] = []
        positions: list[int] = []
        messages: list[bytes] = []
        for position, vip in enumerate(vips):
            link = self._host.link_named(vip.interface)
            template = self.templates.get(vip.key)
            if link is None or template is None:
                failures.append((position, errno.ENODEV))
                continue
            positions.append(position)
            messages.append(change(template, link.index, vip.prefix))
        failures.extend((positions[at], number) for at, number in self._try(messages))
        return tuple(sorted(failures))

    def _try(self, messages: list[bytes]) -> list[tuple[int, int]]:
        try:
            return list(self._requests.apply(messages)) if messages else []
        except AdapterError as error:
            return [(position, error.errno) for position in range(len(messages))]

    def protect_host_addresses(self, vips: Iterable[Vip]) -> None:
        """No VIP's end may take the host's own address along: promote_secondaries on its link.

        Once for each link, when it is first known: a claim has no time for it.
        """
        for interface in {vip.interface for vip in vips if vip.family is Family.IPV4}:
            link = self._host.link_named(interface)
            if link is not None and link.index not in self._promoting:
                self._promoting.add(link.index)
                self._try([link_request(self.promote_secondaries, link.index)])

    # --- the kernel's word --------------------------------------------------------------------

    def read_kernel(self, most: int = CONFIRMATIONS) -> list[Event]:
        """What the kernel has said since last time; after an overrun, a full dump.

        At most so much: others may change addresses faster than we can read of it.
        """
        return self._events(*self._read_changes(most))

    def _read_changes(self, most: int) -> tuple[list[KernelChange], bool]:
        """What was said, and whether something that was said after it is lost."""
        changes: list[KernelChange] = []
        try:
            for _ in range(most):
                said = self.kernel_events.receive()
                if said is None:
                    break
                changes.extend(said)
        except netlink.Overrun:
            return changes, True
        return changes, False

    def _events(self, changes: list[KernelChange], lost: bool) -> list[Event]:
        events = [_event_of(change) for change in changes]
        for event in events:
            self._translator.observe(event)
        return [*events, *self._resync(ResyncKernel())] if lost else events

    def _resync(self, _action: ResyncKernel) -> list[Event]:
        resynced = KernelResynced(*netlink.dump())
        self._translator.observe(resynced)
        return [resynced]

    # --- the rest -----------------------------------------------------------------------------

    def _open_gate(self, action: OpenGate) -> list[Event]:
        self._gate.open(action.instance)
        return [GateOpened(action.instance)]

    def _shut_gate(self, action: ShutGate) -> list[Event]:
        self._gate.close(action.instance)
        return [GateShut(action.instance)]

    def _keep_will(self, action: KeepWill) -> list[Event]:
        self._will.keep(action)
        return []

    def _note(self, note: Note) -> list[Event]:
        self.roles_changed |= note.kind is NoteKind.TRANSITION
        self._report.note(note)
        return []

    def _finish(self, _action: Finished) -> list[Event]:
        self.finished = True
        return []


def _event_of(change: KernelChange) -> Event:
    if isinstance(change, LinkChange):
        return LinkSeen(change.link)
    if isinstance(change, AddressChange):
        return AddressSeen(change.address)
    if isinstance(change, AddressRemoval):
        return AddressGone(change.address)
    return LinkGone(change.index)


ARMS: dict[type, Callable[[Dispatcher, Any], list[Event]]] = {
    SendAdvert: Dispatcher._send_advert,
    SendMessage: Dispatcher._send_message,
    Announce: Dispatcher._announce,
    AddAddresses: Dispatcher._add,
    RenewAddresses: Dispatcher._add,
    RemoveAddresses: Dispatcher._remove,
    RemoveStray: Dispatcher._remove_stray,
    OpenGate: Dispatcher._open_gate,
    ShutGate: Dispatcher._shut_gate,
    ResyncKernel: Dispatcher._resync,
    KeepWill: Dispatcher._keep_will,
    Note: Dispatcher._note,
    Finished: Dispatcher._finish,
}
"""One arm for each action type; a test demands it."""
