"""The control socket: HTTP and JSON on a Unix socket, for this host's root only (mode 0600).

=================================  =============================================================
GET  /status                       the whole node, as ``vipd status --json``
GET  /explain?instance=NAME        status and the newest entries of one instance, or of all
GET  /events?after=ID&since=TIME&limit=N&wait=SECONDS
                                   {"events": [...], "last": ID}: the journal
POST /maintenance                  {"on": bool, "for_s": seconds or null, "force": bool}
POST /switchover                   {"instance": name, "to": node or null, "auto": bool,
                                   "for_s": seconds or null, "force": bool}; both answer 200 with
                                   what came of it, 409 with why it was refused
POST /reload                       read the configuration again; 200 with the plan, 422 with the
                                   faults of a bad file, which changes nothing
=================================  =============================================================
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Awaitable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from vipd.adapters.journal_entry import Query, parse_query
from vipd.errors import AdapterError
from vipd.supervisor.handover import OrderRefused
from vipd.supervisor.loader import ConfigurationRefused

SOCKET_NAME = "control.sock"
EXPLAINED = 20

HUNG_CLIENT_S = 0.5
"""At the end, a client that does not take its answer is waited for no longer than this."""


ASKER: ContextVar[str] = ContextVar("asker", default="vipd itself")
"""Who asked for what is being done: ``uid 0, pid 4711``; for the journal."""

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid

_SECONDS = int | float | None


class Daemon(Protocol):
    """What the control socket asks of the daemon."""

    async def status(self) -> dict[str, Any]: ...
    async def reload(self) -> tuple[str, ...]: ...
    def happened(self, instance: str, most: int) -> list[dict[str, Any]]: ...
    async def maintenance(self, on: bool, for_s: float | None, force: bool) -> dict[str, Any]: ...
    async def switchover(
        self, name: str, to: str | None, auto: bool, for_s: float | None, force: bool
    ) -> dict[str, Any]: ...
    def end_waiting(self) -> None: ...
    async def events(self, query: Query, wait_s: float) -> dict[str, Any]: ...


class ControlServer:
    def __init__(self, daemon: Daemon, path: Path) -> None:
        self._daemon = daemon
        self._path = path
        app = web.Application(client_max_size=64 * 1024, middlewares=[_remember_asker])
        app.on_shutdown.append(self._end_waiting)
        app.router.add_get("/status", self._status)
        app.router.add_get("/explain", self._explain)
        app.router.add_get("/events", self._events)
        app.router.add_post("/maintenance", self._maintenance)
        app.router.add_post("/switchover", self._switchover)
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

    async def _end_waiting(self, _app: web.Application) -> None:
        self._daemon.end_waiting()

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

    async def _maintenance(self, request: web.Request) -> web.Response:
        wanted = await _json_of(request, {"on": bool, "for_s": _SECONDS, "force": bool})
        return await _obey(self._daemon.maintenance(**wanted))

    async def _switchover(self, request: web.Request) -> web.Response:
        kinds = {"instance": str, "to": str | None, "auto": bool, "for_s": _SECONDS, "force": bool}
        wanted = await _json_of(request, kinds)
        return await _obey(self._daemon.switchover(wanted.pop("instance"), **wanted))

    async def _reload(self, _request: web.Request) -> web.Response:
        try:
            plan = await self._daemon.reload()
        except ConfigurationRefused as error:
            return web.json_response({"faults": list(error.faults)}, status=422)
        except AdapterError as error:
            return web.json_response({"error": str(error)}, status=500)
        return web.json_response({"plan": list(plan)})


@web.middleware
async def _remember_asker(request: web.Request, handler: Handler) -> web.StreamResponse:
    transport = request.transport
    peer = None if transport is None else transport.get_extra_info("socket")
    if peer is not None:
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _gid = _CREDENTIALS.unpack(raw)
        ASKER.set(f"uid {uid}, pid {pid}")
    return await handler(request)


async def _json_of(request: web.Request, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the request's JSON, each of its kind; a missing one is false or null."""
    try:
        given = await request.json()
    except ValueError:
        given = None
    if not isinstance(given, dict) or given.keys() - kinds.keys():
        raise _bad_request(f"a JSON object with {', '.join(kinds)} is wanted")
    wanted = {}
    for name, kind in kinds.items():
        value = given.get(name, False if kind is bool else None)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise _bad_request(f"{name}: {value!r} is no value for it")
        wanted[name] = value
    return wanted


def _bad_request(why: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=json.dumps({"error": why}), content_type="application/json")


async def _obey(work: Awaitable[dict[str, Any]]) -> web.Response:
    try:
        return web.json_response(await work)
    except OrderRefused as refused:
        return web.json_response({"error": str(refused)}, status=409)
