"""``vipd explain``: why an instance is what it is, in sentences.

The daemon gives values (``/explain``, ``/status``); the sentences are made here, from
``vocabulary``. A word that a newer daemon uses and this program does not know is shown as it is.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

import typer

from vipd.cli.client import accepted, ask, control_socket, request
from vipd.cli.configuration import DEFAULT_CONFIG, ConfigOption
from vipd.cli.prospects import alarms_of_none, arithmetic, prospects
from vipd.cli.status import staleness
from vipd.cli.succession import succession
from vipd.cli.telling import told as event
from vipd.cli.vocabulary import (
    CHANNEL_DISCARDS,
    DISCARDS,
    REASONS,
    REMARKS,
    STALE_MESSAGES,
    Text,
)
from vipd.cli.wording import moment, span
from vipd.members import ChannelDiscard
from vipd.model import DiscardReason, Reason, Remark

_WIDTH = 100
_LABEL = 12
_REMARK_PREFIX = "remarks."
STALE = "stale"
_Word = TypeVar("_Word", bound=Enum)
_Lines = Iterator[tuple[str, str]]

InstanceArgument = Annotated[str | None, typer.Argument(help="Default: every instance.")]

app = typer.Typer()


@app.callback()
def _group() -> None:
    """Commands that ask the daemon why."""


@app.command("explain")
def explain(instance: InstanceArgument = None, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Say why an instance is in its state, what it waits for, and what happened lately."""
    path = control_socket(config)
    query = f"?{urlencode({'instance': instance})}" if instance is not None else ""
    answer = request(path, "GET", f"/explain{query}")
    if answer.status == 404 and instance is not None:
        raise typer.BadParameter(answer.value["error"], param_hint="INSTANCE")
    explained, shown, now = accepted(answer).value, ask(path, "/status"), time.time()
    if (text := staleness(shown)) is not None:
        print(f"STALE: {text}\n")
    for name, values in explained["instances"].items():
        print("\n".join(told(name, values, shown, now)), end="\n\n")
    print("\n".join(_laid_out(_node(shown, now))))


def told(name: str, instance: dict[str, Any], shown: dict[str, Any], now: float) -> list[str]:
    """Everything about one instance, as lines; ``shown`` is the status of the whole node."""
    since, node = instance["since"], shown["node"]
    head = (
        f"{name} on {node}: {instance['state']} for {span(now - since)}, since {moment(since, now)}"
    )
    lines = [line for part in (_why, _faults, _vips, _priority) for line in part(instance)]
    lines += prospects(name, instance, shown, now)
    if shown.get("cluster"):
        lines += succession(name, instance, shown, now)
    else:
        lines += [*_master(instance), *_waiting(instance)]
    parts = (_discarded, _odd, _other_counters)
    lines += [line for part in parts for line in part(instance)]
    return [head, *_laid_out(iter(lines)), *_history(name, instance["history"], now)]


def _laid_out(lines: _Lines) -> list[str]:
    """Label, then text, wrapped beneath itself; a label is said once."""
    found: list[str] = []
    last = ""
    for label, text in lines:
        start = "  " + ("" if label == last else label).ljust(_LABEL)
        last = label
        found += textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=start,
            subsequent_indent=" " * len(start),
            break_on_hyphens=False,
            break_long_words=False,
        )
    return found


def _text(table: dict[_Word, Text], kind: type[_Word], word: str) -> Text:
    try:
        return table[kind(word)]
    except ValueError:
        return Text(word)


def _sentence(text: Text) -> str:
    return f"{text.meaning} {text.cure}".strip()


# --- the parts, in the order in which they are asked for ----------------------------------------


def _why(instance: dict[str, Any]) -> _Lines:
    text = _text(REASONS, Reason, instance["reason"])
    detail = f" ({instance['detail']})" if instance["detail"] else ""
    yield "why", f"{instance['reason']}{detail}: {text.meaning}"
    if text.cure:
        yield "what to do", text.cure


def _faults(instance: dict[str, Any]) -> _Lines:
    """The reason of a FAULT is its first fault; these are the others."""
    for fault in instance["faults"]:
        word, _, detail = fault.partition(": ")
        if word != instance["reason"]:
            sentence = _sentence(_text(REASONS, Reason, word))
            yield "also wrong", f"{word} ({detail}): {sentence}"


def _vips(instance: dict[str, Any]) -> _Lines:
    here = [_vip(vip) for vip in instance["vips"] if vip["present"]]
    elsewhere = [_vip(vip) for vip in instance["vips"] if not vip["present"]]
    if here:
        yield "VIPs", f"on this host: {', '.join(here)}."
    if elsewhere:
        yield "VIPs", f"not on this host: {', '.join(elsewhere)}."


def _vip(vip: dict[str, Any]) -> str:
    return f"{vip['address']} ({vip['interface']})"


def _priority(instance: dict[str, Any]) -> _Lines:
    yield "priority", arithmetic(instance["priority"])


