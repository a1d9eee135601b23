"""The configuration digest: eight bytes that are equal where nodes are configured alike.

Every heartbeat carries it, and two nodes whose digests differ are an alarm (drift). So it covers
what must be equal on all nodes, and nothing that may well differ:

* *In*: the cluster's name, port, intervals, nodes and witnesses with their addresses (in order: the
  first address of a node breaks ties); of every instance its name, VRID, version, family, advert
  interval, VIPs and whether each is advertised, authentication, preempt, preempt_delay and
  checksum; every group with its members.
* *Not in*: what belongs to a host (priority, interfaces, source, peers, directories), what it does
  for itself (checks, tracks, hooks, announcements, logs), and the key, which differs for a while
  whenever it is replaced.
* *The prefix of a VIP is not in.* It is only how a host writes the address beside its own: a host
  whose interface has the subnet may say /24 where another, which routes it, says /32, and either
  holds the same VIP. ``vipd check --against`` mentions it.

Values count as they are meant, not as they are written: a default equals the same value written
down, ``auto`` what it stands for, and the order of nodes, instances and VIPs does not matter. So
one file for all hosts and a file for each host give the same digest.

The digest travels unencrypted. It gives nothing away that the adverts, which carry the VRRPv2
password in clear text, do not.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from vipd.members import CONFIGURATION_DIGEST_LENGTH
from vipd.model import ClusterConfig, GroupConfig, InstanceConfig, MemberConfig, NodeConfig

_FINGERPRINT_DIGITS = 8


def fingerprint(key: bytes) -> str:
    """A short name for a key, by which people can compare it; it gives nothing of it away."""
    return hashlib.sha256(key).hexdigest()[:_FINGERPRINT_DIGITS]


def configuration_digest(config: NodeConfig, cluster: ClusterConfig) -> bytes:
    """Of ``config`` in ``cluster``, whose own digest does not count."""
    form = {
        "cluster": _cluster(cluster),
        "instances": {each.name: _instance(each) for each in config.instances},
        "groups": {each.name: _group(each) for each in config.groups},
    }
    text = json.dumps(form, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()[:CONFIGURATION_DIGEST_LENGTH]


def _cluster(cluster: ClusterConfig) -> dict[str, Any]:
    return {
        "name": cluster.name,
        "port": cluster.port,
        "heartbeat_interval": cluster.heartbeat_interval_ns,
        "heartbeat_timeout": cluster.heartbeat_timeout_ns,
        "nodes": _members(cluster.nodes),
        "witnesses": _members(cluster.witnesses),
    }


def _members(members: tuple[MemberConfig, ...]) -> dict[str, list[str]]:
    return {each.name: [address.hex() for address in each.addresses] for each in members}


def _instance(instance: InstanceConfig) -> dict[str, Any]:
    secret = instance.auth_secret
    return {
        "vrid": instance.vrid,
        "version": instance.version,
        "family": instance.family.value,
        "advert_interval": instance.advert_interval_ns,
        "vips": sorted((vip.address.hex(), vip.advertise) for vip in instance.vips),
        "auth": None if secret is None else hashlib.sha256(secret).hexdigest(),
        "preempt": instance.preempt,
        "preempt_delay": instance.preempt_delay_ns,
        "checksum": instance.checksum.value,
    }


def _group(group: GroupConfig) -> list[str]:
    return sorted(group.instances)
