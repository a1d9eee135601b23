"""The recipes where operators run them: installed, with systemd, inside the sandbox of vipd's unit.

The sandbox is what makes the difference: read-only files, four capabilities, a filter of system
calls. Each recipe is run by ``systemd-run`` with every such setting of ``etc/vipd.service``, on a
host on which Debian's packages run as services, with their own units and paths.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.rig import (
    ROOT,
    SUITE,
    TREE_PACKAGES,
    Host,
    Rig,
    _digest,
    _made_once,
    debian_mirror,
    run,
    wait_for,
)

pytestmark = [pytest.mark.realroot, pytest.mark.timeout(900)]

PROGRAMS = ("nginx-light", "haproxy", "apache2", "conntrackd")
APPENDED = ("INSTANCE", "web", "MASTER", "150")
SANDBOX = (
    "CapabilityBoundingSet",
    "LockPersonality",
    "NoNewPrivileges",
    "Private",
    "Protect",
    "ReadWritePaths",
    "Restrict",
    "SystemCall",
)

HAPROXY = """
frontend web
  bind 127.0.0.1:8080
  default_backend pool
backend pool
  server a 127.0.0.1:8000
"""
CONNTRACKD = """\
Sync {
  Mode FTFW {
  }
  Multicast {
    IPv4_address 225.0.0.50
    Group 3780
    IPv4_interface 198.51.100.11
    Interface host0
    Checksum on
  }
}
General {
  HashSize 32768
  HashLimit 131072
  LockFile /var/lock/conntrack.lock
  UNIX {
    Path /var/run/conntrackd.ctl
  }
}
"""


def debs() -> Path:
    """The packages of PROGRAMS and everything below them, fetched once."""
    wanted = (*TREE_PACKAGES, *PROGRAMS)
    with _made_once(f"debs-{SUITE}-{_digest(*wanted)}") as (final, unfinished):
        if unfinished:
            run(
                "debootstrap", "--download-only", "--variant=minbase",
                f"--include={','.join(wanted)}", SUITE, unfinished, debian_mirror(),
                timeout_s=600.0,
            )  # fmt: skip
    return final / "var/cache/apt/archives"


def install_programs(host: Host) -> None:
    """Those that the tree does not have yet; their services stay off until they are configured."""
    there = host.run("dpkg-query", "--show", "--showformat=${Package}\n").split()
    target = host.tree / "root/debs"
    target.mkdir()
    for deb in debs().glob("*.deb"):
        if deb.name.split("_")[0] not in there:
            shutil.copy(deb, target)
    host.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
    host.run("chmod", "755", "/usr/sbin/policy-rc.d")
    host.run("sh", "-c", "DEBIAN_FRONTEND=noninteractive dpkg -i /root/debs/*.deb", timeout_s=300)


def start_programs(host: Host) -> None:
    haproxy = (host.tree / "etc/haproxy/haproxy.cfg").read_text()
    host.write("/etc/haproxy/haproxy.cfg", haproxy + HAPROXY)
    host.write("/etc/conntrackd/conntrackd.conf", CONNTRACKD)
    host.write("/etc/apache2/ports.conf", "Listen 8000\n")
    services = ("nginx", "haproxy", "apache2", "conntrackd")
    host.run("systemctl", "restart", *services)


def put_checkout(host: Host) -> None:
    target = host.tree / "root/vipd"
    target.mkdir()
    for name in ("vipd", "etc", "scripts", "pyproject.toml", "README.md"):
        run("cp", "-r", ROOT / name, target / name)


def install(host: Host) -> str:
    return host.run(
        "/root/vipd/scripts/install", "--wheels", "/wheels", "--no-start", timeout_s=300
    )


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Rig() as rig:
        booted = rig.boot("lb1", "198.51.100.11/24")
        install_programs(booted)
        start_programs(booted)
        put_checkout(booted)
        install(booted)
        yield booted


def sandbox() -> list[str]:
    lines = (ROOT / "etc/vipd.service").read_text().splitlines()
    return [f"--property={line}" for line in lines if line.startswith(SANDBOX)]


def recipe(host: Host, name: str, *words: str, status: int = 0, state: str = "MASTER") -> str:
    """Run a recipe as vipd's unit would; what it said."""
    assert len(sandbox()) > 10
    command = (
        "systemd-run", "--quiet", "--wait", "--pipe", "--collect", *sandbox(),
        f"--setenv=VIPD_STATE={state}", "--", f"/etc/vipd/{name}", *words,
    )  # fmt: skip
    output = host.run("sh", "-c", '"$@" 2>&1; echo "status $?"', "sh", *command)
    assert output.endswith(f"status {status}\n"), output
    return output


