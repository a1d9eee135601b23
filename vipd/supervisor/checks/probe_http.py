"""The ``http`` probe, by aiohttp's client.

Each run is a connection of its own: a kept one would prove that the server once accepted, and not
that it does. Redirects are answers, and not followed: what they lead to is another service's
health. No proxy of the environment is used, no cookie kept, nothing decompressed.

At most 64 KiB of the body are read, and only if something is searched in it.
"""

from __future__ import annotations

import re
import socket
import ssl

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from vipd import __version__
from vipd.duties import HttpProbe
from vipd.supervisor.checks.findings import (
    Finding,
    ProbeFailed,
    healthy,
    one_line,
    refusal,
)
from vipd.supervisor.checks.probe_net import resolve
from vipd.supervisor.checks.threads import Threads

BODY_LIMIT = 64 * 1024


class Certificates:
    """TLS contexts by file of certificates: loading the system's takes 20 ms and a megabyte."""

    def __init__(self) -> None:
        self._contexts: dict[str | None, ssl.SSLContext] = {}

    async def context(self, threads: Threads, ca_file: str | None) -> ssl.SSLContext:
        found = self._contexts.get(ca_file)
        if found is None:
            found = await threads.run(
                (self, ca_file), lambda: ssl.create_default_context(cafile=ca_file)
            )
            self._contexts[ca_file] = found
        return found

    def forget(self, ca_file: str | None) -> None:
        """A certificate was refused: perhaps the file is another by now."""
        self._contexts.pop(ca_file, None)


class _Resolver(AbstractResolver):
    """aiohttp's own would use asyncio's pool, in which hanging names starve all others."""

    def __init__(self, threads: Threads, owner: object) -> None:
        self._threads, self._owner = threads, owner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, address in await resolve(self._threads, self._owner, host, port)
            if family in (socket.AF_UNSPEC, kind)
        ]

    async def close(self) -> None:
        """Nothing is held."""


class HttpCheck:
    ends_itself = False

    def __init__(self, config: HttpProbe, threads: Threads, certificates: Certificates) -> None:
        self._config, self._threads, self._certificates = config, threads, certificates
        self._headers = {
            "User-Agent": f"vipd/{__version__}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            **config.headers,
        }
        if config.host is not None:
            self._headers["Host"] = config.host

    async def run(self, _timeout_s: float) -> Finding:
        config = self._config
        try:
            return await self._ask(await self._tls())
        except aiohttp.ClientConnectorCertificateError as error:
            self._certificates.forget(config.ca_file)
            raise ProbeFailed(f"certificate refused: {_reason(error.certificate_error)}") from error
        except aiohttp.ClientSSLError as error:
            self._certificates.forget(config.ca_file)
            raise ProbeFailed(f"TLS: {_reason(error.os_error)}") from error
        except aiohttp.ClientConnectorError as error:
            raise refusal(config.unix_socket or _authority(config.url), error.os_error) from error
        except aiohttp.ServerDisconnectedError as error:
            raise ProbeFailed("the connection was closed without an answer") from error
        except aiohttp.InvalidURL as error:
            raise ProbeFailed(f"{config.url} is no URL") from error
        except aiohttp.ClientError as error:
            raise ProbeFailed(f"no proper answer: {_reason(error)}") from error
        except OSError as error:
            raise refusal(config.ca_file or "", error) from error

    async def _tls(self) -> ssl.SSLContext | bool:
        config = self._config
        if not config.url.lower().startswith("https:"):
            return True
        if not config.verify:
            return False
        return await self._certificates.context(self._threads, config.ca_file)

    def _connector(self) -> aiohttp.BaseConnector:
        if self._config.unix_socket is not None:
            return aiohttp.UnixConnector(self._config.unix_socket)
        resolver = _Resolver(self._threads, self)
        return aiohttp.TCPConnector(use_dns_cache=False, resolver=resolver)

    async def _ask(self, tls: ssl.SSLContext | bool) -> Finding:
        config = self._config
        session = aiohttp.ClientSession(
            connector=self._connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # the runner's business
            auto_decompress=False,
        )
        async with (
            session,
            session.request(
                config.method,
                config.url,
                headers=self._headers,
                allow_redirects=False,
                ssl=tls,
                server_hostname=_server_name(config),
            ) as response,
        ):
            said = f"{response.status} {response.reason or ''}".strip()
            if not any(low <= response.status <= high for low, high in config.statuses):
                raise ProbeFailed(f"answered {said}")
            if config.body is not None:
                body = await _beginning(response)
                if re.search(config.body, body) is None:
                    raise ProbeFailed(f"answered {said}, but the body has no {config.body!r}")
            return healthy(f"answered {one_line(said)}")

    def close(self) -> None:
        """Nothing is held between runs."""


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """The first 64 KiB of the body; what is no UTF-8 is replaced."""
    parts, size = [], 0
    while size < BODY_LIMIT:
        part = await response.content.read(BODY_LIMIT - size)
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts).decode("utf-8", "replace")


def _server_name(config: HttpProbe) -> str | None:
    """The name for TLS: ``host`` without a port."""
    if config.host is None or not config.url.lower().startswith("https:"):
        return None
    if config.host.startswith("["):
        return config.host[1:].partition("]")[0]
    return config.host.partition(":")[0]


def _authority(url: str) -> str:
    return url.partition("//")[2].partition("/")[0]


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return one_line(str(error)) or type(error).__name__
