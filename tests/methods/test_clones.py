"""Clones of neurons: what agents compute, where gradients go, opening, drawing together, merging."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpgrad.methods.nets import layers
from gpgrad.methods.sharing.gradps import clones, lifecycle
from gpgrad.methods.sharing.gradps.conflict import futile_below, neuron_efficiency
from gpgrad.methods.sharing.gradps.lifecycle import CLONED, RESTORING, SHARED, NeuronStatus
from gpgrad.methods.sharing.gradps.scheme import restore_penalty

close = lambda a, b: np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6)


def random_layer(seed: int, k: int, d: int, n: int) -> layers.Dense:
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    return {"kernel": draw(k, d, n), "bias": draw(k, n)}


def test_recorded_forward_and_gradient(oracles):
    inputs, expected = oracles["gradps_clone_forward"]["inputs"], oracles["gradps_clone_forward"]["expected"]
    kernel, bias = jnp.array(inputs["W_K_in_out"]), jnp.array(inputs["b_K_out"])
    assign, x, d = (jnp.array(inputs[name]) for name in ("assign_out_agents", "x_agents_in", "dL_dz"))

    def score(layer: layers.Dense) -> jax.Array:
        return (layers.dense(clones.gather(layer, assign), x) * d).sum()

    cloned, shared = {"kernel": kernel, "bias": bias}, {"kernel": kernel, "bias": bias[0]}
    close(layers.dense(clones.gather(cloned, assign), x), expected["z_cloned_bias"])
    close(layers.dense(clones.gather(shared, assign), x), expected["z_shared_bias"])
    for layer, column in ((cloned, "dL_db_cloned"), (shared, "dL_db_shared")):
        grads = jax.grad(score)(layer)
        close(grads["kernel"], expected["dL_dW"])
        close(grads["bias"], expected[column])


def test_recorded_restoring(oracles):
    inputs, expected = oracles["gradps_l_reg"]["inputs"], oracles["gradps_l_reg"]["expected"]
    layer = {"kernel": jnp.array(inputs["W_K_in_out"]), "bias": jnp.array(inputs["b_K_out"])}
    assign = jnp.array([[0, 1], [1, 0]])
    close(restore_penalty(layer["kernel"], layer["bias"], assign), expected["L1_eq4"])
    close(restore_penalty(layer["kernel"], layer["bias"], assign, "l2"), expected["L2_code"])
    every = jnp.ones(2, bool)
    one = clones.pull(layer, assign, every, inputs["lr"], "l1")
    close(one["kernel"], expected["W_after_L1_step"])
    close(one["bias"], expected["b_after_L1_step"])
    two = clones.pull(layer, assign, every, inputs["lr"], "l2")
    close(two["kernel"], expected["W_after_L2_step"])
    close(two["bias"], layer["bias"])
    variance, deviation = clones.spread(layer["kernel"], assign)
    close(variance, expected["restore_var"])
    close(deviation, expected["code_close_stat"])
    merged = clones.merge_slots(layer, every, assign)
    for slot in range(2):
        close(merged["kernel"][slot], expected["merged_W"])
        close(merged["bias"][slot], expected["merged_b"])


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 5, 27, 50]), st.sampled_from([1, 2, 3]))
@settings(deadline=None, max_examples=25)
def test_forward_and_gradients_against_plain_loops(seed, n_agents, k):
    rng = np.random.default_rng(seed)
    d, n = 4, 5
    layer = random_layer(seed, k, d, n)
    assign = rng.integers(0, k, (n, n_agents))
    x, cotangent = rng.normal(size=(3, n_agents, d)), rng.normal(size=(3, n_agents, n))
    kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
    z, d_kernel, d_bias = np.zeros((3, n_agents, n)), np.zeros_like(kernel), np.zeros_like(bias)
    for s in range(3):
        for i in range(n_agents):
            for o in range(n):
                slot = assign[o, i]
                z[s, i, o] = x[s, i] @ kernel[slot, :, o] + bias[slot, o]
                d_kernel[slot, :, o] += x[s, i] * cotangent[s, i, o]
                d_bias[slot, o] += cotangent[s, i, o]

    def score(layer: layers.Dense) -> tuple[jax.Array, jax.Array]:
        out = layers.dense(clones.gather(layer, jnp.asarray(assign)), jnp.asarray(x, jnp.float32))
        return (out * cotangent).sum(), out

    grads, out = jax.grad(score, has_aux=True)(layer)
    np.testing.assert_allclose(out, z, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(grads["kernel"], d_kernel, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(grads["bias"], d_bias, rtol=1e-3, atol=1e-3)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=25)
def test_the_pull_descends_the_penalty(seed):
    """Its step is the derivative's where there is one, and slots that no agent uses neither count nor move."""
    rng = np.random.default_rng(seed)
    layer, assign = random_layer(seed, 3, 4, 5), jnp.asarray(rng.integers(0, 3, (5, 3)))
    restoring = jnp.asarray(rng.uniform(size=5) < 0.6)
    for loss in ("l1", "l2"):
        total = lambda layer, loss=loss: restore_penalty(layer["kernel"], layer["bias"], assign, loss)[restoring].sum()
        grads = jax.grad(total)(layer)
        after = clones.pull(layer, assign, restoring, 0.1, loss)
        for name in ("kernel", "bias"):  # a lone clone is where its mean is, at the kink of the absolute value
            kink = layer[name] == clones.used_mean(layer[name], clones.used(assign, 3))
            close(after[name], layer[name] - 0.1 * jnp.where(kink, 0.0, grads[name]))
    idle = np.array([[slot not in row for row in np.asarray(assign)] for slot in range(3)])
    elsewhere = {
        "kernel": jnp.where(idle[:, None], 99.0, layer["kernel"]),
        "bias": jnp.where(idle, 99.0, layer["bias"]),
    }
    close(
        restore_penalty(elsewhere["kernel"], elsewhere["bias"], assign),
        restore_penalty(layer["kernel"], layer["bias"], assign),
    )
    close(clones.spread(elsewhere["kernel"], assign)[0], clones.spread(layer["kernel"], assign)[0])
    merged = clones.merge_slots(elsewhere, jnp.ones(5, bool), assign)
    assert float(merged["kernel"].max()) < 50


