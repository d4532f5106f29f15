"""Layers, GRU and mixers: shared against per-agent weights, hand-written derivatives against automatic ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpgrad.envs.api import EnvSpec, OneHot
from gpgrad.methods.nets import gru, layers, mixers
from gpgrad.methods.nets.agent import count, make_agent
from gpgrad.methods.nets.heads import Utilities
from gpgrad.methods.nets.lagging_head import LaggingHead
from gpgrad.types import NetSpec

SPEC = EnvSpec("none", 3, 4, 5, 7, 0, 6)


def per_agent(tree, n_agents: int):
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (n_agents, *leaf.shape)), tree)


def plain_unroll(params: gru.GRU, x: jax.Array) -> jax.Array:
    hidden, out = jnp.zeros((*x.shape[1:-1], params.w_rec.r.shape[-1])), []
    for t in range(x.shape[0]):
        hidden = gru.cell(params, gru.project(params, x[t]), hidden)
        out.append(hidden)
    return jnp.stack(out)


@pytest.mark.parametrize("hoist", [False, True], ids=["cpu", "accelerator"])
@pytest.mark.parametrize("shared", [True, False])
def test_gru_unroll_and_its_derivative(shared, hoist, monkeypatch):
    monkeypatch.setattr(gru, "_by_platform", lambda function, *args: function(*args, hoist=hoist))
    keys = jax.random.split(jax.random.key(0), 3)
    params = gru.init(keys[0], 4, 8)
    if not shared:
        params = jax.vmap(lambda k: gru.init(k, 4, 8))(jax.random.split(keys[0], 3))
    x = jax.random.normal(keys[1], (6, 2, 3, 4))
    weight = jax.random.normal(keys[2], (6, 2, 3, 8))
    score = lambda unroll: lambda p, inputs: (unroll(p, inputs) * weight).sum()
    np.testing.assert_allclose(gru.unroll(params, x), plain_unroll(params, x), atol=1e-6)
    ours, plain = (jax.jit(jax.grad(score(each), (0, 1)))(params, x) for each in (gru.unroll, plain_unroll))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, plain)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4, 5), (2, 3, 7)])
def test_sums_of_rows_of_any_shape(shape):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(11, 4)).astype(np.float32)
    index = rng.integers(-2, 14, (*shape, 6))
    ones = np.sum(index[..., None] == np.arange(11), axis=-2, dtype=np.float32)  # [..., D]
    weight = rng.normal(size=(*shape, 4)).astype(np.float32)
    np.testing.assert_allclose(layers.pick_rows(jnp.array(kernel), jnp.array(index)), ones @ kernel, atol=1e-5)
    gradient = jax.grad(lambda k: (layers.pick_rows(k, jnp.array(index)) * weight).sum())(jnp.array(kernel))
    expected = ones.reshape(-1, 11).T @ weight.reshape(-1, 4)
    np.testing.assert_allclose(gradient, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 2, 3), (5, 3), (3,)])
@pytest.mark.parametrize("shared", [True, False])
def test_dense_derivative(shape, shared):
    keys = jax.random.split(jax.random.key(1), 3)
    kernel = jax.random.normal(keys[0], (6, 5) if shared else (3, 6, 5))
    x = jax.random.normal(keys[1], (*shape, 6))
    weight = jax.random.normal(keys[2], (*shape, 5))
    plain = lambda a, w: jnp.einsum("...ad,dn->...an" if shared else "...ad,adn->...an", a, w)
    ours = jax.value_and_grad(lambda w, a: (layers.matmul(a, w) * weight).sum(), (0, 1))(kernel, x)
    wanted = jax.value_and_grad(lambda w, a: (plain(a, w) * weight).sum(), (0, 1))(kernel, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, wanted)


@pytest.mark.slow
@given(st.lists(st.integers(-2, 12), min_size=1, max_size=6, unique=True))
@settings(deadline=None, max_examples=25)
def test_one_hot_input_equals_dense(positions):
    layer = layers.init_dense(jax.random.key(2), 10, 4)
    positions = [p if p >= 0 else 10 - p for p in positions]  # beyond the end means absent
    x = OneHot(jnp.array([positions], jnp.int16), 10)
    score = lambda layer, inputs: jnp.square(layers.dense(layer, inputs)).sum()
    np.testing.assert_allclose(layers.dense(layer, x), layers.dense(layer, x.dense()), atol=1e-6)
    ours, wanted = jax.grad(score)(layer, x), jax.grad(score)(layer, x.dense())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, wanted)


@pytest.mark.parametrize("agent_id", [True, False])
def test_acting_equals_unrolling(agent_id):
    agent = make_agent(SPEC, NetSpec(8, agent_id, True), Utilities())
    params = agent.init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (5, 2, 3, 5))
    last = jax.random.randint(jax.random.key(2), (5, 2, 3), -1, 4)
    whole = agent.unroll(params, None, obs, last)
    carry = agent.start(2)
    for t in range(5):
        out = agent.step(params, None, obs[t], last[t], carry)
        carry = out.carry
        np.testing.assert_allclose(out.q, whole.q[t], atol=1e-5)


def test_equal_weights_per_agent_equal_shared_ones():
    agent = make_agent(SPEC, NetSpec(8, False, True), Utilities(3))
    params = agent.init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (5, 2, 3, 5))
    last = jnp.zeros((5, 2, 3), jnp.int32)
    shared = agent.unroll(params, None, obs, last)
    own = agent.unroll(per_agent(params, 3), jnp.ones((3, 8)), obs, last)
    assert shared.q.shape == (5, 2, 3, 4, 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), shared, own)


def test_numbers_of_an_action_begin_around_a_value():
    wide, around = (
        make_agent(SPEC, NetSpec(8, False, True), LaggingHead(5, around=around)) for around in (False, True)
    )
    shift = jax.tree.map(jnp.subtract, around.init(jax.random.key(0)).head, wide.init(jax.random.key(0)).head)
    for leaf in jax.tree.leaves(shift):
        actions = np.asarray(leaf).reshape(-1, 4, 5)
        np.testing.assert_allclose(actions, np.broadcast_to(actions[..., :1], actions.shape), atol=1e-7)
        assert 0.05 < abs(actions).max() < 8**-0.5
        assert np.ptp(actions, axis=1).min() > 1e-3


def test_agent_id_distinguishes_agents():
    obs, last = jnp.ones((1, 1, 3, 5)), jnp.zeros((1, 1, 3), jnp.int32)
    for agent_id in (False, True):
        agent = make_agent(SPEC, NetSpec(8, agent_id, True), Utilities())
        q = np.asarray(agent.unroll(agent.init(jax.random.key(0)), None, obs, last).q[0, 0])
        assert (np.ptp(q, axis=0).max() > 1e-3) == agent_id


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("positive", ["abs", "softplus", "quadratic"])
def test_qmix_is_monotone(n_layers, positive):
    mixer = mixers.qmix(3, 8, 8, n_layers, positive, "torch")

    def slopes(key):
        keys = jax.random.split(key, 3)
        state = jax.random.normal(keys[1], (4, 7))
        params = jax.tree.map(lambda leaf: 3 * leaf, mixer.init(keys[0], state[0]))
        q = 5 * jax.random.normal(keys[2], (4, 3))
        return jax.grad(lambda q: mixer.mix(mixer.hyper(params, state), q).sum())(q)

    found = np.asarray(jax.jit(jax.vmap(slopes))(jax.random.split(jax.random.key(0), 100)))
    assert (found >= 0).all()
    assert (found > 0).any((1, 2)).all()


def test_parameter_counts():
    """PyTorch's counts: six GRU biases per unit, QMIX's formula."""
    n, embed, width, state = 6, 64, 64, 1200
    params = mixers.qmix(n, embed, width, 2, "abs", "torch").init(jax.random.key(0), OneHot(jnp.zeros(2, int), state))
    expected = 2 * (width * state + width) + width * n * embed + n * embed + width * embed + embed
    expected += 2 * (state * embed + embed) + embed + 1
    assert count(params) == expected == 336641
    agent = make_agent(SPEC, NetSpec(64, False, True), Utilities()).init(jax.random.key(0))
    assert count(agent.gru) == 24960


def test_torch_initialisers_fill_their_bounds():
    layer = layers.init_dense(jax.random.key(0), 100, 200)
    for leaf in (layer["kernel"], layer["bias"]):
        assert 0.095 < np.abs(leaf).max() <= 0.1
    assert abs(float(layer["kernel"].std()) - 0.1 / 3**0.5) < 1e-3
    recurrent = gru.init(jax.random.key(0), 10, 64)
    assert all(0.11 < np.abs(leaf).max() <= 0.125 for leaf in jax.tree.leaves(recurrent))
    plain = layers.init_dense(jax.random.key(0), 100, 200, "flax")
    assert not plain["bias"].any()
    assert abs(float(plain["kernel"].std()) - 0.1) < 5e-3
