"""Probes over the network: ``tcp`` and ``ping``; and how names become addresses."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from functools import partial
from typing import Any, TypeAlias

from vipd.adapters.echo import Echo
from vipd.duties import PingProbe, TcpProbe
from vipd.model import Address, family_of, format_address
from vipd.supervisor.checks.findings import Finding, ProbeFailed, Unjudged, healthy, refusal
from vipd.supervisor.checks.threads import Threads

_Place: TypeAlias = tuple[int, tuple[Any, ...]]
"""Address family, and what ``connect`` takes."""


def _look_up(host: str, port: int, flags: int) -> list[_Place]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _type, _protocol, _name, address in found]


async def resolve(threads: Threads, owner: object, host: str, port: int) -> list[_Place]:
    """Where to connect to. An address costs nothing; a name is looked up in a thread.

    Raises ProbeFailed for a name that there is not.
    """
    with contextlib.suppress(socket.gaierror, UnicodeError):  # then it is a name
        return _look_up(host, port, socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)
    try:
        return await threads.run(owner, partial(_look_up, host, port, 0))
    except (OSError, UnicodeError) as error:  # gaierror is an OSError
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ProbeFailed(f"{host}: {reason}") from error


class TcpCheck:
    """A connection is accepted. It is closed at once, without a word."""

    ends_itself = False

    def __init__(self, config: TcpProbe, threads: Threads) -> None:
        self._config, self._threads = config, threads
        self._loop = asyncio.get_running_loop()

    async def run(self, _timeout_s: float) -> Finding:
        config = self._config
        places = await resolve(self._threads, self, config.host, config.port)
        source = config.source
        if source is not None:
            wanted = socket.AF_INET if len(source) == 4 else socket.AF_INET6
            places = [place for place in places if place[0] == wanted]
            if not places:
                family = family_of(source).value
                raise ProbeFailed(f"{config.host} has no IPv{family} address, as the source is")
        failure: ProbeFailed | Unjudged | None = None
        for place in places:
            try:
                return await self._connect(place, source)
            except OSError as error:
                failure = refusal(_text(place), error)
        raise failure or ProbeFailed(f"{config.host} has no address")

    async def _connect(self, place: _Place, source: Address | None) -> Finding:
        family, address = place
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            if source is not None:
                sock.bind((format_address(source), 0))
            await self._loop.sock_connect(sock, address)
        return healthy(f"{_text(place)} accepts")

    def close(self) -> None:
        """Nothing is held between runs."""


def _text(place: _Place) -> str:
    family, (host, port, *_rest) = place
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"


class PingCheck:
    """One echo request, one reply."""

    ends_itself = False

    def __init__(self, config: PingProbe) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()

    async def run(self, _timeout_s: float) -> Finding:
        text = format_address(self._config.address)
        try:
            echo = Echo(self._config.address, self._config.source)
        except PermissionError as error:
            raise ProbeFailed("a raw socket is refused (needs CAP_NET_RAW)") from error
        except OSError as error:
            raise refusal(text, error) from error
        try:
            began = self._loop.time()
            echo.send()
            await self._answered(echo)
            elapsed_ms = (self._loop.time() - began) * 1000
        except OSError as error:
            raise refusal(text, error) from error
        finally:
            echo.close()
        return healthy(f"{text} answers after {elapsed_ms:.1f} ms")

    async def _answered(self, echo: Echo) -> None:
        """Until the reply has come."""
        answered = self._loop.create_future()

        def read() -> None:
            try:
                if echo.receive() and not answered.done():
                    answered.set_result(None)
            except BlockingIOError:
                pass
            except OSError as error:
                if not answered.done():
                    answered.set_exception(error)

        self._loop.add_reader(echo.sock.fileno(), read)
        try:
            await answered
        finally:
            self._loop.remove_reader(echo.sock.fileno())

    def close(self) -> None:
        """Nothing is held between runs."""
