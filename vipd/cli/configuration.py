"""``vipd check`` and ``vipd schema``: the configuration file, before a daemon reads it."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vipd.config.load import HostFacts

DEFAULT_CONFIG = Path("/etc/vipd.yaml")

ConfigOption = Annotated[Path, typer.Option("--config", help="The configuration file.")]
NodeOption = Annotated[
    str | None,
    typer.Option("--node", help="Be this node. Default: 'node:' of the file, else the host name."),
]

app = typer.Typer()


@app.callback()
def _group() -> None:
    """Commands about the configuration file."""


OptionalConfig = Annotated[
    Path | None,
    typer.Option("--config", help="The configuration file.", show_default=str(DEFAULT_CONFIG)),
]
AgainstOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--against",
        metavar="FILE...",
        help="Another node's file, or one file with values per node: play every failure of a "
        "check, interface and node, and show who is master then.",
    ),
]
MoreFiles = Annotated[
    list[Path] | None, typer.Argument(metavar="[FILE]...", help="More files for --against.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="With --against: the report as JSON.")]


@app.command("check")
def check(
    files: MoreFiles = None,
    config: OptionalConfig = None,
    node: NodeOption = None,
    against: AgainstOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge the configuration file: every fault with its line and cure, else a summary.

    With --against the files of several nodes are judged together: exit 2 when they would make two
    masters, or none. Without --config, a file after --against that names several nodes stands for
    itself; else the file of this host is the first.
    """
    from vipd.config.load import examine
    from vipd.config.summary import summary

    if against:
        _compare(config, [*against, *(files or ())], node, as_json=as_json)
        return
    config = config or DEFAULT_CONFIG
    if files or as_json:
        raise typer.BadParameter("only --against takes files, and only with it there is --json")

    facts = _facts(node)
    # The key file of another host is not here, or is not that host's.
    report = examine(config, facts=facts, node=node, read_keys=_read_keys if facts else None)
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    loaded = report.result()
    print("\n".join(summary(config, loaded)))


def _compare(config: Path | None, against: list[Path], node: str | None, *, as_json: bool) -> None:
    from vipd.adapters.keyfile import read_keys
    from vipd.config.load import short_host_name
    from vipd.lint.members import named_nodes
    from vipd.lint.render import lines_of
    from vipd.lint.report import as_json as json_of
    from vipd.lint.report import examine_files

    alone = config is None and len(against) == 1 and len(named_nodes(against[0])) > 1
    files = against if alone else [config or DEFAULT_CONFIG, *against]
    distinct = list({file.resolve(): file for file in files}.values())
    report = examine_files(distinct, node, short_host_name(), read_keys)
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if as_json:
        print(json.dumps(json_of(report), indent=2))
    else:
        print("\n".join(lines_of(report)))
    if report.failed:
        raise typer.Exit(2)


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from vipd.config.schema import json_schema

    print(json.dumps(json_schema(), indent=2))


def _read_keys(file: Path) -> tuple[bytes, ...]:
    """Anybody may judge a configuration, and only root may read the key."""
    from vipd.adapters.keyfile import read_keys
    from vipd.errors import AdapterError

    try:
        return read_keys(file)
    except AdapterError as error:
        if os.geteuid() == 0 or error.errno not in (errno.EACCES, errno.EPERM):
            raise
        print(f"warning: the key is left out: {error}", file=sys.stderr)
        return ()


def _facts(node: str | None) -> HostFacts | None:
    """This host's links and addresses; None when the file is judged for another node."""
    from vipd.adapters.hostfacts import read_host
    from vipd.config.load import HostFacts, short_host_name
    from vipd.errors import AdapterError

    if node is not None and node != short_host_name():
        return None
    try:
        links, addresses = read_host()
    except AdapterError as error:
        print(f"warning: rules that need the host are left out: {error}", file=sys.stderr)
        return None
    return HostFacts(links, addresses)