def test_opening_changes_no_output_and_closing_equal_clones_neither():
    layer = random_layer(0, 3, 4, 5)
    assign = jnp.zeros((5, 6), jnp.int32)
    x = jax.random.normal(jax.random.key(0), (7, 6, 4))
    opened, groups = jnp.array([1, 0, 1, 0, 0], bool), jnp.array([[0, 1, 2, 0, 1, 2]] * 5)
    before = layers.dense(clones.gather(layer, assign), x)
    wide, regrouped = clones.open_slots(layer, opened), jnp.where(opened[:, None], groups, assign)
    close(layers.dense(clones.gather(wide, regrouped), x), before)
    np.testing.assert_array_equal(wide["kernel"][..., 1], layer["kernel"][..., 1])
    merged = clones.merge_slots(wide, opened, regrouped)
    close(layers.dense(clones.gather(merged, assign), x), before)
    fresh = clones.clear_clones(wide, opened)
    np.testing.assert_array_equal(fresh["kernel"][1:, :, 0], np.zeros((2, 4)))
    np.testing.assert_array_equal(fresh["kernel"][0], wide["kernel"][0])
    np.testing.assert_array_equal(fresh["kernel"][..., 1], wide["kernel"][..., 1])


@pytest.mark.parametrize("rule", ["fixed_0.2", "relative_half_mean"])
def test_recorded_state_machine(oracles, rule):
    """Openings, closings and ages over eight periods, the first opening at target update T + 1."""
    inputs, expected = oracles["gradps_state_machine"]["inputs"], oracles["gradps_state_machine"]["expected"][rule]
    phi, periods = np.array(inputs["phi_period_agents_neurons"]), inputs["T"]
    life, ring = lifecycle.start(3, 4), np.zeros((periods, *phi.shape[1:]))
    groups = jnp.array([[0, 1, 0, 1]] * 3)
    at = lambda number: jnp.arange(3) == number
    for period, wanted in enumerate(expected):
        efficiency = neuron_efficiency(jnp.asarray(ring, jnp.float32))
        ready = lifecycle.ripe(life, periods)
        level = futile_below(efficiency, jnp.ones(3), ready, "fixed" if rule == "fixed_0.2" else "rel_mean")
        restore, converged = at(inputs["restore_neuron"][period]), at(inputs["close_neuron"][period])
        life, step = lifecycle.advance(life, restore, efficiency < level, converged, groups, periods)
        np.testing.assert_array_equal(np.flatnonzero(step.opened), wanted["opened"])
        np.testing.assert_array_equal(np.flatnonzero(step.closed), wanted["closed"])
        np.testing.assert_array_equal(life.status, wanted["status"])
        np.testing.assert_array_equal(life.age, wanted["age"])
        shared = np.asarray(life.status) == SHARED
        np.testing.assert_array_equal(life.assign, np.where(shared[:, None], 0, groups))
        ring = np.concatenate([phi[period][None], ring[:-1]])
        close(neuron_efficiency(jnp.asarray(ring[:1], jnp.float32)), wanted["eff_pushed"])


