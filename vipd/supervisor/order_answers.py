"""How the operator's commands are spelled in log and journal, and how they are answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vipd.model import SECOND_NS, Duration, Reason
from vipd.supervisor.handover import Fate, Outcome, UnitView
from vipd.supervisor.seats import Table

Answer = dict[str, Any]


def answer(
    done: bool, sentence: str, warning: str = "", outcomes: Mapping[str, Outcome] | None = None
) -> Answer:
    """``done`` false: carried out, but not what was wanted came of it."""
    units = {
        name: {"fate": outcome.fate.value, "master": outcome.master, "after_ms": outcome.after_ms}
        for name, outcome in (outcomes or {}).items()
    }
    return {"done": done, "sentence": sentence, "warning": warning, "units": units}


def spell(
    command: str,
    for_s: float | None = None,
    force: bool = False,
    *,
    auto: bool = False,
    to: str | None = None,
) -> str:
    """The command as a shell would have it."""
    words = [command]
    words += ["--auto"] if auto else []
    words += [f"--to {to}"] if to is not None else []
    words += [f"--for {seconds(for_s)}"] if for_s is not None else []
    words += ["--force"] if force else []
    return " ".join(words)


def fate_of(unit: UnitView, outcome: Outcome) -> str:
    """What became of a unit that was given away."""
    if outcome.fate is Fate.TAKEN:
        return f"{unit.name}: {outcome.master} took over after {outcome.after_ms} ms"
    if outcome.fate is Fate.BACK:
        after = f"this node is master again after {outcome.after_ms} ms"
        return f"{unit.name}: nobody took over; {after}"
    patience_s = unit.patience_ns / SECOND_NS
    return f"{unit.name}: no other master was heard within {patience_s:.1f} s"


def recovery(unit: UnitView, outcome: Outcome) -> str:
    """What became of a unit whose maintenance was taken back."""
    if outcome.fate is Fate.BACK:
        return f"this node is master of {unit.name} again"
    return fate_of(unit, outcome)


def held(unit: str, for_s: float | None) -> str:
    until = "" if for_s is None else f"for {seconds(for_s)}, "
    return (
        f"this node does not take it back {until}unless that master is lost or "
        f"`vipd switchover {unit} --auto` says so"
    )


# --- cluster mode -----------------------------------------------------------------------------


def taken(unit: str, outcome: Outcome) -> str:
    return f"{unit}: {taken_by(outcome)}"


def taken_by(outcome: Outcome) -> str:
    return f"{outcome.master} took over {_when(outcome)}"


NOT_PINNED = "but the pin was ended meanwhile, so priorities decide again"


def pinned(unit: str, for_s: float | None) -> str:
    lasts = "pinned there" if for_s is None else f"pinned there for {seconds(for_s)}"
    return f"{lasts}: it stays until that node fails or `vipd switchover {unit} --auto` says so"


def not_put(table: Table, to: str, outcome: Outcome, waited_ns: Duration) -> str:
    """Why a unit is not where it was ordered to be, as far as the view shows it."""
    if outcome.fate is Fate.OVERRULED:
        return f"{table.unit}: another switchover put it on {outcome.master} meanwhile"
    seat = table.seat(to)
    obstacle = f"{to} is in the cluster no more" if seat is None else seat.obstacle()
    because = f" ({obstacle})" if obstacle else ""
    if outcome.fate is Fate.BACK:
        again = f"{outcome.master} is master again {_when(outcome)}"
        return f"{table.unit}: {to} did not take it{because}; {again}"
    if outcome.fate is Fate.ELSEWHERE:
        return f"{table.unit}: {to} did not take it{because}; {taken_by(outcome)}"
    patience = f"within {waited_ns / SECOND_NS:.1f} s"
    return f"{table.unit}: {to} did not take it {patience}{because}; {_holder(table)}"


def relief(table: Table, outcome: Outcome) -> str:
    """What became of a unit that this node gave away for maintenance."""
    if outcome.fate is Fate.TAKEN:
        return taken(table.unit, outcome)
    others = (seat.obstacle() for seat in table.seats if not seat.is_self)
    because = "; ".join(obstacle for obstacle in others if obstacle)
    nobody = f"{table.unit}: nobody took over" + (f" ({because})" if because else "")
    return f"{nobody}; {_holder(table)}"


def whose(table: Table) -> str:
    """Who has a unit after all."""
    return f"{table.unit}: {_holder(table)}"


def _holder(table: Table) -> str:
    master = table.master
    if master is None:
        return "no node is master"
    failed = master.reason == Reason.HANDOVER_FAILED.value
    return f"{master.node} is master" + (f" ({master.why()})" if failed else "")


def _when(outcome: Outcome) -> str:
    return f"{'after' if outcome.exact else 'within'} {outcome.after_ms} ms"


# --- times ------------------------------------------------------------------------------------


def span(for_s: float | None) -> str:
    return "until `vipd maintenance off`" if for_s is None else f"for {seconds(for_s)}"


def seconds(value: float) -> str:
    """``90`` -> ``1m30s``, as the command line takes it."""
    minutes, rest = divmod(value, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = "".join(f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m")) if count)
    return text + (f"{rest:g}s" if rest or not text else "")
