"""The cluster channel between whole daemons, and everybody who has no business on it.

What a stranger says must have no effect but a count by its reason. *No effect* is judged from
outside: who holds the VIP, how even the adverts are, and what the log says happened.
"""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.rig import MS, PATIENCE_S, Daemon, Wire, kill, router, sleep_ms
from vipd.lab.cluster import Cluster
from vipd.lab.hosts import Host, now_ns, wait_for
from vipd.lab.netns import Lab
from vipd.members import Heartbeat, Owner, UnitReport
from vipd.model import Reason, State
from vipd.wire.channel import Outbox

pytestmark = pytest.mark.netns

PORT = 3112
ETH_P_ALL = 3
INTERVAL_MS = 200
FLOOD_RATE, FLOOD_S = 10_000, 5.0
LATE_MS = 60.0
"""More than this late is more than a busy machine does to an advert."""

ORDINARY = {"copy"}
"""What is counted even where all is well."""


# --- scenes -----------------------------------------------------------------------------------


@contextmanager
def nodes(
    both_networks: bool = False,
    names: Sequence[str] = ("lb1", "lb2"),
    others: Mapping[str, Mapping[str, Any]] | None = None,
    settings: Mapping[str, object] | None = None,
    extra: dict[str, object] | None = None,
) -> Iterator[tuple[Lab, dict[str, Daemon]]]:
    """A lab with ``lb1`` (priority 150) and ``lb2`` (100) of one cluster, and ``names`` besides.

    ``settings`` of the cluster and ``others``, which are of one node (``key``, ``settings``);
    ``extra``: more of the configuration. Nothing is started yet.
    """
    with Lab(names) as lab:
        if both_networks:
            lab.add_network()
        common = Cluster([lab["lb1"], lab["lb2"]], both_networks, settings or {})
        made = {}
        for name, priority in (("lb1", 150), ("lb2", 100)):
            cluster = replace(common, **dict((others or {}).get(name, {})))
            made[name] = Daemon(
                lab[name], router(priority, interval_ms=INTERVAL_MS), extra, cluster=cluster
            )
        yield lab, made


@contextmanager
def pair(**options: Any) -> Iterator[tuple[Lab, Daemon, Daemon]]:
    """Both run and hear each other; ``lb1`` holds the VIP."""
    with nodes(**options) as (lab, made):
        one, two = made["lb1"], made["lb2"]
        one.start()
        two.start()
        one.wait_ready()
        two.wait_ready()
        one.wait_holds()
        one.wait_state("MASTER")
        two.wait_state("BACKUP")
        wait_alive(one, "lb2")
        wait_alive(two, "lb1")
        yield lab, one, two


def cluster_of(daemon: Daemon) -> dict[str, Any]:
    return dict(daemon.status()["cluster"])


def peer_of(daemon: Daemon, name: str) -> dict[str, Any]:
    return dict(cluster_of(daemon)["nodes"][name])


def wait_alive(daemon: Daemon, name: str) -> None:
    wait_for(lambda: peer_of(daemon, name)["alive"], PATIENCE_S, f"{name} is not heard")


def wait_paths(daemon: Daemon, name: str, addresses: Sequence[str]) -> None:
    """Until the member was just heard from exactly these addresses."""

    def heard() -> bool:
        ago = {path["address"]: path["last_heard_ms"] for path in peer_of(daemon, name)["paths"]}
        return set(ago) == set(addresses) and all(
            ms is not None and ms < 500 for ms in ago.values()
        )

    wait_for(heard, PATIENCE_S, f"not all paths to {name} are heard")


def discarded(daemon: Daemon) -> dict[str, int]:
    """What was discarded that is not ordinary, by reason."""
    counts = cluster_of(daemon)["discarded"]
    return {reason: n for reason, n in counts.items() if n and reason not in ORDINARY}


def wait_discarded(daemon: Daemon, reason: str, count: int = 1) -> None:
    def enough() -> bool:
        return discarded(daemon).get(reason, 0) >= count

    wait_for(enough, PATIENCE_S, f"not {count} {reason}: {discarded(daemon)}")


