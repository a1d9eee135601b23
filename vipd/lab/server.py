"""What stands behind a VIP in the lab: a UDP echo and a small HTTP server that say their name.

The echo answers *from the address that was asked* (IP_PKTINFO): a client socket connected to a
VIP accepts no other. It is bound to the wildcard address and runs on every host all the time, so
it answers for a VIP exactly as long as the kernel accepts packets for it.
"""

from __future__ import annotations

import argparse
import http.server
import selectors
import signal
import socket
import sys
import threading

from vipd.lab.urgent import hurry

UDP_PORT = 7007
HTTP_PORT = 80
_PKTINFO_LEVELS = {
    socket.AF_INET: (socket.IPPROTO_IP, 8, 8),  # IP_PKTINFO, absent from Python 3.11's socket
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, socket.IPV6_PKTINFO),
}
_PKTINFO_BYTES = 20


def _echo_socket(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    level, ask, _ = _PKTINFO_LEVELS[family]
    sock.setsockopt(level, ask, 1)
    sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", UDP_PORT))
    return sock


def _reply_control(family: int, level: int, kind: int, data: bytes) -> tuple[int, int, bytes]:
    """The control message that makes the reply leave from the address asked."""
    if family == socket.AF_INET:
        # in_pktinfo: the received one names the address in its last field, a sent one in spec_dst
        data = data[:4] + data[8:12] + bytes(4)
    return (level, kind, data)


def _echo(sock: socket.socket, name: bytes) -> None:
    """Answer everything that waits: the probe, then this host's name."""
    level, _, kind = _PKTINFO_LEVELS[sock.family]
    while True:
        try:
            probe, controls, _, peer = sock.recvmsg(256, socket.CMSG_SPACE(_PKTINFO_BYTES))
        except BlockingIOError:
            return
        pktinfo = next(data for at, what, data in controls if (at, what) == (level, kind))
        control = _reply_control(sock.family, level, kind, pktinfo)
        try:
            sock.sendmsg([probe, name], [control], 0, peer)
        except OSError:
            continue  # the VIP left between question and answer: no answer


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _HttpServer

    def do_GET(self) -> None:
        body = self.server.host_name.encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: a demo makes many requests."""


class _HttpServer(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

    def __init__(self, host_name: str, port: int) -> None:
        self.host_name = host_name
        super().__init__(("::", port), _Handler)

    def server_bind(self) -> None:
        # started again, it finds connections of its earlier life in TIME_WAIT
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(self.server_address)  # without the name look-up of the base class


def main() -> int:
    """``server NAME``; runs until it is killed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name")
    parser.add_argument("--http-port", type=int, default=HTTP_PORT)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    web = _HttpServer(options.name, options.http_port)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    hurry()  # the echo, not the web
    name = options.name.encode()
    with selectors.DefaultSelector() as selector:
        for family in _PKTINFO_LEVELS:
            selector.register(_echo_socket(family), selectors.EVENT_READ)
        print("ready", flush=True)  # noqa: T201
        while True:
            for key, _ in selector.select():
                _echo(key.fileobj, name)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
