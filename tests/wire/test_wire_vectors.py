"""Every vector, through ``decode`` and through ``Translator.receive``, strict and not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from wire_samples import ADDRESSES, LINKS, Vector, node, receiver, vectors

from vipd.core.events import AdvertHeard, AdvertRejected
from vipd.errors import WireError
from vipd.model import Remark
from vipd.translate import Translator
from vipd.wire.vrrp import decode

ALL = vectors()

REASONS = {
    "auth-type-mismatch": "auth-type",
    "auth-type-unknown": "auth-type",
    "interval-mismatch": "interval",
    "not protocol 112": "protocol",
    "first-address-not-link-local": "first-address",
    "source not link-local (policy)": "bad-source",
}
"""Where a vector's words are not a reason's value plus a remark in brackets."""

REMARKS = {
    "adv200": {Remark.INTERVAL_DIFFERS},
    "adv4095": {Remark.INTERVAL_DIFFERS},
    "vip-mismatch": {Remark.ADDRESS_LIST_DIFFERS},
    "vip-count-mismatch": {Remark.ADDRESS_LIST_DIFFERS},
    "v2-vip-mismatch-owner": {Remark.ADDRESS_LIST_DIFFERS},
    "src-vip": {Remark.SOURCE_IS_VIP},
    "src-offsubnet": {Remark.SOURCE_OFF_SUBNET},
    "6-first-global": {Remark.FIRST_ADDRESS_NOT_LINK_LOCAL},
    "6-src-global": {Remark.SOURCE_NOT_LINK_LOCAL},
    "OK3-9568": {Remark.CHECKSUM_FORM_PLAIN},  # said once, when the form is learned
}

CORE_VERDICTS = {"prio99"}
"""Valid on the wire; that it changes nothing is the election's verdict."""


def expected_of(vector: Vector, strict: bool) -> tuple[str, set[Remark]]:
    """-> (discard reason or "", remarks)."""
    expect = vector.expect if strict else vector.expect_compat
    if expect == "DISCARD" and vector.id not in CORE_VERDICTS:
        return REASONS.get(vector.reason) or vector.reason.split(" ")[0].rstrip(";"), set()
    remarks = REMARKS.get(vector.id, set())
    assert (expect == "ACCEPT+LOG") <= bool(remarks), "an odd vector without an expected remark"
    return "", remarks


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "compat"])
@pytest.mark.parametrize("vector", ALL, ids=lambda vector: vector.id)
def test_decode_gives_the_expected_verdict(vector: Vector, strict: bool) -> None:
    config = replace(vector.config, strict=strict)
    reason, remarks = expected_of(vector, strict)
    if reason:
        with pytest.raises(WireError) as caught:
            decode(vector.datagram, receiver(config))
        assert caught.value.reason.value == reason
    else:
        heard = decode(vector.datagram, receiver(config))
        assert set(heard.remarks) == remarks
        assert heard.advert.vrid == 51


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "compat"])
@pytest.mark.parametrize("vector", ALL, ids=lambda vector: vector.id)
def test_translator_gives_the_same_verdict_twice(vector: Vector, strict: bool) -> None:
    config = replace(vector.config, strict=strict)
    reason, remarks = expected_of(vector, strict)
    translator = Translator()
    translator.configure(node(config))
    translator.set_host(LINKS, ADDRESSES)
    events = [translator.receive(vector.datagram), translator.receive(vector.datagram)]
    if reason:
        assert events[0] == events[1]
        assert isinstance(events[0], AdvertRejected)
        assert events[0].reason.value == reason
        unnamed = reason in ("vrid", "protocol") or vector.id == "frag-off"
        assert events[0].instance == ("" if unnamed else config.name)
    else:
        first, second = events
        assert isinstance(first, AdvertHeard)
        assert isinstance(second, AdvertHeard)
        assert set(first.remarks) == remarks
        assert set(second.remarks) == remarks - {Remark.CHECKSUM_FORM_PLAIN}
        assert first.advert == second.advert


def test_there_are_as_many_vectors_as_the_checklist_says() -> None:
    assert len(ALL) == 78
    assert set(REMARKS) | CORE_VERDICTS <= {vector.id for vector in ALL}
