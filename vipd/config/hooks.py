"""The ``notify`` of instances and groups: rules, and what the supervisor runs.

All hooks of a unit stand in one queue, so a group's plan holds the sets of its members, in the
order of ``instances``, and then its own: what belongs to one address list is ready before what
belongs to all of them. ``leaving`` holds a planned release up, so it gets five seconds at most,
whatever ``timeout`` says.
"""

from __future__ import annotations

from collections.abc import Iterable

from vipd.config.context import Context
from vipd.config.programs import judge_program, judge_user
from vipd.config.schema import Config, Notify
from vipd.config.types import format_duration
from vipd.config.yamltree import Path
from vipd.duties import HookPlan, HookSet
from vipd.model import SECOND_NS, InstanceConfig, NodeConfig

LONGEST_LEAVING_NS = 5 * SECOND_NS


def check_hooks(config: Config, context: Context) -> None:
    """Programs, users and times of every ``notify``."""
    for name, instance in config.instances.items():
        _judge(("instances", name, "notify"), instance.notify, context)
    for name, group in config.groups.items():
        _judge(("groups", name, "notify"), group.notify, context)


def _judge(path: Path, notify: Notify, context: Context) -> None:
    judge_user(path, notify.user, context)
    if context.sound(path, "user"):
        for occasion, command in notify.commands.items():
            judge_program((*path, occasion.value), command, notify.user, context)
    too_long = context.written((*path, "timeout")) and notify.timeout > LONGEST_LEAVING_NS
    if too_long and notify.leaving is not None and context.sound(path, "timeout"):
        limit = format_duration(LONGEST_LEAVING_NS)
        problem = f"'leaving' is ended after {limit} all the same: a release waits for it"
        cure = f"write at most {limit}, or let 'leaving' only start what takes longer"
        context.warn((*path, "timeout"), problem, cure)


def hook_plans(config: Config, node: NodeConfig) -> tuple[HookPlan, ...]:
    """One plan for each unit; call it only when no fault was found.

    Also for one without hooks: a reload may give it some, and then its role must be known.
    """
    instances = {item.name: item for item in node.instances}
    plans: list[HookPlan] = []
    grouped: set[str] = set()
    for group in node.groups:
        grouped.update(group.instances)
        members = [instances[name] for name in group.instances]
        sets = [_of_instance(config, member) for member in members]
        own = _hook_set("GROUP", group.name, config.groups[group.name].notify, members)
        plans.append(_plan(group.name, [*sets, own]))
    for item in node.instances:
        if item.name not in grouped:
            plans.append(_plan(item.name, [_of_instance(config, item)]))
    return tuple(plans)


def _plan(unit: str, sets: Iterable[HookSet]) -> HookPlan:
    return HookPlan(unit, tuple(item for item in sets if item.commands))


def _of_instance(config: Config, item: InstanceConfig) -> HookSet:
    return _hook_set("INSTANCE", item.name, config.instances[item.name].notify, [item])


def _hook_set(kind: str, name: str, notify: Notify, members: Iterable[InstanceConfig]) -> HookSet:
    return HookSet(
        kind=kind,
        name=name,
        commands={key: tuple(words) for key, words in notify.commands.items()},
        timeout_ns=notify.timeout,
        retries=notify.retries,
        user=notify.user,
        vips=tuple(str(vip) for member in members for vip in member.vips),
    )
