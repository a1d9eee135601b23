"""``scripts/demo``: two vipd nodes and a client, live, on this machine and in a minute.

::

    lb1: master of web 192.0.2.100      lb2: master of api 192.0.2.101      client: asks both VIPs
         backup of api                       backup of web                  1000 times a second

Each node runs vipd and a small HTTP server, the proxy, which its vipd checks ten times a second.
Then (a) lb1's vipd is stopped, (b) everything of lb2's vipd is killed, (c) lb1 is cut off the
network, (d) lb2's proxy dies; after each the old order is restored. The timeline is told while it
happens; the table at the end is computed by ``report.py`` from the client's log and the switch's
capture, and from them again at any time (``--from``).

The two routers differ in their advert interval, so that both ends of VRRP are seen: web has the
RFC's default of 1 s, api is quicker. Exit status: 0 all as expected, 1 not, 2 bad usage.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.text import Text

from vipd.errors import AdapterError
from vipd.lab.hosts import now_ns, wait_for
from vipd.lab.namespace import ensure_privileges
from vipd.lab.netns import Lab
from vipd.lab.peers import Router, VipdNode
from vipd.lab.phase import better_is_next
from vipd.lab.report import FRAMES, STEPS, TABLE, Run, Step, Watched, judge, table
from vipd.lab.screen import Screen, plain_table
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
_WEB = Router(("192.0.2.100/24",), _LOW, vrid=51, interval_ms=1000)
_API = Router(("192.0.2.101/24",), _LOW, vrid=52, interval_ms=200)
ROUTERS = {"web": _WEB, "api": _API}
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
_NOTICED_NS = (_CHECK_MS + _CHECK_TIMEOUT_MS) * MILLISECOND_NS
_TRACK = {"track": [{"check": "proxy"}]}  # without a weight: no proxy, no mastership

_START_LIMIT_S = 20.0
_STEP_LIMIT_S = 15.0
_PAUSE_NS = 20 * MILLISECOND_NS
_STYLES = {Mood.PLAIN: "", Mood.BAD: "red", Mood.GOOD: "green"}
_COLOURS = {"lb1": "cyan", "lb2": "magenta"}


class Unexpected(Exception):
    """The demo cannot go on: something that every later step needs did not happen."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """A step before it is done: ``moves`` says which router goes where, within which time."""

    title: str
    act: Callable[[], None]
    moves: Mapping[str, str]
    allowed: Mapping[str, Duration] = field(default_factory=dict)
    cut: tuple[str, ...] = ()
    until: Callable[[], bool] = lambda: True


def _priority(router: str, host: str) -> int:
    return _HIGH if HOME[router] == host else _LOW


class Demo:
    """The running pair, its watchers, and what has been done so far."""

    def __init__(self, lab: Lab, screen: Screen) -> None:
        self._lab = lab
        self._screen = screen
        self._steps: list[Step] = []
        self._holders = dict(HOME)
        self._began_ns = now_ns()
        self._doing = ""
        self._told_clean = False
        self.faults: list[str] = []
        self.nodes = {name: self._node(name) for name in ("lb1", "lb2")}

    def _node(self, name: str) -> VipdNode:
        (first, *others) = (
            (router_name, replace(router, priority=_priority(router_name, name)))
            for router_name, router in ROUTERS.items()
        )
        more = dict.fromkeys(ROUTERS, _TRACK)
        return VipdNode(self._lab[name], first[1], _CHECKS, others, more)

    # --- what a reader sees -------------------------------------------------------------------

    def say(self, text: str, style: str = "bold") -> None:
        """A headline, at the instant it is said."""
        self._screen.line()
        stamp = f"{(now_ns() - self._began_ns) / SECOND_NS:7.3f} s  "
        self._screen.line(Text(stamp, style="dim") + Text(text, style=style))

    def _tell_facts(self, until_ns: Instant | None = None) -> None:
        for fact in self._timeline.due(until_ns):
            stamp = f"{(fact.t_ns - self._began_ns) / SECOND_NS:7.3f} s  "
            source = f"  {fact.source.value:<6}  "
            body = Text(fact.text, style=_STYLES[fact.mood])
            self._screen.line(Text(stamp + source, style="dim") + body)

    def _show_now(self) -> None:
        line = Text(f"{(now_ns() - self._began_ns) / SECOND_NS:7.1f} s  ", style="dim")
        for name, router in ROUTERS.items():
            host = self._timeline.client.serving.get(router.addresses[0])
            dot = Text("● ", style=_COLOURS[host]) if host else Text("○ ", style="red")
            line += Text(f"{name} ") + dot + Text(f"{host or 'nobody':<8}")
        self._screen.now(line + Text(self._doing, style="italic"))

    def _watch(self, condition: Callable[[], bool], timeout_s: float) -> bool:
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
        self._proxies = {name: start_server(self._lab[name]) for name in self.nodes}
        self._capture = Capture(self._lab, name=FRAMES)
        vips = {router.addresses[0]: name for name, router in ROUTERS.items()}
        self._client = Client(self._lab, list(vips))
        wire = WireFollower(self._capture.path, self._lab.clock_offset_ns, ROUTERS)
        self._timeline = Timeline(ClientFollower(self._client.path, vips), wire)
        self.say("start vipd on lb1 and lb2")
        self._doing = "waiting for the first election"
        for node in self.nodes.values():
            node.start()
        if not self._watch(self._all_at_home, _START_LIMIT_S):
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
        return self._timeline.served_steadily(ROUTERS[router].addresses[0], host, settle_ns)

    def _tell_http(self) -> None:
        for name, router in ROUTERS.items():
            vip = router.addresses[0]
            body = probe_http(self._lab.client, vip)
            mood = Mood.GOOD if body == self._holders[name] else Mood.BAD
            text = f"{name}: GET http://{vip}/ -> {body or 'no answer'}"
            self._timeline.add([Fact(now_ns(), Source.CLIENT, text, mood)])
        asked_ns = now_ns()
        self._watch(lambda: now_ns() > asked_ns + LAG_NS + _PAUSE_NS, 1)

    def do(self, plan: _Plan) -> None:
        """One step, watched until the VIPs that move have arrived, or clearly never will."""
        start_ns = now_ns()
        self.say(plan.title)
        self._doing = plan.title.strip()
        plan.act()
        self._holders.update(plan.moves)

        def done() -> bool:
            arrived = [self._settled(router, host) for router, host in plan.moves.items()]
            return all(arrived) and plan.until()

        if not self._watch(done, _STEP_LIMIT_S):
            self.faults.append(f"{plan.title.strip()}: not done after {_STEP_LIMIT_S:g} s")
        end_ns = now_ns()
        holders, allowed = dict(self._holders), dict(plan.allowed)
        self._steps.append(Step(plan.title, start_ns, end_ns, holders, allowed, plan.cut))
        self._tell_http()

    def plans(self) -> tuple[_Plan, ...]:
        """(a) to (d), and the way back from each."""
        one, two = self.nodes["lb1"], self.nodes["lb2"]
        to_lb1, to_lb2 = {"web": "lb1"}, {"web": "lb2"}
        web_ns, api_ns = _WEB.master_down_ns, _API.master_down_ns
        return (
            _Plan("(a) stop vipd on lb1", one.stop, to_lb2, {"web": _WEB.skew_ns}),
            _Plan("    start it again", one.start, to_lb1),
            _Plan(
                "(b) kill -9 vipd on lb2",
                two.kill,
                {"api": "lb1"},
                {"api": api_ns},
                until=self._dead_lb2_is_clean,
            ),
            _Plan("    start it again", two.start, {"api": "lb2"}),
            _Plan("(c) cut off lb1", self._cut, to_lb2, {"web": web_ns}, cut=("lb1",)),
            _Plan("    connect it again", self._connect, to_lb1),
            _Plan(
                "(d) the proxy dies on lb2",
                self._kill_proxy,
                {"api": "lb1"},
                {"api": _NOTICED_NS + _API.skew_ns},
            ),
            _Plan("    start it again", self._start_proxy, {"api": "lb2"}),
        )

    def _dead_lb2_is_clean(self) -> bool:
        """Nobody is left to remove lb2's VIP: its kernel does, when the lifetime is over."""
        if self.nodes["lb2"].holds_any():
            return False
        if not self._told_clean:
            self._told_clean = True
            text = f"api: lb2's kernel has dropped {_API.addresses[0]} (end of its lifetime)"
            self._timeline.add([Fact(now_ns(), Source.KERNEL, text, Mood.GOOD)])
        return True

    def _cut(self) -> None:
        self._lab.detach("lb1")

    def _connect(self) -> None:
        """At the worst moment: lb1 is heard first, and lb2 yields before lb1 has heard of it.

        Only lb2's last advert tells lb1 that it had a rival and must announce its VIP again.
        """
        wire, vrid, interval_ns = self._timeline.wire, _WEB.vrid, _WEB.interval_ns

        def lb1_is_next() -> bool:
            one_ns, two_ns = (wire.last_advert_ns(name, vrid) for name in ("lb1", "lb2"))
            return better_is_next(one_ns, two_ns, interval_ns, now_ns())

        self._watch(lb1_is_next, 2 * interval_ns / SECOND_NS)
        self._lab.attach("lb1")

    def _kill_proxy(self) -> None:
        """What a crash of a proxy is: vipd and its host are well, nobody serves."""
        proxy = self._proxies["lb2"]
        proxy.kill()
        proxy.wait()

    def _start_proxy(self) -> None:
        self._proxies["lb2"] = start_server(self._lab["lb2"])

    def finish(self) -> Run:
        """End the watchers, so that their files are complete; what was done."""
        self._client.stop()
        self._capture.stop()
        self._timeline.client.close()
        watched = tuple(
            Watched(name, router.addresses[0], router.vrid, router.interval_ns)
            for name, router in ROUTERS.items()
        )
        return Run(self._lab.clock_offset_ns, watched, tuple(self._steps))


