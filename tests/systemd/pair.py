"""Two hosts with the packaged service that should keep one VIP between them.

Addresses live 60 s here, far longer than any test waits. So a VIP that goes, goes because somebody
removed it, not because its lifetime ended. Mastership is sticky (``preempt: false``): after a
death the other host keeps the VIP, and whatever the dead one left behind would stay visible.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.systemd.rig import ROOT, Host, Rig, run, wait_for

VIP = "198.51.100.100"
SECOND_VIP = "198.51.100.101"
CONFIG = """\
instances:
  web:
    interface: host0
    vrid: 51
    priority: {lb1: 150, lb2: 100}
    preempt: false
    advert_interval: 200ms
    vips:
      - 198.51.100.100/24
address_lifetime: 60s
"""
INSTALL = ("/root/vipd/scripts/install", "--wheels", "/wheels")
# Runs after the unit's own ExecStopPost, and only if that one succeeded.
STOPPED_LOG = "/run/stopped"
DROP_IN = f"""\
[Service]
ExecStopPost=+/bin/sh -c 'echo "$$SERVICE_RESULT:" $$(ip -o -4 address) >>{STOPPED_LOG}'
"""


class Pair:
    """Two hosts that should keep one VIP between them. ``lb2`` begins as an image of ``lb1``."""

    def __init__(self, rig: Rig, prepare: Callable[[Host], object]) -> None:
        self.rig = rig
        first = rig.boot("lb1", "198.51.100.11/24")
        prepare(first)
        self.hosts = [first, rig.boot("lb2", "198.51.100.12/24", like=first)]

    def on_both(self, act: Callable[[Host], object]) -> None:
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            list(pool.map(act, self.hosts))

    def holders(self, vip: str = VIP) -> list[Host]:
        return [host for host in self.hosts if vip in host.addresses()]

    def settle(self) -> tuple[Host, Host]:
        """Wait until both services run and one host holds the VIP; return (holder, other).

        One holder means: in the kernel of exactly one host, and exactly that one answers ARP.
        """
        for host in self.hosts:
            wait_for(
                lambda host=host: host.property("ActiveState") == "active",
                f"vipd is active on {host.name}",
            )
        wait_for(lambda: len(self.holders()) == 1, "exactly one host has the VIP")
        # Still so after more than the takeover time (3 intervals + skew = 0.8 s)?
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            assert len(self.holders()) == 1
            time.sleep(0.1)
        holder = self.holders()[0]
        other = next(host for host in self.hosts if host is not holder)
        assert self.rig.bridge.answers_to(VIP) == {holder.mac}
        return holder, other


def install_checkout(host: Host) -> None:
    """The first installation, before there is a configuration."""
    put_checkout(host)
    host.write("/root/install.log", host.run(*INSTALL, timeout_s=180))


def put_checkout(host: Host) -> None:
    target = host.tree / "root/vipd"
    target.mkdir(parents=True)
    for name in ("vipd", "etc", "scripts", "pyproject.toml", "README.md"):
        run("cp", "-r", ROOT / name, target / name)


def engine_pid(host: Host) -> str:
    """The one child of the main process that runs the engine."""
    main = host.property("MainPID")
    for child in host.run("cat", f"/proc/{main}/task/{main}/children").split():
        if "vipd.engine" in host.run("cat", f"/proc/{child}/cmdline").split("\0"):
            return child
    raise AssertionError(f"{host.name}: main process {main} has no engine")


def stopped_log(host: Host) -> list[str]:
    return host.run("sh", "-c", f"cat {STOPPED_LOG} 2>/dev/null || true").splitlines()
