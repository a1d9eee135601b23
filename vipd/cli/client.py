"""Talks to the daemon: HTTP and JSON over its control socket.

Where the socket is stands in the configuration file, as ``runtime_dir``, and where the journal is,
as ``state_dir``. The file is not judged for that: it is read only as far as that key, because
``status`` must work most of all when the file is broken. What cannot be read costs a warning, and
the default directory is tried.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vipd.errors import AdapterError, DaemonAbsent, PermissionMissing, VipdError

DEFAULT_RUNTIME_DIR = Path("/run/vipd")
DEFAULT_STATE_DIR = Path("/var/lib/vipd")
SOCKET_NAME = "control.sock"
JOURNAL_NAME = "journal.db"
PATIENCE_S = 5.0
RELOAD_PATIENCE_S = 70.0
"""The daemon gives the child that reads the file a minute; then it says so itself."""

_LARGEST_FILE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What the daemon said. ``text`` is the JSON as it came."""

    status: int
    text: str

    @property
    def value(self) -> dict[str, Any]:
        try:
            value = json.loads(self.text)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise VipdError(f"the daemon's answer is no JSON object: {self.text[:80]!r}")
        return value


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def request(
    path: Path,
    method: str,
    target: str,
    timeout_s: float = PATIENCE_S,
    body: Mapping[str, Any] | None = None,
) -> Answer:
    """Ask the daemon behind the control socket ``path``; ``body`` goes as JSON.

    Raises DaemonAbsent if nobody answers, PermissionMissing if we may not ask.
    """
    connection = _UnixConnection(path, timeout_s)
    try:
        if body is None:
            connection.request(method, target)
        else:
            headers = {"Content-Type": "application/json"}
            connection.request(method, target, json.dumps(body), headers)
        response = connection.getresponse()
        return Answer(response.status, response.read().decode("utf-8", errors="replace"))
    except PermissionError as error:
        raise PermissionMissing(
            f"{path}: {error.strerror}; run as root", error.errno or 0
        ) from error
    except TimeoutError as error:
        raise DaemonAbsent(f"no answer on {path} within {timeout_s:g} s") from error
    except (FileNotFoundError, ConnectionError, http.client.HTTPException) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise DaemonAbsent(f"no daemon answers on {path}: {why or type(error).__name__}") from error
    except OSError as error:
        raise AdapterError(f"{path}: {error}", error.errno or 0) from error
    finally:
        connection.close()


def ask(path: Path, target: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
    """GET ``target``, which the daemon must have; raises VipdError with its complaint."""
    return accepted(request(path, "GET", target, timeout_s)).value


def accepted(answer: Answer) -> Answer:
    """``answer`` if the daemon said yes."""
    if answer.status != 200:
        try:
            complaint = answer.value["error"]
        except (VipdError, KeyError):
            complaint = " ".join(answer.text[:200].split())
        raise VipdError(f"the daemon answers {answer.status}: {complaint}")
    return answer


def control_socket(config: Path) -> Path:
    """The control socket of the daemon that runs by ``config``; warns where it had to guess."""
    return _directory(config, "runtime_dir", DEFAULT_RUNTIME_DIR) / SOCKET_NAME


def journal_file(config: Path) -> Path:
    """The journal of the daemon that runs by ``config``; warns where it had to guess."""
    return _directory(config, "state_dir", DEFAULT_STATE_DIR) / JOURNAL_NAME


def _directory(config: Path, key: str, default: Path) -> Path:
    try:
        with config.open("rb") as stream:
            found = path_in(stream.read(_LARGEST_FILE), key)
    except OSError as error:
        trouble = f"cannot be read ({error.strerror})"
    except (yaml.YAMLError, ValueError):
        trouble = "is broken"
    else:
        return found or default
    print(f"warning: {config} {trouble}; trying {default}", file=sys.stderr)
    return default


def path_in(text: bytes, wanted: str) -> Path | None:
    """The path under the key ``wanted`` at the top of a YAML text; nothing behind it is looked at.

    Raises yaml.YAMLError or ValueError for a text that is broken before it.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth, key = 0, None
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif depth == 0 and isinstance(event, yaml.SequenceStartEvent):
            break  # no mapping: there are no keys
        elif depth == 1 and key is None:
            key = event.value if isinstance(event, yaml.ScalarEvent) else ""
        elif depth == 1 and key is not None:
            if key == wanted and isinstance(event, yaml.ScalarEvent) and event.value:
                return Path(event.value)
            key = None
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
    return None