class Story:
    """What happened on some daemons since this was made."""

    def __init__(self, *daemons: Daemon) -> None:
        self._before = {daemon: len(daemon.events("transition")) for daemon in daemons}
        self._lost = {daemon: len(daemon.events("member-lost")) for daemon in daemons}

    def assert_nothing_happened(self) -> None:
        for daemon, before in self._before.items():
            assert daemon.events("transition")[before:] == []
            assert daemon.events("member-lost")[self._lost[daemon] :] == []


# --- strangers --------------------------------------------------------------------------------


def said_by(cluster_key: str, sender: Owner, count: int = 1, name: str = "lab") -> list[bytes]:
    """Heartbeats in which ``sender`` says that it is master."""
    box = Outbox(name, sender, bytes.fromhex(cluster_key))
    unit = UnitReport("web", State.MASTER, Reason.MASTER_SILENT, 254, 254, 1000, sender.node)
    beats = (
        Heartbeat(number, bytes(16), bytes(8), "0", units=(unit,)) for number in range(1, count + 1)
    )
    return [datagram for beat in beats for datagram in box.datagrams(beat, 2)]


def key_of(daemon: Daemon) -> str:
    return (daemon.host.directory / "cluster.key").read_text().split()[0]


def send_from(host: Host, datagrams: Sequence[bytes], target: Host) -> None:
    """By a program of this host that is not its vipd."""
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for datagram in datagrams:
            sock.sendto(datagram, (target.ipv4, PORT))
            time.sleep(0.002)


class Recorder:
    """Somebody at the switch, who hears the channel's frames from ``port`` and can play them back.

    What is played back is the same to the last bit, addresses included.
    """

    def __init__(self, lab: Lab, port: str) -> None:
        self._lab = lab
        self._socket = lab.switch.socket(
            socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0
        )
        self._socket.bind((port, ETH_P_ALL))  # by its type alone a bridge would not show it

    def frames(self) -> list[bytes]:
        found = []
        while True:
            try:
                frame, address = self._socket.recvfrom(2048)
            except BlockingIOError:
                return found
            arrived = address[2] in (socket.PACKET_HOST, socket.PACKET_OTHERHOST)
            is_udp = frame[12:14] == b"\x08\x00" and frame[23] == socket.IPPROTO_UDP
            if arrived and is_udp and frame[36:38] == PORT.to_bytes(2, "big"):
                # Without a checksum: the sender's kernel left it to a card that there is not.
                found.append(frame[:40] + b"\0\0" + frame[42:])

    def play(self, frames: Sequence[bytes], port: str, pause_s: float = 0.002) -> None:
        out = self._lab.switch.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with out:
            out.bind((port, 0))
            for frame in frames:
                out.send(frame)
                time.sleep(pause_s)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def recording(lab: Lab, port: str) -> Iterator[Recorder]:
    recorder = Recorder(lab, port)
    yield recorder
    recorder.close()


# --- all is well ------------------------------------------------------------------------------


def test_two_daemons_hear_each_other_on_both_networks() -> None:
    with pair(both_networks=True) as (_lab, one, two):
        for daemon, other in ((one, two), (two, one)):
            wait_paths(daemon, other.host.name, [other.host.ipv4, other.host.second_ipv4])
            assert peer_of(daemon, other.host.name)["wire_version"] == 2
        story = Story(one, two)
        sleep_ms(1500)
        story.assert_nothing_happened()
        assert discarded(one) == discarded(two) == {}
        assert cluster_of(two)["nodes"]["lb1"]["units"]["web"]["state"] == "MASTER"


def test_an_address_that_comes_late_is_heard_without_a_reload() -> None:
    with nodes() as (_lab, made):
        one, two = made["lb1"], made["lb2"]
        one.host.run(["ip", "address", "del", f"{one.host.ipv4}/24", "dev", "eth0"])
        one.host.run(["ip", "address", "add", "192.0.2.200/24", "dev", "eth0"])
        one.start()
        two.start()
        one.wait_ready()
        two.wait_ready()
        sleep_ms(500)
        assert not peer_of(two, "lb1")["alive"]
        one.host.run(["ip", "address", "add", f"{one.host.ipv4}/24", "dev", "eth0"])
        wait_alive(one, "lb2")
        wait_alive(two, "lb1")


