"""The channel: every message arrives as it was sent, nothing blocks, nothing forged is run."""

from __future__ import annotations

import array
import dataclasses
import errno
import io
import os
import pickle
import socket
import subprocess
from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipd import ipc, model
from vipd.duties import CheckConfig, Duties, HookPlan, HookSet, HttpProbe, Initial, Occasion
from vipd.ipc import (
    Channel,
    ChannelClosed,
    Compiled,
    CompileWanted,
    EngineState,
    HealthState,
    Hello,
    Message,
    MessageRefused,
    Noted,
    OrdersState,
    Refused,
    SnapshotGiven,
    SnapshotWanted,
    StateApplied,
    Stopped,
    StopWanted,
    decode,
    encode,
)
from vipd.model import (
    Family,
    Health,
    InstanceConfig,
    LeaseState,
    NodeConfig,
    Note,
    NoteKind,
    Orders,
    Reason,
    State,
    Verdict,
    Vip,
)
from vipd.snapshots import Snapshot


def state(vip_count: int) -> EngineState:
    vips = tuple(
        Vip(bytes([10, 0, number >> 8, number & 0xFF]), 32, "eth0") for number in range(vip_count)
    )
    instance = InstanceConfig(
        name="web", interface="eth0", vrid=51, version=3, family=Family.IPV4, priority=150,
        advert_interval_ns=10**9, vips=vips, address_lifetime_s=4,
    )  # fmt: skip
    templates = {(vip.interface, vip.address): (bytes(76), bytes(40)) for vip in vips}
    return EngineState("1.0", NodeConfig("lb1", (instance,), 7), templates, bytes(52))


EMPTY = Snapshot(1, "lb1", 7, (), {"vrid": 3})
NOTE = Note(NoteKind.TRANSITION, "web", {"state": State.MASTER.value, "priority": 150})
DUTIES = Duties(
    (CheckConfig("nginx", HttpProbe("http://a/"), 10**9, 10**8, 2, 3, Initial.WAIT),),
    (HookPlan("web", (HookSet("INSTANCE", "web", {Occasion.ANY: ("/bin/true",)}, 10**9),)),),
)
MESSAGES: list[Message] = [
    state(2),
    HealthState((Verdict("nginx", Health.HEALTHY), Verdict("load", Health.UNKNOWN, -20))),
    OrdersState(Orders(maintenance=True, held=("web",), step_downs=(("web", 2),))),
    SnapshotWanted(5),
    StopWanted(Reason.REMOVED),
    Hello("1.0", 99, {"realtime": "nice -20"}),
    StateApplied(7),
    SnapshotGiven(5, EMPTY),
    Noted((NOTE, NOTE), 3),
    Stopped(),
    CompileWanted("/etc/vipd.yaml", 8, NodeConfig("lb1", ())),
    Compiled(
        state(1), "/run/vipd", "/var/lib/vipd", "info", "auto", 10**8, ("odd",), ("new",), DUTIES
    ),
    Refused(("vipd.yaml:3: node: empty; name it",)),
]


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    first, second = (Channel(sock) for sock in ipc.socket_pair())
    yield first, second
    first.close()
    second.close()


def test_every_kind_of_message_arrives(ends: tuple[Channel, Channel]) -> None:
    left, right = ends
    assert {type(message) for message in MESSAGES} == set(ipc._MESSAGES)
    for message in MESSAGES:
        assert left.send(message)
    for message in MESSAGES:
        assert right.receive() == message
    assert right.receive() is None


def test_messages_pass_where_python_pickles_enums_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11.0 to 3.11.3, Debian 12's among them: ``getattr(Class, name)``."""

    def reduce_by_name(member: Enum, _protocol: int) -> tuple[Any, ...]:
        return getattr, (type(member), member.name)

    monkeypatch.setattr(Enum, "__reduce_ex__", reduce_by_name)
    for message in MESSAGES:
        assert decode(ipc.encode(message)) == message


def test_every_value_of_the_model_may_be_in_a_message() -> None:
    """A new class in the model or the duties is admitted by itself; what only passes through is
    not."""
    modules = {"vipd.model", "vipd.snapshots", "vipd.duties", "vipd.members"}
    admitted = {name for module, name in ipc._ADMITTED if module in modules}
    assert {"HttpProbe", "HookPlan", "Occasion"} <= admitted
    assert {"Vip", "NodeConfig", "InstanceSnapshot", "Contribution", "Reason"} <= admitted
    assert not {"Enum", "Mapping", "dataclass", "Heartbeat"} & admitted
    assert {cls.__module__ for cls in ipc._ADMITTED.values()} == {*modules, "vipd.ipc"}


def test_a_message_beyond_the_datagram_limit_arrives(ends: tuple[Channel, Channel]) -> None:
    left, right = ends
    large = state(5000)
    assert len(encode(large)) > 250_000
    before = len(os.listdir("/proc/self/fd"))
    for _again in range(3):
        assert left.send(large)
        assert right.receive() == large
    assert len(os.listdir("/proc/self/fd")) == before, "no descriptor is left behind"


