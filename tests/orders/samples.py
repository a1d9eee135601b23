"""Units for the tests of commands: configurations and snapshots that fit each other."""

from __future__ import annotations

from dataclasses import replace

from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    ClaimState,
    Family,
    InstanceConfig,
    Instant,
    LeaseState,
    NodeConfig,
    Reason,
    State,
)
from vipd.snapshots import InstanceSnapshot, MasterSnapshot, Snapshot

NOW_NS = 1_000 * SECOND_NS
MASTER_DOWN_NS = 3_414 * MILLISECOND_NS
PEER = MasterSnapshot("", "192.0.2.12", 100)

WEB = InstanceConfig(
    name="web",
    interface="eth0",
    vrid=51,
    version=3,
    family=Family.IPV4,
    priority=150,
    advert_interval_ns=SECOND_NS,
    vips=(),
    address_lifetime_s=4,
)
API = replace(WEB, name="api", interface="eth1", vrid=52)
WEB6 = replace(WEB, name="web6", family=Family.IPV6)
OWNER = replace(WEB, name="own", vrid=53, priority=255)


def shot(
    config: InstanceConfig,
    state: State = State.MASTER,
    *,
    unit: str = "",
    since_ns: Instant = NOW_NS - SECOND_NS,
    master: MasterSnapshot | None = None,
    heard_ns: Instant | None = None,
) -> InstanceSnapshot:
    own = MasterSnapshot("lb1", "192.0.2.11", config.priority)
    return InstanceSnapshot(
        name=config.name,
        interface=config.interface,
        vrid=config.vrid,
        version=config.version,
        state=state,
        since_ns=since_ns,
        reason=Reason.STARTUP,
        detail="",
        faults=(),
        priority_base=config.priority,
        priority_effective=config.priority,
        contributions=(),
        master=own if state is State.MASTER else master,
        source="192.0.2.11" if config.family is Family.IPV4 else "fe80::11",
        vips=(),
        lease=LeaseState.NONE,
        claim=ClaimState.ABSENT,
        deadline_ns=None,
        deadline_means="",
        master_down_interval_ns=MASTER_DOWN_NS,
        takeover_floor_ns=3 * SECOND_NS,
        skew_ns=414 * MILLISECOND_NS,
        learned_interval_ns=SECOND_NS,
        last_advert_heard_ns=heard_ns,
        counters={},
        discarded={},
        unit=unit or config.name,
    )


def node(*configs: InstanceConfig) -> NodeConfig:
    return NodeConfig("lb1", configs)


def snapshot(*shots: InstanceSnapshot, now_ns: Instant = NOW_NS) -> Snapshot:
    return Snapshot(now_ns, "lb1", 1, shots, {})
