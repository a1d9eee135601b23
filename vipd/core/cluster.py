"""This node in its cluster: the beats it sends, what it hears, who it takes for alive.

The node's side of cluster mode; each unit's side is its ``Cooperation``. It decides when a
heartbeat is due (every interval, and at once when what it says has changed), whether an acting
message is meant for this life of ours and from now (nonce), and passes the items of each message
to their units. What units want said in one turn is gathered and said once to each member.

Rules
-----
1. An acting message that does not repeat one of our last two nonces is *stale*: counted, nothing
   else (QUORUM §7).
2. Only what a member says of itself is believed: ``Go``, tombstone and Goodbye name their sender as
   the owner (the wire demands it), and the owner must be the life that we know.
3. A master whose beats a member misses, or who misses a member's, sends adverts at the pace of the
   beats for a while: a cut of the channel alone must not look like a death.
4. A reload goes from node to node: while any live one has another configuration, a new pace of the
   beats counts only if it is quicker, a new timeout only if it is longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vipd.core.actions import Action, SendMessage
from vipd.core.events import Identified, MessageHeard, MessageRejected
from vipd.core.limiter import NoteLimiter
from vipd.core.nonces import Nonces
from vipd.core.pins import Pins
from vipd.core.roster import Heard, Peer, Roster
from vipd.core.timing import soonest
from vipd.members import (
    ChannelDiscard,
    Echo,
    Gift,
    Go,
    Goodbye,
    Hearing,
    Heartbeat,
    Owner,
    Refusal,
    RefusalReason,
    Refused,
    Speaker,
    Taken,
    Taking,
    Tombstone,
    TransferRequest,
    UnitReport,
    Wish,
)
from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    ClusterConfig,
    Duration,
    FieldValue,
    Instant,
    Note,
    NoteKind,
    Orders,
    format_address,
)

if TYPE_CHECKING:
    from vipd.core.cooperation import Cooperation
    from vipd.core.unit import Unit

BEAT_GAP_NS = 5 * MILLISECOND_NS
"""Changes that come in a row share a beat, and none is made while a handover is busy."""

OVERSLEPT_NS = 40 * MILLISECOND_NS
"""Well below the time after which a handover goes on to the next node."""

SAY_DELAY_NS = MILLISECOND_NS // 2
"""Answers and wishes wait until the orders to the kernel of the same event are carried out."""

FEW_UNITS = 8
"""With more, most beats list only the units that changed lately."""
FULL_BEAT_EVERY = 10
REPEATS = 3
"""A change stands in so many beats: two may be lost."""

HEARING_AGE_NS = 60 * SECOND_NS
STALE = "stale"
REFUSED_NS = 60 * SECOND_NS
REFUSED_LIMIT = 3

_HARMLESS = frozenset({ChannelDiscard.COPY, ChannelDiscard.OWN, ChannelDiscard.DUPLICATE_NODE})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the cluster needs of its node: its ``units``, kept current by it; ``named``, which also
    finds those that are leaving; and where actions go.
    """

    units: Mapping[str, Unit]
    named: Callable[[str], Unit | None]
    actions: list[Action]


