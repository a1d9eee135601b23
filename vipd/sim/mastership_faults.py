"""What moves mastership although everybody lives: checks, tracked links, operators, deafness.

Each method changes something on ``host`` and returns for how long, and how it is mended.
"""

from __future__ import annotations

from collections.abc import Sequence

from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    Health,
    Instant,
    Verdict,
)
from vipd.sim.host import Host
from vipd.sim.kernel_faults import Fault
from vipd.sim.network import Network
from vipd.sim.options import Options
from vipd.sim.plans import MAIN, SIDE, UPLINK, CheckPlan, UnitPlan
from vipd.sim.world import World

_EMFILE = 24


class MastershipFaults:
    """Part of ``Scenario``, which gives it the world, the hosts and the units."""

    world: World
    options: Options
    network: Network
    hosts: Sequence[Host]
    healing: bool
    changed_at: Instant

    @property
    def units(self) -> tuple[UnitPlan, ...]:
        raise NotImplementedError

    def changed(self) -> None:
        """Something began, ended or moved: calm is counted from here."""
        self.changed_at = self.world.now

    # --- checks -------------------------------------------------------------------------------

    def other_verdict(self, host: Host, check: CheckPlan) -> Verdict:
        """Something else than the check gives now."""
        now = host.truth[check.name]
        if check.numbers and (now.health is Health.UNHEALTHY or self.world.chance(0.8)):
            return Verdict(check.name, Health.HEALTHY, self.world.rng.choice(check.numbers))
        other = Health.HEALTHY if now.health is Health.UNHEALTHY else Health.UNHEALTHY
        return Verdict(check.name, other)

    def at_rest(self, check: CheckPlan) -> Verdict:
        return Verdict(check.name, check.at_rest)

    def _check_flips(self, host: Host) -> Fault:
        """One check turns; sometimes it flaps, sometimes it turns on all hosts at once."""
        if not self.options.checks:
            return None
        check = self.world.rng.choice(self.options.checks)
        flipped = list(self.hosts) if self.world.chance(0.2) else [host]
        times = self.world.rng.choice((1, 1, 1, 2, 7))
        for each in flipped:
            for number in range(times):
                self.world.after(number * 250 * MILLISECOND_NS, self._flip, each, check)

        def mend() -> None:
            for each in flipped:
                each.turns(self.at_rest(check))

        return self.world.span(2000, 9000), mend

    def _flip(self, host: Host, check: CheckPlan) -> None:
        if not self.healing:
            host.turns(self.other_verdict(host, check))

    def _supervisor_silent(self, host: Host) -> Fault:
        """It says nothing of its checks: old verdicts count on, and nobody fails over for that."""
        supervisor = host.supervisor
        if supervisor is None:
            return None
        supervisor.silent = True

        def mend() -> None:
            supervisor.silent = False
            if supervisor.alive:
                supervisor.tell_health()

        return self.world.span(1000, 9000), mend

    # --- links and sockets --------------------------------------------------------------------

    def _uplink_flaps(self, host: Host) -> Fault:
        times = self.world.rng.choice((1, 2, 5, 12))
        gap = self.world.rng.choice((40, 150, 400)) * MILLISECOND_NS
        for number in range(times):
            self.world.after(2 * number * gap, self._set_uplink, host, False)
            self.world.after((2 * number + 1) * gap, self._set_uplink, host, True)
        if self.world.chance(0.5):
            self.world.after(2 * times * gap, self._set_uplink, host, False)
        lasts = 2 * times * gap + self.world.span(0, 5000)
        return lasts, lambda: host.kernel.set_link(UPLINK, up=True, admin=False)

    def _set_uplink(self, host: Host, up: bool) -> None:
        if not self.healing and UPLINK in host.kernel.links:
            self.world.coverage["uplink flaps"] += 1
            host.kernel.set_link(UPLINK, up=up, admin=False)

    def _deaf(self, host: Host) -> Fault:
        routers = [(m.interface, m.family) for unit in self.units for m in unit.members]
        interface, family = self.world.rng.choice(routers)
        host.cannot_hear(interface, family, _EMFILE)

        def mend() -> None:
            host.cannot_hear(interface, family, 0)

        return self.world.span(500, 6000), mend

    def _member_cut(self, host: Host) -> Fault:
        """One LAN fails in one direction or both; routers on the other one still hear."""
        other = self.world.rng.choice([each for each in self.hosts if each is not host])
        interface = self.world.rng.choice((MAIN, SIDE))
        pairs = [(host, other), (other, host)]
        if self.world.chance(0.6):
            del pairs[self.world.rng.randrange(2)]
        for sender, receiver in pairs:
            self.network.cut(sender, receiver, interface)

        def mend() -> None:
            for sender, receiver in pairs:
                self.network.mend(sender, receiver, interface)

        return self.world.span(500, 12_000), mend

    # --- operators ----------------------------------------------------------------------------

    def _maintenance(self, host: Host) -> Fault:
        if host.maintenance:
            return None
        host.maintenance = True
        host.tell_orders()

        def mend() -> None:
            host.maintenance = False
            host.tell_orders()

        return self.world.span(300, 12_000), mend

    def _switchover(self, host: Host) -> Fault:
        return self._give_away([host])

    def _two_operators(self, host: Host) -> Fault:
        """Both mean well, on two hosts and at the same moment."""
        other = self.world.rng.choice([each for each in self.hosts if each is not host])
        return self._give_away([host, other])

    def _give_away(self, hosts: list[Host]) -> Fault:
        unit = self.world.rng.choice(self.units).name
        held = [host for host in hosts if self.world.chance(0.8)]
        for host in hosts:
            if host in held:
                host.held.add(unit)
            if host.supervisor is not None:
                counts = host.supervisor.step_downs
                counts[unit] = counts.get(unit, 0) + 1
            host.tell_orders()
            self.world.after(self.world.between(0, 3 * SECOND_NS), host.tell_orders)
        return self.world.span(200, 8000), lambda: self._hold_ends(held, unit)

    def _hold_ends(self, hosts: list[Host], unit: str) -> None:
        for host in hosts:
            host.held.discard(unit)
            host.tell_orders()

    # --- what remains when everything else is mended ------------------------------------------

    def leave_verdicts_and_orders(self) -> None:
        """Not all is well in the end: order must come from effective priorities, too."""
        self.changed()
        for host in self.hosts:
            for check in self.options.checks:
                well = self.world.chance(0.6)
                host.turns(self.at_rest(check) if well else self.other_verdict(host, check))
            host.maintenance = self.world.chance(0.12)
            for unit in self.units if self.options.cluster is None else ():
                if self.world.chance(0.15):
                    host.held.add(unit.name)
            host.tell_orders()
