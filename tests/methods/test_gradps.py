"""GradPS as a sharing scheme: what it measures, and what opening, restoring and closing do to a team."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad.envs.api import EnvSpec
from gpgrad.errors import SettingError
from gpgrad.learning.initial import start_clock
from gpgrad.learning.learner import last_actions, make_update, masked_mean
from gpgrad.methods.nets import gru, layers
from gpgrad.methods.nets.agent import AgentNet, activate, count, input_size, make_agent
from gpgrad.methods.nets.heads import Utilities
from gpgrad.methods.sharing import fups
from gpgrad.methods.sharing.base import Sharing
from gpgrad.methods.sharing.gradps import scheme
from gpgrad.methods.sharing.gradps.lifecycle import CLONED, RESTORING, SHARED
from gpgrad.types import Context, NetSpec, Returns, Signals, TermInputs
from tests.learning.test_learner import gated, prepared

CLOCK = start_clock()


class Team(NamedTuple):
    """A scheme with its agents, outside of any learner. moments: one slot, as RMSprop has."""

    sharing: Sharing
    agent: AgentNet
    params: object
    moments: list
    state: scheme.State
    run: Callable

    def q(self):
        """Utilities for some observations, [T, B, A, U]."""
        n = self.life.assign.shape[1]
        obs = jax.random.normal(jax.random.key(1), (3, 2, n, 5))
        last = jax.random.randint(jax.random.key(2), (3, 2, n), -1, 4)
        agent = self.sharing.per_agent_params(self.params, self.state)
        return self.agent.unroll(agent, self.sharing.gates(self.state), obs, last).q

    def period(self, phi, key=0):
        """A period in which one update brings the gate gradients phi [A, N] (of each layer)."""
        params, moments, state = self.run(jax.random.key(key), self.params, self.moments, self.state, phi)
        return self._replace(params=params, moments=moments, state=state)

    def moved(self, seed=0):
        """Every parameter and slot moved at random, as training does; idle slots too."""
        leaves, structure = jax.tree.flatten((self.params, self.moments))
        keys = jax.random.split(jax.random.key(seed), len(leaves))
        new = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
        params, moments = structure.unflatten(new)
        return self._replace(params=params, moments=moments)

    @property
    def life(self):
        return self.state.layers[0].life


def context(n_agents: int = 4, width: int = 8, depth: int = 1) -> Context:
    return Context(EnvSpec("none", n_agents, 4, 5, 7, 0, 6), NetSpec(width, layers=depth), Returns())


@functools.cache
def team(n_agents: int = 4, depth: int = 1, maker=scheme.make, **settings) -> Team:
    """A team at its start; the same for the same settings, so that its program is compiled once."""
    told = context(n_agents, depth=depth)
    sharing = maker(told, **{"k": 2, "T": 2, **settings})
    agent = make_agent(told.spec, sharing.net, Utilities())
    params, state = sharing.init(jax.random.key(0), agent.init)
    moments = [jax.tree.map(lambda leaf: 0.1 + jnp.square(leaf), params)]

    def period(key, params, moments, state, phi):
        signals = Signals(phi, jnp.ones((n_agents, told.net.hidden)), jnp.zeros(()), ())
        return sharing.adapt(key, CLOCK, params, moments, sharing.observe(state, signals))

    return Team(sharing, agent, params, moments, state, jax.jit(period))


def opposed(n_agents: int = 4, width: int = 8, futile: int = 3) -> jax.Array:
    """Gate gradients [A, N]: even against odd agents on the first neurons, agreement on the others."""
    sign = 1.0 - 2.0 * (jnp.arange(n_agents) % 2)
    size = 1.0 + 0.01 * jnp.arange(n_agents)
    return jnp.where(jnp.arange(width) < futile, (sign * size)[:, None], size[:, None])


def same(a, b, tolerance=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


def test_gate_gradients_are_the_recorded_neuron_gradients(oracles):
    inputs, expected = oracles["gradps_neuron_gradient"]["inputs"], oracles["gradps_neuron_gradient"]["expected"]
    x, targets = jnp.array(inputs["x_sample_agent_in"]), jnp.array(inputs["targets"])
    layer = {"kernel": jnp.array(inputs["W_in_out"]), "bias": jnp.array(inputs["b"])}

    def loss(gate):
        q_tot = (activate(layer, gate, x) * jnp.array(inputs["V"])).sum((-1, -2))
        return jnp.square(q_tot - targets.sum(-1)).mean()

    value, phi = jax.value_and_grad(loss)(jnp.ones((2, 3)))
    np.testing.assert_allclose(value, expected["loss"], rtol=1e-5)
    np.testing.assert_allclose(phi, expected["phi_mult"], rtol=1e-5, atol=1e-6)
    assert np.abs(phi - np.array(expected["phi_add_post"])).max() > 0.1


@pytest.mark.parametrize("algo", ["qmix", pytest.param("vdn", marks=pytest.mark.slow)])
def test_gate_gradients_against_agents_one_by_one(algo):
    """Equal to the gradient on a factor common to all while the other agents' activations are constants, and to the
    sum of each weight times its own gradient.
    """
    parts, learning, batch = prepared(algo)
    batch = batch._replace(reward=1000 * jax.random.normal(jax.random.key(3), batch.reward.shape))
    n_agents, width = parts.env.spec.n_agents, parts.agent.n_hidden
    recorded, start = gated(parts, learning)
    update = jax.jit(make_update(recorded._replace(clip=1e9)))
    phi = update(jax.random.key(0), CLOCK, start, learning.params, batch)[0].sharing
    last = last_actions(batch.actions)
    onehot = jax.nn.one_hot(last, parts.env.spec.n_actions)
    x, params = jnp.concatenate([batch.view.obs, onehot], -1), learning.params
    target_out = parts.agent.unroll(params.agent, None, batch.view.obs, last)

    def loss(out):
        terms = parts.decomposition.terms(
            TermInputs(params.decomposition, params.decomposition, out, target_out, batch, CLOCK, jax.random.key(0))
        )
        return masked_mean(terms.loss, batch.valid) + terms.aux

    def with_factor(factor, agent):
        activation = factor * jax.nn.relu(layers.dense(params.agent.fc1, x))
        mine = (jnp.arange(n_agents) == agent)[:, None]
        activation = jnp.where(mine, activation, jax.lax.stop_gradient(activation))
        hidden = gru.unroll(params.agent.gru, activation)
        return loss(target_out._replace(q=layers.dense(params.agent.head, hidden)))

    each = jax.jit(jax.vmap(jax.grad(with_factor), (None, 0)))(jnp.ones(width), jnp.arange(n_agents))
    np.testing.assert_allclose(phi, each, rtol=1e-4, atol=1e-5)

    def with_own(fc1):
        return loss(parts.agent.unroll(params.agent._replace(fc1=fc1), None, batch.view.obs, last))

    own = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (n_agents, *leaf.shape)), params.agent.fc1)
    grads = jax.jit(jax.grad(with_own))(own)
    weighted = (own["kernel"] * grads["kernel"]).sum(1) + own["bias"] * grads["bias"]
    np.testing.assert_allclose(phi, weighted, rtol=1e-4, atol=1e-5)
    assert np.abs(phi).max() > 0.1


MANY_TEAMS = [pytest.param(n, 1, marks=pytest.mark.slow) for n in (1, 2, 27, 50)]


@pytest.mark.parametrize(("n_agents", "depth"), [(4, 3), *MANY_TEAMS])
def test_first_opening_is_at_target_update_t_plus_1(n_agents, depth):
    """Of futile neurons alone, into groups that agree, without a change of any utility."""
    over = tuple(range(depth))
    now = team(n_agents, depth, T=3, layers=over)
    phi = opposed(n_agents)
    phi = phi if depth == 1 else (phi,) * depth
    for period in range(1, 6):
        before, now = now, now.period(phi, period)
        same(now.q(), before.q(), 1e-5)
        for layer in now.state.layers:
            opened = period > 3 and n_agents > 1
            np.testing.assert_array_equal(layer.life.status, [CLONED * opened] * 3 + [SHARED] * 5)
            assert int(layer.counts.first_opening) == (4 if opened else -1)
            if opened:
                np.testing.assert_array_equal(layer.life.assign[0], np.arange(n_agents) % 2)


def test_clones_begin_equal_and_keep_their_memory():
    now = team().moved()
    for _ in range(2):
        now = now.period(opposed())
    before, now = now, now.period(opposed())
    assert (np.asarray(now.life.status)[:3] == CLONED).all()
    for tree, old in zip((now.params, *now.moments), (before.params, *before.moments), strict=True):
        for name in ("kernel", "bias"):
            new, first = np.asarray(tree.fc1[name]), np.asarray(old.fc1[name])
            np.testing.assert_array_equal(new[..., :3], np.broadcast_to(first[:1, ..., :3], new[..., :3].shape))
            np.testing.assert_array_equal(new[..., 3:], first[..., 3:])
        same(tree._replace(fc1={}), old._replace(fc1={}))
    fresh = team(copy_moments=False).moved()
    for _ in range(3):
        fresh = fresh.period(opposed())
    assert not np.asarray(fresh.moments[0].fc1["kernel"])[1, :, :3].any()
    assert np.asarray(fresh.moments[0].fc1["kernel"])[0, :, :3].all()
    same(fresh.params, now.params)


def test_only_the_groups_own_clone_learns():
    now = team()
    for _ in range(3):
        now = now.period(opposed())

    def score(params):
        out = now._replace(params=params).q()
        return out[:, :, 0].sum()  # agent 0, in group 0

    grads = jax.grad(score)(now.params).fc1["kernel"]
    assert np.abs(grads[0]).max() > 0
    assert not np.asarray(grads[1]).any()


def test_equal_clones_equal_full_sharing():
    now = team()
    plain = fups.make(context())
    params, _ = plain.init(jax.random.key(0), now.agent.init)
    for _ in range(4):
        same(now.q(), now._replace(sharing=plain._replace(gates=now.sharing.gates), params=params).q())
        now = now.period(opposed())
    assert int(now.state.layers[0].counts.opened) == 3


def test_restoring_draws_clones_together_and_merges_them():
    """From selection over pulls at every step to a shared neuron; closing equal clones changes no utility."""
    now = team(rho=1.0, restore_per_neuron=True, restore_lr=0.01, restore_periods=30)
    for _ in range(3):
        now = now.period(opposed(futile=8))
    now, key = now.moved(), 3
    while int(now.state.layers[0].counts.restores) < 8:
        now, key = now.period(opposed(futile=8), key), key + 1
        assert key < 40
    counts = now.state.layers[0].counts
    assert float(counts.restores_expected) > 0
    assert int(counts.closed) == 0
    marked = np.asarray(now.life.status) == RESTORING
    np.testing.assert_array_equal(marked, np.ones(8, bool))
    away = lambda: float(
        scheme.restore_penalty(now.params.fc1["kernel"], now.params.fc1["bias"], now.life.assign).sum()
    )
    first = away()
    for _ in range(100):
        now = now._replace(params=now.sharing.after_step(now.params, now.state))
    assert away() < 0.1 * first
    level = now.params.fc1["kernel"].mean(0)
    equal = {"kernel": jnp.broadcast_to(level, (2, *level.shape)), "bias": now.params.fc1["bias"][:1].repeat(2, 0)}
    now = now._replace(params=now.params._replace(fc1=equal))
    before, now = now.q(), now.period(opposed(futile=8))
    same(now.q(), before)
    assert int(now.state.layers[0].counts.closed) == 8
    assert not np.asarray(now.life.assign).any()
    np.testing.assert_array_equal(now.life.status, [SHARED] * 8)
    np.testing.assert_array_equal(now.life.age, [0] * 8)
    for _ in range(2):
        now = now.period(opposed(futile=8))
        np.testing.assert_array_equal(now.life.status, [SHARED] * 8)
    now = now.period(opposed(futile=8))
    assert (np.asarray(now.life.status) == CLONED).all()


def test_restoring_ends_in_any_case():
    now = team(rho=1.0, restore_per_neuron=True, restore_periods=2, close_below=0.0)
    for _ in range(3):
        now = now.period(opposed(futile=8))
    now = now.moved().period(opposed(futile=8), 3)
    assert (np.asarray(now.life.status) == RESTORING).all()  # all cloned and rho of 1: chosen for sure
    kernel = np.asarray(now.params.fc1["kernel"])
    now = now.period(opposed(futile=8), 4)
    assert int(now.state.layers[0].counts.closed) == 0
    now = now.period(opposed(futile=8), 5)
    assert int(now.state.layers[0].counts.closed) == 8
    for slot in range(2):
        np.testing.assert_allclose(now.params.fc1["kernel"][slot], kernel.mean(0), rtol=1e-5, atol=1e-6)


def test_without_rho_nothing_is_restored():
    now = team(rho=0.0)
    for key in range(8):
        now = now.period(opposed(futile=8), key).moved(key)
    assert (np.asarray(now.life.status) == CLONED).all()
    same(now.sharing.after_step(now.params, now.state), now.params)


def test_released_and_printed_variants():
    released = team(maker=scheme.as_released)
    assert released.params.fc1["kernel"].shape == (2, 9, 8)
    assert released.params.fc1["bias"].shape == (8,)
    mixed = opposed().at[:, 3:].multiply(jnp.array([1.0, 1.0, 1.0, 0.2])[:, None])
    for maker in (scheme.as_released, scheme.as_printed):
        now = team(maker=maker)
        for _ in range(3):
            before, now = now, now.period(mixed)
            same(now.q(), before.q(), 1e-5)
        np.testing.assert_array_equal(now.life.status, [CLONED] * 3 + [SHARED] * 5)
        np.testing.assert_array_equal(now.life.assign[0], [0, 1, 0, 1])


def test_control_groups():
    roles = jnp.array([0, 1, 1, 0, 0, 0])
    told = team(6, maker=scheme.with_roles)
    assert told.sharing.needs_roles
    told = told._replace(state=told.sharing.set_roles(told.state, roles))
    shuffled = team(6, maker=scheme.with_random_groups)
    for _ in range(3):
        told, shuffled = told.period(opposed(6)), shuffled.period(opposed(6), 7)
    np.testing.assert_array_equal(told.life.assign[:3], [[0, 1, 1, 0, 0, 0]] * 3)
    groups = np.asarray(shuffled.life.assign)
    assert (groups[:3].sum(1) == 3).all()  # of the sizes that clustering found
    assert (groups[:3, 0] == 0).all()
    start, seen = team(6, maker=scheme.with_random_groups), set()
    for key in range(8):
        one = start
        for _ in range(3):
            one = one.period(opposed(6), key)
        seen |= {tuple(row) for row in np.asarray(one.life.assign)[:3].tolist()}
    assert len(seen) > 3


def test_one_clone_is_full_sharing():
    now = team(k=1)
    shared = now.sharing.per_agent_params(now.params, now.state)
    assert shared.fc1["kernel"].shape == (9, 8)
    for _ in range(4):
        now = now.period(opposed())
    assert not np.asarray(now.life.assign).any()
    told = now.sharing.report(now.params, now.state)
    assert (int(told["opened"]), int(told["cloned"]), int(told["first_opening"])) == (0, 0, -1)
    assert float(told["futile"]) > 0


def test_where_nobody_is_different_there_is_nothing_to_clone():
    now = team(6, maker=scheme.with_roles)
    for _ in range(4):
        now = now.period(opposed(6))
    assert int(now.sharing.report(now.params, now.state)["opened"]) == 0


def test_a_team_trained_anew_keeps_its_clones_and_nothing_else():
    now = team()
    for _ in range(4):
        now = now.period(opposed())
    state = now.sharing.restart(now.state)
    np.testing.assert_array_equal(state.layers[0].life.assign, now.life.assign)
    np.testing.assert_array_equal(state.layers[0].life.status, now.life.status)
    assert np.asarray(now.life.assign).any()
    fresh = team().state
    jax.tree.map(
        np.testing.assert_array_equal,
        state._replace(layers=[layer._replace(life=()) for layer in state.layers]),
        fresh._replace(layers=[layer._replace(life=()) for layer in fresh.layers]),
    )
    assert not np.asarray(state.layers[0].life.age).any()


def test_what_is_reported():
    now = team(watched=(0, 5))
    empty = now.sharing.report(now.params, now.state)
    assert np.isnan(empty["futile"])
    assert np.isnan(empty["efficiency"]).all()
    assert int(empty["effective_params"]) == count(now.params) - 8 * 10
    quiet = opposed().at[:, 7].set(0.0)
    for _ in range(3):
        now = now.period(quiet)
    told = now.sharing.report(now.params, now.state)
    sizes = 1 + 0.01 * np.arange(4)
    wanted = abs((sizes * [1, -1, 1, -1]).sum()) / sizes.sum()
    np.testing.assert_allclose(told["efficiency"], [wanted] * 3 + [1] * 5, rtol=1e-4)
    np.testing.assert_allclose(told["efficiency_group"], [1.0] * 8, rtol=1e-5)
    assert float(told["futile"]) == 100 * 3 / 8
    assert float(told["futile_group"]) == 0
    assert 0 < float(told["futile_chance"]) < 50
    assert (int(told["cloned"]), int(told["opened"]), int(told["restoring"])) == (3, 3, 0)
    assert int(told["effective_params"]) == count(now.params) - 5 * 10
    np.testing.assert_array_equal(told["groups"], [[0, 1, 0, 1]] * 3 + [[0, 0, 0, 0]] * 5)
    np.testing.assert_allclose(told["neuron_gradients"], np.asarray(quiet)[:, [0, 5]].T)
    conflict = np.asarray(told["conflict"])
    np.testing.assert_allclose(conflict, conflict.T)
    assert conflict[0, 1] == pytest.approx(2 * 1.0 * 2 * 3 / 8, rel=1e-4)  # two periods in the window, 3 of 8 neurons
    assert conflict[0, 2] == 0
    assert float(told["conflict_normalised"][0, 1]) == pytest.approx(2 / 2.01 * 3 / 8, rel=1e-4)


def test_dormant_neurons_are_counted_apart():
    now = team()
    activity = jnp.ones((4, 8)).at[:, :2].set(0.0)
    state = now.sharing.observe(now.state, Signals(opposed(), activity, jnp.zeros(()), ()))
    state = jax.jit(now.sharing.adapt)(jax.random.key(0), CLOCK, now.params, now.moments, state)[2]
    assert float(now.sharing.report(now.params, state)["dormant"]) == 25.0


def test_some_layers_of_many():
    now = team(depth=4, layers=(1, 3))
    gates = now.sharing.gates(now.state)
    assert isinstance(gates, tuple)
    assert [gate is None for gate in gates] == [True, False, True, False]
    shapes = [layer["kernel"].shape for layer in (now.params.fc1, *now.params.deep)]
    assert shapes == [(9, 8), (2, 8, 8), (8, 8), (2, 8, 8)]
    phi = opposed()
    for _ in range(3):
        before, now = now, now.period((None, phi, None, -phi))
        same(now.q(), before.q(), 1e-5)
    told = now.sharing.report(now.params, now.state)
    assert (int(told["cloned"]), int(told["cloned_3"])) == (3, 3)


def test_wide_sharing_has_as_many_parameters():
    told = Context(EnvSpec("none", 6, 6, 147, 1200, 0, 150), NetSpec(), Returns())
    for k in (1, 2, 3):
        cloned, _ = scheme.make(told, k=k, T=2).init(
            jax.random.key(0), make_agent(told.spec, told.net, Utilities()).init
        )
        wide = fups.make_wide(told, k=k).net
        agent = make_agent(told.spec, wide, Utilities())
        size = count(agent.init(jax.random.key(0)))
        assert size == fups.size(wide, input_size(told.spec, wide), 6)
        assert abs(size / count(cloned) - 1) < 0.01
    assert fups.make_wide(told, k=1).net == told.net


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"k": 0}, "sharing.k must be at least 1 (got 0)"),
        ({"T": 0}, "sharing.T must be at least 1 (got 0)"),
        ({"restore_periods": 0}, "sharing.restore_periods must be at least 1 (got 0)"),
        ({"rho": 1.5}, "sharing.rho must be between 0 and 1 (got 1.5)"),
        ({"rho": -0.1}, "sharing.rho must be between 0 and 1 (got -0.1)"),
        ({"alpha": 0.0}, "sharing.alpha must be more than 0 and less than 1 (got 0.0)"),
        ({"alpha": 1.0}, "sharing.alpha must be more than 0 and less than 1 (got 1.0)"),
        ({"ratio": 1.0}, "sharing.ratio must be more than 0 and less than 1 (got 1.0)"),
        ({"deviations": -1.0}, "sharing.deviations must be at least 0 (got -1.0)"),
        ({"layers": (1,)}, "sharing.layers must be different numbers between 0 and 0 (got (1,))"),
        ({"layers": ()}, "sharing.layers must be different numbers between 0 and 0 (got ())"),
        ({"watched": (8,)}, "sharing.watched must be different numbers between 0 and 7 (got (8,))"),
    ],
)
def test_impossible_settings_get_one_sentence(settings, sentence):
    with pytest.raises(SettingError) as caught:
        scheme.make(context(), **settings)
    assert str(caught.value) == sentence


def test_everything_works_over_seeds():
    """`vmap` of a period over seeds equals one seed at a time."""
    now = team(6, T=1, k=3)
    phi = jax.random.normal(jax.random.key(5), (4, 3, 6, 8))  # [S, periods, A, N]

    many = jax.jit(jax.vmap(now.run, (None, 0, 0, 0, 0)))
    trees = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (4, *leaf.shape)), (now.params, now.moments, now.state))
    for t in range(3):
        trees = many(jax.random.key(t), *trees, phi[:, t])
    for seed in range(4):
        one = now
        for t in range(3):
            one = one.period(phi[seed, t], t)
        alone = (one.params, one.moments, one.state)
        same(jax.tree.map(lambda leaf, i=seed: leaf[i], trees), alone, 1e-5)
    assert np.asarray(trees[2].layers[0].counts.opened).min() > 0
