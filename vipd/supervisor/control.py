"""The control socket: HTTP and JSON on a Unix socket, for this host's root only (mode 0600).

=================================  =============================================================
GET  /status                       the whole node, as ``vipd status --json``
GET  /explain?instance=NAME        status and the newest entries of one instance, or of all
GET  /events?after=ID&since=TIME&limit=N&wait=SECONDS
                                   {"events": [...], "last": ID}: the journal
POST /reload                       read the configuration again; 200 with the plan, 422 with the
                                   faults of a bad file, which changes nothing
=================================  =============================================================
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from vipd.adapters.journal_entry import Query, parse_query
from vipd.errors import AdapterError
from vipd.supervisor.loader import ConfigurationRefused

SOCKET_NAME = "control.sock"
EXPLAINED = 20

HUNG_CLIENT_S = 0.5
"""At the end, a client that does not take its answer is waited for no longer than this."""


class Daemon(Protocol):
    """What the control socket asks of the daemon."""

    async def status(self) -> dict[str, Any]: ...
    async def reload(self) -> tuple[str, ...]: ...
    def happened(self, instance: str, most: int) -> list[dict[str, Any]]: ...
    async def events(self, query: Query, wait_s: float) -> dict[str, Any]: ...


class ControlServer:
    def __init__(self, daemon: Daemon, path: Path) -> None:
        self._daemon = daemon
        self._path = path
        app = web.Application(client_max_size=64 * 1024)
        app.router.add_get("/status", self._status)
        app.router.add_get("/explain", self._explain)
        app.router.add_get("/events", self._events)
        app.router.add_post("/reload", self._reload)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=HUNG_CLIENT_S
        )

    async def start(self) -> None:
        """Listen. A socket file of an earlier run is replaced: we hold the node's name."""
        await self._runner.setup()
        try:
            self._path.unlink(missing_ok=True)
            before = os.umask(0o177)
            try:
                await web.UnixSite(self._runner, str(self._path)).start()
            finally:
                os.umask(before)
        except OSError as error:
            message = f"the control socket {self._path}: {error.strerror}"
            raise AdapterError(message, error.errno or 0) from error

    async def stop(self) -> None:
        await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    async def _status(self, _request: web.Request) -> web.Response:
        return web.json_response(await self._daemon.status())

    async def _explain(self, request: web.Request) -> web.Response:
        status = await self._daemon.status()
        wanted = request.query.get("instance")
        if wanted is not None and wanted not in status["instances"]:
            known = ", ".join(status["instances"])
            return web.json_response(
                {"error": f"no instance {wanted}; there is {known}"}, status=404
            )
        names = [wanted] if wanted is not None else list(status["instances"])
        answer = {
            name: {
                **status["instances"][name],
                "counters": status["counters"][name],
                "history": self._daemon.happened(name, EXPLAINED),
            }
            for name in names
        }
        return web.json_response({"node": status["node"], "instances": answer})

    async def _events(self, request: web.Request) -> web.Response:
        try:
            query, wait_s = parse_query(request.query)
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(await self._daemon.events(query, wait_s))

    async def _reload(self, _request: web.Request) -> web.Response:
        try:
            plan = await self._daemon.reload()
        except ConfigurationRefused as error:
            return web.json_response({"faults": list(error.faults)}, status=422)
        except AdapterError as error:
            return web.json_response({"error": str(error)}, status=500)
        return web.json_response({"plan": list(plan)})
