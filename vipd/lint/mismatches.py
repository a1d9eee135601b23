"""What the nodes must agree on and do not: found by comparing, each with both values.

Why a difference matters decides its severity. Where two nodes do not hear each other as masters of
one router (VRID, version, authentication, in version 2 interval and addresses: RFC 3768 §7.1),
both become master: an error. A VIP that only some nodes have is nobody's after a failover: an
error, too. The rest is hardly meant: a warning. Secrets are compared and never shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from vipd.config.types import format_duration
from vipd.config.yamltree import Path as KeyPath
from vipd.lint.findings import Finding, Severity
from vipd.lint.layout import Port, known_source
from vipd.lint.members import Cluster, Member
from vipd.model import (
    ChecksumForm,
    Family,
    InstanceConfig,
    Track,
    Vip,
    format_address,
)

Pair: TypeAlias = tuple[Member, InstanceConfig]
ERROR, WARNING = Severity.ERROR, Severity.WARNING


def mismatches(cluster: Cluster, network: dict[Port, int]) -> Iterator[Finding]:
    for name in cluster.instances():
        having = cluster.having(name)
        yield from _same_name(name, having)
        yield from _everywhere(name, having, cluster)
        for aspect in ASPECTS:
            yield from _compare(aspect, name, having)
        yield from _vips(name, having)
        yield from _checksum(name, having)
        yield from _one_owner(name, having)
        yield from _peers(name, having, cluster)
        yield from _tracks(name, having)
    yield from _vrid_twice(cluster, network)
    yield from _groups(cluster)


# --- one value each ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Aspect:
    """One key. ``value`` is compared, ``text`` shown; ``meaning`` says what a difference does."""

    name: str
    key: str
    value: Callable[[InstanceConfig], object]
    text: Callable[[InstanceConfig], str]
    severity: Callable[[InstanceConfig], Severity]
    meaning: str


def _always(severity: Severity) -> Callable[[InstanceConfig], Severity]:
    return lambda _config: severity


def _as_version_demands(config: InstanceConfig) -> Severity:
    """Version 2 discards what differs, version 3 takes it over from the master."""
    return ERROR if config.version == 2 else WARNING


def _secret_text(config: InstanceConfig) -> str:
    return "no password" if config.auth_secret is None else "a password (not shown)"


def _mode(config: InstanceConfig) -> str:
    return "unicast" if config.unicast_peers else "multicast"


ASPECTS = (
    Aspect(
        "vrid-differs",
        "vrid",
        lambda config: config.vrid,
        lambda config: str(config.vrid),
        _always(ERROR),
        "each is a router of its own: several masters",
    ),
    Aspect(
        "version-differs",
        "version",
        lambda config: config.version,
        lambda config: str(config.version),
        _always(ERROR),
        "they discard each other's adverts: several masters",
    ),
    Aspect(
        "family-differs",
        "vips",
        lambda config: config.family,
        lambda config: f"IPv{config.family.value} first",
        _always(ERROR),
        "the first advertised VIP decides the family, so they do not hear each other: several "
        "masters",
    ),
    Aspect(
        "auth-differs",
        "auth",
        lambda config: config.auth_secret,
        _secret_text,
        _always(ERROR),
        "they discard each other's adverts: several masters",
    ),
    Aspect(
        "advert-interval-differs",
        "advert_interval",
        lambda config: config.advert_interval_ns,
        lambda config: format_duration(config.advert_interval_ns),
        _as_version_demands,
        "version 2 discards what differs; in version 3 the failover time depends on who is master",
    ),
    Aspect(
        "unicast-mode-differs",
        "unicast_peers",
        _mode,
        _mode,
        _always(ERROR),
        "they do not hear each other: several masters",
    ),
    Aspect(
        "preempt-differs",
        "preempt",
        lambda config: config.preempt,
        lambda config: str(config.preempt).lower(),
        _always(WARNING),
        "who comes back decides whether mastership does",
    ),
)


def _compare(aspect: Aspect, name: str, having: list[Pair]) -> Iterator[Finding]:
    first, first_config = having[0]
    for member, config in having[1:]:
        if aspect.value(config) == aspect.value(first_config):
            continue
        mine, its = aspect.text(config), aspect.text(first_config)
        if mine == its:
            said = f"the values on {member.name} and {first.name} differ"
        else:
            said = f"{mine} on {member.name}, {its} on {first.name}"
        severities = (aspect.severity(config), aspect.severity(first_config))
        severity = ERROR if ERROR in severities else WARNING
        yield _finding(
            severity,
            aspect.name,
            member,
            ("instances", name, aspect.key),
            f"{said}; {aspect.meaning}",
            f"write the same on all nodes ({_where(first, ('instances', name, aspect.key))})",
        )


def _finding(
    severity: Severity, name: str, member: Member, path: KeyPath, problem: str, cure: str
) -> Finding:
    return Finding(severity, name, member.fault(path, problem, cure))


def _where(member: Member, path: KeyPath) -> str:
    place = member.fault(path, "", "")
    return f"{place.file}:{place.line}"


# --- what takes more than one value -----------------------------------------------------------


def _same_name(name: str, having: list[Pair]) -> Iterator[Finding]:
    for member, _config in having:
        own = member.own_name(name)
        if own != name:
            problem = f"the same router is called {name} on {having[0][0].name}"
            cure = "one name on all nodes makes status and logs comparable"
            yield _finding(WARNING, "name-differs", member, ("instances", name), problem, cure)


def _everywhere(name: str, having: list[Pair], cluster: Cluster) -> Iterator[Finding]:
    present = {member.name for member, _config in having}
    absent = [member.name for member in cluster.members if member.name not in present]
    if absent:
        problem = f"{', '.join(absent)} cannot take it over: there is no such instance there"
        cure = "add it there, unless that is meant"
        yield _finding(
            WARNING, "instance-missing", having[0][0], ("instances", name), problem, cure
        )


def _vips(name: str, having: list[Pair]) -> Iterator[Finding]:
    first, first_config = having[0]
    for member, config in having[1:]:
        path = ("instances", name, "vips")
        mine = {vip.address: vip for vip in config.vips}
        its = {vip.address: vip for vip in first_config.vips}
        only = [
            f"{_texts(found)} only on {who.name}"
            for who, found in ((member, mine.keys() - its), (first, its.keys() - mine))
            if found
        ]
        if only:
            problem = f"{'; '.join(only)}: when the other is master, nobody has it"
            if config.version == 2:
                problem += "; version 2 discards such adverts: several masters"
            cure = f"list the same VIPs on all nodes ({_where(first, path)})"
            yield _finding(ERROR, "vips-differ", member, path, problem, cure)
        elif set(config.advertised) != set(first_config.advertised):
            problem = (
                f"{_listed(config)} advertised on {member.name}, "
                f"{_listed(first_config)} on {first.name}"
            )
            cure = f"advertise the same VIPs on all nodes ({_where(first, path)})"
            severity = _as_version_demands(config)
            yield _finding(severity, "advertised-list-differs", member, path, problem, cure)
        yield from _prefixes(name, member, first, mine, its)


def _prefixes(
    name: str, member: Member, first: Member, mine: dict[bytes, Vip], its: dict[bytes, Vip]
) -> Iterator[Finding]:
    for address, vip in mine.items():
        other = its.get(address)
        if other is not None and other.prefix != vip.prefix:
            problem = f"{vip} on {member.name}, {other} on {first.name}: the prefixes differ"
            cure = "write the same prefix on all nodes"
            path = ("instances", name, "vips")
            yield _finding(WARNING, "prefix-differs", member, path, problem, cure)


def _texts(addresses: set[bytes]) -> str:
    return ", ".join(map(format_address, sorted(addresses)))


def _listed(config: InstanceConfig) -> str:
    return ", ".join(map(format_address, config.advertised)) or "none"


def _checksum(name: str, having: list[Pair]) -> Iterator[Finding]:
    fixed = [
        (member, config.checksum)
        for member, config in having
        if config.version == 3
        and config.family is Family.IPV4
        and config.checksum is not ChecksumForm.AUTO
    ]
    for member, form in fixed[1:]:
        if form is not fixed[0][1]:
            problem = (
                f"{form.value} on {member.name}, {fixed[0][1].value} on {fixed[0][0].name}: they "
                "discard each other's adverts: several masters"
            )
            path = ("instances", name, "checksum")
            yield _finding(ERROR, "checksum-differs", member, path, problem, "write auto on all")


def _one_owner(name: str, having: list[Pair]) -> Iterator[Finding]:
    owners = [member for member, config in having if config.is_owner]
    for member in owners[1:]:
        problem = f"{member.name} and {owners[0].name} both say that they own the VIPs (255)"
        cure = "255 belongs to the one host that has the addresses itself"
        path = ("instances", name, "priority")
        yield _finding(ERROR, "two-owners", member, path, problem, cure)


def _peers(name: str, having: list[Pair], cluster: Cluster) -> Iterator[Finding]:
    """Everybody must send to everybody's source."""
    if not all(config.unicast_peers for _member, config in having):
        return
    path = ("instances", name, "unicast_peers")
    for member, _config in having:
        source = known_source(cluster, member.name, name)
        others = [(other, each) for other, each in having if other is not member]
        if source is None:
            lists = "; ".join(f"{other.name} lists {_peer_text(each)}" for other, each in others)
            problem = f"no address of {member.name} is in the lists of all others: {lists}"
            cure = "list each node on all others, or write 'source' on each node"
            yield _finding(ERROR, "unicast-peers-differ", member, path, problem, cure)
            continue
        for other, each in others:
            if source not in each.unicast_peers:
                problem = (
                    f"{member.name} speaks from {format_address(source)}, and {other.name} lists "
                    f"{_peer_text(each)}: it hears and answers nothing from there: several masters"
                )
                cure = f"add {format_address(source)} ({_where(member, (*path[:2], 'source'))})"
                yield _finding(ERROR, "unicast-peers-differ", other, path, problem, cure)