def hook(host: Host, name: str, *words: str, status: int = 0, state: str = "MASTER") -> str:
    return recipe(host, f"hooks/{name}", *words, *APPENDED, status=status, state=state)


def page(host: Host, url: str) -> str:
    """The status line and the headers, whatever they say; empty if nobody answers."""
    program = (
        "import sys, urllib.request, urllib.error\n"
        "try: print(urllib.request.urlopen(sys.argv[1], timeout=5).headers)\n"
        "except urllib.error.HTTPError as error: print(error.headers)\n"
        "except OSError: pass"
    )
    return host.run("python3", "-c", program, url).strip()


def main_pid(host: Host, unit: str) -> str:
    return host.run("systemctl", "show", "--value", "--property=MainPID", unit).strip()


def test_sandbox_is_one(host: Host) -> None:
    """Else the rest of this file proves nothing."""
    host.write("/root/try", "#!/bin/sh\necho >/var/log/nginx/error.log\n")
    host.run("cp", "/root/try", "/etc/vipd/hooks/try")
    host.run("chmod", "755", "/etc/vipd/hooks/try")
    assert "Read-only file system" in hook(host, "try", status=2)
    host.run("rm", "/etc/vipd/hooks/try")


@pytest.mark.parametrize("action", ["reload", "restart"])
def test_nginx(host: Host, action: str) -> None:
    before = main_pid(host, "nginx")
    host.write("/etc/nginx/conf.d/x.conf", f"add_header X-Told-By {action} always;\n")
    hook(host, "nginx", action)
    wait_for(
        lambda: f"X-Told-By: {action}" in page(host, "http://127.0.0.1/"), "the new configuration"
    )
    assert (main_pid(host, "nginx") == before) is (action == "reload")

    before = main_pid(host, "nginx")
    host.write("/etc/nginx/conf.d/x.conf", "ad_header;\n")
    assert 'unknown directive "ad_header"' in hook(host, "nginx", action, status=1)
    assert page(host, "http://127.0.0.1/") != ""
    assert main_pid(host, "nginx") == before
    host.write("/etc/nginx/conf.d/x.conf", "")


def test_nginx_check(host: Host) -> None:
    assert "nginx: runs" in recipe(host, "checks/nginx")
    host.run("systemctl", "stop", "nginx")
    assert "does not run" in recipe(host, "checks/nginx", status=1)
    hook(host, "nginx", "restart")
    recipe(host, "checks/nginx")


def test_apache(host: Host) -> None:
    before = main_pid(host, "apache2")
    host.write("/etc/apache2/conf-enabled/x.conf", "ServerTokens Prod\n")
    hook(host, "apache", "graceful")
    wait_for(
        lambda: "Server: Apache\n" in page(host, "http://127.0.0.1:8000/"), "the new configuration"
    )
    host.write("/etc/apache2/conf-enabled/x.conf", "ServerTokns Prod\n")
    assert "ServerTokns" in hook(host, "apache", "graceful", status=1)
    assert main_pid(host, "apache2") == before
    assert "Server: Apache\n" in page(host, "http://127.0.0.1:8000/")
    host.write("/etc/apache2/conf-enabled/x.conf", "")


