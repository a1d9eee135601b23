"""Tracks and groups of a file, for this node: what moves mastership, and what moves as one.

A *unit* is a group, or an instance that is in none. It has one election, so (QUORUM H5):

* the members of a group agree on what decides an election: priority, preempt, preempt_delay,
  advert_interval, and version, because the skew formulas of the two versions differ;
* whatever is tracked in a unit, by the group or by any member, counts for all of it, and once.
  Equal entries are one entry; two entries about one thing that differ contradict each other.

Whether a weight is large enough to matter is not judged here: that takes the other nodes, and is
the lint's work (``vipd check --against``). What can be told from one file is: a weight on the
address owner (255 is never changed, RFC 9568 §6.1), and a weight with ``preempt: false`` (a backup
then never takes over from a live master, however low that one's priority fell).

``waits`` (not master before the first verdict) holds for what can bring FAULT, as long as its check
says nothing else about ``initial``, and for everything whose check writes ``initial: wait``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from vipd.config.context import Context, of_node
from vipd.config.drafts import Draft
from vipd.config.schema import Config, TrackEntry
from vipd.config.wording import meant
from vipd.config.yamltree import Path
from vipd.model import OWNER_PRIORITY, Track, TrackKind

AGREED_KEYS = ("priority", "preempt", "preempt_delay", "advert_interval", "version")


@dataclass(frozen=True, slots=True)
class DraftTrack:
    """A track of this node with its place in the file."""

    path: Path
    track: Track


Tracks: TypeAlias = Mapping[Path, tuple[DraftTrack, ...]]
"""By owner: ``("instances", name)`` or ``("groups", name)``."""


def draft_tracks(config: Config, context: Context) -> Tracks:
    """This node's tracks; each entry is judged by itself, and left out where it is at fault."""
    owners: dict[Path, list[TrackEntry]] = {
        **{("instances", name): entry.track for name, entry in config.instances.items()},
        **{("groups", name): entry.track for name, entry in config.groups.items()},
    }
    tracks: dict[Path, tuple[DraftTrack, ...]] = {}
    for owner, entries in owners.items():
        drafted = (
            _draft_track((*owner, "track", index), entry, config, context)
            for index, entry in enumerate(entries)
        )
        tracks[owner] = tuple(item for item in drafted if item is not None)
    return tracks


def _draft_track(
    path: Path, entry: TrackEntry, config: Config, context: Context
) -> DraftTrack | None:
    if not context.sound(path, "check", "interface", "weight", "reverse", "debounce"):
        return None
    if (entry.check is None) == (entry.interface is None):
        context.fault(path, "exactly one of check and interface is wanted", "give one of them")
        return None
    if entry.interface is not None:
        interface = of_node(entry.interface, (*path, "interface"), context)
        if interface is None:
            return None
        kind = TrackKind.INTERFACE
        track = Track(kind, interface, entry.weight, entry.reverse, debounce_ns=entry.debounce)
        return DraftTrack(path, track)
    if context.written((*path, "debounce")):
        cure = "remove it; a check has 'rise' and 'fall' for this"
        context.fault((*path, "debounce"), "it belongs to tracked interfaces", cure)
    name = entry.check or ""
    check = config.checks.get(name)
    if check is None:
        if not context.damage.touches(("checks", name)):
            cure = meant(name, config.checks)
            context.fault((*path, "check"), f"there is no check {name}", cure)
        return None
    waits = check.waits_always or (check.initial == "wait" and entry.weight is None)
    return DraftTrack(path, Track(TrackKind.CHECK, name, entry.weight, entry.reverse, waits))


def check_tracking(
    config: Config, drafts: tuple[Draft, ...], tracks: Tracks, context: Context
) -> None:
    """Every rule about groups, and about the tracks of each unit."""
    _groups(config, context)
    by_name = {item.name: item for item in drafts}
    grouped: set[str] = set()
    for name, group in config.groups.items():
        members = [by_name[member] for member in group.instances if member in by_name]
        grouped.update(group.instances)
        _unit(
            [*(item.path for item in members), ("groups", name)], members, tracks, config, context
        )
    for item in drafts:
        if item.name not in grouped:
            _unit([item.path], [item], tracks, config, context)
    for entry in (entry for items in tracks.values() for entry in items):
        _known_interface(entry, context)


# --- groups -----------------------------------------------------------------------------------


