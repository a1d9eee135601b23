"""A demo while it runs: the pair, who watches it, and the steps that were done.

The story is told as it happens, by ``timeline.py``; what is judged at the end are the files that
the watchers leave, and the list of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from rich.text import Text

from vipd.lab.hosts import now_ns, wait_for
from vipd.lab.netns import Lab
from vipd.lab.peers import Router, VipdNode
from vipd.lab.report import FRAMES, Run, Step, Watched
from vipd.lab.screen import Screen
from vipd.lab.timeline import (
    LAG_NS,
    ClientFollower,
    Fact,
    Mood,
    Source,
    Timeline,
    WireFollower,
)
from vipd.lab.tools import Capture, Client, probe_http, start_server
from vipd.model import MILLISECOND_NS, SECOND_NS, Duration, Instant

_HIGH, _LOW = 150, 100
WEB = Router(("192.0.2.100/24",), _LOW, vrid=51, interval_ms=1000)
API = Router(("192.0.2.101/24",), _LOW, vrid=52, interval_ms=200)
ROUTERS = {"web": WEB, "api": API}
HOME = {"web": "lb1", "api": "lb2"}
_CHECK_MS, _CHECK_TIMEOUT_MS = 100, 200
_CHECKS: dict[str, object] = {
    "checks": {
        "proxy": {
            "http": "http://127.0.0.1/",
            "interval": f"{_CHECK_MS}ms",
            "timeout": f"{_CHECK_TIMEOUT_MS}ms",
            "fall": 1,
        }
    }
}
NOTICED_NS = (_CHECK_MS + _CHECK_TIMEOUT_MS) * MILLISECOND_NS
_TRACK = {"track": [{"check": "proxy"}]}  # without a weight: no proxy, no mastership

_START_LIMIT_S = 20.0
_STEP_LIMIT_S = 15.0
_PAUSE_NS = 20 * MILLISECOND_NS
_STYLES = {Mood.PLAIN: "", Mood.BAD: "red", Mood.GOOD: "green"}
_COLOURS = {"lb1": "cyan", "lb2": "magenta"}


class Unexpected(Exception):
    """The demo cannot go on: something that every later step needs did not happen."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A step before it is done: ``moves`` says which router goes where, within which time."""

    title: str
    act: Callable[[], None]
    moves: Mapping[str, str]
    allowed: Mapping[str, Duration] = field(default_factory=dict)
    cut: tuple[str, ...] = ()
    until: Callable[[], bool] = lambda: True
    then: Callable[[], None] = lambda: None  # shown once it is done


def _priority(router: str, host: str) -> int:
    return _HIGH if HOME[router] == host else _LOW


