"""What the supervisor does by itself: checks and hooks, resolved for this node.

The engine never sees these values. They are frozen and travel from the child that reads the
configuration to the supervisor; conventions as in ``vipd.model`` (durations in ns).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from vipd.model import Address, Duration

# --- checks -----------------------------------------------------------------------------------


class Initial(Enum):
    """What a check counts as before its first run."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    WAIT = "wait"  # unknown; the first run alone decides


@dataclass(frozen=True, slots=True)
class ScriptProbe:
    """Exit status 0 is healthy. ``user`` None: root, if the path is safe (see ``scripts``)."""

    command: tuple[str, ...]
    user: str | None = None


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """``statuses`` are inclusive ranges; ``body`` a regular expression searched in the body.

    ``host`` replaces the Host header (and the TLS server name); ``unix_socket`` is dialled
    instead of the URL's host.
    """

    url: str
    method: str = "GET"
    statuses: tuple[tuple[int, int], ...] = ((200, 200),)
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # often secrets
    host: str | None = None
    unix_socket: str | None = None
    verify: bool = True
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """A connection must be accepted. ``host`` is an address or a name."""

    host: str
    port: int
    source: Address | None = None


@dataclass(frozen=True, slots=True)
class PingProbe:
    address: Address
    source: Address | None = None


@dataclass(frozen=True, slots=True)
class ProcessProbe:
    """At least ``count`` processes with this name (``/proc/PID/comm`` or the program's name)."""

    name: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class FileProbe:
    """Healthy while the file exists; ``absent``: while it does not.

    ``number``: the file holds a whole number, which is the verdict's number; a file that is not
    there counts as 0, one that holds something else is unhealthy.
    """

    path: str
    absent: bool = False
    number: bool = False


@dataclass(frozen=True, slots=True)
class InterfaceProbe:
    """Up with carrier, and with ``address`` on it where one is given."""

    interface: str
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class SystemdProbe:
    """The unit is active."""

    unit: str


Probe: TypeAlias = (
    ScriptProbe
    | HttpProbe
    | TcpProbe
    | PingProbe
    | ProcessProbe
    | FileProbe
    | InterfaceProbe
    | SystemdProbe
)


@dataclass(frozen=True, slots=True)
class CheckConfig:
    """One check: what is probed, how often, and how many results make a verdict."""

    name: str
    probe: Probe
    interval_ns: Duration
    timeout_ns: Duration
    rise: int
    fall: int
    initial: Initial


# --- hooks ------------------------------------------------------------------------------------


class Occasion(Enum):
    """When a hook runs; the values are the keys of ``notify``."""

    MASTER = "master"
    BACKUP = "backup"
    FAULT = "fault"
    STOP = "stop"
    LEAVING = "leaving"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class HookSet:
    """The ``notify`` of one instance or group. ``retries``: how often a failed run is repeated."""

    kind: str  # "INSTANCE" or "GROUP", the first argument that a hook gets
    name: str
    commands: Mapping[Occasion, tuple[str, ...]]
    timeout_ns: Duration
    retries: int = 0
    user: str | None = None
    vips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HookPlan:
    """All hooks of one unit (group or ungrouped instance), run one after the other."""

    unit: str
    sets: tuple[HookSet, ...]


@dataclass(frozen=True, slots=True)
class Duties:
    """All of it."""

    checks: tuple[CheckConfig, ...] = ()
    hooks: tuple[HookPlan, ...] = ()
