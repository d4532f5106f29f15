"""RMIX's values at risk: by sorting, by step, block by block; the lagging path that its predictor of levels reads."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad.envs.api import EnvSpec
from gpgrad.methods.decomposition import base
from gpgrad.methods.nets import cvar, layers
from gpgrad.methods.nets.agent import make_agent
from gpgrad.methods.nets.lagging_head import LaggingHead
from gpgrad.types import NetSpec

SPEC = EnvSpec("none", 3, 4, 5, 7, 0, 6)

close = lambda a, b, rtol=1e-5: np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=1e-5)


def test_the_lagging_path_has_not_seen_the_present():
    agent = make_agent(SPEC, NetSpec(8), LaggingHead(2))
    params = agent.init(jax.random.key(0))
    obs, last = jax.random.normal(jax.random.key(1), (4, 2, 3, 5)), jnp.zeros((4, 2, 3), jnp.int32)
    unroll = jax.jit(lambda p, obs: agent.unroll(p, None, obs, last))
    step = jax.jit(lambda obs, last, carry: agent.step(params, None, obs, last, carry))
    whole, carry = unroll(params, obs), agent.start(2)
    for t in range(4):
        out = step(obs[t], last[t], carry)
        carry = out.carry
        close(out.q, whole.q[t])
        close(out.extra.now, whole.extra.now[t])
        close(out.extra.lagging, whole.extra.lagging[t])
        close(layers.dense(out.head_params, out.extra.now).reshape(out.q.shape), out.q)
    changed = unroll(params, obs.at[2].add(1.0)).extra.lagging
    np.testing.assert_array_equal(changed[:3], whole.extra.lagging[:3])
    assert not np.array_equal(changed[3], whole.extra.lagging[3])

    predictor = cvar.predictor(SPEC.n_actions, 2, 3, "torch")
    of_risk = predictor.init(jax.random.key(2))
    slopes = jax.jit(jax.grad(lambda params: jnp.square(predictor.levels(of_risk, unroll(params, obs))).sum()))(params)
    assert np.asarray(slopes.lagging.fc["kernel"]).any()
    others = slopes._replace(lagging=None)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(others))


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("block", [1, 150, 10**6])
def test_atoms_read_by_step_are_those_of_the_head(monkeypatch, own, block):
    monkeypatch.setattr(cvar, "BLOCK", block)  # 48 atoms a step: one, three and all steps at a time
    agent = make_agent(SPEC, NetSpec(8), LaggingHead(2))
    params = agent.init(jax.random.key(0))
    if own:
        noise = jax.random.normal(jax.random.key(3), (3, *params.head["kernel"].shape))
        params = params._replace(head={"kernel": noise, "bias": jnp.repeat(params.head["bias"][None], 3, 0)})
    obs, last = jax.random.normal(jax.random.key(1), (7, 2, 3, 5)), jnp.zeros((7, 2, 3), jnp.int32)
    actions = jax.random.randint(jax.random.key(2), (7, 2, 3), 0, SPEC.n_actions)

    def read(q, actions):
        return base.take_wide(q, actions), q.max((-1, -2))

    def loss(params, by_step: bool):
        out = agent.unroll(params, None, obs, last)
        found = cvar.by_step(read, out, 2, actions) if by_step else read(out.q, actions)
        return sum(jnp.square(x).sum() for x in found), found

    slope = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    slopes, expected = slope(params, True), slope(params, False)
    jax.tree.map(lambda a, b: close(a, b, 1e-4), slopes, expected)
    assert np.asarray(slopes[0].fc1["kernel"]).any()


def test_cvar(oracles):
    atoms, expected = jnp.array(oracles["rmix_cvar"]["inputs"]["atoms"]), oracles["rmix_cvar"]["expected"]
    for name, values in expected.items():
        level = float(name.removeprefix("level="))
        close(cvar.cvar(atoms, jnp.float32(level)), values["cvar_correct"])
    slope = jax.grad(cvar.cvar, 1)(atoms, jnp.float32(0.35))
    near = [float(cvar.cvar(atoms, jnp.float32(level))) for level in (0.34, 0.36)]
    close(slope, (near[1] - near[0]) / 0.02, 1e-2)
    assert float(jax.grad(cvar.cvar, 1)(atoms, jnp.float32(0.3))) > 0.1


def test_levels_of_a_hundred_atoms_keep_whole_tenths():
    """In float32 the published code keeps 31 and 61 atoms at levels 0.3 and 0.6."""
    atoms = jnp.arange(100.0)
    for k in range(1, 11):
        close(cvar.cvar(atoms, jnp.float32(k / 10)), (10 * k - 1) / 2, 1e-4)


@pytest.mark.parametrize("count", [2, 7, 100])
def test_cvar_is_that_of_sorted_atoms(count):
    """With ties, negative zeros and levels that cut through an atom, values and both derivatives."""
    rng = np.random.default_rng(count)
    atoms = rng.normal(size=(40, count)).astype(np.float32)
    atoms[:20] = np.round(atoms[:20])  # -0.0 among them
    level = rng.uniform(0.02, 0.98, (40, 1)).astype(np.float32)[:, 0]

    def by_sorting(atoms: jax.Array, level: jax.Array) -> jax.Array:
        kept = level * count
        weights = jnp.clip(kept[:, None] - jnp.arange(count), 0.0, 1.0)
        return (jnp.sort(atoms, -1) * weights).sum(-1) / kept

    def slopes(f):
        return jax.jit(jax.grad(lambda atoms, level: (f(atoms, level) * jnp.arange(1.0, 41.0)).sum(), (0, 1)))

    close(jax.jit(cvar.cvar)(atoms, level), by_sorting(atoms, level))
    (by_atom, by_level), (plain, expected) = slopes(cvar.cvar)(atoms, level), slopes(by_sorting)(atoms, level)
    scale = np.arange(1.0, 41.0)
    close(by_level / scale, expected / scale, 1e-3)
    close(by_atom[20:], plain[20:], 1e-4)
    for value in np.unique(atoms[:20]):  # tied atoms share what sorting gives to some of them
        tied = atoms[:20] == value
        close((by_atom[:20] * tied).sum(-1), (plain[:20] * tied).sum(-1), 1e-3)
    assert np.isnan(cvar.cvar(jnp.array([jnp.nan] * 3), jnp.float32(0.5)))


def test_atoms_are_searched_block_by_block(monkeypatch):
    atoms = jax.random.normal(jax.random.key(0), (3, 7, 5))
    level = jax.random.uniform(jax.random.key(1), (3, 7), minval=0.1)
    weights = np.clip(5 * np.asarray(level)[..., None] - np.arange(5), 0.0, 1.0)
    expected = (np.sort(atoms, -1) * weights).sum(-1) / weights.sum(-1)
    for block in (1, 4 * 5, 2**20):  # of one row, of four with some left over, of all
        monkeypatch.setattr(cvar, "NEAR", block)
        close(cvar.cvar(atoms, level), expected)
    wholly = jax.jit(cvar._find)(atoms, 5 * level)
    close(wholly.value, expected)


def test_cvar_of_atoms_far_apart_and_far_from_zero():
    """Where the mean leaves few atoms behind at every pass, and where it differs from them by rounding."""
    doubling = 2.0 ** jnp.arange(100.0)
    for k in (1, 5, 10):
        expected = (2.0 ** (10 * k) - 1) / (10 * k)
        np.testing.assert_allclose(cvar.cvar(doubling, jnp.float32(k / 10)), expected, rtol=1e-5)
    rng = np.random.default_rng(0)
    far = np.float32(1e4) + rng.normal(size=(50, 100)).astype(np.float32)
    equal = np.full((1, 100), 0.1, np.float32)
    for atoms in (far, equal):
        for k in (1, 3, 10):
            expected = np.sort(atoms.astype(np.float64), -1)[:, : 10 * k].mean(-1)
            np.testing.assert_allclose(cvar.cvar(atoms, jnp.float32(k / 10)), expected, rtol=1e-6)
