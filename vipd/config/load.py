"""A configuration file -> what the daemon runs by, or every fault of the file at once.

The way of a file: text -> tree with lines (yamltree) -> schema (wording, schema) -> this node's
values (resolve, tracking, health) -> cross checks (checks, tracking, health, hooks, per_node,
cluster, sections) ->
``NodeConfig`` for the engine and ``Duties`` for the supervisor. Each step goes on with what the
step before left whole, so that one run finds everything. Only ``ConfigError`` is ever raised for
what a file holds, and nothing has been changed when it is.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from vipd.config.checks import check_instances
from vipd.config.cluster import check_cluster, with_cluster
from vipd.config.context import Context, KeyReader
from vipd.config.facts import HostFacts
from vipd.config.health import check_usage, draft_checks
from vipd.config.hooks import check_hooks, hook_plans
from vipd.config.per_node import check_nodes
from vipd.config.resolve import draft, finish, readable_by_all
from vipd.config.schema import Config, Log
from vipd.config.sections import check_sections
from vipd.config.tracking import check_tracking, draft_tracks
from vipd.config.wording import validate
from vipd.config.yamltree import MAX_TEXT, read_tree
from vipd.duties import Duties
from vipd.errors import ConfigError, ConfigFault
from vipd.model import Duration, NodeConfig

__all__ = ["HostFacts", "Loaded", "Report", "examine", "load", "load_text", "short_host_name"]

LONGEST_TEXT = 400
SECRET_HEADERS = {"authorization", "cookie", "x-api-key", "x-auth-token"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A good file, for this node."""

    config: Config
    node_config: NodeConfig
    warnings: tuple[ConfigFault, ...]
    duties: Duties

    @property
    def runtime_dir(self) -> Path:
        return Path(self.config.runtime_dir)

    @property
    def state_dir(self) -> Path:
        return Path(self.config.state_dir)

    @property
    def log(self) -> Log:
        return self.config.log

    @property
    def realtime(self) -> str:
        return self.config.realtime

    @property
    def engine_timeout_ns(self) -> Duration:
        return self.config.engine_timeout


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, in the order of the file; ``loaded`` is None when there are faults."""

    faults: tuple[ConfigFault, ...]
    warnings: tuple[ConfigFault, ...]
    loaded: Loaded | None

    def result(self) -> Loaded:
        if self.loaded is None:
            raise ConfigError(self.faults)
        return self.loaded


def short_host_name() -> str:
    return socket.gethostname().partition(".")[0]


def load(
    path: Path,
    *,
    facts: HostFacts | None,
    node: str | None = None,
    read_keys: KeyReader | None = None,
) -> Loaded:
    """The file for this node. ``facts`` None: rules that need the host are left out.

    ``node`` wins over the file's ``node:``, which wins over the short host name. ``read_keys``
    None: the key file is not looked at, and the cluster has no keys.
    """
    return examine(path, facts=facts, node=node, read_keys=read_keys).result()


def load_text(
    text: str,
    file: str = "vipd.yaml",
    *,
    facts: HostFacts | None = None,
    node: str | None = None,
    folder: Path = Path(),
    read_keys: KeyReader | None = None,
) -> Loaded:
    """``load`` for text; relative paths in it start at ``folder``."""
    return _examine_text(
        text, file, facts=facts, node=node, folder=folder, read_keys=read_keys
    ).result()


def examine(
    path: Path,
    *,
    facts: HostFacts | None,
    node: str | None = None,
    read_keys: KeyReader | None = None,
) -> Report:
    """Faults and warnings of a file, together."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_TEXT + 1)
        world_readable = readable_by_all(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        cure = "name a readable file with --config"
        return _hopeless(ConfigFault(file, 1, "", f"cannot be read: {reason}", cure))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return _hopeless(ConfigFault(file, line, "", "not UTF-8 text", "save the file as UTF-8"))
    return _examine_text(
        text,
        file,
        facts=facts,
        node=node,
        folder=path.parent,
        read_keys=read_keys,
        world_readable=world_readable,
    )


def _hopeless(*faults: ConfigFault) -> Report:
    return Report(_tidy(faults), (), None)


def _examine_text(
    text: str,
    file: str,
    *,
    facts: HostFacts | None,
    node: str | None,
    folder: Path,
    read_keys: KeyReader | None = None,
    world_readable: bool = False,
) -> Report:
    tree, faults = read_tree(text, file)
    if tree is None or tree.value is None:
        cure = "write at least 'instances:' with one instance, as in etc/vipd.yaml"
        return _hopeless(*(faults or [ConfigFault(file, 1, "", "the file is empty", cure)]))
    if not isinstance(tree.value, dict):
        cure = "begin with 'instances:', as in etc/vipd.yaml"
        faults.append(ConfigFault(file, tree.line, "", "the file is not a mapping", cure))
        return _hopeless(*faults)
    config, damage = validate(tree, file, faults)
    if config is None:
        return _hopeless(*faults)
    name = node or config.node or ("" if damage.touches(("node",)) else short_host_name())
    context = Context(file, name, tree, damage, facts, folder, read_keys, faults=faults)
    return _judge(config, context, world_readable)


def _judge(config: Config, context: Context, world_readable: bool) -> Report:
    drafts, tracks = draft(config, context), draft_tracks(config, context)
    checks = draft_checks(config, context)
    check_instances(config, drafts, context)
    check_tracking(config, drafts, tracks, context)
    check_usage(config, drafts, tracks, context)
    check_hooks(config, context)
    check_nodes(config, context)
    check_cluster(config, drafts, context)
    check_sections(config, context)
    if world_readable:
        _warn_of_secrets(config, context)
    found, warnings = _tidy(context.faults), _tidy(context.warnings)
    if found:
        return Report(found, warnings, None)
    node_config = with_cluster(config, finish(config, drafts, tracks, context), context)
    duties = Duties(checks, hook_plans(config, node_config))
    return Report((), warnings, Loaded(config, node_config, warnings, duties))


def _warn_of_secrets(config: Config, context: Context) -> None:
    """Checklist SEC-7."""
    for name, entry in config.instances.items():
        if entry.auth and entry.auth.secret:
            cure = f"chmod 640 {context.file}, or move the secret into a secret_file"
            path = ("instances", name, "auth", "secret")
            context.warn(path, "every user can read the file with this secret", cure)
    for name, check in config.checks.items():
        if any(header.lower() in SECRET_HEADERS for header in check.headers):
            problem = "every user can read the file with this secret"
            context.warn(("checks", name, "headers"), problem, f"chmod 640 {context.file}")


def _tidy(faults: Iterable[ConfigFault]) -> tuple[ConfigFault, ...]:
    """In the order of the file; one printable line each, whatever the file holds."""
    return tuple(
        replace(
            fault,
            key=_printable(fault.key),
            problem=_printable(fault.problem),
            cure=_printable(fault.cure),
        )
        for fault in sorted(faults, key=lambda fault: fault.line)
    )


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[:LONGEST_TEXT])
