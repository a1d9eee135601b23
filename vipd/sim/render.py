"""Events and actions in short, for the trace: addresses as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum

from vipd.model import Advert, InstanceConfig, NodeConfig, Vip, format_address


def short(value: object) -> str:
    """One line for any value of the model, an event or an action."""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bytes):
        return format_address(value) if len(value) in (4, 16) else value.hex(":")
    if isinstance(value, Vip):
        return f"{value}@{value.interface}"
    if isinstance(value, Advert):
        interval = value.interval_ns // 1_000_000
        return f"v{value.version} priority={value.priority} {interval} ms {short(value.addresses)}"
    if isinstance(value, InstanceConfig):
        return f"<{value.name} vrid={value.vrid} priority={value.priority}>"
    if isinstance(value, NodeConfig):
        return f"<generation {value.generation}: {short(value.instances)}>"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(short, value)) + ")"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}={short(item)}" for key, item in value.items()) + "}"
    if is_dataclass(value) and not isinstance(value, type):
        parts = [f"{field.name}={short(getattr(value, field.name))}" for field in fields(value)]
        return f"{type(value).__name__}({' '.join(parts)})"
    return str(value)
