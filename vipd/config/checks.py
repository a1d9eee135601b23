"""Rules between values of one virtual router or of all of them, for this node.

Each rule names the keys that it reads, and is left out for an instance in which one of them is
damaged: one mistake gives one fault. Rules that need the host are left out when its facts are
unknown. Tracks and groups are judged in tracking.py, checks in health.py, hooks in hooks.py,
values per node in per_node.py, the cluster in cluster.py, later releases' sections in sections.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from vipd.config.addresses import why_unusable
from vipd.config.context import Context
from vipd.config.drafts import Draft, DraftVip
from vipd.config.facts import mtu_of
from vipd.config.resolve import (
    SECRET_BYTES,
    auto_lifetime_s,
    readable_by_all,
    secret_bytes,
)
from vipd.config.schema import Config
from vipd.config.types import format_duration
from vipd.config.yamltree import Path
from vipd.model import (
    MILLISECOND_NS,
    OWNER_PRIORITY,
    SECOND_NS,
    Address,
    Family,
    family_of,
    format_address,
    is_link_local,
)

CENTISECOND_NS = 10 * MILLISECOND_NS
LONGEST_V3_NS = 4095 * CENTISECOND_NS
MOST_ADVERTISED = 255  # the count field of the advert is one byte (RFC 9568 §5.2.5)

Rule: TypeAlias = Callable[[Draft, Context], None]


def check_instances(config: Config, drafts: tuple[Draft, ...], context: Context) -> None:
    """Every rule, on every instance."""
    if not drafts and not context.damage.touches(("instances",)):
        context.fault(("instances",), "there is no instance", "add one, as in etc/vipd.yaml")
    for item in drafts:
        for rule, keys in RULES:
            if context.sound(item.path, *keys):
                rule(item, context)
    _router_twice(drafts, context)
    _vip_twice(drafts, context)
    _lifetime(config, drafts, context)


# --- one instance -----------------------------------------------------------------------------


def _interval(item: Draft, context: Context) -> None:
    interval_ns = item.entry.advert_interval
    path = (*item.path, "advert_interval")
    written = format_duration(interval_ns)
    if item.entry.version == 2:
        if interval_ns < SECOND_NS or interval_ns % SECOND_NS:
            problem = f"{written} is not possible in version 2, which counts whole seconds"
            context.fault(path, problem, "write 1s to 255s, or version: 3")
        return
    if interval_ns > LONGEST_V3_NS:
        problem = f"{written} is too long for version 3"
        context.fault(path, problem, "write 10ms to 40.95s")
    elif interval_ns % CENTISECOND_NS:
        below = format_duration(interval_ns // CENTISECOND_NS * CENTISECOND_NS)
        problem = f"{written} is not possible in version 3, which counts steps of 10ms"
        context.fault(path, problem, f"write a multiple of 10ms, for example {below}")


def _preempt(item: Draft, context: Context) -> None:
    if item.entry.preempt_delay and not item.entry.preempt:
        path = (*item.path, "preempt_delay")
        cure = "remove it, or write preempt: true"
        context.warn(path, "it has no effect while preempt is false", cure)


def _checksum(item: Draft, context: Context) -> None:
    if item.entry.checksum == "auto" or item.family is None:
        return
    if item.entry.version == 2 or item.family is Family.IPV6:
        path = (*item.path, "checksum")
        cure = "remove it; only version 3 with IPv4 has two forms"
        context.warn(path, "it has no effect on this router", cure)


def _known_interface(item: Draft, context: Context) -> None:
    if context.facts is None:
        return
    places = {item.interface: (*item.path, "interface")}
    for vip in item.vips:
        places.setdefault(vip.interface, (*vip.path, "interface"))
    for name, path in places.items():
        if name is not None and context.facts.link(name) is None:
            there = ", ".join(sorted(link.name for link in context.facts.links))
            cure = f"the instance waits in FAULT until it appears; there is {there or 'none'}"
            context.warn(path, f"this host has no interface {name} now", cure)


def _family(item: Draft, context: Context) -> None:
    if item.entry.version == 2 and item.family is Family.IPV6:
        cure = "write version: 3, or list an IPv4 address first"
        context.fault(
            (*item.path, "version"), "version 2 cannot carry an IPv6 router (its first VIP)", cure
        )


def _advertised(item: Draft, context: Context) -> None:
    path = (*item.path, "vips")
    if item.family is None:
        what = "every VIP has advertise: false" if item.vips else "there is no VIP"
        context.fault(path, what, "list at least one address that is advertised")
        return
    if item.interface is None:
        return
    count = len(item.advertised)
    mtu = mtu_of(context.facts, item.interface)
    fits = min(MOST_ADVERTISED, _addresses_that_fit(item.entry.version, item.family, mtu))
    if count > fits:
        limit = "the count is one byte" if fits == MOST_ADVERTISED else f"the MTU is {mtu}"
        cure = f"give {count - fits} of them 'advertise: false'; they are claimed all the same"
        problem = f"{count} advertised addresses, but {fits} fit into an advert ({limit})"
        context.fault(path, problem, cure)


def _addresses_that_fit(version: int, family: Family, mtu: int) -> int:
    """IP header 20 or 40, VRRP header 8, 4 or 16 per address, 8 of auth data in version 2."""
    if family is Family.IPV6:
        return max(0, (mtu - 40 - 8) // 16)
    return max(0, (mtu - 20 - 8 - (8 if version == 2 else 0)) // 4)


def _link_local_first(item: Draft, context: Context) -> None:
    """RFC 9568 §5.2.9; checklist D5: real configurations often list only a global address."""
    if item.family is not Family.IPV6 or is_link_local(item.advertised[0].address):
        return
    say = context.fault if item.entry.strict else context.warn
    problem = "the first advertised address is not link-local, as RFC 9568 5.2.9 demands"
    cure = "list a VIP of fe80::/10 first, for example fe80::100/64; strict routers discard this"
    say(item.advertised[0].path, problem, cure)


def _usable_vips(item: Draft, context: Context) -> None:
    for vip in item.vips:
        what = why_unusable(vip.address, vip.prefix)
        if what:
            cure = "write a host's address, for example 192.0.2.100/24 or 2001:db8::100/64"
            context.fault(vip.path, f"{vip} is {what}", cure)


def _source(item: Draft, context: Context) -> None:
    if item.source is None or item.family is None:
        return
    path = (*item.path, "source")
    text = format_address(item.source)
    if family_of(item.source) is not item.family:
        cure = f"write an IPv{item.family.value} address, as the first advertised VIP"
        context.fault(path, f"{text} is of the other family than the router", cure)
        return
    if item.priority != OWNER_PRIORITY and item.source in {vip.address for vip in item.vips}:
        cure = "write an address that the host always has"
        context.fault(path, f"{text} is one of the VIPs", cure)
        return
    if item.family is Family.IPV6 and not is_link_local(item.source) and not item.unicast_peers:
        say = context.fault if item.entry.strict else context.warn
        cure = "write the interface's fe80:: address, or leave 'source' out"
        say(path, f"{text} is not link-local, as RFC 9568 5.1.2.1 demands", cure)
    facts, interface = context.facts, item.interface
    if facts is None or interface is None or facts.link(interface) is None:
        return
    if item.source not in facts.own_addresses(interface):
        cure = "the instance waits in FAULT until it is there; compare 'ip address'"
        context.warn(path, f"{interface} does not have {text} now", cure)


def _peers(item: Draft, context: Context) -> None:
    if not item.unicast_peers or item.family is None:
        return
    path: Path = (*item.path, "unicast_peers")
    if isinstance(item.entry.unicast_peers, dict):
        path = (*path, context.node)
    own = {item.source} if item.source else set[Address]()
    own |= context.facts.own_addresses() if context.facts else set[Address]()
    vips = {vip.address for vip in item.vips}
    seen: set[Address] = set()
    for index, peer in enumerate(item.unicast_peers):
        problem, cure = "", ""
        text = format_address(peer)
        if family_of(peer) is not item.family:
            problem = f"{text} is of the other family than the router"
            cure = f"write an IPv{item.family.value} address, as the first advertised VIP"
        elif peer in own:
            problem = f"{text} is this node's own address"
            cure = "remove it, or write the peers per node: {lb1: [ADDRESS], lb2: [ADDRESS]}"
        elif peer in vips:
            problem, cure = f"{text} is one of the VIPs", "write an address the peer always has"
        elif peer in seen:
            problem, cure = f"{text} is listed twice", "remove one of the two"
        elif why_unusable(peer, len(peer) * 8):
            problem, cure = f"{text} is no host's address", "write the peer's own address"
        seen.add(peer)
        if problem:
            context.fault((*path, index), problem, cure)


def _auth(item: Draft, context: Context) -> None:
    auth = item.entry.auth
    if auth is None:
        return
    path = (*item.path, "auth")
    if item.entry.version == 3:
        context.fault(path, "version 3 has no authentication", "remove it, or write version: 2")
    if (auth.secret is None) == (auth.secret_file is None):
        how = "both secret and secret_file are given" if auth.secret else "there is no secret"
        context.fault(path, how, "give one of secret and secret_file")
        return
    path = (*path, "secret" if auth.secret else "secret_file")
    try:
        secret = secret_bytes(auth, context.folder)
        if auth.secret_file and readable_by_all(context.folder / auth.secret_file):
            context.warn(path, "every user can read the file", f"chmod 600 {auth.secret_file}")
    except OSError as error:
        problem = f"{auth.secret_file} cannot be read: {error.strerror}"
        context.fault(path, problem, "create it with the secret as its first line, mode 0600")
        return
    context.secrets[item.name] = secret
    if not secret:
        context.fault(path, "the secret is empty", "write 1 to 8 bytes of text")
    if len(secret) > SECRET_BYTES:
        problem = f"the secret has {len(secret)} bytes and version 2 sends {SECRET_BYTES}"
        context.warn(path, problem, "the rest is cut off, as keepalived does; shorten it")


def _owner(item: Draft, context: Context) -> None:
    """RFC 9568 §6.1: priority 255 means that the addresses are the host's own."""
    if item.priority != OWNER_PRIORITY or context.facts is None:
        return
    missing = [
        str(vip)
        for vip in item.advertised
        if vip.interface and vip.address not in context.facts.own_addresses(vip.interface)
    ]
    if missing:
        path: Path = (*item.path, "priority")
        if isinstance(item.entry.priority, dict):
            path = (*path, context.node)
        problem = f"255 says that the host owns the VIPs, but it does not have {', '.join(missing)}"
        context.fault(path, problem, "write 1 to 254, or give the host these addresses itself")


