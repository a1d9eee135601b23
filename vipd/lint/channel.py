"""What the nodes' ``cluster`` sections say differently: then the channel between them is dead, or
they do not mean the same by what they say on it.

All of it are warnings. Nodes that do not hear each other on the channel still hear each other's
adverts, so there is one master all the same. But handovers and failures take the times of the RFC,
and alarms stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vipd.config.types import format_duration
from vipd.config.yamltree import Path as KeyPath
from vipd.lint.findings import Finding, Severity
from vipd.lint.members import Cluster, Member
from vipd.model import ClusterConfig, MemberConfig, format_address

DEAF = "they do not hear each other on the channel"
WARNING = Severity.WARNING
_PATH: KeyPath = ("cluster",)


@dataclass(frozen=True, slots=True)
class _Aspect:
    """One value that must be the same; ``meaning`` says what a difference does."""

    name: str
    key: str
    text: Callable[[ClusterConfig], str]
    meaning: str


_ASPECTS = (
    _Aspect("cluster-name-differs", "name", lambda config: config.name, DEAF),
    _Aspect("cluster-port-differs", "port", lambda config: str(config.port), DEAF),
    _Aspect(
        "heartbeat-interval-differs",
        "heartbeat_interval",
        lambda config: format_duration(config.heartbeat_interval_ns),
        "each expects the other's heartbeats at its own pace",
    ),
    _Aspect(
        "heartbeat-timeout-differs",
        "heartbeat_timeout",
        lambda config: format_duration(config.heartbeat_timeout_ns),
        "how soon a dead master is replaced depends on who is left",
    ),
)


def channel_mismatches(cluster: Cluster) -> Iterator[Finding]:
    """Every other member is compared with the first one that has a cluster section."""
    having = [(each, each.config.cluster) for each in cluster.members]
    first, theirs = next(((each, its) for each, its in having if its), (None, None))
    if first is None or theirs is None:
        return
    for member, mine in having:
        if mine is None:
            problem = (
                f"{member.name} is in plain mode, {first.name} in cluster mode: {DEAF}, and a "
                "planned handover between them takes the times of VRRP"
            )
            cure = f"write the same cluster section on all nodes ({_where(first, _PATH)})"
            yield _finding(WARNING, "cluster-missing", member, _PATH, problem, cure)
        elif member is not first:
            yield from _values(member, mine, first, theirs)
            yield from _members("nodes", member, mine.nodes, first, theirs.nodes)
            yield from _members("witnesses", member, mine.witnesses, first, theirs.witnesses)
            yield from _keys(member, first)


def _values(
    member: Member, mine: ClusterConfig, first: Member, theirs: ClusterConfig
) -> Iterator[Finding]:
    for aspect in _ASPECTS:
        here, there = aspect.text(mine), aspect.text(theirs)
        if here != there:
            path = (*_PATH, aspect.key)
            problem = f"{here} on {member.name}, {there} on {first.name}: {aspect.meaning}"
            cure = f"write the same on all nodes ({_where(first, path)})"
            yield _finding(WARNING, aspect.name, member, path, problem, cure)


def _members(
    section: str,
    member: Member,
    mine: tuple[MemberConfig, ...],
    first: Member,
    theirs: tuple[MemberConfig, ...],
) -> Iterator[Finding]:
    here, there = ({each.name: _text(each) for each in some} for some in (mine, theirs))
    for name in dict.fromkeys((*there, *here)):
        if here.get(name) == there.get(name):
            continue
        path = (*_PATH, section, name)
        problem = (
            f"{name}: {here.get(name, 'not there')} on {member.name}, "
            f"{there.get(name, 'not there')} on {first.name}: what comes from another address than "
            "the listed ones is discarded"
        )
        cure = f"write the same {section} on all nodes ({_where(first, path)})"
        yield _finding(WARNING, "cluster-members-differ", member, path, problem, cure)


def _text(member: MemberConfig) -> str:
    return ", ".join(map(format_address, member.addresses))


def _keys(member: Member, first: Member) -> Iterator[Finding]:
    """The first key signs, both verify; files that cannot be read here are not compared."""
    if not member.keys or not first.keys:
        return
    for sender, receiver in ((member, first), (first, member)):
        if sender.keys[0] not in receiver.keys:
            problem = (
                f"{sender.name} signs with key {sender.keys[0]}, and {receiver.name} has "
                f"{' and '.join(receiver.keys)}: {receiver.name} does not hear {sender.name} on "
                "the channel"
            )
            cure = "copy the same key file to all nodes; replace keys by the steps of vipd keygen"
            yield _finding(
                WARNING, "cluster-keys-differ", receiver, (*_PATH, "key_file"), problem, cure
            )


def _finding(
    severity: Severity, name: str, member: Member, path: KeyPath, problem: str, cure: str
) -> Finding:
    return Finding(severity, name, member.fault(path, problem, cure))


def _where(member: Member, path: KeyPath) -> str:
    place = member.fault(path, "", "")
    return f"{place.file}:{place.line}"