def _master(instance: dict[str, Any]) -> _Lines:
    master, heard_ms = instance["master"], instance["timers"]["last_advert_heard_ms"]
    router = f"VRRPv{instance['protocol']}, VRID {instance['vrid']}, {instance['interface']}"
    heard = (
        "No advert of another router was ever heard"
        if heard_ms is None
        else f"The last advert of another router came {span(heard_ms / 1000)} ago"
    )
    if instance["state"] == "MASTER":
        yield "master", f"this host, as {instance['source']} ({router}). {heard}."
    elif master is None:
        yield "master", f"none is known ({router}). {heard}."
    else:
        who = f"{master['node']} " if master["node"] else ""
        yield (
            "master",
            f"{who}{master['address']} with priority {master['priority']} ({router}). {heard}.",
        )


def _waiting(instance: dict[str, Any]) -> _Lines:
    timers, state = instance["timers"], instance["state"]
    left_ms = timers["next_in_ms"]
    if state == "FAULT":
        yield "waits for", "the end of its faults; then it starts as a backup by itself."
    elif instance["reason"] == Reason.CHECK_PENDING.value:
        yield "waits for", f"the first verdict of {instance['detail']}; then it starts as a backup."
    elif state == "BACKUP" and left_ms is not None:
        down, skew = timers["master_down_interval_ms"], timers["skew_ms"]
        yield (
            "waits for",
            f"an advert of the master. Without one it takes over in {span(left_ms / 1000)}: "
            f"{_ms(down)} after the last one, which is three intervals of "
            f"{_ms(timers['learned_interval_ms'])} and the skew time of priority "
            f"{instance['priority']['effective']}, {_ms(skew)}.",
        )
    elif state == "MASTER" and left_ms is not None:
        yield (
            "waits for",
            f"its next advert in {span(left_ms / 1000)} (every "
            f"{_ms(timers['learned_interval_ms'])}). It yields at once to a master with a higher "
            "priority, or with an equal one and a higher address.",
        )
    else:
        yield "waits for", "nothing that has a time."


def _ms(milliseconds: float) -> str:
    return f"{milliseconds / 1000:g} s" if milliseconds >= 1000 else f"{milliseconds:g} ms"


def _discarded(instance: dict[str, Any]) -> _Lines:
    yield from _discards(instance["counters"]["discarded"])


def _discards(counters: dict[str, int]) -> _Lines:
    for word, count in counters.items():
        if count:
            text = _text(DISCARDS, DiscardReason, word)
            yield "discarded", f"{_adverts(count)} ({word}): {text.meaning}. {text.cure}".rstrip()


def _odd(instance: dict[str, Any]) -> _Lines:
    for name, count in instance["counters"].items():
        if name.startswith(_REMARK_PREFIX) and count:
            word = name.removeprefix(_REMARK_PREFIX)
            text = _text(REMARKS, Remark, word)
            cure = f" {text.cure}" if text.cure else ""
            yield "odd", f"{_adverts(count)} had {text.meaning} ({word}).{cure}"


def _adverts(count: int) -> str:
    return f"{count} advert{'' if count == 1 else 's'}"


def _other_counters(instance: dict[str, Any]) -> _Lines:
    counters = instance["counters"]
    yield (
        "counted",
        f"{counters['adverts_sent']} adverts sent, {counters['adverts_received']} received, "
        f"{counters['transitions']} changes of state.",
    )
    if counters["adverts_failed"]:
        yield "counted", f"{_adverts(counters['adverts_failed'])} the kernel refused to send."
    if counters["addresses_restored"]:
        yield (
            "counted",
            f"{counters['addresses_restored']} times somebody else removed a VIP and vipd put it "
            "back. Find who: `ip monitor address`; often networkd, NetworkManager or DHCP.",
        )
    if counters["rival_announcements"]:
        yield (
            "counted",
            f"{counters['rival_announcements']} times another host said by ARP or NA that it has "
            "a VIP that is here. `vipd watch` shows its MAC; two hosts may hold the VIP.",
        )


def _node(shown: dict[str, Any], now: float) -> _Lines:
    """What belongs to no instance."""
    if shown.get("cluster"):
        yield from alarms_of_none(shown, now)
        yield from _channel(shown["cluster"]["discarded"])
    for label, text in _discards(shown.get("discarded", {})):
        yield label, f"for no instance: {text}"
    if shown["notes_dropped"]:
        yield "history", f"{shown['notes_dropped']} entries were dropped under load."


def _channel(counters: dict[str, int]) -> _Lines:
    """What the channel discarded. Copies are ordinary where nodes have several addresses."""
    for word, count in counters.items():
        if count and word != ChannelDiscard.COPY.value:
            known = word == STALE
            text = STALE_MESSAGES if known else _text(CHANNEL_DISCARDS, ChannelDiscard, word)
            many = f"{count} message{'' if count == 1 else 's'}"
            yield "channel", f"{many} discarded ({word}): {text.meaning}. {text.cure}".rstrip()


def _history(name: str, entries: list[dict[str, Any]], now: float) -> list[str]:
    if not entries:
        return []
    return [
        "  history",
        *(f"    {moment(entry['time'], now)}  {event(entry, about=name)}" for entry in entries),
    ]
