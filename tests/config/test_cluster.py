"""The ``cluster`` section: its rules, what the engine gets, and what a reload says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.test_faults import FACTS, faults_of, web
from vipd.adapters.keyfile import read_keys, write_keys
from vipd.config.diff import plan
from vipd.config.digest import fingerprint
from vipd.config.load import Loaded, load, load_text
from vipd.config.summary import summary
from vipd.errors import AdapterError, ConfigError, ConfigFault
from vipd.ipc import Compiled, CompileWanted, Refused
from vipd.model import MILLISECOND_NS, SECOND_NS, ClusterConfig, MemberConfig, parse_address
from vipd.supervisor.compile import compile_file

MS = MILLISECOND_NS
ONE, TWO = bytes(32), bytes(range(32))


def cluster(
    *lines: str, nodes: str = "{lb1: 192.0.2.11, lb2: 192.0.2.12}", key_file: str = "/k"
) -> str:
    """The section in lines 6 to 9 of a file that begins with ``web()``; ``lines`` from 10."""
    body = f"cluster:\n  name: edge\n  key_file: {key_file}\n  nodes: {nodes}\n"
    return body + "".join(f"  {line}\n" for line in lines)


def loaded(text: str, node: str = "lb1", folder: Path = Path()) -> Loaded:
    return load_text(text, node=node, folder=folder)


def config_of(text: str, node: str = "lb1") -> ClusterConfig:
    config = loaded(text, node).node_config.cluster
    assert config is not None
    return config


def address(text: str) -> bytes:
    return parse_address(text)


# --- what the engine gets ------------------------------------------------------------------------


def test_without_the_section_there_is_no_cluster() -> None:
    assert loaded(web()).node_config.cluster is None


def test_the_section_resolved() -> None:
    config = config_of(
        web()
        + cluster(
            "port: 4000",
            "heartbeat_interval: 50ms",
            "heartbeat_timeout: 300ms",
            "witnesses: {wit: 192.0.2.21}",
            nodes='{lb1: 192.0.2.11, lb2: [192.0.2.12, "2001:db8::12"]}',
        )
    )
    assert config.name == "edge"
    assert config.nodes == (
        MemberConfig("lb1", (address("192.0.2.11"),)),
        MemberConfig("lb2", (address("192.0.2.12"), address("2001:db8::12"))),
    )
    assert config.witnesses == (MemberConfig("wit", (address("192.0.2.21"),)),)
    assert config.port == 4000
    assert config.heartbeat_interval_ns == 50 * MS
    assert config.heartbeat_timeout_ns == 300 * MS
    assert len(config.digest) == 8


def test_the_defaults() -> None:
    config = config_of(web() + cluster())
    assert config.port == 3112
    assert config.heartbeat_interval_ns == 100 * MS
    assert config.heartbeat_timeout_ns == SECOND_NS
    assert config.witnesses == ()


# --- the key -------------------------------------------------------------------------------------


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.key"
    write_keys(path, (TWO, ONE), replace=False)
    return path


def file_with(folder: Path, key_file: str = "cluster.key") -> Path:
    path = folder / "vipd.yaml"
    path.write_text(web() + cluster(key_file=key_file))
    path.chmod(0o600)
    return path


def test_the_keys_are_read_beside_the_file(tmp_path: Path, key: Path) -> None:
    found = load(file_with(tmp_path), facts=None, node="lb1", read_keys=read_keys)
    assert found.node_config.cluster is not None
    assert found.node_config.cluster.keys == (TWO, ONE)
    assert repr(TWO) not in repr(found)


def test_the_key_of_another_host_is_not_looked_at(tmp_path: Path) -> None:
    found = load(file_with(tmp_path), facts=None, node="lb2")
    assert found.node_config.cluster is not None
    assert found.node_config.cluster.keys == ()


def key_fault(folder: Path) -> ConfigFault:
    with pytest.raises(ConfigError) as caught:
        load(file_with(folder), facts=None, node="lb1", read_keys=read_keys)
    (fault,) = caught.value.faults
    assert (fault.line, fault.key) == (8, "cluster.key_file")
    assert str(folder / "cluster.key") in fault.problem
    return fault


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    fault = key_fault(tmp_path)
    assert "is not there" in fault.problem
    assert "vipd keygen" in fault.cure


def test_a_key_file_that_others_may_read(tmp_path: Path, key: Path) -> None:
    key.chmod(0o640)
    fault = key_fault(tmp_path)
    assert "mode 0640" in fault.problem
    assert "chmod 600" in fault.cure


@pytest.mark.parametrize("content", ["", "abc\n", f"{ONE.hex()}\n{ONE.hex()}\n"])
def test_a_key_file_without_keys(tmp_path: Path, key: Path, content: str) -> None:
    key.write_text(content)
    assert key_fault(tmp_path).cure


def test_a_reason_without_a_cure_gets_one(tmp_path: Path) -> None:
    def refuse(path: Path) -> tuple[bytes, ...]:
        raise AdapterError(f"{path}: Input/output error")

    with pytest.raises(ConfigError) as caught:
        load(file_with(tmp_path), facts=None, node="lb1", read_keys=refuse)
    assert "vipd keygen" in caught.value.faults[0].cure


def test_the_daemon_reads_the_keys_also_where_the_host_cannot_be_read(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules that need the host may be left out; an engine without its key would be deaf."""
    path = file_with(tmp_path)
    path.write_text("node: lb1\n" + path.read_text())
    monkeypatch.setattr("vipd.supervisor.compile._host_facts", lambda: None)
    done = compile_file(CompileWanted(str(path), 1))
    assert isinstance(done, Compiled)
    assert done.state.config.cluster is not None
    assert done.state.config.cluster.keys == (TWO, ONE)


