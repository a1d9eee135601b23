"""The book of members: who is in the cluster, what each one said last, and when.

It decides who is *alive*, and nothing else; what follows from it for mastership is decided in
``watch.py`` and ``cooperation.py``. DESIGN §5 (cluster mode), QUORUM §7.

Rules
-----
1. A heartbeat counts only from a *proved* life: one that echoed a nonce of ours. Until then it may
   be a recording; it makes us tell it our nonce, and nothing else. (Version 1 cannot echo: as long
   as a member speaks nothing else, so do all others, and they count without.)
2. What was said last counts: a heartbeat that is older than the newest one, or was sent before an
   acting message that we have heard, changes nothing.
3. A member is alive while it is heard within the timeout and has not *left*: said Goodbye, or its
   supervisor said that it is dead. A new life begins the book of that member anew.
4. What a member does not list any more is forgotten only when all parts of one complete beat are
   there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vipd.core.nonces import Nonces
from vipd.members import Heartbeat, Nonce, Owner, Received, UnitReport
from vipd.model import (
    SECOND_NS,
    Address,
    ClusterConfig,
    Duration,
    Instant,
    MemberConfig,
    State,
)

ECHOES_SINCE_VERSION = 2

NEVER_NS = 10 * SECOND_NS

FIT = (State.BACKUP, State.CANDIDATE)
"""Who reports one of these can become master now."""


@dataclass(slots=True)
class Peer:
    """One other node. Instants are our own clock's; None: never.

    ``heard_us``: when it last heard us, as far as it said so. ``sequence``: the number of its
    newest heartbeat; ``acted``: that of its newest acting message. ``hearings``: (instance, node)
    -> when it last heard those adverts.
    """

    config: MemberConfig
    owner: Owner | None = None
    proved: bool = False
    left: bool = False
    alive: bool = False
    nonce: Nonce = b""
    beat: int = -1
    sequence: int = 0
    acted: int = 0
    interval_ns: Duration = 0
    known_since: Instant = 0
    last_heard: Instant | None = None
    heard_us: Instant | None = None
    configuration: bytes = b""
    software: str = ""
    version: int = 0
    speaks: int = ECHOES_SINCE_VERSION
    maintenance: bool = False
    old_key_at: Instant | None = None
    units: dict[str, UnitReport] = field(default_factory=dict)
    hearings: dict[tuple[str, str], Instant] = field(default_factory=dict)
    sources: dict[str, Address] = field(default_factory=dict)
    paths: dict[Address, Instant | None] = field(default_factory=dict)
    _parts: dict[int, frozenset[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.config.name

    def begin_life(self, owner: Owner) -> None:
        """A new life knows nothing of the one before; where it sits stays known."""
        self.owner = owner
        self.proved = self.left = self.alive = False
        self.nonce, self.beat, self.sequence, self.acted = b"", -1, 0, 0
        self.heard_us = None
        self.units.clear()
        self.hearings.clear()
        self._parts.clear()

    def leave(self) -> None:
        """It said that it ends, or it is known to be dead: nothing that it reported stands."""
        self.left, self.alive = True, False
        self.units.clear()
        self.hearings.clear()

    def take(self, message: Heartbeat, now: Instant) -> list[UnitReport]:
        """What is new in a heartbeat of a proved life."""
        if message.beat != self.beat:
            self._parts.clear()
        self.beat, self.interval_ns = message.beat, message.interval_ns
        self.configuration, self.software = message.configuration, message.software
        self.maintenance = message.maintenance
        for report in message.units:
            self.units[report.unit] = report
        for hearing in message.hearings:
            self.hearings[hearing.instance, hearing.node] = now - hearing.ago_ns
        for speaker in message.speakers:
            self.sources[speaker.instance] = speaker.source
        if message.complete:
            self._parts[message.part] = frozenset(report.unit for report in message.units)
            if len(self._parts) == message.parts:
                listed = frozenset().union(*self._parts.values())
                self.units = {name: each for name, each in self.units.items() if name in listed}
        return list(message.units)

    def reports(self, unit: str, *states: State) -> UnitReport | None:
        """Its report of ``unit`` if it is in one of ``states``."""
        report = self.units.get(unit)
        return report if report is not None and report.state in states else None


@dataclass(frozen=True, slots=True)
class Heard:
    """What a heartbeat brought. ``answer``: it has to hear our nonce at once."""

    peer: Peer
    reports: tuple[UnitReport, ...] = ()
    answer: bool = False
    revived: bool = False


class Roster:
    """All other nodes of the cluster."""

    def __init__(self, own: str, cluster: ClusterConfig, now: Instant) -> None:
        self.own = own
        self.peers: dict[str, Peer] = {}
        self.since = now
        self.configure(own, cluster, now)

    def configure(self, own: str, cluster: ClusterConfig, now: Instant) -> None:
        """After a reload: members that stay keep what is known of them."""
        self.own = own
        self.timeout_ns: Duration = cluster.heartbeat_timeout_ns
        self.interval_ns: Duration = cluster.heartbeat_interval_ns
        self.address = next((m.addresses[0] for m in cluster.nodes if m.name == own), b"")
        peers = {}
        for config in cluster.nodes:
            if config.name == own:
                continue
            peer = self.peers.get(config.name) or Peer(config, known_since=now)
            peer.config = config
            peer.paths = {address: peer.paths.get(address) for address in config.addresses}
            peers[config.name] = peer
        self.peers = peers

    # --- hearing ------------------------------------------------------------------------------

    def meet(self, received: Received, source: Address, now: Instant) -> Peer | None:
        """Whoever sent a datagram that passed every check of the channel; None: no member."""
        peer = self.peers.get(received.sender.node)
        if peer is None:
            return None
        if peer.owner != received.sender:
            peer.begin_life(received.sender)
        if source in peer.paths:
            peer.paths[source] = now
        peer.version, peer.speaks = received.version, received.speaks.highest
        if received.old_key:
            peer.old_key_at = now
        return peer

    def hear(
        self, peer: Peer, received: Received, message: Heartbeat, nonces: Nonces, now: Instant
    ) -> Heard:
        """A heartbeat; what it reports is returned only if it counts (rules 1 and 2)."""
        answer = not peer.nonce
        newest = received.sequence > peer.sequence or message.beat == peer.beat
        if newest:
            peer.sequence = max(peer.sequence, received.sequence)
            peer.nonce = message.nonce
        for echo in message.echoes:
            if echo.node == self.own and nonces.accepts(echo.nonce):
                peer.proved = True
                peer.heard_us = max(peer.heard_us or 0, now - echo.ago_ns)
        if received.version < ECHOES_SINCE_VERSION and not self._all_can_echo:
            peer.proved = True
        if not peer.proved or peer.left or not newest or received.sequence < peer.acted:
            return Heard(peer, answer=answer)
        revived = not peer.alive
        peer.last_heard, peer.alive = now, True
        return Heard(peer, tuple(peer.take(message, now)), answer, revived)

    @property
    def _all_can_echo(self) -> bool:
        return all(peer.speaks >= ECHOES_SINCE_VERSION for peer in self.peers.values())

    def expire(self, now: Instant) -> list[Peer]:
        """Those that were alive until now, and are not any more."""
        lost = []
        for peer in self.peers.values():
            heard = peer.last_heard
            if peer.alive and heard is not None and now - heard >= self.timeout_of(peer):
                peer.alive = False
                lost.append(peer)
        return lost

    @property
    def deadline(self) -> Instant | None:
        """When the next member is lost if nothing is heard."""
        return min(
            (
                peer.last_heard + self.timeout_of(peer)
                for peer in self.peers.values()
                if peer.alive and peer.last_heard is not None
            ),
            default=None,
        )

    def pace_of(self, peer: Peer) -> Duration:
        """The time between its beats: what it says, and no less than our own."""
        return max(self.interval_ns, peer.interval_ns)

    def timeout_of(self, peer: Peer) -> Duration:
        """So long it may be unheard. A reload that changes times goes from node to node."""
        slower = peer.interval_ns > self.interval_ns
        return max(self.timeout_ns, lost_after_ns(peer.interval_ns) if slower else 0)

    @property
    def met_anybody(self) -> bool:
        """Is there a cluster yet, or is this the first node that has the section?"""
        return any(peer.owner is not None for peer in self.peers.values())

    # --- asking -------------------------------------------------------------------------------

    def alive(self) -> Iterator[Peer]:
        return (peer for peer in self.peers.values() if peer.alive)

    def is_fresh(self, peer: Peer, now: Instant) -> bool:
        """Heard within two beats: what it said last is what it means now."""
        if not peer.alive or peer.last_heard is None:
            return False
        return now - peer.last_heard < 5 * self.pace_of(peer) // 2

    def master_of(self, unit: str, term: int = 0) -> Peer | None:
        """Whose last word was that it is master; of several the highest term.

        One that is lost counts only while no live one is master (one that has just begun may not
        know what terms there were), and nobody, this node with its ``term`` included, knows of a
        later mastership: else its last word is history.
        """
        newest = max(term, self.highest_term(unit))
        masters = [
            peer
            for peer in self.peers.values()
            if peer.reports(unit, State.MASTER) and (peer.alive or peer.units[unit].term >= newest)
        ]
        return max(masters, key=lambda peer: (peer.alive, _standing_of(peer, unit)), default=None)

    def fit_for(self, unit: str) -> list[Peer]:
        """Who could be master of ``unit`` now, the best first."""
        fit = [peer for peer in self.alive() if not peer.maintenance and peer.reports(unit, *FIT)]
        return sorted(fit, key=lambda peer: self.rank_of(peer, unit), reverse=True)

    def rank_of(self, peer: Peer, unit: str) -> tuple[int, Address]:
        """Higher is better; all nodes come to the same order."""
        report = peer.units.get(unit)
        return (0 if report is None else report.priority, peer.config.addresses[0])

    def highest_term(self, unit: str) -> int:
        terms = (peer.units[unit].term for peer in self.peers.values() if unit in peer.units)
        return max(terms, default=0)

    def speaker(self, source: Address) -> Peer | None:
        """The node whose adverts come from ``source``.

        For whichever instance: while a reload goes round, nodes may call one router by two names.
        """
        for peer in self.peers.values():
            if source in peer.sources.values() or source in peer.config.addresses:
                return peer
        return None

    def knows_speakers(self, instance: str, now: Instant) -> bool:
        """Has every node told by now from where its adverts for ``instance`` come, if it has any?

        Version 1 cannot, and who is not heard just now may have another address since. Who was
        never heard is not waited for.
        """
        return all(
            peer.left
            or instance in peer.sources
            or (peer.sources and self.is_fresh(peer, now))
            or (peer.owner is None and now - peer.known_since > NEVER_NS)
            for peer in self.peers.values()
        )

    def all_report(self, unit: str) -> bool:
        """Do we know of every node what it is in ``unit``, or that it is gone?"""
        peers = self.peers.values()
        return all(peer.left or (peer.alive and unit in peer.units) for peer in peers)

    def quiet(self, now: Instant) -> Iterator[Peer]:
        """Who misses beats of ours, or whose beats we miss, for not too long: it may be the
        channel alone. Two timeouts later everybody goes by the adverts' own pace.
        """
        for peer in self.peers.values():
            if peer.left:
                continue
            begin, end = 2 * self.pace_of(peer), 2 * self.timeout_of(peer)
            if not peer.proved:
                # It may still wait for beats in the name that our cluster had before a reload.
                if now - self.since < end:
                    yield peer
                continue
            signs = (peer.last_heard, peer.heard_us)
            if any(begin < now - sign < end for sign in signs if sign is not None):
                yield peer


def lost_after_ns(interval_ns: Duration) -> Duration:
    """The shortest silence that is no cut of the channel alone (docs/decisions/0010): two beats are
    missed, then the master's advert has a beat to arrive, and a quarter for delays.
    """
    return 3 * interval_ns + interval_ns // 4


def _standing_of(peer: Peer, unit: str) -> tuple[int, int, Address]:
    report = peer.units[unit]
    return (report.term, report.priority, peer.config.addresses[0])