# --- the program ------------------------------------------------------------------------------


def show_table(screen: Screen, directory: Path) -> tuple[str, ...]:
    """Compute, show and write the table; the faults found."""
    rows = judge(directory)
    heads, cells = table(rows)
    screen.line()
    screen.table(heads, cells)
    (directory / TABLE).write_text(plain_table(heads, cells) + "\n", encoding="utf-8")
    return tuple(fault for row in rows for fault in row.faults)


_INTRODUCTION = """\
Two load balancers on one switch, each with vipd and a proxy (a small HTTP server),
which its vipd checks every 100 ms. A client asks both VIPs 1000 times a second.
"client" is what it saw, "wire" what the switch saw.

  web  192.0.2.100   advert every 1 s      home lb1 (priority 150), lb2 has 100
  api  192.0.2.101   advert every 200 ms   home lb2 (priority 150), lb1 has 100"""
_FOOTNOTES = """
outage      longest time without an answer, seen by the client; a few ms are the
            machine's own
allowed     what VRRP itself takes (RFC 9568): the skew time after a goodbye, the
            master down interval after silence; in (d) before it what the check
            takes: its interval and its timeout. After kill -9 the address outlives
            its daemon until its lifetime ends, so that users need not notice
cut off     lb1 goes on as master, unheard: plain VRRP cannot know. When it is back,
            lb2 gives way to its priority, with a last advert that makes lb1 announce
            its VIP again"""


