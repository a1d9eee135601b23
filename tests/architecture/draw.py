"""Draws the three machines from their tables, as Markdown: ``scripts/draw-tables`` writes the page.

Each machine gets one table: a row for each input, a column for each state. A cell names the
handler, or is a number that leads to the reason why nothing happens.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from vipd.core import claim, election, lease
from vipd.core.table import Ignored, Table
from vipd.model import ClaimState, LeaseState, State

PAGE = Path(__file__).resolve().parents[2] / "docs" / "state-machines.md"

HEAD = """\
# The three machines of an instance

*Generated from the code by `scripts/draw-tables`; a test keeps this page equal to the tables.*

Three questions, three machines: **election** "do I want it?", **lease** "may I have it?",
**claim** "does the kernel have it?". Only `vipd/core/unit.py` joins them:

```mermaid
flowchart LR
  wire([adverts, timers, faults]) --> election
  election -- LeaseWanted --> lease
  lease -- LeaseGranted --> election
  election -- ClaimWanted, ReleaseWanted --> claim
  kernel([addresses seen and gone, answers]) --> claim
  claim -- Released --> lease
  claim -- ClaimGivenUp --> fault[FAULT with back-off] --> election
```

A cell names the handler that runs. A number means: nothing happens, on purpose, for the reason
below the table.
"""

MACHINES: list[tuple[str, str, Table, type[Enum], tuple[type, ...]]] = [
    ("Election", "vipd/core/election.py", election.TABLE, State, election.INPUTS),
    ("Lease", "vipd/core/lease.py", lease.TABLE, LeaseState, lease.INPUTS),
    ("Claim", "vipd/core/claim.py", claim.TABLE, ClaimState, claim.INPUTS),
]


def draw() -> str:
    return HEAD + "".join(_machine(*machine) for machine in MACHINES)


def _machine(
    title: str, module: str, table: Table, states: type[Enum], inputs: tuple[type, ...]
) -> str:
    reasons: dict[str, int] = {}

    def cell(state: Enum, kind: type) -> str:
        row = table[state, kind]
        if isinstance(row, Ignored):
            return f"({reasons.setdefault(row.why, len(reasons) + 1)})"
        return f"`{row.__name__.lstrip('_')}`"

    lines = ["| input | " + " | ".join(state.value for state in states) + " |"]
    lines.append("|---|" + "---|" * len(states))
    for kind in inputs:
        cells = " | ".join(cell(state, kind) for state in states)
        lines.append(f"| {kind.__name__} | {cells} |")
    lines.append("")
    lines += [f"{number}. {why}" for why, number in reasons.items()]
    return f"\n## {title} (`{module}`)\n\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(draw(), encoding="utf-8")
