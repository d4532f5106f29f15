"""Groups of agents from their conflicts: spectral clustering, deterministic and free of branches.

Axes in comments: A agents, K groups. All functions work on one conflict matrix; `spectral_groups` takes any number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

Laplacian = Literal["sym", "unnormalised"]
Labels = Literal["kmeans", "discretize"]
Sigma = Literal["median", "mean"]
ITERATIONS = 20  # of discretisation
STEPS = 10  # of Lloyd's algorithm, which rarely needs more for a few dozen points
DRAWN_STARTS = 23
_TIE = 1e-6  # makes the cut through equal eigenvalues the same on every device


def spectral_groups(
    conflict: jax.Array,
    k: int,
    laplacian: Laplacian = "sym",
    labels: Labels = "kmeans",
    sigma: Sigma = "median",
) -> jax.Array:
    """Groups of agents with little conflict inside: conflict [..., A, A] to int32 [..., A], numbered by appearance.

    Agent 0 is in group 0. With k of A or more every agent is a group of its own. `sym`: the normalised Laplacian,
    which rarely splits off single agents; `unnormalised`: the paper's. `kmeans` or `discretize` cuts the embedding.
    sigma: the conflict that counts as one unit of distance.

    Source: GradPS (ICML 2025), Section 5.1, Appendix C.3.
    """
    n_agents = conflict.shape[-1]
    if k >= n_agents:
        return jnp.broadcast_to(jnp.arange(n_agents, dtype=jnp.int32), conflict.shape[:-1])
    if k == 1:
        return jnp.zeros(conflict.shape[:-1], jnp.int32)
    cut: Callable[[jax.Array, int], jax.Array] = {"kmeans": kmeans, "discretize": discretize}[labels]

    def groups(conflict: jax.Array) -> jax.Array:
        return by_appearance(cut(embedding(affinity(conflict, sigma), k, laplacian), k), k)

    for _ in range(conflict.ndim - 2):
        groups = jax.vmap(groups)
    return groups(conflict)


def affinity(conflict: jax.Array, sigma: Sigma = "median") -> jax.Array:
    """exp(-C^2 / 2 sigma^2) [A, A], ones on the diagonal; sigma is the median or mean of the positive conflicts.

    Without any conflict all agents are equally close.

    Source: GradPS (ICML 2025), Appendix C.3, Eq. C.1.
    """
    n_agents = conflict.shape[-1]
    pairs = conflict[np.triu_indices(n_agents, 1)]  # each pair once
    positive = pairs > 0
    count = positive.sum()
    if sigma == "median":
        ordered = jnp.sort(jnp.where(positive, pairs, jnp.inf))
        unit = (ordered[jnp.maximum(count - 1, 0) // 2] + ordered[count // 2]) / 2
    else:
        unit = jnp.where(positive, pairs, 0.0).sum() / jnp.maximum(count, 1)
    near = jnp.exp(-0.5 * jnp.square(conflict / jnp.where(count > 0, unit, 1.0)))
    return jnp.where(jnp.eye(n_agents, dtype=bool) | (count == 0), 1.0, near)


def embedding(affinities: jax.Array, k: int, laplacian: Laplacian) -> jax.Array:
    """Agents in the space of the k eigenvectors with the smallest eigenvalues: [A, A] to [A, K].

    `unnormalised`: of L = D - A, as in the paper. `sym`: of I - D^-1/2 A D^-1/2 without A's diagonal, rows scaled by
    D^-1/2, as scikit-learn does in the released code. A little is added to the diagonal, different for each agent, so
    that equal eigenvalues are cut the same way on every device.

    Source: GradPS (ICML 2025), Appendix C.3, Eq. C.2.
    """
    n_agents = affinities.shape[-1]
    degree = affinities.sum(-1) - jnp.diagonal(affinities)
    neighbours = jnp.where(jnp.eye(n_agents, dtype=bool), 0.0, affinities)
    tie = _TIE * jnp.diag(jnp.arange(n_agents, dtype=affinities.dtype))
    if laplacian == "unnormalised":
        return jnp.linalg.eigh(jnp.diag(degree) - neighbours + tie)[1][:, :k]
    scale = jax.lax.rsqrt(jnp.where(degree > 0, degree, 1.0))
    normalised = jnp.eye(n_agents) - scale[:, None] * neighbours * scale
    return jnp.linalg.eigh(normalised + tie)[1][:, :k] * scale[:, None]


def kmeans(points: jax.Array, k: int, used: jax.Array | None = None) -> jax.Array:
    """Lloyd's algorithm from several starts, the result with the least inertia: [A, D] to int32 [A].

    One start is the first point and the points farthest from the centres so far; the others are K points each, drawn
    once and for all. Ties go to the lowest index, of points and of starts; a centre without points stays. Partitions
    whose inertia differs by rounding are ties. used: int32 [], only so many of the k centres.

    Source: Lloyd (1982), which GradPS (ICML 2025), Appendix C.3, and SePS (ICML 2021) use.
    """
    first = farthest_first(points, k)
    starts = jnp.concatenate([first[None], points[_drawn(len(points), k)]])  # [S, K, D]
    if used is not None:
        starts = jnp.where(jnp.arange(k)[:, None] < used, starts, jnp.inf)
    labels = jax.vmap(lambda centres: lloyd(points, centres))(starts)  # [S, A]
    cost = jax.vmap(lambda row: inertia(points, row, k))(labels)
    best = cost.min()
    return labels[jnp.argmax(cost <= best + _TIE * (best + jnp.abs(points).max() ** 2))]


def farthest_first(points: jax.Array, k: int) -> jax.Array:
    """The first point, then the point farthest from the centres so far: [A, D] to [K, D].

    Source: farthest-first traversal (Gonzalez, 1985).
    """
    centres = jnp.broadcast_to(points[0], (k, points.shape[-1]))
    for i in range(1, k):
        centres = centres.at[i].set(points[jnp.argmax(_nearest(points, centres)[1])])
    return centres


def lloyd(points: jax.Array, centres: jax.Array) -> jax.Array:
    """The nearest centre of each point once centres [K, D] have moved to the means of their points: int32 [A].

    Source: Lloyd (1982).
    """
    k = len(centres)

    def move(_, centres: jax.Array) -> jax.Array:
        members = jax.nn.one_hot(_nearest(points, centres)[0], k)  # [A, K]
        count = members.sum(0)[:, None]
        return jnp.where(count > 0, members.T @ points / jnp.maximum(count, 1), centres)

    return _nearest(points, jax.lax.fori_loop(0, STEPS, move, centres))[0]


def inertia(points: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """The sum of squared distances of points [A, D] from the means of their groups, float32 []."""
    members = jax.nn.one_hot(labels, k)  # [A, K]
    centres = members.T @ points / jnp.maximum(members.sum(0), 1)[:, None]
    return jnp.square(points - centres[labels]).sum()


def _nearest(points: jax.Array, centres: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The nearest centre of each point, the lowest index on ties, and its squared distance: int32 [A], float32 [A].

    Centre by centre, since XLA's argmin is slow on the CPU.
    """
    index, least = jnp.zeros(len(points), jnp.int32), jnp.square(points - centres[0]).sum(-1)
    for i in range(1, len(centres)):
        distance = jnp.square(points - centres[i]).sum(-1)
        index, least = jnp.where(distance < least, i, index), jnp.minimum(distance, least)
    return index, least