def _peer_text(config: InstanceConfig) -> str:
    return ", ".join(map(format_address, config.unicast_peers))


def _tracks(name: str, having: list[Pair]) -> Iterator[Finding]:
    first, first_config = having[0]
    for member, config in having[1:]:
        mine = {track.label: track for track in config.track}
        its = {track.label: track for track in first_config.track}
        for label in dict.fromkeys((*its, *mine)):
            one, other = _track_text(mine.get(label)), _track_text(its.get(label))
            if one != other and not _renamed_interface(label, mine, its):
                problem = f"{label}: {one} on {member.name}, {other} on {first.name}"
                cure = "track the same on all nodes, unless they are meant to differ"
                path = ("instances", name, "track")
                yield _finding(WARNING, "track-differs", member, path, problem, cure)


def _renamed_interface(label: str, mine: dict[str, Track], its: dict[str, Track]) -> bool:
    """The same thing behind another interface name: one of the others fits."""
    present, absent = (mine, its) if label in mine else (its, mine)
    track = present[label]
    return label not in absent and any(
        other.kind is track.kind
        and other.label not in present
        and _track_text(other) == _track_text(track)
        for other in absent.values()
    )


def _track_text(track: Track | None) -> str:
    if track is None:
        return "not tracked"
    weight = "no weight" if track.weight is None else f"weight {track.weight}"
    return f"{weight}, reverse" if track.reverse else weight


