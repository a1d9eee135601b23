"""Joins core and wire for the cluster channel: a datagram becomes an event, a message datagrams.

The engine and the simulator use the same ``ChannelTranslator``, as they do with ``translate``. It
has no clock, and knows no socket: who carries its datagrams sends each one on every path to its
member, and tells of what arrives from where and to which address. It decides two things:

**In which version do we speak?** In the highest that every node understands which was heard in
this life; before any was, in the lower one of ours. One version for all, so that a heartbeat is
made and proved once, however many nodes get it. What a node speaks stands in each of its
datagrams, even in one of a version that we cannot read. A node that was removed counts no more.

**What does a reload forget?** Nothing that protects: sequence numbers and replay windows belong to
the life of the engine, not to its configuration. A reload that removes the ``cluster`` section
leaves everything as it was: what is still to be said, is said to the nodes that there were.

Witnesses are not spoken to, and not believed, as long as there is nothing to tell them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from vipd.core.actions import KeepWill, SendMessage
from vipd.core.events import MessageHeard, MessageRejected
from vipd.errors import ChannelError, InvariantViolated
from vipd.members import Message, Owner, Versions
from vipd.model import Address, ClusterConfig
from vipd.wire.channel import Inbox, Outbox, common_version
from vipd.wire.channel_frame import SPOKEN


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One datagram for the member ``to``, on every path."""

    to: str
    datagram: bytes


class ChannelTranslator:
    """One engine's end of the channel, from its first configuration to its death.

    ``speaks``: which wire versions; the simulator has nodes of other releases.
    """

    def __init__(self, speaks: Versions = SPOKEN) -> None:
        self._spoken = speaks
        self._owner: Owner | None = None
        self._inbox: Inbox | None = None
        self._outbox: Outbox | None = None
        self._addresses: dict[str, frozenset[Address]] = {}
        self._speaks: dict[str, Versions] = {}

    def configure(self, cluster: ClusterConfig | None, owner: Owner) -> None:
        """Take over a configuration. ``owner`` is who we are, the same in each call."""
        if cluster is None:
            return
        self._addresses = {
            node.name: frozenset(node.addresses)
            for node in cluster.nodes
            if node.name != owner.node
        }
        self._speaks = {
            name: speaks for name, speaks in self._speaks.items() if name in self._addresses
        }
        if self._inbox is None or self._outbox is None or owner != self._owner:
            self._owner = owner
            self._inbox = Inbox(
                cluster.name, owner, cluster.keys, self._addresses, known=self._spoken
            )
            self._outbox = Outbox(cluster.name, owner, cluster.keys[0], speaks=self._spoken)
        else:
            self._inbox.configure(cluster.name, cluster.keys, self._addresses)
            self._outbox.configure(cluster.name, cluster.keys[0])

    @property
    def version(self) -> int:
        """The wire version that we speak now."""
        return common_version(self._speaks.values(), self._spoken)

    def receive(
        self, data: bytes, source: Address, destination: Address
    ) -> MessageHeard | MessageRejected:
        """The event that a datagram is; only after ``configure`` with a cluster.

        What came by another path before is a rejection like all others (COPY): that path lives.
        """
        if self._inbox is None:
            raise InvariantViolated("a datagram before the configuration of its cluster")
        try:
            received = self._inbox.read(data, source, destination)
        except ChannelError as error:
            if error.speaks is not None and source in self._addresses.get(error.sender, ()):
                self._speaks[error.sender] = error.speaks
            return MessageRejected(error.reason, error.sender, source, error.detail)
        self._speaks[received.sender.node] = received.speaks
        return MessageHeard(received, source)

    def encode(self, action: SendMessage) -> tuple[Outgoing, ...]:
        """The datagrams of a message, in the order in which to send them."""
        return self._outgoing(action.message, (action.to,) if action.to else self._addresses)

    def will(self, action: KeepWill) -> tuple[Outgoing, ...]:
        """The datagrams of the tombstones, to be sent as they are when this life is over."""
        return tuple(
            outgoing
            for member, tombstone in action.tombstones
            for outgoing in self._outgoing(tombstone, (member,))
        )

    def _outgoing(self, message: Message, members: Collection[str]) -> tuple[Outgoing, ...]:
        if self._outbox is None or not members:
            return ()
        datagrams = self._outbox.datagrams(message, self.version)
        return tuple(Outgoing(to, datagram) for datagram in datagrams for to in members)
