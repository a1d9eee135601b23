"""The values that all parts of vipd share. Frozen, without behaviour beyond formatting.

Conventions
-----------
* An *instant* is an ``int`` of nanoseconds on CLOCK_BOOTTIME; a *duration* is an ``int`` of
  nanoseconds. Names carry the unit (``_ns``).
* An *address* is ``bytes`` in network order, 4 long (IPv4) or 16 long (IPv6). Comparing two of
  one family with ``<`` is the unsigned comparison that RFC 9568 §6.4.3 asks for.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

Instant: TypeAlias = int
Duration: TypeAlias = int
Address: TypeAlias = bytes
VipKey: TypeAlias = tuple[str, bytes]
"""(interface, address): what makes a VIP *this* VIP; its prefix is only how it is written."""

MICROSECOND_NS = 1_000
MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000_000_000

OWNER_PRIORITY = 255
LEAVING_PRIORITY = 0

ADDRESS_TAG = 86
"""Our IFA_PROTO value ('V'): tells vipd's addresses from everybody else's (kernel >= 5.18)."""


class Family(Enum):
    """Address family of a virtual router; RFC 9568 §5.2.9: one router never mixes them."""

    IPV4 = 4
    IPV6 = 6


def family_of(address: Address) -> Family:
    """Family of a packed address, by its length."""
    return Family.IPV4 if len(address) == 4 else Family.IPV6


def format_address(address: Address) -> str:
    """``bytes`` -> ``192.0.2.1`` or ``2001:db8::1``."""
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def parse_address(text: str) -> Address:
    """``192.0.2.1`` or ``2001:db8::1`` -> ``bytes``. Raises ValueError."""
    kind = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_pton(kind, text)
    except OSError as error:
        raise ValueError(f"{text!r} is not an IP address") from error


def is_link_local(address: Address) -> bool:
    """True for fe80::/10."""
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


# --- health and tracking ----------------------------------------------------------------------


class Health(Enum):
    """What is known of a check. UNKNOWN: it has not given its first verdict yet."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One entry of the health vector that the supervisor keeps the engine informed with.

    ``number`` is what a check gives instead of a yes or no (a file that holds a weight).
    """

    check: str
    health: Health
    number: int | None = None


class TrackKind(Enum):
    CHECK = "check"
    INTERFACE = "interface"


@dataclass(frozen=True, slots=True)
class Track:
    """Something whose health moves the priority, or without a weight mastership itself.

    * ``weight`` > 0: added while healthy; < 0: taken off while failed; None: FAULT while failed.
    * ``reverse`` turns the sign: > 0 is taken off while healthy, < 0 is added while failed, and
      without a weight healthy means FAULT.
    * A check that gives a number adds ``number * weight`` (``weight`` None: the number itself).
    * ``waits``: not master before the first verdict. ``debounce_ns``: a change of an interface
      counts only after it has lasted so long.
    """

    kind: TrackKind
    name: str
    weight: int | None = None
    reverse: bool = False
    waits: bool = False
    debounce_ns: Duration = 0

    @property
    def label(self) -> str:
        """How status and explain name its contribution: ``nginx``, ``interface eth1``."""
        return self.name if self.kind is TrackKind.CHECK else f"interface {self.name}"


@dataclass(frozen=True, slots=True)
class PinOrder:
    """An operator puts ``unit`` on ``node`` (cluster mode, QUORUM H3); empty: nowhere any more.

    ``count`` grows with every such order for the unit: a count that grew is the order.
    ``for_ns`` 0: until somebody ends it.
    """

    unit: str
    node: str
    count: int
    for_ns: Duration = 0


@dataclass(frozen=True, slots=True)
class Orders:
    """What an operator wants of this node beyond its configuration; the whole of it, each time.

    * ``maintenance``: give every mastership away and take none.
    * ``held``: units (instances or groups) that do not take over from a live master, whatever
      ``preempt`` says, because their mastership was given away on purpose.
    * ``step_downs``: how often each unit was told to give its mastership away; a count that grew
      is the order, so that it is carried out once however often it is repeated.
    * ``pins``: cluster mode has these instead of ``held`` and ``step_downs``.
    """

    maintenance: bool = False
    held: tuple[str, ...] = ()
    step_downs: tuple[tuple[str, int], ...] = ()
    pins: tuple[PinOrder, ...] = ()


# --- configuration as the engine needs it -----------------------------------------------------


class ChecksumForm(Enum):
    """How a VRRPv3 IPv4 checksum is summed (checklist D1)."""

    AUTO = "auto"  # send with pseudo-header, receive either, then stick to each peer's form
    PSEUDO = "pseudo"  # RFC 5798 as keepalived reads it: with the IPv4 pseudo-header
    PLAIN = "plain"  # RFC 9568 §5.2.8: the VRRP message only


@dataclass(frozen=True, slots=True)
class Vip:
    """One virtual address. ``advertise`` false: claimed, but not listed in the adverts."""

    address: Address
    prefix: int
    interface: str
    advertise: bool = True

    @property
    def family(self) -> Family:
        return family_of(self.address)

    @property
    def key(self) -> VipKey:
        return (self.interface, self.address)

    def __str__(self) -> str:
        return f"{format_address(self.address)}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class InstanceConfig:
    """One virtual router (interface + VRID + family) and its VIPs, resolved for this node."""

    name: str
    interface: str
    vrid: int
    version: int
    family: Family
    priority: int
    advert_interval_ns: Duration
    vips: tuple[Vip, ...]
    address_lifetime_s: int
    preempt: bool = True
    preempt_delay_ns: Duration = 0
    source: Address | None = None
    unicast_peers: tuple[Address, ...] = ()
    auth_secret: bytes | None = field(default=None, repr=False)  # v2 PASS: 8 bytes, zero padded
    checksum: ChecksumForm = ChecksumForm.AUTO
    strict: bool = False
    announce_count: int = 5
    announce_refresh_ns: Duration = 60 * SECOND_NS
    track: tuple[Track, ...] = ()

    @property
    def is_owner(self) -> bool:
        return self.priority == OWNER_PRIORITY

    @property
    def advertised(self) -> tuple[Address, ...]:
        """The addresses that the adverts list, in configured order."""
        return tuple(vip.address for vip in self.vips if vip.advertise)

    @property
    def router_key(self) -> tuple[str, int, Family, int]:
        """What makes it *this* virtual router on the wire: a change means another router."""
        return (self.interface, self.vrid, self.family, self.version)


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """Instances with one election, lease, claim and hook queue (QUORUM H5).

    ``instances`` are names. ``track`` is the group's own; what its members track counts, too.
    """

    name: str
    instances: tuple[str, ...]
    track: tuple[Track, ...] = ()


@dataclass(frozen=True, slots=True)
class MemberConfig:
    """A member of the cluster and all addresses that it sends from and is reached at."""

    name: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """The channel between the nodes; the same on all of them.

    ``nodes`` include this one. ``keys``: the first signs, all verify. ``digest`` (8 bytes) covers
    what must be equal on all nodes: two that differ are an alarm (drift).
    """

    name: str
    nodes: tuple[MemberConfig, ...]
    keys: tuple[bytes, ...] = field(repr=False)
    digest: bytes
    port: int = 3112
    heartbeat_interval_ns: Duration = 100 * MILLISECOND_NS
    heartbeat_timeout_ns: Duration = SECOND_NS
    witnesses: tuple[MemberConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Everything the core decides by. ``generation`` grows with every (re)load.

    A *unit* is what moves as one: a group, or an instance that is in none. Names of groups and
    instances are distinct. Without ``cluster``: plain VRRP.
    """

    node: str
    instances: tuple[InstanceConfig, ...]
    generation: int = 0
    groups: tuple[GroupConfig, ...] = ()
    cluster: ClusterConfig | None = None


