"""``vipd maintenance`` and ``vipd switchover``: an operator moves mastership on purpose.

The daemon decides, acts and words the answer; here it is only asked and printed. Its sentence goes
to standard output when what was wanted came true (exit 0), else to standard error (exit 1).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vipd.cli import FAILED
from vipd.cli.client import accepted, control_socket, request
from vipd.cli.configuration import DEFAULT_CONFIG, ConfigOption
from vipd.errors import VipdError

REFUSED = 409
PATIENCE_S = 400.0
"""The longest that VRRP can let a takeover wait is 164 s, and maintenance may wait for two."""

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])", re.ASCII)
_TIME = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)

app = typer.Typer()


class Switch(StrEnum):
    ON = "on"
    OFF = "off"


ForOption = Annotated[
    str | None,
    typer.Option("--for", metavar="TIME", help="End by itself after this time, as 30m or 1h30m."),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Do it even if nobody seems to be there to take over.")
]


@app.callback()
def _group() -> None:
    """Commands that move mastership."""


@app.command("maintenance")
def maintenance(
    switch: Annotated[Switch, typer.Argument(help="on, or off")],
    lasting: ForOption = None,
    force: ForceOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Give every mastership of this node away, and take none until it is off again."""
    on = switch is Switch.ON
    if lasting is not None and not on:
        raise typer.BadParameter("only `maintenance on` has an end", param_hint="--for")
    for_s = None if lasting is None else _seconds(lasting)
    _command(config, "/maintenance", {"on": on, "for_s": for_s, "force": force})


@app.command("switchover")
def switchover(
    instance: Annotated[str, typer.Argument(metavar="INSTANCE", help="Or the name of a group.")],
    to: Annotated[
        str | None, typer.Option("--to", metavar="NODE", help="Who shall have it.")
    ] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="End an earlier switchover: preempt counts again.")
    ] = False,
    lasting: ForOption = None,
    force: ForceOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Give mastership of INSTANCE to another node, which keeps it.

    Run it on the master; with a cluster section, on any node.
    """
    if auto and (to is not None or lasting is not None):
        raise typer.BadParameter("goes with neither --to nor --for", param_hint="--auto")
    for_s = None if lasting is None else _seconds(lasting)
    body = {"instance": instance, "to": to, "auto": auto, "for_s": for_s, "force": force}
    _command(config, "/switchover", body)


def _seconds(text: str) -> float:
    if _TIME.fullmatch(text) is None:
        example = "a number with a unit (s, m, h, d), as 90s, 30m or 1h30m"
        raise typer.BadParameter(f"{text!r} is no time; write {example}", param_hint="--for")
    return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))


def _command(config: Path, target: str, body: Mapping[str, Any]) -> None:
    """Ask the daemon for it; raises VipdError with its reason for a no."""
    answer = request(control_socket(config), "POST", target, PATIENCE_S, body=body)
    if answer.status == REFUSED:
        raise VipdError(str(answer.value.get("error", "refused")))
    said = accepted(answer).value
    if said.get("warning"):
        print(f"warning: {said['warning']}", file=sys.stderr)
    if not said["done"]:
        print(f"vipd: {said['sentence']}", file=sys.stderr)
        raise typer.Exit(FAILED)
    print(said["sentence"])
