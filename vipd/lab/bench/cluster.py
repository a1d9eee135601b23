"""What cluster mode is for: planned moves in milliseconds, and a daemon's death nobody notices.

Each event is made again and again, at random moments, and each move of the VIP is a sample: the
way to the other node and the way back count apart. Beside it stands what keepalived makes of the
same event, or of the nearest that it has: it knows no switchover and no maintenance, its planned
move is a stop. It needs seconds, so it is repeated less often, and only once for all rows.

Two holders are counted by the kernels' own words, in one order for all hosts (``holders.py``). Cut
off from each other two nodes without a quorum are both masters: that row may have them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from vipd.lab.bench.event_figures import EventFigure, Goal, Sample, Tally, total
from vipd.lab.bench.figures import Measurement, MeasurementFailed, Progress
from vipd.lab.bench.pairs import Pair, sleep_ns
from vipd.lab.bench.stage import INSTANCE, WENT_WRONG, Stage, stage
from vipd.lab.hosts import wait_for
from vipd.lab.peers import Speaker, VipdNode
from vipd.model import SECOND_NS

PLANNED, KILLED = Goal(5, 15), Goal(30, 60)
HUNG, CUT = Goal(300, 400), Goal(350, 400)
ROLLING = Goal(30, 30)
_CUT_SETTINGS = {"heartbeat_timeout": "300ms"}
_LIVES = 4  # engines of one daemon that may be killed: each later one is started later
_REST_NS = SECOND_NS // 2
_SPLIT_NS = 2 * SECOND_NS
_CHILD_BACK_NS = 6 * SECOND_NS  # a second until it is started again, and its silence
_GONE_LIMIT_S = 5.0

Tallies = tuple[Tally, Tally]
Round = Callable[[Stage, Pair], Iterator[Sample]]
"""One event and its undoing: the sample of the VIP's way to the other node, and of the way back."""


@dataclass(frozen=True, slots=True)
class Event:
    """``there`` and ``back`` are the rows' words, and their goals. ``rival``: keepalived's way.

    Without ``back`` the event has one sample.
    """

    name: str
    there: tuple[str, Goal | None]
    back: tuple[str, Goal | None] | None
    make: Round
    rival: Round
    one_holder: bool = True
    one_life: bool = True  # the daemon goes on with another engine: see _LIVES
    cut: bool = False


# --- the events -------------------------------------------------------------------------------


def _node(speaker: Speaker) -> VipdNode:
    if not isinstance(speaker, VipdNode):
        raise TypeError(f"{speaker.host.name} does not run vipd")
    return speaker


def _nothing_happens(field: Stage, pair: Pair) -> Iterator[Sample]:
    """What the machine itself, and nobody else, costs the client."""
    field.rest(pair, pair.high)
    yield field.disturb(pair, partial(sleep_ns, _REST_NS))


def _switchover(field: Stage, pair: Pair) -> Iterator[Sample]:
    """There: ordered on the master. Back: on the same node, which is not the master then."""
    node = _node(pair.high)
    for master, target in ((pair.high, pair.low), (pair.low, pair.high)):
        field.rest(pair, master)
        order = partial(node.cli, "switchover", INSTANCE, "--to", target.host.name)
        yield field.move(pair, order, target)


def _maintenance(field: Stage, pair: Pair) -> Iterator[Sample]:
    node = _node(pair.high)
    for master, switch, target in ((pair.high, "on", pair.low), (pair.low, "off", pair.high)):
        field.rest(pair, master)
        yield field.move(pair, partial(node.cli, "maintenance", switch), target)


def _stop(field: Stage, pair: Pair) -> Iterator[Sample]:
    field.rest(pair, pair.high)
    yield field.move(pair, pair.high.stop, pair.low)
    pair.high.wait()
    yield field.move(pair, pair.high.start, pair.high)


def _restart(field: Stage, pair: Pair) -> Iterator[Sample]:
    """As a service manager does it: started as soon as it has ended."""
    field.rest(pair, pair.high)
    yield field.move(pair, partial(renew, pair.high), pair.low)
    yield field.move(pair, _nothing, pair.high)


def _nothing() -> None:
    """The daemon comes back by itself."""


def _strike(number: signal.Signals) -> Round:
    """A signal to the engine of the master; the process that guards it does the rest."""

    def make(field: Stage, pair: Pair) -> Iterator[Sample]:
        field.rest(pair, pair.high)
        yield field.move(pair, lambda: os.kill(_engine(pair.high), number), pair.low)
        yield field.move(pair, _nothing, pair.high)

    return make


def _engine(speaker: Speaker) -> int:
    """vipd's real-time process, keepalived's VRRP child."""
    pid = speaker.engine_pid() if isinstance(speaker, VipdNode) else (*speaker.pids(), 0)[1]
    if pid == 0:  # to signal 0 would be to signal ourselves
        raise ProcessLookupError(f"{speaker.host.name}: no engine")
    return pid


def _lose_child(field: Stage, pair: Pair) -> Iterator[Sample]:
    """keepalived: its parent starts another child, which finds the VIP and removes it, waits as a
    backup does, and is master again before the other host would be.
    """

    def kill() -> None:
        os.kill(_engine(pair.high), signal.SIGKILL)
        sleep_ns(_CHILD_BACK_NS)

    field.rest(pair, pair.high)
    yield field.disturb(pair, kill)


def _freeze(field: Stage, pair: Pair) -> Iterator[Sample]:
    """keepalived: nobody guards its child, so it has to be thawed."""
    field.rest(pair, pair.high)
    frozen = _engine(pair.high)
    yield field.move(pair, lambda: os.kill(frozen, signal.SIGSTOP), pair.low)
    yield field.move(pair, lambda: os.kill(frozen, signal.SIGCONT), pair.high)


