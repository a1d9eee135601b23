"""Hooks and checks under the packaged unit: what they may do, and how stops and deaths treat them.

Scripts say what they see in their output, which ``vipd events`` keeps, and in ``state_dir``, the
one directory of the sandbox that root hooks can write to.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.systemd.pair import CONFIG, VIP, Pair
from tests.systemd.rig import Host, wait_for

pytestmark = [pytest.mark.realroot, pytest.mark.timeout(400)]

WHERE = "/usr/local/lib/vipd-test"
TOLD = "/var/lib/vipd/told"
PIDS = "/var/lib/vipd/pids"
STOP_SOON = "/etc/systemd/system/vipd.service.d/soon.conf"
SCRIPTS = {
    "rights": """\
grep -E '^(Uid|Groups|Cap(Inh|Prm|Eff|Amb)|NoNewPrivs):' /proc/self/status
echo "oom: $(cat /proc/self/oom_score_adj) nice: $(nice)"
""",
    # A check of the same: says no to whatever it should not have.
    "poor": f"""\
seen=$({WHERE}/rights)
echo "$seen"
[ "$(id -u)" != 0 ] || exit 1
echo "$seen" | grep -q 'CapEff:.0*$' && echo "$seen" | grep -q 'oom: 0 nice: 0$'
""",
    "root": f"""\
{WHERE}/rights
echo "$VIPD_STATE" >>{TOLD} && echo "state_dir can be written"
touch /etc/x 2>/dev/null || echo "etc cannot be written"
""",
    "leaving": f"ip address show | grep -q {VIP}/ && sleep 4 && echo leaving >>{TOLD}",
    "stop": f"ip address show | grep -q {VIP}/ || (sleep 3; echo stopped >>{TOLD})",
    "end": f"echo ended >>{TOLD}",
    "slow": f"echo $$ >{PIDS}; sleep 1000 & echo $! >>{PIDS}; echo slow >>{TOLD}; wait",
}
DUTIES = """\
  api:
    interface: host0
    vrid: 52
    priority: {lb1: 150, lb2: 100}
    preempt: false
    advert_interval: 200ms
    vips:
      - 198.51.100.102/24
    track: [{check: poor}]
    notify: {any: /usr/local/lib/vipd-test/rights, user: nobody}
checks:
  poor: {script: /usr/local/lib/vipd-test/poor, user: nobody}
"""


def config_with(**hooks: str) -> str:
    """CONFIG with these hooks of ``web``, and an instance whose hooks and checks are nobody's."""
    lines = "".join(f"      {occasion}: {WHERE}/{name}\n" for occasion, name in hooks.items())
    notify = f"    notify:\n      timeout: 20s\n{lines}"
    return CONFIG.replace("address_lifetime", f"{notify}{DUTIES}address_lifetime")


def take_over(pair: Pair, **hooks: str) -> tuple[Host, Host]:
    """Both run with these hooks; returns (holder, other)."""
    for host in pair.hosts:
        for name, text in SCRIPTS.items():
            host.write(f"{WHERE}/{name}", f"#!/bin/sh\n{text}")
            (host.tree / f"{WHERE}/{name}".lstrip("/")).chmod(0o755)
        host.run("rm", "-f", TOLD)
        host.write("/etc/vipd.yaml", config_with(**hooks))
        host.run("systemctl", "reload", "vipd")
    return pair.settle()


def told(host: Host) -> list[str]:
    return host.run("sh", "-c", f"cat {TOLD} 2>/dev/null || true").split()


def hooks(host: Host, subject: str) -> list[dict[str, Any]]:
    """What the journal has of the hooks of one instance, the newest last."""
    lines = host.run("vipd", "events", "--json", "-n", "500").splitlines()
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    return [e["fields"] for e in entries if e["kind"] == "hook" and e["subject"] == subject]


@pytest.fixture
def soon(pair: Pair) -> Iterator[Pair]:
    """An operator's TimeoutStopSec, shorter than the hooks take."""
    for host in pair.hosts:
        host.write(STOP_SOON, "[Service]\nTimeoutStopSec=5\n")
        host.run("systemctl", "daemon-reload")
    yield pair
    for host in pair.hosts:
        host.run("rm", STOP_SOON)
        host.run("systemctl", "daemon-reload")


def test_a_hook_of_a_user_has_no_rights_and_root_hooks_can_write_their_state(pair: Pair) -> None:
    holder, other = take_over(pair, backup="root")
    for name in ("web", "api"):
        holder.run("sh", "-c", f"vipd switchover {name} || true")  # api may be elsewhere
    wait_for(lambda: told(holder) == ["BACKUP"], "the hook of root has written")
    wait_for(lambda: bool(hooks(holder, "api") or hooks(other, "api")), "the hook of nobody ran")
    root = hooks(holder, "web")[-1]
    assert root["result"] == "ok"
    assert "state_dir can be written" in root["output"]
    assert "etc cannot be written" in root["output"]
    nobody = (hooks(holder, "api") + hooks(other, "api"))[-1]
    seen = dict(line.split(":", 1) for line in nobody["output"].splitlines())
    assert nobody["result"] == "ok"
    assert set(seen["Uid"].split()) == {"65534"}
    assert {int(seen[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Amb")} == {0}
    for output in (root["output"], nobody["output"]):
        assert "oom: 0 nice: 0\n" in output
        assert "NoNewPrivs:\t1" in output
    for host in pair.hosts:  # FAULT otherwise
        status = json.loads(host.run("vipd", "status", "--json"))
        assert status["checks"]["poor"]["healthy"], status["checks"]
    wait_for(lambda: len(pair.holders("198.51.100.102")) == 1, "the checked instance has a master")


def test_a_stop_waits_for_its_hooks_longer_than_the_unit_would(soon: Pair) -> None:
    holder, other = take_over(soon, leaving="leaving", stop="stop")
    begin = time.monotonic()
    holder.run("systemctl", "stop", "vipd")
    assert time.monotonic() - begin > 7
    assert told(holder) == ["leaving", "stopped"]
    assert holder.property("Result") == "success"
    assert soon.holders() == [other]


def test_kill_9_of_the_main_process_leaves_no_hook_running(pair: Pair) -> None:
    holder, _other = take_over(pair, backup="slow")
    holder.run("vipd", "switchover", "web")
    wait_for(lambda: told(holder) == ["slow"], "the slow hook runs")
    main = holder.property("MainPID")
    pids = holder.run("cat", PIDS).split()
    assert len(pids) == 2
    assert all(holder.succeeds("test", "-e", f"/proc/{pid}") for pid in pids)
    holder.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "vipd")
    wait_for(lambda: holder.property("MainPID") not in ("0", main), "a new supervisor runs")
    assert not any(holder.succeeds("test", "-e", f"/proc/{pid}") for pid in pids)
    pair.settle()
    wait_for(lambda: told(holder) == ["slow", "slow"], "the hook of the state it starts in runs")
    assert [hook["result"] for hook in hooks(holder, "web")][-1] == "lost"


def test_a_restart_does_not_wait_for_a_slow_hook(pair: Pair) -> None:
    holder, _other = take_over(pair, backup="slow", stop="end")
    holder.run("vipd", "switchover", "web")
    wait_for(lambda: told(holder) == ["slow"], "the slow hook runs")
    begin = time.monotonic()
    holder.run("systemctl", "restart", "vipd")
    assert time.monotonic() - begin < 15
    assert told(holder)[:2] == ["slow", "ended"]
    pair.settle()
