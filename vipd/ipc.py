"""The channel between supervisor and engine: messages, and how they travel.

The rules of the two directions (the engine must never wait for the supervisor):

* **Supervisor to engine** is level-triggered: ``EngineState`` is the *whole* wanted state, sent
  at every start of an engine and at every change, so nothing is lost with a dead engine.
* **Engine to supervisor** never blocks. When the queue is full ``send`` returns False: the
  engine merges what it can, counts what it drops, and says how much in the next ``Noted``.

One SOCK_SEQPACKET pair, one datagram per message, so no message is ever cut or mixed up. The
kernel limits a datagram to about 200 KB and the state of a thousand VIPs is larger: what exceeds
64 KiB travels in a sealed memfd, whose descriptor is the message. Sealed, because the receiver
must not read what the sender can still change.

Messages are pickled. Both ends are one program of one version, started by exec, but a pickle
that can name any class is a program: the reader admits exactly the values of ``vipd.model``,
``vipd.snapshots``, ``vipd.duties``, ``Owner`` and the messages below, by name, and nothing else.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import io
import os
import pickle
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from enum import Enum
from types import ModuleType
from typing import Any, TypeAlias

from vipd import duties, model, snapshots
from vipd.duties import Duties
from vipd.errors import AdapterError
from vipd.members import Owner
from vipd.model import (
    MILLISECOND_NS,
    Address,
    Duration,
    NodeConfig,
    Note,
    Orders,
    Reason,
    Verdict,
)
from vipd.snapshots import Snapshot

PROTOCOL = 4
"""Grows when a message changes its meaning; both ends must agree."""

EXIT_REPLACED = 64
"""Exit status of an engine whose supervisor is of another version: vipd was replaced on disk, and
the supervisor must end and be started anew."""

_LARGEST_DATAGRAM = 64 * 1024
_LARGEST_MESSAGE = 64 * 1024 * 1024
_ANCILLARY_SPACE = socket.CMSG_SPACE(array.array("i").itemsize)
_IN_MEMFD = b"memfd"
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


_NO_ROOM = frozenset(
    {
        errno.EAGAIN,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
        errno.ETOOMANYREFS,
    }
)
"""No room in the queue, for the message or for its memfd: as good as a full queue."""


class ChannelClosed(AdapterError):
    """The process at the other end is gone, or has closed its end."""


class MessageRefused(AdapterError):
    """What arrived is no message of this protocol."""


# --- supervisor -> engine ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EngineState:
    """Everything that the engine needs to know. Replaces what it knew.

    ``owner`` is the engine's life, the same in all states that one engine gets, and ``seed`` is
    drawn with it; ``after_death`` says that the engine before it died. ``templates`` holds the
    compiled netlink requests (add, delete) of every VIP, by interface and address;
    ``promote_secondaries`` is the compiled request of that name.
    """

    version: str
    config: NodeConfig
    templates: Mapping[tuple[str, Address], tuple[bytes, bytes]]
    promote_secondaries: bytes
    owner: Owner = field(default_factory=lambda: Owner("", 0, 0))
    seed: bytes = field(default=b"", repr=False)
    after_death: bool = False
    realtime: str = "auto"
    alive_interval_ns: Duration = 50 * MILLISECOND_NS
    health: tuple[Verdict, ...] = ()
    orders: Orders = field(default_factory=Orders)
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class HealthState:
    """The whole health vector; sent at every change, and every second without one."""

    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class OrdersState:
    """What the operator wants beyond the configuration."""

    orders: Orders


@dataclass(frozen=True, slots=True)
class SnapshotWanted:
    """Answer with ``SnapshotGiven`` that carries the same ``request``."""

    request: int


@dataclass(frozen=True, slots=True)
class StopWanted:
    """Release everything, say ``Stopped``, end."""

    reason: Reason = Reason.STOPPED


# --- engine -> supervisor ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """The engine runs. ``obtained`` says what the system granted (priority, memory)."""

    version: str
    pid: int
    obtained: Mapping[str, str] = field(default_factory=dict)
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class StateApplied:
    """The ``EngineState`` whose configuration has this generation is in force."""

    generation: int


@dataclass(frozen=True, slots=True)
class SnapshotGiven:
    request: int
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Noted:
    """What happened, in order; ``dropped`` counts notes that were lost since the last one."""

    notes: tuple[Note, ...]
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Stopped:
    """Everything is released; the engine ends now."""


# --- supervisor <-> the child that reads the configuration ------------------------------------


@dataclass(frozen=True, slots=True)
class CompileWanted:
    """Read the file; ``old`` is what it is compared with, ``generation`` what it becomes.

    Checks and hooks are compared when ``old_duties`` is given, too.
    """

    path: str
    generation: int
    old: NodeConfig | None = None
    old_duties: Duties | None = None


@dataclass(frozen=True, slots=True)
class Compiled:
    """A good file. ``changes`` says in words what it does to ``old``.

    ``nodes`` are those that the file names; ``neighbours`` the addresses from which the others
    send the adverts of an instance, as far as it says them.
    """

    state: EngineState
    runtime_dir: str
    state_dir: str
    log_level: str
    log_format: str
    engine_timeout_ns: Duration
    warnings: tuple[str, ...]
    changes: tuple[str, ...]
    duties: Duties = field(default_factory=Duties)
    nodes: tuple[str, ...] = ()
    neighbours: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """A bad file, and all that is wrong with it."""

    faults: tuple[str, ...]


ToEngine: TypeAlias = EngineState | HealthState | OrdersState | SnapshotWanted | StopWanted
ToSupervisor: TypeAlias = Hello | StateApplied | SnapshotGiven | Noted | Stopped
FromCompiler: TypeAlias = Compiled | Refused
Message: TypeAlias = ToEngine | ToSupervisor | CompileWanted | FromCompiler

_MESSAGES = (
    EngineState,
    HealthState,
    OrdersState,
    SnapshotWanted,
    StopWanted,
    Hello,
    StateApplied,
    SnapshotGiven,
    Noted,
    Stopped,
    CompileWanted,
    Compiled,
    Refused,
)


# --- encoding ---------------------------------------------------------------------------------


def _values_of(module: ModuleType) -> dict[tuple[str, str], type]:
    """The dataclasses and enums that ``module`` itself defines."""
    return {
        (kind.__module__, kind.__qualname__): kind
        for kind in vars(module).values()
        if isinstance(kind, type)
        and kind.__module__ == module.__name__
        and (is_dataclass(kind) or issubclass(kind, Enum))
    }


_ADMITTED: Mapping[tuple[str, str], type] = {
    **_values_of(model),
    **_values_of(snapshots),
    **_values_of(duties),
    (Owner.__module__, Owner.__qualname__): Owner,
    **{(kind.__module__, kind.__qualname__): kind for kind in _MESSAGES},
}

# What reading a damaged pickle can raise, by its documentation and by trying.
_UNREADABLE = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    TypeError,
    ValueError,
)


def _by_value(member: Enum) -> tuple[type[Enum], tuple[object]]:
    return type(member), (member.value,)


class _Writer(pickle.Pickler):
    """Writes enum members as ``Class(value)`` under every Python.

    Left to itself, 3.11.0 to 3.11.3 (Debian 12) writes ``getattr(Class, name)``, and a reader
    that admitted ``getattr`` would admit everything.
    """

    dispatch_table: Mapping[type, Callable[[Any], tuple[type[Enum], tuple[object]]]] = {
        kind: _by_value for kind in _ADMITTED.values() if issubclass(kind, Enum)
    }


class _Reader(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> type:
        try:
            return _ADMITTED[module_name, global_name]
        except KeyError:
            refusal = f"{module_name}.{global_name} is not admitted in a message"
            raise pickle.UnpicklingError(refusal) from None


def encode(message: Message) -> bytes:
    buffer = io.BytesIO()
    _Writer(buffer, protocol=5).dump(message)
    return buffer.getvalue()


def decode(data: bytes) -> Message:
    """Raises MessageRefused for everything but a message of this protocol."""
    try:
        message = _Reader(io.BytesIO(data)).load()
    except _UNREADABLE as error:
        raise MessageRefused(f"unreadable message: {error}") from error
    if not isinstance(message, _MESSAGES):
        raise MessageRefused(f"{type(message).__name__} is no message")
    return message


# --- the channel ------------------------------------------------------------------------------


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a channel: keep one, let the engine inherit the other."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Channel:
    """One end of the channel. Never blocks. Owns ``sock``."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, message: Message) -> bool:
        """Queue ``message``; False when there was no room and the message was dropped.

        Raises ChannelClosed when the other end is gone.
        """
        data = encode(message)
        try:
            if len(data) <= _LARGEST_DATAGRAM:
                self._socket.send(data)
            else:
                self._send_in_memfd(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosed("the other process is gone", error.errno or 0) from error
        except OSError as error:
            if error.errno in _NO_ROOM:
                return False
            raise AdapterError(f"sending a message: {error.strerror}", error.errno or 0) from error
        return True

    def _send_in_memfd(self, data: bytes) -> None:
        fd = os.memfd_create("vipd-message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            passed = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
            self._socket.sendmsg([_IN_MEMFD], [passed])
        finally:
            os.close(fd)

    def receive(self) -> Message | None:
        """The next message, None when none waits.

        Raises ChannelClosed when the other end is gone and everything it said has been read, and
        MessageRefused for what is no message; the channel is usable after the latter.
        """
        try:
            data, ancillary, flags, _address = self._socket.recvmsg(
                _LARGEST_DATAGRAM, _ANCILLARY_SPACE, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return None
        except ConnectionResetError as error:
            # The other end died with messages of ours unread.
            raise ChannelClosed("the other process is gone", error.errno or 0) from error
        except OSError as error:
            raise AdapterError(
                f"receiving a message: {error.strerror}", error.errno or 0
            ) from error
        fds = _passed_fds(ancillary)
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise MessageRefused("a message was cut short")
            if data == _IN_MEMFD and len(fds) == 1:
                data = _read_memfd(fds[0])
        finally:
            for fd in fds:
                os.close(fd)
        if not data:  # nobody sends an empty datagram: this is the end of the stream
            raise ChannelClosed("the other process has closed the channel")
        return decode(data)


def _passed_fds(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def _read_memfd(fd: int) -> bytes:
    seals = 0
    with contextlib.suppress(OSError):  # what is no memfd has no seals
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    size = os.fstat(fd).st_size
    if seals & _SEALS != _SEALS or size > _LARGEST_MESSAGE:
        raise MessageRefused("the passed file is not sealed, or too large")
    return os.pread(fd, size, 0)
