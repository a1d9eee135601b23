"""How long a VIP is not served after a cut has ended, at the worst moment: the better one is next.

While the network was cut both hosts of a pair were masters, and the client has learned the MAC of
the worse one. That one yields to the first advert it hears; RFC 9568 §6.4.3 lets it do so in
silence, and the client goes on asking it until its neighbour entry is doubted (see
docs/decisions/0006).

The cut lasts some seconds longer than the takeover, so that only what happens at the healing
counts: vipd repeats the announcements of a takeover for a second, keepalived 5 s after it.

Both pairs are cut and healed in the same repetition, one after the other, and then watched side by
side: neither one's outage depends on the other's. What counts is a repetition in which the better
master was heard first indeed, by the switch's capture; one that missed the moment is made again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from vipd.lab.bench.figures import (
    KEEPALIVED,
    KINDS,
    VIPD,
    Figure,
    MeasurementFailed,
    Progress,
    at_most_times,
    samples,
)
from vipd.lab.bench.outages import in_turn, interval_name
from vipd.lab.bench.pairs import Arena, Pair, sleep_ns
from vipd.lab.hosts import now_ns, wait_for
from vipd.lab.outages import longest_outage
from vipd.lab.phase import wait_better_is_next
from vipd.lab.timeline import SeenAdvert, advert_in
from vipd.lab.tools import Capture
from vipd.model import MILLISECOND_NS, Duration, Instant

_TAKEOVER_LIMIT_S = 10.0
_REST_NS = 2_200 * MILLISECOND_NS
_BACK_LIMIT_S = 20.0
_SPARE = 3


class _Split:
    """Both pairs of an arena cut in two and healed, once."""

    def __init__(self, field: Arena, capture: Capture) -> None:
        self._field = field
        self._capture = capture
        self._healed_ns: dict[str, Instant] = {}

    def make(self) -> None:
        """Each high host alone, each low host with the client, all of them masters."""
        pairs = self._field.pairs.values()
        for pair in pairs:
            self._field.lab.detach(pair.high.host.name)
        for pair in pairs:
            self._wait_low(pair)
        sleep_ns(_REST_NS)

    def _wait_low(self, pair: Pair) -> None:
        answers, low = self._field.answers, pair.low.host.name
        self._field.wait(
            lambda: answers.steady(pair.vip, low), _TAKEOVER_LIMIT_S, f"{low} does not take over"
        )

    def heal(self, pair: Pair) -> None:
        """Connect the high host of a pair when it is the next one to speak."""
        adverts = self._adverts()
        high_ns, low_ns = (
            max(advert.t_ns for advert in adverts if advert.port == speaker.host.name)
            for speaker in pair.speakers
        )
        try:
            wait_better_is_next(high_ns, low_ns, pair.high.router.interval_ns)
        except TimeoutError as error:
            raise MeasurementFailed(f"{pair.kind}: {error}") from error
        self._healed_ns[pair.kind] = now_ns()
        self._field.lab.attach(pair.high.host.name)

    def outage_ns(self, pair: Pair) -> tuple[Duration, bool]:
        """How long nobody answered; False: nobody did for as long as it was watched."""
        high, vip, answers = pair.high.host.name, pair.vip, self._field.answers
        try:
            wait_for(lambda: answers.steady(vip, high), _BACK_LIMIT_S, "")
            over = True
        except TimeoutError:
            over = False
        seen = answers.of(vip)
        end_ns = seen[-1].received_ns if over else now_ns()
        return longest_outage(seen, self._healed_ns[pair.kind], end_ns).length_ns, over

    def better_came_first(self, pair: Pair) -> bool:
        """The first advert of the pair after the healing was the better master's."""
        names = [speaker.host.name for speaker in pair.speakers]
        since_ns = self._healed_ns[pair.kind]
        return next(
            advert.port == pair.high.host.name
            for advert in self._adverts()
            if advert.t_ns > since_ns and advert.port in names
        )

    def _adverts(self) -> list[SeenAdvert]:
        found = map(advert_in, self._capture.frames())
        return [advert for advert in found if advert is not None]


def heal(field: Arena, interval_ms: int, repetitions: int, progress: Progress) -> Iterator[Figure]:
    """The master's host is cut off until there are two masters, and comes back."""
    values: dict[str, list[float]] = {kind: [] for kind in KINDS}
    endless = dict.fromkeys(KINDS, False)
    each = interval_name(interval_ms)
    capture = Capture(field.lab, name=f"heal-{each}.pcapng")
    with ExitStack() as stack:
        stack.callback(capture.stop)
        for attempt in range(repetitions + _SPARE):
            split = _Split(field, capture)
            split.make()
            for kind in in_turn(attempt):
                split.heal(field.pairs[kind])
            for kind, pair in field.pairs.items():
                length_ns, over = split.outage_ns(pair)
                if split.better_came_first(pair):
                    values[kind].append(length_ns / MILLISECOND_NS)
                    endless[kind] |= not over
                progress(f"{attempt + 1}/{repetitions} {kind} {length_ns / MILLISECOND_NS:.0f} ms")
            field.wait_home()
            if all(len(measured) >= repetitions for measured in values.values()):
                break
    yield Figure(
        f"heal-{each}",
        f"cut healed, advert {each}, better one first: outage",
        "ms",
        samples(values[VIPD], endless[VIPD]),
        samples(values[KEEPALIVED], endless[KEEPALIVED]),
        "≤ keepalived",
        at_most_times(1),
    )
