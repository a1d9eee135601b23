"""Plays every fault on every unit and writes down who holds the VIPs.

A scenario is: all start healthy, the fault, time to settle, and then either the cure and time to
settle, or the death of whoever is master by then and time to settle. *Master* is who has the VIPs
in its kernel; two names are two masters, none is nobody.

How long is "time to settle"? Twice the longest time after which any node calls a master dead, plus
every delay that the configuration asks for. A ``preempt_delay`` or ``debounce`` that is much longer
than the adverts' pace is played shorter, because nothing but adverts happens meanwhile; the times
written down are corrected for it.

Nodes in cluster mode are played in plain mode. Who is master is the same; the channel makes it
faster, and ``times`` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vipd.lint.faults import (
    Fault,
    FaultKind,
    all_faults,
    bad_health,
    checks_on,
    concerns,
    good_health,
    is_number,
)
from vipd.lint.layout import Port, UnitPlan, addresses_of, networks, unit_plans
from vipd.lint.members import Cluster, Member
from vipd.lint.stage import Player, Stage
from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    Contribution,
    Duration,
    InstanceConfig,
    NodeConfig,
    State,
    Track,
    VipKey,
)

LONGEST_DELAY_IN_ADVERTS = 20
_MARGIN_NS = 200 * MILLISECOND_NS


@dataclass(frozen=True, slots=True)
class Standing:
    """One node's part in a unit at one moment; a dead node has none."""

    state: State
    base: int
    effective: int
    contributions: tuple[Contribution, ...]
    faults: tuple[str, ...]


Standings = Mapping[str, Standing]


@dataclass(frozen=True, slots=True)
class Cell:
    """What one fault does to one unit. Times are None where nothing moved.

    ``dies`` is the master that dies on top of the fault, empty where that says nothing new.
    """

    masters: tuple[str, ...]
    standings: Standings
    after_ns: Duration | None
    healed: tuple[str, ...]
    back_ns: Duration | None
    dies: str = ""
    heirs: tuple[str, ...] = ()
    heir_standings: Standings | None = None


@dataclass(frozen=True, slots=True)
class UnitForecast:
    """``cells`` has the faults that concern the unit; all others leave it as it is normally."""

    plan: UnitPlan
    normally: tuple[str, ...]
    standings: Standings
    cells: Mapping[Fault, Cell]

    def cell(self, fault: Fault) -> Cell:
        untouched = Cell(self.normally, self.standings, None, self.normally, None)
        return self.cells.get(fault, untouched)


@dataclass(frozen=True, slots=True)
class Forecast:
    cluster: Cluster
    network: Mapping[Port, int]
    faults: tuple[Fault, ...]
    units: tuple[UnitForecast, ...]
    left_out: tuple[str, ...]  # number checks


def forecast(cluster: Cluster) -> Forecast:
    network = networks(cluster)
    faults = all_faults(cluster)
    units = tuple(_Theatre(cluster, plan, network).play(faults) for plan in unit_plans(cluster))
    numbers = {
        name
        for member in cluster.members
        for name, check in member.checks.items()
        if is_number(check)
    }
    left_out = tuple(name for name in cluster.checks() if name in numbers)
    return Forecast(cluster, network, faults, units, left_out)


