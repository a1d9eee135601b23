"""What this node knows of its cluster: the view that status shows, and what is wrong with it.

Alarms (names are a contract). Each is a level: it stands while it is true, from the instant at
which it was first found, and is found when somebody looks, which the supervisor does each second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vipd.core.cluster import REFUSED_LIMIT, REFUSED_NS, Cluster
from vipd.core.cooperation import Cooperation
from vipd.core.roster import Peer
from vipd.members import UnitReport
from vipd.model import MILLISECOND_NS, SECOND_NS, Alarm, Duration, Instant, State, format_address
from vipd.snapshots import (
    ClusterSnapshot,
    MemberSnapshot,
    PathSnapshot,
    PinSnapshot,
    ReportSnapshot,
)

PATH_NS = 3 * SECOND_NS
"""A path is down after so long, or after three timeouts."""

TWIN_NS = 60 * SECOND_NS
OLD_KEY_NS = 3 * SECOND_NS


class ClusterView:
    """Remembers since when each alarm stands."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], Instant] = {}

    def alarms(self, cluster: Cluster, now: Instant) -> tuple[Alarm, ...]:
        found: dict[tuple[str, str], tuple[str, Instant]] = {}
        for name, subject, detail, begin in _found(cluster, now):
            found[name, subject] = (detail, self._since.get((name, subject), begin))
        self._since = {key: since for key, (_, since) in found.items()}
        return tuple(
            Alarm(name, since, subject, detail)
            for (name, subject), (detail, since) in found.items()
        )


_Found = Iterator[tuple[str, str, str, Instant]]


def _found(cluster: Cluster, now: Instant) -> _Found:
    """(name, subject, detail, beginning) of all that is wrong."""
    for peer in cluster.roster.peers.values():
        yield from _of_member(cluster, peer, now)
    for name, at in cluster.twins.items():
        if now - at < TWIN_NS:
            yield "duplicate-node", name, f"two hosts say that they are {name}", at
    for reason, seen in cluster.refused.items():
        lately = [(at, source) for at, source in seen if now - at < REFUSED_NS]
        if len(lately) >= REFUSED_LIMIT:
            sources = ", ".join(sorted({source for _, source in lately}))
            yield "channel-refused", reason, f"datagrams from {sources}", lately[0][0]
    for coop in cluster.cooperations():
        yield from _of_unit(cluster, coop, now)


def _of_member(cluster: Cluster, peer: Peer, now: Instant) -> _Found:
    limit_ns = _path_limit_ns(cluster)
    if not peer.left:
        for address, heard in peer.paths.items():
            silent_since = peer.known_since if heard is None else heard
            if now - silent_since >= limit_ns:
                silent = "never heard" if heard is None else f"unheard for {_s(now - heard)}"
                subject = f"{peer.name} {format_address(address)}"
                yield "path-down", subject, silent, silent_since + limit_ns
    if peer.alive and peer.configuration != cluster.config.digest:
        detail = f"its configuration differs from that of {cluster.own}"
        yield "drift", peer.name, detail, now
    if peer.old_key_at is not None and now - peer.old_key_at < OLD_KEY_NS:
        yield "key-rotation-pending", peer.name, "it signs with the second key", now


def _of_unit(cluster: Cluster, coop: Cooperation, now: Instant) -> _Found:
    roster, watch = cluster.roster, coop.watch
    if watch.hears_strangers(now):
        source = format_address(watch.foreign_source)
        yield (
            "foreign-master",
            coop.name,
            f"{source} is no member and speaks VRRP",
            (watch.foreign_since),
        )
    if coop.state is State.MASTER and not roster.fit_for(coop.name):
        yield "no-standby", coop.name, "no other node could take over now", now
    master = roster.master_of(coop.name, coop.term)
    missing = master is not None and master.alive and coop.state is not State.MASTER
    if master is not None and missing and coop.misses_adverts_of(master, now):
        detail = f"adverts of {master.name} are not heard here, its heartbeats are"
        begin = coop.unheard_since(master, now) + coop.adverts_limit_ns
        yield "adverts-lost", coop.name, detail, begin
    if coop.state is State.MASTER:
        for peer in coop.deaf_peers(now):
            detail = f"{peer} hears our heartbeats, and not our adverts"
            yield "adverts-lost", coop.name, detail, now


def _path_limit_ns(cluster: Cluster) -> Duration:
    return max(PATH_NS, 3 * cluster.config.heartbeat_timeout_ns)


def _s(duration_ns: Duration) -> str:
    return f"{duration_ns // MILLISECOND_NS / 1000:.0f} s"


# --- the view -------------------------------------------------------------------------------------


def cluster_snapshot(cluster: Cluster, now: Instant) -> ClusterSnapshot:
    own = MemberSnapshot(
        name=cluster.own,
        alive=True,
        last_heard_ns=now,
        is_self=True,
        software=cluster.software,
        incarnation=cluster.owner.incarnation,
        maintenance=cluster.maintenance,
        units=tuple(_report(coop.report(now)) for coop in cluster.cooperations()),
    )
    since = {
        (coop.name, node): at
        for coop in cluster.cooperations()
        for node, at in coop.masters_since.items()
    }
    peers = {peer.name: _member(cluster, peer, since) for peer in cluster.roster.peers.values()}
    witnesses = tuple(
        MemberSnapshot(each.name, alive=False, last_heard_ns=None, is_witness=True)
        for each in cluster.config.witnesses
    )
    everybody = {own.name: own, **peers}
    nodes = tuple(everybody[each.name] for each in cluster.config.nodes if each.name in everybody)
    pins = tuple(
        PinSnapshot(unit, pin.node, pin.version, pin.until)
        for unit, pin in cluster.pins.known().items()
        if pin.node
    )
    return ClusterSnapshot(cluster.config.name, (*nodes, *witnesses), dict(cluster.discarded), pins)


def _member(
    cluster: Cluster, peer: Peer, since: Mapping[tuple[str, str], Instant]
) -> MemberSnapshot:
    return MemberSnapshot(
        name=peer.name,
        alive=peer.alive,
        last_heard_ns=peer.last_heard,
        left=peer.left,
        software=peer.software,
        wire_version=peer.version,
        incarnation=0 if peer.owner is None else peer.owner.incarnation,
        maintenance=peer.maintenance,
        drifted=peer.alive and peer.configuration != cluster.config.digest,
        paths=tuple(
            PathSnapshot(format_address(address), heard) for address, heard in peer.paths.items()
        ),
        units=tuple(
            _report(report, since.get((report.unit, peer.name))) for report in peer.units.values()
        ),
    )


def _report(report: UnitReport, since: Instant | None = None) -> ReportSnapshot:
    return ReportSnapshot(
        unit=report.unit,
        state=report.state,
        reason="" if report.reason is None else report.reason.value,
        detail=report.detail,
        priority=report.priority,
        priority_base=report.priority_base,
        term=report.term,
        master=report.master,
        since_ns=since,
    )
