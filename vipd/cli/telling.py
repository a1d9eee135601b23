"""Entries of the journal as sentences, for ``vipd events`` and the history of ``vipd explain``.

A kind that a newer daemon uses and this program does not know is told by its fields.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from vipd.cli.vocabulary import EVENTS, HANDOVERS, NOTES, PIN_ENDED
from vipd.model import NoteKind

_TEMPLATES = {kind.value: text for kind, text in NOTES.items()} | EVENTS
_NAMES_ITS_SUBJECT = frozenset({"check", "hook"})


def told(entry: dict[str, Any], about: str = "") -> str:
    """One line; it begins with its subject, unless that is ``about``, or in the line anyway."""
    kind, subject, fields = entry["kind"], entry["subject"], entry["fields"]
    template = _template(kind, fields)
    if template is None:
        text = " ".join([kind, *(f"{key}={value}" for key, value in fields.items())])
    else:
        values = defaultdict(str, fields, subject=subject, cause=entry["cause"])
        if values["detail"] == values["result"]:
            values["detail"] = ""  # ok: ok
        text = template.format_map(values).strip().rstrip(":")
    if fields.get("held_back"):
        text += f" (and {fields['held_back']} more like it)"
    text = " ".join(text.split())  # one line, whatever a program wrote
    if subject in ("", about) or kind in _NAMES_ITS_SUBJECT:
        return text
    return f"{subject}: {text}"


def _template(kind: str, fields: dict[str, Any]) -> str | None:
    """Two kinds of notes say different things by their fields."""
    if kind == NoteKind.HANDOVER.value and fields.get("step") in HANDOVERS:
        return HANDOVERS[fields["step"]]
    if kind == NoteKind.PIN.value and not fields.get("node"):
        return PIN_ENDED
    return _TEMPLATES.get(kind)
