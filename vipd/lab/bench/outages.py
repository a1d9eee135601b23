"""How long a VIP is not served: a stop, a cut, and the death of everything at once.

Cuts and kills hit the master at chosen phases of its advert interval, the same for both daemons
and spread over it: what the phase adds (up to one interval) is luck, and must be the same luck.
"""

from __future__ import annotations

from collections.abc import Iterator

from vipd.lab.bench.figures import (
    KEEPALIVED,
    KINDS,
    VIPD,
    Figure,
    Judgement,
    Progress,
    at_most,
    at_most_times,
    samples,
)
from vipd.lab.bench.pairs import Arena, Pair
from vipd.lab.hosts import now_ns
from vipd.lab.outages import longest_outage
from vipd.model import MILLISECOND_NS, SECOND_NS, Instant

_TAKEOVER_LIMIT_S = 10.0


def in_turn(repetition: int) -> tuple[str, ...]:
    """Who goes first changes, so that being first is no advantage."""
    return KINDS if repetition % 2 == 0 else tuple(reversed(KINDS))


def interval_name(interval_ms: int) -> str:
    return f"{interval_ms // 1000}s" if interval_ms >= 1000 else f"{interval_ms}ms"


def _taken_over(field: Arena, pair: Pair, start_ns: Instant) -> float:
    """Wait for the low host to serve the VIP; the outage in milliseconds."""
    low = pair.low.host.name
    what = f"{low} does not take over"
    field.wait(lambda: field.answers.steady(pair.vip, low), _TAKEOVER_LIMIT_S, what)
    answers = field.answers.of(pair.vip)
    outage = longest_outage(answers, start_ns, answers[-1].received_ns)
    return outage.length_ns / MILLISECOND_NS


def sigterm(
    field: Arena, interval_ms: int, repetitions: int, progress: Progress
) -> Iterator[Figure]:
    """SIGTERM to the master."""
    values: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for repetition in range(repetitions):
        for kind in in_turn(repetition):
            pair = field.pairs[kind]
            start_ns = now_ns()
            pair.high.stop()
            values[kind].append(_taken_over(field, pair, start_ns))
            pair.high.wait()
            progress(f"{repetition + 1}/{repetitions} {kind} {values[kind][-1]:.0f} ms")
        for pair in field.pairs.values():
            pair.high.start()
        field.wait_home()
    yield _outage("sigterm", "SIGTERM of the master", interval_ms, values)


def cut(field: Arena, interval_ms: int, repetitions: int, progress: Progress) -> Iterator[Figure]:
    """The master's host loses the network, unseen by itself."""
    values: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for repetition in range(repetitions):
        for kind in in_turn(repetition):
            pair = field.pairs[kind]
            field.ear.wait_phase(pair.high, (repetition + 0.5) / repetitions)
            start_ns = now_ns()
            field.lab.detach(pair.high.host.name)
            values[kind].append(_taken_over(field, pair, start_ns))
            progress(f"{repetition + 1}/{repetitions} {kind} {values[kind][-1]:.0f} ms")
        for pair in field.pairs.values():
            field.lab.attach(pair.high.host.name)
        _wait_yielded(field)
        field.wait_home()
    yield _outage("cut", "master's host cut off", interval_ms, values)


def _wait_yielded(field: Arena) -> None:
    pairs = field.pairs.values()
    field.wait(
        lambda: not any(pair.low.holds_any() for pair in pairs), 10, "two masters on one network"
    )


def _outage(name: str, what: str, interval_ms: int, values: dict[str, list[float]]) -> Figure:
    each = interval_name(interval_ms)
    return Figure(
        f"{name}-{each}",
        f"{what}, advert {each}: outage",
        "ms",
        samples(values[VIPD]),
        samples(values[KEEPALIVED]),
        "≤ 1.05 × keepalived",
        at_most_times(1.05),
    )


def sigkill(
    field: Arena, interval_ms: int, repetitions: int, progress: Progress
) -> Iterator[Figure]:
    """All processes of the master die at once: who serves, and how long do two have the address?"""
    served: dict[str, list[float]] = {kind: [] for kind in KINDS}
    doubled: dict[str, list[float]] = {kind: [] for kind in KINDS}
    endless = dict.fromkeys(KINDS, False)
    for repetition in range(repetitions):
        for kind in in_turn(repetition):
            pair = field.pairs[kind]
            field.ear.wait_phase(pair.high, (repetition + 0.5) / repetitions)
            start_ns = now_ns()
            pair.high.kill()
            taken_ns = _low_answers(field, pair, start_ns)
            served[kind].append((taken_ns - start_ns) / MILLISECOND_NS)
            length_ns, over = _two_addresses(pair, taken_ns)
            doubled[kind].append(length_ns / MILLISECOND_NS)
            endless[kind] |= not over
            progress(f"{repetition + 1}/{repetitions} {kind} {served[kind][-1]:.0f} ms")
        for pair in field.pairs.values():
            pair.high.start()
        field.wait_home()
    down_ms = field.pairs[VIPD].low.router.master_down_ns / MILLISECOND_NS
    each = interval_name(interval_ms)
    lifetime_ms = lifetime_s(down_ms) * 1000
    figures: list[tuple[str, str, dict[str, list[float]], str, Judgement, dict[str, bool]]] = [
        (
            f"sigkill-{each}",
            f"SIGKILL of all, advert {each}: new master serves",
            served,
            f"≤ {down_ms / 1000:.2f} s (RFC) + 1 s",
            at_most(down_ms + 1000),
            {},
        ),
        (
            f"sigkill-{each}-two",
            "  two hosts have the address",
            doubled,
            f"≤ lifetime {lifetime_ms / 1000:.0f} s + 1 s",
            at_most(lifetime_ms + 1000),
            endless,
        ),
    ]
    for name, what, values, goal, judge, open_ended in figures:
        first, second = (samples(values[kind], open_ended.get(kind, False)) for kind in KINDS)
        yield Figure(name, what, "ms", first, second, goal, judge)


def lifetime_s(master_down_ms: float) -> int:
    """``address_lifetime: auto``: whole seconds above the peers' takeover time, 2 at least."""
    return max(2, int(master_down_ms // 1000) + 1)


def _low_answers(field: Arena, pair: Pair, start_ns: Instant) -> Instant:
    """The first answer of the low host after the start."""
    low = pair.low.host.name
    _taken_over(field, pair, start_ns)
    return next(
        answer.received_ns
        for answer in field.answers.of(pair.vip)
        if answer.received_ns >= start_ns and answer.host == low
    )


def _two_addresses(pair: Pair, since_ns: Instant) -> tuple[int, bool]:
    """How long the dead host keeps the VIP beside the new master; False: longer than watched."""
    down_ms = pair.low.router.master_down_ns / MILLISECOND_NS
    watched_ns = (lifetime_s(down_ms) + 1) * SECOND_NS if pair.kind == VIPD else 2 * SECOND_NS
    while pair.high.holds_any():
        if now_ns() - since_ns > watched_ns:
            return now_ns() - since_ns, False
    return max(0, now_ns() - since_ns), True
