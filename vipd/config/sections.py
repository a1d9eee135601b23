"""The sections that this release validates and does not carry out yet.

Whoever writes ``quorum:`` relies on it. Accepting the key and ignoring it could put an address on
two hosts, so each part that would act is one more fault, "not supported yet". The rules of these
sections are judged all the same: a file can be made ready for the release that brings them.
"""

from __future__ import annotations

from vipd.config.context import Context
from vipd.config.schema import Config, Profile
from vipd.config.types import format_duration
from vipd.config.yamltree import Path
from vipd.model import MILLISECOND_NS

NOT_YET = "not supported yet"
FEWEST_VOTERS = 3
SHORTEST_SLICE_NS = 60 * MILLISECOND_NS  # 4 jiffies + 20 ms at 100 Hz, the slowest kernel


def check_sections(config: Config, context: Context) -> None:
    """Rules of the later sections, then one refusal for each part that would act."""
    _quorum(config, context)
    _refuse(config, context)


def _quorum(config: Config, context: Context) -> None:
    """QUORUM W1 and §2."""
    if config.quorum.policy != "off":
        _voters(config, context)
    times = config.quorum.profile
    path: Path = ("quorum", "profile")
    if not isinstance(times, Profile) or context.damage.touches(path):
        return
    if times.exclusion * 9 < times.lease * 11:
        least = format_duration(-(-times.lease * 11 // 9))
        problem = "shorter than 11/9 of lease: clocks may differ by 10 %"
        context.fault((*path, "exclusion"), problem, f"write at least {least}")
    if 3 * times.renew > times.lease - 2 * times.slice:
        most = format_duration(max(0, times.lease - 2 * times.slice) // 3)
        problem = "three renewals do not fit into lease - 2 * slice"
        context.fault((*path, "renew"), problem, f"write at most {most}, or a longer lease")
    if times.slice < SHORTEST_SLICE_NS:
        least = format_duration(SHORTEST_SLICE_NS)
        problem = "shorter than 4 kernel ticks + 20ms"
        context.fault((*path, "slice"), problem, f"write at least {least}")


def _voters(config: Config, context: Context) -> None:
    path: Path = ("quorum", "policy")
    if config.cluster is None:
        if not context.damage.touches(("cluster",)):
            cure = "add a cluster section with nodes and witnesses, or write policy: off"
            context.fault(path, "quorum needs cluster mode", cure)
        return
    if not context.sound(("cluster",), "nodes", "witnesses"):
        return
    voters = len(config.cluster.nodes) + len(config.cluster.witnesses)
    if voters < FEWEST_VOTERS and config.quorum.policy == "require":
        problem = f"{voters} voters cannot form a majority when one is lost"
        context.fault(path, problem, "add nodes or witnesses until there are 3, or policy: off")
    elif voters % 2 == 0:
        problem = f"{voters} voters survive no more losses than {voters - 1}"
        context.warn(path, problem, "add or remove a witness")


def _refuse(config: Config, context: Context) -> None:
    for name, instance in config.instances.items():
        if not instance.accept:
            cure = "remove it or write true; the host would answer on the addresses"
            context.fault(("instances", name, "accept"), NOT_YET, cure)
    if config.quorum.policy != "off":
        cure = "remove it or write policy: off; two hosts could hold an address"
        context.fault(("quorum", "policy"), NOT_YET, cure)
    if config.fence == "gate":
        cure = "write auto or lifetime; a frozen master would not be shut out"
        context.fault(("fence",), NOT_YET, cure)
