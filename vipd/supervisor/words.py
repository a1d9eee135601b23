"""The kernel's refusals in words. The core knows their numbers only: it may not ask the system."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

_NUMBER = re.compile(r"\berrno (\d+)")


def spell(text: str) -> str:
    """``errno 1`` -> ``errno 1 (Operation not permitted)``, wherever it stands."""
    return _NUMBER.sub(lambda found: f"{found[0]} ({os.strerror(int(found[1]))})", text)


def spell_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a note with its texts spelled out, and ``error`` beside a bare ``errno``."""
    spelled: dict[str, Any] = {
        key: spell(value) if isinstance(value, str) else value for key, value in fields.items()
    }
    number = spelled.get("errno")
    if isinstance(number, int):
        spelled["error"] = os.strerror(number)
    return spelled
