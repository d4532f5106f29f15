"""Conflict, efficiency and what chance gives, against recorded numbers and plain loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpgrad.methods.sharing.gradps import conflict, scheme
from gpgrad.methods.sharing.gradps.conflict import futile_below

chance_efficiency, masked_median = jax.jit(conflict.chance_efficiency), jax.jit(conflict.masked_median)
group_efficiency = jax.jit(conflict.group_efficiency, static_argnums=2)
neuron_conflict = jax.jit(scheme.neuron_conflict, static_argnames="normalise")
neuron_efficiency = jax.jit(scheme.neuron_efficiency)


def random_phi(seed: int, periods: int, agents: int, neurons: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    phi = rng.normal(size=(periods, agents, neurons)) * 10.0 ** rng.integers(-3, 3, (periods, 1, 1))
    phi[rng.uniform(size=phi.shape) < 0.2] = 0.0
    phi[:, :, rng.integers(neurons)] = 0.0
    return phi.astype(np.float32)


def test_recorded_conflict_and_efficiency(oracles):
    inputs, expected = oracles["gradps_ngc_nge"]["inputs"], oracles["gradps_ngc_nge"]["expected"]
    phi = jnp.array(inputs["phi_T_agents_neurons"])
    np.testing.assert_allclose(neuron_conflict(phi), expected["C"], rtol=1e-5, atol=1e-6)
    efficiency = neuron_efficiency(phi)
    np.testing.assert_allclose(efficiency, expected["e"], rtol=1e-5)
    each = [neuron_efficiency(phi[t : t + 1]) for t in range(3)]
    np.testing.assert_allclose(each, expected["eff_per_period"], rtol=1e-5, atol=1e-6)
    groups = jnp.array(inputs["groups_neuron_agent"])
    np.testing.assert_allclose(group_efficiency(phi, groups, 2), expected["e_group_aware"], rtol=1e-5)
    ready = jnp.array(inputs["ready"])
    chance = jnp.ones(4)
    fixed = futile_below(efficiency, chance, ready, "fixed", alpha=inputs["alpha"])
    np.testing.assert_array_equal(efficiency < fixed, expected["futile_fixed_0.2"])
    relative = futile_below(efficiency, chance, ready, "rel_mean", ratio=0.5)
    np.testing.assert_allclose(relative, expected["relative_threshold"], rtol=1e-5)
    np.testing.assert_array_equal(ready & (efficiency < relative), expected["futile_code_relative"])


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 5, 27, 50]), st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=30)
def test_against_plain_loops(seed, n, periods):
    phi = random_phi(seed, periods, n, 3)
    exact = phi.astype(np.float64)
    wanted, share = np.zeros((3, n, n)), np.zeros((3, n, n))
    for o in range(3):
        for i in range(n):
            for j in range(n):
                total = 0.0
                for t in range(periods):
                    a, b = exact[t, i, o], exact[t, j, o]
                    pair = 2 * min(abs(a), abs(b)) if a * b < 0 else 0.0
                    assert abs(abs(a) + abs(b) - abs(a + b) - pair) <= 1e-9 + 1e-7 * pair
                    wanted[o, i, j] += pair
                    total += abs(a) + abs(b)
                share[o, i, j] = wanted[o, i, j] / total if total else 0.0
    scale = np.abs(phi).max() + 1e-9
    np.testing.assert_allclose(neuron_conflict(jnp.asarray(phi)) / scale, wanted / scale, atol=1e-5)
    np.testing.assert_allclose(neuron_conflict(jnp.asarray(phi), normalise=True), share, atol=1e-4)

    groups = np.random.default_rng(seed).integers(0, 3, (3, n))
    efficiency, apart = [], []
    for o in range(3):
        ratios, group_ratios = [], []
        for t in range(periods):
            size = sum(abs(exact[t, i, o]) for i in range(n))
            pulls = [abs(sum(exact[t, i, o] for i in range(n) if groups[o, i] == g)) for g in range(3)]
            ratios.append(abs(exact[t, :, o].sum()) / size if size else 1.0)
            group_ratios.append(sum(pulls) / size if size else 1.0)
        efficiency.append(np.mean(ratios))
        apart.append(np.mean(group_ratios))
    np.testing.assert_allclose(neuron_efficiency(jnp.asarray(phi)), efficiency, atol=1e-5)
    np.testing.assert_allclose(group_efficiency(jnp.asarray(phi), jnp.asarray(groups), 3), apart, atol=1e-5)


def test_only_full_periods_count():
    phi = jnp.asarray(random_phi(0, 5, 4, 6))
    counted = jnp.arange(5) < 2
    np.testing.assert_allclose(neuron_efficiency(phi, counted), neuron_efficiency(phi[:2]), rtol=1e-6)
    groups = jnp.zeros((6, 4), jnp.int32)
    np.testing.assert_allclose(group_efficiency(phi, groups, 2, counted), neuron_efficiency(phi[:2]), rtol=1e-5)
    np.testing.assert_array_equal(neuron_efficiency(phi, jnp.zeros(5, bool)), np.ones(6))


@pytest.mark.parametrize(("n", "expected"), [(6, 0.41), (15, 0.26), (27, 0.19)])
def test_independent_gradients_are_already_inefficient(n, expected):
    """The numbers behind the `null` threshold: with 27 agents chance alone is below 0.2."""
    phi = jax.random.normal(jax.random.key(n), (40, n, 200)) * jax.random.uniform(jax.random.key(1), (n, 1))
    plain = jax.random.normal(jax.random.key(n), (40, n, 200))
    assert float(neuron_efficiency(plain).mean()) == pytest.approx(expected, abs=0.02)
    for some in (phi, plain, jnp.abs(plain), plain.at[:, : n // 2].set(-jnp.abs(plain[:, : n // 2]))):
        by_chance = chance_efficiency(jax.random.key(2), some).mean()
        shuffled = neuron_efficiency(some * jax.random.rademacher(jax.random.key(3), some.shape, some.dtype)).mean()
        np.testing.assert_allclose(by_chance, shuffled, atol=0.02)


def test_chance_flips_all_neurons_of_an_agent_together():
    """Two agents that pull alike at one neuron and against each other at the next are one's mirror of the other."""
    phi = jnp.array([[[1.0, 1.0], [1.0, -1.0]]] * 3)  # [T, A, N]
    draws = np.asarray(chance_efficiency(jax.random.key(0), phi))
    assert draws.shape == (conflict.DRAWS, 2)
    np.testing.assert_allclose(draws.sum(1), 1.0)
    assert np.ptp(draws[:, 0]) > 0


