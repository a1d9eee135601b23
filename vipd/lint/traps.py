"""What a configuration does that is hardly meant, read off the forecast.

The worst result is a VIP without a master although a host lives that could serve it: it comes from
tracks without a weight, which put a host into FAULT however alone it is. Next come settings that
look like a failover and are none: weights too small to matter, weights with ``preempt: false``, and
a ``preempt_delay`` that holds up a failover that was meant to be quick. Every sentence has the
arithmetic of the real core in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from vipd.config.types import format_duration
from vipd.config.yamltree import Path as KeyPath
from vipd.core.track import LOWEST_PRIORITY
from vipd.duties import HttpProbe, PingProbe, Probe, TcpProbe
from vipd.lint.faults import Fault, FaultKind, is_number, tracks_of
from vipd.lint.findings import Finding, Severity
from vipd.lint.forecast import Cell, Forecast, Standing, UnitForecast
from vipd.lint.layout import UnitPlan, known_source
from vipd.lint.members import Member
from vipd.model import InstanceConfig, State, Track, TrackKind, format_address

ERROR, WARNING = Severity.ERROR, Severity.WARNING
_LARGEST_WEIGHT = 253
_HERE = ("localhost", "127.", "::1", "[::1]")


def traps(forecast: Forecast) -> Iterator[Finding]:
    for unit in forecast.units:
        view = _View(forecast, unit)
        yield from _normally(view)
        yield from _nobody(view)
        yield from _weights(view)
        yield from _delays(view)
        yield from _ties(view)
    yield from _same_everywhere([_View(forecast, unit) for unit in forecast.units])


class _View:
    """One unit with what the rules need of it."""

    def __init__(self, forecast: Forecast, unit: UnitForecast) -> None:
        self.forecast = forecast
        self.unit = unit
        self.plan: UnitPlan = unit.plan
        self.members = {each.name: each for each in forecast.cluster.members}

    def leader(self, node: str) -> InstanceConfig | None:
        """The first of the unit's instances on the node; all agree on what is asked of it."""
        found = (self.members[node].instance(name) for name in self.plan.instances)
        return next((each for each in found if each is not None), None)

    def finding(
        self, severity: Severity, name: str, member: Member, path: KeyPath, problem: str, cure: str
    ) -> Finding:
        return Finding(severity, name, member.fault(path, f"{self.plan.name}: {problem}", cure))

    def path(self, member: Member) -> KeyPath:
        named = next(name for name in self.plan.instances if member.instance(name) is not None)
        return ("instances", named)

    def track(self, node: str, fault: Fault) -> Track | None:
        """How the unit tracks what fails on the node; None where it does not."""
        if node not in self.members or fault.kind is FaultKind.NODE:
            return None
        kind = TrackKind(fault.kind.value)
        tracks = tracks_of(self.members[node], self.plan)
        return next((t for t in tracks if (t.kind, t.name) == (kind, fault.name)), None)

    def track_path(self, member: Member, track: Track) -> KeyPath:
        """Where the file says it: in an instance, or in the group."""
        owners = [("instances", name) for name in self.plan.instances]
        owners += [("groups", group.name) for group in member.config.groups]
        for section, name in owners:
            path: KeyPath = (section, member.own_name(name), "track")
            listed, beyond = member.tree.nearest(path)
            if beyond or not isinstance(listed.value, list):
                continue
            for index, entry in enumerate(listed.value):
                child = entry.child(track.kind.value)
                named = child.plain() if child is not None else None
                if named == track.name or (
                    isinstance(named, dict) and named.get(member.name) == track.name
                ):
                    return (section, name, "track", index)
        return self.path(member)


# --- who is master when nothing fails, and when nobody is -------------------------------------


def _normally(view: _View) -> Iterator[Finding]:
    first = next(each for each in view.members.values() if view.leader(each.name) is not None)
    masters = view.unit.normally
    if len(masters) > 1:
        problem = f"{' and '.join(masters)} are master at the same time, with nothing failed"
        cure = "mend what the nodes disagree on"
        yield view.finding(ERROR, "two-masters", first, view.path(first), problem, cure)
    elif not masters:
        reasons = "; ".join(
            f"{node} is {each.state.value} ({', '.join(each.faults) or 'no fault'})"
            for node, each in view.unit.standings.items()
        )
        problem = f"nobody is master although nothing has failed: {reasons}"
        cure = "look at tracks without weight, above all those with reverse"
        yield view.finding(ERROR, "no-master", first, view.path(first), problem, cure)
    for fault, cell in view.unit.cells.items():
        if len(masters) == 1 and len(cell.masters) > 1:
            problem = f"{' and '.join(cell.masters)} are master at the same time when {fault}"
            cure = "mend what the nodes disagree on"
            yield view.finding(ERROR, "two-masters", first, view.path(first), problem, cure)


