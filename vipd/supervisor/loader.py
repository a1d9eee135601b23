"""The supervisor's side of the child that reads the configuration (see ``compile``)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from vipd.duties import Duties
from vipd.errors import AdapterError, VipdError
from vipd.ipc import Compiled, CompileWanted, MessageRefused, Refused, decode, encode
from vipd.model import NodeConfig

TIMEOUT_S = 60.0
_COMMAND = (sys.executable, "-m", "vipd.supervisor.compile")


class ConfigurationRefused(VipdError):
    """The file is bad; ``faults`` are lines for people."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load_first(path: Path) -> Compiled:
    """At start, when nothing runs yet. Raises ConfigurationRefused, AdapterError."""
    order = encode(CompileWanted(str(path), 1))
    try:
        result = subprocess.run(
            _COMMAND, input=order, stdout=subprocess.PIPE, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _too_slow(path) from None
    except OSError as error:
        raise _not_started(error) from error
    return _judge(result.returncode, result.stdout)


async def load_again(path: Path, generation: int, old: NodeConfig, duties: Duties) -> Compiled:
    """A reload; the supervisor's loop goes on meanwhile. Raises as ``load_first``."""
    try:
        child = await asyncio.create_subprocess_exec(
            *_COMMAND, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise _not_started(error) from error
    order = encode(CompileWanted(str(path), generation, old, duties))
    try:
        answer, _errors = await asyncio.wait_for(child.communicate(order), TIMEOUT_S)
    except TimeoutError:
        child.kill()
        await child.wait()
        raise _too_slow(path) from None
    return _judge(child.returncode or 0, answer)


def _not_started(error: OSError) -> AdapterError:
    what = f"the child that reads the configuration: {_COMMAND[0]}: {error.strerror}"
    return AdapterError(what, error.errno or 0)


def _too_slow(path: Path) -> AdapterError:
    return AdapterError(f"reading {path} took longer than {TIMEOUT_S:.0f} s")


def _judge(status: int, answer: bytes) -> Compiled:
    if status != 0:
        raise AdapterError(f"the child that reads the configuration ended with status {status}")
    try:
        result = decode(answer)
    except MessageRefused as error:
        raise AdapterError("the child that reads the configuration gave no answer") from error
    if isinstance(result, Refused):
        raise ConfigurationRefused(result.faults)
    if not isinstance(result, Compiled):
        raise AdapterError("the child that reads the configuration gave a wrong answer")
    return result
