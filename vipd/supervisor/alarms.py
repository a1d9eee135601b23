"""What an operator should know and nobody else tells: the standing alarms.

An alarm is named by its name and its subject, stands from the moment it is raised until it is
cleared, and has a cure. Raising one that stands changes its detail and not its beginning. Each
beginning and end is told to ``changed`` once, for journal and log.

Where alarms come from:

* Who watches a thing *sets* its alarm: a text raises it, None clears it.
* What the engine finds comes with its snapshots, and is replaced by the next one (``take``). In
  cluster mode they are taken regularly, so that nobody needs to ask for an alarm to be raised.
* A sign that repeats while the trouble lasts, and has no end of its own, *is seen*: the alarm
  ends when the sign has stayed away for ``QUIET_NS``. The core repeats such a sign at most once a
  minute, so that is two and a half minutes.

The names are a contract (DESIGN of the status); those of later parts come with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from vipd.model import SECOND_NS, Alarm, Instant, Note, NoteKind

STALE_CHECKS = "stale-checks"
HOOK_FAILED = "hook-failed"
JOURNAL_NOT_WRITTEN = "journal-not-written"
ENGINE_RESTARTING = "engine-restarting"
DUPLICATE_NODE = "duplicate-node"
IDENTITY_NOT_KEPT = "identity-not-kept"
PATH_DOWN = "path-down"
ADVERTS_LOST = "adverts-lost"
DRIFT = "drift"
NO_STANDBY = "no-standby"
FOREIGN_MASTER = "foreign-master"
KEY_ROTATION_PENDING = "key-rotation-pending"
CHANNEL_REFUSED = "channel-refused"

HEALTH = "health"
"""What the engine calls the reports of all checks, as a subject."""

CURES = {
    STALE_CHECKS: (
        "The last verdicts still count, and may be wrong. Look at CPU and disk of this host, and "
        "at `vipd status` for the check that no longer ends."
    ),
    HOOK_FAILED: (
        "See its output with `vipd events`; what it should have done has not been done. Mend it; "
        "it runs again at the next change."
    ),
    JOURNAL_NOT_WRITTEN: (
        "Make room in state_dir, or make it writable. Until then events are kept in memory only, "
        "the newest of them; nothing else suffers."
    ),
    ENGINE_RESTARTING: (
        "The VIPs of this host are removed while no engine runs. See why it ended: `vipd events`, "
        "`journalctl -u vipd`."
    ),
    IDENTITY_NOT_KEPT: (
        "Make room in state_dir, or make it writable; it is tried again every second. Nothing "
        "suffers now: but if it lasts until the next start of vipd, and the clock is behind by "
        "then, other nodes may take this one for an earlier life of itself and not listen to it."
    ),
    DUPLICATE_NODE: (
        "Two hosts use one address, or one node name. The detail says which: an address as the "
        "source of adverts (`vipd watch` shows the other's MAC), or a name on the cluster channel. "
        "Find the copy of this machine, or the host whose host name or `node:` is wrong, and stop "
        "it."
    ),
    PATH_DOWN: (
        "Nothing is heard by this path. From this host: `ping` the address. If it answers, look "
        "for a firewall that drops UDP of `cluster.port`, and on the other host at "
        "`systemctl status vipd`; if not, at link, switch and VLAN. While another path lives "
        "nothing else is lost. Is it the last one, make sure first that the host is really off: "
        "else two hosts may hold the VIPs."
    ),
    ADVERTS_LOST: (
        "Both nodes live on the channel, but the master's adverts do not pass the network of the "
        "VIPs: clients may not reach the master either. On both hosts `vipd watch -i INTERFACE`; "
        "look at switch ports, VLAN and multicast snooping, and for a firewall that drops protocol "
        "112. If clients complain, `vipd switchover` moves the VIPs to a node that they reach."
    ),
    DRIFT: (
        "The nodes do not run the same configuration. Compare /etc/vipd.yaml of both hosts "
        "(`cksum`), copy the right one, then `vipd check && vipd reload` on each. During a planned "
        "change it ends by itself when all hosts have reloaded."
    ),
    NO_STANDBY: (
        "The service runs, but nobody could take over if its master were lost now. `vipd status` "
        "says why each other node cannot: lost (start the host, or `systemctl start vipd` there), "
        "FAULT (mend what the reason says), maintenance (`vipd maintenance off` there)."
    ),
    FOREIGN_MASTER: (
        "A router that is no node of this cluster speaks for this VRID. `vipd watch` shows its "
        "address and MAC. Often keepalived that was not stopped, or a node whose cluster section "
        "or address is missing: stop it, or correct `cluster.nodes`, or take another VRID. While "
        "it is heard, takeovers need the longer times of the RFC."
    ),
    KEY_ROTATION_PENDING: (
        "A member still signs with the old key: the replacement is not finished. Go on with the "
        "next step of `vipd keygen` (docs/channel.md, Keys). Nothing is broken meanwhile; do not "
        "take the old key out of any file before this alarm is over."
    ),
    CHANNEL_REFUSED: (
        "Messages to `cluster.port` have no effect here; the subject says why, the detail from "
        "where. `vipd explain` has the cure for each reason. wrong-key: compare the key files "
        "(`sha256sum`); unknown-sender and foreign-address: compare `cluster.nodes` of both hosts. "
        "From an address that is no node of yours: a stranger; block it in the firewall."
    ),
}

QUIET_NS = 150 * SECOND_NS

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Standing:
    alarm: Alarm
    from_engine: bool = False
    ends_ns: Instant | None = None


class Alarms:
    """All that stand. ``changed`` is told the alarm; True where it begins, False where it ends."""

    def __init__(self, changed: Callable[[Alarm, bool], None]) -> None:
        self._changed = changed
        self._standing: dict[_Key, _Standing] = {}

    def set(self, name: str, subject: str, detail: str | None, now: Instant) -> None:
        """Raise it with ``detail``, or clear it with None."""
        if detail is None:
            self.clear(name, subject)
        else:
            self._raise(_Standing(Alarm(name, now, subject, detail)))

    def clear(self, name: str, subject: str) -> None:
        standing = self._standing.pop((name, subject), None)
        if standing is not None:
            self._changed(standing.alarm, False)

    def replace_all(self, name: str, details: dict[str, str], now: Instant) -> None:
        """Every alarm of one name that a watcher knows: subject -> detail; the others end."""
        for key in [key for key in self._standing if key[0] == name and key[1] not in details]:
            if not self._standing[key].from_engine:
                self.clear(*key)
        for subject, detail in details.items():
            self.set(name, subject, detail, now)

    def take(self, found: Iterable[Alarm]) -> None:
        """The engine's alarms, all of them; those of its last word that are missing here end."""
        given = {(alarm.name, alarm.subject): alarm for alarm in found}
        for key in [key for key, each in self._standing.items() if each.from_engine]:
            if key not in given:
                self.clear(*key)
        for alarm in given.values():
            self._raise(_Standing(alarm, from_engine=True))

    def hear(self, note: Note, now: Instant) -> None:
        """What a note of the core means for an alarm, at once: the snapshot may come later."""
        if note.kind is NoteKind.DUPLICATE_ADDRESS:
            detail = f"another host sends adverts from {note.fields.get('source', 'our address')}"
            alarm = Alarm(DUPLICATE_NODE, now, note.instance, detail)
            self._raise(_Standing(alarm, ends_ns=now + QUIET_NS))
        elif note.kind is NoteKind.HEALTH_STALE:
            alarm = Alarm(STALE_CHECKS, now, HEALTH, "no report of any check")
            self._raise(_Standing(alarm, from_engine=True))
        elif note.kind is NoteKind.HEALTH_FRESH:
            self.clear(STALE_CHECKS, HEALTH)

    def expire(self, now: Instant) -> None:
        """End what was not seen again; call it about once a second."""
        over = [
            key
            for key, each in self._standing.items()
            if each.ends_ns is not None and now >= each.ends_ns
        ]
        for key in over:
            self.clear(*key)

    def list(self, now: Instant, wall_now: float) -> list[dict[str, Any]]:
        """``alarms[]`` of the status, oldest first; ``wall_now`` is the wall clock at ``now``."""
        alarms = sorted((each.alarm for each in self._standing.values()), key=_order)
        return [
            {
                "name": alarm.name,
                "since": wall_now - (now - alarm.since_ns) / SECOND_NS,
                "subject": alarm.subject,
                "detail": alarm.detail,
                "cure": CURES.get(alarm.name, ""),
            }
            for alarm in alarms
        ]

    def _raise(self, wanted: _Standing) -> None:
        alarm = wanted.alarm
        before = self._standing.get((alarm.name, alarm.subject))
        if before is None:
            self._standing[alarm.name, alarm.subject] = wanted
            self._changed(alarm, True)
        else:
            kept = replace(alarm, since_ns=before.alarm.since_ns)
            self._standing[alarm.name, alarm.subject] = replace(wanted, alarm=kept)


def _order(alarm: Alarm) -> tuple[Instant, str, str]:
    return (alarm.since_ns, alarm.name, alarm.subject)
