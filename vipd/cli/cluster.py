"""The cluster as one node knows it, in rows and lines: for ``vipd status`` and its live view.

Two tables. Of the nodes: when and by how many paths each was heard, its software, what it is master
of, what is remarkable. Of the units: what each node says of itself, and why.

* A node that is not heard says nothing: its last word is shown as such, never as the present.
* Units by the dozen would bury the one that matters. Where the rows are more than ``most_rows``,
  units with one picture (the same states on the same nodes, the same trouble) become one block;
  what is not as it should be comes first, and names beyond a few are only counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from vipd.cli.wording import moment, span

NODE_HEADINGS = ("NODE", "HEARD", "PATHS", "SOFTWARE", "MASTER OF", "REMARKS")
UNIT_HEADINGS = ("UNIT", "NODE", "STATE", "PRIO", "WHY")
STATE_COLUMN = 2

LOST, LEFT = "lost", "left"
"""What stands for the state of a node that is not heard."""

_NAMED_OF_MANY = 6
_NAMED_OF_USUAL = 2
_NAMED_MASTERSHIPS = 2
_DEFAULT_TIMEOUT_MS = 1000.0
_ORDINARY = ("MASTER", "BACKUP")

Node = dict[str, Any]


class Row(NamedTuple):
    """One unit on one node; the fields are those of ``UNIT_HEADINGS``."""

    unit: str
    node: str
    state: str
    priority: str
    why: str


@dataclass(frozen=True, slots=True)
class Block:
    """Units with one picture. ``is_usual``: nothing about them needs an eye."""

    units: tuple[str, ...]
    is_usual: bool
    rows: tuple[Row, ...]


# --- what is asked of the status ----------------------------------------------------------------


def nodes_of(shown: dict[str, Any]) -> dict[str, Node]:
    """By name, in the order of the configuration, which is the same on every node."""
    nodes: dict[str, Node] = shown["cluster"]["nodes"]
    return nodes


def units_of(shown: dict[str, Any]) -> list[str]:
    """Every unit that any node speaks of, ours first."""
    names = [instance.get("unit", name) for name, instance in shown["instances"].items()]
    names += [unit for node in nodes_of(shown).values() for unit in node["units"]]
    return list(dict.fromkeys(names))


def masters_of(unit: str, shown: dict[str, Any]) -> list[str]:
    """The nodes that are heard and say that they are its master: one, if all is well."""
    return [
        name
        for name, node in nodes_of(shown).items()
        if node["alive"] and node["units"].get(unit, {}).get("state") == "MASTER"
    ]


def handing_of(unit: str, shown: dict[str, Any]) -> str | None:
    """The node to which this one is handing it over just now."""
    for name, instance in shown["instances"].items():
        if instance.get("unit", name) == unit and instance.get("handing_to"):
            return str(instance["handing_to"])
    return None


def timeout_ms(shown: dict[str, Any]) -> float:
    """``heartbeat_timeout``: who was not heard for so long is lost, and so is a path."""
    return float(shown["cluster"].get("heartbeat_timeout_ms") or _DEFAULT_TIMEOUT_MS)


def ago(milliseconds: float | None, shown: dict[str, Any]) -> str | None:
    """How long ago it is now: what the engine said has an age of its own."""
    if milliseconds is None:
        return None
    return span((milliseconds + (shown["age_ms"] or 0.0)) / 1000)


def listed(names: Iterable[str], most: int = _NAMED_OF_MANY) -> str:
    """``a, b, c and 7 more``."""
    named = list(names)
    rest = len(named) - most
    return ", ".join(named) if rest <= 0 else f"{', '.join(named[:most])} and {rest} more"


# --- nodes --------------------------------------------------------------------------------------


def headline(shown: dict[str, Any]) -> str:
    """``cluster shop: 3 nodes, 1 lost (lb3)``."""
    nodes = nodes_of(shown)
    parts = [f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}"]
    for word in (LOST, LEFT):
        if names := [name for name, node in nodes.items() if _absence(node) == word]:
            parts.append(f"{len(names)} {word} ({listed(names)})")
    if never := [name for name, node in nodes.items() if _absence(node) == "never heard"]:
        parts.append(f"{len(never)} never heard ({listed(never)})")
    if len(parts) == 1:
        parts.append("all heard")
    return f"cluster {shown['cluster']['name']}: {', '.join(parts)}"


def _absence(node: Node) -> str:
    if node["alive"]:
        return ""
    if node["left"]:
        return LEFT
    return LOST if node["last_heard_ms"] is not None else "never heard"


def node_rows(shown: dict[str, Any]) -> list[tuple[str, ...]]:
    """One for each node, then one for each witness."""
    rows: list[tuple[str, ...]] = [
        (
            name,
            _heard(node, shown),
            _paths(node, shown),
            node["software"],
            _mastership(node, node["alive"]),
            ", ".join(_remarks(node, shown)),
        )
        for name, node in nodes_of(shown).items()
    ]
    for name, witness in shown["cluster"]["witnesses"].items():
        heard = ago(witness["last_heard_ms"], shown)
        remark = "witness" if heard else "witness, not in use yet"
        rows.append((name, f"{heard} ago" if heard else "never", "", "", "", remark))
    return rows


def _heard(node: Node, shown: dict[str, Any]) -> str:
    if node["self"]:
        return "this host"
    when = ago(node["last_heard_ms"], shown)
    if when is None:
        return LEFT if node["left"] else "never"
    return f"{_absence(node)} {when} ago".lstrip()


def _paths(node: Node, shown: dict[str, Any]) -> str:
    paths = node["paths"]
    return f"{len(paths) - len(silent_paths(node, shown))}/{len(paths)}" if paths else ""


def silent_paths(node: Node, shown: dict[str, Any]) -> list[dict[str, Any]]:
    """The addresses from which nothing came for the time after which a node is lost."""
    limit = timeout_ms(shown)
    return [
        path
        for path in node["paths"]
        if path["last_heard_ms"] is None or path["last_heard_ms"] > limit
    ]


def _mastership(node: Node, is_alive: bool) -> str:
    names = [unit for unit, report in node["units"].items() if report["state"] == "MASTER"]
    if not is_alive or not names:
        return ""
    return ", ".join(names) if len(names) <= _NAMED_MASTERSHIPS else f"{len(names)} units"


def _remarks(node: Node, shown: dict[str, Any]) -> list[str]:
    found = []
    if node["maintenance"]:
        found.append("maintenance")
    if node["drifted"]:
        found.append("configuration differs")
    if node["alive"]:  # of a lost node all are silent
        for path in silent_paths(node, shown):
            when = ago(path["last_heard_ms"], shown)
            found.append(f"{path['address']} {'never heard' if when is None else f'silent {when}'}")
    return found


# --- units --------------------------------------------------------------------------------------


def blocks(shown: dict[str, Any], most_rows: int | None = None) -> list[Block]:
    """Every unit by itself; those with one picture together where that is more than
    ``most_rows`` rows, the unusual ones first."""
    each = [_block((unit,), shown) for unit in units_of(shown)]
    if most_rows is None or sum(len(block.rows) for block in each) <= most_rows:
        return each
    alike: dict[object, list[str]] = {}
    for unit in units_of(shown):
        alike.setdefault(_picture(unit, shown), []).append(unit)
    return sorted(
        (_block(tuple(units), shown) for units in alike.values()), key=lambda block: block.is_usual
    )


def _block(units: tuple[str, ...], shown: dict[str, Any]) -> Block:
    is_usual = all(_is_usual(unit, shown) for unit in units)
    label = units[0]
    if len(units) > 1:
        names = listed(units, _NAMED_OF_USUAL if is_usual else _NAMED_OF_MANY)
        label = f"{len(units)} units: {names}"
    rows = [
        _row(label, units, name, node, shown)
        for name, node in nodes_of(shown).items()
        if any(unit in node["units"] for unit in units) or node["alive"]
    ]
    return Block(units, is_usual, tuple(rows))


def _row(label: str, units: tuple[str, ...], name: str, node: Node, shown: dict[str, Any]) -> Row:
    reports = [node["units"][unit] for unit in units if unit in node["units"]]
    if not reports:
        return Row(label, name, "-", "", "does not list it: its configuration has no such unit")
    if not node["alive"]:
        said = _said(reports)
        return Row(label, name, _absence(node), "", f"its last word: {said}")
    states = dict.fromkeys(report["state"] for report in reports)
    return Row(label, name, "/".join(states), _priority(reports), _why(units, reports, shown))


def _said(reports: list[dict[str, Any]]) -> str:
    if len(reports) > 1:
        return listed(dict.fromkeys(report["state"] for report in reports))
    return f"{reports[0]['state']}, {reports[0]['reason']}"


def _priority(reports: list[dict[str, Any]]) -> str:
    effective = sorted({report["priority"]["effective"] for report in reports})
    if len(effective) > 1:
        return f"{effective[0]}-{effective[-1]}"
    base = reports[0]["priority"]["base"]
    return str(base) if effective == [base] else f"{effective[0]} (base {base})"


def _why(units: tuple[str, ...], reports: list[dict[str, Any]], shown: dict[str, Any]) -> str:
    if len(reports) > 1:
        return listed(dict.fromkeys(report["reason"] for report in reports), 3)
    report = reports[0]
    text = f"{report['reason']} ({report['detail']})" if report["detail"] else report["reason"]
    if report["state"] == "MASTER":
        return f"{text}, term {report['term']}"
    masters = masters_of(units[0], shown)
    if report["state"] == "BACKUP" and masters and report["master"] not in masters:
        text += f"; follows {report['master']}" if report["master"] else "; knows no master"
    return str(text)


def _is_usual(unit: str, shown: dict[str, Any]) -> bool:
    """One master, everybody else a backup, no weight, no order: nothing to look at."""
    reports = [node["units"].get(unit) for node in nodes_of(shown).values() if node["alive"]]
    return (
        len(masters_of(unit, shown)) == 1
        and unit not in shown["pin"]
        and handing_of(unit, shown) is None
        and all(
            report is not None
            and report["state"] in _ORDINARY
            and report["priority"]["base"] == report["priority"]["effective"]
            for report in reports
        )
    )


def _picture(unit: str, shown: dict[str, Any]) -> object:
    """Equal for units that look alike; reasons of masters and backups are history, not trouble."""
    states = []
    for name, node in nodes_of(shown).items():
        report = node["units"].get(unit)
        state = None if report is None else report["state"]
        reason = "" if report is None or state in _ORDINARY else report["reason"]
        weighed = report is not None and (
            report["priority"]["base"] != report["priority"]["effective"]
        )
        states.append((name, state, reason, weighed))
    pin = shown["pin"].get(unit, {}).get("node")
    return (tuple(states), pin, handing_of(unit, shown))


# --- what concerns units and is no state --------------------------------------------------------


def unit_lines(shown: dict[str, Any], now: float) -> list[str]:
    """What must be seen at once: units without a master, or with two; handovers and pins."""
    alike: dict[tuple[str, str], list[str]] = {}
    for unit in units_of(shown):
        for label, text in _unit_texts(unit, shown, now):
            alike.setdefault((label, text), []).append(unit)
    return [f"{label}: {listed(units)}: {text}" for (label, text), units in alike.items()]


def _unit_texts(unit: str, shown: dict[str, Any], now: float) -> Iterable[tuple[str, str]]:
    masters, target = masters_of(unit, shown), handing_of(unit, shown)
    if len(masters) > 1:
        yield "TWO MASTERS", f"{', '.join(masters)} both say that they are"
    elif target is not None:
        yield "HANDOVER", f"on its way to {target}"
    elif not masters:
        yield "NO MASTER", "no node that is heard is its master"
    if (pin := shown["pin"].get(unit)) is not None:
        yield "PIN", f"put {pin_text(pin, now)}"


def pin_text(pin: dict[str, Any], now: float) -> str:
    """A sentence without its full stop."""
    until = "until it is ended" if pin["until"] is None else f"until {moment(pin['until'], now)}"
    return f"on {pin['node']} {until}, or until that node fails"