# --- rules ---------------------------------------------------------------------------------------

ONE_FAULT = [
    # text after the instance, line, key, problem, cure
    ("cluster: {name: e, key_file: /k}\n", 6, "cluster.nodes", "missing", "add 'nodes:'"),
    (cluster(nodes="{lb2: 10.0.0.1}"), 9, "cluster.nodes", "lb1 is missing", "lb2 this host is"),
    (
        cluster("witnesses: {lb1: 10.0.0.3}", nodes="{lb2: 10.0.0.1, lb3: 10.0.0.2}"),
        10, "cluster.witnesses.lb1", "is a witness", "below nodes",
    ),
    (
        cluster("witnesses: {lb2: 10.0.0.3}", nodes="{lb1: 10.0.0.1, lb2: 10.0.0.2}"),
        10, "cluster.witnesses.lb2", "is a node, too", "rename",
    ),
    (
        cluster(nodes="{lb1: 10.0.0.1, lb2: [10.0.0.1]}"),
        9, "cluster.nodes.lb2", "an address of lb1: 10.0.0.1", "its own",
    ),
    (
        cluster(nodes="{lb1: [10.0.0.1, 10.0.0.1], lb2: 10.0.0.2}"),
        9, "cluster.nodes.lb1", "10.0.0.1 is listed twice", "remove one",
    ),
    (
        cluster("witnesses: {wit: 192.0.2.12}"),
        10, "cluster.witnesses.wit", "an address of lb2", "its own",
    ),
    (
        cluster(nodes="{lb1: 10.0.0.1, lb2: [10.0.0.2, 192.0.2.100]}"),
        9, "cluster.nodes.lb2", "192.0.2.100 is a VIP of web", "always has",
    ),
    (
        cluster("witnesses: {wit: 192.0.2.100}"),
        10, "cluster.witnesses.wit", "192.0.2.100 is a VIP of web", "always has",
    ),
    (
        cluster(nodes="{lb1: 10.0.0.1, lb2: 127.0.0.1}"),
        9, "cluster.nodes.lb2", "a loopback address", "reach it",
    ),
    (
        cluster(nodes='{lb1: 10.0.0.1, lb2: [10.0.0.2, "fe80::1"]}'),
        9, "cluster.nodes.lb2", "fe80::1 is link-local", "global",
    ),
    (
        cluster(nodes='{lb1: 10.0.0.1, lb2: "2001:db8::2"}'),
        9, "cluster.nodes.lb2", "lb2 and lb1 have no address of the same family", "both",
    ),
    (
        cluster('witnesses: {wit: "fd00::2"}', nodes='{lb1: [10.0.0.1, "fd00::1"], lb2: 10.0.0.2}'),
        10, "cluster.witnesses.wit", "wit and lb2 have no address", "both",
    ),
    (
        cluster("heartbeat_timeout: 199ms"),
        10, "cluster.heartbeat_timeout", "two heartbeats", "at least 200ms",
    ),
    (
        cluster("heartbeat_interval: 501ms"),
        10, "cluster.heartbeat_interval", "which is 1s (auto)", "at most 500ms",
    ),
    (cluster("name: rim"), 10, "cluster.name", "twice", "keep"),
]  # fmt: skip


