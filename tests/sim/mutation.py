"""What a mutation of the core is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """``old`` occurs exactly once in ``file``; ``new`` takes its place in a copy of the package.

    ``seed`` is where a search begins that finds it soon; any other start would find it later.
    ``cluster``: a rule of clusters, so clusters are what is run.
    """

    id: str
    rule: str
    file: str
    old: str
    new: str
    seed: int = 1
    cluster: bool = False
