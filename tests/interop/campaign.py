"""What is done to a pair of speakers, and what the judge saw after each event.

A campaign is a row of events in one lab; its results come back as one Outcome per event, which a
test then checks. ``lb1`` has the better priority wherever priorities differ:

====================  ========================================================================
event                 expected instant of the new master's first advert
====================  ========================================================================
higher-joins          the joiner's own master_down after its start: it never hears a better one
sigterm               skew time of the backup after the priority 0 advert
cut                   master_down of the backup after the last advert that reached it
sigkill               the same
equal-priority        never: the incumbent stays; but of two masters the higher address remains
====================  ========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tests.interop.judge import MS, Judge, holders
from vipd.lab.hosts import Host, now_ns, wait_for
from vipd.lab.netns import Lab
from vipd.lab.peers import Router, Speaker
from vipd.model import Instant

HIGH, LOW = "lb1", "lb2"
HANDOVER_SLACK_NS = 50 * MS
_EARLY_NS = 5 * MS  # rounding (FRR counts centiseconds) and the capture's own noise

EVENTS = ("higher-joins", "sigterm", "cut", "sigkill", "equal-priority")

Maker = Callable[[Host, Router], Speaker]


@dataclass(frozen=True, slots=True)
class Variant:
    """A kind of virtual router; ``unicast`` fills in source and peers for each host."""

    name: str
    router: Router
    unicast: bool = False

    def router_of(self, host: Host, peer: Host, priority: int) -> Router:
        router = replace(self.router, priority=priority)
        if self.unicast:
            router = replace(router, source=host.ipv4, unicast_peers=(peer.ipv4,))
        return router


IPV4_VIPS = ("192.0.2.100/24", "192.0.2.101/24")
IPV6_VIPS = ("fe80::100/64", "2001:db8::100/64")
VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("v2", Router(IPV4_VIPS, 100, version=2)),
        Variant("v2-pass", Router(IPV4_VIPS, 100, version=2, secret="s3cr3t")),
        Variant("v3", Router(IPV4_VIPS, 100, interval_ms=200)),
        Variant("v3-ipv6", Router(IPV6_VIPS, 100, interval_ms=200)),
        Variant("v3-unicast", Router(IPV4_VIPS, 100, interval_ms=200), unicast=True),
    )
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen after one event."""

    event: str
    expected_master: str
    masters: frozenset[str]
    holders: frozenset[str]
    handover_ns: int = 0
    formula_ns: int = 0

    def check(self) -> None:
        assert self.masters == {self.expected_master}, self
        assert self.holders == {self.expected_master}, self
        late_ns = self.handover_ns - self.formula_ns
        assert -_EARLY_NS <= late_ns <= HANDOVER_SLACK_NS, self


class Pair:
    """Two speakers in a lab, and the judge."""

    def __init__(self, lab: Lab, variant: Variant, makers: tuple[Maker, Maker]) -> None:
        self.lab = lab
        self.judge = Judge(lab)
        self._variant = variant
        self._makers = makers

    def make(self, high_priority: int, low_priority: int) -> tuple[Speaker, Speaker]:
        one, two = self.lab[HIGH], self.lab[LOW]
        high = self._makers[0](one, self._variant.router_of(one, two, high_priority))
        low = self._makers[1](two, self._variant.router_of(two, one, low_priority))
        return high, low

    def outcome(
        self,
        event: str,
        expected: Speaker,
        others: tuple[Speaker, ...],
        taken_ns: Instant,
        handover_ns: int = 0,
        formula_ns: int = 0,
    ) -> Outcome:
        """Judge from shortly after the takeover for two and a half advert intervals."""
        formula_ns += expected.first_advert_lag_ns
        connected = (expected, *others)
        window_ns = expected.router.interval_ns * 5 // 2
        masters = self.judge.masters(taken_ns + HANDOVER_SLACK_NS, window_ns, connected)
        return Outcome(
            event,
            expected.host.name,
            frozenset(masters),
            frozenset(holders(connected)),
            handover_ns,
            formula_ns,
        )


def _join(pair: Pair, joiner: Speaker) -> tuple[Instant, int]:
    """Start ``joiner`` beside a worse master; its first advert, and how long that took.

    The instant at which it opened its ears is known only to lie between its start and the first
    sign of it in its log, so time counts from the sign unless that makes it early.
    """
    started_ns = now_ns()
    joiner.start()
    ready_ns = joiner.wait_ready()
    taken_ns = pair.judge.first_advert(joiner.host.name, started_ns)
    since_ready_ns, since_start_ns = taken_ns - ready_ns, taken_ns - started_ns
    formula_ns = joiner.router.master_down_ns + joiner.first_advert_lag_ns
    early = since_start_ns < formula_ns
    return taken_ns, since_start_ns if early else max(since_ready_ns, formula_ns)


