"""The first part of the demo, plain VRRP: what moves a VIP when nodes hear adverts only.

(a) lb1's vipd is stopped, (b) everything of lb2's vipd is killed, (c) lb1 is cut off the network,
(d) lb2's proxy dies; after each the old order is restored.
"""

from __future__ import annotations

from vipd.lab.hosts import now_ns
from vipd.lab.phase import better_is_next
from vipd.lab.story import API, NOTICED_NS, WEB, Plan, Story
from vipd.lab.timeline import Fact, Mood, Source
from vipd.lab.tools import start_server
from vipd.model import SECOND_NS


class PlainPart:
    """What is done to the pair of a story."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._told_clean = False

    def plans(self) -> tuple[Plan, ...]:
        """(a) to (d), and the way back from each."""
        one, two = self._story.nodes["lb1"], self._story.nodes["lb2"]
        to_lb1, to_lb2 = {"web": "lb1"}, {"web": "lb2"}
        web_ns, api_ns = WEB.master_down_ns, API.master_down_ns
        return (
            Plan("(a) stop vipd on lb1", one.stop, to_lb2, {"web": WEB.skew_ns}),
            Plan("    start it again", one.start, to_lb1),
            Plan(
                "(b) kill -9 vipd on lb2",
                two.kill,
                {"api": "lb1"},
                {"api": api_ns},
                until=self._dead_lb2_is_clean,
            ),
            Plan("    start it again", two.start, {"api": "lb2"}),
            Plan("(c) cut off lb1", self._cut, to_lb2, {"web": web_ns}, cut=("lb1",)),
            Plan("    connect it again", self._connect, to_lb1),
            Plan(
                "(d) the proxy dies on lb2",
                self._kill_proxy,
                {"api": "lb1"},
                {"api": NOTICED_NS + API.skew_ns},
            ),
            Plan("    start it again", self._start_proxy, {"api": "lb2"}),
        )

    def _dead_lb2_is_clean(self) -> bool:
        """Nobody is left to remove lb2's VIP: its kernel does, when the lifetime is over."""
        if self._story.nodes["lb2"].holds_any():
            return False
        if not self._told_clean:
            self._told_clean = True
            text = f"api: lb2's kernel has dropped {API.addresses[0]} (end of its lifetime)"
            self._story.timeline.add([Fact(now_ns(), Source.KERNEL, text, Mood.GOOD)])
        return True

    def _cut(self) -> None:
        self._story.lab.detach("lb1")

    def _connect(self) -> None:
        """At the worst moment: lb1 is heard first, and lb2 yields before lb1 has heard of it.

        Only lb2's last advert tells lb1 that it had a rival and must announce its VIP again.
        """
        wire, vrid, interval_ns = self._story.timeline.wire, WEB.vrid, WEB.interval_ns

        def lb1_is_next() -> bool:
            one_ns, two_ns = (wire.last_advert_ns(name, vrid) for name in ("lb1", "lb2"))
            return better_is_next(one_ns, two_ns, interval_ns, now_ns())

        self._story.watch(lb1_is_next, 2 * interval_ns / SECOND_NS)
        self._story.lab.attach("lb1")

    def _kill_proxy(self) -> None:
        """What a crash of a proxy is: vipd and its host are well, nobody serves."""
        proxy = self._story.proxies["lb2"]
        proxy.kill()
        proxy.wait()

    def _start_proxy(self) -> None:
        self._story.proxies["lb2"] = start_server(self._story.lab["lb2"])