@pytest.mark.parametrize(("tail", "line", "key", "problem", "cure"), ONE_FAULT)
def test_one_fault(tail: str, line: int, key: str, problem: str, cure: str) -> None:
    (fault,) = faults_of(web() + tail, facts=None)
    assert (fault.line, fault.key) == (line, key)
    assert problem in fault.problem
    assert cure in fault.cure


@pytest.mark.parametrize(
    "lines",
    [
        ("heartbeat_timeout: 200ms",),
        ("heartbeat_interval: 500ms",),
        ("heartbeat_interval: 1s", "heartbeat_timeout: 2s"),
    ],
)
def test_two_heartbeats_are_enough(lines: tuple[str, ...]) -> None:
    assert loaded(web() + cluster(*lines)).warnings == ()


def test_with_quorum_auto_is_shorter() -> None:
    text = web() + cluster("heartbeat_interval: 151ms", "witnesses: {wit: 192.0.2.21}")
    keys = [each.key for each in faults_of(text + "quorum: {policy: require}\n", facts=None)]
    assert keys == ["cluster.heartbeat_interval", "quorum.policy"]


def test_mixed_families_are_fine() -> None:
    nodes = '{lb1: ["2001:db8::1", 10.0.0.1], lb2: [10.0.0.2, "2001:db8::2"], lb3: "2001:db8::3"}'
    assert loaded(web() + cluster(nodes=nodes)).warnings == ()


def test_no_address_owner_in_a_cluster_whichever_node_it_is() -> None:
    assert loaded(web("priority: {lb1: 150, lb2: 255}")).warnings == ()
    (fault,) = faults_of(web("priority: {lb1: 150, lb2: 255}") + cluster(), facts=None)
    assert (fault.line, fault.key) == (6, "instances.web.priority.lb2")
    (fault,) = faults_of(web("priority: 255") + cluster(), facts=None)
    assert (fault.line, fault.key) == (6, "instances.web.priority")
    assert "write 1 to 254" in fault.cure


def test_later_releases_stay_refused() -> None:
    tail = cluster("witnesses: {wit: 192.0.2.21}") + "quorum: {policy: observe}\nfence: gate\n"
    found = [(each.key, each.problem) for each in faults_of(web("accept: false") + tail, None)]
    assert found == [
        ("instances.web.accept", "not supported yet"),
        ("quorum.policy", "not supported yet"),
        ("fence", "not supported yet"),
    ]


# --- warnings ------------------------------------------------------------------------------------


def warned(text: str, **known: object) -> list[tuple[int, str, str]]:
    found = load_text(text, node="lb1", **known)  # type: ignore[arg-type]
    return [(each.line, each.key, each.problem) for each in found.warnings]


def test_a_cluster_of_one() -> None:
    ((line, key, problem),) = warned(web() + cluster(nodes="{lb1: 10.0.0.1}"))
    assert (line, key) == (9, "cluster.nodes")
    assert "no other node" in problem


def test_a_name_that_is_no_node() -> None:
    text = web("priority: {lb1: 150, lb2: 100, lb7: 90}", "source: {lb1: 10.0.0.1, lb2: 10.0.0.2}")
    ((line, key, problem),) = warned(text + cluster())
    assert (line, key) == (6, "instances.web.priority.lb7")
    assert problem == "lb7 is no node of the cluster"


def test_a_node_that_a_mapping_forgets() -> None:
    ((line, key, problem),) = warned(web("priority: {lb1: 150}") + cluster())
    assert (line, key) == (6, "instances.web.priority")
    assert problem.startswith("lb2 is named elsewhere")
    assert warned(web("priority: {lb1: 150}")) == []


def test_an_address_that_this_host_does_not_have() -> None:
    nodes = "{lb1: [192.0.2.11, 192.0.2.201, 10.0.0.1], lb2: 192.0.2.12}"
    found = load_text(web() + cluster(nodes=nodes), node="lb1", facts=FACTS)
    (warning,) = found.warnings
    assert (warning.line, warning.key) == (9, "cluster.nodes.lb1")
    assert warning.problem == "this host does not have 192.0.2.201, 10.0.0.1 now"  # one is vipd's
    assert "there is 192.0.2.11, 192.0.2.200" in warning.cure
    assert warned(web() + cluster(), facts=FACTS) == []


# --- a reload ------------------------------------------------------------------------------------

KEPT = "web: kept, unchanged"


def planned(old: str, new: str) -> tuple[str, ...]:
    first, *rest = plan(loaded(old).node_config, loaded(new).node_config)
    assert first == KEPT
    return tuple(rest)


def test_nothing_is_said_of_a_cluster_that_stays() -> None:
    assert planned(web() + cluster(), web() + cluster()) == ()


