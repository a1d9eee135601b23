"""Who is master in the cluster, why, and who would be next: for ``vipd explain``.

The rules behind the sentences are the core's (QUORUM H1 to H3): a master that leaves by decision
names its successor; one that is lost is replaced by the best node that is heard and fit, after
``heartbeat_timeout``, and each next one waits a step longer; a better node asks the master for the
mastership, it never takes it; where a router that is no node speaks, the RFC's timers count.

What other nodes are is what they said last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from vipd.cli.cluster import ago, handing_of, masters_of, nodes_of, pin_text, timeout_ms
from vipd.cli.wording import moment, span

STEP_MS = 50
"""So much longer waits each next candidate for the one before it."""

FOREIGN = "foreign-master"
_FIT = ("BACKUP", "CANDIDATE")

Lines = Iterator[tuple[str, str]]


class Candidate(NamedTuple):
    """A node that could be master now."""

    node: str
    priority: int


def succession(name: str, instance: dict[str, Any], shown: dict[str, Any], now: float) -> Lines:
    """Label and text of each; ``shown`` is the status of a node in cluster mode."""
    unit = instance["unit"]
    yield from _master(unit, instance, shown, now)
    yield from _why_not_here(unit, instance, shown, now)
    yield from _strangers(name, instance, shown)
    yield from _candidates(unit, shown)
    yield from _if_lost(name, instance, shown)
    yield from _said(unit, shown)
    yield from _waiting(instance, shown)


def candidates(unit: str, shown: dict[str, Any]) -> list[Candidate]:
    """Who could take over ``unit`` now, the best first.

    Of equal priorities the higher first address comes first. Our own is not among the paths: it
    counts as the lowest, and the sentences say that they are equal.
    """
    fit = [
        (node["units"][unit]["priority"]["effective"], _address(node), name)
        for name, node in nodes_of(shown).items()
        if node["alive"] and not node["maintenance"] and _state(node, unit) in _FIT
    ]
    return [Candidate(name, priority) for priority, _, name in sorted(fit, reverse=True)]


def _address(node: dict[str, Any]) -> bytes:
    from vipd.model import parse_address

    return parse_address(node["paths"][0]["address"]) if node["paths"] else b""


def _state(node: dict[str, Any], unit: str) -> str:
    return str(node["units"].get(unit, {}).get("state", ""))


# --- who, and since when ------------------------------------------------------------------------


def _master(unit: str, instance: dict[str, Any], shown: dict[str, Any], now: float) -> Lines:
    router = f"VRRPv{instance['protocol']}, VRID {instance['vrid']}, {instance['interface']}"
    heard_ms = instance["timers"]["last_advert_heard_ms"]
    heard = (
        "No advert of another router was ever heard"
        if heard_ms is None
        else f"The last advert of another router came {span(heard_ms / 1000)} ago"
    )
    if instance["state"] == "MASTER":
        since = instance["since"]
        yield (
            "master",
            f"this host, as {instance['source']}, since {moment(since, now)}, term "
            f"{instance['term']} ({router}). {heard}.",
        )
        if (target := handing_of(unit, shown)) is not None:
            yield "master", f"it is handing it over to {target} just now."
    masters = [each for each in masters_of(unit, shown) if each != shown["node"]]
    for each in masters:
        yield "master", f"{each}{_mastership(each, unit, shown, now)} ({router}). {heard}."
    if len(masters) + (instance["state"] == "MASTER") > 1:
        yield (
            "master",
            "more than one node says that it is. For an instant this is normal, the better one "
            "stays. If it lasts, the nodes hear each other on the channel and not on the VIPs' "
            "network: `vipd watch` on both.",
        )
    if not masters and instance["state"] != "MASTER":
        yield "master", f"none is heard ({router}). {heard}."
        yield from _lost_masters(unit, shown)


def _mastership(name: str, unit: str, shown: dict[str, Any], now: float) -> str:
    report = nodes_of(shown)[name]["units"][unit]
    since = report.get("since")
    begun = f" since {moment(since, now)}" if since is not None else ""
    return f"{begun}, term {report['term']}, with priority {report['priority']['effective']}"


def _lost_masters(unit: str, shown: dict[str, Any]) -> Lines:
    for name, node in nodes_of(shown).items():
        if not node["alive"] and not node["left"] and _state(node, unit) == "MASTER":
            yield "master", f"the last one was {name}, not heard for {_heard(node, shown)}."


def _heard(node: dict[str, Any], shown: dict[str, Any]) -> str:
    return ago(node["last_heard_ms"], shown) or "ever"


# --- why not this node --------------------------------------------------------------------------


def _why_not_here(unit: str, instance: dict[str, Any], shown: dict[str, Any], now: float) -> Lines:
    """A backup owes a reason; why a FAULT is none is said elsewhere."""
    pin, own = shown["pin"].get(unit), shown["node"]
    if pin is not None:
        yield (
            "pin",
            f"an operator put it {pin_text(pin, now)}. Nobody preempts it there; "
            f"`vipd switchover {unit} --auto` lets priority decide again.",
        )
    others = [each for each in masters_of(unit, shown) if each != own]
    if instance["state"] != "BACKUP" or not others:
        return
    mine = instance["priority"]["effective"]
    theirs = nodes_of(shown)[others[0]]["units"][unit]["priority"]["effective"]
    if shown.get("maintenance"):
        yield "not here", "this node is in maintenance: it takes no mastership from anybody."
    elif mine <= theirs:
        yield "not here", f"its priority {mine} is not above the {theirs} of {others[0]}."
    elif pin is not None:
        yield (
            "not here",
            f"its priority {mine} is above the {theirs} of {others[0]}, but for the pin.",
        )
    elif not instance.get("preempt", True):
        yield (
            "not here",
            f"its priority {mine} is above the {theirs} of {others[0]}, but `preempt: false` "
            "leaves mastership where it is until that master leaves or is lost.",
        )
    else:
        yield (
            "not here",
            f"its priority {mine} is above the {theirs} of {others[0]}. "
            + _asking(others[0], instance, shown),
        )


def _asking(master: str, instance: dict[str, Any], shown: dict[str, Any]) -> str:
    """What became of its wish, and when it asks (again)."""
    refused, asks_in_ms = instance.get("refused_for"), instance["timers"].get("asks_in_ms")
    text = f"It asks {master} to hand over"
    if asks_in_ms is not None:
        left = max(asks_in_ms - (shown["age_ms"] or 0.0), 0.0)
        text += f"{' again' if refused else ''} in {span(left / 1000)}"
    if refused:
        return f"{text}; the last answer was no: {refused}. Each time it waits longer, up to 5 min."
    return f"{text}{'' if asks_in_ms is not None else ', when `preempt_delay` has passed'}."


def _strangers(name: str, instance: dict[str, Any], shown: dict[str, Any]) -> Lines:
    if _hears_strangers(name, instance, shown):
        yield (
            "stranger",
            "a router that is no node of this cluster speaks for this VRID (alarm foreign-master). "
            "While it is heard the timers of the RFC count, and nobody preempts by asking.",
        )


def _hears_strangers(name: str, instance: dict[str, Any], shown: dict[str, Any]) -> bool:
    subjects = (name, instance["unit"])
    return any(
        alarm["name"] == FOREIGN and alarm.get("subject") in subjects
        for alarm in shown.get("alarms", ())
    )


# --- what if the master were lost ---------------------------------------------------------------


def _candidates(unit: str, shown: dict[str, Any]) -> Lines:
    fit = candidates(unit, shown)
    if fit:
        ranks = ", ".join(
            f"{rank}. {each.node} ({each.priority}{', this host' * (each.node == shown['node'])})"
            for rank, each in enumerate(fit, 1)
        )
        equal = len({each.priority for each in fit}) < len(fit)
        note = "; of equal priorities the higher cluster address is first" if equal else ""
        yield "next", f"{ranks}{note}."
    able = {*masters_of(unit, shown), *(each.node for each in fit)}
    for name, node in nodes_of(shown).items():
        if name not in able:
            yield "next", f"not {name}: {_inability(node, unit, shown)}."


def _inability(node: dict[str, Any], unit: str, shown: dict[str, Any]) -> str:
    if node["left"]:
        return "it has left"
    if not node["alive"]:
        return f"not heard for {_heard(node, shown)}" if node["last_heard_ms"] else "never heard"
    if node["maintenance"]:
        return "in maintenance"
    report = node["units"].get(unit)
    if report is None:
        return "its configuration has no such unit"
    detail = f" ({report['detail']})" if report["detail"] else ""
    return f"{report['state']}, {report['reason']}{detail}"


def _if_lost(name: str, instance: dict[str, Any], shown: dict[str, Any]) -> Lines:
    unit = instance["unit"]
    masters, fit = masters_of(unit, shown), candidates(unit, shown)
    if len(masters) != 1:
        return
    master = "this host" if masters[0] == shown["node"] else masters[0]
    if not fit:
        yield (
            "what if",
            f"{master} were lost now: nobody could take over, the VIPs would be without a host.",
        )
        return
    first = "this host" if fit[0].node == shown["node"] else fit[0].node
    if _hears_strangers(name, instance, shown):
        down = span(instance["timers"]["master_down_interval_ms"] / 1000)
        when = f"about {down} after its last advert, by the timers of the RFC"
    else:
        when = f"{timeout_ms(shown):g} ms after its last sign of life (`heartbeat_timeout`)"
    then = f"; each next one waits {STEP_MS} ms longer" if len(fit) > 1 else ""
    yield (
        "what if",
        f"{master} were lost now: {first} takes over, {when}{then}. If it leaves by itself, or "
        f"only its process dies, {first} is named and takes over within milliseconds. If only "
        "the channel is cut and its adverts are still heard, nobody does.",
    )


# --- what the others said -----------------------------------------------------------------------


def _said(unit: str, shown: dict[str, Any]) -> Lines:
    for name, node in nodes_of(shown).items():
        report = node["units"].get(unit)
        if node["self"] or report is None:
            continue
        detail = f" ({report['detail']})" if report["detail"] else ""
        lost = "" if node["alive"] else ", and is not heard any more"
        sees = report["master"] or "nobody"
        yield (
            "said",
            f"{name}, {_heard(node, shown)} ago{lost}: {report['state']}, {report['reason']}"
            f"{detail}, priority {report['priority']['effective']}, term {report['term']}; its "
            f"master is {sees}.",
        )


def _waiting(instance: dict[str, Any], shown: dict[str, Any]) -> Lines:
    """In the core's words: it alone knows by which rule its timer runs."""
    timers = instance["timers"]
    if instance["state"] == "FAULT":
        yield "waits for", "the end of its faults; then it starts as a backup by itself."
    elif timers["next_in_ms"] is not None and timers["next"]:
        left = (timers["next_in_ms"] - (shown["age_ms"] or 0.0)) / 1000
        yield "waits for", f"{span(left)}: then it {_verb(timers['next'])}."
    else:
        yield "waits for", "nothing that has a time."


def _verb(next_step: str) -> str:
    return "sends its next advert" if next_step == "next advert" else next_step