def unequal(pair: Pair, with_cut: bool = True) -> Iterator[Outcome]:
    """A better one joins, leaves by SIGTERM, comes back, is cut off, healed, and killed."""
    high, low = pair.make(150, 100)
    judge = pair.judge
    low.start()
    judge.first_advert(LOW, 0)

    taken_ns, handover_ns = _join(pair, high)
    down_ns = high.router.master_down_ns
    yield pair.outcome("higher-joins", high, (low,), taken_ns, handover_ns, down_ns)

    before_ns = now_ns()
    high.stop()
    goodbye_ns = judge.goodbye(HIGH, before_ns)
    taken_ns = judge.first_advert(LOW, before_ns)
    high.wait()
    skew_ns = low.router.skew_ns
    yield pair.outcome("sigterm", low, (high,), taken_ns, taken_ns - goodbye_ns, skew_ns)

    _join(pair, high)
    if with_cut:
        yield _cut_and_heal(pair, high, low)

    before_ns = now_ns()
    high.kill()
    taken_ns = judge.first_advert(LOW, before_ns)
    silent_ns = judge.last_advert(HIGH, taken_ns)
    down_ns = low.router.master_down_ns
    yield pair.outcome("sigkill", low, (), taken_ns, taken_ns - silent_ns, down_ns)
    if high.kind == "vipd":
        # nobody is left to remove them: the kernel does, at the end of their lifetime
        life_s = max(2.0, 4 * high.router.interval_ms / 1000) + 1.0
        wait_for(lambda: not high.holds_any(), life_s, "a dead vipd's VIPs stay")


def _cut_and_heal(pair: Pair, high: Speaker, low: Speaker) -> Outcome:
    judge = pair.judge
    _mid_interval(judge, high)
    cut_ns = now_ns()
    pair.lab.cut(HIGH)
    silent_ns = judge.last_advert(HIGH, cut_ns)
    taken_ns = judge.first_advert(LOW, cut_ns)
    handover_ns, down_ns = taken_ns - silent_ns, low.router.master_down_ns
    outcome = pair.outcome("cut", low, (), taken_ns, handover_ns, down_ns)
    pair.lab.heal(HIGH)
    healed_ns = judge.first_advert(HIGH, now_ns())
    healed = pair.outcome("cut", high, (low,), healed_ns)
    assert healed.masters == healed.holders == {HIGH}, ("after healing", healed)
    return outcome


def _mid_interval(judge: Judge, master: Speaker) -> None:
    """Return well before the next advert, so that none crosses the fault while it is made."""
    seen_ns = judge.first_advert(master.host.name, now_ns())
    wait_for(lambda: now_ns() > seen_ns + master.router.interval_ns // 10, 5, "time stands still")


def equal(pair: Pair) -> Iterator[Outcome]:
    """Equal priorities: who is master stays master; two masters meet: the higher address stays."""
    incumbent, joiner = pair.make(100, 100)
    judge = pair.judge
    incumbent.start()
    judge.first_advert(HIGH, 0)
    joiner.start()
    ready_ns = joiner.wait_ready()
    patience_ns = joiner.router.master_down_ns + joiner.router.interval_ns
    wait_for(lambda: now_ns() > ready_ns + patience_ns, 10, "time stands still")
    assert judge.masters(ready_ns, patience_ns, (incumbent, joiner)) == {HIGH}
    stayed = pair.outcome("equal-priority", incumbent, (joiner,), now_ns())
    stayed.check()

    _mid_interval(judge, incumbent)
    pair.lab.cut(LOW)
    judge.first_advert(LOW, now_ns())
    pair.lab.heal(LOW)
    healed_ns = now_ns()
    winner_ns = judge.first_advert(LOW, healed_ns)
    # the loser may speak first and be contradicted; one interval later all is said
    settled_ns = max(winner_ns, healed_ns + joiner.router.interval_ns)
    yield pair.outcome("equal-priority", joiner, (incumbent,), settled_ns)


def run(makers: tuple[Maker, Maker], variant: Variant, row: str) -> dict[str, Outcome]:
    """One campaign in a lab of its own."""
    with Lab([HIGH, LOW]) as lab:
        pair = Pair(lab, variant, makers)
        outcomes = {"unequal": unequal, "no-cut": lambda p: unequal(p, False), "equal": equal}
        try:
            return {outcome.event: outcome for outcome in outcomes[row](pair)}
        except (AssertionError, OSError, RuntimeError) as error:
            for host in (lab[HIGH], lab[LOW]):
                for log in sorted(host.directory.glob("*-*.log")):
                    error.add_note(f"--- {host.name} {log.name}\n{log.read_text()[-1500:]}")
            raise