RULES: tuple[tuple[Rule, tuple[str, ...]], ...] = (
    (_interval, ("version", "advert_interval")),
    (_preempt, ("preempt", "preempt_delay")),
    (_checksum, ("checksum", "version", "vips")),
    (_known_interface, ()),
    (_family, ("version", "vips")),
    (_advertised, ("version", "vips", "interface")),
    (_link_local_first, ("vips", "strict")),
    (_usable_vips, ()),
    (_source, ("source", "vips", "priority", "interface", "unicast_peers", "strict")),
    (_peers, ("vips", "source")),
    (_auth, ("auth", "version")),
    (_owner, ("priority", "vips", "interface")),
)
"""(rule, keys that it reads)"""


# --- all instances ----------------------------------------------------------------------------


def _router_twice(drafts: tuple[Draft, ...], context: Context) -> None:
    """A virtual router is (interface, VRID, family): RFC 9568 §1.7."""
    first: dict[tuple[str, int, Family], Draft] = {}
    for item in drafts:
        if not context.sound(item.path, "interface", "vrid", "vips"):
            continue
        if item.interface is None or item.family is None:
            continue
        key = (item.interface, item.entry.vrid, item.family)
        other = first.setdefault(key, item)
        if other is not item:
            line = context.line((*other.path, "vrid"))
            problem = (
                f"VRID {item.entry.vrid} for IPv{item.family.value} is used twice on "
                f"{item.interface}: also by {other.name} in line {line}"
            )
            context.fault((*item.path, "vrid"), problem, "give one of them another VRID")