class _Theatre:
    """All scenarios of one unit."""

    def __init__(self, cluster: Cluster, plan: UnitPlan, network: dict[Port, int]) -> None:
        self._cluster = cluster
        self._plan = plan
        self._network = network
        self._real = {each.name: plan.part_of(each.config) for each in cluster.members}
        instances = [each for config in self._real.values() for each in config.instances]
        longest_ns = max(each.advert_interval_ns for each in instances)
        self._most_ns = LONGEST_DELAY_IN_ADVERTS * longest_ns
        self._played = {name: self._shortened(config) for name, config in self._real.items()}
        skew_ns = max(longest_ns, SECOND_NS) if _has_version_2(instances) else longest_ns
        delays_ns = max(map(_delays_ns, self._played.values()))
        self._settle_ns = 2 * (3 * longest_ns + skew_ns) + longest_ns + delays_ns + _MARGIN_NS

    def play(self, faults: tuple[Fault, ...]) -> UnitForecast:
        opening = _Scene(self)
        normally, standings = opening.masters(), opening.standings()
        cells = {
            fault: self._play(fault, normally)
            for fault in faults
            if concerns(fault, self._plan, self._cluster)
        }
        return UnitForecast(self._plan, normally, standings, cells)

    def _play(self, fault: Fault, normally: tuple[str, ...]) -> Cell:
        scene = _Scene(self)
        after_ns = scene.change(fault, broken=True)
        masters, standings = scene.masters(), scene.standings()
        back_ns = scene.change(fault, broken=False)
        healed = scene.masters()
        cell = Cell(
            masters,
            standings,
            self._corrected(after_ns, masters, fault),
            healed,
            self._corrected(back_ns, healed, fault),
        )
        survivors = standings.keys() - {*masters, fault.node}
        if (
            len(masters) != 1
            or masters[0] == fault.node
            or (fault.kind is FaultKind.NODE and not survivors)
        ):
            return cell  # nobody to die, the fault would die with its node, or no host is left
        if healed != normally:
            scene = _Scene(self)
        scene.change(fault, broken=True)
        scene.change(Fault(FaultKind.NODE, masters[0], masters[0]), broken=True)
        heirs, left = scene.masters(), scene.standings()
        return replace(cell, dies=masters[0], heirs=heirs, heir_standings=left)

    # --- what a scene needs -------------------------------------------------------------------

    def stage(self) -> Stage:
        stage = Stage(self._network)
        for member in self._cluster.members:
            stage.enter(
                Player(
                    stage,
                    self._played[member.name],
                    addresses_of(self._cluster, member, self._network),
                    good_health(member),
                    [name for name, check in member.checks.items() if is_number(check)],
                )
            )
        for player in stage.players.values():
            player.boot()
        stage.run(self._settle_ns)
        return stage

    def settle(self, stage: Stage) -> None:
        stage.run(self._settle_ns)

    def members(self) -> tuple[Member, ...]:
        return self._cluster.members

    def vips(self, node: str) -> set[VipKey]:
        return {vip.key for each in self._real[node].instances for vip in each.vips}

    # --- delays that are played shorter -------------------------------------------------------

    def _shortened(self, config: NodeConfig) -> NodeConfig:
        def shorter(tracks: tuple[Track, ...]) -> tuple[Track, ...]:
            most = self._most_ns
            return tuple(replace(each, debounce_ns=min(each.debounce_ns, most)) for each in tracks)

        instances = tuple(
            replace(
                each,
                preempt_delay_ns=min(each.preempt_delay_ns, self._most_ns),
                track=shorter(each.track),
            )
            for each in config.instances
        )
        groups = tuple(replace(each, track=shorter(each.track)) for each in config.groups)
        return replace(config, instances=instances, groups=groups, cluster=None)

    def _corrected(
        self, measured_ns: Duration | None, masters: tuple[str, ...], fault: Fault
    ) -> Duration | None:
        if measured_ns is None:
            return None
        real_ns = measured_ns
        delayed = [each for name in masters for each in self._real.get(name, _NONE).instances]
        delay_ns = max((each.preempt_delay_ns for each in delayed), default=0)
        if self._most_ns < delay_ns and measured_ns >= self._most_ns:
            real_ns += delay_ns - self._most_ns
        if fault.kind is FaultKind.INTERFACE:
            debounce_ns = max(
                (
                    track.debounce_ns
                    for config in self._real.values()
                    for track in _tracks(config)
                    if track.name == fault.name
                ),
                default=0,
            )
            real_ns += max(0, debounce_ns - self._most_ns)
        return real_ns


_NONE = NodeConfig("", ())


def _has_version_2(instances: list[InstanceConfig]) -> bool:
    return any(each.version == 2 for each in instances)


def _tracks(config: NodeConfig) -> tuple[Track, ...]:
    tracks = [track for each in config.instances for track in each.track]
    return (*tracks, *(track for each in config.groups for track in each.track))


def _delays_ns(config: NodeConfig) -> Duration:
    delay_ns = max((each.preempt_delay_ns for each in config.instances), default=0)
    return delay_ns + max((track.debounce_ns for track in _tracks(config)), default=0)


class _Scene:
    """One world on its way through one scenario."""

    def __init__(self, theatre: _Theatre) -> None:
        self._theatre = theatre
        self._stage = theatre.stage()

    def masters(self) -> tuple[str, ...]:
        found = []
        for name, player in self._stage.players.items():
            vips = self._theatre.vips(name)
            if vips and player.holds(vips):
                found.append(name)
            elif player.alive and not vips.isdisjoint(player.kernel.present):
                found.append(f"{name} (in part)")
        return tuple(found)

    def standings(self) -> dict[str, Standing]:
        found = {}
        for name, player in self._stage.players.items():
            for shot in list(player.snapshots().values())[:1]:
                found[name] = Standing(
                    shot.state,
                    shot.priority_base,
                    shot.priority_effective,
                    shot.contributions,
                    shot.faults,
                )
        return found

    def change(self, fault: Fault, *, broken: bool) -> Duration | None:
        """Break or mend, and settle; the time until the last move of a VIP, None if none moved."""
        stage = self._stage
        before, begin = self.masters(), stage.world.now
        for member in self._theatre.members():
            if fault.node in ("", member.name):
                self._change_on(member, fault, broken=broken)
        # The death of a host is no move; what others make of it is.
        stage.changed_at = begin
        self._theatre.settle(stage)
        if before == self.masters():
            return None
        return stage.changed_at - begin

    def _change_on(self, member: Member, fault: Fault, *, broken: bool) -> None:
        player = self._stage.players[member.name]
        if fault.kind is FaultKind.NODE:
            if broken:
                player.die()
            else:
                player.boot()
            return
        checks = [fault.name]
        if fault.kind is FaultKind.INTERFACE:
            player.set_link(fault.name, up=not broken)
            checks = list(checks_on(member, fault.name))
        good = good_health(member)
        for check in checks:
            if check in good:
                player.set_health(check, bad_health(good[check]) if broken else good[check])
