"""What each single node of a cluster owes the others, whatever the network does.

=====================  =========================================================================
nonce-kept             it tells the same nonce for longer than the period and one beat
successor-not-best     while all is whole and quiet, ``go`` names first the node of the pin, the one
                       that asked for it, or the best of those that could take it
go-unrepeated          ``go`` is not said again although nobody answered
handover-endless       ``go`` names more successors than there are other nodes
return-missing         nobody took what it gave by order, and it is not master again
finished-early         the engine ends while it offers something
goodbye-unsaid         the engine ends by itself, and does not say so to a node that it hears
asks-too-soon          what was refused or not answered is asked again before its back-off is over,
                       although neither priority nor the pin has changed, and it never told that
                       it had no wish meanwhile (maintenance, a fault)
asks-early             it asks for mastership within ``preempt_delay`` of its start, or within 5 s
                       after its own health cost it one
pin-outlives           who becomes master leaves the pin of the unit on a node that is down, or that
                       did not take it
pin-overdue            a pin stands after its time
maintenance-ignored    maintenance had to be withdrawn although somebody could have taken over
stranger-replaced      it takes over from a stranger that speaks, sooner than the RFC allows
=====================  =========================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vipd.core.actions import SendMessage
from vipd.core.unit import Unit
from vipd.members import Go, Goodbye, Heartbeat, TransferRequest
from vipd.model import MILLISECOND_NS, SECOND_NS, Duration, Instant, Note, Reason, State
from vipd.sim.plans import UnitPlan

if TYPE_CHECKING:
    from vipd.sim.cluster_judge import ClusterJudge
    from vipd.sim.engine import FakeEngine
    from vipd.sim.host import Host
    from vipd.sim.scenario import Scenario
    from vipd.sim.world import World

_LATE_NS = 60 * MILLISECOND_NS
_TROUBLE_NS = 4900 * MILLISECOND_NS
_KNOWN_NS = SECOND_NS
_OWN_TROUBLE = frozenset(
    each.value
    for each in (
        Reason.CHECK_FAILED,
        Reason.TRACKED_INTERFACE_DOWN,
        Reason.ADVERTS_LOST,
    )
)
_NAMED = frozenset((Reason.HANDED_OVER.value, Reason.HANDOVER_FAILED.value))
_RETURNS = frozenset(
    each.value
    for each in (Reason.SWITCHOVER, Reason.MAINTENANCE, Reason.PREEMPTED, Reason.ADVERTS_LOST)
)


@dataclass(slots=True)
class _Offer:
    """What a node offers: since when, and when it last said ``go``."""

    attempts: int = 0
    said_at: Instant = 0


@dataclass(slots=True)
class _Asked:
    question: object
    times: int
    at: Instant


class Manners:
    """One for all hosts."""

    def __init__(self, world: World, scenario: Scenario, judge: ClusterJudge) -> None:
        self.world = world
        self.scenario = scenario
        self.judge = judge
        self._nonce: dict[FakeEngine, tuple[bytes, Instant]] = {}
        self._offers: dict[tuple[FakeEngine, str], _Offer] = {}
        self._named: dict[tuple[FakeEngine, str], int] = {}
        self._left_for: dict[tuple[FakeEngine, str], str] = {}
        self._asked: dict[tuple[FakeEngine, str], _Asked] = {}
        self._trouble: dict[tuple[FakeEngine, str], tuple[Unit | None, Instant]] = {}
        self._goodbyes: set[FakeEngine] = set()

    @property
    def hosts(self) -> Sequence[Host]:
        return self.scenario.hosts

    def _fail(self, engine: FakeEngine, checker: str, text: str) -> None:
        self.world.violated(checker, f"{engine.host.name} {text}")

    # --- what it says -------------------------------------------------------------------------

    def says(self, engine: FakeEngine, action: SendMessage) -> None:
        message = action.message
        if isinstance(message, Heartbeat):
            self._judge_nonce(engine, message.nonce)
            for report in message.units:
                if not report.wants_preempt:
                    self._asked.pop((engine, report.unit), None)
        elif isinstance(message, Go):
            for gift in message.gifts:
                offer = self._offers.get((engine, gift.unit))
                if offer is not None:
                    offer.said_at = self.world.now
                first = self._named.get((engine, gift.unit)) != gift.term
                if gift.attempt == 1 and first:  # said again, it may be taken already
                    self._judge_successor(engine, gift.unit, gift.successor)
                self._named[engine, gift.unit] = gift.term
        elif isinstance(message, TransferRequest):
            for wish in message.wishes:
                question = (message.owner, wish.term, wish.priority)
                known = _circumstances(engine, message.owner.node, wish.unit)
                self._judge_question(engine, wish.unit, (question, known))
        elif isinstance(message, Goodbye):
            self._goodbyes.add(engine)

    def _judge_nonce(self, engine: FakeEngine, nonce: bytes) -> None:
        now = engine.now()
        known, since = self._nonce.get(engine, (b"", now))
        if known != nonce:
            self._nonce[engine] = (nonce, now)
        elif now - since > self.judge.nonce_period_ns + self.judge.interval_ns + 2 * _LATE_NS:
            self._fail(engine, "nonce-kept", f"for {(now - since) / SECOND_NS:.1f} s")

    def _judge_successor(self, engine: FakeEngine, name: str, successor: str) -> None:
        unit = self.judge.plan(name)
        if unit is None or not self.scenario.is_quiet or not self.judge.is_whole(unit):
            return
        if self.world.now - self.scenario.worth_changed_at < _KNOWN_NS:
            return  # what changed just now need not be known
        asked = self._left_for.get((engine, name)) == Reason.PREEMPTED.value
        pinned = {pin.node for pin in self.judge.pins_of(engine, name)}
        fit, settled = self._fit(engine, unit, 0), self._fit(engine, unit, 3 * SECOND_NS)
        if asked or pinned or not settled:
            return
        self.world.coverage["successors judged"] += 1
        if fit.get(successor, (0, b"")) < max(settled.values()):
            self._fail(engine, "successor-not-best", f"{name}: {successor} of {settled}")

    def _fit(
        self, engine: FakeEngine, unit: UnitPlan, settled_ns: Duration
    ) -> dict[str, tuple[int, bytes]]:
        """Who could take the unit, undisturbed for so long, and how good each is."""
        cluster, found = self.scenario.cluster, {}
        for host in self.hosts:
            other = host.engine
            if other is None or other is engine or host.maintenance or cluster is None:
                continue
            known = other.node.units.get(unit.name)
            settled = self.world.now - host.disturbed_at > settled_ns
            if settled and known is not None and known.election.state is State.BACKUP:
                rank = (known.election.standing.priority, cluster.addresses(host.plan)[0])
                found[host.name] = rank
        return found

    # --- asking -------------------------------------------------------------------------------

    def _judge_question(self, engine: FakeEngine, name: str, question: object) -> None:
        now, key = engine.now(), (engine, name)
        asked = self._asked.get(key)
        if asked is None or asked.question != question:
            self._asked[key] = _Asked(question, 1, now)
        else:
            wait_s = 2 ** (asked.times - 1)
            plan = self.judge.plan(name)
            calm = plan is not None and self.judge.is_whole(plan)  # a lost master is a new one
            if calm and now - asked.at < min(wait_s, 300) * SECOND_NS:
                gap_s = (now - asked.at) / SECOND_NS
                text = f"{name}: {gap_s:.2f} s after the {asked.times}. time"
                self._fail(engine, "asks-too-soon", text)
            asked.times, asked.at = asked.times + 1, now
        unit = engine.node.units.get(name)
        delay_ns = 0 if unit is None else unit.config.leader.preempt_delay_ns
        if now - engine.born_at < delay_ns:
            self._fail(engine, "asks-early", f"{name}: within preempt_delay of its start")
        whose, trouble = self._trouble.get(key, (None, 0))
        if whose is not None and whose is unit and self.world.now - trouble < _TROUBLE_NS:
            self._fail(engine, "asks-early", f"{name}: its own health cost it the mastership")

    # --- giving -------------------------------------------------------------------------------

    def leaves(self, engine: FakeEngine, note: Note) -> None:
        """Out of MASTER, whatever for."""
        key, reason = (engine, note.instance), str(note.fields["reason"])
        self._left_for[key] = reason
        if reason in _OWN_TROUBLE:
            self._trouble[key] = (engine.node.units.get(note.instance), self.world.now)

    def hands_over(self, engine: FakeEngine, note: Note) -> None:
        key, step = (engine, note.instance), note.fields["step"]
        if step == "offered":
            offer = self._offers.setdefault(key, _Offer())
            offer.attempts += 1
            offer.said_at = self.world.now
            if offer.attempts > len(self.hosts):  # one may be the ghost
                self._fail(engine, "handover-endless", f"{note.instance}: {offer.attempts} times")
            self.world.after(_LATE_NS, self._judge_repeated, key, offer)
        elif step in ("taken", "failed"):
            self._offers.pop(key, None)
            if step == "failed":
                self.world.after(0, self._judge_return, engine, note.instance)

    def _judge_repeated(self, key: tuple[FakeEngine, str], offer: _Offer) -> None:
        engine, name = key
        if self._offers.get(key) is not offer or not engine.alive or engine.paused:
            return
        silent = self.world.now - max(offer.said_at, engine.host.disturbed_at)
        if silent >= _LATE_NS and engine.node.cluster is not None:
            alive = any(True for _ in engine.node.cluster.roster.alive())
            if alive and engine.host.running:
                self._fail(engine, "go-unrepeated", f"{name}: for {silent / MILLISECOND_NS:.0f} ms")
        self.world.after(_LATE_NS, self._judge_repeated, key, offer)

    def _judge_return(self, engine: FakeEngine, name: str) -> None:
        unit = engine.node.units.get(name)
        if unit is None or not engine.alive or self._left_for.get((engine, name)) not in _RETURNS:
            return
        if unit.election.state is State.BACKUP and not unit.judgement.pending:
            self._fail(engine, "return-missing", f"{name}: nobody took it, and it is BACKUP")

    def finished(self, engine: FakeEngine) -> None:
        for offering, name in self._offers:
            if offering is engine:
                self._fail(engine, "finished-early", f"{name}: somebody is to take it over")
        cluster = engine.node.cluster
        heard = cluster is not None and any(peer.nonce for peer in cluster.roster.alive())
        if heard and engine not in self._goodbyes:
            self._fail(engine, "goodbye-unsaid", "ends without a word")

    def withdrawn(self, engine: FakeEngine) -> None:
        """Nobody seems to have been there."""
        for name, unit in engine.node.units.items():
            plan = self.judge.plan(name)
            if plan is None or unit.election.state is not State.MASTER:
                continue
            quiet = self.scenario.is_quiet and self.judge.is_whole(plan)
            if (
                quiet
                and self._fit(engine, plan, 3 * SECOND_NS)
                and not self.judge.pins_of(engine, name)
            ):
                self._fail(engine, "maintenance-ignored", f"{name} is still here")

    # --- taking -------------------------------------------------------------------------------

    def takes(self, engine: FakeEngine, note: Note) -> None:
        failed = note.fields["reason"] == Reason.HANDOVER_FAILED.value
        for pin in self.judge.pins_of(engine, note.instance):
            if pin.node != engine.host.name and (failed or self._is_long_gone(pin.node)):
                self._fail(engine, "pin-outlives", f"{note.instance}: on {pin.node}")
        if note.fields["reason"] not in _NAMED:
            self._judge_stranger(engine, note)

    def _is_long_gone(self, node: str) -> bool:
        host = next((each for each in self.hosts if each.name == node), None)
        cluster = self.scenario.cluster
        if host is None or cluster is None or host.running:
            return False
        return self.world.now - host.died_at > cluster.heartbeat_timeout_ns + SECOND_NS

    def _judge_stranger(self, engine: FakeEngine, note: Note) -> None:
        router = self.scenario.foreign
        plan = self.judge.plan(note.instance)
        if router is None or plan is None or router.plan.name not in {m.name for m in plan.members}:
            return
        interval_ns = router.plan.slowest_ns
        heard = self.world.now - router.spoke_at < 2 * interval_ns and router.times > 2
        rests = self.world.now - max(engine.host.disturbed_at, self.scenario.units_changed_at)
        unit = engine.node.units[note.instance]
        stronger = router.priority >= unit.election.standing.priority
        if heard and stronger and rests > 4 * interval_ns and self.scenario.network.carries_adverts:
            if not engine.host.link_is_up(router.plan.interface) or engine.host.deaf:
                return
            text = f"{note.instance}: {note.fields['reason']}"
            self._fail(engine, "stranger-replaced", text)

    def look(self, engine: FakeEngine) -> None:
        """Now and then."""
        for name in engine.node.units:
            for pin in self.judge.pins_of(engine, name):
                late = pin.until_ns is not None and engine.now() - pin.until_ns > SECOND_NS
                if late:
                    self._fail(engine, "pin-overdue", f"{name}: on {pin.node}")


def _circumstances(engine: FakeEngine, master: str, unit: str) -> tuple[int, int]:
    """What else a request depends on, as the asking node knows it: others are another question."""
    cluster = engine.node.cluster
    if cluster is None:
        return 0, 0
    report = cluster.roster.peers[master].units.get(unit)
    return 0 if report is None else report.priority, cluster.pins.of(unit).version
