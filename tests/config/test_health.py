"""``checks``: values, every fault and warning, and the programs that they name."""

from __future__ import annotations

import getpass
import os
import pwd
import tempfile
from pathlib import Path

import pytest

from tests.config.test_faults import FACTS, faults_of, web
from vipd.config.health import detection_ns
from vipd.config.load import Loaded, examine, load_text
from vipd.config.types import format_duration
from vipd.duties import (
    CheckConfig,
    FileProbe,
    HttpProbe,
    Initial,
    InterfaceProbe,
    PingProbe,
    Probe,
    ProcessProbe,
    ScriptProbe,
    SystemdProbe,
    TcpProbe,
)
from vipd.model import MILLISECOND_NS, SECOND_NS, parse_address

URL = "http: 'http://h/'"


def with_check(options: str, *, tracked: bool = True) -> str:
    """The check ``a`` in line 8 of a good file (line 7 where nothing tracks it)."""
    track = ("track: [{check: a}]",) if tracked else ()
    return f"{web(*track)}checks:\n  a: {{{options}}}\n"


def the_check(options: str, node: str = "lb1", folder: Path = Path()) -> CheckConfig:
    loaded = load_text(with_check(options), node=node, folder=folder)
    assert loaded.warnings == ()
    (check,) = loaded.duties.checks
    return check


def test_defaults() -> None:
    assert the_check("file: /x") == CheckConfig(
        name="a",
        probe=FileProbe("/x"),
        interval_ns=SECOND_NS,
        timeout_ns=500 * MILLISECOND_NS,
        rise=2,
        fall=3,
        initial=Initial.WAIT,
    )


def test_schedule() -> None:
    text = "file: /x, interval: 100ms, timeout: 2s, rise: 1, fall: 1, initial: unhealthy"
    assert the_check(text) == CheckConfig(
        name="a",
        probe=FileProbe("/x"),
        interval_ns=100 * MILLISECOND_NS,
        timeout_ns=2 * SECOND_NS,
        rise=1,
        fall=1,
        initial=Initial.UNHEALTHY,
    )


LB1 = parse_address("192.0.2.11")
PROBES: list[tuple[str, Probe]] = [
    (URL, HttpProbe("http://h/")),
    (
        "http: 'https://h:8443/x?y', method: HEAD, status: 204, headers: {X-A: b}, host: www.h,"
        " unix_socket: /run/h, verify: false",
        HttpProbe(
            "https://h:8443/x?y", "HEAD", ((204, 204),), None, {"X-A": "b"}, "www.h", "/run/h",
            verify=False,
        ),
    ),
    (f"{URL}, status: 200-399", HttpProbe("http://h/", statuses=((200, 399),))),
    (
        f"{URL}, status: [200, '301-302', '404'], body: 'ok|fine'",
        HttpProbe("http://h/", statuses=((200, 200), (301, 302), (404, 404)), body="ok|fine"),
    ),
    ("http: 'https://h/', ca_file: /ca.pem", HttpProbe("https://h/", ca_file="/ca.pem")),
    ("script: '/x \"a b\"'", ScriptProbe(("/x", "a b"))),
    ("script: [/x, y], user: vipd", ScriptProbe(("/x", "y"), "vipd")),
    ("tcp: 'db.example.org:5432'", TcpProbe("db.example.org", 5432)),
    ("tcp: '[2001:db8::1]:80'", TcpProbe("2001:db8::1", 80)),
    ("tcp: '192.0.2.9:80', source: 192.0.2.11", TcpProbe("192.0.2.9", 80, LB1)),
    ("ping: 192.0.2.1", PingProbe(parse_address("192.0.2.1"))),
    ("ping: 192.0.2.1, source: {lb1: 192.0.2.11}", PingProbe(parse_address("192.0.2.1"), LB1)),
    ("process: nginx", ProcessProbe("nginx")),
    ("process: nginx, count: 5", ProcessProbe("nginx", 5)),
    ("file: /x, absent: true", FileProbe("/x", absent=True)),
    ("file: /x, number: true", FileProbe("/x", number=True)),
    ("interface: eth0", InterfaceProbe("eth0")),
    ("interface: {lb1: eth0}, address: {lb1: 192.0.2.11}", InterfaceProbe("eth0", LB1)),
    ("systemd: nginx", SystemdProbe("nginx.service")),
    ("systemd: x.socket", SystemdProbe("x.socket")),
    ("systemd: getty@tty1.service", SystemdProbe("getty@tty1.service")),
    ("systemd: my.app", SystemdProbe("my.app.service")),
]  # fmt: skip


@pytest.mark.parametrize(("options", "probe"), PROBES)
def test_probes(options: str, probe: Probe) -> None:
    assert the_check(options).probe == probe


