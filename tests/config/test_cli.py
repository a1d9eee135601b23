"""``vipd check`` and ``vipd schema``: output, streams and exit codes."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from vipd.adapters.hostfacts import read_host
from vipd.adapters.keyfile import write_keys
from vipd.cli.app import COMMANDS, app
from vipd.config.digest import fingerprint
from vipd.config.load import short_host_name
from vipd.config.schema import json_schema
from vipd.errors import AdapterError, ConfigError
from vipd.model import parse_address

ETC = Path(__file__).parents[2] / "etc"


def vipd(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = "from vipd.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60
    )


def test_check_of_the_example() -> None:
    result = CliRunner().invoke(app, ["check", "--config", str(ETC / "vipd.yaml"), "--node", "lb2"])
    assert result.exit_code == 0, result.output
    assert "good for node lb2, 1 instance" in result.output
    assert "VRRPv3 IPv4, VRID 51 on eth0, priority 100, multicast" in result.output
    assert "2001:db8::100/64 (not advertised)" in result.output
    assert "a silent master is replaced within 4s" in result.output


def test_check_says_what_moves_mastership_and_what_is_run(tmp_path: Path) -> None:
    file = tmp_path / "vipd.yaml"
    file.write_text("""
instances:
  web:
    interface: eth0
    vrid: 51
    vips: [192.0.2.100/24]
    track: [{check: nginx, weight: -60}, {interface: eth1, debounce: 1s}]
    notify: {master: /etc/vipd/hooks/to-master --secret, user: vipd}
  api: {interface: eth0, vrid: 52, vips: [192.0.2.101/24]}
groups:
  edge: {instances: [web, api], track: [{check: drain}], notify: {any: [/bin/true]}}
checks:
  nginx: {http: "http://127.0.0.1/", interval: 1s, timeout: 500ms, fall: 2}
  drain: {file: /run/drain, absent: true, interval: 5s}
""")
    result = CliRunner().invoke(app, ["check", "--config", str(file), "--node", "lb2"])
    assert result.exit_code == 0, result.output
    for line in (
        "  web: tracks nginx, weight -60; interface eth1, no weight, debounce 1s",
        "  web: hooks as vipd: master /etc/vipd/hooks/to-master",
        "  edge: group of web, api, which move together",
        "  edge: tracks drain, no weight, waited for",
        "  edge: hooks as root: any /bin/true",
        "  check nginx: http http://127.0.0.1/, every 1s; a failure is known within 2.5s",
        "  check drain: file /run/drain, every 5s; a failure is known within 15.5s",
    ):
        assert line in result.output.splitlines()


def test_check_raises_the_faults_for_main(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", "--config", str(tmp_path / "none")])
    assert isinstance(result.exception, ConfigError)


def test_exit_codes_and_streams(tmp_path: Path) -> None:
    good = vipd("check", "--config", str(ETC / "vipd.yaml"), "--node", "lb1")
    assert (good.returncode, good.stderr) == (0, "")
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "instances:\n  web: {interface: eth0, vrid: 0, vips: [192.0.2.1]}\nfence: gate\n"
    )
    result = vipd("check", "--config", str(bad), "--node", "lb1")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        f"{bad}:2: instances.web.vrid: 0 is out of range; write a whole number from 1 to 255",
        f"{bad}:3: fence: not supported yet; write auto or lifetime; a frozen master would not be "
        "shut out",
    ]
    assert vipd("check", "--confg", "x").returncode == 2
    assert vipd("chekc").returncode == 2


def test_warnings_go_to_stderr_and_do_not_fail(tmp_path: Path) -> None:
    config = tmp_path / "vipd.yaml"
    config.write_text("instances:\n  web: {interface: no-such0, vrid: 1, vips: [192.0.2.1]}\n")
    result = vipd("check", "--config", str(config))
    assert result.returncode == 0
    assert result.stderr.startswith(f"warning: {config}:2: instances.web.interface: ")


def test_schema_prints_the_schema() -> None:
    result = vipd("schema")
    assert result.returncode == 0
    assert json.loads(result.stdout) == json_schema()


def test_a_command_imports_only_what_it_needs() -> None:
    program = (
        "import sys; from vipd.cli.app import app\n"
        "app(['--version'], standalone_mode=False)\n"
        "print(sorted({'pydantic', 'pyroute2', 'yaml', 'scapy', 'aiohttp'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str) -> None:
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_read_host_finds_the_loopback() -> None:
    links, addresses = read_host()
    loopback = next(link for link in links if link.name == "lo")
    assert loopback.mtu > 0
    assert isinstance(addresses, tuple)
    if loopback.up:
        assert parse_address("127.0.0.1") in {address.address for address in addresses}


# --- the key of a cluster ------------------------------------------------------------------------


@pytest.fixture
def in_cluster(tmp_path: Path) -> Path:
    """A good file for this very host; its key is not there yet."""
    file = tmp_path / "vipd.yaml"
    file.write_text(
        f"node: {short_host_name()}\n"
        "instances: {web: {interface: lo, vrid: 51, vips: [192.0.2.100/24]}}\n"
        "cluster: {name: edge, key_file: cluster.key, nodes: {THIS: 192.0.2.11}}\n".replace(
            "THIS", short_host_name()
        )
    )
    file.chmod(0o600)
    return file


def checked(file: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["check", "--config", str(file), *arguments])


def test_the_key_is_judged_on_its_host_only(in_cluster: Path) -> None:
    error = checked(in_cluster).exception
    assert isinstance(error, ConfigError)
    assert [fault.key for fault in error.faults] == ["cluster.key_file"]
    in_cluster.write_text(in_cluster.read_text().replace("nodes: {", "nodes: {other: 10.0.0.1, "))
    elsewhere = checked(in_cluster, "--node", "other")
    assert elsewhere.exit_code == 0, elsewhere.output
    assert "keys not looked at" in elsewhere.output
    write_keys(in_cluster.with_name("cluster.key"), (bytes(32),), replace=False)
    here = checked(in_cluster)
    assert here.exit_code == 0, here.output
    assert f"keys {fingerprint(bytes(32))};" in here.output


def test_who_may_not_read_the_key_may_still_judge_the_file(
    in_cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> tuple[bytes, ...]:
        raise AdapterError(f"{path}: Permission denied", errno.EACCES)

    monkeypatch.setattr("vipd.adapters.keyfile.read_keys", refuse)
    assert isinstance(checked(in_cluster).exception, ConfigError)  # root should have been able to
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    result = checked(in_cluster)
    assert result.exit_code == 0, result.output
    assert "the key is left out" in result.stderr
