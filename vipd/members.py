"""What the members of a cluster tell each other: the values that travel on the channel.

Frozen, without behaviour. How they look as bytes is the business of ``vipd.wire.channel``; what
they mean for mastership is the core's.

* Durations are nanoseconds here and whole milliseconds on the wire (rounded down, at most 49 days).
  Instants never travel: no two hosts share a clock.
* A message that makes its receiver act (``Acting``) names the mastership it is about, by ``owner``
  and ``term``, and repeats the ``nonce`` that its receiver tells in its heartbeats. So one that is
  late, or recorded and played back, is about something else or carries a nonce of the past.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from vipd.model import Address, Duration, Reason, State

Nonce: TypeAlias = bytes

NONCE_LENGTH = 16
CONFIGURATION_DIGEST_LENGTH = 8


class ChannelDiscard(Enum):
    """Why a datagram of the channel had no effect; one counter each, in the order of the checks."""

    LENGTH = "length"
    NOT_VIPD = "not-vipd"
    WRONG_KEY = "wrong-key"
    WRONG_CLUSTER = "wrong-cluster"
    VERSION = "version"
    HEADER = "header"
    SEQUENCE = "sequence"
    OWN = "own"
    UNKNOWN_SENDER = "unknown-sender"
    FOREIGN_ADDRESS = "foreign-address"
    DUPLICATE_NODE = "duplicate-node"
    OLD_INCARNATION = "old-incarnation"
    REPLAY = "replay"
    COPY = "copy"  # came by another path before: ordinary where a node has several addresses
    BODY = "body"


@dataclass(frozen=True, slots=True)
class Owner:
    """One life of one member's engine (QUORUM W2). All comparisons use the whole triple.

    ``incarnation`` grows at every start, ``nonce`` is drawn at every start: should the counter be
    lost, or a host be cloned, two lives still differ.
    """

    node: str
    incarnation: int
    nonce: int


@dataclass(frozen=True, slots=True)
class Versions:
    """The wire versions that a member speaks, both ends included."""

    lowest: int
    highest: int


# --- heartbeats ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pin:
    """An operator put a unit on ``node`` (QUORUM H3); of two pins the higher version counts.

    ``node`` empty: nowhere any more. ``rest_ns`` 0: until somebody ends it.
    """

    node: str
    version: int
    rest_ns: Duration = 0


@dataclass(frozen=True, slots=True)
class UnitReport:
    """One unit as its node sees it.

    * ``reason`` is None where the sender knows one that this release does not.
    * ``master`` is the node that it takes for the master, empty for none; ``term`` numbers that
      mastership.
    * ``held``: it does not take over from a live master. ``wants_preempt``: it would, and has been
      fit for it for ``healthy_for_ns``.
    """

    unit: str
    state: State
    reason: Reason | None
    priority: int
    priority_base: int
    term: int = 0
    master: str = ""
    detail: str = ""
    held: bool = False
    wants_preempt: bool = False
    healthy_for_ns: Duration = 0
    pin: Pin | None = None


@dataclass(frozen=True, slots=True)
class Hearing:
    """How long ago adverts of ``node`` for ``instance`` were heard; never heard: not listed."""

    instance: str
    node: str
    ago_ns: Duration


@dataclass(frozen=True, slots=True)
class Speaker:
    """The sender's adverts for ``instance`` come from ``source``: so they are not foreign."""

    instance: str
    source: Address


@dataclass(frozen=True, slots=True)
class Echo:
    """The sender heard ``node`` on the channel so long ago, and its nonce was this one.

    Who finds its own current nonce here knows that the heartbeat was made after that nonce was
    told: it is no recording, and the sender hears us.
    """

    node: str
    nonce: Nonce
    ago_ns: Duration


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A member and its units. What fits no datagram comes in ``parts`` of the same ``beat``.

    Each part stands for itself: what it lists is true. What is *not* there any more is said only by
    all parts of a beat together, and only if it is ``complete``: a member with hundreds of units
    may list in most beats only those that changed. ``nonce`` is what acting messages to this member
    must repeat. ``interval_ns`` is the time to the next beat, 0 where it is not told (version 1).
    """

    beat: int
    nonce: Nonce
    configuration: bytes
    software: str
    maintenance: bool = False
    complete: bool = True
    echoes: tuple[Echo, ...] = ()
    units: tuple[UnitReport, ...] = ()
    hearings: tuple[Hearing, ...] = ()
    speakers: tuple[Speaker, ...] = ()
    interval_ns: Duration = 0
    part: int = 0
    parts: int = 1


# --- messages that make the receiver act ----------------------------------------------------------


class RefusalReason(Enum):
    """Why a handover is not done. OTHER: a reason that this release does not know."""

    OTHER = "other"
    STALE = "stale"  # not, or no longer, that mastership
    NOT_BETTER = "not-better"
    FAULT = "fault"
    MAINTENANCE = "maintenance"
    PINNED = "pinned"
    NO_MAJORITY = "no-majority"
    BUSY = "busy"  # another handover of this unit is under way
    BACK_OFF = "back-off"


@dataclass(frozen=True, slots=True)
class Wish:
    """The sender would be the better master of ``unit``, with this effective priority."""

    unit: str
    term: int
    priority: int


@dataclass(frozen=True, slots=True)
class Gift:
    """``unit`` is for ``successor`` now. A higher ``attempt`` of the same term takes it back from
    the successor named before.
    """

    unit: str
    term: int
    attempt: int
    successor: str


@dataclass(frozen=True, slots=True)
class Taking:
    """The sender is master of ``unit``, given away at ``term``."""

    unit: str
    term: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The sender does not do what was asked of it for ``unit``."""

    unit: str
    term: int
    reason: RefusalReason


@dataclass(frozen=True, slots=True)
class TransferRequest:
    """To the master ``owner``: give these to me (preemption, QUORUM H1)."""

    nonce: Nonce
    owner: Owner
    wishes: tuple[Wish, ...]


@dataclass(frozen=True, slots=True)
class Go:
    """From the leaving master, which is ``owner``: the VIPs are gone here, take over (H2)."""

    nonce: Nonce
    owner: Owner
    gifts: tuple[Gift, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """To the former master ``owner``: done, repeat ``Go`` no more."""

    nonce: Nonce
    owner: Owner
    takings: tuple[Taking, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer no to ``Go`` or ``TransferRequest``; ``owner`` is the master in question."""

    nonce: Nonce
    owner: Owner
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """``owner``, which is the sender, is dead and its VIPs are gone: the supervisor's last word."""

    nonce: Nonce
    owner: Owner
    gifts: tuple[Gift, ...]


@dataclass(frozen=True, slots=True)
class Goodbye:
    """``owner``, which is the sender, holds nothing and ends."""

    nonce: Nonce
    owner: Owner


@dataclass(frozen=True, slots=True)
class Unknown:
    """A kind of message that this release does not know: counted, and nothing else."""

    kind: int


Acting: TypeAlias = TransferRequest | Go | Taken | Refused | Tombstone | Goodbye
Message: TypeAlias = Heartbeat | Acting
"""What can be sent."""


@dataclass(frozen=True, slots=True)
class Received:
    """A datagram that passed every check. ``old_key``: its sender does not sign with the first
    line of our key file (a rotation is under way).
    """

    sender: Owner
    sequence: int
    version: int
    speaks: Versions
    old_key: bool
    message: Message | Unknown
