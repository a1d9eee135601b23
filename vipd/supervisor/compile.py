"""The child that reads the configuration: ``python -m vipd.supervisor.compile``.

A ``CompileWanted`` on standard input, a ``Compiled`` or ``Refused`` on standard output, and out.
YAML, pydantic and pyroute2 live only here: the supervisor neither carries their memory nor stops
guarding the engine while a large file is read.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from vipd import __version__
from vipd.adapters.hostfacts import read_host
from vipd.adapters.keyfile import read_keys
from vipd.adapters.netlink_compile import compile_address, compile_promote_secondaries
from vipd.config.diff import plan
from vipd.config.load import HostFacts, Loaded, load
from vipd.config.neighbours import neighbours, node_names
from vipd.errors import AdapterError, ConfigError
from vipd.ipc import Compiled, CompileWanted, EngineState, FromCompiler, Refused, decode, encode
from vipd.model import ADDRESS_TAG, MILLISECOND_NS, Duration, NodeConfig

ALIVE_FLOOR_NS = 10 * MILLISECOND_NS


def compile_file(wanted: CompileWanted) -> FromCompiler:
    """Everything that the daemon must know of its configuration file, or all its faults."""
    try:
        loaded = load(Path(wanted.path), facts=_host_facts(), node=None, read_keys=read_keys)
    except ConfigError as error:
        return Refused(tuple(str(fault) for fault in error.faults))
    renamed = _renamed(wanted.old, loaded.node_config)
    if renamed:
        return Refused((f"{wanted.path}: node: {renamed}",))
    return Compiled(
        state=_engine_state(loaded, wanted.generation),
        runtime_dir=str(loaded.runtime_dir),
        state_dir=str(loaded.state_dir),
        log_level=loaded.log.level,
        log_format=loaded.log.format,
        engine_timeout_ns=loaded.engine_timeout_ns,
        warnings=tuple(str(warning) for warning in loaded.warnings),
        changes=_changes(wanted, loaded),
        duties=loaded.duties,
        nodes=node_names(loaded.config),
        neighbours=neighbours(loaded.config, loaded.node_config.node),
    )


def _renamed(old: NodeConfig | None, new: NodeConfig) -> str:
    """In a cluster an engine has one name for its life: its peers know it, and its VIPs, by it."""
    if old is None or old.node == new.node or (old.cluster is None and new.cluster is None):
        return ""
    return (
        f"the daemon runs as {old.node}, and a node of a cluster cannot change its name while it "
        "runs; keep it, or 'systemctl restart vipd'"
    )


def _changes(wanted: CompileWanted, loaded: Loaded) -> tuple[str, ...]:
    if wanted.old is None:
        return ()
    return plan(wanted.old, loaded.node_config, wanted.old_duties, loaded.duties)


def _engine_state(loaded: Loaded, generation: int) -> EngineState:
    config = replace(loaded.node_config, generation=generation)
    templates = {}
    for instance in config.instances:
        for vip in instance.vips:
            template = compile_address(vip, lifetime_s=instance.address_lifetime_s, tag=ADDRESS_TAG)
            templates[vip.key] = (template.add, template.delete)
    return EngineState(
        version=__version__,
        config=config,
        templates=templates,
        promote_secondaries=compile_promote_secondaries(),
        realtime=loaded.realtime,
        alive_interval_ns=_alive_interval_ns(loaded.engine_timeout_ns),
    )


def _alive_interval_ns(engine_timeout_ns: Duration) -> Duration:
    """How often the engine says that it lives: four times within its timeout."""
    return max(ALIVE_FLOOR_NS, engine_timeout_ns // 4)


def _host_facts() -> HostFacts | None:
    try:
        return HostFacts(*read_host())
    except AdapterError:
        return None


def main() -> None:
    wanted = decode(sys.stdin.buffer.read())
    if not isinstance(wanted, CompileWanted):
        sys.exit(f"vipd.supervisor.compile: {type(wanted).__name__} is no order")
    sys.stdout.buffer.write(encode(compile_file(wanted)))


if __name__ == "__main__":
    main()