def test_a_port_that_another_program_has_is_told_and_tried_again() -> None:
    with nodes() as (_lab, made):
        one, two = made["lb1"], made["lb2"]
        with two.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
            thief.bind((two.host.ipv4, PORT))
            one.start()
            two.start()
            one.wait_ready()
            told = two.wait_event("channel-deaf")
            assert (told["address"], told["port"]) == (two.host.ipv4, PORT)
            sleep_ms(1500)
            assert len(two.events("channel-deaf")) == 1
        two.wait_event("channel-open")
        wait_alive(one, "lb2")
        wait_alive(two, "lb1")


def test_a_frozen_backup_reads_what_waits_before_it_takes_anybody_for_lost() -> None:
    """Its timers have all run out, and its sockets are full of the master's beats."""
    patient = {"engine_timeout": "30s"}
    with pair(settings={"heartbeat_timeout": "300ms"}, extra=patient) as (_lab, one, two):
        for _ in range(3):
            story = Story(two)
            kill(two.engine, signal.SIGSTOP)
            sleep_ms(1000)
            kill(two.engine, signal.SIGCONT)
            sleep_ms(500)
            story.assert_nothing_happened()
        assert one.holds()


def test_ipv6_and_another_port() -> None:
    addresses = {"lb1": ["192.0.2.11", "2001:db8::11"], "lb2": ["192.0.2.12", "2001:db8::12"]}
    with pair(settings={"nodes": addresses, "port": 4000}) as (lab, one, two):
        assert [lab[name].ipv6 for name in addresses] == [each[1] for each in addresses.values()]
        for daemon, other in ((one, "lb2"), (two, "lb1")):
            wait_paths(daemon, other, addresses[other])
            assert discarded(daemon) == {}


def test_a_key_is_replaced_without_a_gap() -> None:
    old, new = "12" * 32, "34" * 32
    with pair(others={name: {"key": old} for name in ("lb1", "lb2")}) as (_lab, one, two):
        story = Story(one, two)
        for step in ((old, new), (new, old), (new,)):
            for daemon in (one, two):
                (daemon.host.directory / "cluster.key").write_text("\n".join(step) + "\n")
                assert daemon.ask("/reload", "POST")[0] == 200
                sleep_ms(500)
        sleep_ms(1000)
        story.assert_nothing_happened()
        assert discarded(one) == discarded(two) == {}
        assert peer_of(one, "lb2")["alive"]
        assert peer_of(two, "lb1")["alive"]
        send_from(one.host, said_by(old, Owner("lb1", 1 << 63, 1), 5), two.host)
        wait_discarded(two, "wrong-key", 5)
        assert set(discarded(two)) == {"wrong-key"}


# --- members that do not fit ------------------------------------------------------------------


def test_another_key_is_counted_and_both_go_by_the_adverts() -> None:
    with nodes(others={"lb2": {"key": "ab" * 32}}) as (_lab, made):
        assert_strangers(made["lb1"], made["lb2"], "wrong-key")


def test_another_clusters_name_is_counted_and_both_go_by_the_adverts() -> None:
    with nodes(others={"lb2": {"settings": {"name": "another"}}}) as (_lab, made):
        assert_strangers(made["lb1"], made["lb2"], "wrong-cluster")


def assert_strangers(one: Daemon, two: Daemon, reason: str) -> None:
    one.start()
    one.wait_ready()
    one.wait_holds()
    two.start()
    two.wait_ready()
    two.wait_state("BACKUP")
    for daemon, other in ((one, "lb2"), (two, "lb1")):
        wait_discarded(daemon, reason, 10)
        assert set(discarded(daemon)) == {reason}
        assert not peer_of(daemon, other)["alive"]
        assert daemon.events("message-discarded")[0]["reason"] == reason
    story = Story(one, two)
    sleep_ms(1500)
    story.assert_nothing_happened()
    assert one.holds()
    assert not two.holds_any()


# --- who has the key, and should not ----------------------------------------------------------