class Cluster:
    """One life of this engine in one cluster."""

    def __init__(
        self,
        owner: Owner,
        seed: bytes,
        config: ClusterConfig,
        node: Surroundings,
        now: Instant,
    ) -> None:
        self.owner = owner
        self.config = self._wanted = config
        self.roster = Roster(owner.node, config, now)
        self.pins = Pins()
        self.nonces = Nonces(seed, _nonce_period_ns(config), now)
        self.maintenance = False
        self.software = ""
        self.troubled = False
        self.since = now
        self.discarded: dict[str, int] = {reason.value: 0 for reason in ChannelDiscard}
        self.discarded[STALE] = 0
        self.refused: dict[str, list[tuple[Instant, str]]] = {}
        self.twins: dict[str, Instant] = {}
        self._units, self._named, self._actions = node.units, node.named, node.actions
        self._limiter = NoteLimiter()
        self._reports: dict[str, UnitReport] = {}
        self._changed: dict[str, int] = {}
        self._full_beats = 0
        self.overslept = False
        self._beat = 0
        self._beat_at = now
        self._say_at: Instant | None = None
        self._has_news = False
        self._offers: list[Gift] = []
        self._wishes: dict[str, list[Wish]] = {}
        self._takings: dict[str, list[tuple[Owner, Taking]]] = {}
        self._refusals: dict[str, list[tuple[Owner, Refusal]]] = {}

    @property
    def own(self) -> str:
        return self.owner.node

    def configure(self, config: ClusterConfig, now: Instant) -> None:
        """After a reload. Rule 4."""
        self._wanted = config
        self._take_over(
            replace(
                config,
                heartbeat_interval_ns=min(
                    config.heartbeat_interval_ns, self.config.heartbeat_interval_ns
                ),
                heartbeat_timeout_ns=max(
                    config.heartbeat_timeout_ns, self.config.heartbeat_timeout_ns
                ),
            ),
            now,
        )
        self._settle(now)
        self.beat_soon(now)

    def _take_over(self, config: ClusterConfig, now: Instant) -> None:
        self.config = config
        self.roster.configure(self.own, config, now)
        self.nonces.period_ns = _nonce_period_ns(config)
        for coop in self.cooperations():
            coop.unit.stand_as_configured()

    def _settle(self, now: Instant) -> None:
        """Rule 4: our own pace, once all who live have our configuration."""
        if self.config == self._wanted:
            return
        if all(peer.configuration == self.config.digest for peer in self.roster.alive()):
            self._take_over(self._wanted, now)

    def retire(self, now: Instant) -> None:
        """The section is gone from our file: the last beats list nothing, so plain VRRP decides.

        Silence would be taken for death, after a time that is shorter than our adverts' interval.
        """
        self._reports.clear()
        self._changed.clear()
        self._full_beats = REPEATS
        for _ in range(REPEATS):
            self._send_beat(now)

    def obey(self, orders: Orders, now: Instant) -> None:
        """Maintenance and pins."""
        if self.maintenance != orders.maintenance:
            self.maintenance = orders.maintenance
            self.beat_soon(now)
        for name in self.pins.obey(orders.pins, now):
            unit = self._units.get(name)
            if unit is not None and unit.coop is not None:
                unit.coop.pinned("ordered on this node")

    # --- time ---------------------------------------------------------------------------------

    @property
    def deadline(self) -> Instant | None:
        return soonest(self._beat_at, self._say_at, self.roster.deadline, self.pins.deadline)

    def fire(self, now: Instant) -> bool:
        """Beats and losses; True: every unit has to look anew."""
        lost = self.lose(now)
        self._settle(now)
        expired = self.pins.expire(now)
        for name in expired:
            unit = self._units.get(name)
            if unit is not None and unit.coop is not None:
                unit.coop.pinned("its time is over")
        if self._say_at is not None and now >= self._say_at:
            self._say_gathered(now)
        if now >= self._beat_at:
            self._speak_up(now)
            self._send_beat(now)
        return lost or bool(expired)

    def oversleep(self, late_ns: Duration) -> None:
        self.overslept = late_ns >= OVERSLEPT_NS

    def lose(self, now: Instant) -> bool:
        lost = self.roster.expire(now)
        for peer in lost:
            heard = peer.last_heard or now
            self._note(
                NoteKind.MEMBER_LOST,
                {"node": peer.name, "silent_ms": (now - heard) // MILLISECOND_NS},
            )
        return bool(lost)

    def beat_soon(self, now: Instant) -> None:
        """Something that a beat says has changed."""
        self._has_news = True
        self._beat_at = min(self._beat_at, now + BEAT_GAP_NS)

    def beat_at_once(self, now: Instant) -> None:
        """What another node may do in the next moment depends on it."""
        self._beat_at = now

    def _speak_up(self, now: Instant) -> None:
        """Rule 3."""
        if any(True for _ in self.roster.quiet(now)):
            for coop in self.cooperations():
                coop.speak_up(now)

    # --- what a beat says ---------------------------------------------------------------------

    def take_report(self, report: UnitReport, now: Instant) -> None:
        """What a unit says now; a change is told at once."""
        told = self._reports.get(report.unit)
        self._reports[report.unit] = report
        if told is None or _news(told) != _news(report):
            self._changed[report.unit] = REPEATS
            self.beat_soon(now)

    def drop_report(self, unit: str) -> None:
        if self._reports.pop(unit, None) is not None:
            self._changed.pop(unit, None)
            self._beat += FULL_BEAT_EVERY - self._beat % FULL_BEAT_EVERY - 1

    def _send_beat(self, now: Instant) -> None:
        self._beat += 1
        self._beat_at, self._has_news = now + self.config.heartbeat_interval_ns, False
        self.nonces.turn(now)
        few, turn = len(self._reports) <= FEW_UNITS, self._beat % FULL_BEAT_EVERY == 0
        full = few or turn or self._full_beats > 0
        self._full_beats = max(0, self._full_beats - 1)
        listed = tuple(
            report for name, report in self._reports.items() if full or name in self._changed
        )
        self._changed = {name: n - 1 for name, n in self._changed.items() if n > 1}
        beat = Heartbeat(
            beat=self._beat,
            nonce=self.nonces.current,
            configuration=self.config.digest,
            software=self.software,
            maintenance=self.maintenance,
            complete=full,
            echoes=self._echoes(now),
            units=listed,
            hearings=self._hearings(now) if full else (),
            speakers=self._speakers() if full else (),
            interval_ns=self.config.heartbeat_interval_ns,
        )
        self._actions.append(SendMessage(beat))
        for coop in self.cooperations():
            coop.was_told(now)

    def _echoes(self, now: Instant) -> tuple[Echo, ...]:
        return tuple(
            Echo(peer.name, peer.nonce, max(0, now - (peer.last_heard or now)))
            for peer in self.roster.peers.values()
            if peer.nonce and not peer.left
        )

    def _hearings(self, now: Instant) -> tuple[Hearing, ...]:
        return tuple(
            Hearing(instance, node, now - at)
            for coop in self.cooperations()
            for (instance, node), at in coop.heard_on.items()
            if now - at < HEARING_AGE_NS
        )

    def _speakers(self) -> tuple[Speaker, ...]:
        return tuple(
            Speaker(name, router.source)
            for unit in self._units.values()
            for name, router in unit.routers.items()
            if router.source is not None
        )

    def instances_on(self, interface: str) -> frozenset[str]:
        return frozenset(
            name
            for unit in self._units.values()
            for name, router in unit.routers.items()
            if router.config.interface == interface
        )

    def heard_here(self, instances: frozenset[str], after: Instant) -> set[str]:
        """Nodes of which adverts for any of ``instances`` were heard here since then."""
        return {
            node
            for coop in self.cooperations()
            for (instance, node), at in coop.heard_on.items()
            if instance in instances and at > after
        }

    def cooperations(self) -> list[Cooperation]:
        return [unit.coop for unit in self._units.values() if unit.coop is not None]

    # --- hearing ------------------------------------------------------------------------------

    def hear(self, event: MessageHeard, now: Instant) -> set[str] | None:
        """One datagram. Returns the units that it was about; None: all must look anew."""
        received = event.received
        peer = self.roster.meet(received, event.source, now)
        if peer is None:
            return set()
        message: Any = received.message
        self.nonces.turn(now)
        if isinstance(message, Heartbeat):
            return self._hear_beat(peer, event, message, now)
        if type(message) not in _ACTING:
            return set()
        if not self.nonces.accepts(message.nonce):
            self._stale()
            return set()
        peer.acted = max(peer.acted, received.sequence)
        return _ACTING[type(message)](self, peer, message, now)

    def _hear_beat(
        self, peer: Peer, event: MessageHeard, message: Heartbeat, now: Instant
    ) -> set[str] | None:
        before = (peer.maintenance, len(peer.units))
        heard: Heard = self.roster.hear(peer, event.received, message, self.nonces, now)
        if heard.answer:
            self._full_beats = REPEATS  # who has just begun knows nothing of our units
            self._beat_at = now
        if heard.revived:
            self._note(NoteKind.MEMBER_ALIVE, {"node": peer.name, "software": peer.software})
        for report in heard.reports:
            unit = self._units.get(report.unit)
            moved = self.pins.hear(report.unit, report.pin, now)
            if unit is not None and unit.coop is not None:
                if moved:
                    unit.coop.pinned(f"{peer.name} says so")
                unit.coop.hear_report(peer, report, now)
        if heard.revived or before != (peer.maintenance, len(peer.units)):
            return None
        return {report.unit for report in heard.reports}

    def _hear_go(self, peer: Peer, message: Go, now: Instant) -> set[str] | None:
        """Rule 2 is the wire's: the owner is the sender.

        What waited while we slept may be over. If it is not, it is said again within 10 ms.
        """
        if self.overslept:
            return set()
        for gift in message.gifts:
            unit = self._units.get(gift.unit)
            if unit is None or unit.coop is None:
                if gift.successor == self.own:
                    self._refuse(peer, message.owner, gift.unit, gift.term, RefusalReason.FAULT)
                continue
            refusal = unit.coop.hear_gift(peer, message.owner, gift, now)
            if gift.successor != self.own:
                continue
            if refusal is None:
                taking = (message.owner, Taking(gift.unit, gift.term))
                self._takings.setdefault(peer.name, []).append(taking)
            else:
                if refusal is RefusalReason.STALE:
                    self._stale()
                self._refuse(peer, message.owner, gift.unit, gift.term, refusal)
        return {gift.unit for gift in message.gifts}

    def _hear_tombstone(self, peer: Peer, message: Tombstone, now: Instant) -> set[str] | None:
        self._leave(peer, "its supervisor says that it died")
        for gift in message.gifts:
            unit = self._units.get(gift.unit)
            if unit is not None and unit.coop is not None:
                unit.coop.hear_gift(peer, message.owner, gift, now, dead=True)
        return None

    def _hear_goodbye(self, peer: Peer, _message: Goodbye, _now: Instant) -> set[str] | None:
        self._leave(peer, "it says that it ends")
        return None

    def _leave(self, peer: Peer, because: str) -> None:
        if not peer.left:
            peer.leave()
            self._note(NoteKind.MEMBER_LEFT, {"node": peer.name, "because": because})

    def _hear_wishes(
        self,
        peer: Peer,
        message: TransferRequest,
        now: Instant,
    ) -> set[str] | None:
        for wish in message.wishes:
            refusal: RefusalReason | None = RefusalReason.STALE
            unit = self._units.get(wish.unit)
            if unit is not None and unit.coop is not None and message.owner == self.owner:
                refusal = unit.coop.hear_wish(peer, wish.term, wish.priority, now)
            if refusal is not None:
                if refusal is RefusalReason.STALE:
                    self._stale()
                self._refuse(peer, message.owner, wish.unit, wish.term, refusal)
        return {wish.unit for wish in message.wishes}

    def _hear_taken(self, peer: Peer, message: Taken, _now: Instant) -> set[str] | None:
        for taking in message.takings:
            unit = self._named(taking.unit)
            mine = unit is not None and unit.coop is not None and message.owner == self.owner
            if mine and unit is not None and unit.coop is not None:
                unit.coop.hear_taken(peer, taking.term)
        return {taking.unit for taking in message.takings}

    def _hear_refused(self, peer: Peer, message: Refused, now: Instant) -> set[str] | None:
        for refusal in message.refusals:
            unit = self._named(refusal.unit)
            if unit is not None and unit.coop is not None:
                unit.coop.hear_refusal(peer, refusal.term, refusal.reason, now)
        return {refusal.unit for refusal in message.refusals}

    def reject(self, event: MessageRejected, now: Instant) -> None:
        """A datagram without effect: counted, remembered for the alarms, noted now and then."""
        reason = event.reason
        self.discarded[reason.value] += 1
        peer = self.roster.peers.get(event.sender)
        if reason is ChannelDiscard.COPY:
            if peer is not None and event.source in peer.paths:
                peer.paths[event.source] = now
            return
        if reason is ChannelDiscard.DUPLICATE_NODE:
            self.twins[event.sender] = now
        if reason in _HARMLESS:
            return
        source = format_address(event.source)
        seen = self.refused.setdefault(reason.value, [])
        seen.append((now, source))
        del seen[:-REFUSED_LIMIT]
        held_back = self._limiter.admit(reason, now)
        if held_back is not None:
            fields: dict[str, FieldValue] = {
                "reason": reason.value,
                "sender": event.sender,
                "source": source,
                "detail": event.detail,
                "held_back": held_back,
            }
            self._note(NoteKind.MESSAGE_DISCARDED, fields)

    def _stale(self) -> None:
        self.discarded[STALE] += 1

    # --- what is said once in a turn ----------------------------------------------------------

    def offer(self, gift: Gift) -> None:
        self._offers.append(gift)

    def wish(self, master: Peer, unit: str, term: int, priority: int) -> None:
        self._wishes.setdefault(master.name, []).append(Wish(unit, term, priority))

    def _refuse(
        self, peer: Peer, owner: Owner, unit: str, term: int, reason: RefusalReason
    ) -> None:
        refusal = (owner, Refusal(unit, term, reason))
        self._refusals.setdefault(peer.name, []).append(refusal)

    def flush(self, now: Instant) -> None:
        """At the end of every event: ``Go`` before all else, for the VIPs are nowhere now.

        What else was gathered waits a moment: nobody's clients do, and the kernel comes first.
        """
        if self._offers:
            gifts, self._offers = tuple(self._offers), []
            self._actions[0:0] = [
                SendMessage(Go(peer.nonce, self.owner, gifts), peer.name)
                for peer in self.roster.alive()
                if peer.nonce
            ]
        if self._say_at is None and (self._takings or self._refusals or self._wishes):
            self._say_at = now + SAY_DELAY_NS

    def _say_gathered(self, now: Instant) -> None:
        self._say_at = None
        for name, takings in self._takings.items():
            peer = self.roster.peers[name]
            for owner in dict.fromkeys(owner for owner, _ in takings):
                own = tuple(taking for whose, taking in takings if whose == owner)
                self._say(peer, Taken(peer.nonce, owner, own))
        self._takings.clear()
        for name, refusals in self._refusals.items():
            peer = self.roster.peers[name]
            for owner in dict.fromkeys(owner for owner, _ in refusals):
                told = tuple(each for whose, each in refusals if whose == owner)
                self._say(peer, Refused(peer.nonce, owner, told))
        self._refusals.clear()
        if self._wishes and self._has_news:
            # Who is asked for its mastership must know by now why we are the better one.
            self._send_beat(now)
        for name, wishes in self._wishes.items():
            peer = self.roster.peers[name]
            if peer.owner is not None:
                self._say(peer, TransferRequest(peer.nonce, peer.owner, tuple(wishes)))
        self._wishes.clear()

    def goodbye(self) -> None:
        """This engine holds nothing and ends."""
        for peer in self.roster.alive():
            self._say(peer, Goodbye(peer.nonce, self.owner))

    def heirs(self) -> tuple[tuple[str, bytes], ...]:
        """To whom the last will speaks, with the nonce that it must repeat."""
        return tuple((peer.name, peer.nonce) for peer in self.roster.alive() if peer.nonce)

    def tombstones(self, gifts: tuple[Gift, ...]) -> tuple[tuple[str, Tombstone], ...]:
        """What is to be said for us once we are dead."""
        return tuple(
            (peer.name, Tombstone(peer.nonce, self.owner, gifts))
            for peer in self.roster.alive()
            if peer.nonce
        )

    def _say(self, peer: Peer, message: Any) -> None:
        if peer.nonce:
            self._actions.append(SendMessage(message, peer.name))

    def _note(self, kind: NoteKind, fields: dict[str, FieldValue]) -> None:
        self._actions.append(Note(kind, "", fields))


def joined(
    present: Cluster | None,
    identity: Identified | None,
    config: ClusterConfig | None,
    orders: Orders,
    node: Surroundings,
    now: Instant,
) -> Cluster | None:
    """Cluster mode begins, goes on with other settings, or ends."""
    if config is None or identity is None:
        return None
    if present is not None and present.config.name == config.name:
        present.configure(config, now)
        return present
    cluster = Cluster(identity.owner, identity.seed, config, node, now)
    cluster.software, cluster.troubled = identity.software, identity.after_death
    cluster.maintenance = orders.maintenance
    cluster.pins.learn_counts(orders.pins)
    return cluster


def _news(report: UnitReport) -> UnitReport:
    """All that is worth a beat of its own: that the rest of a pin's time shrinks is not."""
    pin = report.pin
    return report if pin is None else replace(report, pin=replace(pin, rest_ns=0))


def _nonce_period_ns(config: ClusterConfig) -> int:
    return max(SECOND_NS, 3 * config.heartbeat_interval_ns)


_ACTING: dict[type, Callable[[Cluster, Peer, Any, Instant], set[str] | None]] = {
    Go: Cluster._hear_go,
    Tombstone: Cluster._hear_tombstone,
    Goodbye: Cluster._hear_goodbye,
    TransferRequest: Cluster._hear_wishes,
    Taken: Cluster._hear_taken,
    Refused: Cluster._hear_refused,
}