def test_apache_check(host: Host) -> None:
    url = "http://127.0.0.1:8000/server-status?auto"
    assert "1 of 150 workers busy" in recipe(host, "checks/apache", "--url", url)
    host.run("systemctl", "stop", "apache2")
    recipe(host, "checks/apache", "--url", url, status=1)
    assert "graceful" not in hook(host, "apache", "graceful", status=1)
    assert main_pid(host, "apache2") == "0"
    host.run("systemctl", "start", "apache2")
    wait_for(lambda: page(host, "http://127.0.0.1:8000/") != "", "Apache is back")


def test_haproxy(host: Host) -> None:
    recipe(host, "checks/haproxy", "--backend", "pool")
    hook(host, "haproxy", "drain", "pool/a")
    assert "0 of 1 servers up" in recipe(host, "checks/haproxy", "--backend", "pool", status=1)
    hook(host, "haproxy", "ready", "pool/a")
    recipe(host, "checks/haproxy", "--backend", "pool")
    host.run("systemctl", "stop", "haproxy")
    recipe(host, "checks/haproxy", status=1)
    host.run("systemctl", "start", "haproxy")
    wait_for(lambda: page(host, "http://127.0.0.1:8080/") != "", "HAProxy is back")


@pytest.mark.parametrize("state", ["MASTER", "BACKUP", "FAULT"])
def test_conntrackd(host: Host, state: str) -> None:
    assert f"{state} done" in hook(host, "conntrackd", state=state)


def test_conntrackd_that_is_stopped(host: Host) -> None:
    host.run("systemctl", "stop", "conntrackd")
    assert "could not have the table emptied" in hook(host, "conntrackd", state="FAULT", status=1)
    host.run("systemctl", "start", "conntrackd")


def test_webhook_and_heartbeat_start_in_the_sandbox(host: Host) -> None:
    assert "refused" in hook(host, "webhook", "--url", "http://127.0.0.1:9/", status=1)
    words = ("--interface", "host0", "--from", "198.51.100.12", "--within", "100ms")
    assert "nothing from" in recipe(host, "checks/apache-heartbeat", *words, status=1)


# --- installation -----------------------------------------------------------------------------


def test_installed_recipes_are_roots_and_executable(host: Host) -> None:
    for kind in ("hooks", "checks"):
        for path in (ROOT / "etc" / kind).iterdir():
            shown = host.run("stat", "--format=%U:%G %a", f"/etc/vipd/{kind}/{path.name}")
            assert shown == "root:root 755\n"
        assert host.run("stat", "--format=%U %a", f"/etc/vipd/{kind}") == "root 755\n"


def test_installation_again_keeps_what_the_operator_did(host: Host) -> None:
    """Edited: kept, the new version beside it. Deleted: stays away. Untouched: replaced."""
    for name in ("nginx", "apache", "webhook"):
        with open(host.tree / "root/vipd/etc/hooks" / name, "a") as shipped:
            shipped.write("# next version\n")
    host.run("sh", "-c", "echo '# mine' >>/etc/vipd/hooks/nginx; rm /etc/vipd/hooks/apache")

    assert "/etc/vipd/hooks/nginx was edited and stays" in install(host)
    assert host.run("tail", "-n1", "/etc/vipd/hooks/nginx") == "# mine\n"
    assert host.run("tail", "-n1", "/etc/vipd/hooks/nginx.new") == "# next version\n"
    assert host.run("stat", "--format=%a", "/etc/vipd/hooks/nginx.new") == "644\n"
    assert not host.succeeds("test", "-e", "/etc/vipd/hooks/apache")
    assert host.run("tail", "-n1", "/etc/vipd/hooks/webhook") == "# next version\n"

    host.run("cp", "/root/vipd/etc/hooks/nginx", "/etc/vipd/hooks/nginx")
    assert "was edited" not in install(host)
