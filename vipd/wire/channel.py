"""The cluster channel: what members say to each other, as datagrams.

The two ends of the channel without their sockets: ``Outbox`` turns values into datagrams, ``Inbox``
turns what arrived into values, or into the one reason why it has no effect. Pure: no clock, no
randomness. Incarnation, nonces and keys come from the caller, and so do the addresses of members.

A datagram is judged in this order, and the first failure is what counts (``ChannelDiscard``):

1. Size, and the four bytes that every datagram of vipd begins with: what costs nothing.
2. **The proof** (HMAC-SHA256 over everything, compared in constant time). Nothing else is looked at
   before; so whatever stands behind this line is a mistake of a member, or a recording.
3. Cluster, version, frame (``channel_frame``).
4. The sender: a member, not ourselves, speaking from one of its own addresses. Before the next
   step, so that a datagram from elsewhere cannot use up the sequence number of the real one.
5. Life and sequence number (``replay``): each datagram counts once.
6. The message (``channel_heartbeat``, ``channel_acts``), strictly: all of it, and nothing behind.

What this does not decide: whether an acting message is about a mastership that there is, and
carries the receiver's current nonce. Only the receiver's core knows both.

Versions
--------
Each release speaks two wire versions, and each datagram says which two. A member speaks the highest
version that everybody understands (``common_version``); a datagram of a version that is not known
is counted, and ``ChannelError.speaks`` says what its sender could say instead. Version 2 added the
echoes and the speakers of heartbeats. Version 1 is what to say before anybody has been heard.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from vipd.errors import ChannelError, InvariantViolated
from vipd.members import (
    ChannelDiscard,
    Go,
    Goodbye,
    Heartbeat,
    Message,
    Owner,
    Received,
    Refused,
    Taken,
    Tombstone,
    TransferRequest,
    Unknown,
    Versions,
)
from vipd.model import Address, format_address
from vipd.wire.channel_acts import READERS, acting_bodies
from vipd.wire.channel_frame import (
    FIRST_RESERVED,
    LAST_SEQUENCE,
    RESERVED,
    SPOKEN,
    Cursor,
    Frame,
    Kind,
    cluster_digest,
    room_for_body,
    seal,
    unseal,
)
from vipd.wire.channel_heartbeat import heartbeat_bodies, read_heartbeat
from vipd.wire.replay import SenderGuard

_REMEMBERED = 64
"""Datagrams whose proof need not be checked again: a few beats of a few members."""

_KINDS: Mapping[type[Message], Kind] = {
    Heartbeat: Kind.HEARTBEAT,
    TransferRequest: Kind.TRANSFER_REQUEST,
    Go: Kind.GO,
    Taken: Kind.TAKEN,
    Refused: Kind.REFUSED,
    Tombstone: Kind.TOMBSTONE,
    Goodbye: Kind.GOODBYE,
}


def common_version(heard: Iterable[Versions], own: Versions = SPOKEN) -> int:
    """The version to speak to members that speak ``heard``."""
    highest = min((versions.highest for versions in heard), default=own.lowest)
    return max(own.lowest, min(own.highest, highest))


class Outbox:
    """Makes the datagrams of one life of a member. Owns its sequence numbers."""

    def __init__(
        self, cluster: str, sender: Owner, key: bytes, *, speaks: Versions = SPOKEN
    ) -> None:
        self._sender = sender
        self._speaks = speaks
        self._sequence = 0
        self.configure(cluster, key)

    def configure(self, cluster: str, key: bytes) -> None:
        """After a reload. The numbers go on: their life does."""
        self._cluster = cluster_digest(cluster)
        self._key = key

    def datagrams(self, message: Message, version: int) -> tuple[bytes, ...]:
        """``message`` in as many datagrams as it needs; send each on every path.

        A tombstone may be made long before it is needed, once per receiver and as often as
        something in it changes: its numbers are its own.
        """
        kind, bodies = self._bodies(message, version)
        if kind is Kind.TOMBSTONE:
            if len(bodies) > RESERVED:
                raise InvariantViolated(f"a tombstone of {len(bodies)} datagrams")
            first = LAST_SEQUENCE - len(bodies) + 1
        else:
            first = self._sequence + 1
            self._sequence += len(bodies)
            if self._sequence >= FIRST_RESERVED:
                raise InvariantViolated("the sequence numbers are used up")
        return tuple(
            seal(
                kind,
                body,
                cluster=self._cluster,
                sender=self._sender,
                sequence=sequence,
                version=version,
                key=self._key,
                speaks=self._speaks,
            )
            for sequence, body in enumerate(bodies, first)
        )

    def _bodies(self, message: Message, version: int) -> tuple[Kind, list[bytes]]:
        if not self._speaks.lowest <= version <= self._speaks.highest:
            raise InvariantViolated(f"wire version {version} is not spoken")
        room = room_for_body(self._sender.node)
        if isinstance(message, Heartbeat):
            return Kind.HEARTBEAT, heartbeat_bodies(message, version, room)
        return _KINDS[type(message)], acting_bodies(message, room)


class Inbox:
    """Judges and reads what arrives. Remembers of each member which datagrams it has heard."""

    def __init__(
        self,
        cluster: str,
        own: Owner,
        keys: Sequence[bytes],
        addresses: Mapping[str, Collection[Address]],
        *,
        known: Versions = SPOKEN,
    ) -> None:
        self._own = own
        self._known = known
        self._guards: dict[str, SenderGuard] = {}
        self.configure(cluster, keys, addresses)

    def configure(
        self, cluster: str, keys: Sequence[bytes], addresses: Mapping[str, Collection[Address]]
    ) -> None:
        """After a reload. ``addresses`` are those that each other member sends from."""
        self._cluster = cluster_digest(cluster)
        self._keys = tuple(keys)
        self._addresses = {name: frozenset(listed) for name, listed in addresses.items()}
        self._guards = {name: self._guards.get(name) or SenderGuard() for name in self._addresses}
        self._proved: dict[bytes, Frame] = {}

    def forget(self, member: str) -> None:
        """Take its next datagram as the first one: for a member whose counter was lost, and whose
        incarnations therefore look old. The caller has proof that it is no recording.
        """
        self._guards[member] = SenderGuard()

    def read(self, data: bytes, source: Address, destination: Address = b"") -> Received:
        """What ``data`` says; raises ChannelError, and never another error."""
        frame = self._proved.get(data)
        if frame is None:
            frame = unseal(data, cluster=self._cluster, keys=self._keys, known=self._known)
            self._remember(data, frame)
        self._judge_sender(frame.sender, source)
        name = frame.sender.node
        verdict = self._guards[name].judge(frame.sender, frame.sequence, (source, destination))
        if verdict is not None:
            detail = f"number {frame.sequence} of incarnation {frame.sender.incarnation}"
            raise ChannelError(verdict, detail, sender=name)
        return Received(
            sender=frame.sender,
            sequence=frame.sequence,
            version=frame.version,
            speaks=frame.speaks,
            old_key=frame.key_index > 0,
            message=_message(frame),
        )

    def _remember(self, data: bytes, frame: Frame) -> None:
        """Most datagrams come once by each path, and what was proved once is proved."""
        if len(self._proved) >= _REMEMBERED:
            del self._proved[next(iter(self._proved))]
        self._proved[data] = frame

    def _judge_sender(self, sender: Owner, source: Address) -> None:
        name = sender.node
        if name == self._own.node:
            ours = sender == self._own
            reason = ChannelDiscard.OWN if ours else ChannelDiscard.DUPLICATE_NODE
            raise ChannelError(reason, f"{name} is the name of this member", sender=name)
        if name not in self._addresses:
            raise ChannelError(ChannelDiscard.UNKNOWN_SENDER, name, sender=name)
        if source not in self._addresses[name]:
            detail = f"{name} does not send from {format_address(source)}"
            raise ChannelError(ChannelDiscard.FOREIGN_ADDRESS, detail, sender=name)


def _message(frame: Frame) -> Message | Unknown:
    cursor = Cursor(frame.body)
    try:
        if frame.kind == Kind.HEARTBEAT:
            return read_heartbeat(cursor, frame.version)
        reader = READERS.get(frame.kind)
        return Unknown(frame.kind) if reader is None else reader(cursor, frame.sender)
    except ChannelError as error:
        raise ChannelError(error.reason, error.detail, sender=frame.sender.node) from None