def _vip_twice(drafts: tuple[Draft, ...], context: Context) -> None:
    first: dict[tuple[str, Address], DraftVip] = {}
    for vip in (vip for item in drafts for vip in item.vips):
        if vip.interface is None:
            continue
        other = first.setdefault((vip.interface, vip.address), vip)
        if other is not vip:
            text = format_address(vip.address)
            problem = f"{text} on {vip.interface} is listed twice, first in line "
            problem += f"{context.line(other.path)} ({other.path[1]})"
            context.fault(vip.path, problem, "remove one of the two")


def _lifetime(config: Config, drafts: tuple[Draft, ...], context: Context) -> None:
    path: Path = ("address_lifetime",)
    if config.address_lifetime is None or context.damage.touches(path):
        return
    written = format_duration(config.address_lifetime)
    if config.address_lifetime % SECOND_NS:
        context.fault(path, f"{written} is not whole seconds", "write auto, or for example 4s")
        return
    longest = 0
    for item in drafts:
        if context.sound(item.path, "version", "advert_interval"):
            lifetime_s = auto_lifetime_s(item.entry.version, item.entry.advert_interval)
            longest = max(longest, lifetime_s)
    if config.address_lifetime < longest * SECOND_NS:
        problem = f"{written} is shorter than the {longest}s that auto gives"
        cure = "write auto; a short stall of vipd can end an address before a peer takes over"
        context.warn(path, problem, cure)
