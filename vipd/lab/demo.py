"""``scripts/demo``: two vipd nodes and a client, live, on this machine.

::

    lb1: master of web 192.0.2.100      lb2: master of api 192.0.2.101      client: asks both VIPs
         backup of api                       backup of web                  1000 times a second

Each node runs vipd and a small HTTP server, the proxy, which its vipd checks ten times a second.
First the nodes speak plain VRRP (``demo_plain.py``), then they are a cluster (``demo_cluster.py``).
Things are done to them, and after each the old order is restored. The timeline is told while it
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
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from vipd.errors import AdapterError
from vipd.lab.demo_cluster import ClusterPart
from vipd.lab.demo_plain import PlainPart
from vipd.lab.hosts import now_ns
from vipd.lab.namespace import ensure_privileges
from vipd.lab.netns import Lab
from vipd.lab.report import STEPS, TABLE, judge, table
from vipd.lab.screen import Screen, plain_table
from vipd.lab.story import Story, Unexpected
from vipd.model import SECOND_NS


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
            its VIP again
cluster     (e) and (f) have the goals of cluster mode as their time: the nodes tell
            each other who takes over, and nobody waits for silence"""


def _perform(screen: Screen, directory: Path) -> list[str]:
    """The whole story; what was not as expected."""
    began_ns = now_ns()
    screen.line(_INTRODUCTION)
    with Lab(("lb1", "lb2")) as lab, screen:
        story = Story(lab, screen)
        try:
            story.start()
            for plan in PlainPart(story).plans():
                story.do(plan)
            in_cluster = ClusterPart(story)
            in_cluster.begin()
            for plan in in_cluster.plans():
                story.do(plan)
            story.finish().write(directory / STEPS)
        finally:
            for host in (*lab.hosts.values(), lab.switch):
                host.keep(directory)
    faults = [*story.faults, *show_table(screen, directory)]
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
