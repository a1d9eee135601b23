"""Two nodes with a real proxy each, two VIPs, a visitor who asks both of them over HTTP.

``web`` loses 60 of its priority while the check of the proxy fails, which is more than the distance
to the other node; ``api`` tracks the check without a weight: FAULT. Both are at home on lb1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.daemon.rig import Daemon, Recorder
from tests.proxies.programs import PATIENCE_S, Proxy
from vipd.lab.hosts import Host, now_ns, wait_for
from vipd.lab.netns import Lab
from vipd.lab.outages import Outage, longest_outage
from vipd.lab.peers import Router
from vipd.lab.tools import Visitor
from vipd.model import MILLISECOND_NS, Duration, Instant

WEB, API = "192.0.2.100", "192.0.2.101"
ADVERT_MS = 100
_STEADY_S = 0.3


@dataclass(frozen=True, slots=True)
class Schedule:
    """Of the check of the proxy."""

    interval_ms: int = 100
    timeout_ms: int = 300
    fall: int = 1

    @property
    def promised_ns(self) -> Duration:
        """From the death of the proxy to the VIP on the other node."""
        return (self.fall * self.interval_ms + self.timeout_ms + ADVERT_MS) * MILLISECOND_NS


@dataclass(frozen=True, slots=True)
class Move:
    """What happened to one VIP: the visitor's outage, and when the kernels changed."""

    outage: Outage
    removed_ns: Instant
    added_ns: Instant


class Scene:
    def __init__(self, lab: Lab, make: Callable[[Host], Proxy], url: str, schedule: Schedule):
        self.lab = lab
        self.proxies = {name: make(lab[name]) for name in ("lb1", "lb2")}
        self.nodes = {name: self._node(name, url, schedule) for name in ("lb1", "lb2")}

    def _node(self, name: str, url: str, schedule: Schedule) -> Daemon:
        host = self.lab[name]
        priority = {"lb1": 150, "lb2": 100}[name]
        check = {
            "http": url.format(address=host.ipv4),
            "interval": f"{schedule.interval_ms}ms",
            "timeout": f"{schedule.timeout_ms}ms",
            "rise": 2,
            "fall": schedule.fall,
        }
        api = Router((f"{API}/24",), priority, vrid=52, interval_ms=ADVERT_MS)
        return Daemon(
            host,
            Router((f"{WEB}/24",), priority, interval_ms=ADVERT_MS),
            {"checks": {"proxy": check}},
            [("api", api)],
            {
                "web": {"track": [{"check": "proxy", "weight": -60}]},
                "api": {"track": [{"check": "proxy"}]},
            },
        )

    def start(self) -> None:
        for proxy in self.proxies.values():
            proxy.start()
        for proxy in self.proxies.values():
            proxy.wait_serves()
        for node in self.nodes.values():
            node.start()
        self.kernels = {name: Recorder(self.lab[name]) for name in self.nodes}
        self._visitor = Visitor(self.lab, (WEB, API))
        self.wait_at("lb1")

    def wait_at(self, name: str) -> None:
        """The visitor gets all answers from this host, and its kernel alone has the VIPs."""
        other = "lb2" if name == "lb1" else "lb1"

        def there() -> bool:
            served = (self._served_by(vip) for vip in (WEB, API))
            kernels = all(
                self.lab[name].holds(vip) and not self.lab[other].holds(vip) for vip in (WEB, API)
            )
            return all(hosts == {name} for hosts in served) and kernels

        try:
            wait_for(there, PATIENCE_S, f"not served by {name}")
        except TimeoutError as error:
            logs = (node.log.read_text() for node in self.nodes.values())
            raise TimeoutError("\n".join((str(error), *logs))) from None

    def _served_by(self, vip: str) -> set[str]:
        since_ns = now_ns() - int(_STEADY_S * 1e9)
        answers = self._visitor.answers().get(vip, [])
        return {answer.host for answer in answers[-100:] if answer.received_ns >= since_ns}

    def strike(self, fault: Callable[[Proxy], None]) -> dict[str, Move]:
        """Do this to lb1's proxy; what became of each VIP, once lb2 serves both."""
        start_ns = now_ns()
        fault(self.proxies["lb1"])
        self.wait_at("lb2")
        time.sleep(_STEADY_S)
        return {vip: self._move(vip, start_ns) for vip in (WEB, API)}

    def _move(self, vip: str, start_ns: Instant) -> Move:
        removed, *_ = (
            event for event in self.kernels["lb1"].addresses(vip, start_ns) if not event.added
        )
        added, *_ = (event for event in self.kernels["lb2"].addresses(vip, start_ns) if event.added)
        answers = self._visitor.answers()[vip]
        return Move(longest_outage(answers, start_ns, now_ns()), removed.t_ns, added.t_ns)


@contextmanager
def scene(
    make: Callable[[Host], Proxy], url: str, schedule: Schedule | None = None
) -> Iterator[Scene]:
    """Everything runs, and both VIPs are served by lb1."""
    with Lab(("lb1", "lb2")) as lab:
        lab.directory.chmod(0o755)  # the workers of the proxies are not root
        running = Scene(lab, make, url, schedule or Schedule())
        running.start()
        yield running
