"""The simulator can see: every rule of the core, broken once, is noticed by a checker."""

from __future__ import annotations

import pytest

from tests.sim.mutate import attempt_all, line_of
from tests.sim.mutations import MUTATIONS


def test_every_mutation_still_names_one_place_of_the_core() -> None:
    assert all(line_of(mutation) for mutation in MUTATIONS)


def test_ids_are_unique_and_there_are_enough() -> None:
    assert len({mutation.id for mutation in MUTATIONS}) == len(MUTATIONS) >= 25


@pytest.mark.timeout(400)
def test_every_mutation_is_noticed_by_a_checker() -> None:
    missed = [outcome for outcome in attempt_all(MUTATIONS) if not outcome.found]
    assert not missed, "\n".join(f"{each.mutation.id}: {each.text}" for each in missed)