def _drawn(n_points: int, k: int) -> np.ndarray:
    """Points that starts begin from, int [S, K]: different ones in each start, the same in every run."""
    order = np.random.default_rng(0).permuted(np.tile(np.arange(n_points), (DRAWN_STARTS, 1)), axis=1)
    return order[:, np.arange(k) % n_points]


def kmeans_by_separation(points: jax.Array, k_max: int) -> jax.Array:
    """k-means with the number of groups among 2..k_max that has the least Davies-Bouldin index: [A, D] to int32 [A].

    The smallest number on ties.

    Source: the released code of SePS (ICML 2021), which chooses K by the Davies-Bouldin index.
    """

    def cut(used: jax.Array) -> tuple[jax.Array, jax.Array]:
        labels = kmeans(points, k_max, used)
        return labels, davies_bouldin(points, labels, k_max)

    labels, scores = jax.vmap(cut)(jnp.arange(2, k_max + 1))
    return labels[jnp.argmin(scores)]


def davies_bouldin(points: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """How badly groups are kept apart: the mean over groups of the worst (s_i + s_j) / d_ij, float32 [].

    s is the mean distance of a group's points from its centre, d the distance of centres. points [A, D], labels int
    [A] in 0..k-1; groups without points do not count, and less than two groups are infinitely bad.

    Source: Davies and Bouldin (1979).
    """
    members = jax.nn.one_hot(labels, k)  # [A, K]
    count = members.sum(0)
    some = count > 0
    centres = members.T @ points / jnp.maximum(count, 1)[:, None]
    away = jnp.sqrt(jnp.square(points - centres[labels]).sum(-1))  # [A]
    scatter = away @ members / jnp.maximum(count, 1)
    distance = jnp.sqrt(jnp.square(centres[:, None] - centres).sum(-1))  # [K, K]
    pairs = some[:, None] & some & ~jnp.eye(k, dtype=bool)
    ratio = (scatter[:, None] + scatter) / jnp.where(pairs, jnp.maximum(distance, 1e-12), 1.0)
    worst = jnp.where(pairs, ratio, 0.0).max(-1)
    return jnp.where(some.sum() > 1, jnp.where(some, worst, 0.0).sum() / jnp.maximum(some.sum(), 1), jnp.inf)


def discretize(points: jax.Array, k: int) -> jax.Array:
    """The rotation of the embedding that is nearest to 0/1 rows: [A, K] to int32 [A].

    Source: Yu and Shi (ICCV 2003), which the released code of GradPS (ICML 2025) uses in place of K-means.
    """
    columns = points / jnp.maximum(jnp.linalg.norm(points, axis=0), 1e-12)
    rows = columns / jnp.maximum(jnp.linalg.norm(columns, axis=1, keepdims=True), 1e-12)

    rotation, seen = jnp.zeros((k, k)).at[:, 0].set(rows[0]), jnp.zeros(len(rows))
    for i in range(1, k):
        seen += jnp.abs(rows @ rotation[:, i - 1])
        rotation = rotation.at[:, i].set(rows[jnp.argmin(seen)])

    def rotate(_, rotation: jax.Array) -> jax.Array:
        members = jax.nn.one_hot(jnp.argmax(rows @ rotation, -1), k)
        u, _, vt = jnp.linalg.svd(members.T @ rows)
        return vt.T @ u.T

    return jnp.argmax(rows @ jax.lax.fori_loop(0, ITERATIONS, rotate, rotation), -1).astype(jnp.int32)


def by_appearance(labels: jax.Array, k: int) -> jax.Array:
    """The same groups, numbered in the order in which they first appear: int [A] to int32 [A]."""
    n_agents = labels.shape[-1]
    members = labels == jnp.arange(k)[:, None]  # [K, A]
    first = jnp.where(members.any(-1), jnp.argmax(members, -1), n_agents)
    rank = jnp.argsort(jnp.argsort(first))
    return rank[labels].astype(jnp.int32)
