"""One unit of a cluster on one host, followed by another hand.

When a backup of a cluster stands, and when a master leaves, depends on what all hosts know of each
other: that is judged by ``cluster_judge.py`` and ``cluster_convergence.py``, which know the truth.
What each single host owes its network is what ``reference.py`` demands of plain VRRP: its priority,
its faults, its adverts (which may come more often than their interval here), its silence after a
stall.
"""

from __future__ import annotations

from vipd.core.actions import Action
from vipd.core.events import AdvertHeard, Event
from vipd.core.unit import Unit
from vipd.model import LEAVING_PRIORITY, Duration, Instant, State
from vipd.sim.host import Host
from vipd.sim.reference import Twin
from vipd.sim.world import World
from vipd.sim.worth import Told


class ClusterTwin(Twin):
    """As ``Twin``, without the timers of the RFC."""

    def __init__(self, world: World, host: Host, unit: Unit, told: Told) -> None:
        super().__init__(world, host, unit, told)
        self.entitled.may_return = True

    def _judge_obedience(self, old: State) -> None:
        """Given away is what somebody takes: who took it is judged where all hosts are seen."""

    @property
    def is_asking(self) -> bool:
        """Two masters that met after a cut may be silent to hear whether they are heard."""
        return True

    def _moved(self, _event: Event, _old: State, _new: State, _now: Instant) -> None:
        """Why it moved is judged where all hosts are seen."""

    def _timer_served(self, now: Instant) -> None:
        self.judge_lateness(now, 0)

    def judge_lateness(self, now: Instant, grace_ns: Duration) -> None:
        if self.entitled.overdue_ns(now) > grace_ns:
            self.fail("debounce-late", "a tracked interface changed and does not count yet")

    def _heard(
        self,
        heard: AdvertHeard,
        old: State,
        new: State,
        _actions: tuple[Action, ...],
        _now: Instant,
    ) -> None:
        if old is State.BACKUP and new is not State.BACKUP:
            self.fail("backup-moved", f"an advert made it {new.value}")
        leaving = heard.advert.priority == LEAVING_PRIORITY
        if leaving and old is State.MASTER and new is not State.MASTER:
            self.fail("yield", f"became {new.value} because somebody else left")

    def _judge_haste(self, interval_ns: Duration, now: Instant) -> None:
        """A master that misses beats speaks as often as it should have heard them."""
