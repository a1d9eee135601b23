"""A configuration -> the engine's state: netlink requests compiled ahead, once per load."""

from __future__ import annotations

from dataclasses import replace

from vipd import __version__
from vipd.adapters.netlink_compile import compile_address, compile_promote_secondaries
from vipd.config.load import Loaded
from vipd.ipc import EngineState
from vipd.model import ADDRESS_TAG, MILLISECOND_NS, Duration

ALIVE_FLOOR_NS = 10 * MILLISECOND_NS


def engine_state(loaded: Loaded, generation: int) -> EngineState:
    """Everything that the engine must know, for one generation of the configuration."""
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
        alive_interval_ns=alive_interval_ns(loaded.engine_timeout_ns),
    )


def alive_interval_ns(engine_timeout_ns: Duration) -> Duration:
    """How often the engine says that it lives: four times within its timeout."""
    return max(ALIVE_FLOOR_NS, engine_timeout_ns // 4)
