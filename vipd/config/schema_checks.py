"""The schema of one entry of ``checks``: its kind, the options of the kind, its schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, SecretStr

from vipd.config.probe_types import (
    HeaderName,
    HeaderValue,
    HostPort,
    Regex,
    Statuses,
    UnitName,
    Url,
)
from vipd.config.schema_base import Section, duration
from vipd.config.types import (
    AbsolutePath,
    Command,
    FilePath,
    Flag,
    Interface,
    Packed,
    PerNode,
    Span,
    Text,
    UserName,
    Whole,
)
from vipd.model import Address

CHECK_KINDS = ("http", "script", "tcp", "ping", "process", "file", "interface", "systemd")

KIND_OPTIONS: dict[str, tuple[str, ...]] = {
    "status": ("http",),
    "method": ("http",),
    "body": ("http",),
    "headers": ("http",),
    "host": ("http",),
    "unix_socket": ("http",),
    "verify": ("http",),
    "ca_file": ("http",),
    "user": ("script",),
    "source": ("tcp", "ping"),
    "count": ("process",),
    "absent": ("file",),
    "number": ("file",),
    "address": ("interface",),
}
"""Option -> the kinds that have it."""


class Check(Section):
    """A health check: exactly one of its eight kinds."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [kind]} for kind in CHECK_KINDS]}
    )

    http: Annotated[str, Url()] | None = Field(None, description="URL that must answer as wanted.")
    script: Annotated[list[str], Command()] | None = Field(
        None, description="Command; exit 0 is healthy."
    )
    tcp: Annotated[tuple[str, int], HostPort()] | None = Field(
        None, description="HOST:PORT that must accept a connection."
    )
    ping: Annotated[Address, Packed()] | None = Field(
        None, description="Address that must answer an echo request."
    )
    process: (
        Annotated[str, Text(r"^[^/\x00]+$", "a process name", "write the name without path")] | None
    ) = Field(None, description="Name of a process that must run.")
    file: AbsolutePath | None = Field(None, description="File that must exist.")
    interface: PerNode[Annotated[str, Interface()]] | None = Field(
        None, description="Interface that must be up, with carrier; or per node."
    )
    systemd: UnitName | None = Field(
        None, description="Unit that must be active; without suffix it is a .service."
    )

    status: Annotated[list[tuple[int, int]], Statuses()] = Field(
        [(200, 200)],
        description="http: the healthy statuses: 200, '200-399', or a list of them.",
        json_schema_extra={"default": 200},
    )
    method: Literal["GET", "HEAD", "OPTIONS", "POST"] = Field(
        "GET", description="http: the method."
    )
    body: Annotated[str, Regex()] | None = Field(
        None, description="http: regular expression that must be found in the answer's body."
    )
    headers: dict[HeaderName, Annotated[SecretStr, HeaderValue()]] = Field(
        {}, description="http: request headers; their values are never shown."
    )
    host: (
        Annotated[
            str, Text(r"^[A-Za-z0-9._:\[\]-]{1,255}$", "a host", "write a name or an address")
        ]
        | None
    ) = Field(None, description="http: Host header and TLS name; default: as in the URL.")
    unix_socket: AbsolutePath | None = Field(
        None, description="http: connect to this socket instead of the URL's host."
    )
    verify: Annotated[bool, Flag()] = Field(
        True, description="http: false: take any certificate of an https server."
    )
    ca_file: FilePath | None = Field(
        None, description="http: PEM file of the authorities to trust; default: the system's."
    )
    user: UserName | None = Field(
        None,
        description="script: the user that runs it; default: root, if only root can change it.",
    )
    source: PerNode[Annotated[Address, Packed()]] | None = Field(
        None, description="tcp, ping: the address to come from; or per node."
    )
    count: Annotated[int, Whole(1, 100000)] = Field(
        1, description="process: at least so many of them."
    )
    absent: Annotated[bool, Flag()] = Field(
        False, description="file: true means healthy while the file is absent."
    )
    number: Annotated[bool, Flag()] = Field(
        False,
        description="file: it holds a whole number, which times weight is added to the priority; "
        "no file counts as 0.",
    )
    address: PerNode[Annotated[Address, Packed()]] | None = Field(
        None, description="interface: an address that must be on it; or per node."
    )

    interval: Annotated[int, Span("10ms", "1h")] = duration("1s", "Time between two runs.")
    timeout: Annotated[int, Span("1ms", "1h")] = duration(
        "500ms", "A run that takes longer failed."
    )
    rise: Annotated[int, Whole(1, 1000)] = Field(2, description="Good runs that make it healthy.")
    fall: Annotated[int, Whole(1, 1000)] = Field(3, description="Bad runs that make it failed.")
    initial: Literal["healthy", "unhealthy", "wait"] = Field(
        "wait",
        description="What it counts as before the first run. wait: unknown, the first run alone "
        "decides, and what it can bring to FAULT does not become master before; written out, the "
        "same holds for what it gives a weight.",
    )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are set; exactly one in a good file."""
        return tuple(kind for kind in CHECK_KINDS if getattr(self, kind) is not None)

    @property
    def waits_always(self) -> bool:
        """``initial: wait`` is written out: tracks with a weight wait for it, too."""
        return self.initial == "wait" and "initial" in self.model_fields_set
