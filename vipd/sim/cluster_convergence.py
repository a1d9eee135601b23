"""Who holds what in a cluster when nothing is broken any more.

As ``convergence.py`` (its checkers keep their names), with what a cluster adds:

* A unit that is pinned belongs on the node of its pin, if that is a candidate; all nodes know the
  same pin.
* Preemption is asked for, and what was refused or not answered is asked again after 1, 2, 4 ... s.
  Whoever asked in vain is unfit until then; so is a master that nobody wanted to take over from.
* Who lost its mastership through its own health waits 5 s.

=====================  =========================================================================
pins-differ            two nodes know different pins of one unit
pin-ignored            a unit is not on the node of its pin, which could have it
flapping               more than ``MASTERSHIPS`` of one unit since all is calm
=====================  =========================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vipd.members import TransferRequest
from vipd.model import SECOND_NS, Duration, Instant, Note, State
from vipd.sim.convergence import Convergence, Lasting, converge_ns
from vipd.sim.engine import FakeEngine
from vipd.sim.host import Host
from vipd.sim.plans import UnitPlan
from vipd.sim.scenario import Scenario
from vipd.sim.world import World

TROUBLE_NS = 5 * SECOND_NS
MASTERSHIPS = 4
_LONGEST_BACK_OFF_S = 300


class ClusterConvergence(Convergence):
    def __init__(
        self, world: World, hosts: Sequence[Host], scenario: Scenario, lasting: Lasting
    ) -> None:
        super().__init__(world, hosts, scenario, lasting)
        self._asked: dict[tuple[Host, str], tuple[object, int]] = {}
        self._failed: Counter[tuple[Host, str]] = Counter()
        self._since: dict[str, Instant] = {}
        self._masterships: Counter[str] = Counter()

    def converge_ns(self, unit: UnitPlan) -> Duration:
        cluster = self.scenario.cluster
        timeout_ns = 0 if cluster is None else cluster.heartbeat_timeout_ns
        return converge_ns(unit) + timeout_ns + TROUBLE_NS

    def _judge_calm(self) -> None:
        super()._judge_calm()
        foreign_at = self.scenario.foreign_at
        self.calm_since = max(self.calm_since, foreign_at)

    # --- who asks in vain -----------------------------------------------------------------------

    def asks(self, engine: FakeEngine, request: TransferRequest) -> None:
        for wish in request.wishes:
            key, question = (engine.host, wish.unit), (request.owner, wish.term, wish.priority)
            before, times = self._asked.get(key, (None, 0))
            times = times + 1 if before == question else 1
            self._asked[key] = question, times
            self._unfit_for(2 ** (times - 1))

    def _unfit_for(self, seconds: int) -> None:
        rest_s = min(seconds, _LONGEST_BACK_OFF_S) + 1
        self.fit_since = max(self.fit_since, self.world.now + int(rest_s * 1.02 * SECOND_NS))

    def hands_over(self, engine: FakeEngine, note: Note) -> None:
        key, step = (engine.host, note.instance), note.fields["step"]
        self.world.coverage[f"handover {step}"] += 1
        if step == "failed":
            self._failed[key] += 1
            self._unfit_for(2 ** (self._failed[key] - 1))
        elif step == "taken":
            del self._failed[key]

    # --- order ----------------------------------------------------------------------------------

    def _judge_right(self, unit: UnitPlan, candidates: dict[int, int], holder: int) -> None:
        pinned = self._pin(unit)
        at = next((at for at, host in enumerate(self.hosts) if host.name == pinned), None)
        if at is None or at not in candidates:
            if not pinned:
                super()._judge_right(unit, candidates, holder)
            return
        self.world.coverage["convergence judged: pinned"] += 1
        if at != holder:
            text = f"{unit.name} is on {self.hosts[holder].name}, its pin on {pinned}"
            self.world.violated("pin-ignored", text)

    def _pin(self, unit: UnitPlan) -> str:
        """What all nodes know; empty: nowhere."""
        found = {}
        for host in self.hosts:
            if host.engine is None:
                continue
            cluster = host.engine.node.snapshot(host.engine.now()).cluster
            pins = () if cluster is None else cluster.pins
            found[host.name] = next((p.node for p in pins if p.unit == unit.name), "")
        if len(set(found.values())) > 1:
            self.world.violated("pins-differ", f"{unit.name}: {found}")
        return next(iter(found.values()), "")

    def transition(self, engine: FakeEngine, note: Note) -> None:
        super().transition(engine, note)
        if note.fields["to"] != State.MASTER.value:
            return
        since = max(self.calm_since, self.fit_since)
        if self._since.get(note.instance) != since:
            self._since[note.instance], self._masterships[note.instance] = since, 0
        if self.scenario.healing and not self.scenario.active:
            self._masterships[note.instance] += 1
            if self._masterships[note.instance] > MASTERSHIPS:
                self.world.violated("flapping", f"{note.instance}: {dict(note.fields)}")
