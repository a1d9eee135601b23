"""``vipd run`` and ``vipd release``: the daemon itself, and cleaning up after one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from vipd.cli.configuration import DEFAULT_CONFIG, ConfigOption

app = typer.Typer()


@app.callback()
def _group() -> None:
    """Commands that are the daemon, or stand in for it."""


@app.command("run")
def run(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the daemon in the foreground. SIGHUP reloads, SIGTERM and SIGINT stop it."""
    # By exec: the daemon keeps nothing of the command line's memory.
    command = [sys.executable, "-m", "vipd.supervisor", "--config", str(config)]
    os.execv(sys.executable, command)


@app.command("release")
def release(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Remove what a dead daemon left on this host. Refused while a daemon lives."""
    from vipd.adapters.lock import acquire_name
    from vipd.supervisor import leftovers

    with acquire_name():
        removed = leftovers.remove(leftovers.remembered(_runtime_dir(config)))
    for address in removed:
        print(f"removed {address}")


def _runtime_dir(config: Path) -> Path:
    """From the file, if it can be read: a broken file must not keep a VIP on a dead host."""
    from vipd.config.load import load
    from vipd.errors import ConfigError

    try:
        return load(config, facts=None).runtime_dir
    except ConfigError:
        return Path("/run/vipd")
