"""Rules of one router that silence moves: timers, election, claim, host."""

from __future__ import annotations

from tests.sim.mutation import Mutation

_T, _E, _C = "vipd/core/timing.py", "vipd/core/election.py", "vipd/core/claim.py"
_U, _N, _H = "vipd/core/unit.py", "vipd/core/node.py", "vipd/core/host.py"
_F = "vipd/core/faults.py"

MUTATIONS = (
    # --- timing -----------------------------------------------------------------------------------
    Mutation(
        "skew-dropped",
        "TMR-1: a worse priority waits longer",
        _T,
        "return (256 - priority) * unit_us // 256 * MICROSECOND_NS",
        "return 0 * unit_us",
    ),
    Mutation(
        "skew-reversed",
        "TMR-1: a better priority moves earlier",
        _T,
        "return (256 - priority) * unit_us",
        "return priority * unit_us",
    ),
    Mutation(
        "skew-of-v2-by-interval",
        "TMR-1: the skew of version 2 counts in seconds, whatever the interval is",
        _T,
        "V2_SKEW_UNIT_US if version == 2 else v3_unit_us",
        "interval_ns // MICROSECOND_NS if version == 2 else v3_unit_us",
        seed=14,
    ),
    Mutation(
        "down-too-short",
        "TMR-1: Down is three intervals and the skew",
        _T,
        "return 3 * interval_ns + skew_ns(",
        "return 2 * interval_ns + skew_ns(",
    ),
    Mutation(
        "stall-rule-off",
        "DESIGN 5: a master that was late by a takeover time listens before it speaks",
        _T,
        "    return 3 * interval_ns\n",
        "    return 3000 * interval_ns\n",
        seed=17,
    ),
    # --- election: backup -------------------------------------------------------------------------
    Mutation(
        "priority-0-ignored",
        "F6: after priority 0 a backup waits for Skew only",
        _E,
        "            self._timer = now + self.skew_ns\n",
        "",
    ),
    Mutation(
        "timer-not-restarted",
        "F7: an accepted advert restarts the timer",
        _E,
        "KnownMaster(heard.source, heard.advert.priority)\n"
        "        self._timer = now + self.master_down_ns\n",
        "KnownMaster(heard.source, heard.advert.priority)\n"
        "        self._timer = self._timer or now + self.master_down_ns\n",
    ),
    Mutation(
        "lower-priority-restarts-timer",
        "F8: with preempt, a lower priority does not restart the timer",
        _E,
        "            self._takeover_reason = Reason.LOWER_PRIORITY_MASTER\n",
        "            self._follow(heard, now)\n",
        seed=4,
    ),
    Mutation(
        "preempt-flag-ignored",
        "F7: without preempt any master is followed",
        _E,
        "        if own.barred or not own.preempt:  # rule 6\n",
        "        if own.barred:\n",
    ),
    Mutation(
        "preempt-delay-ignored",
        "preempt_delay holds the taking from a live master back",
        _E,
        "        if own.preempt_delay_ns == 0:\n",
        "        if own.preempt_delay_ns >= 0:\n",
        seed=5,
    ),
    Mutation(
        "equal-priority-not-followed",
        "F7: an equal priority is good enough, there is no tie-break in BACKUP",
        _E,
        "if heard.advert.priority >= own.priority:",
        "if heard.advert.priority > own.priority:",
        seed=7,
    ),
    Mutation(
        "interval-not-learned",
        "F7: version 3 learns the master's interval",
        _E,
        "        learns = self.standing.version == 3\n",
        "        learns = False\n",
    ),
    Mutation(
        "owner-waits",
        "F1: the address owner is master at once",
        _E,
        "        if self.standing.priority == OWNER_PRIORITY:\n            self._stand(",
        "        if self.standing.priority > OWNER_PRIORITY:\n            self._stand(",
        seed=14,
    ),
    # --- election: master -------------------------------------------------------------------------
    Mutation(
        "higher-priority-ignored",
        "F12: a master yields to a higher priority",
        _E,
        "        elif priority > own.priority:  # F12\n",
        "        elif priority > 255:  # F12\n",
        seed=4,
    ),
    Mutation(
        "beaten-without-last-word",
        "election rule 4: a beaten master says so with one last advert",
        _E,
        '        self._speak(now, only=heard.instance if asked else "")\n',
        "",
        seed=3,
    ),
    Mutation(
        "beaten-master-says-goodbye",
        "election rule 4: whoever was beaten does not say priority 0",
        _E,
        "        self._follow_into_backup(reason, heard, now)\n"
        "        self._wishes.append(ReleaseWanted(goodbye=False))\n",
        "        self._follow_into_backup(reason, heard, now)\n"
        "        self._wishes.append(ReleaseWanted(goodbye=True))\n",
        seed=3,
    ),
    Mutation(
        "stopped-without-goodbye",
        "F9: whoever leaves by decision says priority 0",
        _E,
        "            self._wishes.append(ReleaseWanted(goodbye=True))\n",
        "            self._wishes.append(ReleaseWanted(goodbye=False))\n",
    ),
    Mutation(
        "priority-0-not-answered",
        "F11: a master answers priority 0 at once",
        _E,
        "        elif priority == LEAVING_PRIORITY:  # F11\n            self._reply(now)\n",
        "        elif priority == LEAVING_PRIORITY:  # F11\n            pass\n",
        seed=17,
    ),
    Mutation(
        "losing-advert-not-answered",
        "F13: a master answers a losing advert at once",
        _E,
        "        else:  # F13\n            self._reply(now)\n",
        "        else:  # F13\n",
        seed=3,
    ),
    Mutation(
        "losing-advert-no-announcement",
        "F13: after a losing advert the VIPs are announced again",
        _E,
        "            self._reply(now)\n"
        "            self._wishes.append(AnnounceWanted(REANNOUNCE_GAP_NS))\n",
        "            self._reply(now)\n",
        seed=3,
    ),
    Mutation(
        "adverts-too-slow",
        "F10: an advert every interval",
        _E,
        "        nominal = (self._timer or now) + interval_ns\n",
        "        nominal = (self._timer or now) + 2 * interval_ns\n",
    ),
    Mutation(
        "adverts-too-fast",
        "F10: not more than one advert each interval",
        _E,
        "        nominal = (self._timer or now) + interval_ns\n",
        "        nominal = (self._timer or now) + interval_ns // 2\n",
    ),
    Mutation(
        "suspended-master-advertises",
        "election rule 5: nothing is sent before everything was heard",
        _E,
        "            self._suspended = True\n            self._timer = None\n",
        "            self._suspended = True\n"
        "            self._timer = now\n"
        "            self._speak(now)\n",
        seed=17,
    ),
    Mutation(
        "overtaken-while-stalled-stays",
        "election rule 5: if somebody else was master meanwhile, it goes",
        _E,
        "        if self._suspended:\n            self._hear_after_stall(heard, now)\n",
        "        if self._suspended:\n            pass\n",
        seed=17,
    ),
    Mutation(
        "silent-after-stall",
        "election rule 5: if nobody was, it goes on at once",
        _E,
        "        self._suspended = False\n"
        "        self._timer = now + self.standing.interval_ns\n"
        "        self._speak(now)\n",
        "        self._suspended = False\n        self._timer = now + self.standing.interval_ns\n",
        seed=17,
    ),
    # --- claim ------------------------------------------------------------------------------------
    Mutation(
        "announced-before-confirmed",
        "claim order: announce only what the kernel confirmed",
        _C,
        "        self._wishes.append(AddWanted(chunk))\n",
        "        self._wishes.append(FramesWanted(chunk))\n"
        "        self._wishes.append(AddWanted(chunk))\n",
    ),
    Mutation(
        "goodbye-before-removal",
        "release order: priority 0 only when the addresses are gone",
        _C,
        "            self._wishes.append(GateWanted(open=False))\n\n    def _release_again",
        "            if self._goodbye:\n"
        "                self._wishes.append(AdvertWanted(leaving=True))\n"
        "                self._goodbye = False\n"
        "            self._wishes.append(GateWanted(open=False))\n\n    def _release_again",
    ),
    Mutation(
        "vip-kept-on-release",
        "release: the addresses are removed",
        _C,
        "        if ours := self._held():\n            self._wishes.append(RemoveWanted(",
        "        if ours := self._held()[1:]:\n            self._wishes.append(RemoveWanted(",
    ),
    Mutation(
        "reconcile-off",
        "claim: a VIP that somebody took away is put back",
        _C,
        "            self._restore([signal.vip], now)\n",
        "            pass\n",
        seed=3,
    ),
    Mutation(
        "renewal-off",
        "claim rule 3: held addresses are renewed",
        _C,
        "            self._wishes.append(RenewWanted(due))\n",
        "            pass\n",
    ),
    Mutation(
        "renewal-after-release",
        "claim rule 3: nothing is renewed once the release has begun",
        _C,
        "        self._renewals.stop()\n",
        "",
        seed=2,
    ),
    Mutation(
        "refused-removal-not-retried",
        "release: a refused removal is tried again",
        _C,
        "            self._remove_all(now)\n            return\n        if leaving",
        "            return\n        if leaving",
        seed=6,
    ),
    Mutation(
        "lost-message-not-checked",
        "claim rule 1: what the kernel did not confirm is asked for again",
        _C,
        "        self._todo = {vip.key: vip for vip in self._missing()}\n"
        "        self._add_next()\n\n    def _give_up(",
        "\n    def _give_up(",
        seed=413,
    ),
    Mutation(
        "owner-vips-removed",
        "claim rule 4: the owner's addresses are not touched",
        _C,
        "        if self.owner:\n            self._absent(now)\n",
        "        if False:\n            self._absent(now)\n",
        seed=41,
    ),
    Mutation(
        "retired-vip-kept",
        "reload: a VIP that is no longer configured is removed",
        _C,
        "            self._wishes.append(RemoveWanted(tuple(reversed(leaving))))\n",
        "            self._wishes.append(RemoveWanted(tuple(reversed(leaving))[1:]))\n",
        seed=17,
    ),
    # --- unit -------------------------------------------------------------------------------------
    Mutation(
        "lease-returned-early",
        "claim rule 2: released, so that the lease may go back, is only who holds nothing",
        _C,
        "            self._wishes.append(RemoveWanted(tuple(reversed(ours))))\n        else:\n"
        "            self._finish_release(now)\n",
        "            self._wishes.append(RemoveWanted(tuple(reversed(ours))))\n"
        "        self._absent(now)\n",
    ),
    Mutation(
        "foreign-vip-ignored",
        "a configured VIP that nobody claimed is removed from a backup",
        _U,
        "self._foreign.look(self._vips[key], entries, self._teller, now):\n",
        "self._foreign.look(self._vips[key], entries, self._teller, now) and False:\n",
        seed=7,
    ),
    Mutation(
        "link-down-ignored",
        "F15: no mastership on a link that is down",
        _F,
        "        elif not link.up:\n",
        "        elif link.up is None:\n",
        seed=18,
    ),
    Mutation(
        "refused-adverts-ignored",
        "F15: no mastership that nobody can hear of",
        _U,
        "        if router.send_failures >= SEND_FAILURE_LIMIT:\n",
        "        if router.send_failures < 0:\n",
        seed=42,
    ),
    Mutation(
        "reload-ignores-priority",
        "F17: a new priority counts from the next timer on",
        _U,
        "        self.election.standing = self._standing(priority, orders)\n",
        "",
        seed=4,
    ),
    Mutation(
        "rival-not-answered",
        "the last word about our VIPs is ours",
        "vipd/core/announcement.py",
        "        start = now if last is None else max(now, last + gap_ns)\n",
        "        start = now if last is None else max(now, last + 30 * gap_ns)\n",
        seed=9,
    ),
    # --- node and host ----------------------------------------------------------------------------
    Mutation(
        "stray-sweep-off",
        "no address of ours without a claim",
        "vipd/core/strays.py",
        "            self._actions.append(RemoveStray(tuple(reversed(strays))))\n",
        "",
    ),
    Mutation(
        "finished-too-early",
        "``Finished`` comes when the kernel holds nothing",
        _N,
        "        if all(unit.is_done for unit in self.units.values()):\n",
        "        if True:\n",
    ),
    Mutation(
        "stall-not-drained",
        "a stall ends when everything that waited was heard",
        _N,
        "            unit.stall_over(event, now)\n",
        "            pass\n",
        seed=17,
    ),
    Mutation(
        "source-flips",
        "ENC-5: the source stays as long as the host has it",
        _H,
        "        if current in own:\n            return current\n",
        "",
        seed=50,
    ),
)
