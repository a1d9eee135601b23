"""Plain mode: may mastership be given away now, and did somebody take it? Values only.

What is shared with cluster mode, whose own decisions stand in ``seats``, is here as well.

Rules
-----
1. A unit moves as one: a group, or an instance that is in none. Either name, or that of a member
   of the group, means the unit.
2. Only a master can give mastership away. In plain VRRP it cannot say to whom: it says goodbye
   (priority 0), and the best of those who listen takes over. So ``--to NODE`` is accepted where
   NODE is the only other node of the file, and refused where VRRP would have a choice.
3. An address owner (priority 255) gives nothing away: its VIPs are the host's own addresses.
4. Nobody gives mastership to nobody: somebody else must listen for every member of the unit,
   unless the operator insists.
5. Another master is what was heard *after* the order; this node being master again after the
   order means that nobody was there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from vipd.adapters.listeners import Listeners
from vipd.errors import VipdError
from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    Duration,
    InstanceConfig,
    Instant,
    NodeConfig,
    State,
)
from vipd.snapshots import InstanceSnapshot, Snapshot

PATIENCE_NS = SECOND_NS
"""Beyond the time after which any backup takes over from a silent master."""


LONGEST_S = 10 * 365 * 86_400.0


class OrderRefused(VipdError):
    """The command is not carried out; the message is the sentence for the operator."""


@dataclass(frozen=True, slots=True)
class UnitView:
    """One unit as a snapshot shows it, with the configuration of its members."""

    name: str
    members: tuple[InstanceSnapshot, ...]
    configs: tuple[InstanceConfig, ...]

    @property
    def state(self) -> State:
        return self.members[0].state

    @property
    def leads(self) -> bool:
        """Master, or about to be."""
        return self.state in (State.MASTER, State.CANDIDATE)

    @property
    def is_owner(self) -> bool:
        return any(config.is_owner for config in self.configs)

    @property
    def patience_ns(self) -> Duration:
        """How long after a step-down somebody must have taken over, if anybody does."""
        return max(member.master_down_interval_ns for member in self.members) + PATIENCE_NS

    @property
    def master(self) -> str:
        """Who is master as far as this node knows: a node, else an address, else nothing."""
        found = next((member.master for member in self.members if member.master), None)
        return "" if found is None else found.node or found.address


def units_of(snapshot: Snapshot, config: NodeConfig) -> dict[str, UnitView]:
    """The units that both know: a snapshot may be a moment older than a reload."""
    configs = {instance.name: instance for instance in config.instances}
    shots: dict[str, list[InstanceSnapshot]] = {}
    for shot in snapshot.instances:
        if shot.name in configs:
            shots.setdefault(shot.unit or shot.name, []).append(shot)
    return {
        name: UnitView(name, tuple(found), tuple(configs[shot.name] for shot in found))
        for name, found in shots.items()
    }


def find_unit(units: Mapping[str, UnitView], name: str) -> UnitView:
    """The unit of that name, or the one that has an instance of that name."""
    if name in units:
        return units[name]
    for unit in units.values():
        if any(member.name == name for member in unit.members):
            return unit
    known = ", ".join(units) or "none"
    raise OrderRefused(f"there is no instance or group {name}; there is {known}")


def check_switchover(unit: UnitView, node: str, nodes: Sequence[str], to: str | None) -> None:
    """Raises OrderRefused unless ``node``, this one, may give ``unit`` away (to node ``to``)."""
    if unit.is_owner:
        raise OrderRefused(
            f"{unit.name}: this host owns the addresses (priority 255) and cannot give them away; "
            "give it a priority from 1 to 254, or stop vipd"
        )
    if to is not None and to == node:
        raise OrderRefused(_refuse_self(unit, node))
    if not unit.leads:
        raise OrderRefused(
            f"{unit.name}: this node is {unit.state.value}, not master, so it has nothing to give "
            f"away; {_who(unit)}"
        )
    others = [name for name in nodes if name != node]
    if to is None or others == [to]:
        return
    if others and to not in others:
        raise OrderRefused(f"{unit.name}: the file names no node {to}; it names {_and(others)}")
    if not others:
        raise OrderRefused(
            f"{unit.name}: the file names no other node, so nobody knows which one {to} is; leave "
            "--to out: the highest priority takes over"
        )
    raise OrderRefused(
        f"{unit.name}: without a cluster section it is VRRP that chooses among {_and(others)}: the "
        "highest priority takes over; leave --to out, or change the priorities"
    )


def _refuse_self(unit: UnitView, node: str) -> str:
    if unit.leads:
        return f"{unit.name}: this node ({node}) is master already"
    return (
        f"{unit.name}: a backup cannot fetch mastership in plain VRRP; {_who(unit)}: run "
        f"`vipd switchover {unit.name}` there"
    )


def _who(unit: UnitView) -> str:
    return f"the master is {unit.master}" if unit.master else "no other master is known"


def check_time(for_s: float | None) -> None:
    """Raises OrderRefused for a time after which an order cannot end."""
    if for_s is not None and not 0 < for_s <= LONGEST_S:
        raise OrderRefused("the time of an order must be more than 0s and at most ten years")


def check_maintenance(units: Iterable[UnitView], force: bool) -> None:
    """Raises OrderRefused where this node owns addresses: those it keeps, and stays master."""
    owned = [unit.name for unit in units if unit.is_owner]
    if owned and not force:
        raise OrderRefused(
            f"{_and(owned)}: this host owns the addresses (priority 255) and keeps them in "
            "maintenance, too; give it a priority from 1 to 254, stop vipd, or insist on "
            "maintenance for all others with --force"
        )


def check_successor(
    unit: UnitView, answers: Mapping[str, Listeners], heard: Sequence[str], force: bool
) -> str:
    """Who listens, in words; raises OrderRefused if nobody does. ``answers`` by member."""
    found = sorted({address for answer in answers.values() for address in answer.found})
    alone = [name for name, answer in answers.items() if not answer.found]
    if not alone:
        return f"{_and(found)} {'listens' if len(found) == 1 else 'listen'}"
    asked = "; ".join(dict.fromkeys(answers[name].asked for name in alone))
    which = "" if len(answers) == 1 and alone == [unit.name] else f" for {_and(alone)}"
    last = f"; the last other master heard was {heard[-1]}" if heard else ""
    words = f"nobody who could take over answered{which} ({asked}){last}"
    if force:
        return words
    raise OrderRefused(
        f"{unit.name}: {words}. Start vipd or keepalived on another host; or if you know that one "
        "is ready (a firewall, or a switch that snoops IGMP, can hide it), insist with --force"
    )


def _and(names: Sequence[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)


# --- afterwards -------------------------------------------------------------------------------


class Fate(Enum):
    OPEN = "open"
    TAKEN = "taken"
    BACK = "back"
    ELSEWHERE = "elsewhere"  # cluster mode: ``master`` took it, though another node was meant
    OVERRULED = "overruled"  # cluster mode: another operator put it on ``master`` meanwhile


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a unit that was given away, and after how many ms.

    Not ``exact``: it was so when we looked, ``after_ms`` after the order, and may be since before.
    """

    fate: Fate
    master: str = ""
    after_ms: int = 0
    exact: bool = True


OPEN = Outcome(Fate.OPEN)


def judge_outcome(unit: UnitView, ordered_ns: Instant) -> Outcome:
    """What a snapshot taken after ``ordered_ns`` says about a unit that was master then."""
    if unit.leads:
        since_ns = unit.members[0].since_ns
        again = unit.state is State.MASTER and since_ns > ordered_ns
        return Outcome(Fate.BACK, "", _ms(since_ns - ordered_ns)) if again else OPEN
    for member in unit.members:
        master, heard_ns = member.master, member.last_advert_heard_ns
        if master is not None and heard_ns is not None and heard_ns > ordered_ns:
            return Outcome(Fate.TAKEN, master.node or master.address, _ms(heard_ns - ordered_ns))
    return OPEN


def _ms(duration_ns: Duration) -> int:
    return round(duration_ns / MILLISECOND_NS)
