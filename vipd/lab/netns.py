"""A lab: hosts and a client on one switch, all of it network namespaces of this machine.

::

      lb1          lb2         client         eth0 of each host: 192.0.2.N/24, 2001:db8::N/64,
       |            |             |           fe80::N/64; lb1 is N = 11, lb2 12, ..., client 200
    ---+------------+-------------+---        br0 in the switch's namespace, ports named by host

Faults are made on the switch, where a host cannot see them: a *cut* drops the frames of a port
and leaves the carrier up, as a broken switch, a wrong VLAN or a filter does; only ``link_down``
takes the carrier away. All faults of a lab are one nftables table, replaced as a whole, so that
a change is atomic and ``heal`` cannot forget a rule.

``add_network`` adds a second network with a switch of its own: ``eth1`` of each host has
198.51.100.N/24. Its ports are ``lb1-eth1``, ..., and a fault is made on such a port by its name.

Whatever ends the owner of a lab, ``reaper`` ends everything in it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

from pyroute2 import IPRoute

from vipd.lab.hosts import INTERFACE, SECOND_INTERFACE, Host, now_ns
from vipd.lab.namespace import Namespace

CLIENT = "client"
BRIDGE, SECOND_BRIDGE = "br0", "br1"
_FIRST_NUMBER = 11
_CLIENT_NUMBER = 200
_NODAD = 0x02
_REAP_PATIENCE_S = 10.0


def second_port(name: str) -> str:
    """The port of a host on the second switch."""
    return f"{name}-{SECOND_INTERFACE}"


class Direction(Enum):
    """Seen from the host: OUT is what it sends."""

    BOTH = "both"
    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class _Fault:
    cut_in: bool = False
    cut_out: bool = False
    loss_percent: float = 0.0

    def rules(self, port: str) -> list[str]:
        lines = []
        if self.cut_out:
            lines.append(f'iifname "{port}" drop')
        if self.cut_in:
            lines.append(f'oifname "{port}" drop')
        if self.loss_percent:
            per_mille = round(self.loss_percent * 10)
            lines.append(f'iifname "{port}" numgen random mod 1000 < {per_mille} drop')
            lines.append(f'oifname "{port}" numgen random mod 1000 < {per_mille} drop')
        return lines


class Lab:
    """``with Lab(["lb1", "lb2"]) as lab:`` - the hosts named, and ``client``.

    ``lab["lb1"]`` is a Host; ``lab.directory`` holds all files and goes with the lab.
    """

    def __init__(self, names: Sequence[str] = ("lb1", "lb2")) -> None:
        self.names = (*names, CLIENT)
        self.hosts: dict[str, Host] = {}
        self._faults: dict[str, _Fault] = {}
        self._bridge_of: dict[str, int] = {}  # port -> index
        self._open: list[Namespace] = []
        self._reaper: subprocess.Popen[bytes] | None = None
        # pcap files carry the time of day, measurements CLOCK_BOOTTIME; one offset serves a lab
        self.clock_offset_ns = time.time_ns() - now_ns()

    # --- life ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="vipd-lab-"))
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    @property
    def client(self) -> Host:
        return self.hosts[CLIENT]

    def close(self) -> None:
        """End every process of the lab and forget its namespaces. Twice is no error."""
        reaper, self._reaper = self._reaper, None
        if reaper is not None:
            if reaper.stdin is not None:
                reaper.stdin.close()
            status = reaper.wait(_REAP_PATIENCE_S)
            for host in (*self.hosts.values(), self.switch):
                for process in host.processes:
                    process.wait(_REAP_PATIENCE_S)
            if status != 0:
                raise RuntimeError("processes of the lab would not die")
        while self._open:
            self._open.pop().close()

    # --- building -----------------------------------------------------------------------------

    def _build(self) -> None:
        for _ in range(1 + len(self.names)):
            self._open.append(Namespace())
        descriptors = [namespace.fd for namespace in self._open]
        self._reaper = subprocess.Popen(
            [sys.executable, "-m", "vipd.lab.reaper", str(self.directory), *map(str, descriptors)],
            stdin=subprocess.PIPE,
            pass_fds=descriptors,
            start_new_session=True,
        )
        self.switch = Host("switch", 0, self._open[0], self.directory / "switch")
        numbers = {name: _FIRST_NUMBER + index for index, name in enumerate(self.names)}
        numbers[CLIENT] = _CLIENT_NUMBER
        for name, namespace in zip(self.names, self._open[1:], strict=True):
            self.hosts[name] = Host(name, numbers[name], namespace, self.directory / name)
        self.switch.sysctl("ipv6/conf/all/disable_ipv6", "1")
        self.switch.sysctl("ipv6/conf/default/disable_ipv6", "1")
        bridge = self._build_bridge(BRIDGE)
        for host in self.hosts.values():
            self._connect(host, bridge)

    def add_network(self) -> None:
        """The second network, apart from the first: ``eth1`` of each host, IPv4 only."""
        bridge = self._build_bridge(SECOND_BRIDGE)
        for host in self.hosts.values():
            mac = f"02:56:49:00:01:{host.number:02x}"
            self._plug(host, second_port(host.name), SECOND_INTERFACE, mac, bridge)
            with host.namespace.inside(), IPRoute() as netlink:
                index = netlink.link_lookup(ifname=SECOND_INTERFACE)[0]
                netlink.link("set", index=index, state="up")
                netlink.addr("add", index=index, address=host.second_ipv4, prefixlen=24)

    def _build_bridge(self, name: str) -> int:
        with self.switch.namespace.inside(), IPRoute() as netlink:
            netlink.link(
                "add",
                ifname=name,
                kind="bridge",
                br_stp_state=0,
                br_forward_delay=0,
                br_mcast_snooping=0,
            )
            index: int = netlink.link_lookup(ifname=name)[0]
            netlink.link("set", index=index, state="up")
        return index

    def _plug(self, host: Host, port: str, interface: str, mac: str, bridge: int) -> None:
        """A cable between a switch and the host."""
        with self.switch.namespace.inside(), IPRoute() as netlink:
            netlink.link(
                "add",
                ifname=port,
                kind="veth",
                peer={"ifname": interface, "address": mac, "net_ns_fd": host.namespace.fd},
            )
            index = netlink.link_lookup(ifname=port)[0]
            netlink.link("set", index=index, master=bridge)
            netlink.link("set", index=index, state="up")
        self._bridge_of[port] = bridge

    def _connect(self, host: Host, bridge: int) -> None:
        """Plug the host in; ``eth0`` comes up with its addresses."""
        self._plug(host, host.name, INTERFACE, f"02:56:49:00:00:{host.number:02x}", bridge)
        # no address from the MAC: a fixed one makes VRRP's address comparison predictable
        host.sysctl(f"ipv6/conf/{INTERFACE}/addr_gen_mode", "1")
        host.sysctl("ipv6/conf/all/accept_ra", "0")
        with host.namespace.inside(), IPRoute() as netlink:
            loopback = netlink.link_lookup(ifname="lo")[0]
            index = netlink.link_lookup(ifname=INTERFACE)[0]
            netlink.link("set", index=loopback, state="up")
            netlink.link("set", index=index, state="up")
            netlink.addr("add", index=index, address=host.ipv4, prefixlen=24)
            for address in (host.link_local, host.ipv6):
                netlink.addr("add", index=index, address=address, prefixlen=64, flags=_NODAD)

    # --- faults -------------------------------------------------------------------------------

    def cut(self, name: str, direction: Direction = Direction.BOTH) -> None:
        """Drop the frames of a host at the switch. The host keeps its carrier."""
        self._change(
            name,
            cut_in=direction is not Direction.OUT,
            cut_out=direction is not Direction.IN,
        )

    def loss(self, name: str, percent: float) -> None:
        """Lose this share of the frames of a host at random, in each direction."""
        self._change(name, loss_percent=percent)

    def heal(self, name: str) -> None:
        """End ``cut`` and ``loss`` of a host."""
        self._faults.pop(name, None)
        self._install_faults()

    def _change(self, name: str, **changes: bool | float) -> None:
        current = self._faults.get(name, _Fault())
        self._faults[name] = replace(current, **changes)  # type: ignore[arg-type]
        self._install_faults()

    def _install_faults(self) -> None:
        rules = [rule for port, fault in self._faults.items() for rule in fault.rules(port)]
        chain = "\n".join(["type filter hook forward priority 0; policy accept;", *rules])
        ruleset = (
            "add table bridge faults\ndelete table bridge faults\n"
            f"table bridge faults {{\nchain forward {{\n{chain}\n}}\n}}\n"
        )
        self.switch.run(["nft", "-f", "-"], text=ruleset)

    def detach(self, name: str) -> None:
        """As ``cut`` in both directions, without nft: the port is no part of the switch."""
        self._set_master(name, 0)

    def attach(self, name: str) -> None:
        """End ``detach``."""
        self._set_master(name, self._bridge_of[name])

    def _set_master(self, name: str, master: int) -> None:
        with self.switch.namespace.inside(), IPRoute() as netlink:
            netlink.link("set", index=netlink.link_lookup(ifname=name)[0], master=master)

    def link_down(self, name: str) -> None:
        """Unplug a host: it sees its carrier go."""
        self._set_port(name, "down")

    def link_up(self, name: str) -> None:
        self._set_port(name, "up")

    def _set_port(self, name: str, state: str) -> None:
        with self.switch.namespace.inside(), IPRoute() as netlink:
            port = netlink.link_lookup(ifname=name)[0]
            netlink.link("set", index=port, state=state)