def _perform(screen: Screen, directory: Path) -> list[str]:
    """The whole story; what was not as expected."""
    began_ns = now_ns()
    screen.line(_INTRODUCTION)
    with Lab(("lb1", "lb2")) as lab, screen:
        demo = Demo(lab, screen)
        try:
            demo.start()
            for plan in demo.plans():
                demo.do(plan)
            demo.finish().write(directory / STEPS)
        finally:
            for host in (*lab.hosts.values(), lab.switch):
                host.keep(directory)
    faults = [*demo.faults, *show_table(screen, directory)]
    screen.line(_FOOTNOTES)
    screen.line(
        f"{(now_ns() - began_ns) / SECOND_NS:.0f} s in all; the lab is gone, with all its processes"
    )
    return faults


def _report(screen: Screen, faults: Sequence[str]) -> int:
    for fault in faults:
        screen.line(Text(f"NOT AS EXPECTED: {fault}", style="bold red"))
    return 1 if faults else 0


def _run(options: argparse.Namespace) -> int:
    screen = Screen()
    if options.recompute:
        return _report(screen, show_table(screen, options.recompute))
    ensure_privileges()
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        status = _report(screen, _perform(screen, options.out))
        screen.line(
            f"the files are in {options.out}; scripts/demo --from {options.out} repeats the table"
        )
        return status
    with tempfile.TemporaryDirectory(prefix="vipd-demo-") as directory:
        return _report(screen, _perform(screen, Path(directory)))


def main() -> int:
    """Run the demo, or repeat the table of an earlier one."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="keep the client's log, the capture and the table"
    )
    parser.add_argument(
        "--from",
        type=Path,
        metavar="DIR",
        dest="recompute",
        help="compute the table from kept files again; runs nothing",
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return _run(parser.parse_args())
    except (Unexpected, AdapterError) as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
