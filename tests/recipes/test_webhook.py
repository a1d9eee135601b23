"""The webhook, against a web server that remembers what it was sent."""

from __future__ import annotations

import http.server
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recipes.shop import Shop
from vipd.lab.netns import Lab

pytestmark = pytest.mark.realroot

VARIABLES = {
    "VIPD_PREVIOUS": "BACKUP",
    "VIPD_REASON": 'master "lb2" is silent; $(touch /pwned)',
    "VIPD_VIPS": "192.0.2.100/24 2001:db8::100/64",
    "VIPD_NODE": "lb1",
    "VIPD_MASTER": "192.0.2.11",
    "VIPD_SEQUENCE": "7",
}


class Service:
    """Answers ``status`` to every POST."""

    def __init__(self, lab: Lab, certificate: Path | None = None) -> None:
        self.status = 200
        self.answers = True
        self.heard: list[tuple[dict[str, str], dict[str, str]]] = []
        self.release = threading.Event()
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.heard.append((dict(self.headers), json.loads(body)))
                if not service.answers:
                    service.release.wait()
                self.send_response(service.status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        with lab["lb1"].namespace.inside():
            self.server = http.server.ThreadingHTTPServer(("", 8080), Handler)
        if certificate:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,)).start()

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service(lab: Lab) -> Iterator[Service]:
    running = Service(lab)
    yield running
    running.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate for 127.0.0.1 that nobody has signed."""
    path = tmp_path / "service.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "2", "-subj", "/CN=service",
            "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", path, "-out", tmp_path / "certificate.pem",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + (tmp_path / "certificate.pem").read_text())
    return path


@pytest.fixture
def tls_service(lab: Lab, certificate: Path) -> Iterator[Service]:
    running = Service(lab, certificate)
    yield running
    running.close()


URL = "http://127.0.0.1:8080/vipd"


def token(shop: Shop, mode: int = 0o600) -> Path:
    path = shop.file("headers", "Authorization: Bearer s3cr3t\nX-Team: edge\n")
    path.chmod(mode)
    return path


def test_body_is_the_environment(shop: Shop, service: Service) -> None:
    done = shop.hook("webhook", "--url", URL, state="MASTER", **VARIABLES)
    assert (done.status, done.output) == (0, f"webhook: {URL} answered 200\n")
    ((headers, body),) = service.heard
    assert headers["Content-Type"] == "application/json"
    assert body == {
        "kind": "INSTANCE",
        "instance": "web",
        "state": "MASTER",
        "priority": "150",
        **{name.removeprefix("VIPD_").lower(): value for name, value in VARIABLES.items()},
    }


@pytest.mark.parametrize("status", [302, 307, 400, 401, 500])
def test_answer_that_is_not_2xx_is_a_failure_and_redirects_are_not_followed(
    shop: Shop, service: Service, status: int
) -> None:
    service.status = status
    done = shop.hook("webhook", "--url", URL)
    assert (done.status, f"answered {status}" in done.output) == (1, True)
    assert len(service.heard) == 1


def test_service_that_does_not_answer_is_given_up(shop: Shop, service: Service) -> None:
    service.answers = False
    done = shop.hook("webhook", "--url", URL, "--timeout", "200ms")
    assert (done.status, "timed out" in done.output) == (1, True)


def test_service_that_is_not_there_is_a_failure(shop: Shop) -> None:
    done = shop.hook("webhook", "--url", URL)
    assert (done.status, "refused" in done.output) == (1, True)


def test_headers_come_from_a_file(shop: Shop, service: Service) -> None:
    done = shop.hook("webhook", "--url", URL, "--headers", token(shop))
    assert done.status == 0
    headers, _ = service.heard[0]
    assert (headers["Authorization"], headers["X-Team"]) == ("Bearer s3cr3t", "edge")
    assert "s3cr3t" not in done.output


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_headers_that_others_can_read_are_refused(shop: Shop, service: Service, mode: int) -> None:
    done = shop.hook("webhook", "--url", URL, "--headers", token(shop, mode))
    assert (done.status, "chmod 600" in done.output) == (2, True)
    assert service.heard == []


def test_headers_do_not_travel_in_clear_text(lab: Lab, shop: Shop, service: Service) -> None:
    url = f"http://{lab['lb1'].ipv4}:8080/vipd"
    done = shop.hook("webhook", "--url", url, "--headers", token(shop))
    assert (done.status, "clear text" in done.output) == (2, True)
    assert service.heard == []
    assert shop.hook("webhook", "--url", url).status == 0


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/", "127.0.0.1:8080"])
def test_other_schemes_are_refused(shop: Shop, url: str) -> None:
    done = shop.hook("webhook", "--url", url)
    assert (done.status, "no http:// or https:// URL" in done.output) == (2, True)


def test_certificate_must_be_one_that_is_trusted(
    shop: Shop, tls_service: Service, certificate: Path
) -> None:
    url = URL.replace("http:", "https:")
    done = shop.hook("webhook", "--url", url)
    assert (done.status, "CERTIFICATE_VERIFY_FAILED" in done.output) == (1, True)
    done = shop.hook("webhook", "--url", url, "--ca", certificate, "--headers", token(shop))
    assert done.status == 0, done.output
    assert tls_service.heard[0][0]["Authorization"] == "Bearer s3cr3t"
