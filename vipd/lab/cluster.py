"""The ``cluster:`` section of a lab's nodes: who they are, where they listen, the key they share.

Every node of a cluster gets the same section. Where the lab has a second network, the channel may
use both: each node then has two addresses, and a path is a pair of them.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vipd.lab.hosts import Host

KEY_FILE = "cluster.key"
_KEY_LENGTH = 32


@dataclass(frozen=True, slots=True)
class Cluster:
    """Two or three hosts that talk to each other.

    ``settings`` are further keys of the section (``heartbeat_timeout``, ``witnesses``, ...).
    """

    hosts: Sequence[Host]
    both_networks: bool = False
    settings: Mapping[str, object] = field(default_factory=dict)
    key: str = field(default_factory=lambda: secrets.token_hex(_KEY_LENGTH), repr=False)

    def section(self, host: Host) -> dict[str, object]:
        """The section for this host's configuration; writes the key file that it names."""
        key_file = host.directory / KEY_FILE
        key_file.touch(mode=0o600)  # before there is a secret in it
        key_file.write_text(f"{self.key}\n")
        return {
            "name": "lab",
            "key_file": str(key_file),
            "nodes": {member.name: self._addresses(member) for member in self.hosts},
            **self.settings,
        }

    def _addresses(self, host: Host) -> list[str]:
        return [host.ipv4, host.second_ipv4] if self.both_networks else [host.ipv4]
