"""Debian's nginx, HAProxy and Apache on a host of the lab, in the foreground, each page its name.

They listen on port 80 of every address: a VIP that comes later is served without a restart.
"""

from __future__ import annotations

import signal
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from vipd.lab.hosts import Host, descendants, kill_tree, signal_all, wait_for
from vipd.lab.tools import probe_http

PATIENCE_S = 15.0


class Proxy(ABC):
    """Not running until ``start``."""

    name = ""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Write the configuration; the command line that runs on it in the foreground."""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.name} on {self.host.name} was never started")
        return self._process

    def start(self) -> None:
        self._process = self.host.spawn(self.command(), f"{self.name}.log")

    def wait_serves(self) -> None:
        def serves() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError((self.host.directory / f"{self.name}.log").read_text())
            return probe_http(self.host, self.host.ipv4) == self.host.name

        wait_for(serves, PATIENCE_S, f"{self.name} on {self.host.name} does not serve")

    def stop(self) -> None:
        """SIGTERM, as a service manager sends it."""
        self.process.terminate()

    def kill(self) -> None:
        """SIGKILL to all of its processes: nginx's workers would go on without their master."""
        kill_tree(self.process.pid)

    def freeze(self) -> None:
        """The kernel goes on accepting connections; nobody answers."""
        signal_all(descendants(self.process.pid), signal.SIGSTOP)

    def thaw(self) -> None:
        signal_all(reversed(descendants(self.process.pid)), signal.SIGCONT)

    def restart(self) -> None:
        """After its end, whatever that was."""
        self.process.wait(PATIENCE_S)
        self.start()

    def _write(self, name: str, text: str) -> Path:
        path = self.host.directory / name
        path.write_text(text)
        return path


class Nginx(Proxy):
    name = "nginx"

    def command(self) -> list[str]:
        folder = self.host.directory
        config = self._write(
            "nginx.conf",
            f"daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx-error.log;\n"
            "user www-data;\nworker_processes 2;\nevents { worker_connections 512; }\n"
            "http { access_log off; server { listen 80 default_server;\n"
            f'location / {{ return 200 "{self.host.name}"; }} }} }}\n',
        )
        return ["nginx", "-c", str(config)]


class HaProxy(Proxy):
    """A frontend that passes everything on to a server behind it."""

    name = "haproxy"

    def command(self) -> list[str]:
        config = self._write(
            "haproxy.cfg",
            "global\n  user haproxy\n  group haproxy\n"
            "defaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n"
            "  timeout server 5s\n"
            "frontend web\n  bind :80\n  default_backend pool\n"
            "frontend origin\n  bind 127.0.0.1:8081\n"
            f"  http-request return status 200 content-type text/plain string {self.host.name}\n"
            "backend pool\n  server origin 127.0.0.1:8081\n",
        )
        return ["haproxy", "-db", "-f", str(config)]


class Apache(Proxy):
    name = "apache2"

    def command(self) -> list[str]:
        folder, modules = self.host.directory, "/usr/lib/apache2/modules"
        pages = folder / "pages"
        pages.mkdir(exist_ok=True)
        (pages / "index.html").write_text(self.host.name)
        config = self._write(
            "apache2.conf",
            f"ServerRoot {folder}\nServerName localhost\nPidFile {folder}/apache2.pid\n"
            f"ErrorLog {folder}/apache2-error.log\nMutex file:{folder} default\nListen 80\n"
            "User www-data\nGroup www-data\n"
            f"LoadModule mpm_event_module {modules}/mod_mpm_event.so\n"
            f"LoadModule authz_core_module {modules}/mod_authz_core.so\n"
            f"LoadModule dir_module {modules}/mod_dir.so\n"
            f"DocumentRoot {pages}\nDirectoryIndex index.html\n",
        )
        # a host that lost its processes at once has their pid file still
        (folder / "apache2.pid").unlink(missing_ok=True)
        return ["apache2", "-f", str(config), "-DFOREGROUND"]
