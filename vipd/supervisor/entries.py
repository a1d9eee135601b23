"""What goes into the journal: one function for each kind of entry, so that each has one shape.

Use: ``journal.add(*entries.check(...))``. The kinds, and the fields that ``vipd events`` tells
them by (``vipd/cli/telling.py`` has the sentences); additions are free, renaming is not:

==============  ==============================================================================
a NoteKind      what the core said; subject: instance or group, empty for the node; its fields
check           subject: the check; was, verdict, detail, elapsed_ms, number
hook            subject: instance or group; occasion, state, result, detail, and how it ran
command         subject: what it is about; text, by, and what came of it
hold-ended      subject: instance or group; cause: why a switchover's hold is over
maintenance-ended   cause: why
alarm           subject as the alarm's; name, change (raised, cleared), detail
engine          text, and what is known of the process
configuration   text, generation, changes
daemon          text: started and stopped
journal         text: what the journal says of itself
==============  ==============================================================================

``cause`` is why, in a word or a sentence: the core's reason, the check's detail, who commanded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vipd.model import Alarm, Note
from vipd.supervisor.words import spell_fields

CHECK, HOOK, COMMAND, ALARM = "check", "hook", "command", "alarm"
ENGINE, CONFIGURATION, DAEMON = "engine", "configuration", "daemon"


class Happening(NamedTuple):
    """The arguments of ``Journal.add``."""

    kind: str
    subject: str
    fields: Mapping[str, Any]
    cause: str = ""


def note(said: Note) -> Happening:
    """A note of the core, its errno spelled out."""
    fields = spell_fields(said.fields)
    if "because" in fields:
        return Happening(said.kind.value, said.instance, fields, str(fields["because"]))
    reason, detail = fields.get("reason", ""), fields.get("detail", "")
    cause = f"{reason} ({detail})" if reason and detail else str(reason or detail)
    return Happening(said.kind.value, said.instance, fields, cause)


def check(
    name: str, was: str, verdict: str, detail: str, elapsed_ms: float, number: int | None = None
) -> Happening:
    """A verdict changed. A check that holds a number says which."""
    fields = {"was": was, "verdict": verdict, "detail": detail, "elapsed_ms": round(elapsed_ms, 3)}
    if number is not None:
        fields["number"] = number
    return Happening(CHECK, name, fields, detail)


def hook(
    subject: str, occasion: str, state: str, result: str, detail: str, **how: Any
) -> Happening:
    """A hook ran, or did not. ``how``: sequence, attempt, status, elapsed_ms, output, command."""
    fields = {"occasion": occasion, "state": state, "result": result, "detail": detail, **how}
    return Happening(HOOK, subject, fields, f"{occasion} of {subject}")


def command(text: str, by: str, subject: str = "", **more: Any) -> Happening:
    """Somebody told the daemon to do something; ``by`` is who (``uid 0, pid 4711``)."""
    return Happening(COMMAND, subject, {"text": text, "by": by, **more}, by)


def alarm(about: Alarm, begins: bool) -> Happening:
    """An alarm begins or ends."""
    change = "raised" if begins else "cleared"
    fields = {"name": about.name, "change": change, "detail": about.detail}
    return Happening(ALARM, about.subject, fields, about.detail)


def engine(text: str, cause: str = "", **more: Any) -> Happening:
    """The engine's life: ``started``, ``died``."""
    return Happening(ENGINE, "", {"text": text, **more}, cause)


def configuration(text: str, generation: int, changes: Sequence[str], cause: str) -> Happening:
    """A file was taken over, or refused."""
    fields = {"text": text, "generation": generation, "changes": list(changes)}
    return Happening(CONFIGURATION, "", fields, cause)


def daemon(text: str, cause: str = "", **more: Any) -> Happening:
    """The daemon's own life."""
    return Happening(DAEMON, "", {"text": text, **more}, cause)
