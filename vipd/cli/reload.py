"""``vipd reload``: make the daemon read its file again, and print what that changes."""

from __future__ import annotations

import sys

import typer

from vipd.cli import BAD_CONFIGURATION
from vipd.cli.client import RELOAD_PATIENCE_S, accepted, control_socket, request
from vipd.cli.configuration import DEFAULT_CONFIG, ConfigOption

REFUSED = 422

app = typer.Typer()


@app.callback()
def _group() -> None:
    """Commands that tell the daemon something."""


@app.command("reload")
def reload(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Read the configuration again. A bad file changes nothing: its faults are printed, exit 2."""
    answer = request(control_socket(config), "POST", "/reload", RELOAD_PATIENCE_S)
    if answer.status == REFUSED:
        print("\n".join(answer.value["faults"]), file=sys.stderr)
        raise typer.Exit(BAD_CONFIGURATION)
    print("\n".join(accepted(answer).value["plan"]) or "nothing to do: there are no instances")