def _orphan(field: Stage, pair: Pair) -> Iterator[Sample]:
    """SIGKILL of the parent alone; its service manager starts it when all of it has ended."""
    field.rest(pair, pair.high)
    family = pair.high.pids()
    yield field.move(pair, lambda: os.kill(pair.high.process.pid, signal.SIGKILL), pair.low)
    pair.high.wait()
    wait_for(lambda: not any(map(_exists, family)), _GONE_LIMIT_S, "the engine goes on alone")
    yield field.move(pair, pair.high.start, pair.high)


def _exists(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def _cut(field: Stage, pair: Pair) -> Iterator[Sample]:
    field.rest(pair, pair.high)
    yield field.move(pair, partial(field.cut, pair), pair.low)
    sleep_ns(_SPLIT_NS)
    yield field.move(pair, partial(field.connect, pair), pair.high)


def _upgrade(field: Stage, pair: Pair) -> Iterator[Sample]:
    """Restart one, wait until all is at rest, restart the other; first the sum of all outages."""
    field.rest(pair, pair.high)
    away = field.move(pair, partial(renew, pair.high), pair.low)
    home = field.move(pair, _nothing, pair.high)
    field.rest(pair, pair.high)
    backup = field.disturb(pair, partial(renew, pair.low))
    yield total((away, home, backup))
    yield backup


def renew(node: Speaker) -> None:
    """Stop it, and start it as soon as it has ended."""
    node.stop()
    node.wait()
    node.start()


# --- the rows ---------------------------------------------------------------------------------

EVENTS = (
    Event("rest", ("nothing happens", None), None, _nothing_happens, _nothing_happens),
    Event(
        "switchover",
        ("switchover, ordered on the master", PLANNED),
        ("switchover, ordered on the other node", PLANNED),
        _switchover,
        _stop,
    ),
    Event(
        "maintenance",
        ("maintenance of the master", PLANNED),
        ("  its end: preemption", PLANNED),
        _maintenance,
        _stop,
    ),
    Event("sigterm", ("SIGTERM", PLANNED), ("  started: preemption", PLANNED), _stop, _stop),
    Event(
        "restart", ("restart: away", PLANNED), ("  and back: preemption", PLANNED), _restart, _stop
    ),
    Event(
        "engine-killed",
        ("SIGKILL of the engine", KILLED),
        ("  next engine: preemption", PLANNED),
        _strike(signal.SIGKILL),
        _lose_child,
        one_life=False,
    ),
    Event(
        "engine-frozen",
        ("SIGSTOP of the engine", HUNG),
        ("  next engine: preemption", PLANNED),
        _strike(signal.SIGSTOP),
        _freeze,
        one_life=False,
    ),
    Event(
        "supervisor-killed",
        ("SIGKILL of the supervisor", KILLED),
        ("  started again: preemption", PLANNED),
        _orphan,
        _orphan,
    ),
    Event(
        "cut",
        ("host cut off, heartbeat_timeout 300ms", CUT),
        ("  connected again", None),
        _cut,
        _cut,
        one_holder=False,
        cut=True,
    ),
    Event(
        "upgrade",
        ("rolling upgrade of both nodes, total", ROLLING),
        ("  of it: restart of the backup", None),
        _upgrade,
        _upgrade,
    ),
)


class Rivals:
    """What keepalived makes of the events, measured once for all rows of a run."""

    def __init__(self, repetitions: int) -> None:
        self._repetitions = repetitions
        self._known: dict[Round, Tallies] = {}

    def of(self, event: Event, field: Stage, progress: Progress) -> Tallies:
        if event.rival not in self._known:
            known = self._known[event.rival] = (Tally(), Tally())
            repeat(field, field.keepalived, event.rival, self._repetitions, known, progress)
        return self._known[event.rival]


def repeat(
    field: Stage,
    pair: Pair,
    make: Round,
    repetitions: int,
    tallies: Tallies,
    progress: Progress,
    lives: int = 0,
) -> None:
    """Make the event so often. One that went wrong is in its tally, and ends the repetition;
    a pair that does not recover from it ends them all.
    """
    for number in range(repetitions):
        made = 0
        try:
            if lives and number % lives == lives - 1:
                renew(pair.high)
            for sample in make(field, pair):
                tallies[made].add(sample)
                made += 1
                progress(f"{number + 1}/{repetitions} {pair.kind} {sample.outage_ms:.1f} ms")
        except WENT_WRONG as error:
            failures = tallies[min(made, 1)].failures
            failures.append(str(error))
            progress(f"{number + 1}/{repetitions} {pair.kind} FAILED: {error}")
            try:
                field.recover(pair)
            except MeasurementFailed as lost:
                failures.append(f"{repetitions - number - 1} not made: {lost}")
                return


def _measure(
    event: Event, repetitions: int, rivals: Rivals, progress: Progress
) -> Iterator[EventFigure]:
    tallies = (Tally(), Tally())
    settings = _CUT_SETTINGS if event.cut else {}
    with stage(settings, both_networks=event.cut) as field:
        others = rivals.of(event, field, progress)
        lives = 0 if event.one_life else _LIVES
        repeat(field, field.vipd, event.make, repetitions, tallies, progress, lives)
    rows = ((event.name, event.there), (f"{event.name}-back", event.back))
    for (name, words), own, other in zip(rows, tallies, others, strict=True):
        if words is not None:
            what, goal = words
            yield EventFigure(f"cluster-{name}", what, own, other, goal, event.one_holder)


def measurements(repetitions: int, rival_repetitions: int) -> dict[str, Measurement]:
    """Name -> what measures it, in the order of the table."""
    rivals = Rivals(rival_repetitions)
    return {
        f"cluster-{event.name}": partial(_measure, event, repetitions, rivals) for event in EVENTS
    }
