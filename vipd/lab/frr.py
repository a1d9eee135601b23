"""FRR's vrrpd as a lab speaker.

FRR follows the RFC's virtual MAC: the VIPs live for ever on a macvlan device with that MAC, which
the operator makes, and mastership is the device's ``protodown`` flag. So "holds" here means: the
device has its carrier. zebra must run beside vrrpd. Both insist on running as a member of the
group ``frrvty``, so they get a directory of their user's - and need a lab that real root made: in
a user namespace there is only one user.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from pyroute2 import IPRoute

from vipd.errors import PermissionMissing
from vipd.lab.hosts import INTERFACE, Host, kill_tree, wait_for
from vipd.lab.peers import Router, Speaker

_LIBRARY = Path("/usr/lib/frr")
_DEVICE = "vrrp"
_READY_S = 10.0
_OPER_UP = "UP"


class FrrVrrpd(Speaker):
    """zebra and vrrpd; VRRPv3 only (FRR's IPv4 checksum has the pseudo-header, as keepalived's)."""

    kind = "frr"

    def __init__(self, host: Host, router: Router) -> None:
        super().__init__(host, router)
        self._zebra: subprocess.Popen[bytes] | None = None
        self._directory = host.directory / "frr"
        self._socket = self._directory / "zserv.api"
        self._add_directory()
        self._add_device()

    @property
    def first_advert_lag_ns(self) -> int:
        """Over IPv6 FRR 8.4 announces its VIPs in time, but its first advert fails.

        The device gets its carrier, and so its source address, only after that advert; what the
        wire shows first is the second one.
        """
        return self.router.interval_ns if self.router.is_ipv6 else 0

    def _add_directory(self) -> None:
        self._directory.mkdir()
        try:
            shutil.chown(self._directory, "frr", "frr")
        except OSError as error:
            raise PermissionMissing("FRR's daemons need a lab made by root (sudo)") from error
        for above in (self.host.directory, self.host.directory.parent):
            above.chmod(0o711)

    def _add_device(self) -> None:
        """The macvlan with the virtual MAC; FRR finds it by its MAC and its addresses."""
        family_byte = 2 if self.router.is_ipv6 else 1
        with self.host.namespace.inside(), IPRoute() as netlink:
            netlink.link(
                "add",
                ifname=_DEVICE,
                kind="macvlan",
                link=netlink.link_lookup(ifname=INTERFACE)[0],
                macvlan_mode=4,  # bridge
                address=f"00:00:5e:00:{family_byte:02x}:{self.router.vrid:02x}",
            )
            index = netlink.link_lookup(ifname=_DEVICE)[0]
        self.host.sysctl(f"ipv6/conf/{_DEVICE}/addr_gen_mode", "1")
        with self.host.namespace.inside(), IPRoute() as netlink:
            netlink.link("set", index=index, state="up")
            for vip in self.router.vips:
                address, prefix = vip.split("/")
                netlink.addr("add", index=index, address=address, prefixlen=int(prefix), flags=2)

    def _daemon(self, name: str, configuration: str) -> list[str]:
        directory = self._directory
        file = directory / f"{name}.conf"
        file.write_text(configuration)
        shutil.chown(file, "frr", "frr")
        return [
            str(_LIBRARY / name),
            *("-f", str(file), "-i", str(directory / f"{name}.pid"), "-z", str(self._socket)),
            *("--vty_socket", str(directory), "-P", "0", "-u", "frr", "-g", "frr"),
            *("--log", "stdout", "--log-level", "debugging"),
        ]

    def command(self) -> list[str]:
        router = self.router
        vrid = f"vrrp {router.vrid}"
        lines = [
            "debug vrrp",
            f"interface {INTERFACE}",
            f" {vrid} version 3",
            f" {vrid} priority {router.priority}",
            f" {vrid} advertisement-interval {router.interval_ms}",
            *([] if router.preempt else [f" no {vrid} preempt"]),
            *(f" {vrid} {'ipv6' if ':' in vip else 'ip'} {vip}" for vip in router.addresses),
        ]
        return self._daemon("vrrpd", "\n".join(lines) + "\n")

    def is_ready(self, log: str) -> bool:
        return "-> Backup" in log or "Initialize -> " in log

    def start(self) -> None:
        if self._zebra is None or self._zebra.poll() is not None:
            self._zebra = self.host.spawn(self._daemon("zebra", ""), "zebra.log")
            wait_for(self._socket.exists, _READY_S, "zebra is not ready")
        super().start()

    def kill(self) -> None:
        if self._zebra is not None:
            kill_tree(self._zebra.pid)
            self._zebra.wait()
        super().kill()

    def holds(self) -> bool:
        return self.holds_any()

    def holds_any(self) -> bool:
        with self.host.namespace.inside(), IPRoute() as netlink:
            (link,) = netlink.get_links(ifname=_DEVICE)
        return bool(link.get("operstate") == _OPER_UP)
