"""The learner's arithmetic against independent NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gpgrad.envs.api import View
from gpgrad.learning.rollout import epsilon
from gpgrad.methods import optimisers
from gpgrad.methods.decomposition import base
from gpgrad.methods.nets import gru, mixers
from gpgrad.types import Batch

close = lambda a, b, rtol=1e-5: np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=1e-6)


def mix_weights(inputs: dict) -> mixers.MixWeights:
    return mixers.MixWeights(
        w1=jnp.abs(jnp.array(inputs["w1_raw_n_e"])),
        b1=jnp.array(inputs["b1"]),
        w2=jnp.abs(jnp.array(inputs["w2_raw"])),
        v=jnp.array(inputs["b2"]),
    )


def test_qmix(oracles):
    inputs, expected = oracles["qmix"]["inputs"], oracles["qmix"]["expected"]
    q_tot, grad = jax.value_and_grad(lambda q: mixers.mix(mix_weights(inputs), q))(jnp.array(inputs["q"]))
    close(q_tot, expected["q_tot"])
    close(grad, expected["dqtot_dq"])


@pytest.mark.parametrize(
    ("lam", "column"), [(0.0, "td_lambda_0_fixed"), (0.6, "td_lambda_0.6_fixed"), (1.0, "td_lambda_1_pymarl")]
)
def test_returns(oracles, lam, column):
    inputs, expected = oracles["targets"]["inputs"], oracles["targets"]["expected"]
    valid = np.array(expected["mask_fixed"], bool)
    if column == "td_lambda_0_fixed":
        wanted, rows = np.where(valid, expected["one_step"], 0.0), slice(None)
    elif column == "td_lambda_0.6_fixed":
        wanted, rows = np.array(expected[column]), slice(None)
    else:
        wanted, rows = np.array(expected[column]), oracles["targets"]["expected"]["rows_that_must_agree"]
    got = base.lambda_returns(
        jnp.array(inputs["reward"]).T,
        jnp.array(inputs["target_q"]).T[1:],
        jnp.array(inputs["terminated"], bool).T,
        jnp.array(valid).T,
        inputs["gamma"],
        lam,
    ).T
    close(got[np.array(rows) if not isinstance(rows, slice) else rows], wanted[rows])


def test_returns_ignore_what_padding_holds(oracles):
    inputs, expected = oracles["targets"]["inputs"], oracles["targets"]["expected"]
    valid = np.array(expected["mask_fixed"], bool)
    rewards = np.where(valid, inputs["reward"], np.nan)
    values = np.where(valid, np.array(inputs["target_q"])[:, 1:], np.nan)
    ends = np.array(inputs["terminated"], bool)
    for lam, column in ((0.0, "one_step"), (0.6, "td_lambda_0.6_fixed")):
        got = base.lambda_returns(
            jnp.array(rewards).T, jnp.array(values).T, jnp.array(ends).T, jnp.array(valid).T, inputs["gamma"], lam
        ).T
        close(got, np.where(valid, expected[column], 0.0))


def test_double_q(oracles):
    inputs, expected = oracles["double_q"]["inputs"], oracles["double_q"]["expected"]
    two = lambda x, dtype=jnp.float32: jnp.broadcast_to(jnp.array(x, dtype), (2, 1, 2, 3))  # [T+1, B, A, U]
    avail = two(inputs["avail"], bool)
    view = View(jnp.zeros((2, 1, 2, 1)), avail, jnp.zeros((2, 1, 1)))
    ones = jnp.ones((1, 1), bool)
    batch = Batch(view, jnp.zeros((1, 1, 2), jnp.int32), jnp.zeros((1, 1)), ones, ones)
    online, target = two(inputs["online_q"]), two(inputs["target_q"])
    np.testing.assert_array_equal(base.greedy_actions(online, avail)[0, 0], expected["greedy"])
    picked = base.select(online, target, batch, double_q=True)
    close(picked.next[0, 0], expected["target_value"])
    close(picked.next[0, 0].sum(), expected["vdn_target"])
    close(picked.taken[0, 0], np.array(inputs["online_q"])[:, 0])
    single = base.select(online, target, batch, double_q=False).next[0, 0]
    close(single, np.where(inputs["avail"], inputs["target_q"], -np.inf).max(1))


@pytest.mark.parametrize(("name", "lr", "column"), [("rmsprop", 5e-4, "rmsprop_lr5e-4"), ("adam", 1e-3, "adam_lr1e-3")])
def test_optimisers(oracles, name, lr, column):
    inputs, expected = oracles["optimisers"]["inputs"], oracles["optimisers"]["expected"]
    optimiser = optimisers.make(name, lr)
    param = jnp.array(inputs["p0"])
    state, path = optimiser.init(param), []
    for grad in inputs["grads"]:
        step, state = optimiser.update(jnp.array(grad), state, param)
        param = optax.apply_updates(param, step)
        path.append(param)
    close(path, expected[column], rtol=1e-6)


def test_clip(oracles):
    inputs, expected = oracles["optimisers"]["inputs"], oracles["optimisers"]["expected"]
    vector = jnp.array(inputs["clip_vec"])
    scale, norm = optimisers.clip_scale({"a": vector[:1], "b": vector[1:]}, inputs["clip_max"])
    close(vector * scale, expected["clip_torch"], rtol=1e-6)
    assert float(norm) == pytest.approx(13.0)


def test_gru_cell(oracles):
    inputs, expected = oracles["gru_cell"]["inputs"], oracles["gru_cell"]["expected"]
    kernels = lambda name: gru.Gates(*(jnp.full((1, 1), value) for value in inputs[name]))
    biases = lambda name: gru.Gates(*(jnp.full(1, value) for value in inputs[name]))
    cell = gru.GRU(kernels("w_i"), kernels("w_h"), biases("b_i"), biases("b_h"))
    hidden = gru.cell(cell, gru.project(cell, jnp.full((1, 1), inputs["x"])), jnp.full((1, 1), inputs["h"]))
    close(hidden[0, 0], expected["h_new"])


def test_epsilon(oracles):
    inputs, expected = oracles["epsilon"]["inputs"], oracles["epsilon"]["expected"]
    close(epsilon(jnp.array(inputs["t_env"]), 1.0, 0.05, 50_000), expected["eps"])
