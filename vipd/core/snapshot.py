"""What status and explain show of one instance: plain values, made without touching anything."""

from __future__ import annotations

from vipd.core.host import HostView
from vipd.core.router import Router
from vipd.core.timing import takeover_floor_ns
from vipd.core.unit import Unit
from vipd.model import InstanceConfig, State, format_address
from vipd.snapshots import InstanceSnapshot, MasterSnapshot, VipSnapshot

_DEADLINE_MEANS = {
    State.BACKUP: "takes over unless a master is heard",
    State.MASTER: "next advert",
}


def take(unit: Unit, member: InstanceConfig, host: HostView, node: str) -> InstanceSnapshot:
    """One member of ``unit`` as it is; ``node`` is this node's name."""
    election, router = unit.election, unit.routers[member.name]
    # What belongs to the unit (transitions, announcements) is counted there, for all members.
    counters = {
        name: count + unit.counters.values.get(name, 0)
        for name, count in router.counters.values.items()
    }
    counters["addresses_restored"] = unit.claim.restored
    return InstanceSnapshot(
        name=member.name,
        interface=member.interface,
        vrid=member.vrid,
        version=member.version,
        state=election.state,
        since_ns=election.since,
        reason=election.reason,
        detail=election.detail,
        faults=tuple(f"{reason.value}: {text}" for reason, text in unit.faults.items()),
        priority_base=unit.config.priority,
        priority_effective=election.standing.priority,
        contributions=unit.judgement.contributions,
        master=_master(unit, router, node),
        source="" if router.source is None else format_address(router.source),
        vips=tuple(VipSnapshot(str(vip), vip.interface, host.has(vip.key)) for vip in member.vips),
        lease=unit.lease.state,
        claim=unit.claim.state,
        deadline_ns=election.deadline,
        deadline_means=_deadline_means(unit),
        master_down_interval_ns=election.master_down_ns,
        takeover_floor_ns=takeover_floor_ns(member.advert_interval_ns),
        skew_ns=election.skew_ns,
        learned_interval_ns=election.learned_interval_ns,
        last_advert_heard_ns=router.last_heard,
        counters=counters,
        discarded=dict(router.counters.discarded),
        unit=unit.config.name,
        tracks=unit.judgement.tracks,
        held=unit.held,
        preempt=member.preempt,
        term=0 if unit.coop is None else unit.coop.known_term,
        handing_to="" if unit.coop is None else unit.coop.handing_to,
        asks_at_ns=None if unit.coop is None else unit.coop.preemption.asks_at,
        refused_for="" if unit.coop is None else unit.coop.preemption.refused_for,
    )


def _deadline_means(unit: Unit) -> str:
    if unit.election.state is State.BACKUP and unit.election.standing.barred:
        return "looks for a master again; in maintenance it takes over from nobody"
    if unit.election.state is State.BACKUP and unit.coop is not None and unit.coop.meaning:
        return unit.coop.meaning
    return _DEADLINE_MEANS.get(unit.election.state, "")


def _master(unit: Unit, router: Router, node: str) -> MasterSnapshot | None:
    """The master as heard on this very member, where it was."""
    election = unit.election
    if election.state is State.MASTER:
        source = "" if router.source is None else format_address(router.source)
        return MasterSnapshot(node, source, election.standing.priority)
    known = election.master
    if known is None:
        return None
    heard = known.source if router.heard_master is None else router.heard_master
    peer = None if unit.coop is None else unit.coop.master()
    if peer is not None:
        there = format_address(peer.sources.get(router.config.name, heard))
        return MasterSnapshot(peer.name, there, peer.units[unit.config.name].priority)
    return MasterSnapshot("", format_address(heard), known.priority)
