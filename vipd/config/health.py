"""The ``checks`` of a file: rules between their options, and what this node runs.

``draft_checks`` judges and builds in one walk. A check with a fault is left out, which is of no
consequence, because a file with a fault is refused as a whole.

A check that nothing tracks runs and is shown, and moves nothing. That is most often a forgotten
line, so it is warned about.

How long a failure can stay unnoticed: it begins just after a good run, so the first bad run starts
up to one interval later; ``fall`` bad runs are wanted; the last one may take its whole timeout.
A run that is longer than the interval delays the next one, for a check runs once at a time.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from vipd.config.context import Context, of_node
from vipd.config.drafts import Draft
from vipd.config.programs import judge_program, judge_user
from vipd.config.schema import Config
from vipd.config.schema_checks import CHECK_KINDS, KIND_OPTIONS, Check
from vipd.config.tracking import Tracks
from vipd.config.types import format_duration
from vipd.config.yamltree import Path
from vipd.duties import (
    CheckConfig,
    FileProbe,
    HttpProbe,
    Initial,
    InterfaceProbe,
    PingProbe,
    Probe,
    ProcessProbe,
    ScriptProbe,
    SystemdProbe,
    TcpProbe,
)
from vipd.model import (
    SECOND_NS,
    Address,
    Duration,
    TrackKind,
    family_of,
    format_address,
    is_link_local,
    parse_address,
)

SLOW_NS = 60 * SECOND_NS
UNIT_SUFFIXES = (
    ".service", ".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path",
    ".timer", ".slice", ".scope",
)  # fmt: skip


def detection_ns(check: CheckConfig) -> Duration:
    """The longest time from a failure to the verdict."""
    turns = -(-check.timeout_ns // check.interval_ns)
    between_runs_ns = check.interval_ns * max(1, turns)
    return check.interval_ns + (check.fall - 1) * between_runs_ns + check.timeout_ns


def draft_checks(config: Config, context: Context) -> tuple[CheckConfig, ...]:
    """Every good check, for this node; faults and warnings go into the context."""
    checks: list[CheckConfig] = []
    for name, entry in config.checks.items():
        path: Path = ("checks", name)
        if not _one_kind(path, entry, context):
            continue
        probe = PROBES[entry.kinds[0]](path, entry, context)
        if probe is None:
            continue
        check = CheckConfig(
            name=name,
            probe=probe,
            interval_ns=entry.interval,
            timeout_ns=entry.timeout,
            rise=entry.rise,
            fall=entry.fall,
            initial=Initial(entry.initial),
        )
        _soon_enough(path, check, context)
        checks.append(check)
    return tuple(checks)


def check_usage(
    config: Config, drafts: tuple[Draft, ...], tracks: Tracks, context: Context
) -> None:
    """Rules between checks and the rest of the file."""
    tracked = {
        entry.track.name
        for entries in tracks.values()
        for entry in entries
        if entry.track.kind is TrackKind.CHECK
    }
    for name in config.checks:
        damaged = any(context.damage.touches((*owner, "track")) for owner in tracks)
        if name not in tracked and not damaged:
            problem = "nothing tracks it: it is run and shown, and moves no address"
            context.warn(("checks", name), problem, f"add {{check: {name}}} to a 'track:'")
    vips = {vip.address for item in drafts for vip in item.vips}
    for name, entry in config.checks.items():
        for option in ("source", "address"):
            value = getattr(entry, option)
            mine = value.get(context.node) if isinstance(value, dict) else value
            if mine in vips:
                problem = f"{format_address(mine)} is a VIP: only the master has it"
                cure = "write an address that the host always has; a backup would fail for ever"
                context.warn(("checks", name, option), problem, cure)


def _one_kind(path: Path, check: Check, context: Context) -> bool:
    if not context.sound(path, *CHECK_KINDS):
        return False
    if len(check.kinds) != 1:
        found = f"{' and '.join(check.kinds)} are given" if check.kinds else "it checks nothing"
        context.fault(path, found, f"give exactly one of {', '.join(CHECK_KINDS)}")
        return False
    for option, kinds in KIND_OPTIONS.items():
        if context.written((*path, option)) and check.kinds[0] not in kinds:
            cure = f"remove it from this {check.kinds[0]} check"
            context.fault((*path, option), f"it belongs to {' and '.join(kinds)} checks", cure)
    return True


def _soon_enough(path: Path, check: CheckConfig, context: Context) -> None:
    if context.sound(path, "interval", "timeout", "fall") and detection_ns(check) > SLOW_NS:
        longest = format_duration(detection_ns(check))
        problem = f"a failure may stay unnoticed for {longest}: fall * interval + timeout"
        context.warn(path, problem, "shorten interval and timeout, or lower fall")


# --- one probe each ---------------------------------------------------------------------------


def _http(path: Path, entry: Check, context: Context) -> Probe:
    if entry.method == "HEAD" and entry.body is not None and context.sound(path, "method"):
        cure = "write method: GET, or remove body"
        context.fault((*path, "body"), "an answer to HEAD has no body", cure)
    if any(name.lower() == "host" for name in entry.headers):
        cure = "write it as 'host:', which names the server to TLS, too"
        context.fault((*path, "headers"), "the Host header is an option of its own", cure)
    if entry.http is not None and entry.http.startswith("http://"):
        for option in ("verify", "ca_file"):
            if context.written((*path, option)):
                cure = "remove it, or write an https URL"
                context.warn((*path, option), "it has no effect on an http URL", cure)
    elif entry.ca_file is not None and not entry.verify:
        cure = "remove one of the two"
        context.warn((*path, "ca_file"), "it has no effect while verify is false", cure)
    _authorities(path, entry, context)
    return HttpProbe(
        url=entry.http or "",
        method=entry.method,
        statuses=tuple(entry.status),
        body=entry.body,
        headers={name: value.get_secret_value() for name, value in entry.headers.items()},
        host=entry.host,
        unix_socket=entry.unix_socket,
        verify=entry.verify,
        ca_file=str((context.folder / entry.ca_file).absolute()) if entry.ca_file else None,
    )


def _authorities(path: Path, entry: Check, context: Context) -> None:
    if context.facts is None or entry.ca_file is None:
        return
    try:
        ssl.create_default_context(cafile=str(context.folder / entry.ca_file))
    except ssl.SSLError:
        problem = f"{entry.ca_file} holds no certificate"
        context.fault((*path, "ca_file"), problem, "write a file with certificates in PEM form")
    except OSError as error:
        problem = f"{entry.ca_file} cannot be read: {error.strerror}"
        cure = "write a readable file; a relative path starts at this file's folder"
        context.fault((*path, "ca_file"), problem, cure)


def _script(path: Path, entry: Check, context: Context) -> Probe:
    command = tuple(entry.script or ())
    judge_user(path, entry.user, context)
    if context.sound(path, "user"):
        judge_program((*path, "script"), command, entry.user, context)
    return ScriptProbe(command, entry.user)


def _tcp(path: Path, entry: Check, context: Context) -> Probe | None:
    host, port = entry.tcp or ("", 0)
    source = _source(path, entry, _literal(host), context)
    return None if source is None else TcpProbe(host, port, source or None)


def _ping(path: Path, entry: Check, context: Context) -> Probe | None:
    target = entry.ping or b""
    if is_link_local(target):
        cure = "write a global address of the same host"
        context.fault((*path, "ping"), "a link-local address is not unique on this host", cure)
    source = _source(path, entry, target, context)
    return None if source is None else PingProbe(target, source or None)


def _literal(host: str) -> Address | None:
    try:
        return parse_address(host)
    except ValueError:
        return None


def _source(path: Path, entry: Check, target: Address | None, context: Context) -> bytes | None:
    """The address to come from, ``b""`` where none is written; None, and a fault, if it is bad."""
    if entry.source is None:
        return b""
    source = of_node(entry.source, (*path, "source"), context)
    if source is None:
        return None
    text = format_address(source)
    if target is not None and family_of(source) is not family_of(target):
        cure = f"write an IPv{family_of(target).value} address"
        context.fault((*path, "source"), f"{text} is of the other family than the target", cure)
    elif context.facts is not None and source not in context.facts.own_addresses():
        cure = "the check fails until it is there; compare 'ip address'"
        context.warn((*path, "source"), f"this host does not have {text} now", cure)
    return source


def _process(_path: Path, entry: Check, _context: Context) -> Probe:
    return ProcessProbe(entry.process or "", entry.count)


def _file(path: Path, entry: Check, context: Context) -> Probe:
    if entry.absent and entry.number:
        cure = "remove one of the two; a file that is not there counts as 0"
        context.fault((*path, "absent"), "it has no meaning for a file that holds a number", cure)
    return FileProbe(entry.file or "", entry.absent, entry.number)


def _interface(path: Path, entry: Check, context: Context) -> Probe | None:
    name = of_node(entry.interface or "", (*path, "interface"), context)
    if name is not None and context.facts is not None and context.facts.link(name) is None:
        there = ", ".join(sorted(link.name for link in context.facts.links)) or "none"
        cure = f"the check fails until it appears; there is {there}"
        context.warn((*path, "interface"), f"this host has no interface {name} now", cure)
    if entry.address is None:
        return None if name is None else InterfaceProbe(name)
    address = of_node(entry.address, (*path, "address"), context)
    return None if name is None or address is None else InterfaceProbe(name, address)


def _systemd(_path: Path, entry: Check, _context: Context) -> Probe:
    """As systemctl: a name without a known suffix is a service."""
    name = entry.systemd or ""
    return SystemdProbe(name if name.endswith(UNIT_SUFFIXES) else f"{name}.service")


PROBES: dict[str, Callable[[Path, Check, Context], Probe | None]] = {
    "http": _http,
    "script": _script,
    "tcp": _tcp,
    "ping": _ping,
    "process": _process,
    "file": _file,
    "interface": _interface,
    "systemd": _systemd,
}
"""Kind -> what judges it and builds its probe."""
