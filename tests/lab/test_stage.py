"""What ``bench cluster`` takes for rest, and one event on real nodes."""

from __future__ import annotations

from typing import Any

import pytest

from vipd.lab.bench.cluster import EVENTS
from vipd.lab.bench.stage import sees, stage

NAMES = ("lb1", "lb2")


def _status(
    first: str = "MASTER", second: str = "BACKUP", alive: bool = True, handing_to: str | None = None
) -> dict[str, Any]:
    nodes = {
        name: {"alive": alive, "units": {"web": {"state": state}}}
        for name, state in zip(NAMES, (first, second), strict=True)
    }
    return {"cluster": {"nodes": nodes}, "instances": {"web": {"handing_to": handing_to}}}


def test_rest_is_one_master_that_all_are_alive_to_agree_on() -> None:
    assert sees(_status(), NAMES, "lb1")


@pytest.mark.parametrize(
    "status",
    [
        _status("BACKUP", "MASTER"),
        _status("MASTER", "MASTER"),
        _status("MASTER", "INIT"),
        _status(alive=False),
        _status(handing_to="lb2"),
        {"cluster": None, "instances": {"web": {"handing_to": None}}},
        {"cluster": {"nodes": {}}, "instances": {}},
    ],
)
def test_anything_else_is_not(status: dict[str, Any]) -> None:
    assert not sees(status, NAMES, "lb1")


@pytest.mark.netns
@pytest.mark.interop
def test_a_switchover_has_two_samples_and_one_holder() -> None:
    (switchover,) = [event for event in EVENTS if event.name == "switchover"]
    with stage() as field:
        samples = list(switchover.make(field, field.vipd))
    assert len(samples) == 2
    for sample in samples:
        assert 0 < sample.outage_ms < 1000  # plain VRRP would take the skew time and more
        assert sample.held_twice_ms == 0
        assert sample.answered_again == 0
