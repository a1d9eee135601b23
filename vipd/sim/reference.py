"""The RFC's state table once more, by another hand, and what must hold at each single step.

The core's own tables cannot judge the core. ``Twin`` follows one unit on one host from what is
*delivered* to it, in the host's own time, with its own formulas, and demands of every step (with
what ``entitlement.py`` demands):

=====================  =========================================================================
early-takeover         a backup moved before Down without a good advert, or Skew after priority 0
                       or after the master that it followed fell below it (decision 0007)
late-takeover          a backup did not move when that time was over (F5, F6, F8)
yield                  a master stayed although it was beaten (F12), or left although it was not
                       and nobody ordered it
step-down              a master stayed although it was ordered to give its mastership away
backup-moved           an advert made a backup leave BACKUP
reply                  no advert at once after a losing advert or priority 0 (F11, F13)
silent-yield           a beaten master left without one last advert (F12, decision 0006)
pace                   a master's timer sends too early or too late (F10), or no first advert (F5)
priority-unsaid        a master whose priority changed did not say so at once
half-spoken            a unit spoke on some of its routers only
debounce-late          a tracked interface has been another for long enough and does not count
speaks-unasked         adverts by a router that is not master
stall                  a master spoke before it had listened after a long stall, or stayed although
                       somebody else was master meanwhile, or stayed silent afterwards
source-flip            the source changed although the host still has the old one (ENC-5)
owner-waits            the address owner does not become MASTER at once (F1)
owner-touched          an order to add, renew or remove the address owner's addresses
goodbye-missing        a unit that was master left by decision, and no priority 0 was said (F9)
finished-early         the engine said ``Finished`` while VIPs were on the host
goodbye-early          priority 0 left while the host still had a VIP of the router
goodbye-unasked        priority 0 by a router that was beaten
announce-unheld        an announcement for an address that the kernel has not confirmed
=====================  =========================================================================

A unit hears on any of its routers. Two units of equal priority that hear each other on several
routers decide by the addresses on the first of those, by VRID, IPv4 before IPv6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vipd.core.actions import (
    Action,
    SendAdvert,
)
from vipd.core.events import (
    AdvertHeard,
    DeadlinePassed,
    Event,
    HealthReported,
    LoopStalled,
    MessageHeard,
    StallDrained,
)
from vipd.core.unit import Unit
from vipd.core.units import UnitConfig
from vipd.model import (
    LEAVING_PRIORITY,
    MILLISECOND_NS,
    SECOND_NS,
    Address,
    Duration,
    Family,
    Instant,
    State,
    VipKey,
)
from vipd.sim.entitlement import MOVES_WORTH, Entitlement
from vipd.sim.render import short
from vipd.sim.worth import Told

if TYPE_CHECKING:
    from vipd.sim.host import Host
    from vipd.sim.world import World


GRAIN_NS = 2_000
"""The formulas round down to microseconds; the twin does not round."""

REPLY_GAP_NS = 100 * MILLISECOND_NS
LATE_GRACE_NS = 40 * MILLISECOND_NS
"""A drawn hiccup makes a wake-up up to 30 ms late."""


class Twin:
    """One unit on one host, as the RFC wants it. Instants are the host's own, as the core's."""

    def __init__(self, world: World, host: Host, unit: Unit, told: Told) -> None:
        self.world = world
        self.host = host
        self.unit = unit
        self.entitled = Entitlement(unit, told, self.fail)
        self.state = State.INIT
        self.due: Instant = 0
        self.learned_ns: Duration = 0
        self.suspended = False
        self.sources: dict[str, Address] = {}
        self.became_at: Instant = 0
        self.sent_at: Instant = 0
        self.slowest_ns: Duration = 0
        self._fresh = True
        self.owes_word_since: Instant | None = None  # true time
        self._keys_of: UnitConfig | None = None
        self._keys: frozenset[VipKey] = frozenset()
        self._followed: dict[str, tuple[Address, int]] = {}
        self.asked_at: Instant | None = None  # it is silent on purpose, to hear whether it is heard
        self._tied: dict[str, tuple[Instant, Instant]] = {}  # since when, and when last
        self._fell = False
        self._lower_since: Instant | None = None
        self._replied_at: Instant | None = None
        self._late_ns: Duration = 0
        self._late_before_ns: Duration = 0

    @property
    def keys(self) -> frozenset[VipKey]:
        """The VIPs of the unit as it is configured now; looked up very often."""
        if self._keys_of is not self.unit.config:
            self._keys_of = self.unit.config
            self._keys = frozenset(vip.key for vip in self._keys_of.vips)
        return self._keys

    @property
    def is_asking(self) -> bool:
        """A tie: it is silent on purpose."""
        return self.asked_at is not None

    def fail(self, checker: str, text: str) -> None:
        self.world.violated(checker, f"{self.host.name} {self.unit.config.name}: {text}")

    # --- the formulas, by another hand --------------------------------------------------------

    def _timing(self) -> tuple[float, float]:
        """(Skew, Down) in ns, as RFC 9568 §6.1 and RFC 3768 §6.1 write them."""
        config, worse = self.unit.config.leader, 256 - self.entitled.priority
        if config.version == 2:
            interval = float(config.advert_interval_ns)
            skew = worse / 256 * SECOND_NS
        else:
            interval = float(self.learned_ns)
            skew = worse * interval / 256
        return skew, 3 * interval + skew

    def _wait(self, span_ns: float, now: Instant) -> None:
        self.due = now + int(span_ns)
        self._fell = False

    # --- one step -----------------------------------------------------------------------------

    def step(self, event: Event, actions: tuple[Action, ...], now: Instant) -> bool:
        """``event`` was handled at ``now`` and led to ``actions``; True: it became MASTER."""
        old, new = self.state, self.unit.election.state
        self.state = new
        moving = isinstance(event, MOVES_WORTH) or old is not new or self._fresh
        self._fresh = False
        before = self.entitled.priority
        if moving:
            self.entitled.look(event, now)
        changed = self.entitled.priority != before
        if type(event) is AdvertHeard and event.instance in self.unit.routers:
            self._heard(event, old, new, actions, now)
        elif old is not new:
            self._moved(event, old, new, now)
        elif type(event) is DeadlinePassed:
            self._timer_served(now)
        self._judge_obedience(old)
        if moving:
            self.entitled.judge()
        self._spoken(event, actions, before)
        if new is State.MASTER:
            self._mastered(event, old, actions, now, changed=changed)
        else:
            self.suspended = False
            self.owes_word_since = None
            if new is not State.BACKUP:
                self.sources.clear()
        return new is State.MASTER and old is not State.MASTER

    def _judge_obedience(self, old: State) -> None:
        if self.entitled.ordered and old is self.state is State.MASTER:
            self.fail("step-down", "still MASTER although it was told to give it away")

    def _moved(self, event: Event, old: State, new: State, now: Instant) -> None:
        owner = self.unit.config.is_owner
        waited = old is State.INIT and type(event) is HealthReported
        self.world.coverage["starts that waited for a verdict"] += waited
        if new is State.BACKUP:
            if owner and old is not State.MASTER:
                self.fail("owner-waits", "the address owner is BACKUP (F1)")
            if old is State.MASTER and not self.entitled.ordered:
                self.fail("yield", "left MASTER although nobody better was heard, nor an order")
            self._enter_backup(now)
        elif new is State.INIT and old is State.MASTER:
            if not self.entitled.ordered and not self.entitled.told.stopped:
                self.fail("yield", "a verdict that is waited for ended a mastership")
        elif new is State.MASTER and not owner:
            if old is not State.BACKUP or type(event) is not DeadlinePassed:
                self.fail("early-takeover", f"{old.value} -> MASTER by {short(event)}")
            if now + GRAIN_NS < self.due:
                early = (self.due - now) / MILLISECOND_NS
                self.fail("early-takeover", f"{early:.3f} ms before its time")
            self.world.coverage["fallen masters replaced"] += self._fell
        self._followed.clear()

    def _enter_backup(self, now: Instant) -> None:
        self.learned_ns = self.unit.config.leader.advert_interval_ns
        self._lower_since = None
        self._followed.clear()
        self._wait(self._timing()[1], now)

    def _timer_served(self, now: Instant) -> None:
        if self.state is State.BACKUP and self.entitled.barred and now + GRAIN_NS >= self.due:
            self.world.coverage["masterships not taken in maintenance"] += 1
            self.learned_ns = self.unit.config.leader.advert_interval_ns
            self._wait(self._timing()[1], now)
        self.judge_lateness(now, GRAIN_NS)

    def judge_lateness(self, now: Instant, grace_ns: Duration) -> None:
        if self.state is State.BACKUP and now > self.due + grace_ns:
            late = (now - self.due) / MILLISECOND_NS
            self.fail("late-takeover", f"still BACKUP {late:.3f} ms after its time")
        if self.entitled.overdue_ns(now) > grace_ns:
            self.fail("debounce-late", "a tracked interface changed and does not count yet")

    # --- adverts ------------------------------------------------------------------------------

    def _heard(
        self,
        heard: AdvertHeard,
        old: State,
        new: State,
        actions: tuple[Action, ...],
        now: Instant,
    ) -> None:
        if old is State.BACKUP:
            if new is not State.BACKUP:
                self.fail("backup-moved", f"an advert made it {new.value}")
            self._backup_heard(heard, now)
        elif old is State.MASTER and self.suspended:
            self._stalled_master_heard(heard, new, now)
        elif old is State.MASTER:
            self._master_heard(heard, new, actions, now)
        elif new is not old:
            self.fail("backup-moved", f"{old.value} -> {new.value} by an advert")

    def _backup_heard(self, heard: AdvertHeard, now: Instant) -> None:
        priority = heard.advert.priority
        if priority == LEAVING_PRIORITY:
            self._wait(self._timing()[0], now)
        elif self._accepts(priority, now):
            self._follow(heard, now)
        else:
            source, had = self._followed.get(heard.instance, (b"", 0))
            soon = now + int(self._timing()[0])
            if source == heard.source and priority < had and soon < self.due:
                self.due, self._fell = soon, True

    def _follow(self, heard: AdvertHeard, now: Instant) -> None:
        self.learned_ns = heard.advert.interval_ns
        self._followed[heard.instance] = (heard.source, heard.advert.priority)
        self._wait(self._timing()[1], now)

    def _accepts(self, priority: int, now: Instant) -> bool:
        """F7 and F8, with ``preempt_delay``, and with a mastership that was given away."""
        config = self.unit.config.leader
        if priority >= self.entitled.priority:
            self._lower_since = None
            return True
        if config.is_owner:
            return False
        if self.entitled.barred or not self.entitled.preempts:
            self.world.coverage["held back"] += self.entitled.held and config.preempt
            return True
        if config.preempt_delay_ns == 0:
            return False
        if self._lower_since is None:
            self._lower_since = now
        return now - self._lower_since < config.preempt_delay_ns

    def _is_own(self, heard: AdvertHeard) -> bool:
        return heard.source == self.unit.routers[heard.instance].source

    def _is_beaten_by(self, heard: AdvertHeard, now: Instant) -> bool:
        priority, own = heard.advert.priority, self.entitled.priority
        if priority != own or self._is_own(heard):
            return priority > own
        return self._loses_tie(heard, now)

    def _loses_tie(self, heard: AdvertHeard, now: Instant) -> bool:
        """By one member, in an order that all hosts share; "" stands for any member."""
        members = sorted(
            self.unit.config.members,
            key=lambda each: (each.vrid, each.family is Family.IPV6, sorted(each.advertised)),
        )
        interval = max(members[0].advert_interval_ns, heard.advert.interval_ns)
        for name in ("", heard.instance):
            since, last = self._tied.get(name, (now, now))
            self._tied[name] = (since if now - last < 3 * interval else now, now)
        order = [member.name for member in members]
        before = [self._tied[n] for n in order[: order.index(heard.instance)] if n in self._tied]
        # Where we win, a rival that hears us is gone long before the floor has passed.
        first = not any(now - last < 3 * interval > now - since for since, last in before)
        decides = first and (heard.instance == order[0] or now - self._tied[""][0] >= interval)
        if len(members) > 1:
            self.world.coverage["ties of groups"] += 1
            self.world.coverage["ties of groups, not decisive"] += not decides
        if not decides or heard.source <= (self.unit.routers[heard.instance].source or b""):
            return False
        if not any(now - last < 3 * interval for _, last in before):
            return True
        if self.asked_at is None:
            self.asked_at = now
            self._replied_at = now + 3 * members[0].advert_interval_ns // 2 - self._reply_gap_ns
            return False
        return now - self.asked_at >= interval // 4

    def _master_heard(
        self, heard: AdvertHeard, new: State, actions: tuple[Action, ...], now: Instant
    ) -> None:
        priority = heard.advert.priority
        if priority != LEAVING_PRIORITY and self._is_beaten_by(heard, now):
            if new is not (State.INIT if self.entitled.worth.pending else State.BACKUP):
                self.fail("yield", f"became {new.value} against priority {priority}")
            tie = priority == self.entitled.priority
            told = [heard.instance] if tie and self.asked_at is not None else self.unit.routers
            if {*self._said(actions)} != {*told}:
                self.fail("silent-yield", "beaten, and the winner does not hear of it")
            self.asked_at = None
            self._lower_since = None
            self._followed.clear()
            self._follow(heard, now)
            return
        if new is not State.MASTER:
            self.fail("yield", f"became {new.value} by a losing advert of {priority}")
        if priority == self.entitled.priority and self._is_own(heard):
            return  # F14
        if self.asked_at == now and not self._said(actions):
            self.fail("silent-question", "not heard, it seems, and it does not ask")
        if self._replied_at is None or now - self._replied_at >= self._reply_gap_ns:
            if not self._said(actions):
                self.fail("reply", f"no advert at once after one of priority {priority}")
            self._replied_at = now
        if priority != LEAVING_PRIORITY and self.owes_word_since is None:
            self.owes_word_since = self.world.now

    @property
    def _reply_gap_ns(self) -> Duration:
        return min(self.unit.config.leader.advert_interval_ns, REPLY_GAP_NS)

    def _stalled_master_heard(self, heard: AdvertHeard, new: State, now: Instant) -> None:
        if heard.advert.priority == LEAVING_PRIORITY or self._is_own(heard):
            return
        if new is State.MASTER:
            self.fail("stall", "stayed MASTER although another was master during the stall")
        self._enter_backup(now)
        self._backup_heard(heard, now)

    # --- a master's pace ----------------------------------------------------------------------

    def _said(self, actions: tuple[Action, ...]) -> list[str]:
        """Which of its routers spoke as master in this step."""
        return [
            action.instance
            for action in actions
            if type(action) is SendAdvert
            and action.instance in self.unit.routers
            and action.advert.priority != LEAVING_PRIORITY
        ]

    def _spoken(self, event: Event, actions: tuple[Action, ...], before: int) -> None:
        said = self._said(actions)
        if not said:
            return
        priorities = [
            action.advert.priority
            for action in actions
            if type(action) is SendAdvert
            and action.instance in said
            and action.advert.priority != LEAVING_PRIORITY
        ]
        if type(event) is DeadlinePassed:  # its advert was due just before a link counted
            priorities = [each for each in priorities[:-1] if each != before] + priorities[-1:]
        for priority in priorities:
            if priority != self.entitled.priority:
                self.fail("priority", f"said {priority}, it is {self.entitled.priority}")
        silent = {name for name, each in self.unit.routers.items() if each.source} - set(said)
        yielded = type(event) in (AdvertHeard, MessageHeard) and self.state is not State.MASTER
        if silent and not yielded:
            self.fail("half-spoken", f"{sorted(said)} spoke, {sorted(silent)} did not")

    def _mastered(
        self,
        event: Event,
        old: State,
        actions: tuple[Action, ...],
        now: Instant,
        *,
        changed: bool,
    ) -> None:
        spoke = bool(self._said(actions))
        interval_ns = self.unit.config.leader.advert_interval_ns
        if old is not State.MASTER:
            self.became_at = self.world.now
            self._tied.clear()
            self.asked_at = None
            self._late_ns = self._late_before_ns = 0
            if not spoke:
                self.fail("pace", "no advert when it became MASTER")
        elif changed and not self.suspended:
            self.world.coverage["priority changes said"] += 1
            if not spoke:
                self.fail("priority-unsaid", f"{self.entitled.priority} since now")
        elif type(event) is LoopStalled:
            self._late_ns = max(self._late_ns, event.late_ns)
            self.suspended |= now - self.sent_at >= 3 * interval_ns
            if self.suspended and spoke:
                self.fail("stall", "an advert before any socket was read")
        elif type(event) is StallDrained and self.suspended:
            self.suspended = False
            if not spoke:
                self.fail("stall", "silent after a stall during which nobody took over")
            self.owes_word_since = self.owes_word_since or self.world.now
        elif type(event) is DeadlinePassed and spoke:
            self._judge_haste(interval_ns, now)
        if spoke:
            if self.asked_at != now:
                self.asked_at = None
            self.slowest_ns = max(self.slowest_ns, interval_ns)
            self.sent_at = now
            self._late_before_ns, self._late_ns = self._late_ns, 0

    def _judge_haste(self, interval_ns: Duration, now: Instant) -> None:
        if now - self.sent_at < interval_ns - self._late_before_ns - MILLISECOND_NS:
            gap = (now - self.sent_at) / MILLISECOND_NS
            self.fail("pace", f"only {gap:.3f} ms after the advert before")