def test_into_a_cluster_and_out() -> None:
    assert planned(web(), web() + cluster()) == (
        "cluster: new: edge of lb1 (192.0.2.11), lb2 (192.0.2.12); cluster mode from now on",
    )
    assert planned(web() + cluster(), web()) == ("cluster: removed: edge; plain VRRP from now on",)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: edge", "name: rim", "name edge -> rim; members that keep the old name"),
        ("key_file: /k\n", "key_file: /k\n  port: 4000\n", "port 3112 -> 4000; members"),
        ("/k\n", "/k\n  heartbeat_interval: 50ms\n", "heartbeat_interval 100ms -> 50ms"),
        ("/k\n", "/k\n  heartbeat_timeout: 300ms\n", "heartbeat_timeout 1s -> 300ms"),
        ("lb2: 192.0.2.12", "lb2: [192.0.2.12, 10.0.0.2]", "node lb2 moves from 192.0.2.12 to"),
        ("lb2: 192.0.2.12", "lb2: 192.0.2.12, lb3: 192.0.2.13", "node lb3 added at 192.0.2.13"),
        ("lb2: 192.0.2.12", "lb3: 192.0.2.12", "node lb2 removed"),
        ("/k\n", "/k\n  witnesses: {wit: 10.0.0.9}\n", "witness wit added at 10.0.0.9"),
    ],
)  # fmt: skip
def test_what_a_changed_cluster_means(old: str, new: str, said: str) -> None:
    before = web() + cluster()
    lines = planned(before, before.replace(old, new))
    assert before != before.replace(old, new)
    assert any(line.startswith(f"cluster: {said}") for line in lines)
    assert "what must be equal on all nodes changes" in lines[-1]
    assert len(lines) == (3 if new.startswith("lb3: ") else 2)


def test_a_new_key_is_no_drift() -> None:
    def with_keys(*keys: bytes) -> Loaded:
        return load_text(web() + cluster(), node="lb1", read_keys=lambda _path: keys)

    def said(old: Loaded, new: Loaded) -> list[str]:
        return [
            line.removeprefix("cluster: ") for line in plan(old.node_config, new.node_config)[1:]
        ]

    one, two = fingerprint(ONE), fingerprint(TWO)
    assert one != two
    assert said(with_keys(ONE), with_keys(ONE, TWO)) == [f"key {two} verifies, too"]
    assert said(with_keys(ONE, TWO), with_keys(TWO, ONE)) == [
        f"signs with key {two}; members that do not have it are deaf to us"
    ]
    assert said(with_keys(TWO, ONE), with_keys(TWO)) == [f"key {one} does not verify any more"]


@pytest.mark.parametrize(("before", "after"), [("", ""), (cluster(), cluster()), ("", cluster())])
def test_a_node_of_a_cluster_keeps_its_name_while_it_runs(
    tmp_path: Path, key: Path, before: str, after: str
) -> None:
    text = web() + before.replace("/k", "cluster.key")
    old = load_text("node: lb2\n" + text, folder=tmp_path).node_config
    path = tmp_path / "vipd.yaml"
    path.write_text("node: lb1\n" + web() + after.replace("/k", "cluster.key"))
    done = compile_file(CompileWanted(str(path), 2, old))
    if after:
        assert isinstance(done, Refused)
        assert "runs as lb2" in done.faults[0]
    else:
        assert isinstance(done, Compiled)
        assert done.changes[0] == "node lb2 -> lb1"


# --- vipd check ----------------------------------------------------------------------------------


def test_the_summary_has_what_people_compare() -> None:
    text = web() + cluster("witnesses: {wit: 10.0.0.9}")
    found = load_text(text, node="lb1", read_keys=lambda _path: (TWO, ONE))
    assert found.node_config.cluster is not None
    lines = summary(Path("vipd.yaml"), found)
    digest = found.node_config.cluster.digest.hex()
    assert lines[-5:] == [
        "  cluster edge: node lb1 at 192.0.2.11",
        "  cluster edge: node lb2 at 192.0.2.12",
        "  cluster edge: witness wit at 10.0.0.9",
        "  cluster edge: UDP port 3112, a heartbeat every 100ms; a node that is silent on the "
        "channel and on the VIPs' network is replaced after 1s",
        f"  cluster edge: configuration digest {digest}, keys {fingerprint(TWO)} and "
        f"{fingerprint(ONE)}; the same on all nodes",
    ]
    assert "keys not looked at" in summary(Path("vipd.yaml"), loaded(text))[-1]
