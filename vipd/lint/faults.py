"""What can fail: every check, interface and node that means something to a unit.

* A *check* fails by its verdict. One that every track reads in ``reverse`` is in its good state
  while it fails, so its fault is that it is healthy. A check that gives a number (a file) has no
  failure that means anything by itself: it counts as 0 here, and is named as left out.
* An *interface* fails by losing its link; checks that look at the link fail with it.
* A *node* fails by power loss.
* What several nodes look at can fail *for all of them at once*: the gateway that each of them
  pings, the switch behind a tracked interface. ``Fault.node`` is then empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from vipd.duties import CheckConfig, FileProbe, InterfaceProbe
from vipd.lint.layout import UnitPlan, used_by
from vipd.lint.members import Cluster, Member
from vipd.model import Health, Track, TrackKind


class FaultKind(Enum):
    CHECK = "check"
    INTERFACE = "interface"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class Fault:
    """``node`` empty: on all nodes that have it."""

    kind: FaultKind
    name: str
    node: str

    def __str__(self) -> str:
        where = f"on {self.node}" if self.node else "on all nodes"
        if self.kind is FaultKind.NODE:
            return f"{self.node} dies"
        verb = "goes down" if self.kind is FaultKind.INTERFACE else "fails"
        return f"{self.name} {verb} {where}"


def is_number(check: CheckConfig) -> bool:
    return isinstance(check.probe, FileProbe) and check.probe.number


def tracks_of(member: Member, plan: UnitPlan | None = None) -> tuple[Track, ...]:
    """What the node tracks, for one unit or for all."""
    tracks: list[Track] = []
    for unit in member.units().values():
        if plan is None or any(each.name in plan.instances for each in unit.members):
            tracks += unit.tracks
    return tuple(dict.fromkeys(tracks))


def good_health(member: Member) -> dict[str, Health]:
    """The state of each check in which nothing is wrong."""
    senses: dict[str, set[bool]] = {}
    for track in tracks_of(member):
        if track.kind is TrackKind.CHECK:
            senses.setdefault(track.name, set()).add(track.reverse)
    return {
        name: Health.UNHEALTHY if senses.get(name) == {True} else Health.HEALTHY
        for name in member.checks
    }


def bad_health(good: Health) -> Health:
    return Health.HEALTHY if good is Health.UNHEALTHY else Health.UNHEALTHY


def checks_on(member: Member, interface: str) -> Iterator[str]:
    """Checks that look at the interface itself."""
    for name, check in member.checks.items():
        if isinstance(check.probe, InterfaceProbe) and check.probe.interface == interface:
            yield name


def all_faults(cluster: Cluster) -> tuple[Fault, ...]:
    """The rows of the table: checks, then interfaces, then nodes."""
    members = cluster.members
    rows: list[Fault] = []
    for check in cluster.checks():
        nodes = [
            member.name
            for member in members
            if check in member.checks and not is_number(member.checks[check])
        ]
        rows += _rows(FaultKind.CHECK, check, nodes)
    for interface in dict.fromkeys(name for member in members for name in used_by(member)):
        nodes = [member.name for member in members if interface in used_by(member)]
        spoken_on = any(
            interface in (config.interface, *(vip.interface for vip in config.vips))
            for member in members
            for config in member.config.instances
        )
        # Without the VIPs' own network there is nobody whom a master could serve.
        rows += _rows(FaultKind.INTERFACE, interface, nodes, all_at_once=not spoken_on)
    rows += [Fault(FaultKind.NODE, member.name, member.name) for member in members]
    return tuple(rows)


def _rows(
    kind: FaultKind, name: str, nodes: list[str], *, all_at_once: bool = True
) -> Iterator[Fault]:
    for node in nodes:
        yield Fault(kind, name, node)
    if all_at_once and len(nodes) > 1:
        yield Fault(kind, name, "")


def concerns(fault: Fault, plan: UnitPlan, cluster: Cluster) -> bool:
    """Can the fault mean anything to the unit?"""
    return any(
        _concerns(fault, plan, member)
        for member in cluster.members
        if fault.node in ("", member.name)
    )


def _concerns(fault: Fault, plan: UnitPlan, member: Member) -> bool:
    instances = [each for each in member.config.instances if each.name in plan.instances]
    if fault.kind is FaultKind.NODE:
        return bool(instances)
    names = {track.name for track in tracks_of(member, plan)}
    if fault.kind is FaultKind.CHECK:
        return fault.name in names
    used = {each.interface for each in instances}
    used |= {vip.interface for each in instances for vip in each.vips}
    return fault.name in names | used or not names.isdisjoint(checks_on(member, fault.name))
