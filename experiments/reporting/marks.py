"""Marks on claims whose arms were trained with different numerics versions of shared parts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from gpgrad.config.numerics import Versions
from gpgrad.runs import provenance


def marks(one: Sequence[Versions], other: Sequence[Versions]) -> list[str]:
    """Version differences that weaken the comparison of two arms, one sentence per part; usually none.

    one, other: the versions of each run of an arm, by part. Parts that only one arm has belong to its method; they
    are compared only among the runs of that arm.
    """
    runs = [*one, *other]
    parts = [part for pair in itertools.combinations(runs, 2) for part in provenance.differing(*pair)]
    return [f"numerics of {part} differ: {_of(part, one)} and {_of(part, other)}" for part in dict.fromkeys(parts)]


def _of(part: str, runs: Sequence[Versions]) -> str:
    """The versions of a part in an arm."""
    return " or ".join(sorted({str(versions[part]) for versions in runs if part in versions})) or "none"