def test_thresholds():
    efficiency = jnp.array([0.9, 0.8, 0.7, 0.85, 0.05, 0.3])
    chance = jnp.array([0.4, 0.4, 0.4, 0.4, 0.4, 0.8])
    ready = jnp.array([True, True, True, True, True, False])
    level = lambda rule, **options: np.asarray(futile_below(efficiency, chance, ready, rule, **options))
    np.testing.assert_allclose(level("fixed", alpha=0.3), np.full(6, 0.3))
    np.testing.assert_allclose(level("rel_mean"), np.full(6, 0.5 * 0.66), rtol=1e-5)
    np.testing.assert_allclose(level("null", ratio=0.25), [0.1] * 5 + [0.2], rtol=1e-5)
    # median 0.8, deviations 0.1 0 0.1 0.05 0.75, their median 0.1
    np.testing.assert_allclose(level("mad", deviations=2.0), np.full(6, 0.8 - 2 * 1.4826 * 0.1), rtol=1e-4)
    nobody = futile_below(efficiency, chance, jnp.zeros(6, bool), "rel_mean")
    np.testing.assert_allclose(nobody, np.full(6, 0.5 * np.mean(efficiency)), rtol=1e-5)


@given(st.lists(st.tuples(st.floats(-5, 5, width=32), st.booleans()), min_size=1, max_size=9))
@settings(deadline=None, max_examples=50)
def test_masked_median(entries):
    values, mask = np.array([v for v, _ in entries], np.float32), np.array([m for _, m in entries])
    mask[0] = True
    np.testing.assert_allclose(
        masked_median(jnp.asarray(values), jnp.asarray(mask)), np.median(values[mask]), atol=1e-6
    )
