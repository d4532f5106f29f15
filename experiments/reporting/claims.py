"""Verdicts on the claims of a report, and whether each claim compares methods alone.

All claims and interactions of a report form one family, see `gpgrad.runs.verdicts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gpgrad import config
from gpgrad.config.schema import Config
from gpgrad.experiments.availability import NOT_TESTABLE, obstacle
from gpgrad.experiments.reporting.marks import marks
from gpgrad.methods import registry
from gpgrad.runs import method_activity, provenance, stats, verdicts
from gpgrad.runs.logs import Row, plain
from gpgrad.runs.run_folder import RunFolder
from gpgrad.runs.verdicts import Judged

if TYPE_CHECKING:
    from gpgrad.experiments.reporting.report import Result

NO_SEED = "no seed in common yet"  # instead of a verdict
SIMULATORS = ("jaxmarl", "smac", "smacv2", "smaclite")


def judged(
    claims: Sequence[tuple[Result, Result]], fours: Sequence[Sequence[Result]]
) -> tuple[list[Any], list[Any], int]:
    """The comparisons and interactions of a report with their verdicts, as JSON values, and the size of the family."""
    found = _judged(claims, fours)
    comparisons = [_comparison(*claim, one) for claim, one in zip(claims, found, strict=False)]
    interactions = [_interaction(*each) for each in zip(fours, found[len(claims) :], strict=True)]
    return comparisons, interactions, len(found) - found.count(NOT_TESTABLE)


def _judged(claims: Sequence[tuple[Result, Result]], fours: Sequence[Sequence[Result]]) -> list[Judged | str]:
    """Verdicts on all claims, then on all interactions of a report, as one family.

    Each claim is tested over the seeds that all of its arms have. A claim without common seeds counts in the family,
    unless its simulator is missing on this machine.
    """
    found: list[Any] = [_pair(*claim) for claim in claims]
    found += [_sums(four) for four in fours]
    sides = [*claims, *fours]
    testable = [
        not any(obstacle(result.setup) for result in side) or pair is not None
        for side, pair in zip(sides, found, strict=True)
    ]
    family = iter(
        verdicts.judge([pair for pair, on in zip(found, testable, strict=True) if on], np.random.default_rng(0))
    )
    return [(next(family) or NO_SEED) if on else NOT_TESTABLE for on in testable]


def _pair(one: Result, other: Result) -> tuple[np.ndarray, np.ndarray] | None:
    return stats.common_seeds(one.final, other.final) if one.final.keys() & other.final.keys() else None


def _sums(four: Sequence[Result]) -> tuple[list[float], list[float]] | None:
    """Sums `both + neither` and `one + other` for each seed that all four arms have; None if there is no such seed."""
    both, one, other, neither = (result.final for result in four)
    common = sorted(both.keys() & one.keys() & other.keys() & neither.keys())
    if not common:
        return None
    return [both[seed] + neither[seed] for seed in common], [one[seed] + other[seed] for seed in common]


def _comparison(one: Result, other: Result, judged: Judged | str) -> dict[str, Any]:
    """The claim that the first arm is better than the second, over their common seeds."""
    arm, against = one.setup.arm, other.setup.arm
    methods, others = differences(one.setup.config, other.setup.config)
    reasons = [f"{name} differs" for name in others] + _simulators(one, other)
    if not methods:
        reasons.append("the method is the same")
    common = sorted(one.final.keys() & other.final.keys())
    idle = [f"{each.setup.arm.label}: {line}" for each in (one, other) for line in _idle(each, common) if common]
    result: dict[str, Any] = {
        "better": arm.label,
        "worse": against.label,
        "panel": arm.panel,
        "of_methods": not reasons + idle,
        "because": reasons + idle,
        "marks": marks(*([share.run.versions for share in each.shares] for each in (one, other))) if common else [],
        "differences": {name: list(values) for name, values in {**methods, **others}.items()},
        "seeds": common,
        **_verdict_fields(judged),
    }
    if not common:
        return result
    better = stats.probability_of_improvement(*stats.common_seeds(one.final, other.final), np.random.default_rng(0))
    return {**result, "probability_of_improvement": plain(better._asdict())}


def _verdict_fields(judged: Judged | str) -> dict[str, Any]:
    """A verdict with its numbers, or the reason why there is none."""
    if isinstance(judged, str):
        return {"verdict": judged}
    difference = {**judged.difference._asdict(), "adjusted_p": judged.adjusted}
    return {"verdict": judged.verdict, "needed": judged.needed, "difference": plain(difference)}


def _idle(result: Result, seeds: Sequence[int]) -> list[str]:
    """Parts of the method that were inactive in all of these seeds, a sentence each."""
    rows = {seed: own for seed, own in rows_of(result).items() if seed in seeds}
    lacking = method_activity.lacking(result.setup.config, rows)
    return [sentence for sentence, silent in lacking.items() if len(silent) == len(seeds)]


def _interaction(four: Sequence[Result], judged: Judged | str) -> dict[str, Any]:
    """The interaction of two methods: the gain of both beyond the sum of their single gains, over common seeds."""
    common = sorted(set.intersection(*(set(result.final) for result in four)))
    labels = [result.setup.arm.label for result in four]
    return {"arms": labels, "panel": four[0].setup.arm.panel, "seeds": common, **_verdict_fields(judged)}


def rows_of(result: Result) -> dict[int, list[Row]]:
    """The rows of metrics.jsonl of each finished seed."""
    return method_activity.by_seed([row for share in result.shares for row in share.metrics])


def differences(one: Config, other: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings that differ, as pairs of values: those of the method, and all others.

    A setting that one configuration lacks is None. The algorithm's name is left out, since it stands for its parts.
    """
    both = [{k: v for k, v in config.flat(c).items() if not k.startswith(config.ASIDE)} for c in (one, other)]
    names = [name for name in dict.fromkeys([*both[0], *both[1]]) if both[0].get(name) != both[1].get(name)]
    method = {name for name in names if name.split(".")[0] in registry.KINDS}
    pairs = {name: (both[0].get(name), both[1].get(name)) for name in names if name != "algo"}
    return {n: p for n, p in pairs.items() if n in method}, {n: p for n, p in pairs.items() if n not in method}


def _simulators(one: Result, other: Result) -> list[str]:
    found = versions_of([share.run for result in (one, other) for share in result.shares])
    return [
        f"versions of {name} differ: {' and '.join(found[name])}" for name in SIMULATORS if len(found.get(name, [])) > 1
    ]


def versions_of(runs: Sequence[RunFolder]) -> dict[str, list[str]]:
    """All values of each field of the runs' manifests (packages, devices, code); "unknown" where a field is missing."""
    manifests = [provenance.compared(run.manifest) for run in runs]
    names = dict.fromkeys(name for manifest in manifests for name in manifest)
    return {name: sorted({str(manifest.get(name, "unknown")) for manifest in manifests}) for name in names}
