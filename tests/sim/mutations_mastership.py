"""Rules of what moves mastership beyond silence: groups, tracking, health, operators."""

from __future__ import annotations

from tests.sim.mutation import Mutation

_E, _T, _G = "vipd/core/election.py", "vipd/core/tie.py", "vipd/core/units.py"
_U, _N, _K = "vipd/core/unit.py", "vipd/core/node.py", "vipd/core/track.py"
_F = "vipd/core/faults.py"

MUTATIONS = (
    # --- election ---------------------------------------------------------------------------------
    Mutation(
        "fallen-master-kept",
        "decision 0007: a followed master that fell below us is replaced after Skew",
        _E,
        "            if self._has_fallen(heard):  # rule 1\n",
        "            if False:\n",
    ),
    Mutation(
        "every-lower-master-has-fallen",
        "decision 0007: only a master that was followed can fall",
        _E,
        "        if followed is None or followed.source != heard.source:\n",
        "        if followed is None:\n            return True\n"
        "        if followed.source != heard.source:\n",
    ),
    Mutation(
        "another-source-has-fallen",
        "decision 0007: only the very source that was followed can fall",
        _E,
        "        if followed is None or followed.source != heard.source:\n",
        "        if followed is None:\n",
    ),
    Mutation(
        "fallen-master-prolongs",
        "decision 0007: the wait is shortened, never prolonged",
        _E,
        "self.deadline = soon if self.deadline is None else min(self.deadline, soon)",
        "self.deadline = soon",
    ),
    Mutation(
        "barred-stands",
        "election rule 6: a node in maintenance never stands",
        _E,
        "        if self.standing.barred:\n            self.master = None\n",
        "        if False:\n            self.master = None\n",
    ),
    Mutation(
        "barred-preempts",
        "election rule 6: a node in maintenance follows every master",
        _E,
        "        if own.barred or not own.preempt:  # rule 6\n",
        "        if not own.preempt:\n",
    ),
    Mutation(
        "barred-timer-dead",
        "election rule 6: after maintenance it takes over from nobody within Down",
        _E,
        "            self.learned_interval_ns = self.standing.interval_ns\n"
        "            self.deadline = now + self.master_down_ns\n"
        "        else:\n",
        "            self.deadline = now + 1000 * self.master_down_ns\n        else:\n",
    ),
    Mutation(
        "barred-wait-by-the-master-that-is-gone",
        "in maintenance the own interval counts once the master is gone",
        _E,
        "            self.learned_interval_ns = self.standing.interval_ns\n"
        "            self.deadline = now + self.master_down_ns\n"
        "        else:\n",
        "            self.deadline = now + self.master_down_ns\n        else:\n",
    ),
    Mutation(
        "stepped-down-without-goodbye",
        "election rule 4: whoever gives mastership away says priority 0",
        _E,
        "        self._enter_backup(signal.reason, now)\n"
        "        self._wishes.append(ReleaseWanted(goodbye=True))\n",
        "        self._enter_backup(signal.reason, now)\n"
        "        self._wishes.append(ReleaseWanted(goodbye=False))\n",
    ),
    Mutation(
        "new-priority-not-said",
        "a priority change is advertised at once",
        _E,
        "            return  # the advert that ends the suspension carries it\n"
        "        self.deadline = now + self.standing.interval_ns\n"
        "        self._speak(now)\n",
        "            return\n",
    ),
    # --- ties and groups --------------------------------------------------------------------------
    Mutation(
        "tie-break-reversed",
        "F12: of equal priorities the higher address wins",
        _T,
        "        if rival <= sources[member]:\n",
        "        if rival >= sources[member]:\n",
    ),
    Mutation(
        "tie-break-signed",
        "F12: addresses are compared as unsigned numbers, all of them",
        _T,
        "        if rival <= sources[member]:\n",
        "        if rival[:-1] <= sources[member][:-1]:\n",
    ),
    Mutation(
        "tie-on-any-member",
        "tie rule 1: the first member on which the rival is heard decides",
        _T,
        "                return False  # rule 1, as long as rule 3 does not hold\n",
        "                pass\n",
    ),
    Mutation(
        "tie-by-the-first-advert",
        "tie rule 2: a later member decides only after an interval",
        _T,
        "        return is_first or now - anywhere.since >= interval_ns\n",
        "        return True\n",
    ),
    Mutation(
        "tie-on-the-first-member-only",
        "tie rule 2: where the rival is not heard on the first member, a later one decides",
        _T,
        "        return is_first or now - anywhere.since >= interval_ns\n",
        "        return is_first\n",
    ),
    Mutation(
        "tie-with-who-does-not-hear",
        "tie rule 3: a rival that stays where we win does not hear us there",
        _T,
        "now - heard.last < floor_ns > now - heard.since:",
        "now - heard.last < floor_ns:",
    ),
    Mutation(
        "tie-never-over",
        "tie rule 1: a rival that is not heard any more on a member does not decide there",
        _T,
        "now - heard.last < floor_ns > now - heard.since:",
        "now - heard.since < 100 * floor_ns:",
    ),
    Mutation(
        "tie-order-by-file",
        "tie rule 1: the order of members is the same on all nodes",
        _G,
        "        return sorted(\n            self.members,\n",
        "        return list(self.members) or sorted(\n            self.members,\n",
    ),
    Mutation(
        "one-member-hears",
        "H5: the master is alive while it is heard on any member",
        _U,
        "        self._feed(self.election, heard, now)\n        self._stay_out(now)\n",
        "        if heard.instance == self.config.leader.name:\n"
        "            self._feed(self.election, heard, now)\n",
    ),
    Mutation(
        "tracks-of-members-ignored",
        "H5: what any member tracks counts for the group",
        _G,
        "            tracks = tuple(dict.fromkeys(everything))\n",
        "            tracks = group.track\n",
    ),
    # --- unit -------------------------------------------------------------------------------------
    Mutation(
        "base-priority-counts",
        "the effective priority is base and contributions",
        _U,
        "        self.election.standing.priority = priority\n",
        "",
    ),
    Mutation(
        "started-by-base-priority",
        "whoever starts waits by its effective priority",
        _U,
        "        if self.judgement != before:\n            news |= self._weigh(before)\n"
        "        self._change_faults(self._standing_faults(), now)\n",
        "        self._change_faults(self._standing_faults(), now)\n"
        "        if self.judgement != before:\n            news |= self._weigh(before)\n",
    ),
    Mutation(
        "track-faults-ignored",
        "a track without a weight means FAULT while it fails",
        _U,
        "**dict(self.judgement.faults), ",
        "",
    ),
    Mutation(
        "verdict-not-waited-for",
        "not master before the first verdict",
        _U,
        "        elif pending and state is not State.MASTER:\n",
        "        elif False:\n",
    ),
    Mutation(
        "verdict-ends-a-mastership",
        "a verdict that is waited for never ends a mastership",
        _U,
        "        elif pending and state is not State.MASTER:\n",
        "        elif pending:\n",
    ),
    Mutation(
        "beaten-while-waiting-goes-on",
        "who lost its mastership while a verdict is waited for takes no part",
        _U,
        "        if self.judgement.pending and self.election.state is State.BACKUP:\n",
        "        if False:\n",
    ),
    Mutation(
        "step-down-repeated",
        "an order to step down is carried out once, however often it is repeated",
        _U,
        "        ordered, self._step_downs = count > self._step_downs, count\n",
        "        ordered, self._step_downs = count >= self._step_downs > 0, count\n",
    ),
    Mutation(
        "old-step-down-obeyed",
        "an order from before the engine's start is not carried out again",
        _U,
        "        self._step_downs = dict(orders.step_downs).get(config.name, 0)\n",
        "        self._step_downs = 0\n",
    ),
    Mutation(
        "step-down-ignored",
        "an order to step down is carried out",
        _U,
        "        elif ordered and not self.config.is_owner:\n",
        "        elif False:\n",
    ),
    Mutation(
        "maintenance-keeps-mastership",
        "maintenance gives every mastership away",
        _U,
        "        if self.election.standing.barred:\n            self._feed(",
        "        if False:\n            self._feed(",
    ),
    Mutation(
        "owner-steps-down",
        "the address owner cannot give its own addresses away",
        _U,
        "            barred=orders.maintenance and not config.is_owner,\n",
        "            barred=orders.maintenance,\n",
    ),
    Mutation(
        "held-preempts",
        "a held unit does not take over from a live master",
        _U,
        "            preempt=config.leader.preempt and not self.held,\n",
        "            preempt=config.leader.preempt,\n",
    ),
    Mutation(
        "role-before-the-kernel",
        "a role is said when the kernel agrees with the state",
        _U,
        "        if state is self._role or self.claim.state is not _SETTLED.get(state):\n",
        "        if state is self._role or state is State.CANDIDATE:\n",
    ),
    Mutation(
        "role-of-fault-unsaid",
        "every settled state is said as a role",
        _U,
        "    State.FAULT: ClaimState.ABSENT,\n",
        "",
    ),
    Mutation(
        "one-member-speaks",
        "H5: all members speak together",
        _U,
        "            for router in self.routers.values():\n                router.say(priority)\n",
        "            for router in [*self.routers.values()][:1]:\n"
        "                router.say(priority)\n",
    ),
    Mutation(
        "deaf-master",
        "a router that cannot hear takes no part",
        _F,
        "        if router.deaf:\n",
        "        if False:\n",
    ),
    Mutation(
        "member-link-ignored",
        "H5: a fault of any member is the group's",
        _U,
        "            [member.interface for member in self.config.members]\n"
        "            + [vip.interface for vip in self.config.vips]\n",
        "            [self.config.leader.interface]\n",
    ),
    # --- tracking ---------------------------------------------------------------------------------
    Mutation(
        "reverse-ignored",
        "track rule 3: reverse turns the sign",
        _K,
        "    sign = -1 if track.reverse else 1\n",
        "    sign = 1\n",
    ),
    Mutation(
        "negative-weight-while-healthy",
        "track rule 3: a negative weight counts while failed",
        _K,
        "        counts = Health.HEALTHY if track.weight > 0 else Health.UNHEALTHY\n",
        "        counts = Health.HEALTHY\n",
    ),
    Mutation(
        "unknown-counts",
        "track rule 1: what is not known contributes nothing",
        _K,
        "        worth = sign * track.weight if verdict.health is counts else 0\n",
        "        known = (counts, Health.UNKNOWN)\n"
        "        worth = sign * track.weight if verdict.health in known else 0\n",
    ),
    Mutation(
        "clamped-too-low",
        "track rule 2: never below 1, 0 means that a master leaves",
        _K,
        "LOWEST_PRIORITY, HIGHEST_PRIORITY = 1, 254",
        "LOWEST_PRIORITY, HIGHEST_PRIORITY = 0, 254",
    ),
    Mutation(
        "clamped-too-high",
        "track rule 2: never above 254, 255 means that the addresses are owned",
        _K,
        "LOWEST_PRIORITY, HIGHEST_PRIORITY = 1, 254",
        "LOWEST_PRIORITY, HIGHEST_PRIORITY = 1, 255",
    ),
    Mutation(
        "owner-weighed",
        "track rule 2: the owner's 255 is never changed",
        _K,
        "    if base == OWNER_PRIORITY:\n        return base\n",
        "",
    ),
    Mutation(
        "number-not-multiplied",
        "track rule 4: a number is worth number * weight",
        _K,
        "sign * verdict.number * (1 if track.weight is None else track.weight)",
        "sign * verdict.number",
    ),
    Mutation(
        "number-is-no-fault",
        "track rule 4: at -254 or below a number means FAULT",
        _K,
        "        return _weigh(track, verdict).contribution <= FAULT_NUMBER\n",
        "        return False\n",
    ),
    Mutation(
        "number-fault-below",
        "track rule 4: -254 itself means FAULT",
        _K,
        "        return _weigh(track, verdict).contribution <= FAULT_NUMBER\n",
        "        return _weigh(track, verdict).contribution < FAULT_NUMBER\n",
    ),
    Mutation(
        "weighted-failure-is-fault",
        "track rule 3: with a weight, failure is no fault",
        _K,
        "    if track.weight is not None:\n        return False\n",
        "",
    ),
    Mutation(
        "reverse-fault-unreversed",
        "track rule 3: reversed and without a weight, healthy means FAULT",
        _K,
        "    return verdict.health is (Health.HEALTHY if track.reverse else Health.UNHEALTHY)\n",
        "    return verdict.health is Health.UNHEALTHY\n",
    ),
    Mutation(
        "unknown-is-fault",
        "track rule 1: what is not known is no fault",
        _K,
        "    return verdict.health is (Health.HEALTHY if track.reverse else Health.UNHEALTHY)\n",
        "    well = Health.UNHEALTHY if track.reverse else Health.HEALTHY\n"
        "    return verdict.health is not well\n",
    ),
    Mutation(
        "waits-for-nothing",
        "track rule 1: a track that waits keeps a unit from starting",
        _K,
        "            if track.waits and verdict.health is Health.UNKNOWN:\n",
        "            if False:\n",
    ),
    Mutation(
        "waits-always",
        "track rule 1: only a track that waits keeps a unit from starting",
        _K,
        "            if track.waits and verdict.health is Health.UNKNOWN:\n",
        "            if verdict.health is Health.UNKNOWN:\n",
    ),
    Mutation(
        "debounce-off",
        "an interface that flaps counts as what it was until it lasts",
        _K,
        "        elif self.due is None and debounce_ns:\n",
        "        elif False:\n",
    ),
    Mutation(
        "debounce-adds-up",
        "a break begins the debounce anew",
        _K,
        "        if up == self._counts_up:\n            self.due = None\n",
        "        if up == self._counts_up:\n            pass\n",
    ),
    Mutation(
        "debounce-never-ends",
        "a change that lasts counts when its time is over",
        _K,
        "        return min(instants, default=None)\n",
        "        return None\n",
    ),
    Mutation(
        "known-links-forgotten",
        "what is known of an interface survives a reload",
        _K,
        "{name: link for name, link in self._links.items() if name in names}",
        "{}",
    ),
    # --- health and orders ------------------------------------------------------------------------
    Mutation(
        "health-ignored",
        "a new verdict counts at once",
        _N,
        "            if unit.needs_checks:\n                unit.judge(now)\n",
        "            if unit.needs_checks:\n                pass\n",
    ),
    Mutation(
        "stale-health-unsaid",
        "health that nobody reports any more is an alarm",
        _N,
        "        if self._stale_at is not None and now >= self._stale_at:\n"
        "            self._health_is_stale(now)\n",
        "        if self._stale_at is not None and now >= self._stale_at:\n"
        "            self._stale_at = None\n",
    ),
    Mutation(
        "stale-health-fails-over",
        "health that nobody reports any more never moves mastership",
        _N,
        "        self._stale_at, self._stale_since = None, now\n",
        "        self._stale_at, self._stale_since = None, now\n"
        "        self.verdicts.clear()\n"
        "        for unit in self.units.values():\n"
        "            unit.judge(now)\n",
    ),
    Mutation(
        "stale-too-early",
        "a report that is a moment late is no alarm",
        _N,
        "        self._stale_at, self._stale_since = now + HEALTH_STALE_NS, None\n",
        "        self._stale_at, self._stale_since = now + HEALTH_STALE_NS // 2, None\n",
    ),
    Mutation(
        "orders-ignored",
        "orders are obeyed by every unit",
        _N,
        "            unit.obey(event.orders, now)\n",
        "            pass\n",
    ),
    Mutation(
        "orders-unknown-to-new-units",
        "who starts in maintenance knows it",
        _N,
        "            self.verdicts,\n            self.orders,\n",
        "            self.verdicts,\n            Orders(),\n",
    ),
    Mutation(
        "deafness-forgotten",
        "the successor of a router that cannot hear cannot hear either",
        _N,
        "            self._deaf[event.instance] = event\n",
        "            pass\n",
    ),
)
