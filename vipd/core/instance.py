"""One virtual router on this node: joins election, lease and claim.

What it decides: nothing by itself. It passes the wishes of one machine to the next and turns the
rest into actions, keeps the faults (which the election sees as one), counts, and limits notes.

Faults are of two kinds. *Level* faults follow from the host as it is now (link, source address,
an address owned by somebody else) and end when the host changes. *Timed* faults follow from
something that failed (the kernel refused a VIP, adverts cannot be sent) and end after a back-off
that doubles while the trouble lasts. Mastership is impossible while any fault stands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from vipd.core import invariants
from vipd.core.actions import (
    Action,
    AddAddresses,
    Announce,
    OpenGate,
    RemoveAddresses,
    RemoveStray,
    RenewAddresses,
    ResyncKernel,
    SendAdvert,
    ShutGate,
)
from vipd.core.announcement import AnnouncementPlan
from vipd.core.claim import Claim
from vipd.core.counters import Counters
from vipd.core.election import Election, Standing
from vipd.core.events import (
    AddressesApplied,
    AdvertFailed,
    AdvertHeard,
    AdvertRejected,
    GateOpened,
    GateShut,
    LoopStalled,
    RivalAnnounced,
    StallDrained,
)
from vipd.core.foreign import ForeignWatch
from vipd.core.host import HostView
from vipd.core.lease import Unguarded
from vipd.core.limiter import NoteLimiter
from vipd.core.signals import (
    AddWanted,
    AdvertWanted,
    AnnounceWanted,
    ClaimGivenUp,
    ClaimWanted,
    FaultCleared,
    FaultRaised,
    FramesWanted,
    GateWanted,
    LeaseGranted,
    LeaseLost,
    LeaseReturned,
    LeaseWanted,
    PresenceResynced,
    PriorityChanged,
    Released,
    ReleaseWanted,
    RemoveWanted,
    RenewWanted,
    ResyncWanted,
    Started,
    Stopped,
    TimerFired,
    VipGone,
    VipsChanged,
    VipSeen,
    Wish,
)
from vipd.errors import InvariantViolated
from vipd.model import (
    LEAVING_PRIORITY,
    SECOND_NS,
    Address,
    Advert,
    ClaimState,
    Duration,
    FieldValue,
    InstanceConfig,
    Instant,
    Link,
    Note,
    NoteKind,
    Reason,
    State,
    Vip,
    VipKey,
    format_address,
)

SEND_FAILURE_LIMIT = 3
"""Adverts in a row that the kernel refused: by now the peers have taken over (3 intervals)."""

BACKOFF_FIRST_NS = SECOND_NS
BACKOFF_LAST_NS = 60 * SECOND_NS
RIVAL_GAP_NS = 10 * SECOND_NS
"""RFC 5227 §2.4 DEFEND_INTERVAL."""

_FROM_THE_WIRE = (NoteKind.DUPLICATE_ADDRESS,)
"""Notes of the machines that any peer can cause as often as it likes."""

_TO_ELECTION = (LeaseGranted, LeaseLost)
_TO_CLAIM = (ClaimWanted, ReleaseWanted, AnnounceWanted)


@dataclass(slots=True)
class _Backoff:
    """How long the next timed fault of one reason lasts, and until when the present one does."""

    next_ns: Duration
    until: Instant


class Instance:
    """One virtual router. All methods take ``now`` and append to the node's list of actions."""

    def __init__(
        self,
        config: InstanceConfig,
        host: HostView,
        vip_addresses: frozenset[Address],
        actions: list[Action],
        now: Instant,
    ) -> None:
        self.config = config
        self.source: Address | None = None
        self.counters = Counters()
        self.vip_addresses = vip_addresses
        self._host = host
        self._actions = actions
        self._know_vips()
        self._advertised = config.advertised
        self._faults: dict[Reason, str] = {}
        self._backoffs: dict[Reason, _Backoff] = {}
        self._foreign = ForeignWatch()
        self._send_failures = 0
        self._stopped = False
        self._limiter = NoteLimiter()
        self._pending: deque[tuple[Election | Unguarded | Claim, Any]] = deque()
        self.election = Election(_standing(config, b""), now)
        self.lease = Unguarded()
        self.claim = Claim(
            config.vips,
            owner=config.is_owner,
            lifetime_s=config.address_lifetime_s,
            announcements=AnnouncementPlan(config.announce_count, config.announce_refresh_ns),
        )

    # --- life ---------------------------------------------------------------------------------

    def start(self, now: Instant) -> None:
        """The host is known: start, or stand in FAULT with the reasons."""
        self.resync(now)
        if not self._faults and not self._stopped:
            self._feed(self.election, Started(Reason.STARTUP), now)

    def stop(self, reason: Reason, now: Instant) -> None:
        self._stopped = True
        self._faults.clear()
        self._backoffs.clear()
        self._foreign = ForeignWatch()
        self._feed(self.election, Stopped(reason), now)

    @property
    def vip_keys(self) -> set[VipKey]:
        """The configured VIPs, and those that a reload took away while they leave."""
        return {*self._vips, *self.claim.retired}

    def uses(self, links: set[str]) -> bool:
        """Is anything of this router on one of ``links``, or still to go from there?"""
        retired = self.claim.retired
        return not links.isdisjoint(self.interfaces) or any(name in links for name, _ in retired)

    @property
    def is_released(self) -> bool:
        return self.claim.state is ClaimState.ABSENT

    @property
    def faults(self) -> dict[Reason, str]:
        return self._faults

    def deadline(self) -> Instant | None:
        instants = [self.election.deadline, self.claim.deadline, self._foreign.deadline]
        instants.extend(self._backoffs[reason].until for reason in self._timed_faults())
        return min((at for at in instants if at is not None), default=None)

    def fire(self, now: Instant) -> None:
        """Whatever is due: the election first, because its adverts keep the peers calm."""
        due = self.election.deadline
        if due is not None and now >= due:
            self._feed(self.election, TimerFired(), now)
        due = self.claim.deadline
        if due is not None and now >= due:
            self._feed(self.claim, TimerFired(), now)
        over = [reason for reason in self._timed_faults() if now >= self._backoffs[reason].until]
        if over:
            self._change_faults({r: d for r, d in self._faults.items() if r not in over}, now)
        if overdue := self._foreign.overdue(now):
            self._review_foreign(overdue, now)
            self.judge_host(now)

    def _know_vips(self) -> None:
        self._vips = {vip.key: vip for vip in self.config.vips}
        self.interfaces = frozenset(
            {self.config.interface, *(vip.interface for vip in self.config.vips)}
        )

    # --- reload -------------------------------------------------------------------------------

    def can_become(self, config: InstanceConfig) -> bool:
        """True if ``config`` is still this virtual router, so that it can change in place."""
        return (
            config.router_key == self.config.router_key
            and config.is_owner == self.config.is_owner
            and config.unicast_peers == self.config.unicast_peers
        )

    def reconfigure(self, config: InstanceConfig, elsewhere: set[VipKey], now: Instant) -> None:
        """Take ``config`` over. VIPs that another instance has now (``elsewhere``) stay put."""
        old, self.config = self.config, config
        self._know_vips()
        self._advertised = config.advertised
        self.election.standing = _standing(config, self.source or b"")
        self.claim.lifetime_s = config.address_lifetime_s
        plan = self.claim.announcements
        plan.count, plan.refresh_ns = config.announce_count, config.announce_refresh_ns
        moved = not elsewhere.isdisjoint(self.claim.retired)
        lifetime_changed = config.address_lifetime_s != old.address_lifetime_s
        if config.vips != old.vips or moved or lifetime_changed:
            self._change_vips(old.vips, elsewhere, now)
        if config != old:
            self._feed(self.election, PriorityChanged(), now)

    def let_go_of(self, elsewhere: set[VipKey], now: Instant) -> None:
        """This router is about to be removed: what others have now is not its to take away.

        Its goodbye lists what it advertised so far: peers drop an advert with another list, and
        one without any address is none.
        """
        kept = tuple(vip for vip in self.config.vips if vip.key not in elsewhere)
        if kept != self.config.vips or not elsewhere.isdisjoint(self.claim.retired):
            self.config = replace(self.config, vips=kept)
            self._know_vips()
            self._feed(self.claim, VipsChanged(kept, (), frozenset(elsewhere)), now)

    def _change_vips(self, old: tuple[Vip, ...], elsewhere: set[VipKey], now: Instant) -> None:
        retired = tuple(
            vip for vip in old if vip.key not in self._vips and vip.key not in elsewhere
        )
        self._foreign.limit_to(self._vips)
        self._feed(self.claim, VipsChanged(self.config.vips, retired, frozenset(elsewhere)), now)

    # --- the wire -----------------------------------------------------------------------------

    def hear(self, heard: AdvertHeard, now: Instant) -> None:
        self.counters.add("adverts_received")
        if heard.advert.priority == LEAVING_PRIORITY:
            self.counters.add("priority_zero_received")
        for remark in heard.remarks:
            self.counters.add(f"remarks.{remark.value}")
            self._limited(
                NoteKind.ADVERT_REMARKED,
                remark.value,
                {"remark": remark.value, "source": format_address(heard.source)},
                now,
            )
        self._feed(self.election, heard, now)

    def reject(self, rejected: AdvertRejected, now: Instant) -> None:
        self.counters.discard(rejected.reason)
        fields = fields_of(rejected)
        self._limited(NoteKind.ADVERT_DISCARDED, rejected.reason.value, fields, now)

    def sent(self) -> None:
        self.counters.add("adverts_sent")
        self._send_failures = 0

    def send_failed(self, failed: AdvertFailed, now: Instant) -> None:
        self.counters.add("adverts_failed")
        if self.election.state is State.MASTER:  # a goodbye that failed costs nobody anything
            self._send_failures += 1
        fields: dict[str, str | int] = {"errno": failed.errno, "in_a_row": self._send_failures}
        self._limited(NoteKind.SEND_FAILED, "", fields, now)
        if self._send_failures >= SEND_FAILURE_LIMIT:
            self._send_failures = 0
            self._raise_timed(Reason.SEND_REFUSED, f"errno {failed.errno}", now)

    def rival(self, rival: RivalAnnounced, now: Instant) -> None:
        """Somebody else answers for our VIP: say it louder, never give it up for that."""
        if self.claim.state is not ClaimState.PRESENT:
            return
        self.counters.add("rival_announcements")
        fields: dict[str, str | int] = {
            "address": format_address(rival.address),
            "mac": rival.mac.hex(":"),
        }
        self._limited(NoteKind.RIVAL_ANNOUNCED, "", fields, now)
        self._feed(self.claim, AnnounceWanted(RIVAL_GAP_NS), now)

    def stalled(self, stall: LoopStalled, now: Instant) -> None:
        self._feed(self.election, stall, now)

    def stall_over(self, drained: StallDrained, now: Instant) -> None:
        self._feed(self.election, drained, now)

    # --- the kernel ---------------------------------------------------------------------------

    def applied(self, applied: AddressesApplied, now: Instant) -> None:
        self._feed(self.claim, applied, now)

    def gate(self, event: GateOpened | GateShut, now: Instant) -> None:
        self._feed(self.claim, event, now)

    def _vip(self, key: VipKey) -> Vip | None:
        return self._vips.get(key) or self.claim.retired.get(key)

    def vip_seen(self, key: VipKey, now: Instant) -> None:
        vip = self._vip(key)
        if vip is None:
            return  # retired, gone, and put there again by somebody else
        self._feed(self.claim, VipSeen(vip), now)
        if self.config.is_owner:
            self.judge_host(now)
        elif self.is_released and not self._stopped:
            self._review_foreign([key], now)
            if self._foreign.kept:
                self.judge_host(now)

    def vip_gone(self, key: VipKey, now: Instant) -> None:
        vip = self._vip(key)
        if vip is None:
            return
        self._feed(self.claim, VipGone(vip), now)
        if self._foreign.gone(key) or self.config.is_owner:
            self.judge_host(now)

    def link_changed(self, old: Link | None, new: Link, now: Instant) -> None:
        if old is not None and old.mac != new.mac and old.up and new.up:
            self._feed(self.claim, AnnounceWanted(0), now)

    def resync(self, now: Instant) -> None:
        """After a dump, or a change of links: look at everything anew."""
        if self._level_faults():
            self.judge_host(now)  # leave first: nothing is put back on a link that is gone
        present = self._present_keys()
        self._feed(self.claim, PresenceResynced(present), now)
        if self.is_released and not self.config.is_owner and not self._stopped:
            self._review_foreign(self._vips, now)
        self.judge_host(now)

    def judge_host(self, now: Instant) -> None:
        """Source and level faults, from the host as it is."""
        source = self._host.source_for(self.config, self.vip_addresses, self.source)
        if source != self.source:
            self._change_source(source, now)
        faults = {r: d for r, d in self._faults.items() if r in self._backoffs}
        self._change_faults(self._level_faults() | faults, now)

    def _change_source(self, source: Address | None, now: Instant) -> None:
        old, self.source = self.source, source
        if source is None:
            return
        self.election.standing.source = source
        if old is not None:
            fields = {"old": format_address(old), "new": format_address(source)}
            self._note(Note(NoteKind.SOURCE_CHANGED, "", fields))
            self._feed(self.election, PriorityChanged(), now)

    def _level_faults(self) -> dict[Reason, str]:
        faults: dict[Reason, str] = {}
        for name in sorted(self.interfaces):
            link = self._host.link_named(name)
            if link is None:
                faults[Reason.INTERFACE_MISSING] = name
            elif not link.up:
                faults[Reason.INTERFACE_DOWN] = name
        if not faults and self.source is None:
            faults[Reason.NO_SOURCE_ADDRESS] = self.config.interface
        if self.config.is_owner:
            missing = [vip for vip in self.config.vips if not self._host.has(vip.key)]
            if missing:
                faults[Reason.OWNED_ADDRESS_MISSING] = str(missing[0])
        elif self._foreign.kept:
            faults[Reason.FOREIGN_ADDRESS] = ", ".join(islice(self._foreign.kept.values(), 3))
        return faults

    def _present_keys(self) -> frozenset[VipKey]:
        return frozenset(key for key in self.vip_keys if self._host.has(key))

    def _review_foreign(self, keys: Iterable[VipKey], now: Instant) -> None:
        """VIPs that are on this host although we do not hold them (``foreign.py``)."""
        for key in keys:
            known = self._foreign.kept.get(key)
            entries = self._host.entries(key) if self.is_released else ()
            if remove := self._foreign.review(key, entries, now):
                fields: dict[str, str | int] = {"vip": str(self._vips[key])}
                self._note(Note(NoteKind.FOREIGN_ADDRESS_REMOVED, "", fields))
                self._actions.append(RemoveStray(remove))
            words = self._foreign.kept.get(key)
            if words is not None and words != known:
                self._note(Note(NoteKind.FOREIGN_ADDRESS_KEPT, "", {"vip": words}))

    # --- faults -------------------------------------------------------------------------------

    def _timed_faults(self) -> list[Reason]:
        return [reason for reason in self._faults if reason in self._backoffs]

    def _raise_timed(self, reason: Reason, detail: str, now: Instant) -> None:
        backoff = self._backoffs.setdefault(reason, _Backoff(BACKOFF_FIRST_NS, now))
        if now - backoff.until > BACKOFF_LAST_NS:  # a long time without trouble: start small
            backoff.next_ns = BACKOFF_FIRST_NS
        backoff.until = now + backoff.next_ns
        backoff.next_ns = min(2 * backoff.next_ns, BACKOFF_LAST_NS)
        self._change_faults({**self._faults, reason: detail}, now)

    def _change_faults(self, faults: dict[Reason, str], now: Instant) -> None:
        if self._stopped or faults == self._faults:
            return
        had, self._faults = bool(self._faults), faults
        if faults:
            reason, detail = next(iter(faults.items()))
            self._feed(self.election, FaultRaised(reason, detail), now)
        elif had:
            self._recover(now)

    def _recover(self, now: Instant) -> None:
        state = self.election.state
        signal = FaultCleared() if state is State.FAULT else Started(Reason.RECOVERED)
        self._feed(self.election, signal, now)

    # --- the machines -------------------------------------------------------------------------

    def _feed(self, machine: Election | Unguarded | Claim, signal: Any, now: Instant) -> None:
        """Give one input to one machine and carry the wishes round until none is left."""
        self._pending.append((machine, signal))
        if len(self._pending) > 1:
            return  # a wish led back here: the loop below takes it in turn
        while self._pending:
            target, current = self._pending[0]
            for wish in target.handle(current, now):
                self._fulfil(wish, now)
            self._pending.popleft()
        invariants.check(self.config.name, self.election, self.lease.state, self.claim)

    def _fulfil(self, wish: Wish, now: Instant) -> None:
        if isinstance(wish, Note) and wish.kind in _FROM_THE_WIRE:
            self._limited(wish.kind, "", dict(wish.fields), now)
        elif isinstance(wish, Note):
            self._note(wish)
        elif isinstance(wish, _TO_ELECTION):
            self._pending.append((self.election, wish))
        elif isinstance(wish, _TO_CLAIM):
            self._pending.append((self.claim, wish))
        elif isinstance(wish, LeaseWanted):
            self._pending.append((self.lease, wish))
        elif isinstance(wish, LeaseReturned):
            # While the kernel still holds something, ``Released`` gives the lease back.
            if self.is_released:
                self._pending.append((self.lease, wish))
        elif isinstance(wish, Released):
            if self.election.state not in (State.CANDIDATE, State.MASTER):
                self._pending.append((self.lease, LeaseReturned()))
        elif isinstance(wish, ClaimGivenUp):
            self._claim_given_up(wish, now)
        else:
            self._act(wish)

    def _claim_given_up(self, wish: ClaimGivenUp, now: Instant) -> None:
        if self.config.is_owner:
            self._change_faults(self._faults | {wish.reason: wish.detail}, now)
        else:
            self._note(Note(NoteKind.CLAIM_REFUSED, "", {"detail": wish.detail}))
            self._raise_timed(wish.reason, wish.detail, now)

    def _act(self, wish: Wish) -> None:
        name = self.config.name
        if isinstance(wish, AdvertWanted):
            self._send(LEAVING_PRIORITY if wish.leaving else self.config.priority)
        elif isinstance(wish, AddWanted):
            self._actions.append(AddAddresses(name, self._place(wish.vips)))
        elif isinstance(wish, RenewWanted):
            self._actions.append(RenewAddresses(name, self._place(wish.vips)))
        elif isinstance(wish, RemoveWanted):
            self._actions.append(RemoveAddresses(name, self._place(wish.vips)))
        elif isinstance(wish, FramesWanted):
            self.counters.add("announcements", len(wish.vips))
            self._actions.append(Announce(name, wish.vips))
        elif isinstance(wish, GateWanted):
            self._actions.append(OpenGate(name) if wish.open else ShutGate(name))
        elif isinstance(wish, ResyncWanted):
            self._actions.append(ResyncKernel())
        else:
            raise InvariantViolated(f"nobody fulfils {wish!r}")

    def _place(self, vips: Iterable[Vip]) -> tuple[Vip, ...]:
        return self._host.place(vips, self.vip_addresses)

    def _send(self, priority: int) -> None:
        if self.source is None:
            return  # ENC-10: without a source nothing is sent
        if priority == LEAVING_PRIORITY:
            self.counters.add("priority_zero_sent")
        advert = Advert(
            self.config.version,
            self.config.vrid,
            priority,
            self.config.advert_interval_ns,
            self._advertised,
        )
        self._actions.append(SendAdvert(self.config, self.source, advert))

    # --- notes --------------------------------------------------------------------------------

    def _note(self, note: Note) -> None:
        if note.kind is NoteKind.TRANSITION:
            self.counters.add("transitions")
        self._actions.append(Note(note.kind, self.config.name, note.fields))

    def _limited(self, kind: NoteKind, key: str, fields: dict[str, Any], now: Instant) -> None:
        held_back = self._limiter.admit((kind, key), now)
        if held_back is not None:
            self._note(Note(kind, "", fields | {"held_back": held_back}))


def fields_of(rejected: AdvertRejected) -> dict[str, FieldValue]:
    """What a note says of a discarded datagram."""
    source = "" if rejected.source is None else format_address(rejected.source)
    return {"reason": rejected.reason.value, "source": source, "detail": rejected.detail}


def _standing(config: InstanceConfig, source: Address) -> Standing:
    return Standing(
        version=config.version,
        priority=config.priority,
        interval_ns=config.advert_interval_ns,
        preempt=config.preempt,
        preempt_delay_ns=config.preempt_delay_ns,
        source=source,
    )