@dataclass(frozen=True, slots=True)
class _Orphaned:
    """A VIP without master, and the track without weight that is to blame."""

    member: Member
    track: Track
    when: str


def _nobody(view: _View) -> Iterator[Finding]:
    if not view.unit.normally:
        return
    blamed: dict[str, list[_Orphaned]] = {}
    for fault, cell in view.unit.cells.items():
        for when, standings in _without_master(fault, cell):
            orphaned = _blame(view, fault, when, standings)
            if orphaned is not None:
                blamed.setdefault(orphaned.track.label, []).append(orphaned)
            elif any(each.state is not State.FAULT for each in standings.values()):
                alive = next(iter(standings))
                member = view.members[alive]
                problem = f"nobody is master when {when}, although {alive} lives without a fault"
                cure = "compare the nodes' files"
                yield view.finding(ERROR, "no-heir", member, view.path(member), problem, cure)
    for label, cases in blamed.items():
        yield _orphan_finding(view, label, cases)


def _without_master(fault: Fault, cell: Cell) -> Iterator[tuple[str, dict[str, Standing]]]:
    if not cell.masters and cell.standings:
        yield str(fault), dict(cell.standings)
    if cell.dies and not cell.heirs and cell.heir_standings:
        yield f"{fault} and {cell.dies} dies", dict(cell.heir_standings)


def _blame(
    view: _View, fault: Fault, when: str, standings: dict[str, Standing]
) -> _Orphaned | None:
    """The loss of an instance's own interface is nobody's choice, and nobody is blamed for it."""
    for node, standing in standings.items():
        track = view.track(node, fault)
        if standing.state is State.FAULT and track is not None and track.weight is None:
            return _Orphaned(view.members[node], track, when)
    return None


def _orphan_finding(view: _View, label: str, cases: list[_Orphaned]) -> Finding:
    member, track = cases[0].member, cases[0].track
    configs = [view.leader(name) for name in view.members]
    priorities = [each.priority for each in configs if each is not None and not each.is_owner]
    weight = min(_LARGEST_WEIGHT, max(priorities, default=0) - min(priorities, default=0) + 1)
    whens = ", or ".join(case.when for case in cases)
    target = _target(view, track)
    asked = f" (every node asks {target}, so that can well happen)" if target else ""
    problem = f"nobody is master when {whens}: without a weight {label} means FAULT{asked}"
    cure = f"with weight: -{weight} mastership moves as well, and the last one left still serves"
    return view.finding(
        WARNING, "nobody-left", member, view.track_path(member, track), problem, cure
    )


# --- weights ----------------------------------------------------------------------------------


def _weights(view: _View) -> Iterator[Finding]:
    if len(view.unit.normally) != 1:
        return
    master = view.unit.normally[0]
    for fault, cell in view.unit.cells.items():
        track = view.track(master, fault) if fault.node == master else None
        if track is None or track.weight is None or cell.masters != (master,):
            continue
        others = {
            node: each.effective
            for node, each in cell.standings.items()
            if node != master and each.state is State.BACKUP
        }
        if others:
            yield _too_weak(view, fault, track, cell.standings[master], others)


def _too_weak(
    view: _View, fault: Fault, track: Track, mine: Standing, others: dict[str, int]
) -> Finding:
    member = view.members[fault.node]
    path = view.track_path(member, track)
    best = max(others, key=lambda node: others[node])
    sums = f"{_sum(mine)} on {fault.node}"
    if mine.effective < others[best]:
        problem = (
            f"when {fault}, nothing moves: {sums} is below {best}'s {others[best]}, but with "
            f"preempt: false {best} does not take over from a live master"
        )
        cure = "leave the weight out, then a failure is FAULT; or write preempt: true"
        return view.finding(WARNING, "weight-without-preempt", member, path, problem, cure)
    relation = "is still above" if mine.effective > others[best] else "only equals"
    together = _all_failed(view, member, mine)
    if together < others[best]:
        more = "; only together with other weights it moves mastership"
    else:
        more = "" if together == mine.effective else f", and all weights together give {together}"
    weight = abs(track.weight or 0) + mine.effective - others[best] + 1
    sign = "-" if (track.weight or 0) < 0 else ""
    cure = f"write weight: {sign}{weight}" if weight <= _LARGEST_WEIGHT else "move the priorities"
    problem = f"when {fault}, nothing moves: {sums} {relation} {best}'s {others[best]}{more}"
    return view.finding(WARNING, "weight-too-small", member, path, problem, f"{cure} or beyond")


