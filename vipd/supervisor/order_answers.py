"""How the operator's commands are spelled in log and journal, and how they are answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vipd.model import SECOND_NS
from vipd.supervisor.handover import Fate, Outcome, UnitView

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


def span(for_s: float | None) -> str:
    return "until `vipd maintenance off`" if for_s is None else f"for {seconds(for_s)}"


def seconds(value: float) -> str:
    """``90`` -> ``1m30s``, as the command line takes it."""
    minutes, rest = divmod(value, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = "".join(f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m")) if count)
    return text + (f"{rest:g}s" if rest or not text else "")
