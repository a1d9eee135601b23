"""Cluster mode: who could be master of a unit, who is, and what came of an order. Values only.

A *seat* is one node's place in one unit, as the cluster view of this node shows it: its own as it
is now, the others' as their newest heartbeats say.

Rules
-----
1. A node can take a unit over if it is heard, has not left, is not in maintenance, its
   configuration has the unit, and it is BACKUP there. Nothing overrules that, ``--force`` neither:
   such a node would refuse, or not answer.
2. Without ``--to`` the best of them is meant: the highest priority, of equals the one with the
   higher first address of the cluster section, as the core itself would choose.
3. A mastership has a term, and each new one a higher term than all before (QUORUM 5, 8). So an
   order came true when the node it names reports MASTER with a higher term than was known before
   the order; it failed when the former master does, or a third one for good. Time plays no part.
4. Of two operators at once the one with the newer pin wins; the other one is told so.
"""

from __future__ import annotations

from dataclasses import dataclass

from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    Address,
    ClusterConfig,
    Instant,
    Reason,
    State,
)
from vipd.snapshots import MemberSnapshot, PinSnapshot, Snapshot
from vipd.supervisor.handover import OPEN, Fate, OrderRefused, Outcome, UnitView
from vipd.supervisor.words import spell


@dataclass(frozen=True, slots=True)
class Seat:
    """``state`` None: that node's configuration does not have the unit, or it told nothing yet.

    ``silent_ns`` None: it was never heard. ``since_ns`` is known of this node only.
    """

    node: str
    address: Address
    is_self: bool
    alive: bool
    left: bool
    maintenance: bool
    silent_ns: int | None
    state: State | None = None
    priority: int = 0
    reason: str = ""
    detail: str = ""
    term: int = 0
    since_ns: Instant = 0

    @property
    def leads(self) -> bool:
        return self.alive and self.state is State.MASTER

    @property
    def can_take(self) -> bool:
        return not self.obstacle()

    def obstacle(self) -> str:
        """Why it cannot take the unit over, in words; empty if it can."""
        if self.left:
            return f"{self.node} has left the cluster (its vipd was stopped, or died)"
        if not self.alive:
            return f"{self.node} is not heard ({_silence(self.silent_ns)})"
        if self.maintenance:
            return f"{self.node} is in maintenance"
        if self.state is None:
            return f"{self.node} does not report this unit (is it in its configuration?)"
        if self.state is not State.BACKUP:
            return f"{self.node} is {self.state.value} ({self.why()})"
        return ""

    def why(self) -> str:
        return f"{self.reason}: {spell(self.detail)}" if self.detail else self.reason


def _silence(silent_ns: int | None) -> str:
    if silent_ns is None:
        return "never since this daemon started"
    return f"for {silent_ns / SECOND_NS:.1f} s"


@dataclass(frozen=True, slots=True)
class Table:
    """All seats of one unit, and its pin, at instant ``now_ns``."""

    unit: str
    now_ns: Instant
    seats: tuple[Seat, ...]
    witnesses: tuple[str, ...] = ()
    pin: PinSnapshot | None = None

    @property
    def term(self) -> int:
        return max((seat.term for seat in self.seats), default=0)

    @property
    def master(self) -> Seat | None:
        """Who reports the newest mastership."""
        masters = [seat for seat in self.seats if seat.leads]
        return max(masters, key=lambda seat: seat.term, default=None)

    @property
    def own(self) -> Seat:
        return next(seat for seat in self.seats if seat.is_self)

    @property
    def pinned(self) -> str:
        return "" if self.pin is None else self.pin.node

    def seat(self, node: str) -> Seat | None:
        return next((seat for seat in self.seats if seat.node == node), None)

    def candidates(self) -> list[Seat]:
        """The best one first; the master is none, it has the unit already."""
        able = [seat for seat in self.seats if seat.can_take]
        return sorted(able, key=lambda seat: (seat.priority, seat.address), reverse=True)


def table_of(unit: UnitView, snapshot: Snapshot, config: ClusterConfig) -> Table:
    """Raises OrderRefused where the engine does not know of the cluster yet."""
    cluster = snapshot.cluster
    if cluster is None:
        raise OrderRefused("the engine has not joined the cluster yet; try again")
    addresses = {member.name: member.addresses[0] for member in config.nodes if member.addresses}
    seats = [
        _own_seat(unit, snapshot, member, addresses.get(member.name, b""))
        if member.is_self
        else _seat(unit.name, snapshot.now_ns, member, addresses.get(member.name, b""))
        for member in cluster.members
        if not member.is_witness
    ]
    witnesses = tuple(member.name for member in cluster.members if member.is_witness)
    pin = next((pin for pin in cluster.pins if pin.unit == unit.name), None)
    return Table(unit.name, snapshot.now_ns, tuple(seats), witnesses, pin)