def test_values_per_node() -> None:
    text = "interface: {lb1: eth0, lb2: ens3}, address: {lb1: 192.0.2.11, lb2: 192.0.2.12}"
    assert the_check(text, "lb2").probe == InterfaceProbe("ens3", parse_address("192.0.2.12"))


def test_a_relative_ca_file_starts_at_the_files_folder(tmp_path: Path) -> None:
    probe = the_check("http: 'https://h/', ca_file: ca.pem", folder=tmp_path).probe
    assert isinstance(probe, HttpProbe)
    assert probe.ca_file == str(tmp_path / "ca.pem")


FAULTS = [
    # options, key below checks.a, problem, cure
    ("", "", "it checks nothing", "exactly one of http, script, tcp, ping, process, file, inter"),
    ("tcp: 'h:1', file: /x", "", "tcp and file are given", "exactly one"),
    ("tcp: 'h:1', status: 200", "status", "belongs to http checks", "from this tcp check"),
    ("ping: 192.0.2.1, count: 2", "count", "belongs to process checks", "remove"),
    ("file: /x, source: 192.0.2.1", "source", "belongs to tcp and ping checks", "remove"),
    ("file: /x, address: 192.0.2.1", "address", "belongs to interface checks", "remove"),
    ("http: '/healthz'", "http", "'/healthz' is not a URL", "http://HOST"),
    ("http: 'ftp://h/'", "http", "is not a URL", "http://HOST"),
    ("http: 'http://h:99999/'", "http", "impossible port", "http://HOST"),
    ("http: 'http://h:0/'", "http", "impossible port", "http://HOST"),
    ("http: 'http://:80/'", "http", "has no host", "http://HOST"),
    ("http: 'http://u:hunter2@h/'", "http", "holds a user or a password", "Authorization"),
    ("http: 'u:hunter2@h'", "http", "this is not a URL", "http://HOST"),
    (f"{URL}, status: 99", "status", "99 is not an HTTP status", "'200-399'"),
    (f"{URL}, status: 600", "status", "600 is out of range", "100 to 599"),
    (f"{URL}, status: '399-200'", "status", "out of range", "100 to 599"),
    (f"{URL}, status: [200, ok]", "status", "'ok' is not an HTTP status", "list"),
    (f"{URL}, status: []", "status", "the list is empty", "write 200"),
    (f"{URL}, status: true", "status", "true is not an HTTP status", "write 200"),
    (f"{URL}, method: PUT", "method", "'PUT' is not possible here", "GET, HEAD, OPTIONS or POST"),
    (f"{URL}, body: '(ok'", "body", "not a regular expression: missing )", "backslash"),
    (f"{URL}, body: 7", "body", "7 is not a regular expression", "quotes"),
    (f"{URL}, method: HEAD, body: ok", "body", "HEAD has no body", "method: GET"),
    (f"{URL}, headers: {{Host: x}}", "headers", "option of its own", "'host:'"),
    (f"{URL}, headers: {{a b: x}}", "headers.a b", "not a header name", "without ':'"),
    (f"{URL}, headers: {{A: 7}}", "headers.A", "the value is not text", "quotes"),
    (f'{URL}, headers: {{A: "hunter2\\nB: c"}}', "headers.A", "no header can hold", "one line"),
    (f"{URL}, headers: hunter2", "headers", "this is not a mapping", "indented"),
    (f"{URL}, headers: [hunter2]", "headers", "this is not a mapping", "indented"),
    (f"{URL}, host: 'a b'", "host", "'a b' is not a host", "a name or an address"),
    (f"{URL}, unix_socket: run/x", "unix_socket", "not an absolute path", "from '/'"),
    (f"{URL}, verify: off", "verify", "neither true nor false", "write false"),
    ("script: run-me", "script", "not an absolute path", "/etc/vipd"),
    ('script: "/x \'y"', "script", "quote is not closed", "list"),
    ('script: ["/x\\0y"]', "script", "zero byte", "list"),
    ("script: /x, user: 7", "user", "7 is a number", "quotes"),
    ("script: /x, user: Big Boss", "user", "not a user name", "user of this system"),
    ("tcp: h", "tcp", "'h' is not HOST:PORT", "127.0.0.1:5432"),
    ("tcp: '::1:80'", "tcp", "is not HOST:PORT", "[2001:db8::1]:5432"),
    ("tcp: '[::g]:80'", "tcp", "is not HOST:PORT", "[2001:db8::1]:5432"),
    ("tcp: '[1:2]:80'", "tcp", "not an IP address", "[2001:db8::1]:5432"),
    ("tcp: 'h:0'", "tcp", "0 is not a port", "1 to 65535"),
    ("tcp: 'h:65536'", "tcp", "65536 is not a port", "1 to 65535"),
    ("tcp: '[::1]:80', source: 192.0.2.11", "source", "of the other family", "IPv6"),
    ("ping: '2001:db8::1', source: 192.0.2.11", "source", "of the other family", "IPv6"),
    ("ping: 192.0.2.1, source: {lb2: 192.0.2.12}", "source", "lb1 is missing", "add 'lb1:'"),
    ("ping: example.org", "ping", "not an IP address", "without prefix"),
    ("ping: fe80::1", "ping", "link-local", "global address"),
    ("process: /bin/x", "process", "not a process name", "without path"),
    ("process: x, count: 0", "count", "0 is out of range", "1 to 100000"),
    ("file: x", "file", "not an absolute path", "from '/'"),
    ("file: /x, absent: true, number: true", "absent", "no meaning for a file that", "counts as 0"),
    ("interface: {lb2: eth0}", "interface", "lb1 is missing", "add 'lb1:'"),
    ("interface: eth0, address: {lb2: 192.0.2.1}", "address", "lb1 is missing", "add 'lb1:'"),
    ("interface: a/b", "interface", "not an interface name", "ip link"),
    ("systemd: a b", "systemd", "not a systemd unit", "systemctl"),
    ("file: /x, initial: maybe", "initial", "'maybe' is not", "healthy, unhealthy or wait"),
    ("file: /x, interval: 1", "interval", "no unit", "1s"),
    ("file: /x, interval: 1ms", "interval", "out of range", "10ms to 1h"),
    ("file: /x, timeout: 0s", "timeout", "out of range", "1ms to 1h"),
    ("file: /x, rise: 0", "rise", "out of range", "1 to 1000"),
    ("file: /x, fall: 0", "fall", "out of range", "1 to 1000"),
    ("file: /x, fal: 1", "fal", "unknown key", "'fall'"),
]


