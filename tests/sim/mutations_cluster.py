"""Rules of clusters, each broken once: members, takeovers, handovers, pins, the last will."""

from __future__ import annotations

from functools import partial

from tests.sim.mutation import Mutation

_R, _W, _H = "vipd/core/roster.py", "vipd/core/watch.py", "vipd/core/handover.py"
_C, _K, _P = "vipd/core/cluster.py", "vipd/core/cooperation.py", "vipd/core/pins.py"
_Q, _N, _L = "vipd/core/preemption.py", "vipd/core/nonces.py", "vipd/core/will.py"
_U, _V, _O = "vipd/core/unit.py", "vipd/core/cluster_view.py", "vipd/core/node.py"

_cluster = partial(Mutation, cluster=True)

MUTATIONS = (
    # --- members ----------------------------------------------------------------------------------
    _cluster(
        "members-never-lost",
        "roster rule 3: a member is alive while it is heard within the timeout",
        _R,
        "if peer.alive and heard is not None and now - heard >= self.timeout_of(peer):\n",
        "if peer.alive and heard is not None and now - heard >= 1000 * self.timeout_of(peer):\n",
        seed=844,
    ),
    _cluster(
        "old-terms-come-back",
        "terms: the highest there ever was counts",
        _K,
        "        self.term = self.known_term + 1\n        self.giving",
        "        self.term = self.term + 1\n        self.giving",
        seed=64,
    ),
    _cluster(
        "successor-in-maintenance",
        "a node in maintenance is no successor",
        _R,
        "if not peer.maintenance and peer.reports(unit, *FIT)",
        "if peer.reports(unit, *FIT)",
        seed=320,
    ),
    # --- takeovers --------------------------------------------------------------------------------
    _cluster(
        "master-lost-too-early",
        "watch rule 2b: a master is lost after the timeout",
        _W,
        "        until = lost + self.rank(priority) * STEP_NS\n",
        "        until = max(heard, advert) + self._roster.timeout_ns // 8\n",
        seed=54,
    ),
    _cluster(
        "no-grace",
        "watch rule 3: nobody stands before a handover has had its time",
        _W,
        "        begin = max(self._vacant_since + grace_ns, self._fewer_since + STEP_NS)\n",
        "        begin = max(self._vacant_since, self._fewer_since)\n",
        seed=54,
    ),
    _cluster(
        "all-at-once",
        "watch: the best goes at once, each next one a step later",
        _W,
        "        until = begin + self.rank(priority) * STEP_NS\n",
        "        until = begin\n",
        seed=402,
    ),
    _cluster(
        "unknown-nodes-forgotten",
        "watch rule 4: a node of which nothing is known may be master",
        _W,
        "        if not self._roster.all_report(self.unit):\n",
        "        if False:\n",
        seed=761,
    ),
    _cluster(
        "no-louder-adverts",
        "cluster rule 3: a master whose beats are missed advertises at their pace",
        _C,
        "        if any(True for _ in self.roster.quiet(now)):\n",
        "        if False:\n",
        seed=818,
    ),
    # --- acting messages --------------------------------------------------------------------------
    _cluster(
        "one-nonce-for-ever",
        "the nonce changes",
        _N,
        "        while now >= self._changes_at:\n",
        "        while False:\n",
        seed=117,
    ),
    # --- giving -----------------------------------------------------------------------------------
    _cluster(
        "offered-too-early",
        "handover rule 1: nothing is offered before the VIPs are gone",
        _K,
        "        if election.reason in _OWN_TROUBLE or self._has_fallen:\n"
        "            self.preemption.trouble(now)\n",
        "        self._offer_next(now)\n",
        seed=58,
    ),
    _cluster(
        "go-said-once",
        "H2: go is repeated until it is answered",
        _H,
        "        self.next_go = now + REPEAT_NS\n",
        "        self.next_go = now + 1000 * REPEAT_NS\n",
        seed=959,
    ),
    _cluster(
        "same-successor-again",
        "handover rule 2: every node is offered it once",
        _H,
        "        self.tried.add(successor)\n",
        "",
        seed=572,
    ),
    _cluster(
        "nobody-returns",
        "H2: if nobody takes it, the master that left by order stands again",
        _K,
        "        if giving.may_return and self.state is State.BACKUP:\n",
        "        if False:\n",
        seed=572,
    ),
    _cluster(
        "ends-while-offering",
        "an engine ends when its masterships are taken",
        _U,
        "        return self.is_released and (self.coop is None or not self.coop.is_giving)\n",
        "        return self.is_released\n",
        seed=947,
    ),
    _cluster(
        "ends-in-silence",
        "who ends says goodbye",
        _O,
        "                self.cluster.goodbye()\n",
        "                pass\n",
        seed=947,
    ),
    # --- asking -----------------------------------------------------------------------------------
    _cluster(
        "no-back-off",
        "preemption rule 2: what was refused is asked again after 1 s, 2 s, ...",
        _Q,
        "        self._due = now + self._back_off_ns\n",
        "        self._due = now\n",
        seed=1013,
    ),
    _cluster(
        "no-preempt-delay",
        "H4: preempt_delay delays taking from a live master",
        _Q,
        "self._due = max(self.better_since + delay_ns, self._not_before)",
        "self._due = max(self.better_since, self._not_before)",
        seed=691,
    ),
    _cluster(
        "never-asks",
        "H1: the better node asks for mastership",
        _K,
        "            or standing.priority <= report.priority\n",
        "            or True\n",
        seed=89,
    ),
    # --- pins -------------------------------------------------------------------------------------
    _cluster(
        "pin-not-followed",
        "pins rule 2: a master that sees a pin on another fit node hands over to it",
        _K,
        "        if pinned.node in fit:\n            wanted",
        "        if False:\n            wanted",
        seed=58,
    ),
    _cluster(
        "pins-stay-here",
        "pins spread by heartbeats",
        _C,
        "            moved = self.pins.hear(report.unit, report.pin, now)\n",
        "            moved = False\n",
        seed=54,
    ),
    _cluster(
        "pin-for-ever",
        "pins rule 3: a pin ends by its time",
        _P,
        "            if each.until is not None and now >= each.until\n",
        "            if False\n",
        seed=54,
    ),
    _cluster(
        "pin-on-the-dead",
        "pins rule 3: a pin ends when its node cannot take the unit",
        _K,
        "        self.cluster.pins.clear(self.name)\n        self._tell_pin(because)\n",
        "",
        seed=62,
    ),
    # --- the last will ----------------------------------------------------------------------------
    _cluster(
        "will-too-late",
        "the will is kept before what it answers for is done",
        _O,
        "(will, *self._actions)",
        "(*self._actions, will)",
        seed=54,
    ),
    _cluster(
        "will-without-goodbyes",
        "the will says priority 0 for each mastership",
        _L,
        "tuple(each for _, several in self._parts.values() for each in several)",
        "()",
        seed=117,
    ),
    _cluster(
        "will-never-ends",
        "a unit leaves the will when nothing of it is here",
        _L,
        "    leads = unit.election.state is State.MASTER or not unit.is_released\n",
        "    leads = unit.election.state is not State.INIT\n",
        seed=843,
    ),
    # --- alarms -----------------------------------------------------------------------------------
    _cluster(
        "no-standby-unsaid",
        "alarm: nobody could take over",
        _V,
        "    if coop.state is State.MASTER and not roster.fit_for(coop.name):\n",
        "    if False:\n",
        seed=51,
    ),
    _cluster(
        "drift-unsaid",
        "alarm: another node's configuration differs",
        _V,
        "    if peer.alive and peer.configuration != cluster.config.digest:\n",
        "    if False:\n",
        seed=260,
    ),
    _cluster(
        "path-down-unsaid",
        "alarm: a path is silent",
        _V,
        "            if now - silent_since >= limit_ns:\n",
        "            if False:\n",
        seed=276,
    ),
)
