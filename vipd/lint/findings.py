"""What the lint complains about.

An *error* means that a VIP has two masters or none without any fault: exit status 2. A *warning*
is something that is hardly meant; it fails nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from vipd.errors import ConfigFault


class Severity(Enum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """``name`` is for machines; ``fault`` says where, what, and what would be right."""

    severity: Severity
    name: str
    fault: ConfigFault

    def __str__(self) -> str:
        return f"{self.severity.value}: {self.fault} [{self.name}]"
