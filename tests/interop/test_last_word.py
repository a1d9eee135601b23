"""A cut heals at the worst moment: the better master is heard first, and the other one yields.

keepalived yields in silence, as RFC 9568 §6.4.3 has it, so nothing tells the winner to announce
its VIPs again. vipd's last advert does (docs/decisions/0006), whoever the winner is. Names are
``winner-loser``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tests.interop.campaign import HIGH, IPV4_VIPS, LOW
from tests.interop.conftest import MAKERS
from tests.interop.judge import MS, Judge, SeenAdvert, holders
from vipd.lab.hosts import now_ns
from vipd.lab.netns import Lab
from vipd.lab.peers import Router, Speaker
from vipd.lab.phase import wait_better_is_next
from vipd.model import Instant

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.timeout(120)]

ROUTER = Router(IPV4_VIPS, 100, interval_ms=500)
PRIORITY = {HIGH: 150, LOW: 100}
TRIES = 3


@dataclass(frozen=True, slots=True)
class Healed:
    """A pair after the cut: when it ended, and the adverts since, the winner's first."""

    judge: Judge
    speakers: tuple[Speaker, ...]
    healed_ns: Instant
    adverts: tuple[SeenAdvert, ...]


def _split(judge: Judge) -> None:
    """Two masters that cannot hear each other."""
    judge.lab.detach(HIGH)
    judge.first_advert(LOW, now_ns())


def _heal(judge: Judge) -> Instant:
    at_ns = now_ns()
    high_ns, low_ns = (judge.last_advert(name, at_ns) for name in (HIGH, LOW))
    healed_ns = wait_better_is_next(high_ns, low_ns, ROUTER.interval_ns)
    judge.lab.attach(HIGH)
    return healed_ns


def _split_and_heal(judge: Judge, speakers: tuple[Speaker, ...]) -> Healed:
    """As the module says; a busy machine that misses the moment gets another one."""
    for _ in range(TRIES):
        _split(judge)
        healed_ns = _heal(judge)
        judge.masters(healed_ns, 2 * ROUTER.interval_ns, speakers)
        adverts = judge.adverts(healed_ns)
        if adverts[0].port == HIGH:
            return Healed(judge, speakers, healed_ns, tuple(adverts))
    raise RuntimeError(f"in {TRIES} tries {LOW} was always heard first")


@pytest.fixture
def healed(speakers: tuple[str, str]) -> Iterator[Healed]:
    with Lab([HIGH, LOW]) as lab:
        judge = Judge(lab)
        pair = tuple(
            MAKERS[kind](lab[name], replace(ROUTER, priority=PRIORITY[name]))
            for kind, name in zip(speakers, (HIGH, LOW), strict=True)
        )
        for speaker in pair:
            speaker.start()
        for speaker in pair:
            speaker.wait_ready()
        # at rest: the loser has heard the winner, and counts from its adverts
        judge.masters(judge.first_advert(HIGH, now_ns()), 2 * ROUTER.interval_ns, pair)
        yield _split_and_heal(judge, pair)


def _check_one_master(healed: Healed) -> None:
    settled_ns = healed.adverts[0].t_ns + 50 * MS
    window_ns = 3 * ROUTER.interval_ns
    assert healed.judge.masters(settled_ns, window_ns, healed.speakers) == {HIGH}
    assert holders(healed.speakers) == {HIGH}


@pytest.mark.parametrize("speakers", [("vipd", "vipd"), ("keepalived", "vipd")], ids="-".join)
def test_the_winner_announces_again_after_the_last_advert_of_vipd(
    speakers: tuple[str, str], healed: Healed
) -> None:
    _check_one_master(healed)
    said = [advert for advert in healed.adverts if advert.port == LOW]
    assert [advert.priority for advert in said] == [PRIORITY[LOW]]
    announced = healed.judge.announcements(said[0].t_ns)
    assert announced == {(HIGH, vip.split("/")[0]) for vip in IPV4_VIPS}


@pytest.mark.parametrize("speakers", [("vipd", "keepalived")], ids="-".join)
def test_a_keepalived_that_yields_to_vipd_says_nothing(
    speakers: tuple[str, str], healed: Healed
) -> None:
    _check_one_master(healed)
    assert {advert.port for advert in healed.adverts} == {HIGH}
