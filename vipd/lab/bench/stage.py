"""Two vipd nodes in cluster mode and two of keepalived in one lab, and one event after the other.

An event is one move of a VIP: from its cause to the moment at which the host that should serve has
been the only one to answer for a while. Before it the pair is at rest, which is asked and not
waited for: the client is served by one host only, its kernel is the only one with the VIP, and in
the status of *each* vipd node all nodes are alive and agree on who is master.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from vipd.errors import VipdError
from vipd.lab.bench.event_figures import Sample
from vipd.lab.bench.figures import KEEPALIVED, VIPD, MeasurementFailed
from vipd.lab.bench.pairs import QUIET_LOG, ROUTERS, Arena, Pair, host_names, sleep_ns
from vipd.lab.cluster import Cluster
from vipd.lab.holders import held_twice_ns, holders
from vipd.lab.hosts import Host, now_ns, wait_for
from vipd.lab.netns import Lab, second_port
from vipd.lab.outages import interleavings, longest_outage
from vipd.lab.peers import Keepalived, Router, Speaker, VipdNode
from vipd.lab.tools import Holders
from vipd.model import MILLISECOND_NS, SECOND_NS, Instant

INSTANCE = "web"
ADVERT_MS = 1000
WENT_WRONG = (TimeoutError, RuntimeError, OSError, subprocess.TimeoutExpired)
"""What ends an event without a sample."""

_EVENT_LIMIT_S = 10.0
_RETURN_LIMIT_S = 30.0  # it is served meanwhile, by the other host: a daemon may take long to start
_REST_LIMIT_S = 30.0
_RECOVERY_LIMIT_S = 60.0
_LOOK_S = 0.05  # the client writes its log as often; looking costs the daemons their time
_LIFETIME_NS = 5 * SECOND_NS  # of the addresses that dead ones held, and a bit more
_SPREAD_NS = SECOND_NS  # an advert interval, and ten of heartbeats


@dataclass(slots=True)
class Stage:
    """The lab with both pairs, and what is asked of it."""

    field: Arena
    watch: Holders
    both_networks: bool

    @property
    def vipd(self) -> Pair:
        return self.field.pairs[VIPD]

    @property
    def keepalived(self) -> Pair:
        return self.field.pairs[KEEPALIVED]

    # --- events -------------------------------------------------------------------------------

    def move(self, pair: Pair, act: Callable[[], object], to: Speaker) -> Sample:
        """Do something that makes another host serve. Raises one of WENT_WRONG."""
        start_ns = now_ns()
        act()
        self._wait_served(pair, to)
        return self._sample(pair, start_ns)

    def disturb(self, pair: Pair, act: Callable[[], object]) -> Sample:
        """Do something that moves nothing, until the pair is at rest. Raises one of WENT_WRONG."""
        start_ns = now_ns()
        act()
        self.wait_rest(pair, pair.high)
        return self._sample(pair, start_ns)

    def _wait_served(self, pair: Pair, to: Speaker) -> None:
        """Until this host alone answers; the kernels of others are looked at in the sample."""
        answers, name = self.field.answers, to.host.name
        limit_s = _RETURN_LIMIT_S if to is pair.high else _EVENT_LIMIT_S
        wait_for(lambda: answers.steady(pair.vip, name), limit_s, f"{name} does not serve", _LOOK_S)

    def _sample(self, pair: Pair, start_ns: Instant) -> Sample:
        answers = self.field.answers.of(pair.vip)
        end_ns = answers[-1].received_ns
        outage = longest_outage(answers, start_ns, end_ns)
        during = [answer for answer in answers if answer.received_ns >= start_ns]
        twice_ns = held_twice_ns(self.watch.told(), pair.vip, start_ns, end_ns)
        self.field.answers.forget(end_ns - SECOND_NS)
        return Sample(
            outage.length_ns / MILLISECOND_NS, twice_ns / MILLISECOND_NS, interleavings(during)
        )

    # --- rest ---------------------------------------------------------------------------------

    def rest(self, pair: Pair, master: Speaker) -> None:
        """Wait for rest, then until a moment that has nothing to do with any timer of the pair.

        Raises TimeoutError.
        """
        self.wait_rest(pair, master)
        sleep_ns(random.randrange(_SPREAD_NS))

    def wait_rest(self, pair: Pair, master: Speaker, timeout_s: float = _REST_LIMIT_S) -> None:
        """Until the pair is at rest with this master. Raises TimeoutError."""
        what = f"{master.host.name} is not the one master that all agree on"
        try:
            wait_for(partial(self._rests, pair, master), timeout_s, what, _LOOK_S)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; {'; '.join(map(_last_words, pair.speakers))}") from error

    def _rests(self, pair: Pair, master: Speaker) -> bool:
        name = master.host.name
        if not self.field.answers.steady(pair.vip, name):
            return False
        history = list(holders(self.watch.told(), pair.vip))
        nodes = [speaker for speaker in pair.speakers if isinstance(speaker, VipdNode)]
        return bool(history) and history[-1][1] == {name} and agree(nodes, name)

    def recover(self, pair: Pair) -> None:
        """From whatever state: both daemons anew, at home. Raises MeasurementFailed."""
        self.connect(pair)
        for speaker in pair.speakers:
            speaker.thaw()
            speaker.kill()
        sleep_ns(_LIFETIME_NS)
        for speaker in pair.speakers:
            speaker.start()
        try:
            for speaker in pair.speakers:
                speaker.wait_ready()
                if isinstance(speaker, VipdNode):
                    speaker.cli("maintenance", "off", check=False)
                    speaker.cli("switchover", INSTANCE, "--auto", check=False)
            self.wait_rest(pair, pair.high, _RECOVERY_LIMIT_S)
        except WENT_WRONG as error:
            raise MeasurementFailed(f"{pair.kind} does not recover: {error}") from error

    # --- the network --------------------------------------------------------------------------

    def _ports(self, pair: Pair) -> Sequence[str]:
        name = pair.high.host.name
        return (second_port(name), name) if self.both_networks else (name,)

    def cut(self, pair: Pair) -> None:
        """Take all links of the high host, the one of the VIP last."""
        for port in self._ports(pair):
            self.field.lab.detach(port)

    def connect(self, pair: Pair) -> None:
        for port in self._ports(pair):
            self.field.lab.attach(port)


def _last_words(speaker: Speaker) -> str:
    """For whoever has to find out why: the lab takes the log along."""
    *_, last = speaker.log.read_text().splitlines() or ["nothing"]
    return f"{speaker.host.name} said last: {last}"


def agree(nodes: Sequence[VipdNode], master: str) -> bool:
    """In the status of each node all of them are alive, this one is master, and it stays so."""
    try:
        return all(
            sees(node.status(), [other.host.name for other in nodes], master) for node in nodes
        )
    except VipdError:
        return False  # it is just being started


def sees(status: Mapping[str, Any], names: Sequence[str], master: str) -> bool:
    """A node's status says so."""
    members = (status.get("cluster") or {}).get("nodes", {})
    own = status["instances"].get(INSTANCE, {})
    return own.get("handing_to") is None and all(
        members.get(name, {}).get("alive")
        and members[name]["units"].get(INSTANCE, {}).get("state")
        == ("MASTER" if name == master else "BACKUP")
        for name in names
    )


@contextmanager
def stage(
    settings: Mapping[str, object] | None = None, both_networks: bool = False
) -> Iterator[Stage]:
    """Both pairs at rest; ``settings`` are further keys of the cluster section."""
    with Lab([*host_names(VIPD), *host_names(KEEPALIVED)]) as lab:
        if both_networks:
            lab.add_network()
        watch = Holders(lab, [router.addresses[0] for router in ROUTERS.values()])
        cluster = Cluster([lab[name] for name in host_names(VIPD)], both_networks, settings or {})

        def make(kind: str, host: Host, router: Router) -> Speaker:
            if kind == KEEPALIVED:
                return Keepalived(host, router)
            return VipdNode(host, router, QUIET_LOG, cluster=cluster)

        with closing(Arena(lab, ADVERT_MS, make)) as field:
            made = Stage(field, watch, both_networks)
            try:
                made.wait_rest(made.vipd, made.vipd.high)
            except TimeoutError as error:
                raise MeasurementFailed(str(error)) from error
            yield made
