"""Groups on real daemons: two routers on two networks, one mastership (QUORUM H5).

``web`` is on eth0, ``api`` on eth1, both in the group ``edge``; lb1 has 150, lb2 100.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemon.rig import MS, PATIENCE_S, Daemon, Recorder, Wire, router, sleep_ms
from vipd.lab.hosts import INTERFACE, SECOND_INTERFACE, now_ns, wait_for
from vipd.lab.netns import Direction, Lab, second_port
from vipd.lab.peers import Keepalived, Router, Speaker

pytestmark = pytest.mark.netns

WEB, API = "192.0.2.100", "198.51.100.100"
INTERVAL_MS = 100
DOWN_MS = 4 * INTERVAL_MS
"""Longer than any silence that makes a backup of these routers master."""


def group_node(
    lab: Lab, name: str, preempt: bool = True, notify: dict[str, dict[str, str]] | None = None
) -> Daemon:
    """``notify``: instance or group -> its hooks."""
    hooks = {key: {"notify": value} for key, value in (notify or {}).items()}
    priority = {"lb1": 150, "lb2": 100}[name]
    web, api = (
        router(priority, (f"{vip}/24",), INTERVAL_MS, vrid=vrid, preempt=preempt)
        for vip, vrid in ((WEB, 51), (API, 52))
    )
    edge = {"instances": ["web", "api"], **hooks.get("edge", {})}
    return Daemon(
        lab[name],
        web,
        {"groups": {"edge": edge}},
        [("api", api)],
        {"web": hooks.get("web", {}), "api": {"interface": "eth1"} | hooks.get("api", {})},
    )


@contextmanager
def networks() -> Iterator[Lab]:
    with Lab(["lb1", "lb2"]) as lab:
        lab.add_network()
        yield lab


@contextmanager
def group_pair(preempt: bool = True) -> Iterator[tuple[Lab, Daemon, Daemon]]:
    """lb1 is master of the group, lb2 its backup."""
    with networks() as lab:
        one, two = (group_node(lab, name, preempt) for name in ("lb1", "lb2"))
        one.start()
        one.wait_ready()
        wait_at(one)
        two.start()
        two.wait_ready()
        two.wait_state("BACKUP", "api")
        wait_at(one, two)
        yield lab, one, two


def held(speaker: Speaker) -> list[str]:
    """The VIPs that a host has, and where."""
    addresses = speaker.host.addresses()
    return sorted(entry.interface for entry in addresses if entry.address in (WEB, API))


def wait_at(holder: Speaker, *others: Speaker) -> None:
    """All VIPs on one host, each on its interface, and none on the others."""

    def there() -> bool:
        alone = not any(held(other) for other in others)
        return alone and held(holder) == [INTERFACE, SECOND_INTERFACE]

    what = f"the group is not on {holder.host.name}"
    try:
        wait_for(there, PATIENCE_S, what)
    except TimeoutError as error:
        logs = [speaker.log.read_text() for speaker in (holder, *others)]
        raise TimeoutError("\n".join((str(error), *logs))) from None


def states(daemon: Daemon) -> tuple[str, str]:
    return daemon.state("web"), daemon.state("api")


@pytest.mark.parametrize("network", [0, 1])
def test_the_link_of_one_member_moves_all(network: int) -> None:
    with group_pair() as (lab, one, two):
        wire = Wire(lab)
        kernels = Recorder(one.host), Recorder(two.host)
        start_ns = now_ns()
        lab.link_down(("lb1", second_port("lb1"))[network])
        wait_at(two, one)
        one.wait_state("FAULT", "web")
        assert states(one) == ("FAULT", "FAULT")
        assert states(two) == ("MASTER", "MASTER")
        # the member whose network works says goodbye, after the last address is gone
        port, vrid = ((second_port("lb1"), 52), ("lb1", 51))[network]
        goodbyes = [a for a in wire.adverts(port, start_ns) if a.priority == 0]
        assert {goodbye.vrid for goodbye in goodbyes} == {vrid}
        gone = max(e.t_ns for e in kernels[0].addresses(since_ns=start_ns) if not e.added)
        came = min(e.t_ns for e in kernels[1].addresses(since_ns=start_ns) if e.added)
        assert gone < came
        assert came - start_ns < 1500 * MS
        lab.link_up(("lb1", second_port("lb1"))[network])
        wait_at(one, two)
        two.wait_state("BACKUP", "api")
        assert states(one) == ("MASTER", "MASTER")
        assert states(two) == ("BACKUP", "BACKUP")


@pytest.mark.parametrize("network", [0, 1])
def test_a_master_that_is_heard_on_one_network_is_alive(network: int) -> None:
    with group_pair() as (lab, one, two):
        kernel, start_ns = Recorder(two.host), now_ns()
        lost, other = ("lb1", second_port("lb1"))[:: -1 if network else 1]
        lab.cut(lost, Direction.OUT)
        sleep_ms(3 * DOWN_MS)
        assert states(two) == ("BACKUP", "BACKUP")
        assert kernel.addresses(since_ns=start_ns) == []
        wait_at(one, two)
        lab.cut(other, Direction.OUT)  # now it is heard on none: both take the VIPs, as VRRP does
        wait_at(two)
        lab.heal(lost)  # and one network is enough to make the lower one give way on both
        wait_at(one, two)
        lab.heal(other)
        sleep_ms(DOWN_MS)
        wait_at(one, two)
        assert states(two) == ("BACKUP", "BACKUP")


@pytest.mark.parametrize("preempt", [True, False])
def test_preemption_is_of_the_group(preempt: bool) -> None:
    with group_pair(preempt) as (_lab, one, two):
        one.stop()
        one.wait()
        wait_at(two, one)
        kernel, start_ns = Recorder(two.host), now_ns()
        one.start()
        one.wait_ready()
        if preempt:
            wait_at(one, two)
        else:
            one.wait_state("BACKUP", "api")
            sleep_ms(3 * DOWN_MS)
            wait_at(two, one)
            # not for a moment
            assert [event for event in kernel.addresses(since_ns=start_ns) if not event.added] == []


@pytest.mark.realroot  # in a user namespace / is not root's, and so no hook is safe
def test_hooks_of_the_members_come_first_and_each_once() -> None:
    folder = Path(tempfile.mkdtemp(prefix="vipd-test-", dir="/run"))  # root's own, as hooks must be
    try:
        folder.chmod(0o755)
        hook = folder / "hook"
        hook.write_text(f'#!/bin/sh\necho "$VIPD_NODE $*" >>{folder}/log\n')
        hook.chmod(0o755)
        _check_hooks(hook, folder / "log")
    finally:
        shutil.rmtree(folder)


def _check_hooks(hook: Path, log: Path) -> None:
    notify = {name: {"any": str(hook)} for name in ("web", "api", "edge")}
    with networks() as lab:
        one, two = (group_node(lab, name, notify=notify) for name in ("lb1", "lb2"))
        for daemon in (one, two):
            daemon.start()
            daemon.wait_ready()
        wait_at(one, two)

        def runs(node: str, *wanted: Sequence[str]) -> None:
            """The hooks of a node so far: of each state and priority the three in their order."""
            expected = [
                f"{node} {who} {state} {priority}"
                for state, priority in wanted
                for who in ("INSTANCE web", "INSTANCE api", "GROUP edge")
            ]

            def seen() -> list[str]:
                lines = log.read_text().splitlines() if log.exists() else []
                return [line for line in lines if line.startswith(f"{node} ")]

            wait_for(lambda: len(seen()) >= len(expected), PATIENCE_S, f"{expected}, not {seen()}")
            assert seen() == expected

        runs("lb1", ("BACKUP", "150"), ("MASTER", "150"))
        runs("lb2", ("BACKUP", "100"))
        lab.link_down(second_port("lb1"))
        wait_at(two, one)
        runs("lb1", ("BACKUP", "150"), ("MASTER", "150"), ("FAULT", "150"))
        runs("lb2", ("BACKUP", "100"), ("MASTER", "100"))


# --- keepalived's sync group as the peer ------------------------------------------------------


class SyncGroup(Keepalived):
    """keepalived with the same two routers, in a sync group."""

    def __init__(self, lab: Lab, name: str, priority: int) -> None:
        super().__init__(lab[name], Router((f"{WEB}/24",), priority, interval_ms=INTERVAL_MS))

    def _configuration(self) -> str:
        instances = "\n".join(
            f"vrrp_instance {name} {{\ninterface {interface}\nstate BACKUP\n"
            f"virtual_router_id {vrid}\npriority {self.router.priority}\n"
            f"advert_int {INTERVAL_MS / 1000:g}\nvirtual_ipaddress {{\n{vip}/24\n}}\n}}"
            for name, interface, vrid, vip in (
                ("web", INTERFACE, 51, WEB),
                ("api", SECOND_INTERFACE, 52, API),
            )
        )
        group = "vrrp_sync_group edge {\ngroup {\nweb\napi\n}\n}"
        return f"global_defs {{\nvrrp_version 3\n}}\n{group}\n{instances}\n"


@pytest.mark.interop
def test_a_group_of_vipd_and_a_sync_group_of_keepalived_take_turns() -> None:
    with networks() as lab:
        one, two = group_node(lab, "lb1"), SyncGroup(lab, "lb2", 100)
        for speaker in (one, two):
            speaker.start()
            speaker.wait_ready()
        wait_at(one, two)
        lab.link_down(second_port("lb1"))
        wait_at(two, one)
        assert states(one) == ("FAULT", "FAULT")
        lab.link_up(second_port("lb1"))
        wait_at(one, two)
        one.stop()
        one.wait()
        wait_at(two, one)
        one.start()
        one.wait_ready()
        wait_at(one, two)


@pytest.mark.interop
def test_vipd_is_the_backup_of_a_sync_group() -> None:
    with networks() as lab:
        one, two = SyncGroup(lab, "lb1", 150), group_node(lab, "lb2")
        for speaker in (one, two):
            speaker.start()
            speaker.wait_ready()
        wait_at(one, two)
        lab.link_down(second_port("lb1"))
        wait_at(two, one)
        lab.link_up(second_port("lb1"))
        wait_at(one, two)
        assert states(two) == ("BACKUP", "BACKUP")