def _groups(config: Config, context: Context) -> None:
    member_of: dict[str, str] = {}
    for group, entry in config.groups.items():
        path: Path = ("groups", group, "instances")
        if group in config.instances:
            cure = "give the group another name; commands and hooks name either by it"
            context.fault(path[:-1], "an instance has this name, too", cure)
        if not entry.instances and context.sound(path[:-1], "instances"):
            context.fault(path, "the group is empty", "list at least one instance")
        for index, name in enumerate(entry.instances):
            if name not in config.instances:
                if not context.damage.touches(("instances", name)):
                    cure = meant(name, config.instances)
                    context.fault((*path, index), f"there is no instance {name}", cure)
                continue
            other = member_of.setdefault(name, group)
            if other != group or entry.instances.index(name) != index:
                problem = f"{name} is already in group {other}"
                context.fault((*path, index), problem, "an instance is in one group, once")
        members = [name for name in dict.fromkeys(entry.instances) if name in config.instances]
        for name in members[1:]:
            _agrees(name, members[0], config, context)


def _agrees(name: str, first: str, config: Config, context: Context) -> None:
    for key in AGREED_KEYS:
        if not all(context.sound(("instances", member), key) for member in (name, first)):
            continue
        mine, its = (getattr(config.instances[member], key) for member in (name, first))
        if _differ(mine, its):
            problem = f"it differs from that of {first}, in the same group"
            cure = f"make {key} the same in all members of the group"
            context.fault(("instances", name, key), problem, cure)


def _differ(mine: Any, its: Any) -> bool:
    """``100`` and ``{lb1: 100, lb2: 100}`` are the same on every node that the file names."""
    nodes = {node for value in (mine, its) if isinstance(value, dict) for node in value}
    if not nodes:
        return bool(mine != its)

    def on(value: Any, node: str) -> Any:
        return value.get(node) if isinstance(value, dict) else value

    return any(on(mine, node) != on(its, node) for node in nodes)


# --- the tracks of one unit -------------------------------------------------------------------


def _unit(
    owners: Sequence[Path],
    members: Sequence[Draft],
    tracks: Tracks,
    config: Config,
    context: Context,
) -> None:
    entries = [entry for owner in dict.fromkeys(owners) for entry in tracks.get(owner, ())]
    _no_contradiction(entries, context)
    for entry in entries:
        if _moves_priority(entry.track, config):
            _weight_counts(entry, members, context)
        _not_its_own(entry, members, context)


def _no_contradiction(entries: Sequence[DraftTrack], context: Context) -> None:
    first: dict[tuple[TrackKind, str], DraftTrack] = {}
    for entry in entries:
        other = first.setdefault((entry.track.kind, entry.track.name), entry)
        if other.track != entry.track:
            line = context.line(other.path)
            owner = other.path[1]
            problem = f"{entry.track.label} is tracked in another way in line {line} ({owner})"
            cure = "it counts once: write weight, reverse and debounce alike, or remove one entry"
            context.fault(entry.path, problem, cure)


def _moves_priority(track: Track, config: Config) -> bool:
    check = config.checks.get(track.name) if track.kind is TrackKind.CHECK else None
    return track.weight is not None or (check is not None and check.number)


def _weight_counts(entry: DraftTrack, members: Sequence[Draft], context: Context) -> None:
    if any(item.priority == OWNER_PRIORITY for item in members):
        problem = "it never counts: the priority of the address owner (255) does not change"
        cure = "leave the weight out, then a failure is FAULT; or take a priority of 1 to 254"
        context.warn(entry.path, problem, cure)
    elif any(context.sound(item.path, "preempt") and not item.entry.preempt for item in members):
        problem = "with preempt: false no backup takes over from a live master, whatever it weighs"
        cure = "leave the weight out, then a failure is FAULT and mastership moves"
        context.warn(entry.path, problem, cure)


def _not_its_own(entry: DraftTrack, members: Sequence[Draft], context: Context) -> None:
    if entry.track.kind is not TrackKind.INTERFACE:
        return
    for item in members:
        if item.interface == entry.track.name:
            problem = f"{entry.track.name} is {item.name}'s own interface: its loss is FAULT anyway"
            context.warn(entry.path, problem, "remove it from track")


def _known_interface(entry: DraftTrack, context: Context) -> None:
    facts, track = context.facts, entry.track
    if facts is None or track.kind is not TrackKind.INTERFACE or facts.link(track.name):
        return
    there = ", ".join(sorted(link.name for link in facts.links)) or "none"
    cure = f"it counts as down until it appears; there is {there}"
    context.warn((*entry.path, "interface"), f"this host has no interface {track.name} now", cure)