def _sum(standing: Standing) -> str:
    """``150-20=130``, as the core added it up."""
    parts = "".join(f"{part.weight:+d}" for part in standing.contributions)
    return f"{standing.base}{parts}={standing.effective}" if parts else f"{standing.effective}"


def _all_failed(view: _View, member: Member, mine: Standing) -> int:
    """The priority when everything with a weight has failed; numbers count as 0."""
    tracks = tracks_of(member, view.plan)
    numbers = {name for name, check in member.checks.items() if is_number(check)}
    lost = sum(
        abs(each.weight)
        for each in tracks
        if each.weight is not None and each.name not in numbers
        if (each.weight < 0) != each.reverse  # the others are a bonus while all is well
    )
    return max(LOWEST_PRIORITY, mine.base - lost)


def _delays(view: _View) -> Iterator[Finding]:
    told: set[str] = set()
    for fault, cell in view.unit.cells.items():
        track = view.track(fault.node, fault)
        if track is None or track.weight is None or len(cell.masters) != 1:
            continue
        heir = cell.masters[0]
        config = view.leader(heir)
        if config is None or cell.after_ns is None or heir in told or heir == fault.node:
            continue
        if config.preempt_delay_ns > 3 * config.advert_interval_ns:
            told.add(heir)
            delay = format_duration(config.preempt_delay_ns)
            problem = (
                f"when {fault}, {heir} takes over only after its preempt_delay of {delay}, "
                f"because {fault.node} is still alive: later than if {fault.node} had died"
            )
            cure = "leave the weight out, then a failure is FAULT; or write a shorter delay"
            path = (*view.path(view.members[heir]), "preempt_delay")
            yield view.finding(
                WARNING, "preempt-delay-delays-failover", view.members[heir], path, problem, cure
            )


# --- ties, and checks that cannot tell the nodes apart ----------------------------------------


def _ties(view: _View) -> Iterator[Finding]:
    for one, other in combinations(view.members.values(), 2):
        first, second = view.leader(one.name), view.leader(other.name)
        if first is None or second is None or first.is_owner:
            continue
        if first.priority != second.priority:
            continue
        winner = _tie_winner(view, one, other, first.name)
        problem = f"{one.name} and {other.name} both have priority {first.priority}: {winner}"
        if not (first.preempt and second.preempt):
            problem += (
                "; with preempt: false whoever is master first stays, until both were master for "
                "a moment (a cut cable), when the address decides"
            )
        cure = "give them different priorities, so that the better one is your choice"
        path = (*view.path(other), "priority")
        yield view.finding(WARNING, "equal-priorities", other, path, problem, cure)


def _tie_winner(view: _View, one: Member, other: Member, instance: str) -> str:
    cluster = view.forecast.cluster
    sources = {node.name: known_source(cluster, node.name, instance) for node in (one, other)}
    known = {address: name for name, address in sources.items() if address is not None}
    if len(known) < 2:
        return "the higher address is master, and the files do not say which that is"
    best = max(known)
    return f"the higher address is master, {known[best]} ({format_address(best)})"


def _same_everywhere(views: list[_View]) -> Iterator[Finding]:
    """Once for each check, whatever number of units tracks it."""
    told: set[str] = set()
    for view in views:
        for member in view.members.values():
            for track in tracks_of(member, view.plan):
                target = _target(view, track)
                if not target or track.weight is None or track.name in told:
                    continue
                told.add(track.name)
                problem = (
                    f"every node asks {target}: when that is down, {track.name} fails on all and "
                    "nobody moves; it counts only where one node's way to it is broken"
                )
                cure = "check what belongs to the node itself, if that is what you mean"
                path = view.track_path(member, track)
                yield view.finding(WARNING, "same-on-all-nodes", member, path, problem, cure)


def _target(view: _View, track: Track) -> str:
    """The one thing elsewhere that this check asks from every node; empty if it is not so."""
    if track.kind is not TrackKind.CHECK:
        return ""
    checks = [each.checks.get(track.name) for each in view.members.values()]
    targets = {_elsewhere(each.probe) for each in checks if each is not None}
    return targets.pop() if len(checks) > 1 and None not in checks and len(targets) == 1 else ""


def _elsewhere(probe: Probe) -> str:
    match probe:
        case PingProbe():
            target = format_address(probe.address)
        case TcpProbe():
            target = f"{probe.host}:{probe.port}"
        case HttpProbe() if probe.unix_socket is None:
            target = probe.url
        case _:
            return ""
    return "" if target.partition("//")[2].startswith(_HERE) or target.startswith(_HERE) else target
