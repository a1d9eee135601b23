"""``vipd explain``: a sentence for every word that the daemon can say."""

from __future__ import annotations

import string
import time
from dataclasses import replace
from enum import Enum
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.cli.conftest import BACKUP, FAULT, FakeDaemon, vipd
from vipd.cli.app import app
from vipd.cli.vocabulary import CHANNEL_DISCARDS, DISCARDS, NOTES, REASONS, REMARKS
from vipd.members import ChannelDiscard
from vipd.model import DiscardReason, NoteKind, Reason, Remark


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        *((REASONS, Reason), (DISCARDS, DiscardReason), (CHANNEL_DISCARDS, ChannelDiscard)),
        *((REMARKS, Remark), (NOTES, NoteKind)),
    ],
    ids=["reasons", "discards", "channel-discards", "remarks", "notes"],
)
def test_every_word_has_a_text(table: dict[Enum, object], kind: type[Enum]) -> None:
    assert set(table) == set(kind)


def test_sentences_end_and_fragments_do_not() -> None:
    for text in REASONS.values():
        assert text.meaning.endswith(".")
    fragments = (*DISCARDS.values(), *CHANNEL_DISCARDS.values(), *REMARKS.values())
    for text in fragments:
        assert not text.meaning.endswith(".")
    for text in (*REASONS.values(), *fragments):
        assert text.cure == "" or text.cure.endswith(".")


def test_every_fault_says_what_to_do() -> None:
    faults = [
        *(Reason.INTERFACE_MISSING, Reason.INTERFACE_DOWN, Reason.NO_SOURCE_ADDRESS),
        *(Reason.OWNED_ADDRESS_MISSING, Reason.FOREIGN_ADDRESS, Reason.ADDRESS_VANISHES),
        *(Reason.CLAIM_REFUSED, Reason.SEND_REFUSED, Reason.CANNOT_LISTEN),
        *(Reason.CHECK_FAILED, Reason.TRACKED_INTERFACE_DOWN),
    ]
    assert all(REASONS[reason].cure for reason in faults)


def test_history_lines_name_no_field_that_is_not_one() -> None:
    """The fields that the core gives its notes; a typing error would show as a gap."""
    known = {
        *("from", "to", "reason", "detail", "priority", "source", "remark", "vips", "vip"),
        *("errno", "addresses", "mac", "address", "new", "old", "late_ms", "generation", "error"),
        *("state", "was", "because", "silent_ms", "node", "software", "sender", "term", "step"),
        *("version", "port"),
    }
    used = {name for text in NOTES.values() for _, name, _, _ in string.Formatter().parse(text)}
    assert used - {None} <= known


def explain(daemon: FakeDaemon, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["explain", "--config", str(daemon.config), *arguments])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_a_backup_says_whom_it_follows_and_until_when(daemon: FakeDaemon) -> None:
    text = explain(daemon, "web")
    assert text.startswith("web on lb2: BACKUP for 4m12s, since ")
    assert (
        "why higher-priority-heard (192.0.2.11 priority 150): A master with a higher priority "
        "was heard." in text
    )
    assert "VIPs not on this host: 192.0.2.100/24 (eth0), 2001:db8::100/64 (eth0)." in text
    assert "priority 100, as configured." in text
    assert (
        "master 192.0.2.11 with priority 150 (VRRPv3, VRID 51, eth0). The last advert of another "
        "router came 0.4s ago." in text
    )
    assert (
        "Without one it takes over in 3.2s: 3.60938 s after the last one, which is three "
        "intervals of 1 s and the skew time of priority 100, 609.375 ms." in text
    )
    assert "api" not in text


def test_all_instances_without_a_name(daemon: FakeDaemon) -> None:
    text = explain(daemon)
    assert "web on lb2: BACKUP" in text
    assert "api on lb2: MASTER" in text
    assert "VIPs on this host: 192.0.2.101/24 (eth0)." in text
    assert "master this host, as 192.0.2.12 (VRRPv3, VRID 51, eth0). No advert of another" in text
    assert "its next advert in 0.6s (every 1 s)" in text


def test_faults_come_with_cures(daemon: FakeDaemon) -> None:
    daemon.instances = [FAULT]
    text = explain(daemon, "db")
    assert "why interface-down (eth1): An interface of the instance is down" in text
    assert "what to do Check the cable" in text
    assert "also wrong vip-keeps-vanishing (192.0.2.102/24): A VIP vanished again" in text
    assert text.count("interface-down") == 1
    assert "waits for the end of its faults" in text
    assert "master none is known" in text


def test_counters_are_told_only_when_they_count(daemon: FakeDaemon) -> None:
    assert "discarded" not in explain(daemon, "web")
    odd = {"remarks.interval-differs": 3, "addresses_restored": 2, "rival_announcements": 1}
    daemon.instances = [
        replace(
            BACKUP,
            counters={**BACKUP.counters, **odd, "adverts_failed": 4},
            discarded={**BACKUP.discarded, "ttl": 1, "auth-failure": 9, "future": 2},
        )
    ]
    text = explain(daemon, "web")
    assert "discarded 1 advert (ttl): the TTL or hop limit is not 255" in text
    assert "9 adverts (auth-failure): the wrong password. Set the same secret" in text
    assert "2 adverts (future): future." in text
    assert "odd 3 adverts had another advert interval than ours (interval-differs)." in text
    assert "2 times somebody else removed a VIP" in text
    assert "1 times another host said by ARP or NA" in text
    assert "4 adverts the kernel refused to send." in text


def test_what_belongs_to_no_instance(daemon: FakeDaemon) -> None:
    daemon.more = {"discarded": {"vrid": 12, "ttl": 0}, "notes_dropped": 5}
    text = explain(daemon)
    assert "discarded for no instance: 12 adverts (vrid): no instance has this VRID" in text
    assert "5 entries were dropped under load." in text


def happened(now: float, kind: str, subject: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"time": now, "kind": kind, "subject": subject, "cause": "", "fields": fields}


def test_history_in_sentences(daemon: FakeDaemon) -> None:
    now = time.time()
    move = {"from": "BACKUP", "to": "CANDIDATE", "reason": "master-left", "detail": ""}
    discard = {"reason": "ttl", "source": "192.0.2.9", "held_back": 41}
    verdict = {"was": "healthy", "verdict": "failed", "detail": "status 500"}
    daemon.history = [
        happened(now, "transition", "web", {**move, "priority": 150}),
        happened(now, "claimed", "web", {"vips": 2}),
        happened(now, "advert-discarded", "web", discard),
        happened(now, "check", "nginx", verdict),
        happened(now, "configured", "edge", {"generation": 3}),
        happened(now, "of-tomorrow", "", {"depth": 3}),
    ]
    text = explain(daemon, "web")
    assert "BACKUP -> CANDIDATE: master-left" in text
    assert "the kernel has all 2 VIPs" in text
    assert "discarded an advert from 192.0.2.9: ttl (and 41 more like it)" in text
    assert "check nginx: healthy -> failed: status 500" in text
    assert "edge: configuration 3 taken over" in text
    assert "of-tomorrow depth=3" in text


def test_old_news_is_marked(daemon: FakeDaemon) -> None:
    daemon.more = {"age_ms": 12_000.0}
    assert explain(daemon, "web").startswith("STALE: the engine does not answer")


def test_an_unknown_instance_is_bad_usage(daemon: FakeDaemon) -> None:
    result = vipd("explain", "wob", "--config", daemon.config)
    assert result.returncode == 2
    assert "no instance wob; there is web, api" in " ".join(result.stderr.split())
    assert vipd("explain", "w b&x=%", "--config", daemon.config).returncode == 2
