"""Claim: "does the kernel have the VIPs?" It owns the order of both ways.

Claim    advert -> gate opened -> addresses added -> kernel says they are there -> announced
Release  gate shut -> addresses removed -> kernel says they are gone -> priority 0 -> lease back

Why this order
--------------
* The advert goes first so that a beaten master drops the VIP before our announcement moves the
  switches to us (RFC 9568 §6.4.2, row F5).
* An announcement for an address that the kernel does not have yet would draw traffic into a
  hole, and its ARP requests would go unanswered: announce only what the kernel confirmed.
* Saying priority 0 before the addresses are gone invites the next master to overlap with us.
  Use ends first, then others are told, then the lease goes back.

Rules that may never break
--------------------------
1. An address is held when the kernel says so and gone when the kernel says so, whatever was
   asked for (``VipSeen``, ``VipGone``, ``PresenceResynced``).
2. ``Released`` is said only in ABSENT: no VIP of ours is on the host, nor on its way there. What
   was ordered but not yet seen counts as held until a removal of it was answered.
3. Held addresses are renewed until the release begins, never after: when everything else fails
   the kernel ends them at the end of their lifetime.
4. The address owner's VIPs (priority 255) are the host's own: never added, renewed or removed.
5. Work is cut into chunks (``batches.py``), so that no batch holds an advert up.

States: ABSENT, ADDING, PRESENT, REMOVING. A VIP that vanishes while PRESENT is put back at once
(back to ADDING, counted); one that keeps vanishing is given up.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from vipd.core.actions import AddAddresses, RemoveAddresses
from vipd.core.announcement import AnnouncementPlan
from vipd.core.batches import CHUNK, Renewals, chunks_of
from vipd.core.events import AddressesApplied, GateOpened, GateShut
from vipd.core.limiter import IncidentCounter
from vipd.core.signals import (
    AddWanted,
    AdvertWanted,
    AnnounceWanted,
    ClaimGivenUp,
    ClaimWanted,
    FramesWanted,
    GateWanted,
    PresenceResynced,
    Released,
    ReleaseWanted,
    RemoveWanted,
    RenewWanted,
    ResyncWanted,
    TimerFired,
    VipGone,
    VipsChanged,
    VipSeen,
    Wish,
)
from vipd.core.table import Ignored, Table, complete
from vipd.core.timing import soonest
from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    ClaimState,
    Instant,
    Note,
    NoteKind,
    Reason,
    Vip,
    VipKey,
)

RETRY_NS = 200 * MILLISECOND_NS
"""After the kernel refused a removal, or what it said does not add up."""

VERIFY_LIMIT = 3
VANISH_LIMIT = 5
VANISH_WINDOW_NS = 10 * SECOND_NS

NOT_THERE = frozenset({99, 19, 6})
"""EADDRNOTAVAIL, ENODEV, ENXIO: a removal that finds nothing has done its work."""

INPUTS = (
    ClaimWanted,
    ReleaseWanted,
    GateOpened,
    GateShut,
    AddressesApplied,
    VipSeen,
    VipGone,
    PresenceResynced,
    VipsChanged,
    AnnounceWanted,
    TimerFired,
)


class Claim:
    """The VIPs of one instance and what the kernel says of them."""

    def __init__(
        self,
        vips: tuple[Vip, ...],
        *,
        owner: bool,
        lifetime_s: int,
        announcements: AnnouncementPlan,
    ) -> None:
        self.state = ClaimState.ABSENT
        self.owner = owner
        self.lifetime_s = lifetime_s
        self.announcements = announcements
        self.present: set[VipKey] = set()
        self.restored = 0
        self.retired: dict[VipKey, Vip] = {}
        self._want(vips)
        self._todo: dict[VipKey, Vip] = {}
        self._unseen: dict[VipKey, Vip] = {}
        self._adds_out = 0
        self._unconfirmed: dict[VipKey, Vip] = {}
        self._fresh = False
        self._goodbye = False
        self._gate_is_shut = True
        self._verified = 0
        self._vanishings = IncidentCounter(VANISH_LIMIT, VANISH_WINDOW_NS)
        self._retry_at: Instant | None = None
        self._renewals = Renewals()
        self._wishes: list[Wish] = []

    def handle(self, signal: object, now: Instant) -> list[Wish]:
        """Apply one input; returns the wishes that follow from it, in order."""
        if isinstance(signal, AddressesApplied):
            self._answered(signal)
        row = TABLE[self.state, type(signal)]
        if not isinstance(row, Ignored):
            row(self, signal, now)
        wishes, self._wishes = self._wishes, []
        return wishes

    @property
    def deadline(self) -> Instant | None:
        """The earliest instant at which ``TimerFired`` has something to do."""
        return soonest(self._retry_at, self._renewals.deadline, self.announcements.deadline)

    @property
    def is_settled(self) -> bool:
        """Everything is held, and nothing is on its way in or out."""
        return self.state is ClaimState.PRESENT and not self._unseen and not self.retired

    def covers(self, key: VipKey) -> bool:
        """True if this claim answers for ``key``; an address of ours outside all is a stray."""
        return self.state is not ClaimState.ABSENT and self._is_ours(key)

    def _want(self, vips: tuple[Vip, ...]) -> None:
        self.wanted = vips
        self._wanted_keys = frozenset(vip.key for vip in vips)

    def _is_ours(self, key: VipKey) -> bool:
        return key in self._wanted_keys or key in self.retired

    def _answered(self, applied: AddressesApplied) -> None:
        """Keep the books of orders: what an answered removal covered is no longer on its way."""
        vips = applied.action.vips
        if isinstance(applied.action, AddAddresses):
            self._adds_out = max(0, self._adds_out - 1)
            for position, _errno in applied.failures:
                self._unseen.pop(vips[position].key, None)
        elif isinstance(applied.action, RemoveAddresses):
            refused = {position for position, errno in applied.failures if errno not in NOT_THERE}
            for position, vip in enumerate(vips):
                if position not in refused:
                    self._unseen.pop(vip.key, None)
                    if vip.key not in self.present:
                        self.retired.pop(vip.key, None)

    def _missing(self) -> list[Vip]:
        return [vip for vip in self.wanted if vip.key not in self.present]

    # --- claiming -----------------------------------------------------------------------------

    def _claim(self, _signal: ClaimWanted, now: Instant) -> None:
        self._goodbye = False
        self._verified = 0
        # What a reload retired during the release is still to go.
        self._retry_at = now if self.retired else None
        self._gate_is_shut = True
        self._wishes.append(AdvertWanted())
        if self.owner:
            self._claim_own(now)
            return
        self.state = ClaimState.ADDING
        self._fresh = True
        self._wishes.append(GateWanted(open=True))

    def _claim_own(self, now: Instant) -> None:
        if missing := self._missing():
            self._give_up(Reason.OWNED_ADDRESS_MISSING, ", ".join(map(str, missing)))
            return
        self.state = ClaimState.PRESENT
        self.announcements.begin(now, first_sent=False)

    def _gate_opened(self, _signal: GateOpened, now: Instant) -> None:
        # All of them, also those present: adding is idempotent, and a removal may be under way.
        self._gate_is_shut = False
        self._todo = {vip.key: vip for vip in self.wanted}
        self._renewals.begin(self.wanted, self.lifetime_s, now)
        self._add_next()

    def _add_next(self) -> None:
        """One batch; its ``AddressesApplied`` brings the next one."""
        first = next(iter(self._todo.values()), None)
        if first is None:
            return
        ahead = tuple(islice(self._todo.values(), CHUNK[first.family]))
        chunk = chunks_of(ahead)[0]
        for vip in chunk:
            del self._todo[vip.key]
        self._adds_out += 1
        self._unseen |= {vip.key: vip for vip in chunk}
        self._wishes.append(AddWanted(chunk))

    def _added(self, applied: AddressesApplied, now: Instant) -> None:
        """In ADDING: announce what the kernel has, go on, or see that it does not add up."""
        if not isinstance(applied.action, AddAddresses):
            self._note_refusals(applied, now)
            return
        if applied.failures:
            position, errno = applied.failures[0]
            vip = applied.action.vips[position]
            self._give_up(Reason.CLAIM_REFUSED, f"{vip} on {vip.interface}: errno {errno}")
            return
        held = tuple(vip for vip in applied.action.vips if vip.key in self.present)
        if held:
            self._wishes.append(FramesWanted(held))
        # The kernel's word on an IPv6 address comes a moment after the answer to the order.
        late = [vip for vip in applied.action.vips if vip.key not in self.present]
        self._unconfirmed |= {vip.key: vip for vip in late}
        if any(vip.key in self._todo for vip in late) and self._vanishings.is_one_too_many(now):
            self._give_up_vanishing(late)
            return
        if self._todo:
            self._add_next()
        elif self._missing():
            self._retry_at = now + RETRY_NS
        else:
            self._all_present(now, announced=True)

    def _seen_adding(self, signal: VipSeen, now: Instant) -> None:
        self._seen(signal, now)
        if self._unconfirmed.pop(signal.vip.key, None) is None:
            return
        self._wishes.append(FramesWanted((signal.vip,)))
        if not self._todo and not self._missing():
            self._all_present(now, announced=True)

    def _all_present(self, now: Instant, *, announced: bool = False) -> None:
        self.state = ClaimState.PRESENT
        self._verified = 0
        self._retry_at = self._retry_at if self.retired else None
        self._unconfirmed.clear()
        self.announcements.begin(now, first_sent=announced)
        if self._fresh:
            self._fresh = False
            self._wishes.append(Note(NoteKind.CLAIMED, "", {"vips": len(self.wanted)}))

    def _verify(self) -> None:
        """The kernel took the order, but never said that it is done: ask it, and try again."""
        self._verified += 1
        if self._verified > VERIFY_LIMIT:
            self._give_up_vanishing(self._missing())
            return
        self._wishes.append(ResyncWanted())
        self._todo = {vip.key: vip for vip in self._missing()}
        self._add_next()

    def _give_up(self, reason: Reason, detail: str) -> None:
        self._wishes.append(ClaimGivenUp(reason, detail))

    def _give_up_vanishing(self, missing: list[Vip]) -> None:
        self._give_up(Reason.ADDRESS_VANISHES, ", ".join(map(str, missing[:3])))

    # --- what the kernel says -----------------------------------------------------------------

    def _seen(self, signal: VipSeen, _now: Instant) -> None:
        self._unseen.pop(signal.vip.key, None)
        if self._is_ours(signal.vip.key):
            self.present.add(signal.vip.key)

    def take_word(self, keys: Iterable[VipKey]) -> None:
        """``VipSeen`` for many, just before the ``AddressesApplied`` of the batch they are of."""
        for key in keys:
            self._unseen.pop(key, None)
            if key in self._wanted_keys or key in self.retired:
                self.present.add(key)

    def _forget(self, vip: Vip) -> bool:
        """Note that the kernel no longer has ``vip``; True if it was to go (retired)."""
        self.present.discard(vip.key)
        return self.retired.pop(vip.key, None) is not None

    def _gone_absent(self, signal: VipGone, _now: Instant) -> None:
        self._forget(signal.vip)

    def _gone_adding(self, signal: VipGone, now: Instant) -> None:
        if self._forget(signal.vip) or self._gate_is_shut:
            return  # once the gate is open everything is added anyway
        self._todo[signal.vip.key] = signal.vip
        if self._adds_out:
            return  # the answer to the order under way goes on with it
        if self._vanishings.is_one_too_many(now):
            self._give_up_vanishing([signal.vip])
        else:
            self._add_next()

    def _gone_present(self, signal: VipGone, now: Instant) -> None:
        if not self._forget(signal.vip):
            self._restore([signal.vip], now)

    def _gone_removing(self, signal: VipGone, now: Instant) -> None:
        self._forget(signal.vip)
        self._finish_release(now)

    def _restore(self, missing: list[Vip], now: Instant) -> None:
        """Somebody else took our VIPs away: put them back, unless this goes on and on."""
        names = ", ".join(map(str, missing[:3]))
        if self.owner:
            self._give_up(Reason.OWNED_ADDRESS_MISSING, names)
            return
        if self._vanishings.is_one_too_many(now):
            self._give_up_vanishing(missing)
            return
        self.restored += len(missing)
        self._wishes.append(Note(NoteKind.ADDRESS_RESTORED, "", {"vips": names}))
        self.state = ClaimState.ADDING
        self._todo = {vip.key: vip for vip in missing}
        self._add_next()

    def _resync(self, signal: PresenceResynced) -> None:
        self.present = {key for key in signal.present if self._is_ours(key)}
        if not self._adds_out:
            self._unseen.clear()  # every order was answered before the dump: it is the truth
        self.retired = {
            key: vip
            for key, vip in self.retired.items()
            if key in self.present or key in self._unseen
        }

    def _resynced_absent(self, signal: PresenceResynced, _now: Instant) -> None:
        self._resync(signal)

    def _resynced_adding(self, signal: PresenceResynced, _now: Instant) -> None:
        # Whoever asked for the dump, the order under way or the retry ends ADDING.
        self._resync(signal)

    def _resynced_present(self, signal: PresenceResynced, now: Instant) -> None:
        self._resync(signal)
        if missing := self._missing():
            self._restore(missing, now)

    def _resynced_removing(self, signal: PresenceResynced, now: Instant) -> None:
        self._resync(signal)
        self._finish_release(now)

    # --- releasing ----------------------------------------------------------------------------

    def _release(self, signal: ReleaseWanted, now: Instant) -> None:
        self._goodbye = signal.goodbye
        self._todo.clear()
        self._unconfirmed.clear()
        self._renewals.stop()
        self._retry_at = None
        self.announcements.stop()
        self._gate_is_shut = False
        self.state = ClaimState.REMOVING
        if self.owner:
            self._absent(now)
        else:
            self._wishes.append(GateWanted(open=False))

    def _release_again(self, signal: ReleaseWanted, _now: Instant) -> None:
        self._goodbye = self._goodbye or signal.goodbye

    def _gate_shut(self, _signal: GateShut, now: Instant) -> None:
        self._gate_is_shut = True
        self._remove_all(now)

    def _remove_all(self, now: Instant) -> None:
        # In reverse: removing the first address of a subnet first costs O(n²) in the kernel.
        if ours := self._held():
            self._wishes.append(RemoveWanted(tuple(reversed(ours))))
        else:
            self._finish_release(now)

    def _held(self) -> list[Vip]:
        ours = {vip.key: vip for vip in self.wanted} | self.retired
        return [vip for key, vip in ours.items() if key in self.present or key in self._unseen]

    def _removed(self, applied: AddressesApplied, now: Instant) -> None:
        if isinstance(applied.action, RemoveAddresses):
            self._note_refusals(applied, now)
            self._finish_release(now)
            unfinished = self.state is ClaimState.REMOVING and self._gate_is_shut
            if unfinished and self._retry_at is None:
                # Done, says the kernel, yet an address is left: a second one, or a lost message.
                self._retry_at = now + RETRY_NS
                self._wishes.append(ResyncWanted())
        elif self._gate_is_shut:  # an order from before the release was carried out after it
            self._remove_all(now)

    def _note_refusals(self, applied: AddressesApplied, now: Instant) -> None:
        """Refused removals are tried again; meanwhile nothing renews the addresses."""
        refused = [(at, errno) for at, errno in applied.failures if errno not in NOT_THERE]
        if any(vip.key in self.retired for vip in applied.action.vips):
            self._retry_at = now + RETRY_NS  # answered, but not gone yet
        if not refused:
            return
        position, errno = refused[0]
        vip = applied.action.vips[position]
        kind = NoteKind.RELEASE_REFUSED
        if not isinstance(applied.action, RemoveAddresses):
            kind = NoteKind.CLAIM_REFUSED
        else:
            self._retry_at = now + RETRY_NS
        self._wishes.append(
            Note(kind, "", {"vip": str(vip), "errno": errno, "refused": len(refused)})
        )

    def _finish_release(self, now: Instant) -> None:
        if self._gate_is_shut and not self.present and not self._unseen:
            self._absent(now)

    def _absent(self, _now: Instant) -> None:
        self.state = ClaimState.ABSENT
        self._retry_at = None
        self.retired.clear()
        if self._goodbye:
            self._goodbye = False
            self._wishes.append(AdvertWanted(leaving=True))
        self._wishes.append(Note(NoteKind.RELEASED, "", {"vips": len(self.wanted)}))
        self._wishes.append(Released())

    # --- reload -------------------------------------------------------------------------------

    def _take_vips(self, signal: VipsChanged, _now: Instant) -> None:
        self._want(signal.wanted)
        self._drop_what_is_not_ours()

    def _change_vips(self, signal: VipsChanged, now: Instant) -> None:
        """Only the difference moves: what stays is not touched."""
        old = self._wanted_keys
        self._want(signal.wanted)
        if self.owner:
            return
        leaving = [
            vip for vip in signal.retired if vip.key in self.present or vip.key in self._unseen
        ]
        self._retire(leaving, signal.elsewhere)
        if leaving:
            self._wishes.append(RemoveWanted(tuple(reversed(leaving))))
        self._renewals.begin(self.wanted, self.lifetime_s, now, at_once=True)
        new = {vip.key: vip for vip in self.wanted if vip.key not in old}
        kept = {key: vip for key, vip in self._todo.items() if key in self._wanted_keys}
        self._todo = kept | new
        # In ADDING without an order under way nothing else would begin with what is new.
        if new and not self._adds_out and not self._gate_is_shut:
            self.state = ClaimState.ADDING
            self._add_next()

    def _retire_more(self, signal: VipsChanged, _now: Instant) -> None:
        self._want(signal.wanted)
        self._retire(signal.retired, signal.elsewhere)

    def _retire(self, leaving: Iterable[Vip], elsewhere: frozenset[VipKey]) -> None:
        self.retired |= {vip.key: vip for vip in leaving}
        for key in self._wanted_keys | elsewhere:
            self.retired.pop(key, None)
        self._drop_what_is_not_ours()

    def _drop_what_is_not_ours(self) -> None:
        self.present = {key for key in self.present if self._is_ours(key)}
        self._unseen = {key: vip for key, vip in self._unseen.items() if self._is_ours(key)}
        self._unconfirmed = {
            key: vip for key, vip in self._unconfirmed.items() if key in self._wanted_keys
        }

    # --- timers: retry, renewal, announcements ------------------------------------------------

    def _timers(self, _signal: TimerFired, now: Instant) -> None:
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            self._retry(now)
        due = tuple(vip for vip in self._renewals.due(now) if vip.key in self.present)
        if due:
            self._wishes.append(RenewWanted(due))
        held = (vip for vip in self.wanted if vip.key in self.present)
        frames = self.announcements.due(now, held)
        # A round of many frames takes several turns: what left since it began is not announced.
        here = self.present & self._wanted_keys
        if still := tuple(vip for vip in frames if vip.key in here):
            self._wishes.append(FramesWanted(still))

    def _retry(self, now: Instant) -> None:
        if self.state is ClaimState.REMOVING:
            self._remove_all(now)
            return
        if leaving := [vip for key, vip in self.retired.items() if key in self.present]:
            self._wishes.append(RemoveWanted(tuple(leaving)))
        waits = self._todo or self._adds_out or self._gate_is_shut
        if self.state is ClaimState.ADDING and not waits:
            if self._missing():
                self._verify()
            else:
                self._all_present(now)

    def _announce_again(self, signal: AnnounceWanted, now: Instant) -> None:
        self.announcements.answer_rival(now, signal.gap_ns)


_HOLDS_NOTHING = Ignored("nothing is held or asked for")
_OLD_ANSWER = Ignored("the answer to an order that was overtaken")

TABLE: Table = complete(
    {
        (ClaimState.ABSENT, ClaimWanted): Claim._claim,
        (ClaimState.ABSENT, ReleaseWanted): Claim._release,
        (ClaimState.ABSENT, GateOpened): _OLD_ANSWER,
        (ClaimState.ABSENT, GateShut): _OLD_ANSWER,
        (ClaimState.ABSENT, AddressesApplied): _OLD_ANSWER,
        (ClaimState.ABSENT, VipSeen): Claim._seen,
        (ClaimState.ABSENT, VipGone): Claim._gone_absent,
        (ClaimState.ABSENT, PresenceResynced): Claim._resynced_absent,
        (ClaimState.ABSENT, VipsChanged): Claim._take_vips,
        (ClaimState.ABSENT, AnnounceWanted): _HOLDS_NOTHING,
        (ClaimState.ABSENT, TimerFired): _HOLDS_NOTHING,
        (ClaimState.ADDING, ClaimWanted): Ignored("already under way"),
        (ClaimState.ADDING, ReleaseWanted): Claim._release,
        (ClaimState.ADDING, GateOpened): Claim._gate_opened,
        (ClaimState.ADDING, GateShut): _OLD_ANSWER,
        (ClaimState.ADDING, AddressesApplied): Claim._added,
        (ClaimState.ADDING, VipSeen): Claim._seen_adding,
        (ClaimState.ADDING, VipGone): Claim._gone_adding,
        (ClaimState.ADDING, PresenceResynced): Claim._resynced_adding,
        (ClaimState.ADDING, VipsChanged): Claim._change_vips,
        (ClaimState.ADDING, AnnounceWanted): Ignored("a full burst follows the claim anyway"),
        (ClaimState.ADDING, TimerFired): Claim._timers,
        (ClaimState.PRESENT, ClaimWanted): Ignored("already held"),
        (ClaimState.PRESENT, ReleaseWanted): Claim._release,
        (ClaimState.PRESENT, GateOpened): _OLD_ANSWER,
        (ClaimState.PRESENT, GateShut): _OLD_ANSWER,
        (ClaimState.PRESENT, AddressesApplied): Claim._note_refusals,
        (ClaimState.PRESENT, VipSeen): Claim._seen,
        (ClaimState.PRESENT, VipGone): Claim._gone_present,
        (ClaimState.PRESENT, PresenceResynced): Claim._resynced_present,
        (ClaimState.PRESENT, VipsChanged): Claim._change_vips,
        (ClaimState.PRESENT, AnnounceWanted): Claim._announce_again,
        (ClaimState.PRESENT, TimerFired): Claim._timers,
        (ClaimState.REMOVING, ClaimWanted): Claim._claim,
        (ClaimState.REMOVING, ReleaseWanted): Claim._release_again,
        (ClaimState.REMOVING, GateOpened): _OLD_ANSWER,
        (ClaimState.REMOVING, GateShut): Claim._gate_shut,
        (ClaimState.REMOVING, AddressesApplied): Claim._removed,
        (ClaimState.REMOVING, VipSeen): Claim._seen,
        (ClaimState.REMOVING, VipGone): Claim._gone_removing,
        (ClaimState.REMOVING, PresenceResynced): Claim._resynced_removing,
        (ClaimState.REMOVING, VipsChanged): Claim._retire_more,
        (ClaimState.REMOVING, AnnounceWanted): _HOLDS_NOTHING,
        (ClaimState.REMOVING, TimerFired): Claim._timers,
    },
    ClaimState,
    INPUTS,
)
