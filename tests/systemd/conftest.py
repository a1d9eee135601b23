"""One installed pair for all tests of this directory: to boot and install takes half a minute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.systemd.pair import CONFIG, DROP_IN, INSTALL, Pair, install_checkout
from tests.systemd.rig import Host, Rig


@pytest.fixture(scope="session")
def installed() -> Iterator[Pair]:
    """Two hosts on which vipd has been installed, without a configuration."""
    with Rig() as rig:
        yield Pair(rig, install_checkout)


@pytest.fixture(scope="session")
def running(installed: Pair) -> Pair:
    """The same hosts with a configuration, installed again: the service runs."""

    def configure(host: Host) -> None:
        host.write("/etc/vipd.yaml", CONFIG)
        host.write("/etc/systemd/system/vipd.service.d/test.conf", DROP_IN)
        host.run(*INSTALL)

    installed.on_both(configure)
    return installed


@pytest.fixture
def pair(running: Pair) -> Iterator[Pair]:
    """The running pair; what a test left otherwise is put right before the next one."""
    yield running
    changed = [h for h in running.hosts if h.run("cat", "/etc/vipd.yaml") != CONFIG]
    for host in changed:
        host.write("/etc/vipd.yaml", CONFIG)
    for host in running.hosts:
        host.run("systemctl", "start", "vipd")
    for host in changed:
        host.run("systemctl", "reload", "vipd")