def test_sizes_around_the_limit_arrive(ends: tuple[Channel, Channel]) -> None:
    left, right = ends
    overhead = len(encode(Hello("x" * 65000, 1))) - 65000
    for size in range(64 * 1024 - 2, 64 * 1024 + 3):
        message = Hello("x" * (size - overhead), 1)
        assert len(encode(message)) == size
        assert left.send(message)
        assert right.receive() == message


@pytest.mark.parametrize(
    "message", [SnapshotWanted(1), Hello("x" * 70_000, 1)], ids=["small", "large"]
)
def test_a_full_queue_drops_and_says_so(ends: tuple[Channel, Channel], message: Message) -> None:
    left, right = ends
    taken = 0
    while left.send(message):
        taken += 1
    assert taken > 1
    assert not left.send(message)
    for _each in range(taken):
        assert right.receive() == message
    assert right.receive() is None
    assert left.send(message), "there is room again"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_a_message_without_room_for_its_memfd_is_dropped(
    ends: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A snapshot that cannot be sent must not end the engine."""

    def refuse(_name: str, _flags: int) -> int:
        raise OSError(number, "refused")

    monkeypatch.setattr(os, "memfd_create", refuse)
    left, right = ends
    assert not left.send(Hello("x" * 70_000, 1))
    assert left.send(SnapshotWanted(1))
    assert right.receive() == SnapshotWanted(1)


def test_the_end_comes_after_the_last_word(ends: tuple[Channel, Channel]) -> None:
    left, right = ends
    left.send(Stopped())
    left.close()
    assert right.receive() == Stopped()
    with pytest.raises(ChannelClosed):
        right.receive()
    with pytest.raises(ChannelClosed):
        right.send(SnapshotWanted(1))


def test_a_death_with_unread_messages_is_an_end_too(ends: tuple[Channel, Channel]) -> None:
    left, right = ends
    right.send(SnapshotWanted(1))
    left.close()
    with pytest.raises(ChannelClosed):  # the kernel says ECONNRESET once
        right.receive()
    with pytest.raises(ChannelClosed):
        right.receive()


# --- forgeries --------------------------------------------------------------------------------


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.putenv, ("VIPD_FORGED", "1"))


@pytest.mark.parametrize(
    "forged",
    [
        Runs(),
        (SnapshotWanted(1), Runs()),
        subprocess.Popen,
        Note.__init__,  # a dotted name inside an admitted class
        model.format_address,
        NodeConfig("lb1", ()),  # admitted inside a message, but no message
        [SnapshotWanted(1)],
        None,
        LeaseState.HELD,
    ],
    ids=str,
)
def test_a_pickle_of_anything_else_is_refused(
    ends: tuple[Channel, Channel], forged: object
) -> None:
    data = pickle.dumps(forged)
    with pytest.raises(MessageRefused):
        decode(data)
    left, right = ends
    with socket.socket(fileno=os.dup(left.fileno())) as raw:
        raw.send(data)
    with pytest.raises(MessageRefused):
        right.receive()
    left.send(SnapshotWanted(1))
    assert right.receive() == SnapshotWanted(1), "the channel goes on"


def test_the_forgery_would_have_run_without_the_allow_list() -> None:
    """Otherwise the test above proves nothing."""
    called: list[str] = []

    class Reader(pickle.Unpickler):
        def find_class(self, module_name: str, global_name: str) -> Any:
            called.append(f"{module_name}.{global_name}")
            return lambda *_arguments: None

    Reader(io.BytesIO(pickle.dumps(Runs()))).load()
    assert called == ["posix.putenv"]


@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(MessageRefused):
        decode(data)


@given(data=st.data())
def test_a_damaged_message_is_refused_or_still_a_message(data: st.DataObject) -> None:
    good = bytearray(encode(data.draw(st.sampled_from(MESSAGES))))
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = decode(bytes(good))
    except MessageRefused:
        return
    assert dataclasses.is_dataclass(message)


@pytest.mark.parametrize("kind", ["unsealed", "plain file", "two", "none"])
def test_only_one_sealed_memfd_is_read(ends: tuple[Channel, Channel], kind: str) -> None:
    left, right = ends
    fds = []
    if kind == "plain file":
        fds = [os.open("/etc/hostname", os.O_RDONLY)]
    elif kind != "none":
        fds = [
            os.memfd_create("t", os.MFD_ALLOW_SEALING) for _n in range(2 if kind == "two" else 1)
        ]
        for fd in fds:
            os.write(fd, encode(SnapshotWanted(1)))
    before = len(os.listdir("/proc/self/fd"))
    passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    with socket.socket(fileno=os.dup(left.fileno())) as raw:
        raw.sendmsg([b"memfd"], passed)
    with pytest.raises(MessageRefused):
        right.receive()
    assert len(os.listdir("/proc/self/fd")) == before, "what was passed is closed"
    for fd in fds:
        os.close(fd)
