"""What the tests of the recipes share: running a recipe as vipd would, talking to programs.

Recipes run from a copy, started by vipd's own runner, so that none leans on the checkout or on the
environment of the tests.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from vipd.lab.hosts import Host, wait_for
from vipd.supervisor.scripts import Outcome, run

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 10.0


class Shop:
    """One host with the recipes on it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.directory = host.directory
        for kind in ("hooks", "checks"):
            shutil.copytree(ROOT / "etc" / kind, self.directory / kind)

    def file(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

    def hook(
        self, name: str, *words: str | Path, state: str = "MASTER", **variables: str
    ) -> Outcome:
        """As vipd runs it: VIPD_ environment, four arguments appended."""
        environment = {"VIPD_INSTANCE": "web", "VIPD_STATE": state, "VIPD_PRIORITY": "150"}
        environment |= variables
        appended = ("INSTANCE", "web", state, "150")
        return self._run(f"hooks/{name}", (*words, *appended), environment)

    def check(self, name: str, *words: str | Path, user: str | None = None) -> Outcome:
        """As vipd runs it; one line of output is part of the promise."""
        done = self._run(f"checks/{name}", words, {}, user)
        assert done.status in (0, 1), done.output
        assert done.output.count("\n") == 1, done.output
        return done

    def _run(
        self,
        recipe: str,
        words: Sequence[str | Path],
        environment: Mapping[str, str],
        user: str | None = None,
    ) -> Outcome:
        command = [str(self.directory / recipe), *map(str, words)]
        with self.host.namespace.inside():
            running = run(command, user=user, environment=environment, timeout_s=PATIENCE_S)
            return asyncio.run(running)

    def connect(self, port: int, address: str = "127.0.0.1") -> socket.socket:
        opened = self.host.socket(socket.AF_INET, socket.SOCK_STREAM)
        opened.settimeout(PATIENCE_S)
        opened.connect((address, port))
        return opened

    def get(self, url: str) -> str:
        """The body, of an error page too; empty if nobody accepts the connection."""
        with self.host.namespace.inside():
            try:
                with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                    return str(answer.read().decode())
            except urllib.error.HTTPError as error:
                with error:
                    return error.read().decode()
            except OSError:
                return ""

    def wait_for_page(self, url: str, wanted: str) -> None:
        wait_for(lambda: wanted in self.get(url), PATIENCE_S, f"{url} says {wanted}")


def gone(pid: int) -> bool:
    """It runs no more; somebody may still have to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def stop(pid: int, number: signal.Signals = signal.SIGTERM) -> None:
    os.kill(pid, number)
    wait_for(lambda: gone(pid), PATIENCE_S, f"process {pid} ends")
