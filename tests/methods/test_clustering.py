"""Spectral groups against recorded numbers and scikit-learn, k-means against exhaustive search."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import SpectralClustering
from sklearn.cluster._spectral import discretize as sklearn_discretize
from sklearn.metrics import adjusted_rand_score

from gpgrad.methods.sharing import clustering
from gpgrad.methods.sharing.clustering import affinity, embedding

# Compiled once for each shape; called as they are, they would compile their loops at every call.
by_appearance, kmeans, discretize = (
    jax.jit(function, static_argnums=1)
    for function in (clustering.by_appearance, clustering.kmeans, clustering.discretize)
)
farthest_first, lloyd = jax.jit(clustering.farthest_first, static_argnums=1), jax.jit(clustering.lloyd)
spectral_groups = jax.jit(clustering.spectral_groups, static_argnums=(1, 2, 3), static_argnames="sigma")

COLUMNS = [
    (f"{s}_{name}", s, lap) for s in ("median", "mean") for name, lap in (("paperL", "unnormalised"), ("normL", "sym"))
]


def same_partition(a, b) -> bool:
    return adjusted_rand_score(np.asarray(a), np.asarray(b)) == 1.0


def blocks(rng: np.random.Generator, roles: np.ndarray, noise: float) -> np.ndarray:
    """Conflicts that are small between agents of one role."""
    n = len(roles)
    conflict = np.where(roles[:, None] == roles, 0.3, 3.0) + noise * rng.uniform(-1, 1, (n, n))
    conflict = np.abs(conflict + conflict.T) / 2
    np.fill_diagonal(conflict, 0.0)
    return conflict.astype(np.float32)


@pytest.mark.parametrize("name", ["gradps_cluster_5x5_K2", "gradps_cluster_6x6_K3"])
@pytest.mark.parametrize(("column", "sigma", "laplacian"), COLUMNS)
def test_recorded_clusterings(oracles, name, column, sigma, laplacian):
    inputs, expected = oracles[name]["inputs"], oracles[name]["expected"][column]
    conflict = jnp.array(inputs["C"])
    near = affinity(conflict, sigma)
    np.testing.assert_allclose(near, expected["affinity"], rtol=1e-5)
    points = np.asarray(embedding(near, inputs["K"], laplacian))
    np.testing.assert_allclose(points @ points.T, expected["embedding_gram_EET"], atol=1e-4)
    labels = spectral_groups(conflict, inputs["K"], laplacian, sigma=sigma)
    np.testing.assert_array_equal(labels, expected["labels"])


def test_without_conflict(oracles):
    inputs, expected = oracles["gradps_cluster_degenerate"]["inputs"], oracles["gradps_cluster_degenerate"]["expected"]
    conflict = jnp.array(inputs["C"])
    np.testing.assert_array_equal(affinity(conflict), expected["affinity"])
    np.testing.assert_array_equal(spectral_groups(conflict[:3, :3], 3), expected["identity_when_K_ge_n"])
    groups = np.asarray(spectral_groups(conflict, inputs["K"]))
    assert groups[0] == 0
    assert set(groups) <= {0, 1}


@pytest.mark.parametrize("n", [1, 2, 5])
def test_as_many_groups_as_agents(n):
    conflict = jnp.ones((7, n, n))
    for k in (n, n + 3):
        np.testing.assert_array_equal(spectral_groups(conflict, k), np.tile(np.arange(n), (7, 1)))
    np.testing.assert_array_equal(spectral_groups(conflict, 1), np.zeros((7, n)))


@pytest.mark.parametrize(("n", "k"), [(6, 2), (6, 3), (10, 3), (15, 2), (27, 3), (50, 4)])
def test_clear_groups_are_found_as_scikit_learn_finds_them(n, k):
    rng = np.random.default_rng(n)
    for _ in range(5):
        roles = rng.permutation(np.arange(n) % k)
        conflict = blocks(rng, roles, 0.2)
        near = np.asarray(affinity(jnp.asarray(conflict)), np.float64)
        theirs = SpectralClustering(k, affinity="precomputed", assign_labels="kmeans", random_state=0).fit(near).labels_
        for laplacian in ("sym", "unnormalised"):
            for labels in ("kmeans", "discretize"):
                ours = np.asarray(spectral_groups(jnp.asarray(conflict), k, laplacian, labels))
                assert same_partition(ours, roles)
                assert same_partition(ours, theirs)


def test_blurred_groups_mostly_agree_with_scikit_learn():
    """Without clear blocks k-means depends on its starts; ours are fixed, scikit-learn's drawn, the best of ten."""
    rng = np.random.default_rng(0)
    scores, purity = [], []
    for _ in range(60):
        roles = rng.permutation(np.arange(10) < 4).astype(int)
        phi = np.where(roles, 1.0, -1.0)[None] * rng.uniform(0, 1, (10, 10)) + 0.6 * rng.normal(size=(10, 10))
        a, b = phi[:, :, None], phi[:, None]
        conflict = (np.abs(a) + np.abs(b) - np.abs(a + b)).sum(0)
        np.fill_diagonal(conflict, 0.0)
        near = np.asarray(affinity(jnp.asarray(conflict, jnp.float32)), np.float64)
        theirs = SpectralClustering(2, affinity="precomputed", assign_labels="kmeans", random_state=0).fit(near).labels_
        ours = np.asarray(spectral_groups(jnp.asarray(conflict, jnp.float32), 2))
        scores.append(adjusted_rand_score(ours, theirs))
        purity.append(adjusted_rand_score(ours, roles))
    assert np.mean(np.array(scores) == 1.0) > 0.85
    assert np.mean(purity) > 0.7


