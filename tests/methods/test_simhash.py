"""Codes and buckets against NumPy and recorded numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpgrad.envs.api import OneHot
from gpgrad.methods.weighting import simhash

KEY = jax.random.key(0)


def random_one_hot(rng: np.random.Generator, n: int, size: int, ones: int) -> OneHot:
    """Distinct positions, one of them absent in every row."""
    index = np.stack([rng.permutation(size)[:ones] for _ in range(n)]).astype(np.int16)
    index[:, 0] = size
    return OneHot(jnp.asarray(index), size)


def test_recorded_codes(oracles):
    inputs, expected = oracles["simhash_k4"]["inputs"], oracles["simhash_k4"]["expected"]
    projection, states = jnp.array(inputs["A"]), jnp.array(inputs["states"])
    # One dot product of the last state is zero but for rounding: it needs the oracle's precision.
    got = simhash.codes(projection, states)
    assert got.dtype == jnp.uint32
    np.testing.assert_array_equal(got[:-1, 0], expected["packed"][:-1])
    with jax.enable_x64(True):
        exact = simhash.codes(jnp.array(inputs["A"]), jnp.array(inputs["states"]))
        np.testing.assert_array_equal(exact[:, 0], expected["packed"])


def test_recorded_codes_of_two_words(oracles):
    inputs, expected = oracles["simhash_k40_two_words"]["inputs"], oracles["simhash_k40_two_words"]["expected"]
    got = simhash.codes(jnp.array(inputs["A"]), jnp.array(inputs["state"]))
    np.testing.assert_array_equal(got, expected["words_lo_hi"])


@pytest.mark.parametrize("k", [1, 31, 32, 33, 64])
def test_the_zero_state_has_all_bits(k):
    hashing = simhash.make_hash(KEY, k, 5)
    words = np.asarray(simhash.codes(hashing.projection, jnp.zeros((2, 5))))
    assert words.shape == (2, -(-k // 32))
    assert sum(int(word) << (32 * i) for i, word in enumerate(words[0])) == 2**k - 1
    nowhere = OneHot(jnp.full((2, 3), 5, jnp.int16), 5)
    np.testing.assert_array_equal(simhash.codes(hashing.projection, nowhere), words)


@pytest.mark.parametrize("k", [10, 64])
def test_one_hot_states_have_the_codes_of_their_vectors(k):
    rng = np.random.default_rng(0)
    states = random_one_hot(rng, 200, 300, 24)
    hashing = simhash.make_hash(KEY, k, 300)
    got = simhash.codes(hashing.projection, states)
    np.testing.assert_array_equal(got, simhash.codes(hashing.projection, states.dense()))
    order = rng.permutation(24)
    np.testing.assert_array_equal(got, simhash.codes(hashing.projection, OneHot(states.index[:, order], 300)))


def test_bits_differ_with_the_angle():
    """The probability of a different bit is angle / pi (Charikar 2002)."""
    hashing = simhash.make_hash(KEY, 20_000, 2)
    for angle in (0.0, 0.3, 1.0, np.pi / 2, np.pi):
        pair = jnp.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
        one, two = np.asarray(simhash.codes(hashing.projection, pair))
        differing = sum(int(a ^ b).bit_count() for a, b in zip(one, two, strict=True))
        assert differing / 20_000 == pytest.approx(angle / np.pi, abs=0.015)


def test_projections_are_gaussian_and_depend_on_the_key():
    one, two = (np.asarray(simhash.make_hash(jax.random.key(i), 64, 500).projection) for i in range(2))
    assert one.mean() == pytest.approx(0, abs=0.03)
    assert one.std() == pytest.approx(1, abs=0.02)
    assert np.abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("g", ["identity", "center", "zscore"])
@pytest.mark.parametrize("one_hot", [False, True])
def test_preprocessing(g, one_hot):
    """G's statistics come from valid states alone, and g is applied to the state before the projection."""
    rng = np.random.default_rng(1)
    states = random_one_hot(rng, 60, 20, 6) if one_hot else jnp.array(3 + 2 * rng.normal(size=(60, 20)), jnp.float32)
    dense = np.array(states.dense() if isinstance(states, OneHot) else states, np.float64)
    dense[:, 4] = 0.5 if not one_hot else dense[:, 4]  # never varies
    valid = np.arange(60) % 3 > 0
    if not isinstance(states, OneHot):
        states = jnp.where(valid[:, None], dense, np.nan)
    mean, std = dense[valid].mean(0), dense[valid].std(0)
    transformed = {"identity": dense, "center": dense - mean, "zscore": (dense - mean) / np.where(std > 0, std, 1.0)}[g]
    raw = simhash.make_hash(KEY, 32, 20)
    scores = transformed @ np.asarray(raw.projection, np.float64).T
    hashing = simhash.standardise(raw, g, states, jnp.asarray(valid))
    words = np.asarray(simhash.codes(hashing.projection, states, hashing.threshold))[:, 0]
    bits = (words[:, None] >> np.arange(32)) & 1
    clear = (np.abs(scores) > 1e-4) & valid[:, None]
    assert clear.sum() > 0.99 * 32 * valid.sum()
    np.testing.assert_array_equal(bits[clear], (scores > 0)[clear])


