"""Whether gradient conflicts between agents reveal their hidden roles. Does not import jax.

GradPS's Figure 3 holds conflict beside roles that everybody knows. Here the roles are hidden from the agents, and every
answer is held against all other ways to deal the same roles.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

MOST = 20_000  # maximum number of arrangements of roles that are enumerated


class Separation(NamedTuple):
    """The result of one seed.

    between, within: mean conflict of pairs of agents of different and of the same role. p_conflict: the fraction of
    arrangements of the roles with a difference at least as large. cloned: neurons with more than one group. rand: mean
    adjusted Rand index of their groups with the roles; 1 is the roles, 0 is chance. p_rand: as p_conflict.
    """

    between: float
    within: float
    p_conflict: float
    cloned: int
    rand: float
    p_rand: float


def separation(row: Mapping[str, Any]) -> Separation | None:
    """The separation in a row of a run with GradPS's metrics, in an environment with hidden roles.

    None before any conflict is measured, and if all agents have the same role or all have different ones.

    Raises KeyError for rows without `roles`, `conflict` or `groups`.
    """
    roles, groups = np.array(row["roles"]), np.array(row["groups"])  # [A], [N, A]
    conflict = np.array(row["conflict"], float)  # [A, A]
    if not np.isfinite(conflict).all() or not conflict.any() or not 1 < len(set(roles.tolist())) < len(roles):
        return None
    cloned = groups[(groups != groups[:, :1]).any(axis=1)]
    between, within = means(conflict, roles)

    def difference(arrangement: np.ndarray) -> float:
        across, inside = means(conflict, arrangement)
        return across - inside

    def agreement(arrangement: np.ndarray) -> float:
        return float(np.mean([adjusted_rand(group, arrangement) for group in cloned]))

    p_rand = permutation_p(agreement, roles) if len(cloned) else math.nan
    rand = agreement(roles) if len(cloned) else math.nan
    return Separation(between, within, permutation_p(difference, roles), len(cloned), rand, p_rand)


def means(conflict: np.ndarray, roles: np.ndarray) -> tuple[float, float]:
    """Mean conflict [A, A] of pairs with different and with equal roles; NaN if there is no such pair."""
    upper = np.triu(np.ones_like(conflict, bool), 1)
    same = roles[:, None] == roles
    parts = conflict[upper & ~same], conflict[upper & same]
    return tuple(float(part.mean()) if part.size else math.nan for part in parts)  # type: ignore[return-value]


def adjusted_rand(one: np.ndarray, other: np.ndarray) -> float:
    """The adjusted Rand index (Hubert and Arabie, 1985) of two partitions [A]; 1 if equal, 0 by chance."""
    table = np.array([[((one == a) & (other == b)).sum() for b in np.unique(other)] for a in np.unique(one)])
    pairs = lambda counts: float((counts * (counts - 1) / 2).sum())  # noqa: E731
    both, rows, columns, total = pairs(table), pairs(table.sum(1)), pairs(table.sum(0)), pairs(np.array([table.sum()]))
    expected, largest = rows * columns / total, (rows + columns) / 2
    return 1.0 if largest == expected else (both - expected) / (largest - expected)


def permutation_p(statistic: Callable[[np.ndarray], float], roles: np.ndarray) -> float:
    """Permutation p-value: fraction of role arrangements, with the true one, whose statistic is at least as large.

    Enumerates all arrangements of two roles if they are few enough; else uses a fixed set of random ones.
    """
    found = statistic(roles) - 1e-12
    values = [statistic(arrangement) for arrangement in arrangements(roles)]
    return float(np.mean([value >= found for value in values]))


def arrangements(roles: np.ndarray) -> list[np.ndarray]:
    """Arrangements of the roles [A] over the agents."""
    kinds, counts = np.unique(roles, return_counts=True)
    if len(kinds) == 2 and math.comb(len(roles), int(counts[1])) <= MOST:
        chosen = itertools.combinations(range(len(roles)), int(counts[1]))
        return [np.where(np.isin(np.arange(len(roles)), special), kinds[1], kinds[0]) for special in chosen]
    rng = np.random.default_rng(0)
    return [roles, *(rng.permutation(roles) for _ in range(MOST // 10 - 1))]