@pytest.mark.parametrize(("n", "k"), [(6, 2), (10, 3), (15, 4)])
def test_discretize_is_the_rotation_of_scikit_learn(n, k):
    rng = np.random.default_rng(k)
    for trial in range(5):
        roles = rng.permutation(np.arange(n) % k)
        points = np.eye(k)[roles] @ np.linalg.qr(rng.normal(size=(k, k)))[0] + 0.15 * rng.normal(size=(n, k))
        ours = discretize(jnp.asarray(points, jnp.float32), k)
        assert same_partition(ours, sklearn_discretize(points, random_state=trial))


def partitions(n: int, k: int) -> np.ndarray:
    """All cuts of n points into k groups or less, as labels [P, n]."""
    labels = np.array(list(itertools.product(range(k), repeat=n)))
    return labels[[list(dict.fromkeys(row)) == list(range(len(set(row)))) for row in labels.tolist()]]


@pytest.mark.parametrize(("n", "k", "share"), [(6, 2, 0.99), (8, 3, 0.95)])
def test_the_best_partition_is_found_as_by_exhaustive_search(n, k, share):
    """In embeddings of conflicts without structure and in clouds of points; a single start misses a third of them."""
    rng = np.random.default_rng(0)
    conflict = jnp.asarray(rng.uniform(0, 1, (250, n, n)), jnp.float32)
    conflict = (conflict + jnp.swapaxes(conflict, 1, 2)) * (1 - jnp.eye(n))
    embedded = jax.vmap(lambda c: embedding(affinity(c), k, "sym"))(conflict)
    points = jnp.concatenate([embedded, jnp.asarray(rng.normal(size=(250, n, k)), jnp.float32)])
    members = np.eye(k)[partitions(n, k)]  # [P, A, K]
    sums, size = np.einsum("pak,cad->cpkd", members, np.asarray(points, np.float64)), members.sum(1)
    gain = (np.square(sums).sum(-1) / np.maximum(size, 1)).sum(-1).max(-1)
    least = np.square(np.asarray(points, np.float64)).sum((1, 2)) - gain

    def found(cut) -> float:
        cost = jax.jit(jax.vmap(lambda p: clustering.inertia(p, cut(p), k)))(points)
        return float((np.asarray(cost) <= least * (1 + 1e-4) + 1e-6).mean())

    assert found(lambda p: kmeans(p, k)) >= share
    assert found(lambda p: lloyd(p, farthest_first(p, k))) < 0.8


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=25)
def test_a_start_of_kmeans_against_plain_loops(seed):
    points = np.random.default_rng(seed).normal(size=(9, 3)).astype(np.float32)
    k = 3
    centres = [points[0].astype(np.float64)]
    while len(centres) < k:
        nearest = [min(((p - c) ** 2).sum() for c in centres) for p in points]
        centres.append(points[int(np.argmax(nearest))].astype(np.float64))
    for _ in range(clustering.STEPS):
        own = [int(np.argmin([((p - c) ** 2).sum() for c in centres])) for p in points]
        centres = [
            np.mean([p for p, j in zip(points, own, strict=True) if j == i] or [c], 0) for i, c in enumerate(centres)
        ]
    wanted = [int(np.argmin([((p - c) ** 2).sum() for c in centres])) for p in points]
    np.testing.assert_array_equal(lloyd(jnp.asarray(points), farthest_first(jnp.asarray(points), k)), wanted)
    cost = sum(((points[np.array(wanted) == i] - c) ** 2).sum() for i, c in enumerate(centres))
    assert float(clustering.inertia(jnp.asarray(points), kmeans(jnp.asarray(points), k), k)) <= cost * (1 + 1e-5)


@given(st.sampled_from([1, 2, 5, 12]).flatmap(lambda n: st.lists(st.integers(0, 4), min_size=n, max_size=n)))
@settings(deadline=None, max_examples=50)
def test_groups_are_numbered_as_they_appear(labels):
    seen: list[int] = []
    for label in labels:
        if label not in seen:
            seen.append(label)
    np.testing.assert_array_equal(by_appearance(jnp.array(labels), 5), [seen.index(label) for label in labels])


def test_many_matrices_at_once_equal_one_by_one():
    rng = np.random.default_rng(3)
    conflict = np.stack([blocks(rng, rng.permutation(np.arange(6) % 2), 0.4) for _ in range(8)]).reshape(2, 4, 6, 6)
    together = jax.jit(jax.vmap(lambda c: clustering.spectral_groups(c, 2)))(jnp.asarray(conflict))
    alone = [[spectral_groups(jnp.asarray(c), 2) for c in row] for row in conflict]
    np.testing.assert_array_equal(together, alone)


def test_equal_conflicts_are_cut_the_same_every_time():
    conflict = jnp.ones((6, 6)) - jnp.eye(6)
    groups = [np.asarray(spectral_groups(scale * conflict, 3)) for scale in (1.0, 1e-6, 1e6)]
    for other in groups[1:]:
        np.testing.assert_array_equal(other, groups[0])