# --- the host as the kernel tells it ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface. ``up``: administratively up, running and with carrier."""

    index: int
    name: str
    up: bool
    mac: bytes
    mtu: int = 1500


@dataclass(frozen=True, slots=True)
class HostAddress:
    """An address that the kernel has. ``tag`` is IFA_PROTO, 0 where there is none."""

    index: int
    address: Address
    prefix: int
    tag: int = 0
    tentative: bool = False

    @property
    def key(self) -> tuple[int, Address]:
        return (self.index, self.address)


# --- the wire ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Advert:
    """A VRRP advertisement, version-neutral. v2 intervals are whole seconds, v3 centiseconds."""

    version: int
    vrid: int
    priority: int
    interval_ns: Duration
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Datagram:
    """What one receive call on a VRRP socket gave.

    ``data`` is the whole IPv4 packet, header included, or the bare VRRP message for IPv6, whose
    source, destination and hop limit come as ancillary data (None where the kernel gave none).
    ``index`` is the link that it arrived on.
    """

    family: Family
    index: int
    data: bytes
    source: Address | None = None
    destination: Address | None = None
    hop_limit: int | None = None


class DiscardReason(Enum):
    """Why a datagram was discarded; one counter each, in the order of checklist §4.5."""

    IP_HEADER = "ip-header"
    PROTOCOL = "protocol"
    FRAGMENT = "fragment"
    TTL = "ttl"
    DESTINATION = "destination"
    BAD_SOURCE = "bad-source"
    OWN_SOURCE = "own-source"
    VERSION = "version"
    TYPE = "type"
    LENGTH = "length"
    ADDR_COUNT_ZERO = "addr-count-zero"
    CHECKSUM = "checksum"
    VRID = "vrid"
    INTERVAL_ZERO = "interval-zero"
    FIRST_ADDRESS = "first-address"
    AUTH_TYPE = "auth-type"
    AUTH_FAILURE = "auth-failure"
    ADDRESS_LIST = "address-list"
    INTERVAL = "interval"


class Remark(Enum):
    """Something odd about an accepted advert: logged and counted, never a reason to discard."""

    INTERVAL_DIFFERS = "interval-differs"
    ADDRESS_LIST_DIFFERS = "address-list-differs"
    SOURCE_OFF_SUBNET = "source-off-subnet"
    SOURCE_IS_VIP = "source-is-vip"
    SOURCE_NOT_LINK_LOCAL = "source-not-link-local"
    FIRST_ADDRESS_NOT_LINK_LOCAL = "first-address-not-link-local"
    CHECKSUM_FORM_PLAIN = "checksum-form-plain"
    SECOND_OWNER = "second-owner"


