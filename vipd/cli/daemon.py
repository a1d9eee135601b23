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
    """Remove what a dead daemon left on this host, and say so to the other hosts in its name.

    Refused while a daemon lives.
    """
    from vipd.adapters.lock import acquire_name
    from vipd.supervisor import last_will, leftovers

    with acquire_name():
        # First what can be known without the configuration: reading it takes a while.
        removed = leftovers.remove_tagged()
        will = last_will.execute_left(_runtime_dir(config))
    for address in (*removed, *will.removed):
        print(f"removed {address}")
    for node in will.told:
        print(f"told {node} that {will.owner} is dead")
    for instance in will.goodbyes:
        print(f"said priority 0 for {instance}")
    for refusal in will.refusals:
        print(f"not sent: {refusal}")


def _runtime_dir(config: Path) -> Path:
    """This one key, whatever else is in the file, and if it can be read: a broken file must not
    keep a VIP on a dead host, and judging all of it takes time in which nobody serves.
    """
    import yaml

    try:
        return Path(yaml.safe_load(config.read_bytes())["runtime_dir"])
    except (OSError, yaml.YAMLError, TypeError, KeyError):
        return Path("/run/vipd")