@pytest.mark.parametrize(("options", "key", "problem", "cure"), FAULTS)
def test_one_fault(options: str, key: str, problem: str, cure: str) -> None:
    (fault,) = faults_of(with_check(options), facts=None)
    where = "checks.a" + (f".{key}" if key else "")
    assert str(fault).startswith(f"vipd.yaml:8: {where}: ")
    assert problem in fault.problem
    assert cure in fault.cure
    assert "hunter2" not in str(fault)


WARNINGS = [
    (f"{URL}, verify: false", ".verify", "no effect on an http URL"),
    (f"{URL}, ca_file: /ca", ".ca_file", "no effect on an http URL"),
    ("http: 'https://h/', ca_file: /ca, verify: false", ".ca_file", "while verify is false"),
    ("file: /x, interval: 20s", "", "unnoticed for 60.5s"),
    ("ping: 192.0.2.1, source: 192.0.2.100", ".source", "192.0.2.100 is a VIP"),
    ("interface: eth0, address: {lb1: 192.0.2.100}", ".address", "192.0.2.100 is a VIP"),
    ("ping: 192.0.2.1, source: {lb1: 192.0.2.11, lb9: 192.0.2.19}", "", ""),
]


@pytest.mark.parametrize(("options", "key", "problem"), WARNINGS)
def test_warnings(options: str, key: str, problem: str) -> None:
    warnings = load_text(with_check(options), node="lb1").warnings
    if not problem:
        assert warnings == ()
        return
    (warning,) = warnings
    assert (warning.line, warning.key) == (8, f"checks.a{key}")
    assert problem in warning.problem
    assert warning.cure


def test_a_node_that_is_missing_elsewhere_is_told() -> None:
    two = "interface: {lb1: eth0, lb2: eth0}, address: {lb1: 192.0.2.11}"
    (warning,) = load_text(with_check(two), node="lb1").warnings
    assert (warning.line, warning.key) == (8, "checks.a.address")
    assert warning.problem == "lb2 is named elsewhere in the file, but not here"


def test_a_check_that_nothing_tracks() -> None:
    loaded = load_text(with_check("file: /x", tracked=False), node="lb1")
    assert [check.name for check in loaded.duties.checks] == ["a"]
    (warning,) = loaded.warnings
    assert (warning.line, warning.key) == (7, "checks.a")
    assert "nothing tracks it" in warning.problem


def test_a_damaged_track_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    config = tmp_path / "vipd.yaml"
    config.write_text(with_check("file: /x").replace("{check: a}", "{check: a b}"))
    report = examine(config, facts=None, node="lb1")
    assert [fault.key for fault in report.faults] == ["instances.web.track[0].check"]
    assert report.warnings == ()


