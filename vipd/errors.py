"""The exception tree of vipd. The type says whose fault it is and how far things got.

::

    VipdError
    ├── ConfigError        the operator's: one or more faults of a configuration file (exit 2)
    ├── WireError          the peer's: a datagram that is no valid advert; counted, never fatal
    ├── ChannelError       the peer's: a datagram of the cluster channel that must have no effect
    ├── AdapterError       this host's: the kernel or the system refused something
    │   ├── PermissionMissing   not root, or a capability is missing
    │   └── NameTaken           another vipd lives in this network namespace
    ├── DaemonAbsent       no daemon answers on the control socket (exit 3)
    └── InvariantViolated  ours: the core contradicts itself; release every VIP and exit

``InvariantViolated`` is raised instead of ``assert``: ``python -O`` removes asserts.
"""

from __future__ import annotations

from dataclasses import dataclass

from vipd.members import ChannelDiscard, Versions
from vipd.model import DiscardReason


class VipdError(Exception):
    """Base of all errors that vipd raises on purpose."""


@dataclass(frozen=True, slots=True)
class ConfigFault:
    """One fault of a configuration file, printed as ``FILE:LINE: key.path: problem, cure``."""

    file: str
    line: int
    key: str
    problem: str
    cure: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: "
        key = f"{self.key}: " if self.key else ""
        return f"{where}{key}{self.problem}; {self.cure}"


class ConfigError(VipdError):
    """All faults of a configuration, found in one run."""

    def __init__(self, faults: tuple[ConfigFault, ...]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


class WireError(VipdError):
    """A datagram failed the receive check named by ``reason``; it must have no other effect."""

    def __init__(self, reason: DiscardReason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail


class ChannelError(VipdError):
    """A datagram of the cluster channel was discarded; it must have no other effect.

    ``sender`` is empty before the datagram is proved to come from a member; ``speaks`` is set with
    VERSION: what its sender could say instead.
    """

    def __init__(
        self,
        reason: ChannelDiscard,
        detail: str = "",
        *,
        sender: str = "",
        speaks: Versions | None = None,
    ) -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail
        self.sender = sender
        self.speaks = speaks


class AdapterError(VipdError):
    """The kernel or the system refused something; ``errno`` is 0 where there is none."""

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


class PermissionMissing(AdapterError):
    """A privilege is missing; the message names it and how to grant it."""


class NameTaken(AdapterError):
    """Another vipd holds this network namespace."""


class DaemonAbsent(VipdError):
    """Nothing answers on the control socket."""


class InvariantViolated(VipdError):
    """The core reached a state that its rules forbid."""
