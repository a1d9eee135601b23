"""Looks at a whole cluster: its judge, its convergence, and the alarms that its nodes raise.

=====================  =========================================================================
alarm-missing          what an alarm is about was so for 3 s and a timeout (a path: 3 timeouts) as
                       seen from this node, and it does not stand
alarm-unfounded        an alarm stands so long after what it was about ended (foreign-master: a
                       minute, or at all if nobody foreign was there)
=====================  =========================================================================

Judged: no-standby (a master, and nobody fit), drift, path-down, adverts-lost (of a master that
everybody else hears on the channel), foreign-master.
"""

from __future__ import annotations

from collections.abc import Sequence

from vipd.model import SECOND_NS, Duration, Family, Note, NoteKind, State
from vipd.sim.cluster_convergence import ClusterConvergence
from vipd.sim.cluster_judge import ClusterJudge
from vipd.sim.convergence import Lasting
from vipd.sim.engine import FakeEngine
from vipd.sim.host import Host
from vipd.sim.network import CHANNEL
from vipd.sim.scenario import Scenario
from vipd.sim.world import World

LIMIT_NS = 3 * SECOND_NS
FOREIGN_NS = 62 * SECOND_NS
_EVERY = 5


class ClusterCheckers:
    """Called in every sweep; looks at the alarms once a second."""

    def __init__(
        self, world: World, hosts: Sequence[Host], scenario: Scenario, lasting: Lasting
    ) -> None:
        self.world = world
        self.hosts = hosts
        self.scenario = scenario
        self.judge = ClusterJudge(world, scenario)
        self.convergence = ClusterConvergence(world, hosts, scenario, lasting)
        self.judge.on_request = self.convergence.asks
        self._lasting = Lasting(world)
        self._sweeps = 0
        scenario.on_change = self.judge.look

    def noted(self, engine: FakeEngine, note: Note) -> None:
        if note.kind is NoteKind.HANDOVER:
            self.convergence.hands_over(engine, note)
            self.judge.manners.hands_over(engine, note)
        elif note.kind is NoteKind.RELEASED:
            engine.host.on_step(engine, "released")

    def sweep(self) -> None:
        self.judge.look()
        self._sweeps += 1
        if self._sweeps % _EVERY:
            return
        self._lasting.next_sweep()
        for host in self.hosts:
            if host.lively and host.engine is not None:
                self._judge_alarms(host, host.engine)
                self.judge.manners.look(host.engine)

    # --- alarms -------------------------------------------------------------------------------

    def _judge_alarms(self, host: Host, engine: FakeEngine) -> None:
        standing = {alarm.name for alarm in engine.node.snapshot(engine.now()).alarms}
        for name in standing:
            self.world.coverage[f"alarm {name}"] += 1
        truths = {
            "no-standby": self._no_standby(host, engine),
            "drift": self._drift(host),
            "path-down": self._path_down(host),
            "foreign-master": self._foreign(),
        }
        for name, so in truths.items():
            if so is None or so == (name in standing):
                continue
            what = "alarm-missing" if so else "alarm-unfounded"
            lasts = self._lasting.lasts((what, host, name), host.disturbed_at)
            if lasts >= self._limit_ns(name, so=so):
                self.world.violated(what, f"{host.name}: {name} for {lasts / SECOND_NS:.1f} s")

    def _limit_ns(self, name: str, *, so: bool) -> Duration:
        """How long an alarm may be missing, or stand without cause."""
        if name == "foreign-master" and not so:
            # Who lost the address of its channel, or whose beats are late, looks like one.
            late = "slow-network" in self.scenario.options.fault_kinds
            looks = late or self.scenario.renumbered or self.scenario.foreign_at >= 0
            return FOREIGN_NS if looks else 0
        cluster = self.scenario.cluster
        timeout_ns = 0 if cluster is None else cluster.heartbeat_timeout_ns
        return LIMIT_NS + timeout_ns * (3 if name == "path-down" else 1)

    @property
    def _works(self) -> bool:
        """Nodes can hear each other, and what they heard is not older than a second."""
        return self.world.now - self.judge.whole_since > SECOND_NS

    def _others(self, host: Host) -> list[Host]:
        return [each for each in self.hosts if each is not host]

    def _no_standby(self, host: Host, engine: FakeEngine) -> bool | None:
        """Every master here, and whether somebody else could take over."""
        if not self._works:
            return None
        found = []
        for name, unit in engine.node.units.items():
            if unit.election.state is not State.MASTER:
                continue
            fit = [each for each in self._others(host) if self._is_fit(each, name)]
            found.append(not fit)
        return any(found)

    def _is_fit(self, host: Host, name: str) -> bool:
        unit = None if host.engine is None else host.engine.node.units.get(name)
        if unit is None or not host.lively or host.maintenance:
            return False
        return unit.election.state in (State.BACKUP, State.CANDIDATE, State.MASTER)

    def _drift(self, host: Host) -> bool | None:
        if not self._works:
            return None
        running = [each for each in self._others(host) if each.lively]
        return any(each.drifted != host.drifted for each in running)

    def _path_down(self, host: Host) -> bool | None:
        """Any path by which a living node should be heard."""
        cluster = self.scenario.cluster
        if cluster is None or cluster.ghost or self.scenario.network.loss:
            return None
        if self.world.now <= self.scenario.channel.late_until:
            return None  # what arrives late is a sign of its path, although that is cut by now
        found = [False]
        for other in self._others(host):
            if not other.lively or other.engine is None:
                return None
            for path in cluster.paths:
                cut = self.scenario.network.is_cut(other, host, path, CHANNEL)
                works = other.link_is_up(path) and host.link_is_up(path)
                owns = other.owns(path, other.plan.address(path, Family.IPV4))
                if not works or not owns:
                    return None
                found.append(cut)
        return any(found)

    def _foreign(self) -> bool | None:
        """False once nobody foreign has spoken for long enough."""
        return None if self.scenario.foreign is not None else False
