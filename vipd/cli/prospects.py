"""What moves an instance beside its adverts, and what would move it: for ``vipd explain``.

The daemon says what each track is worth now; what it would be worth with the other health follows
from its weight (``vipd/core/track.py`` has the rules): a positive weight counts while healthy, a
negative one while failed, ``reverse`` turns the sign, and without a weight failure is FAULT. Each
"if" looks at one thing at a time, everything else as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vipd.cli.succession import Candidate, candidates
from vipd.cli.wording import moment, span

LOWEST, HIGHEST = 1, 254
OWNER = 255

Lines = Iterator[tuple[str, str]]


def prospects(name: str, instance: dict[str, Any], shown: dict[str, Any], now: float) -> Lines:
    """Label and text of each; ``shown`` is the whole status."""
    yield from _group(name, instance, shown)
    yield from _maintenance(shown, now)
    if not shown.get("cluster"):  # there ``succession`` says more
        yield from _stays_back(instance, shown, now)
    for track in instance.get("tracks", ()):
        yield "tracks", f"{track['name']}: {_health(track, shown, now)}, {_worth(track)}."
    rival = _rival(instance, shown)
    for track in instance.get("tracks", ()):
        if (text := _what_if(track, instance, rival)) is not None:
            yield "what if", text
    yield from _alarms(name, instance, shown, now)


def arithmetic(priority: dict[str, Any]) -> str:
    """``90: 150 as configured, nginx -60``; says so where the sum is out of bounds."""
    base, effective = priority["base"], priority["effective"]
    parts = [f"{part['name']} {part['weight']:+d}" for part in priority["contributions"]]
    if not parts:
        return f"{effective}, as configured."
    total = base + sum(part["weight"] for part in priority["contributions"])
    text = f"{effective}: {base} as configured, {', '.join(parts)}"
    if base == OWNER:
        return f"{text}; 255 stays 255."
    if total != effective:
        return f"{text} = {total}, kept within {LOWEST} to {HIGHEST}."
    return f"{text}."


# --- what stands in the way -------------------------------------------------------------------


def _group(name: str, instance: dict[str, Any], shown: dict[str, Any]) -> Lines:
    group = instance.get("group")
    if group is None:
        return
    others = [
        other
        for other, values in shown["instances"].items()
        if values.get("group") == group and other != name
    ]
    with_whom = f" with {', '.join(others)}" if others else " alone"
    yield (
        "group",
        f"{group},{with_whom}: its members are master, backup and in fault together, and a fault "
        "of one, or a track of one, counts for all.",
    )


def _maintenance(shown: dict[str, Any], now: float) -> Lines:
    if (text := maintenance(shown, now)) is not None:
        yield "maintenance", f"{text}. `vipd maintenance off` ends it."


def maintenance(shown: dict[str, Any], now: float) -> str | None:
    """A sentence without its full stop; None if there is no maintenance."""
    order = shown.get("maintenance")
    if not order:
        return None
    since, until, by = order.get("since"), order.get("until"), order.get("by")
    text = "this node takes no mastership"
    text += f", since {moment(since, now)}" if since is not None else ""
    text += f", until {moment(until, now)}" if until is not None else ", until it is ended"
    return f"{text} (by {by})" if by else text


def _stays_back(instance: dict[str, Any], shown: dict[str, Any], now: float) -> Lines:
    """A backup that is better than its master owes a reason."""
    master = instance["master"]
    mine = instance["priority"]["effective"]
    if instance["state"] != "BACKUP" or master is None or shown.get("maintenance"):
        return
    if instance.get("held"):
        until = shown.get("holds", {}).get(instance["unit"], {}).get("until")
        end = f"at {moment(until, now)}, or " if until is not None else ""
        yield (
            "stays back",
            "its mastership was given away on purpose (switchover). It takes over when that master "
            f"leaves or falls silent; priority decides again {end}by `vipd switchover "
            f"{instance['unit']} --auto`.",
        )
    elif mine > master["priority"] and not instance.get("preempt", True):
        yield (
            "stays back",
            f"its priority {mine} is above the master's {master['priority']}, but `preempt: false` "
            "leaves mastership where it is until that master leaves or falls silent.",
        )
    elif mine > master["priority"]:
        yield (
            "stays back",
            f"its priority {mine} is above the master's {master['priority']}: it takes over by "
            "itself, at once or when `preempt_delay` has passed.",
        )


# --- tracks -----------------------------------------------------------------------------------


def _health(track: dict[str, Any], shown: dict[str, Any], now: float) -> str:
    check = shown.get("checks", {}).get(track["name"]) if track["kind"] == "check" else None
    if check is None:
        return str(track["health"])
    verdict = check.get("verdict", track["health"])
    since = check.get("since")
    text = f"{verdict} for {span(now - since)}" if since is not None else str(verdict)
    return f"{text} ({check['detail']})" if check.get("detail") else text


def _worth(track: dict[str, Any]) -> str:
    weight, turned = track["weight"], ", reversed" if track["reverse"] else ""
    if track["number"] is not None:
        times = f" times {weight}" if weight is not None else ""
        return f"its number {track['number']}{times}{turned} is worth {track['contribution']:+d}"
    if weight is None:
        return f"without a weight: FAULT while {'healthy' if track['reverse'] else 'failed'}"
    return f"weight {weight:+d}{turned}, worth {track['contribution']:+d} now"


def _rival(instance: dict[str, Any], shown: dict[str, Any]) -> Candidate | None:
    """The best backup of a master: in a cluster it is known, elsewhere backups are silent."""
    if not shown.get("cluster") or instance["state"] != "MASTER":
        return None
    return next(iter(candidates(instance["unit"], shown)), None)


def _what_if(
    track: dict[str, Any], instance: dict[str, Any], rival: Candidate | None
) -> str | None:
    """What the opposite health would do. Numbers are whatever their file will say."""
    health, weight, name = track["health"], track["weight"], track["name"]
    if track["number"] is not None or instance["priority"]["base"] == OWNER:
        return None
    if health == "unknown":
        return f"before the first verdict of {name} nobody knows what it will be worth."
    fails = health == "healthy"
    event = f"if {name} {'fails' if fails else 'is healthy again'}"
    if weight is None:
        brings_fault = fails != track["reverse"]
        return f"{event}: {'FAULT, ' + _lost(instance) if brings_fault else 'its fault ends'}."
    counts = (weight > 0) != fails
    worth = (weight if counts else 0) * (-1 if track["reverse"] else 1)
    sum_now = instance["priority"]["base"] + sum(
        part["weight"] for part in instance["priority"]["contributions"]
    )
    priority = max(LOWEST, min(HIGHEST, sum_now - track["contribution"] + worth))
    return f"{event}: priority {priority}{_consequence(priority, instance, rival)}."


def _lost(instance: dict[str, Any]) -> str:
    if instance["state"] == "MASTER":
        return "and its mastership goes to any other host"
    return "and it could not take over"


def _consequence(priority: int, instance: dict[str, Any], rival: Candidate | None) -> str:
    """Against whom it would then stand. A master that knows no rival does not hear its backups."""
    now, master = instance["priority"]["effective"], instance["master"]
    if rival is not None:
        if priority < rival.priority:
            return f"; {rival.node} with {rival.priority} asks for the mastership and gets it"
        return f", not below the {rival.priority} of {rival.node}: it stays master"
    if instance["state"] == "MASTER":
        if priority < now:
            return f"; a backup above {priority} takes the mastership (at {priority}: by address)"
        return ""
    if instance["state"] != "BACKUP" or master is None:
        return ""
    theirs = master["priority"]
    if priority <= theirs < now:
        return f", no longer above the master's {theirs}"
    if now <= theirs < priority:
        held = instance.get("held") or not instance.get("preempt", True)
        return f", above the master's {theirs}{'' if held else ': it takes over'}"
    return f", {'above' if priority > theirs else 'not above'} the master's {theirs} either way"


# --- alarms -----------------------------------------------------------------------------------


def _alarms(name: str, instance: dict[str, Any], shown: dict[str, Any], now: float) -> Lines:
    """Those about it, its group, or what it tracks."""
    subjects = _subjects(name, instance)
    for alarm in shown.get("alarms", ()):
        if alarm.get("subject") in subjects:
            yield "alarm", _alarm(alarm, now)


def alarms_of_none(shown: dict[str, Any], now: float) -> Lines:
    """Those that ``_alarms`` tells for no instance: of nodes, paths, the channel."""
    subjects: set[Any] = set()
    for name, instance in shown["instances"].items():
        subjects |= _subjects(name, instance)
    for alarm in shown.get("alarms", ()):
        subject = alarm.get("subject")
        if subject not in subjects:
            yield "alarm", f"{subject}: {_alarm(alarm, now)}" if subject else _alarm(alarm, now)


def _subjects(name: str, instance: dict[str, Any]) -> set[Any]:
    return {name, instance.get("unit"), *(track["name"] for track in instance.get("tracks", ()))}


def _alarm(alarm: dict[str, Any], now: float) -> str:
    detail = f": {alarm['detail']}" if alarm.get("detail") else ""
    since = f" for {span(now - alarm['since'])}" if "since" in alarm else ""
    return f"{alarm['name']}{since}{detail}. {alarm.get('cure', '')}".strip()