@pytest.mark.parametrize(
    ("options", "longest"),
    [
        ("interval: 1s, timeout: 500ms, fall: 3", "3.5s"),
        ("interval: 100ms, timeout: 100ms, fall: 1", "200ms"),
        ("interval: 1s, timeout: 1s, fall: 2", "3s"),
        ("interval: 1s, timeout: 1.5s, fall: 3", "6.5s"),  # runs begin every other second
    ],
)
def test_the_longest_time_to_the_verdict(options: str, longest: str) -> None:
    assert format_duration(detection_ns(the_check(f"file: /x, {options}"))) == longest


# --- on the host itself -----------------------------------------------------------------------


def on_host(options: str, folder: Path) -> Loaded:
    return load_text(with_check(options), node="lb1", facts=FACTS, folder=folder)


def host_fault(options: str) -> tuple[str, str, str]:
    (fault,) = faults_of(with_check(options), facts=FACTS)
    assert fault.line == 8
    return fault.key, fault.problem, fault.cure


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "probe"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_programs_are_not_judged_for_another_node() -> None:
    assert the_check("script: /no/such, user: no-such-user")


def test_a_program_that_is_not_there() -> None:
    key, problem, cure = host_fault("script: /no/such")
    assert key == "checks.a.script"
    assert problem == "/no/such cannot be run: No such file or directory"
    assert "create it" in cure


def test_a_program_that_is_none(program: Path) -> None:
    program.chmod(0o644)
    assert host_fault(f"script: {program}")[1] == f"{program} is not executable"
    assert host_fault(f"script: {program.parent}")[1] == f"{program.parent} is no regular file"


def test_root_runs_nothing_that_others_can_change(program: Path) -> None:
    program.chmod(0o777)
    key, problem, cure = host_fault(f"script: {program}")
    assert key == "checks.a.script"
    assert problem.startswith(f"root would run {program}, but {program.anchor}")
    assert "chmod go-w it, or say with 'user:'" in cure
    own = f"script: {program}, user: {getpass.getuser()}"
    assert on_host(own, program.parent).warnings == ()


def test_an_unknown_user(program: Path) -> None:
    key, problem, cure = host_fault(f"script: {program}, user: no-such-user")
    assert key == "checks.a.user"
    assert problem == "this host has no user no-such-user"
    assert "useradd --system no-such-user" in cure


def test_a_user_that_may_not_run_it(program: Path) -> None:
    program.parent.chmod(0o700)
    (warning,) = on_host(f"script: {program}, user: nobody", program.parent).warnings
    assert warning.key == "checks.a.script"
    assert f"nobody may not run {program}: the mode of {program.parents[2].root}" in warning.problem
    assert "chmod o+x" in warning.cure


@pytest.mark.realroot
def test_the_bits_of_the_owner_decide_for_the_owner() -> None:
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "probe"
        program.write_text("#!/bin/sh\n")
        program.parent.chmod(0o755)
        os.chown(program, nobody.pw_uid, nobody.pw_gid)
        for mode, warnings in ((0o500, 0), (0o077, 1)):
            program.chmod(mode)
            loaded = on_host(f"script: {program}, user: nobody", Path())
            assert len(loaded.warnings) == warnings, oct(mode)


def test_a_damaged_user_is_not_taken_for_root(program: Path) -> None:
    program.chmod(0o777)
    assert host_fault(f"script: {program}, user: a b")[0] == "checks.a.user"


def test_the_authorities_are_read(tmp_path: Path) -> None:
    options = f"http: 'https://h/', ca_file: {tmp_path}/ca.pem"
    key, problem, _cure = host_fault(options)
    assert key == "checks.a.ca_file"
    assert problem == f"{tmp_path}/ca.pem cannot be read: No such file or directory"
    (tmp_path / "ca.pem").write_text("nothing\n")
    assert host_fault(options)[1] == f"{tmp_path}/ca.pem holds no certificate"


@pytest.mark.parametrize(
    ("options", "key", "problem"),
    [
        ("interface: eth7", "interface", "this host has no interface eth7 now"),
        ("ping: 192.0.2.1, source: 192.0.2.77", "source", "does not have 192.0.2.77 now"),
    ],
)
def test_warnings_of_the_host(options: str, key: str, problem: str) -> None:
    (warning,) = on_host(options, Path()).warnings
    assert warning.key == f"checks.a.{key}"
    assert problem in warning.problem


def test_headers_in_a_file_that_everybody_can_read(tmp_path: Path) -> None:
    config = tmp_path / "vipd.yaml"
    for header, count in (("AUTHORIZATION", 1), ("Accept", 0)):
        config.write_text(with_check(f"{URL}, headers: {{{header}: hunter2}}"))
        config.chmod(0o644)
        report = examine(config, facts=None, node="lb1")
        assert [item.key for item in report.warnings] == ["checks.a.headers"] * count
        assert "hunter2" not in repr(report)
        config.chmod(0o640)
        assert examine(config, facts=None, node="lb1").warnings == ()
