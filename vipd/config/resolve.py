"""The file, which serves all hosts -> what this node does.

Two steps, because cross checks stand between them: ``draft`` picks this node's values and leaves
None where a value is damaged or missing, ``finish`` builds the frozen values that the engine gets.
Tracks come from tracking.py; checks and hooks, which the engine never sees, from health.py and
hooks.py.

Decided here: the family of a router is that of its first advertised VIP (RFC 9568 §5.2.9: one
router never mixes them); VIPs of the other family ride along and are not advertised. A VIP stands
on its instance's interface unless it names another. ``address_lifetime: auto`` is max(2 s, whole
seconds above the peers' takeover time): a backup takes over after 3 intervals + skew; skew is below
1 interval in version 3 and below 1 s in version 2.
"""

from __future__ import annotations

import stat
from pathlib import Path as FilePath

from vipd.config.context import Context, of_node
from vipd.config.drafts import Draft, DraftVip
from vipd.config.schema import Auth, Config, Instance
from vipd.config.tracking import Tracks
from vipd.config.yamltree import Path
from vipd.model import (
    SECOND_NS,
    ChecksumForm,
    GroupConfig,
    InstanceConfig,
    NodeConfig,
    Track,
    Vip,
    family_of,
)

SHORTEST_LIFETIME_S = 2
SECRET_BYTES = 8


def takeover_ns(version: int, advert_interval_ns: int) -> int:
    """The longest time after which a backup, whatever its priority, replaces a silent master."""
    if version == 2:
        return 3 * advert_interval_ns + SECOND_NS
    return 4 * advert_interval_ns


def auto_lifetime_s(version: int, advert_interval_ns: int) -> int:
    takeover_s = -(-takeover_ns(version, advert_interval_ns) // SECOND_NS)
    return max(SHORTEST_LIFETIME_S, takeover_s)


def draft(config: Config, context: Context) -> tuple[Draft, ...]:
    """This node's values of every instance; a mapping without this node is a fault."""
    return tuple(_draft_instance(name, entry, context) for name, entry in config.instances.items())


def _draft_instance(name: str, entry: Instance, context: Context) -> Draft:
    path: Path = ("instances", name)
    interface = of_node(entry.interface, (*path, "interface"), context)
    vips = tuple(
        DraftVip(
            (*path, "vips", index),
            vip.address[0],
            vip.address[1],
            interface
            if vip.interface is None
            else of_node(vip.interface, (*path, "vips", index, "interface"), context),
            vip.advertise,
        )
        for index, vip in enumerate(entry.vips)
    )
    first = next((vip for vip in vips if vip.advertise), None)
    peers = of_node(entry.unicast_peers, (*path, "unicast_peers"), context)
    return Draft(
        name=name,
        entry=entry,
        interface=interface,
        priority=of_node(entry.priority, (*path, "priority"), context),
        source=of_node(entry.source, (*path, "source"), context) if entry.source else None,
        unicast_peers=None if peers is None else tuple(peers),
        vips=vips,
        family=family_of(first.address) if first and context.sound(path, "vips") else None,
    )


def finish(
    config: Config, drafts: tuple[Draft, ...], tracks: Tracks, context: Context
) -> NodeConfig:
    """The values for the engine; call it only when no fault was found."""
    instances = tuple(
        _finish_instance(config, item, _counted(tracks, item.path), context) for item in drafts
    )
    groups = tuple(
        GroupConfig(name, tuple(entry.instances), _counted(tracks, ("groups", name)))
        for name, entry in config.groups.items()
    )
    return NodeConfig(node=context.node, instances=instances, groups=groups)


def _counted(tracks: Tracks, owner: Path) -> tuple[Track, ...]:
    """Equal entries count once."""
    return tuple(dict.fromkeys(item.track for item in tracks.get(owner, ())))


def _finish_instance(
    config: Config, item: Draft, track: tuple[Track, ...], context: Context
) -> InstanceConfig:
    entry = item.entry
    if item.interface is None or item.priority is None or item.family is None:
        raise ValueError(f"instance {item.name} has faults and cannot be finished")
    advertised = {vip.path for vip in item.advertised}
    lifetime_ns = config.address_lifetime
    return InstanceConfig(
        name=item.name,
        interface=item.interface,
        vrid=entry.vrid,
        version=entry.version,
        family=item.family,
        priority=item.priority,
        advert_interval_ns=entry.advert_interval,
        vips=tuple(
            Vip(vip.address, vip.prefix, vip.interface or item.interface, vip.path in advertised)
            for vip in item.vips
        ),
        address_lifetime_s=(
            auto_lifetime_s(entry.version, entry.advert_interval)
            if lifetime_ns is None
            else lifetime_ns // SECOND_NS
        ),
        preempt=entry.preempt,
        preempt_delay_ns=entry.preempt_delay,
        source=item.source,
        unicast_peers=item.unicast_peers or (),
        auth_secret=_auth_secret(item.name, context),
        checksum=ChecksumForm(entry.checksum),
        strict=entry.strict,
        announce_count=entry.announce.count,
        announce_refresh_ns=entry.announce.refresh,
        track=track,
    )


def _auth_secret(name: str, context: Context) -> bytes | None:
    """The eight bytes of the packet: cut or padded with zeros, as keepalived does."""
    secret = context.secrets.get(name)
    return None if secret is None else secret[:SECRET_BYTES].ljust(SECRET_BYTES, b"\0")


def secret_bytes(auth: Auth, folder: FilePath) -> bytes:
    """The secret as configured. Raises OSError when its file cannot be read."""
    if auth.secret is not None:
        return auth.secret.get_secret_value().encode()
    with (folder / (auth.secret_file or "")).open("rb") as file:
        return file.readline(4096).rstrip(b"\r\n")


def readable_by_all(path: FilePath) -> bool:
    """True when any user of the host may read the file. Raises OSError."""
    return bool(path.stat().st_mode & stat.S_IROTH)
