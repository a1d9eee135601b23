"""What status and explain show of one instance: plain values, made without touching anything."""

from __future__ import annotations

from vipd.core.host import HostView
from vipd.core.instance import Instance
from vipd.core.timing import takeover_floor_ns
from vipd.model import InstanceSnapshot, MasterSnapshot, State, VipSnapshot, format_address

_DEADLINE_MEANS = {
    State.BACKUP: "takes over unless a master is heard",
    State.MASTER: "next advert",
}


def take(instance: Instance, host: HostView, node: str) -> InstanceSnapshot:
    """The instance as it is; ``node`` is this node's name."""
    config, election = instance.config, instance.election
    counters = dict(instance.counters.values)
    counters["addresses_restored"] = instance.claim.restored
    return InstanceSnapshot(
        name=config.name,
        interface=config.interface,
        vrid=config.vrid,
        version=config.version,
        state=election.state,
        since_ns=election.since,
        reason=election.reason,
        detail=election.detail,
        faults=tuple(f"{reason.value}: {text}" for reason, text in instance.faults.items()),
        priority_base=config.priority,
        priority_effective=config.priority,
        contributions=(),
        master=_master(instance, node),
        source="" if instance.source is None else format_address(instance.source),
        vips=tuple(VipSnapshot(str(vip), vip.interface, host.has(vip.key)) for vip in config.vips),
        lease=instance.lease.state,
        claim=instance.claim.state,
        deadline_ns=election.deadline,
        deadline_means=_DEADLINE_MEANS.get(election.state, ""),
        master_down_interval_ns=election.master_down_ns,
        takeover_floor_ns=takeover_floor_ns(config.advert_interval_ns),
        skew_ns=election.skew_ns,
        learned_interval_ns=election.learned_interval_ns,
        last_advert_heard_ns=election.last_heard,
        counters=counters,
        discarded=dict(instance.counters.discarded),
    )


def _master(instance: Instance, node: str) -> MasterSnapshot | None:
    if instance.election.state is State.MASTER:
        source = "" if instance.source is None else format_address(instance.source)
        return MasterSnapshot(node, source, instance.config.priority)
    known = instance.election.master
    if known is None:
        return None
    return MasterSnapshot("", format_address(known.source), known.priority)
