"""Joins the command groups, and imports one only when it is asked for.

``COMMANDS`` maps a command to the module that has it. Such a module holds ``app``, a typer
application with the command under that name; a typer application added to it by name is a
sub-group (``vipd lab ...``). A module may be named for several commands.
"""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vipd import __version__

COMMANDS = {
    "run": "vipd.cli.daemon",
    "release": "vipd.cli.daemon",
    "check": "vipd.cli.configuration",
    "schema": "vipd.cli.configuration",
    "status": "vipd.cli.status",
    "explain": "vipd.cli.explain",
    "events": "vipd.cli.events",
    "maintenance": "vipd.cli.orders",
    "switchover": "vipd.cli.orders",
    "reload": "vipd.cli.reload",
    "watch": "vipd.cli.watch",
    "keygen": "vipd.cli.keygen",
}
"""command -> module, in the order of ``vipd --help``."""


class LazyGroup(TyperGroup):
    """A group whose commands are found by name and imported on demand."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (typer's signature)
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 (typer's signature)
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name])
        group: Any = typer.main.get_group(module.app)
        return group.commands[cmd_name]


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keeps a virtual IP on exactly one healthy load-balancer host.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"vipd {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that stand before the command."""
