"""The second part of the demo: the same pair in cluster mode, where the nodes also talk.

(e) the engine of lb1's vipd is killed: its supervisor cleans up and names lb2 at once, and the next
engine, which is the better one, asks for its VIP back. (f) `vipd switchover` moves web to lb2 and
keeps it there until it is ended. `vipd status` on one node shows both.
"""

from __future__ import annotations

import os
import signal
from functools import partial

from vipd.lab.cluster import Cluster
from vipd.lab.hosts import now_ns
from vipd.lab.story import WEB, Plan, Story, Unexpected
from vipd.model import MILLISECOND_NS, Instant

_KILLED_NS, _PLANNED_NS = 60 * MILLISECOND_NS, 15 * MILLISECOND_NS


class ClusterPart:
    """What is done to the pair of a story, once it is a cluster."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._killed_ns: Instant = 0

    def begin(self) -> None:
        """Both are stopped and started: cluster mode is not for one node alone."""
        story = self._story
        story.say("the same pair in cluster mode: stop both, add the cluster section, start them")
        cluster = Cluster([node.host for node in story.nodes.values()])
        for node in story.nodes.values():
            node.stop()
        for node in story.nodes.values():
            node.wait()
            node.join(cluster)
            node.start()
        story.wait_home()
        story.show_cluster("lb2")

    def plans(self) -> tuple[Plan, ...]:
        """(e) and (f), and the way back."""
        return (
            Plan(
                "(e) kill -9 the engine of lb1's vipd; its next engine takes web back",
                self._kill_engine,
                {"web": "lb1"},
                {"web": _KILLED_NS},
                until=self._was_away,
            ),
            Plan(
                "(f) vipd switchover web --to lb2",
                partial(self._order, "--to", "lb2"),
                {"web": "lb2"},
                {"web": _PLANNED_NS},
                then=partial(self._story.show_cluster, "lb1"),
            ),
            Plan(
                "    vipd switchover web --auto, on lb2",
                partial(self._order, "--auto", on="lb2"),
                {"web": "lb1"},
                {"web": _PLANNED_NS},
            ),
        )

    def _kill_engine(self) -> None:
        pid = self._story.nodes["lb1"].engine_pid()
        if pid == 0:
            raise Unexpected("lb1 has no engine")
        self._killed_ns = now_ns()
        os.kill(pid, signal.SIGKILL)

    def _was_away(self) -> bool:
        """lb1 serves web again, and not still."""
        since = self._story.timeline.client.serving_since
        return since[WEB.addresses[0]] > self._killed_ns

    def _order(self, *options: str, on: str = "lb1") -> None:
        done = self._story.nodes[on].cli("switchover", "web", *options, check=False)
        self._story.told(f"{on}: {(done.stdout + done.stderr).strip()}")