# --- what the core says about itself ----------------------------------------------------------


class State(Enum):
    """State of an instance, in keepalived's words (RFC 9568: Active is MASTER)."""

    INIT = "INIT"
    BACKUP = "BACKUP"
    CANDIDATE = "CANDIDATE"
    MASTER = "MASTER"
    FAULT = "FAULT"


class LeaseState(Enum):
    NONE = "NONE"
    ASKING = "ASKING"
    HELD = "HELD"


class ClaimState(Enum):
    ABSENT = "ABSENT"
    ADDING = "ADDING"
    PRESENT = "PRESENT"
    REMOVING = "REMOVING"


class Reason(Enum):
    """Why an instance is in its state. The text is what status, explain and hooks show."""

    STARTUP = "startup"
    ADDRESS_OWNER = "address-owner"
    MASTER_SILENT = "master-silent"
    MASTER_LEFT = "master-left"
    LOWER_PRIORITY_MASTER = "lower-priority-master"
    HIGHER_PRIORITY_HEARD = "higher-priority-heard"
    TIE_LOST = "equal-priority-higher-address"
    MASTER_HEARD = "master-heard"
    LEASE_LOST = "lease-lost"
    OVERTAKEN_WHILE_STALLED = "overtaken-while-stalled"
    MAINTENANCE = "maintenance"
    SWITCHOVER = "switchover"
    STOPPED = "stopped"
    REMOVED = "removed-from-configuration"
    RECOVERED = "recovered"
    INTERFACE_MISSING = "interface-missing"
    INTERFACE_DOWN = "interface-down"
    NO_SOURCE_ADDRESS = "no-source-address"
    OWNED_ADDRESS_MISSING = "owned-address-missing"
    FOREIGN_ADDRESS = "vip-owned-by-another-program"
    ADDRESS_VANISHES = "vip-keeps-vanishing"
    CLAIM_REFUSED = "kernel-refused-the-vip"
    SEND_REFUSED = "adverts-cannot-be-sent"
    CANNOT_LISTEN = "adverts-cannot-be-heard"
    HANDED_OVER = "handed-over"  # the master named us, or its tombstone did
    PREEMPTED = "preempted"  # we gave mastership to a better node that asked for it
    HANDOVER_FAILED = "handover-failed"  # nobody took what we gave: we are master again
    ADVERTS_LOST = "adverts-lost"  # another node hears more of the VIPs' network than we do
    CHECK_PENDING = "waiting-for-checks"
    CHECK_FAILED = "check-failed"
    TRACKED_INTERFACE_DOWN = "tracked-interface-down"


class NoteKind(Enum):
    """What can be noted. The renderer (supervisor, simulator) decides level and wording."""

    TRANSITION = "transition"
    ADVERT_DISCARDED = "advert-discarded"
    ADVERT_REMARKED = "advert-remarked"
    DUPLICATE_ADDRESS = "duplicate-address"
    CLAIMED = "claimed"
    RELEASED = "released"
    RELEASE_REFUSED = "release-refused"
    CLAIM_REFUSED = "claim-refused"
    ADDRESS_RESTORED = "address-restored"
    FOREIGN_ADDRESS_REMOVED = "foreign-address-removed"
    FOREIGN_ADDRESS_KEPT = "foreign-address-kept"
    STRAY_ADDRESS_REMOVED = "stray-address-removed"
    RIVAL_ANNOUNCED = "rival-announced"
    SEND_FAILED = "send-failed"
    SOURCE_CHANGED = "source-changed"
    LOOP_STALLED = "loop-stalled"
    CONFIGURED = "configured"
    ROLE = "role"  # state and kernel agree: what hooks act on
    PRIORITY_CHANGED = "priority-changed"
    HEALTH_STALE = "health-stale"
    HEALTH_FRESH = "health-fresh"
    MEMBER_ALIVE = "member-alive"  # heard on the channel (again)
    MEMBER_LOST = "member-lost"
    MEMBER_LEFT = "member-left"  # it said that it ends, or its supervisor that it died
    MESSAGE_DISCARDED = "message-discarded"
    CHANNEL_DEAF = "channel-deaf"  # one of its sockets could not be opened
    CHANNEL_OPEN = "channel-open"  # that socket is open now
    HANDOVER = "handover"  # fields: step (offered, refused, taken, failed, ...), node, term
    PIN = "pin"  # fields: node (empty: none), version, because


FieldValue: TypeAlias = str | int


@dataclass(frozen=True, slots=True)
class Note:
    """One fact worth a log line; ``instance`` is empty for the node itself."""

    kind: NoteKind
    instance: str
    fields: Mapping[str, FieldValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contribution:
    """One named part of the effective priority."""

    name: str
    weight: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that an operator should know; ``name`` is one of DESIGN's alarm names."""

    name: str
    since_ns: Instant
    subject: str
    detail: str