# --- across instances -------------------------------------------------------------------------


def _vrid_twice(cluster: Cluster, network: dict[Port, int]) -> Iterator[Finding]:
    """RFC 9568 §1.7: a VRID is one router on a network. One file alone is judged by its loader."""
    users: dict[tuple[int, int, Family], tuple[Member, str]] = {}
    told: set[frozenset[str]] = set()
    for member in cluster.members:
        for config in member.config.instances:
            key = (network[member.name, config.interface], config.vrid, config.family)
            other, name = users.setdefault(key, (member, config.name))
            pair = frozenset((name, config.name))
            if name == config.name or pair in told:
                continue
            told.add(pair)
            problem = (
                f"VRID {config.vrid} is {config.name} on {member.name} and {name} on "
                f"{other.name}, on one network: they disturb each other"
            )
            path = ("instances", config.name, "vrid")
            cure = f"give one of them another VRID ({_where(other, ('instances', name, 'vrid'))})"
            yield _finding(ERROR, "vrid-used-twice", member, path, problem, cure)


def _groups(cluster: Cluster) -> Iterator[Finding]:
    first = cluster.members[0]
    for member in cluster.members[1:]:
        mine = {each.name: set(each.instances) for each in member.config.groups}
        its = {each.name: set(each.instances) for each in first.config.groups}
        for name in dict.fromkeys((*its, *mine)):
            if mine.get(name) == its.get(name):
                continue
            one, other = (
                ", ".join(sorted(group)) if group else "no such group"
                for group in (mine.get(name), its.get(name))
            )
            problem = (
                f"{one} on {member.name}, {other} on {first.name}: what moves as one there moves "
                "apart here"
            )
            path = ("groups", name) if name in mine else ("groups",)
            cure = "write the same group on all nodes"
            yield _finding(WARNING, "group-differs", member, path, problem, cure)
