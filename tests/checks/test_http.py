"""The http probe against a small server of our own, plain, with TLS, and on a Unix socket."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.checks.rig import config
from vipd.duties import HttpProbe
from vipd.supervisor.checks.board import Workshop
from vipd.supervisor.checks.findings import ProbeFailed, Word
from vipd.supervisor.checks.probe_http import BODY_LIMIT


class Server:
    """Gives one answer to every request, and keeps the requests."""

    def __init__(self, *answers: bytes, reads: bool = True, pause_after: int = 0) -> None:
        self._reads, self._pause_after = reads, pause_after
        self._answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.names: list[str | None] = []  # what TLS clients asked for

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self._reads:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            answers = self._answers
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if self._pause_after:
                writer.write(answer[: self._pause_after])
                await writer.drain()
                await asyncio.sleep(0.05)
            writer.write(answer[self._pause_after :])
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the client went away, as it may
        finally:
            writer.close()

    @asynccontextmanager
    async def listening(
        self, tls: ssl.SSLContext | None = None, path: Path | None = None
    ) -> AsyncIterator[int]:
        if tls is not None:
            tls.sni_callback = lambda _sock, name, _context: self.names.append(name)
        if path is None:
            server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=tls)
        else:
            server = await asyncio.start_unix_server(self.serve, str(path), ssl=tls)
        try:
            yield 0 if path else server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await server.wait_closed()


def answer(status: str = "200 OK", body: bytes = b"ok", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def ask(
    server: Server,
    make: Callable[[int], HttpProbe],
    runs: int = 1,
    tls: ssl.SSLContext | None = None,
    path: Path | None = None,
) -> str:
    """The detail, after "healthy: " or "failed: "."""

    async def main() -> str:
        workshop = Workshop()
        async with server.listening(tls, path) as port:
            check = workshop.make(config(probe=make(port)), lambda: None)
            said = ""
            for _ in range(runs):
                try:
                    finding = await asyncio.wait_for(check.run(5), 5)
                    assert finding.word is Word.HEALTHY
                    said = f"healthy: {finding.detail}"
                except ProbeFailed as failure:
                    said = f"failed: {failure}"
            check.close()
        workshop.close()
        await asyncio.sleep(0)
        return said

    return asyncio.run(main())


def plain(port: int) -> HttpProbe:
    return HttpProbe(f"http://127.0.0.1:{port}/health?deep=1")


def test_the_request_and_a_good_answer() -> None:
    server = Server(answer())
    assert ask(server, plain) == "healthy: answered 200 OK"
    lines = server.requests[0].decode().split("\r\n")
    assert lines[0] == "GET /health?deep=1 HTTP/1.1"
    assert any(line.startswith("Host: 127.0.0.1:") for line in lines)
    assert any(line.startswith("User-Agent: vipd/") for line in lines)


def test_each_run_is_a_connection_of_its_own() -> None:
    server = Server(answer())
    ask(server, plain, runs=3)
    assert server.connections == 3


def test_a_name_in_the_url() -> None:
    said = ask(Server(answer()), lambda port: HttpProbe(f"http://localhost:{port}/"))
    assert said == "healthy: answered 200 OK"


@pytest.mark.parametrize(
    ("status", "statuses", "healthy"),
    [
        ("200 OK", ((200, 200),), True),
        ("204 No Content", ((200, 200),), False),
        ("204 No Content", ((200, 299),), True),
        ("302 Found", ((200, 299), (300, 399)), True),
        ("500 Oops", ((200, 299),), False),
        ("418", ((418, 418),), True),
    ],
)
def test_status_ranges(status: str, statuses: tuple[tuple[int, int], ...], healthy: bool) -> None:
    said = ask(
        Server(answer(status, b"")),
        lambda port: HttpProbe(f"http://127.0.0.1:{port}/", statuses=statuses),
    )
    assert said == f"{'healthy' if healthy else 'failed'}: answered {status}"


def test_a_redirect_is_an_answer_and_not_followed() -> None:
    server = Server(answer("302 Found", Location="/other"))
    assert ask(server, plain) == "failed: answered 302 Found"
    assert server.connections == 1


def test_method_headers_and_host() -> None:
    server = Server(answer(body=b""))

    def make(port: int) -> HttpProbe:
        return HttpProbe(
            f"http://127.0.0.1:{port}/", method="HEAD", headers={"X-Key": "k"}, host="www.example"
        )

    assert ask(server, make).startswith("healthy")
    request = server.requests[0].decode()
    assert request.startswith("HEAD / ")
    assert "X-Key: k\r\n" in request
    assert "Host: www.example\r\n" in request
    assert request.count("Host: ") == 1


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"status: ready\n", True),
        (b"status: starting\n", False),
        (b"x" * (BODY_LIMIT - 5) + b"ready", True),
        (b"x" * (BODY_LIMIT - 4) + b"ready", False),
        (b"\xff\xfe ready", True),
    ],
)
def test_the_body_is_searched_within_its_first_64_kib(body: bytes, found: bool) -> None:
    def make(port: int) -> HttpProbe:
        return HttpProbe(f"http://127.0.0.1:{port}/", body="rea.y")

    said = ask(Server(answer(body=body)), make)
    if found:
        assert said == "healthy: answered 200 OK"
    else:
        assert said == "failed: answered 200 OK, but the body has no 'rea.y'"


def test_the_limit_holds_for_a_body_that_comes_in_pieces() -> None:
    body = b"x" * (BODY_LIMIT + 100) + b"ready" + b"x" * 1000
    server = Server(answer(body=body), pause_after=1000)

    def make(port: int) -> HttpProbe:
        return HttpProbe(f"http://127.0.0.1:{port}/", body="ready")

    assert ask(server, make).startswith("failed: answered 200 OK, but the body has no")


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        bytes(range(256)) * 64,
    ],
)
def test_no_answer_is_strange_enough_to_be_more_than_a_failure(garbage: bytes) -> None:
    def make(port: int) -> HttpProbe:
        return HttpProbe(f"http://127.0.0.1:{port}/", body="ready")

    said = ask(Server(garbage), make)
    assert said.startswith("failed: ")
    assert "unexpected" not in said


def test_refused_and_absent() -> None:
    async def main(probe: HttpProbe) -> str:
        workshop = Workshop()
        with pytest.raises(ProbeFailed) as caught:
            await workshop.make(config(probe=probe), lambda: None).run(5)
        workshop.close()
        return str(caught.value)

    assert asyncio.run(main(HttpProbe("http://127.0.0.1:1/"))) == "127.0.0.1:1: Connection refused"
    absent = HttpProbe("http://localhost/", unix_socket="/nowhere/sock")
    assert asyncio.run(main(absent)) == "/nowhere/sock: No such file or directory"
    nobody = asyncio.run(main(HttpProbe("http://does.not.exist.invalid/")))
    assert nobody.startswith("does.not.exist.invalid: ")


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    server = Server(answer())

    def make(_port: int) -> HttpProbe:
        return HttpProbe("http://localhost/health", unix_socket=str(path), host="www.example")

    assert ask(server, make, path=path) == "healthy: answered 200 OK"
    assert b"Host: www.example\r\n" in server.requests[0]


# --- TLS --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Self-signed, for www.example only."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        f" -subj /CN=www.example -addext subjectAltName=DNS:www.example -keyout {key} -out {cert}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return key, cert


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    key, cert = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def https(port: int) -> str:
    return f"https://127.0.0.1:{port}/"


def test_tls_is_verified(tls: ssl.SSLContext) -> None:
    said = ask(Server(answer()), lambda port: HttpProbe(https(port)), tls=tls)
    assert said.startswith("failed: certificate refused: self")


def test_tls_without_verification(tls: ssl.SSLContext) -> None:
    said = ask(Server(answer()), lambda port: HttpProbe(https(port), verify=False), tls=tls)
    assert said == "healthy: answered 200 OK"


def test_tls_with_a_ca_file_and_the_host_as_server_name(
    tls: ssl.SSLContext, certificate: tuple[Path, Path]
) -> None:
    ca_file = str(certificate[1])
    server = Server(answer())

    def make(port: int) -> HttpProbe:
        return HttpProbe(https(port), ca_file=ca_file, host="www.example:8443")

    assert ask(server, make, tls=tls) == "healthy: answered 200 OK"
    assert server.names == ["www.example"]
    assert b"Host: www.example:8443\r\n" in server.requests[0]
    other = ask(Server(answer()), lambda port: HttpProbe(https(port), ca_file=ca_file), tls=tls)
    assert other.startswith("failed: certificate refused: IP address mismatch")


def test_a_renewed_ca_file_is_read_again(
    tls: ssl.SSLContext, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    ca_file = tmp_path / "ca.pem"
    other = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    subprocess.run(
        [*other.split(), "-subj", "/CN=other", "-keyout", "/dev/null", "-out", str(ca_file)],
        check=True,
        capture_output=True,
    )

    async def main() -> list[str]:
        workshop = Workshop()
        said = []
        async with Server(answer()).listening(tls) as port:
            probe = HttpProbe(https(port), ca_file=str(ca_file), host="www.example")
            check = workshop.make(config(probe=probe), lambda: None)
            for _ in range(2):
                try:
                    said.append((await check.run(5)).detail)
                except ProbeFailed as failure:
                    said.append(str(failure))
                ca_file.write_bytes(certificate[1].read_bytes())
        workshop.close()
        return said

    refused, accepted = asyncio.run(main())
    assert "certificate refused" in refused
    assert accepted == "answered 200 OK"


def test_a_ca_file_that_there_is_not(tls: ssl.SSLContext) -> None:
    def make(port: int) -> HttpProbe:
        return HttpProbe(https(port), ca_file="/nowhere/ca.pem")

    assert ask(Server(answer()), make, tls=tls) == (
        "failed: /nowhere/ca.pem: No such file or directory"
    )


def test_plain_http_where_tls_is_asked_for() -> None:
    server = Server(answer("400 Bad Request"), reads=False)
    said = ask(server, lambda port: HttpProbe(https(port), verify=False))
    assert said == "failed: TLS: wrong version number"
