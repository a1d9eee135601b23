"""The schema of ``/etc/vipd.yaml``: every key, its kind, its default and what it means.

Only what one value can tell is judged here; rules between values are in checks.py,
tracking.py, health.py and hooks.py. The
descriptions go into the JSON Schema (``vipd schema``), which editors show while one types.
Durations are nanoseconds once loaded; None stands for ``auto``.
"""

from __future__ import annotations

import functools
from typing import Annotated, Literal

from pydantic import (
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    SecretStr,
    Tag,
    model_validator,
)
from pydantic_core import CoreSchema

from vipd.config.schema_base import Section, duration
from vipd.config.schema_checks import Check
from vipd.config.types import (
    AbsolutePath,
    Addresses,
    Command,
    FilePath,
    Flag,
    InstanceName,
    Interface,
    JsonSchema,
    NodeName,
    Packed,
    PerNode,
    Prefixed,
    Secret,
    Span,
    UserName,
    Whole,
)
from vipd.duties import Occasion
from vipd.model import Address


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least important message that is logged."
    )
    format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console on a terminal, else JSON, one object per line."
    )


class VipEntry(Section):
    """An address, or a mapping with more about it."""

    address: Annotated[tuple[Address, int], Prefixed()] = Field(
        description="The virtual address, with prefix; without one it is /32 or /128."
    )
    interface: PerNode[Annotated[str, Interface()]] | None = Field(
        None, description="Where the address is put; default: the instance's interface."
    )
    advertise: Annotated[bool, Flag()] = Field(
        True,
        description="false: claimed, but not listed in the adverts. Addresses of the other family "
        "than the first advertised one are never listed.",
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_address(cls, value: object) -> object:
        return {"address": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        whole = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [Prefixed().json(), whole]}


class Auth(Section):
    """VRRPv2 simple text authentication; one of secret and secret_file."""

    type: Literal["pass"] = Field(description="pass is the only type.")
    secret: Annotated[SecretStr, Secret()] | None = Field(
        None, description="At most 8 bytes count. Travels in clear text in every advert."
    )
    secret_file: FilePath | None = Field(
        None, description="File whose first line is the secret; keep it readable by root only."
    )


class TrackEntry(Section):
    """Something whose failure costs priority (weight) or mastership (no weight: FAULT)."""

    check: InstanceName | None = Field(None, description="Name of an entry of 'checks'.")
    interface: PerNode[Annotated[str, Interface()]] | None = Field(
        None, description="Name of an interface that must be up; or per node."
    )
    weight: Annotated[int, Whole(-253, 253, nonzero=True)] | None = Field(
        None,
        description="Negative: taken off the priority while failed. Positive: added while healthy. "
        "None: the instance goes to FAULT while failed.",
    )
    reverse: Annotated[bool, Flag()] = Field(
        False,
        description="true: the other sign. Positive: taken off while healthy. Negative: added "
        "while failed. None: FAULT while healthy.",
    )
    debounce: Annotated[int, Span("0s", "1h")] = duration(
        "0s", "interface: a change counts only after it has lasted so long."
    )


class Announce(Section):
    count: Annotated[int, Whole(1, 60)] = Field(
        5,
        description="Announcements after a claim: at 0, 20, 100, 500, 1000 ms, then every second.",
    )
    refresh: Annotated[int, Span("0s", "24h")] = duration(
        "60s", "Announced again after each such time; 0s: never."
    )


class Notify(Section):
    """Commands run after a change of state: each a command line or a list of words."""

    master: Annotated[list[str], Command()] | None = Field(None, description="Became master.")
    backup: Annotated[list[str], Command()] | None = Field(None, description="Became backup.")
    fault: Annotated[list[str], Command()] | None = Field(None, description="Entered fault.")
    stop: Annotated[list[str], Command()] | None = Field(None, description="vipd stopped.")
    leaving: Annotated[list[str], Command()] | None = Field(
        None, description="Before a planned release, for draining; 5s at most."
    )
    any: Annotated[list[str], Command()] | None = Field(None, description="Any change of state.")
    timeout: Annotated[int, Span("100ms", "1h")] = duration("10s", "Then the command is ended.")
    retries: Annotated[int, Whole(0, 100)] = Field(
        0, description="How often a command that failed is run again."
    )
    user: UserName | None = Field(
        None,
        description="The user that runs the commands; default: root, if only root can change them.",
    )

    @property
    def commands(self) -> dict[Occasion, list[str]]:
        """What is run, and when."""
        written = {occasion: getattr(self, occasion.value) for occasion in Occasion}
        return {occasion: words for occasion, words in written.items() if words is not None}


class Instance(Section):
    """One virtual router: interface + VRID + its virtual addresses."""

    interface: PerNode[Annotated[str, Interface()]] = Field(
        description="Interface that speaks VRRP; or per node: {lb1: eth0, lb2: ens3}."
    )
    vrid: Annotated[int, Whole(1, 255)] = Field(
        description="Virtual router id; the same on all nodes, unique on the network segment."
    )
    version: Literal[2, 3] = Field(3, description="VRRP version; 2 is IPv4 with whole seconds.")
    priority: PerNode[Annotated[int, Whole(1, 255)]] = Field(
        100,
        description="1..254, higher is preferred; 255: the host owns the addresses; or per node: "
        "{lb1: 150, lb2: 100}.",
    )
    advert_interval: Annotated[int, Span("10ms", "255s")] = duration(
        "1s", "Version 3: 10ms to 40.95s in steps of 10ms; version 2: whole seconds."
    )
    preempt: Annotated[bool, Flag()] = Field(
        True, description="false: a running master stays, even with lower priority."
    )
    preempt_delay: Annotated[int, Span("0s", "1h")] = duration(
        "0s", "Wait this long before taking over from a live master."
    )
    source: PerNode[Annotated[Address, Packed()]] | None = Field(
        None,
        description="Source address of adverts; default: the interface's first address that is no "
        "VIP (IPv6: link-local); or per node.",
    )
    unicast_peers: PerNode[list[Annotated[Address, Packed()]]] = Field(
        [], description="The other nodes' addresses; empty: multicast; or per node."
    )
    auth: Auth | None = Field(None, description="Version 2 only.")
    checksum: Literal["auto", "pseudo", "plain"] = Field(
        "auto",
        description="Version 3 with IPv4. auto: send with pseudo-header, accept both; pseudo, "
        "plain: that one only.",
    )
    accept: Annotated[bool, Flag()] = Field(
        True, description="false: the host does not answer on the virtual addresses."
    )
    strict: Annotated[bool, Flag()] = Field(
        False, description="true: where the RFC and common practice differ, do as the RFC says."
    )
    vips: list[VipEntry] = Field(description="The virtual addresses, in the order of the adverts.")
    track: list[TrackEntry] = Field([], description="What the priority depends on.")
    announce: Announce = Field(
        default_factory=lambda: Announce.model_validate({}),
        description="Gratuitous ARP and unsolicited neighbour advertisements.",
    )
    notify: Notify = Field(default_factory=lambda: Notify.model_validate({}), description="Hooks.")


class Group(Section):
    """Instances whose mastership moves together."""

    instances: list[InstanceName] = Field(description="Names of instances.")
    track: list[TrackEntry] = Field([], description="As in an instance, for all of them.")
    notify: Notify = Field(
        default_factory=lambda: Notify.model_validate({}), description="Hooks of the group."
    )


class Cluster(Section):
    """The authenticated channel between the nodes."""

    name: InstanceName = Field(description="Name of the cluster; the same on all members.")
    key_file: FilePath = Field(description="Shared key, made by 'vipd keygen'; mode 0600.")
    port: Annotated[int, Whole(1024, 65535)] = Field(
        3112, description="UDP port of the channel; none of those that only root may open."
    )
    heartbeat_interval: Annotated[int, Span("10ms", "10s")] = duration(
        "100ms", "Time between two heartbeats."
    )
    heartbeat_timeout: Annotated[int | None, Span("30ms", "1m", auto=True)] = duration(
        "auto", "A peer unheard for so long is lost; auto: 300ms with quorum, 1s without."
    )
    nodes: dict[NodeName, Annotated[list[Address], Addresses()]] = Field(
        description="Node name: its address, or a list of addresses (several paths)."
    )
    witnesses: dict[NodeName, Annotated[list[Address], Addresses()]] = Field(
        {}, description="Members that vote and never hold an address."
    )


class Profile(Section):
    """Explicit lease times; the rules are in sections.py."""

    lease: Annotated[int, Span("50ms", "1m")] = Field(description="Time a lease lasts.")
    exclusion: Annotated[int, Span("50ms", "2m")] = Field(
        description="Time a voter keeps others out; at least 11/9 of lease."
    )
    slice: Annotated[int, Span("20ms", "10s")] = Field(
        description="Time the gate stays open without renewal."
    )
    renew: Annotated[int, Span("5ms", "10s")] = Field(description="Time between renewals.")


def _named_or_explicit(value: object) -> str:
    return "(explicit)" if isinstance(value, dict) else "(named)"


class Quorum(Section):
    policy: Literal["off", "observe", "require"] = Field(
        "off",
        description="require: only the holder of a majority's lease holds the addresses; observe: "
        "leases run without being obeyed.",
    )
    profile: Annotated[
        Annotated[Literal["normal", "fast"], Tag("(named)")]
        | Annotated[Profile, Tag("(explicit)")],
        Discriminator(_named_or_explicit),
    ] = Field("normal", description="normal, fast, or {lease, exclusion, slice, renew}.")
    backend: Literal["cluster"] = Field("cluster", description="Who keeps the leases.")


class Config(Section):
    """A vipd configuration file."""

    node: NodeName | None = Field(None, description="This host; default: the short host name.")
    runtime_dir: AbsolutePath = Field("/run/vipd", description="Control socket, last will.")
    state_dir: AbsolutePath = Field("/var/lib/vipd", description="Restart counter, journal.")
    log: Log = Field(default_factory=lambda: Log.model_validate({}), description="Logging.")
    realtime: Literal["auto", "off", "rr"] = Field(
        "auto", description="auto: nice -20; rr: SCHED_RR; off: as started."
    )
    instances: dict[InstanceName, Instance] = Field(description="The virtual routers, by name.")
    groups: dict[InstanceName, Group] = Field({}, description="Instances that move together.")
    checks: dict[InstanceName, Check] = Field({}, description="Health checks, by name.")
    cluster: Cluster | None = Field(None, description="Cluster mode; without it plain VRRP.")
    quorum: Quorum = Field(
        default_factory=lambda: Quorum.model_validate({}), description="Never two holders."
    )
    fence: Literal["auto", "gate", "lifetime"] = Field(
        "auto", description="What ends a frozen master's right to an address."
    )
    address_lifetime: Annotated[int | None, Span("1s", "24h", auto=True)] = duration(
        "auto", "Whole seconds after which the kernel removes an address that is not renewed."
    )
    engine_timeout: Annotated[int, Span("20ms", "1m")] = duration(
        "200ms", "An engine silent for so long is ended and replaced."
    )


@functools.cache
def json_schema() -> JsonSchema:
    """The JSON Schema (draft 2020-12) of the file; treat it as read-only."""
    schema = Config.model_json_schema()
    _close_mappings(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "vipd configuration",
    }


def _close_mappings(schema: object) -> None:
    """pydantic says which names are good; this adds that no others are."""
    if isinstance(schema, dict):
        if "patternProperties" in schema:
            schema["additionalProperties"] = False
        for inner in schema.values():
            _close_mappings(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _close_mappings(inner)