def life_of(status: list[int], age: list[int]) -> NeuronStatus:
    n = len(status)
    return NeuronStatus(jnp.array(status), jnp.array(age), jnp.zeros(n, jnp.int32), jnp.zeros((n, 2), jnp.int32))


def test_the_most_alike_clones_are_restored_at_the_given_rate():
    life = life_of([CLONED, SHARED, CLONED, RESTORING, CLONED, SHARED], [9, 9, 3, 9, 1, 9])
    variance = jnp.array([0.5, 0.0, 0.2, 0.0, 0.1, 0.0])
    keys = jax.random.split(jax.random.key(0), 4000)
    select = lambda by, per_neuron: jax.vmap(
        lambda key: lifecycle.select_restoring(key, life, variance, 0.6, by, per_neuron)
    )(keys)
    chosen, expected = select("variance", False)
    rates = np.asarray(chosen).mean(0)
    np.testing.assert_allclose(expected, 0.3)
    np.testing.assert_allclose(rates, [0, 0, 0, 0, 0.3, 0], atol=0.03)
    assert np.asarray(select("variance_over_age", False)[0]).mean(0).argmax() == 0  # 0.5 / 9 < 0.2 / 3 < 0.1 / 1
    chosen, expected = select("variance", True)
    np.testing.assert_allclose(expected, 0.9)
    np.testing.assert_allclose(np.asarray(chosen).mean(0), [0.3, 0, 0.3, 0, 0.3, 0], atol=0.03)
    nothing = lifecycle.select_restoring(keys[0], life_of([SHARED], [5]), jnp.zeros(1), 1.0, "variance", False)
    assert not np.asarray(nothing[0]).any()


def test_restoring_counts_its_periods():
    life = life_of([CLONED], [5])
    on, off = jnp.ones(1, bool), jnp.zeros(1, bool)
    groups = jnp.ones((1, 2), jnp.int32)
    life, _ = lifecycle.advance(life, on, off, off, groups, 3)
    assert (int(life.status[0]), int(life.restoring_for[0])) == (RESTORING, 0)
    for wanted in (1, 2):
        life, step = lifecycle.advance(life, off, on, off, groups, 3)
        assert not step.opened[0]
        assert int(life.restoring_for[0]) == wanted
    life, step = lifecycle.advance(life, off, off, on, groups, 3)
    assert step.closed[0]
    assert (int(life.status[0]), int(life.restoring_for[0]), int(life.age[0])) == (SHARED, 0, 0)