def test_no_valid_state_leaves_finite_statistics():
    hashing = simhash.standardise(simhash.make_hash(KEY, 8, 3), "zscore", jnp.full((4, 3), jnp.nan), jnp.zeros(4, bool))
    assert all(np.isfinite(leaf).all() for leaf in hashing)


def test_fingerprints_tell_states_apart():
    """Among all 0/1 vectors of 12 entries, dense or as positions, each has its own; minus zero is zero."""
    salts = simhash.make_salts(KEY, 12)
    dense = ((np.arange(4096)[:, None] >> np.arange(12)) & 1).astype(np.float32)
    index = np.where(dense > 0, np.arange(12), 12)
    for states in (jnp.array(dense), OneHot(jnp.array(index), 12)):
        prints = np.asarray(simhash.fingerprints(salts, states))
        assert prints.shape == (4096, 2)
        for word in prints.T:
            assert len(np.unique(word)) > 4090  # 32 bits alone may collide once in a while
        assert len(np.unique(prints, axis=0)) == 4096
    zeros = simhash.fingerprints(salts, jnp.zeros(12))
    np.testing.assert_array_equal(zeros, simhash.fingerprints(salts, -jnp.zeros(12)))
    tiny = simhash.fingerprints(salts, jnp.zeros(12).at[3].set(1e-30))
    assert (np.asarray(tiny) != np.asarray(zeros)).any()


def test_recorded_ids(oracles):
    inputs, expected = oracles["gpvd_dense_ids"]["inputs"], oracles["gpvd_dense_ids"]["expected"]
    with jax.enable_x64(True):  # one of the codes rests on a rounded zero, see above
        words = simhash.codes(jnp.array(inputs["A"]), jnp.array(inputs["states"]))
    np.testing.assert_array_equal(words[:, 0], expected["codes"])
    got = simhash.bucket_ids(words, jnp.array(inputs["mask"], bool))
    assert got.dtype == jnp.int32
    np.testing.assert_array_equal(got, expected["dense_ids"])
    assert int(got.max()) + 1 == expected["n_buckets"]


ids = jax.jit(simhash.bucket_ids)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), width=st.integers(1, 3), variety=st.sampled_from([1, 2, 5, 40, 10**9]))
def test_ids_are_ranks_of_codes(seed, width, variety):
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, 2**32, (min(variety, 200), width), dtype=np.uint32)
    pool[0] = rng.choice([0, 2**32 - 1], width)  # what padding is replaced by must not join valid rows
    words = pool[rng.integers(0, len(pool), 200)]
    valid = rng.random(200) < rng.choice([0.0, 0.1, 0.5, 1.0])
    got = np.asarray(ids(jnp.array(words), jnp.array(valid)))
    expected = np.full(200, -1)
    codes = [sum(int(w) << (32 * i) for i, w in enumerate(row)) for row in words]
    ranks = {code: i for i, code in enumerate(sorted({c for c, ok in zip(codes, valid, strict=True) if ok}))}
    expected[valid] = [ranks[c] for c, ok in zip(codes, valid, strict=True) if ok]
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("n", [1, 2, 3, 70_000])
def test_ids_for_any_number_of_rows(n):
    rng = np.random.default_rng(n)
    words = rng.integers(0, 300, (n, 2), dtype=np.uint32) << rng.integers(0, 24, (n, 2), dtype=np.uint32)
    got = np.asarray(ids(jnp.array(words), jnp.ones(n, bool)))
    inverse = np.unique(words[:, ::-1], axis=0, return_inverse=True)[1].ravel()
    np.testing.assert_array_equal(got, inverse)


def test_ids_under_vmap():
    rng = np.random.default_rng(3)
    words = jnp.array(rng.integers(0, 9, (4, 50, 2), dtype=np.uint32))
    valid = jnp.array(rng.random((4, 50)) < 0.7)
    together = jax.vmap(simhash.bucket_ids)(words, valid)
    np.testing.assert_array_equal(
        together, jnp.stack([simhash.bucket_ids(w, v) for w, v in zip(words, valid, strict=True)])
    )
