"""Finding the control socket, and every way in which nobody or nonsense answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import FakeDaemon, vipd, vipd_without_privileges
from vipd.adapters import journal_file
from vipd.cli import client
from vipd.config.schema import Config
from vipd.errors import AdapterError, DaemonAbsent, VipdError
from vipd.supervisor import control


def test_the_names_are_the_daemons() -> None:
    assert client.SOCKET_NAME == control.SOCKET_NAME
    assert client.JOURNAL_NAME == journal_file.FILE_NAME
    defaults = Config.model_validate({"instances": {}})
    assert Path(defaults.runtime_dir) == client.DEFAULT_RUNTIME_DIR
    assert Path(defaults.state_dir) == client.DEFAULT_STATE_DIR


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runtime_dir: /run/other\n", "/run/other"),
        ("node: lb1\ninstances: {a: {b: [c, {d: e}]}}\nruntime_dir: '/run/x y'\n", "/run/x y"),
        ("instances: {runtime_dir: /wrong}\nlist: [runtime_dir, /wrong]\n", None),
        ("state_dir: /var/x\nruntime_dir: /run/x\n", "/run/x"),
        ("runtime_dir: /run/early\n}{ broken from here", "/run/early"),
        ("runtime_dir: [/wrong]\n", None),
        ("? [runtime_dir]\n: /wrong\n", None),
        ("- runtime_dir\n- /wrong\n", None),
        ("", None),
    ],
)
def test_runtime_dir_is_read_without_judging_the_file(text: str, expected: str | None) -> None:
    found = client.path_in(text.encode(), "runtime_dir")
    assert found == (None if expected is None else Path(expected))


@pytest.mark.parametrize("text", [b"}{", b"\xff\xfe\x00", b"a: [1\nruntime_dir: /run/x\n"])
def test_what_is_broken_before_the_key_is_an_error(text: bytes) -> None:
    with pytest.raises((yaml.YAMLError, ValueError)):
        client.path_in(text, "runtime_dir")


def test_a_broken_file_costs_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "vipd.yaml"
    config.write_text("}{")
    assert client.control_socket(config) == Path("/run/vipd/control.sock")
    assert capsys.readouterr().err == f"warning: {config} is broken; trying /run/vipd\n"
    assert client.control_socket(tmp_path / "none") == Path("/run/vipd/control.sock")
    assert "cannot be read (No such file or directory)" in capsys.readouterr().err


def test_the_journal_is_in_the_state_dir(tmp_path: Path) -> None:
    config = tmp_path / "vipd.yaml"
    config.write_text("state_dir: /srv/vipd\n")
    assert client.journal_file(config) == Path("/srv/vipd/journal.db")
    config.write_text("node: lb1\n")
    assert client.journal_file(config) == Path("/var/lib/vipd/journal.db")


@pytest.mark.parametrize("command", ["status", "explain", "reload"])
def test_no_daemon_is_exit_3_and_one_line_with_the_socket(absent: FakeDaemon, command: str) -> None:
    result = vipd(command, "--config", absent.config)
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr == (
        f"vipd: no daemon answers on {absent.socket}: No such file or directory\n"
    )


def test_a_socket_that_a_dead_daemon_left_is_no_daemon(absent: FakeDaemon) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(absent.socket))
    result = vipd("status", "--config", absent.config)
    assert result.returncode == 3
    assert "Connection refused" in result.stderr


@contextmanager
def answering(path: Path, answer: bytes | None) -> Iterator[None]:
    """A server that sends ``answer`` to the first request; None: it stays silent."""
    done = threading.Event()

    def serve() -> None:
        connection, _address = listener.accept()
        with connection:
            connection.recv(4096)
            if answer is None:
                done.wait(10)
            else:
                connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield
        done.set()
        thread.join()


def test_a_daemon_that_hangs_is_absent(absent: FakeDaemon) -> None:
    with (
        answering(absent.socket, None),
        pytest.raises(DaemonAbsent, match=r"no answer on .*control\.sock within 0\.05 s"),
    ):
        client.request(absent.socket, "GET", "/status", 0.05)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n"])
def test_a_daemon_that_dies_or_babbles_is_absent(absent: FakeDaemon, answer: bytes) -> None:
    with answering(absent.socket, answer), pytest.raises(DaemonAbsent, match="no daemon answers"):
        client.request(absent.socket, "GET", "/status")


def test_a_complaint_of_the_daemon_is_shown() -> None:
    with pytest.raises(VipdError, match="answers 500: the disk is full"):
        client.accepted(client.Answer(500, '{"error": "the disk is full"}'))
    with pytest.raises(VipdError, match="answers 500: Internal Error"):
        client.accepted(client.Answer(500, "Internal\n\nError"))
    with pytest.raises(VipdError, match="no JSON object"):
        _ = client.Answer(200, "[1]").value


def test_a_path_that_is_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="too long"):
        client.request(tmp_path / ("x" * 120), "GET", "/status")


def test_a_socket_that_may_not_be_opened_says_so(absent: FakeDaemon) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(absent.socket))
        absent.socket.chmod(0)
        listener.listen()
        result = vipd_without_privileges("status", "--config", absent.config)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"vipd: {absent.socket}: Permission denied; run as root\n"
