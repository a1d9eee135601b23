"""The lab itself: it builds, its faults are the faults they claim to be, it leaves nothing."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vipd.lab.hosts import Host, descendants, kill_tree, wait_for
from vipd.lab.namespace import Namespace
from vipd.lab.netns import Direction, Lab, second_port
from vipd.lab.reaper import members

pytestmark = pytest.mark.netns


def _pings(host: Host, address: str, count: int = 1) -> int:
    """How many of ``count`` pings were answered."""
    argv = ["ping", "-n", "-q", "-c", str(count), "-i", "0.002", "-W", "0.3", address]
    output = host.run(argv, check=False).stdout
    return int(output.split("packets transmitted, ")[1].split()[0])


@pytest.mark.parametrize("address", ["192.0.2.12", "2001:db8::12", "fe80::12%eth0"])
def test_hosts_reach_one_another(lab: Lab, address: str) -> None:
    assert _pings(lab["lb1"], address) == 1
    assert _pings(lab.client, address) == 1


def test_addresses_are_told_by_the_kernel(lab: Lab) -> None:
    lifetime = ["valid_lft", "9", "preferred_lft", "9"]
    lab["lb1"].run(["ip", "addr", "add", "192.0.2.100/32", "dev", "eth0", *lifetime])
    (vip,) = [entry for entry in lab["lb1"].addresses() if entry.address == "192.0.2.100"]
    assert (vip.interface, vip.prefix) == ("eth0", 32)
    assert 1 <= vip.lifetime_s <= 9
    assert lab["lb1"].holds("192.0.2.100")
    assert not lab["lb2"].holds("192.0.2.100")


def test_a_cut_host_is_unreachable_and_sees_its_carrier(lab: Lab) -> None:
    monitor = lab["lb1"].spawn(["ip", "monitor", "link"], "link-events.log")
    lab.cut("lb1")
    assert _pings(lab.client, "192.0.2.11") == 0
    assert _pings(lab["lb1"], "192.0.2.12") == 0
    assert _pings(lab.client, "192.0.2.12") == 1
    assert lab["lb1"].has_carrier()
    lab.heal("lb1")
    # the client's ARP asks again once a second only
    wait_for(lambda: _pings(lab.client, "192.0.2.11") == 1, 5, "no answer after the healing")
    monitor.terminate()
    monitor.wait(5)
    assert (lab["lb1"].directory / "link-events.log").read_text() == ""


@pytest.mark.parametrize("direction", [Direction.IN, Direction.OUT])
def test_a_one_way_cut_lets_the_other_way_pass(lab: Lab, direction: Direction) -> None:
    with (
        lab["lb1"].socket(socket.AF_INET, socket.SOCK_DGRAM) as near,
        lab["lb2"].socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
    ):
        for sock, host in ((near, "lb1"), (far, "lb2")):
            sock.bind((lab[host].ipv4, 9000))
            sock.settimeout(0.3)
        _pings(lab["lb1"], "192.0.2.12")  # neighbours known: the datagrams need no answer
        lab.cut("lb1", direction)
        sender, receiver = (near, far) if direction is Direction.IN else (far, near)
        sender.sendto(b"passes", receiver.getsockname())
        assert receiver.recv(16) == b"passes"
        receiver.sendto(b"dropped", sender.getsockname())
        with pytest.raises(TimeoutError):
            sender.recv(16)


def test_loss_is_about_what_was_asked(lab: Lab) -> None:
    assert _pings(lab.client, "192.0.2.11") == 1  # neighbours known: a lost ARP costs a second
    lab.loss("lb1", 30)
    answered = _pings(lab.client, "192.0.2.11", count=400)
    # there and back: 0.7 * 0.7 of 400 is 196, standard deviation 10
    assert 140 < answered < 250


def test_only_link_down_takes_the_carrier(lab: Lab) -> None:
    lab.link_down("lb1")
    assert not lab["lb1"].has_carrier()
    lab.link_up("lb1")
    assert lab["lb1"].has_carrier()
    wait_for(lambda: _pings(lab.client, "192.0.2.11") == 1, 5, "no answer after link up")


def test_a_killed_tree_dies_without_a_last_word(lab: Lab) -> None:
    script = 'trap "echo child-saw-it" TERM; (trap "echo grandchild" TERM; sleep 60) & sleep 60'
    process = lab["lb1"].spawn(["sh", "-c", script], "tree.log")
    wait_for(lambda: len(descendants(process.pid)) >= 4, 5, "the tree is not complete")
    pids = descendants(process.pid)
    kill_tree(process.pid)
    assert process.wait(5) == -signal.SIGKILL
    wait_for(lambda: not set(pids) & set(members([lab["lb1"].namespace.inode])), 5, str(pids))
    assert (lab["lb1"].directory / "tree.log").read_text() == ""


def _interrupted_lab(seen: list[tuple[Path, int]]) -> None:
    with Lab(["lb1"]) as lab:
        seen.append((lab.directory, lab["lb1"].namespace.inode))
        lab["lb1"].spawn(["sh", "-c", "setsid sleep 1000 & sleep 1000"], "sleep.log")
        raise KeyboardInterrupt


def test_nothing_is_left_after_an_exception() -> None:
    seen: list[tuple[Path, int]] = []
    with pytest.raises(KeyboardInterrupt):
        _interrupted_lab(seen)
    ((directory, inode),) = seen
    assert not directory.exists()
    assert members([inode]) == []


def test_nothing_is_left_when_the_owner_is_killed() -> None:
    program = textwrap.dedent(
        """
        import time
        from vipd.lab.netns import Lab
        with Lab(["lb1"]) as lab:
            lab["lb1"].spawn(["sh", "-c", "setsid sleep 1000 & sleep 1000"], "sleep.log")
            print(lab.directory, lab["lb1"].namespace.inode, flush=True)
            time.sleep(1000)
        """
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        directory, inode = owner.stdout.readline().decode().split()
        wait_for(lambda: len(members([int(inode)])) == 3, 5, "the commands did not start")
        owner.kill()
    wait_for(lambda: not Path(directory).exists(), 5, f"{directory} is left")
    assert members([int(inode)]) == []


def test_a_process_elsewhere_is_no_member() -> None:
    namespace = Namespace()
    with namespace.inside():
        inhabitant = subprocess.Popen(["sleep", "60"])
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        assert members([namespace.inode]) == [inhabitant.pid]
    finally:
        for process in (inhabitant, stranger):
            process.kill()
            process.wait()
        namespace.close()


def test_a_missing_privilege_is_named_with_its_cure() -> None:
    program = "from vipd.lab.namespace import ensure_privileges; ensure_privileges()"
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", program]
    done = subprocess.run(bare, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "PermissionMissing: the lab builds network namespaces: run it as root" in done.stderr


def test_the_second_network_is_apart_and_has_faults_of_its_own(lab: Lab) -> None:
    lab.add_network()
    port = second_port("lb1")
    assert _pings(lab.client, "198.51.100.11") == 1
    lab.cut(port)
    assert _pings(lab.client, "198.51.100.11") == 0
    assert _pings(lab.client, "192.0.2.11") == 1
    lab.heal(port)
    lab.detach(port)
    assert _pings(lab["lb1"], "198.51.100.12") == 0
    lab.attach(port)
    wait_for(lambda: _pings(lab["lb1"], "198.51.100.12") == 1, 5, "not attached again")
    lab.link_down(port)
    assert lab["lb1"].has_carrier()
