"""The RFC's state table once more, by another hand, and what must hold at each single step.

The core's own tables cannot judge the core. ``Twin`` follows one router on one host from what is
*delivered* to it, in the host's own time, with its own formulas, and demands of every step:

=====================  =========================================================================
early-takeover         a backup moved before Down without a good advert, or Skew after priority 0
late-takeover          a backup did not move when that time was over (F5, F6, F8)
yield                  a master stayed although it was beaten (F12), or left although it was not
backup-moved           an advert made a backup leave BACKUP
reply                  no advert at once after a losing advert or priority 0 (F11, F13)
silent-yield           a beaten master left without one last advert (F12, decision 0006)
pace                   a master's timer sends too early or too late (F10), or no first advert (F5)
speaks-unasked         adverts by a router that is not master
stall                  a master spoke before it had listened after a long stall, or stayed although
                       somebody else was master meanwhile, or stayed silent afterwards
source-flip            the source changed although the host still has the old one (ENC-5)
owner-waits            the address owner does not become MASTER at once (F1)
owner-touched          an order to add, renew or remove the address owner's addresses
goodbye-missing        a router that was master was stopped, and no priority 0 left (F9)
finished-early         the engine said ``Finished`` while VIPs were on the host
goodbye-early          priority 0 left while the host still had a VIP of the router
goodbye-unasked        priority 0 by a router that was beaten
announce-unheld        an announcement for an address that the kernel has not confirmed
=====================  =========================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vipd.core.actions import (
    Action,
    SendAdvert,
)
from vipd.core.events import AdvertHeard, DeadlinePassed, Event, LoopStalled, StallDrained
from vipd.core.instance import Instance
from vipd.model import (
    LEAVING_PRIORITY,
    MILLISECOND_NS,
    OWNER_PRIORITY,
    SECOND_NS,
    Address,
    Duration,
    InstanceConfig,
    Instant,
    State,
    VipKey,
)
from vipd.sim.render import short

if TYPE_CHECKING:
    from vipd.sim.host import Host
    from vipd.sim.world import World


GRAIN_NS = 2_000
"""The formulas round down to microseconds; the twin does not round."""

REPLY_GAP_NS = 100 * MILLISECOND_NS
LATE_GRACE_NS = 40 * MILLISECOND_NS
"""A drawn hiccup makes a wake-up up to 30 ms late."""


class Twin:
    """One router on one host, as the RFC wants it. Instants are the host's own, as the core's."""

    def __init__(self, world: World, host: Host, instance: Instance) -> None:
        self.world = world
        self.host = host
        self.instance = instance
        self.state = State.INIT
        self.due: Instant = 0
        self.learned_ns: Duration = 0
        self.suspended = False
        self.source: Address | None = None
        self.became_at: Instant = 0
        self.sent_at: Instant = 0
        self.owes_word_since: Instant | None = None  # true time
        self._keys_of: InstanceConfig | None = None
        self._keys: frozenset[VipKey] = frozenset()
        self._lower_since: Instant | None = None
        self._replied_at: Instant | None = None
        self._late_ns: Duration = 0
        self._late_before_ns: Duration = 0
        self.slowest_ns: Duration = 0

    @property
    def keys(self) -> frozenset[VipKey]:
        """The VIPs of the router as it is configured now; looked up very often."""
        if self._keys_of is not self.instance.config:
            self._keys_of = self.instance.config
            self._keys = frozenset(vip.key for vip in self._keys_of.vips)
        return self._keys

    def fail(self, checker: str, text: str) -> None:
        self.world.violated(checker, f"{self.host.name} {self.instance.config.name}: {text}")

    # --- the formulas, by another hand --------------------------------------------------------

    def _timing(self, config: InstanceConfig) -> tuple[float, float]:
        """(Skew, Down) in ns, as RFC 9568 §6.1 and RFC 3768 §6.1 write them."""
        if config.version == 2:
            interval = float(config.advert_interval_ns)
            skew = (256 - config.priority) / 256 * SECOND_NS
        else:
            interval = float(self.learned_ns)
            skew = (256 - config.priority) * interval / 256
        return skew, 3 * interval + skew

    def _wait(self, span_ns: float, now: Instant) -> None:
        self.due = now + int(span_ns)

    # --- one step -----------------------------------------------------------------------------

    def step(self, event: Event, actions: tuple[Action, ...], now: Instant) -> bool:
        """``event`` was handled at ``now`` and led to ``actions``; True: it became MASTER."""
        old, new = self.state, self.instance.election.state
        self.state = new
        config = self.instance.config
        if type(event) is AdvertHeard and event.instance == config.name:
            self._heard(event, old, new, actions, now)
        elif old is not new:
            self._moved(event, old, new, now)
        elif new is State.BACKUP and type(event) is DeadlinePassed:
            self.judge_lateness(now, GRAIN_NS)
        if new is State.MASTER:
            self._mastered(event, old, actions, now)
        else:
            self.suspended = False
            self.owes_word_since = None
            if new is not State.BACKUP:
                self.source = None
        return new is State.MASTER and old is not State.MASTER

    def _moved(self, event: Event, old: State, new: State, now: Instant) -> None:
        config = self.instance.config
        if new is State.BACKUP:
            if config.priority == OWNER_PRIORITY and old is not State.MASTER:
                self.fail("owner-waits", "the address owner is BACKUP (F1)")
            if old is State.MASTER:
                self.fail("yield", "left MASTER although nobody better was heard")
            self._enter_backup(now)
        elif new is State.MASTER and config.priority != OWNER_PRIORITY:
            if old is not State.BACKUP or type(event) is not DeadlinePassed:
                self.fail("early-takeover", f"{old.value} -> MASTER by {short(event)}")
            if now + GRAIN_NS < self.due:
                early = (self.due - now) / MILLISECOND_NS
                self.fail("early-takeover", f"{early:.3f} ms before its time")

    def _enter_backup(self, now: Instant) -> None:
        config = self.instance.config
        self.learned_ns = config.advert_interval_ns
        self._lower_since = None
        self._wait(self._timing(config)[1], now)

    def judge_lateness(self, now: Instant, grace_ns: Duration) -> None:
        if self.state is State.BACKUP and now > self.due + grace_ns:
            late = (now - self.due) / MILLISECOND_NS
            self.fail("late-takeover", f"still BACKUP {late:.3f} ms after its time")

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
        config = self.instance.config
        if heard.advert.priority == LEAVING_PRIORITY:
            self._wait(self._timing(config)[0], now)
        elif self._accepts(heard.advert.priority, config, now):
            self.learned_ns = heard.advert.interval_ns
            self._wait(self._timing(config)[1], now)

    def _accepts(self, priority: int, config: InstanceConfig, now: Instant) -> bool:
        """F7 and F8, with ``preempt_delay``."""
        if priority >= config.priority:
            self._lower_since = None
            return True
        if config.priority == OWNER_PRIORITY:
            return False
        if not config.preempt:
            return True
        if config.preempt_delay_ns == 0:
            return False
        if self._lower_since is None:
            self._lower_since = now
        return now - self._lower_since < config.preempt_delay_ns

    def _master_heard(
        self, heard: AdvertHeard, new: State, actions: tuple[Action, ...], now: Instant
    ) -> None:
        config, priority = self.instance.config, heard.advert.priority
        own_source = self.instance.source or b""
        beaten = priority > config.priority or (
            priority == config.priority and heard.source > own_source
        )
        if beaten:
            if new is not State.BACKUP:
                self.fail("yield", f"stayed {new.value} against priority {priority}")
            if sum(self._speaks(action) for action in actions) != 1:
                self.fail("silent-yield", "beaten, and the winner does not hear of it")
            self._lower_since = None
            self.learned_ns = heard.advert.interval_ns
            self._wait(self._timing(config)[1], now)
            return
        if new is not State.MASTER:
            self.fail("yield", f"became {new.value} by a losing advert of {priority}")
        if priority == config.priority and heard.source == own_source:
            return  # F14
        if self._replied_at is None or now - self._replied_at >= self._gap(config):
            if not any(self._speaks(action) for action in actions):
                self.fail("reply", f"no advert at once after one of priority {priority}")
            self._replied_at = now
        if priority != LEAVING_PRIORITY and self.owes_word_since is None:
            self.owes_word_since = self.world.now

    def _gap(self, config: InstanceConfig) -> Duration:
        return min(config.advert_interval_ns, REPLY_GAP_NS)

    def _stalled_master_heard(self, heard: AdvertHeard, new: State, now: Instant) -> None:
        if heard.advert.priority == LEAVING_PRIORITY or heard.source == self.instance.source:
            return
        if new is State.MASTER:
            self.fail("stall", "stayed MASTER although another was master during the stall")
        self._enter_backup(now)
        self._backup_heard(heard, now)

    # --- a master's pace ----------------------------------------------------------------------

    def _speaks(self, action: Action) -> bool:
        return (
            type(action) is SendAdvert
            and action.instance == self.instance.config.name
            and action.advert.priority != LEAVING_PRIORITY
        )

    def _mastered(
        self, event: Event, old: State, actions: tuple[Action, ...], now: Instant
    ) -> None:
        spoke = any(self._speaks(action) for action in actions)
        config = self.instance.config
        if old is not State.MASTER:
            self.became_at = self.world.now
            self._replied_at = None
            self._late_ns = self._late_before_ns = 0
            if not spoke:
                self.fail("pace", "no advert when it became MASTER")
        elif type(event) is LoopStalled:
            self._late_ns = max(self._late_ns, event.late_ns)
            self.suspended |= now - self.sent_at >= 3 * config.advert_interval_ns
            if self.suspended and spoke:
                self.fail("stall", "an advert before any socket was read")
        elif type(event) is StallDrained and self.suspended:
            self.suspended = False
            if not spoke:
                self.fail("stall", "silent after a stall during which nobody took over")
            self.owes_word_since = self.owes_word_since or self.world.now
        elif type(event) is DeadlinePassed and spoke:
            soonest = config.advert_interval_ns - self._late_before_ns - MILLISECOND_NS
            if now - self.sent_at < soonest:
                gap = (now - self.sent_at) / MILLISECOND_NS
                self.fail("pace", f"only {gap:.3f} ms after the advert before")
        if spoke:
            self.slowest_ns = max(self.slowest_ns, config.advert_interval_ns)
            self.sent_at = now
            self._late_before_ns, self._late_ns = self._late_ns, 0