class Story:
    """The running pair, its watchers, and what has been done so far."""

    def __init__(self, lab: Lab, screen: Screen) -> None:
        self.lab = lab
        self._screen = screen
        self._steps: list[Step] = []
        self._holders = dict(HOME)
        self._began_ns = now_ns()
        self._doing = ""
        self.faults: list[str] = []
        self.nodes = {name: self._node(name) for name in ("lb1", "lb2")}

    def _node(self, name: str) -> VipdNode:
        (first, *others) = (
            (router_name, replace(router, priority=_priority(router_name, name)))
            for router_name, router in ROUTERS.items()
        )
        more = dict.fromkeys(ROUTERS, _TRACK)
        return VipdNode(self.lab[name], first[1], _CHECKS, others, more)

    # --- what a reader sees -------------------------------------------------------------------

    def say(self, text: str, style: str = "bold") -> None:
        """A headline, at the instant it is said."""
        self._screen.line()
        stamp = f"{(now_ns() - self._began_ns) / SECOND_NS:7.3f} s  "
        self._screen.line(Text(stamp, style="dim") + Text(text, style=style))

    def told(self, text: str) -> None:
        """What a command of vipd said, as it said it."""
        self._screen.line()
        for line in text.splitlines():
            self._screen.line(f"    {line}")

    def show_cluster(self, node: str) -> None:
        """What ``vipd status`` on a node says of the cluster; what it says of the node is left."""
        said = self.nodes[node].cli("status", check=False)
        _, head, rest = said.stdout.partition("cluster ")
        shown = (head + rest).partition("\non this node")[0].rstrip() if head else said.stderr
        self.told(f"{node}$ vipd status\n{shown}")

    def _tell_facts(self, until_ns: Instant | None = None) -> None:
        for fact in self.timeline.due(until_ns):
            stamp = f"{(fact.t_ns - self._began_ns) / SECOND_NS:7.3f} s  "
            source = f"  {fact.source.value:<6}  "
            body = Text(fact.text, style=_STYLES[fact.mood])
            self._screen.line(Text(stamp + source, style="dim") + body)

    def _show_now(self) -> None:
        line = Text(f"{(now_ns() - self._began_ns) / SECOND_NS:7.1f} s  ", style="dim")
        for name, router in ROUTERS.items():
            host = self.timeline.client.serving.get(router.addresses[0])
            dot = Text("● ", style=_COLOURS[host]) if host else Text("○ ", style="red")
            line += Text(f"{name} ") + dot + Text(f"{host or 'nobody':<8}")
        self._screen.now(line + Text(self._doing, style="italic"))

    def watch(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Tell the story until the condition holds; False if it never did."""

        def told() -> bool:
            self._tell_facts()
            self._show_now()
            return condition()

        try:
            wait_for(told, timeout_s, "")
        except TimeoutError:
            return False
        return True

    # --- the story ----------------------------------------------------------------------------

    def start(self) -> None:
        """Servers, capture, client, both nodes; returns when each node has its VIP."""
        self.proxies = {name: start_server(self.lab[name]) for name in self.nodes}
        self._capture = Capture(self.lab, name=FRAMES)
        vips = {router.addresses[0]: name for name, router in ROUTERS.items()}
        self._client = Client(self.lab, list(vips))
        wire = WireFollower(self._capture.path, self.lab.clock_offset_ns, ROUTERS)
        self.timeline = Timeline(ClientFollower(self._client.path, vips), wire)
        self.say("start vipd on lb1 and lb2")
        for node in self.nodes.values():
            node.start()
        self.wait_home()

    def wait_home(self) -> None:
        """Both daemons were started: until each has its VIP. Raises Unexpected."""
        self._doing = "waiting for the first election"
        if not self.watch(self._all_at_home, _START_LIMIT_S):
            raise Unexpected("the nodes never shared the VIPs as configured")
        self._tell_http()

    def _all_at_home(self) -> bool:
        for node in self.nodes.values():
            if node.process.poll() is not None:
                raise Unexpected(f"vipd on {node.host.name} ended: {node.log.read_text()}")
        return all(self._settled(router, host) for router, host in HOME.items())

    def _settled(self, router: str, host: str) -> bool:
        """Long enough for the last word of the old master to leave the judge's window."""
        settle_ns = ROUTERS[router].interval_ns * 3 // 2 + 200 * MILLISECOND_NS
        return self.timeline.served_steadily(ROUTERS[router].addresses[0], host, settle_ns)

    def _tell_http(self) -> None:
        for name, router in ROUTERS.items():
            vip = router.addresses[0]
            body = probe_http(self.lab.client, vip)
            mood = Mood.GOOD if body == self._holders[name] else Mood.BAD
            text = f"{name}: GET http://{vip}/ -> {body or 'no answer'}"
            self.timeline.add([Fact(now_ns(), Source.CLIENT, text, mood)])
        asked_ns = now_ns()
        self.watch(lambda: now_ns() > asked_ns + LAG_NS + _PAUSE_NS, 1)

    def do(self, plan: Plan) -> None:
        """One step, watched until the VIPs that move have arrived, or clearly never will."""
        start_ns = now_ns()
        self.say(plan.title)
        self._doing = plan.title.strip()
        plan.act()
        self._holders.update(plan.moves)

        def done() -> bool:
            arrived = [self._settled(router, host) for router, host in plan.moves.items()]
            return all(arrived) and plan.until()

        if not self.watch(done, _STEP_LIMIT_S):
            self.faults.append(f"{plan.title.strip()}: not done after {_STEP_LIMIT_S:g} s")
        end_ns = now_ns()
        holders, allowed = dict(self._holders), dict(plan.allowed)
        self._steps.append(Step(plan.title, start_ns, end_ns, holders, allowed, plan.cut))
        self._tell_http()
        plan.then()

    def finish(self) -> Run:
        """End the watchers, so that their files are complete; what was done."""
        self._client.stop()
        self._capture.stop()
        self.timeline.client.close()
        watched = tuple(
            Watched(name, router.addresses[0], router.vrid, router.interval_ns)
            for name, router in ROUTERS.items()
        )
        return Run(self.lab.clock_offset_ns, watched, tuple(self._steps))
