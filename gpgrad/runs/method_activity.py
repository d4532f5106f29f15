"""Whether the methods of a run did in it what they are for; a run in which they did not is no evidence about them.

No jax here: the checks come from the parts (`registry.activity_check`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gpgrad.config.schema import Config
from gpgrad.methods import registry
from gpgrad.methods.activity import ActivityCheck
from gpgrad.runs.logs import Row
from gpgrad.runs.progress import seeds_text


class Amount(NamedTuple):
    """How much one seed's method did: in the last of its tests, and the most in any."""

    last: float
    most: float


def amounts(rows: Sequence[Row]) -> dict[str, Amount]:
    """The amounts in one seed's rows, by the metric of a check; checks whose metric they lack are left out."""
    found = {}
    for check in registry.activity_checks():
        prefix = f"{check.metric}_"  # of further layers
        names = {name for row in rows for name in row if name == check.metric or name.startswith(prefix)}
        by_test = [[row[name] for name in names if row.get(name) is not None] for row in rows]
        if values := [float(sum(numbers)) for numbers in by_test if numbers]:
            found[check.metric] = Amount(values[-1], max(values))
    return found


def checks_of(config: Config) -> list[ActivityCheck]:
    """The checks of a run's parts, without those of controls, which are not meant to act."""
    found = []
    for kind in registry.KINDS:
        part = getattr(config, kind)
        check = registry.activity_check(kind, part.name)
        if check is not None and check.intended(part.options):
            found.append(check)
    return found


def lacking(config: Config, rows: Mapping[int, Sequence[Row]]) -> dict[str, list[int]]:
    """Sentences on what a run is no evidence about, and the seeds for which that holds."""
    found: dict[str, list[int]] = {}
    for seed, own in sorted(rows.items()):
        done = amounts(own)
        for check in checks_of(config):
            if check.metric in done and done[check.metric].most < check.least:
                found.setdefault(f"no evidence about {check.about}: {check.too_little}", []).append(seed)
    return found


def sentences(config: Config, rows: Mapping[int, Sequence[Row]]) -> list[str]:
    """`lacking` in words."""
    return [f"{sentence} ({seeds_text(seeds)})" for sentence, seeds in lacking(config, rows).items()]


def by_seed(rows: Sequence[Row]) -> dict[int, list[Row]]:
    """Rows of several seeds, each seed's own in order."""
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row["seed"], []).append(row)
    return found
