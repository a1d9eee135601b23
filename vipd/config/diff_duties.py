"""What a reload changes about checks and hooks, in words.

Commands are named by their program and headers not at all: arguments and header values often hold
secrets, and these lines go into the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vipd.config.types import format_duration
from vipd.duties import (
    CheckConfig,
    Duties,
    FileProbe,
    HookSet,
    HttpProbe,
    InterfaceProbe,
    PingProbe,
    Probe,
    ProcessProbe,
    ScriptProbe,
    SystemdProbe,
    TcpProbe,
)
from vipd.model import format_address


def duties_plan(old: Duties, new: Duties) -> Iterator[str]:
    """One line per change: checks, then hooks."""
    before = {check.name: check for check in old.checks}
    for check in new.checks:
        was = before.pop(check.name, None)
        if was is None:
            every = format_duration(check.interval_ns)
            yield f"check {check.name}: new: {target_of(check.probe)}, every {every}"
        else:
            yield from (f"check {check.name}: {text}" for text in _check_changes(was, check))
    yield from (f"check {name}: removed" for name in before)
    hooks_before, hooks_after = _hook_sets(old), _hook_sets(new)
    for label in dict.fromkeys((*hooks_after, *hooks_before)):
        was_set, now_set = hooks_before.get(label), hooks_after.get(label)
        yield from (f"{label}: {text}" for text in _hook_changes(was_set, now_set))


def _check_changes(old: CheckConfig, new: CheckConfig) -> Iterator[str]:
    if target_of(old.probe) != target_of(new.probe):
        yield f"{target_of(old.probe)} -> {target_of(new.probe)}"
    elif old.probe != new.probe:
        yield f"options of {target_of(new.probe)} changed"
    pairs = [
        ("interval", *map(format_duration, (old.interval_ns, new.interval_ns))),
        ("timeout", *map(format_duration, (old.timeout_ns, new.timeout_ns))),
        ("rise", str(old.rise), str(new.rise)),
        ("fall", str(old.fall), str(new.fall)),
        ("initial", old.initial.value, new.initial.value),
    ]
    yield from _changed(pairs)


def target_of(probe: Probe) -> str:
    """What is probed, without what may be secret."""
    match probe:
        case HttpProbe():
            return f"http {probe.url}"
        case ScriptProbe():
            return f"script {probe.command[0]}"
        case TcpProbe():
            return f"tcp {probe.host} port {probe.port}"
        case PingProbe():
            return f"ping {format_address(probe.address)}"
        case ProcessProbe():
            return f"process {probe.name}"
        case FileProbe():
            return f"file {probe.path}"
        case InterfaceProbe():
            return f"interface {probe.interface}"
        case SystemdProbe():
            return f"systemd {probe.unit}"


def _hook_sets(duties: Duties) -> dict[str, HookSet]:
    return {
        f"group {item.name}" if item.kind == "GROUP" else item.name: item
        for plan in duties.hooks
        for item in plan.sets
    }


def _hook_changes(old: HookSet | None, new: HookSet | None) -> Iterator[str]:
    given = old or new
    if given is None:
        return
    old, new = (item or replace(given, commands={}) for item in (old, new))
    for occasion in dict.fromkeys((*old.commands, *new.commands)):
        was, now = old.commands.get(occasion), new.commands.get(occasion)
        if was is None and now is not None:
            yield f"notify.{occasion.value} added: {now[0]}"
        elif was is not None and now is None:
            yield f"notify.{occasion.value} removed"
        elif was != now and was is not None and now is not None:
            arguments = " with other arguments" if was[0] == now[0] else ""
            yield f"notify.{occasion.value} {was[0]} -> {now[0]}{arguments}"
    pairs = [
        ("notify.timeout", *map(format_duration, (old.timeout_ns, new.timeout_ns))),
        ("notify.retries", str(old.retries), str(new.retries)),
        ("notify.user", old.user or "root", new.user or "root"),
    ]
    yield from _changed(pairs)


def _changed(pairs: Sequence[tuple[str, ...]]) -> Iterator[str]:
    return (f"{name} {before} -> {after}" for name, before, after in pairs if before != after)
