"""Whether a method did in a run what it is there for; a run in which it did not says nothing about it. No jax here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gpgrad.config.schema import Config
from gpgrad.runs.logs import Row
from gpgrad.runs.progress import seeds_text


class ActivityCheck(NamedTuple):
    """What a method is there for.

    about: what a run without it says nothing about. metric: how much, in rows; of further layers under longer names.
    words: of that number for people. least: what some test of a run has to reach. too_little: the sentence's end.
    meant(settings): whether a run is to do it at all.
    """

    about: str
    metric: str
    words: str
    least: float
    too_little: str
    meant: Callable[[Config], bool] = lambda settings: True


DEEDS = (
    ActivityCheck(
        "protection",
        "share_downweighted",
        "share down-weighted",
        0.01,
        "less than 1 percent of transitions were down-weighted in every test",
        # With weights of one, a control, nothing is protected by intent.
        lambda settings: settings.weighting.options.get("alpha") != 1,
    ),
    ActivityCheck(
        "cloning",
        "cloned",
        "neurons cloned",
        1,
        "no neuron was cloned in any test",
        # One clone, a control, is the shared neuron, watched.
        lambda settings: settings.sharing.options.get("k") != 1,
    ),
)


class Amount(NamedTuple):
    """How much of a deed one seed did: in the last of its tests, and the most in any."""

    last: float
    most: float


def amounts(rows: Sequence[Row]) -> dict[str, Amount]:
    """What one seed's rows say, by the deed's metric; deeds they do not mention are left out."""
    found = {}
    for deed in DEEDS:
        names = {name for row in rows for name in row if name == deed.metric or name.startswith(f"{deed.metric}_")}
        told = [[row[name] for name in names if row.get(name) is not None] for row in rows]
        if values := [float(sum(numbers)) for numbers in told if numbers]:
            found[deed.metric] = Amount(values[-1], max(values))
    return found


def lacking(settings: Config, rows: Mapping[int, Sequence[Row]]) -> dict[str, list[int]]:
    """Sentences on what a run says nothing about, and of which of its seeds that is true."""
    found: dict[str, list[int]] = {}
    for seed, own in sorted(rows.items()):
        done = amounts(own)
        for deed in DEEDS:
            if deed.meant(settings) and deed.metric in done and done[deed.metric].most < deed.least:
                found.setdefault(f"no evidence about {deed.about}: {deed.too_little}", []).append(seed)
    return found


def sentences(settings: Config, rows: Mapping[int, Sequence[Row]]) -> list[str]:
    """`lacking` in words."""
    return [f"{sentence} ({seeds_text(seeds)})" for sentence, seeds in lacking(settings, rows).items()]


def by_seed(rows: Sequence[Row]) -> dict[int, list[Row]]:
    """Rows of several seeds, each seed's own in order."""
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row["seed"], []).append(row)
    return found