def _own_seat(unit: UnitView, snapshot: Snapshot, member: MemberSnapshot, address: Address) -> Seat:
    shot = unit.members[0]
    return Seat(
        node=member.name,
        address=address,
        is_self=True,
        alive=True,
        left=False,
        maintenance=snapshot.maintenance,
        silent_ns=0,
        state=shot.state,
        priority=shot.priority_effective,
        reason=shot.reason.value,
        detail=shot.detail,
        term=shot.term,
        since_ns=shot.since_ns,
    )


def _seat(unit: str, now_ns: Instant, member: MemberSnapshot, address: Address) -> Seat:
    heard_ns = member.last_heard_ns
    bare = Seat(
        node=member.name,
        address=address,
        is_self=False,
        alive=member.alive,
        left=member.left,
        maintenance=member.maintenance,
        silent_ns=None if heard_ns is None else now_ns - heard_ns,
    )
    report = next((report for report in member.units if report.unit == unit), None)
    if report is None:
        return bare
    return Seat(
        node=bare.node,
        address=address,
        is_self=False,
        alive=bare.alive,
        left=bare.left,
        maintenance=bare.maintenance,
        silent_ns=bare.silent_ns,
        state=report.state,
        priority=report.priority,
        reason=report.reason,
        detail=report.detail,
        term=report.term,
    )


# --- before -----------------------------------------------------------------------------------


def choose(table: Table, to: str | None) -> Seat:
    """Who shall be master: ``to``, or the best other node. Raises OrderRefused."""
    if to is None:
        return demand_candidate(table)
    seat = table.seat(to)
    if seat is None:
        raise OrderRefused(f"{table.unit}: {_stranger(table, to)}")
    if not seat.leads and not seat.can_take:
        raise OrderRefused(f"{table.unit}: {seat.obstacle()}, so it cannot take over")
    return seat


def demand_candidate(table: Table) -> Seat:
    """The best other node. Raises OrderRefused with what keeps each of them from it."""
    able = table.candidates()
    if able:
        return able[0]
    others = [seat for seat in table.seats if not seat.leads]
    why = "; ".join(seat.obstacle() for seat in others) or "the cluster has no other node"
    raise OrderRefused(f"{table.unit}: no other node can take over: {why}")


def _stranger(table: Table, to: str) -> str:
    if to in table.witnesses:
        return f"{to} is a witness: it votes and is never master"
    nodes = ", ".join(seat.node for seat in table.seats)
    return f"the cluster has no node {to}; it has {nodes}"


# --- afterwards -------------------------------------------------------------------------------


def judge_pin(before: Table, after: Table, to: str, ordered_ns: Instant) -> Outcome:
    """What became of the order to put a unit on ``to``."""
    if _is_overruled(before.pin, after.pin, to):
        return Outcome(Fate.OVERRULED, after.pinned)
    seat = after.seat(to)
    if seat is not None and seat.leads and seat.term > before.term:
        return _taken(seat, after, ordered_ns)
    former = before.master
    if former is not None and _is_back(former, after.seat(former.node), before.term):
        return Outcome(Fate.BACK, former.node, _ms(after.now_ns - ordered_ns), exact=False)
    master = after.master
    if master is not None and master.term > before.term and not after.pinned:
        # Whoever becomes master against a pin ends it: there is nothing left to wait for.
        return Outcome(Fate.ELSEWHERE, master.node, _ms(after.now_ns - ordered_ns), exact=False)
    return OPEN


def judge_relief(before: Table, after: Table, ordered_ns: Instant) -> Outcome:
    """What became of a unit that this node, the master before, gives to anybody else."""
    own = after.own
    if _is_back(before.own, own, before.term):
        return Outcome(Fate.BACK, own.node, _ms(max(own.since_ns - ordered_ns, 0)))
    master = after.master
    if master is not None and not own.leads and not master.is_self and master.term > before.term:
        return _taken(master, after, ordered_ns)
    return OPEN


def _taken(seat: Seat, after: Table, ordered_ns: Instant) -> Outcome:
    """Of another node we know only that it was master by the time we looked."""
    if seat.is_self and seat.since_ns >= ordered_ns:
        return Outcome(Fate.TAKEN, seat.node, _ms(seat.since_ns - ordered_ns))
    return Outcome(Fate.TAKEN, seat.node, _ms(after.now_ns - ordered_ns), exact=False)


def _is_back(before: Seat, after: Seat | None, term: int) -> bool:
    """The former master stands again: a new mastership, or the word of one that failed."""
    if after is None or not after.leads:
        return False
    failed = Reason.HANDOVER_FAILED.value
    return after.term > term or (after.reason == failed and before.reason != failed)


def _is_overruled(before: PinSnapshot | None, after: PinSnapshot | None, to: str) -> bool:
    """A pin on a third node that was not there before: another operator's."""
    if after is None or after.node in ("", to):
        return False
    return before is None or after.version > before.version


def _ms(duration_ns: int) -> int:
    """Rounded up: what is said to be within N ms must be."""
    return -(-duration_ns // MILLISECOND_NS)
