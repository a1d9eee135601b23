"""All checks of the node, and the health vector that they make.

A check is one ``runner.Runner`` with a probe. They share nothing that one of them could hold up:
no lock, no pool of bounded size, no queue. What they do share (threads that grow with the calls
that hang, the table of links, one search of /proc for all who need it) is made when the first
check needs it.

At a reload, a check that is configured as before goes on undisturbed. One that asks the same
question in another rhythm keeps its verdict, so that a new interval moves no mastership. One that
asks another question is a new check, and begins as ``initial`` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from vipd.duties import (
    CheckConfig,
    FileProbe,
    HttpProbe,
    InterfaceProbe,
    PingProbe,
    ProcessProbe,
    ScriptProbe,
    SystemdProbe,
    TcpProbe,
)
from vipd.model import Verdict
from vipd.supervisor.checks.findings import CheckEvent, Probe
from vipd.supervisor.checks.lateness import Lateness
from vipd.supervisor.checks.probe_command import ScriptCheck, SystemdCheck
from vipd.supervisor.checks.probe_host import (
    FileCheck,
    InterfaceCheck,
    LinkTable,
    ProcessCheck,
    ProcessTable,
)
from vipd.supervisor.checks.probe_net import PingCheck, TcpCheck
from vipd.supervisor.checks.runner import Runner
from vipd.supervisor.checks.threads import Threads

__all__ = ["CheckBoard", "CheckEvent"]

_KINDS = {
    ScriptProbe: "script",
    HttpProbe: "http",
    TcpProbe: "tcp",
    PingProbe: "ping",
    ProcessProbe: "process",
    FileProbe: "file",
    InterfaceProbe: "interface",
    SystemdProbe: "systemd",
}


class Workshop:
    """Makes probes, and what they share."""

    def __init__(self) -> None:
        self._threads = Threads(asyncio.get_running_loop())
        self._processes = ProcessTable()
        self._links: LinkTable | None = None
        self._certificates: Any = None

    def make(self, config: CheckConfig, nudge: Callable[[], None]) -> Probe:
        probe = config.probe
        if isinstance(probe, ScriptProbe):
            return ScriptCheck(probe)
        if isinstance(probe, TcpProbe):
            return TcpCheck(probe, self._threads)
        if isinstance(probe, PingProbe):
            return PingCheck(probe)
        if isinstance(probe, ProcessProbe):
            return ProcessCheck(probe, self._processes, nudge)
        if isinstance(probe, FileProbe):
            return FileCheck(probe, self._threads)
        if isinstance(probe, InterfaceProbe):
            return InterfaceCheck(probe, self._open_links, nudge)
        if isinstance(probe, SystemdProbe):
            return SystemdCheck(probe)
        return self._make_http(probe)

    def _make_http(self, probe: HttpProbe) -> Probe:
        from vipd.supervisor.checks.probe_http import Certificates, HttpCheck

        if self._certificates is None:
            self._certificates = Certificates()
        return HttpCheck(probe, self._threads, self._certificates)

    def _open_links(self) -> LinkTable:
        if self._links is None or self._links.failure:
            self._links = LinkTable()
        return self._links

    def close(self) -> None:
        self._threads.close()
        if self._links is not None:
            self._links.close()


class CheckBoard:
    """Inside a running loop. ``changed`` gets the whole vector at every change of it, ``happened``
    each change of one check; both are called from the loop, ``happened`` first.
    """

    def __init__(
        self,
        changed: Callable[[tuple[Verdict, ...]], None],
        happened: Callable[[CheckEvent], None],
    ) -> None:
        self._changed, self._happened = changed, happened
        self._workshop = Workshop()
        self._lateness = Lateness(asyncio.get_running_loop())
        self._runners: dict[str, Runner] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._told: tuple[Verdict, ...] | None = None
        self._stopped = False

    def configure(self, checks: tuple[CheckConfig, ...]) -> None:
        """These checks, from now on."""
        before, self._runners = self._runners, {}
        for config in checks:
            earlier = before.get(config.name)
            if earlier is not None and earlier.config == config:
                self._runners[config.name] = before.pop(config.name)
            else:
                self._runners[config.name] = self._start(config, earlier)
        for runner in before.values():
            task = asyncio.get_running_loop().create_task(runner.stop())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        self._tell()

    def _start(self, config: CheckConfig, earlier: Runner | None) -> Runner:
        nudges: list[Callable[[], None]] = []
        probe = self._workshop.make(config, lambda: nudges[0]())
        asks_the_same = earlier is not None and earlier.config.probe == config.probe
        kept = earlier.judge if earlier is not None and asks_the_same else None
        runner = Runner(config, probe, self._lateness, self._hear, kept)
        nudges.append(runner.nudge)
        return runner

    def _hear(self, event: CheckEvent) -> None:
        self._happened(event)
        self._tell()

    def _tell(self) -> None:
        verdicts = self.verdicts()
        if verdicts != self._told:
            self._told = verdicts
            self._changed(verdicts)

    def verdicts(self) -> tuple[Verdict, ...]:
        """The health vector, in the order of the configuration."""
        return tuple(runner.verdict for runner in self._runners.values())

    def status(self) -> dict[str, dict[str, Any]]:
        return {
            name: runner.status(_KINDS[type(runner.config.probe)])
            for name, runner in self._runners.items()
        }

    def stale(self) -> list[tuple[str, str]]:
        """(name, why) of the checks whose verdict is old although they should have run."""
        found = ((name, runner.stale) for name, runner in self._runners.items())
        return [(name, why) for name, why in found if why is not None]

    async def stop(self) -> None:
        """Every run is cancelled; what a dying script needs for it is waited for, but not long."""
        if self._stopped:
            return
        self._stopped = True
        stops = [runner.stop() for runner in self._runners.values()]
        await asyncio.gather(*stops, *self._ending)
        self._lateness.close()
        self._workshop.close()