def test_a_member_from_elsewhere_is_counted_and_takes_nothing_from_the_real_one() -> None:
    with pair(names=("lb1", "lb2", "lb3")) as (lab, one, two):
        story, count = Story(one, two), 50
        future = Owner("lb1", (1 << 63), 1)
        send_from(lab["lb3"], said_by(key_of(two), future, count), two.host)
        wait_discarded(two, "foreign-address", count)
        send_from(lab["lb3"], said_by(key_of(two), replace(future, node="lb9"), count), two.host)
        wait_discarded(two, "unknown-sender", count)
        sleep_ms(500)
        assert set(discarded(two)) == {"foreign-address", "unknown-sender"}
        assert peer_of(two, "lb1")["alive"]
        assert peer_of(two, "lb1")["incarnation"] != future.incarnation
        story.assert_nothing_happened()
        assert one.holds()


def test_another_host_with_our_own_name_is_counted() -> None:
    with pair(names=("lb1", "lb2", "lb3")) as (lab, one, two):
        story = Story(one, two)
        send_from(lab["lb3"], said_by(key_of(two), Owner("lb2", 1 << 63, 1), 10), two.host)
        wait_discarded(two, "duplicate-node", 10)
        story.assert_nothing_happened()


# --- recordings -------------------------------------------------------------------------------


def test_datagrams_that_are_played_back_are_counted_and_nothing_else() -> None:
    with pair() as (lab, one, two), recording(lab, "lb1") as recorder:
        sleep_ms(1200)
        frames = recorder.frames()
        assert len(frames) >= 10
        story = Story(one, two)
        for _ in range(5):
            recorder.play(frames, "lb2")
        wait_discarded(two, "replay", 5 * len(frames))
        assert set(discarded(two)) == {"replay"}
        assert discarded(two)["replay"] == 5 * len(frames)
        assert peer_of(two, "lb1")["alive"]
        story.assert_nothing_happened()


def test_recordings_of_a_master_bring_nobody_back_to_life() -> None:
    """``lb2`` starts anew and has heard nobody: all it hears of ``lb1`` is a recording."""
    with pair() as (lab, one, two), recording(lab, "lb1") as recorder:
        sleep_ms(1000)
        frames = recorder.frames()
        assert len(frames) >= 8
        one.kill()
        two.wait_holds()
        two.stop()
        two.wait()
        two.start()
        two.wait_ready()
        begin = now_ns()
        while now_ns() - begin < 1500 * MS:
            recorder.play(frames, "lb2", 0.02)
            assert not peer_of(two, "lb1")["alive"]
        two.wait_holds()
        two.wait_state("MASTER")
        assert discarded(two)["replay"] > 3 * len(frames), "the recordings did not arrive"
        begun = two.events("configured")[-1]["timestamp"]
        assert all(line["timestamp"] < begun for line in two.events("member-alive"))


# --- floods -----------------------------------------------------------------------------------


@pytest.mark.alone
def test_a_flood_of_garbage_delays_no_advert_and_hides_no_member() -> None:
    with pair(names=("lb1", "lb2", "lb3")) as (lab, one, two):
        wire, story = Wire(lab, "lb1"), Story(one, two)
        sleep_ms(500)
        begin = now_ns()
        program = str(Path(__file__).with_name("channel_flood.py"))
        argv = [sys.executable, "-I", program, one.host.ipv4, str(PORT)]
        done = lab["lb3"].run([*argv, str(FLOOD_RATE), str(FLOOD_S)], timeout_s=60)
        end = now_ns()
        sent = int(done.stdout)
        assert sent > 0.9 * FLOOD_RATE * FLOOD_S
        sleep_ms(500)
        counts = discarded(one)
        print(f"sent {sent}, counted {counts}")
        assert set(counts) == {"length", "not-vipd", "wrong-key"}
        # A machine that is busy otherwise loses some in its queue, uncounted.
        assert sum(counts.values()) > 0.5 * sent
        gap_ms = wire.largest_gap_ms("lb1", begin, end)
        print(f"largest gap between two adverts {gap_ms:.1f} ms")
        assert gap_ms < INTERVAL_MS + LATE_MS
        assert peer_of(one, "lb2")["alive"]
        story.assert_nothing_happened()
