"""The longest time without service that each unit can expect, by what fails.

Counted from the failure to the moment at which the next master has the VIPs, with vipd's own work
(milliseconds) and lost adverts left out:

* *Node death*, and the loss of the instance's own interface, over which no goodbye can be said:
  the backup waits Down = 3 * the master's interval + its own skew (RFC 9568 §6.1).
* *Clean stop*: priority 0 is said, the backup waits its skew.
* *Check*: up to ``fall`` * interval + timeout until the verdict; then the master leaves (no weight)
  or says its new priority at once, and the better backup waits its skew either way, which is less
  than one advert interval.
* *Tracked interface*: its debounce, then as for a check.
* ``preempt_delay`` counts wherever the old master is alive and still speaks: weights only. After it
  the backup waits Down, because it followed the master until then.

In cluster mode a dead or cut-off master is missed after ``heartbeat_timeout``, and one that leaves
names its successor, which takes milliseconds. With the channel alone dead, the times above hold.

The skew is that of the node which takes over by the forecast, with its effective priority.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vipd.config.health import detection_ns
from vipd.core import timing
from vipd.lint.faults import Fault, FaultKind, checks_on, tracks_of
from vipd.lint.forecast import Cell, Forecast, UnitForecast
from vipd.lint.members import Member
from vipd.model import Duration, InstanceConfig, State, TrackKind


@dataclass(frozen=True, slots=True)
class WorstCase:
    """``parts`` adds up to ``longest_ns``: (what it is, how long)."""

    what: str
    heir: str
    parts: tuple[tuple[str, Duration], ...]

    @property
    def longest_ns(self) -> Duration:
        return sum(part for _text, part in self.parts)


def worst_cases(forecast: Forecast, unit: UnitForecast) -> Iterator[WorstCase]:
    """For a unit that has exactly one master normally; else there is nothing to fail over."""
    if len(unit.normally) != 1:
        return
    master = next(each for each in forecast.cluster.members if each.name == unit.normally[0])
    death = unit.cell(Fault(FaultKind.NODE, master.name, master.name))
    if len(death.masters) == 1 and death.masters[0] != master.name:
        calculator = _Calculator(forecast, unit, master)
        yield WorstCase(f"{master.name} dies", death.masters[0], calculator.silence(death))
        yield WorstCase(f"{master.name} is stopped", death.masters[0], calculator.goodbye(death))
    for fault, cell in unit.cells.items():
        if fault.node != master.name or fault.kind is FaultKind.NODE:
            continue
        if len(cell.masters) == 1 and cell.masters[0] != master.name:
            calculator = _Calculator(forecast, unit, master)
            yield WorstCase(str(fault), cell.masters[0], calculator.of(fault, cell))


class _Calculator:
    """The arithmetic for one unit and its normal master."""

    def __init__(self, forecast: Forecast, unit: UnitForecast, master: Member) -> None:
        self._forecast = forecast
        self._unit = unit
        self._master = master

    def of(self, fault: Fault, cell: Cell) -> tuple[tuple[str, Duration], ...]:
        if fault.kind is FaultKind.INTERFACE and self._spoken_on() == {fault.name}:
            return self.silence(cell)
        noticed = self._noticed(fault)
        heir = cell.masters[0]
        delay_ns = self._config(heir).preempt_delay_ns
        lives_on = cell.standings[self._master.name].state is State.BACKUP
        if lives_on and delay_ns:
            followed = self.silence if self._timeout_ns(heir) is None else self.goodbye
            return (noticed, (f"preempt_delay of {heir}", delay_ns), *followed(cell))
        return (noticed, *self.goodbye(cell))

    def silence(self, cell: Cell) -> tuple[tuple[str, Duration], ...]:
        timeout_ns = self._timeout_ns(cell.masters[0])
        if timeout_ns is not None:
            return (("heartbeat_timeout", timeout_ns),)
        interval_ns = self._config_of(self._master).advert_interval_ns
        return (("3 * advert interval", 3 * interval_ns), *self.goodbye(cell))

    def goodbye(self, cell: Cell) -> tuple[tuple[str, Duration], ...]:
        heir = cell.masters[0]
        if self._timeout_ns(heir) is not None:
            return (("the successor is named", 0),)
        config = self._config(heir)
        master_ns = self._config_of(self._master).advert_interval_ns
        learned_ns = master_ns if config.version == 3 else config.advert_interval_ns
        priority = cell.standings[heir].effective
        skew_ns = timing.skew_ns(config.version, priority, learned_ns)
        return ((f"skew of {heir} (priority {priority})", skew_ns),)

    def _timeout_ns(self, heir: str) -> Duration | None:
        """The heir's ``heartbeat_timeout``; None unless both are in cluster mode."""
        cluster = self._member(heir).config.cluster
        if cluster is None or self._master.config.cluster is None:
            return None
        return cluster.heartbeat_timeout_ns

    def _noticed(self, fault: Fault) -> tuple[str, Duration]:
        """How long it takes until the fault counts."""
        if fault.kind is FaultKind.CHECK:
            return ("fall * interval + timeout", detection_ns(self._master.checks[fault.name]))
        if fault.name in self._used():
            return ("its own link: at once", 0)
        tracks = tracks_of(self._master, self._unit.plan)
        for track in tracks:
            if (track.kind, track.name) == (TrackKind.INTERFACE, fault.name):
                return ("debounce", track.debounce_ns)
        names = {track.name for track in tracks if track.kind is TrackKind.CHECK}
        looking = [each for each in checks_on(self._master, fault.name) if each in names]
        slowest_ns = max((detection_ns(self._master.checks[each]) for each in looking), default=0)
        return ("fall * interval + timeout", slowest_ns)

    def _instances(self) -> list[InstanceConfig]:
        names = self._unit.plan.instances
        return [each for each in self._master.config.instances if each.name in names]

    def _spoken_on(self) -> set[str]:
        """A group that speaks on several interfaces can still say goodbye on the others."""
        return {each.interface for each in self._instances()}

    def _used(self) -> set[str]:
        return self._spoken_on() | {
            vip.interface for each in self._instances() for vip in each.vips
        }

    def _config(self, node: str) -> InstanceConfig:
        return self._config_of(self._member(node))

    def _member(self, name: str) -> Member:
        return next(each for each in self._forecast.cluster.members if each.name == name)

    def _config_of(self, member: Member) -> InstanceConfig:
        """The unit's members agree on what counts here, so the first one speaks for all."""
        for name in self._unit.plan.instances:
            config = member.instance(name)
            if config is not None:
                return config
        raise KeyError(f"{member.name} has nothing of {self._unit.plan.name}")
