"""The sharing schemes GradPS is compared with: recorded numbers, and what each is when its point is taken away."""

from __future__ import annotations

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad.envs.api import EnvSpec
from gpgrad.errors import SettingError
from gpgrad.learning.compose import compose
from gpgrad.learning.initial import make_init, start_clock
from gpgrad.learning.iteration import make_chunk
from gpgrad.learning.learner import make_update
from gpgrad.methods.nets.agent import count, make_agent
from gpgrad.methods.nets.heads import Utilities
from gpgrad.methods.nets.lagging_head import LaggingHead
from gpgrad.methods.nets.quantiles import Quantiles
from gpgrad.methods.sharing import adaps, fups, kaleidoscope, nops, redo, seps, snp
from gpgrad.methods.sharing.gradps import scheme as gradps
from gpgrad.methods.sharing.kaleidoscope import diversity_loss, effective, mask
from gpgrad.types import Context, NetSpec, Returns, Signals
from tests.helpers.tiny_runs import tiny
from tests.learning.test_learner import prepared

AGENTS, WIDTH = 4, 8
CLOCK = start_clock()


def context(depth: int = 1, after: int = 0, agents: int = AGENTS, limit: int = 6, t_max: int = 600) -> Context:
    net = NetSpec(WIDTH, layers=depth, after=after)
    return Context(EnvSpec("none", agents, 4, 5, 7, 0, limit), net, Returns(), t_max)


def begin(sharing, agents: int = AGENTS):
    """(agent, params, state) of a scheme."""
    agent = make_agent(context(agents=agents).spec, sharing.net, Utilities())
    return agent, *sharing.init(jax.random.key(0), agent.init)


def utilities(sharing, agent, params, state):
    """For some observations, [T, B, A, U]."""
    obs = jax.random.normal(jax.random.key(1), (3, 2, AGENTS, 5))
    last = jax.random.randint(jax.random.key(2), (3, 2, AGENTS), -1, 4)
    return jax.jit(agent.unroll)(sharing.per_agent_params(params, state), sharing.gates(state), obs, last).q


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def full_sharing(depth: int = 1, after: int = 0):
    sharing = fups.make(context(depth, after))
    return utilities(sharing, *begin(sharing))


def test_kaleidoscope_numbers(oracles):
    inputs, expected = oracles["kaleidoscope"]["inputs"], oracles["kaleidoscope"]["expected"]
    kernel, thresholds = jnp.array(inputs["w"]), jnp.array(inputs["s"])
    np.testing.assert_allclose(effective(kernel, thresholds), expected["w_eff"], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(mask(kernel, thresholds), expected["mask"])
    np.testing.assert_allclose(diversity_loss([kernel], (thresholds,)), expected["l_div"], rtol=1e-5)


def test_diversity_and_its_derivative_pair_by_pair():
    """Over three masks and two layers; a mask's derivative comes through the step as its tanh."""
    keys = jax.random.split(jax.random.key(0), 4)
    kernels = [jax.random.normal(k, shape) for k, shape in zip(keys, [(4, 3), (3, 2)], strict=False)]
    thresholds = tuple(2 * jax.random.normal(k, (3, *w.shape)) for k, w in zip(keys[2:], kernels, strict=True))

    def by_pairs(thresholds):
        total = 0.0
        for index, (w, s) in enumerate(zip(kernels, thresholds, strict=True)):
            shown = mask(w, s) * jnp.abs(w)
            total += 2**index * sum(jnp.abs(shown[i] - shown[j]).sum() for i in range(3) for j in range(3))
        return -total / (3 * 2 * (12 + 6))

    wanted, slopes = jax.value_and_grad(by_pairs)(thresholds)
    got, grads = jax.value_and_grad(lambda s: diversity_loss(kernels, s))(thresholds)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), grads, slopes)
    assert min(np.abs(g).max() for g in grads) > 1e-3
    still = jax.grad(lambda w: diversity_loss([w], thresholds[:1]))(kernels[0])
    assert not np.asarray(still).any()


def test_redo_numbers(oracles):
    inputs, expected = oracles["redo"]["inputs"], oracles["redo"]["expected"]
    score = redo.dormancy(jnp.abs(jnp.array(inputs["h_samples_neurons"])).mean(0))
    np.testing.assert_allclose(score, expected["score"], rtol=1e-5)
    for tau in (0.1, 0.025):
        np.testing.assert_array_equal(score <= tau, expected[f"dormant_tau_{tau}"])


@pytest.mark.parametrize("depth", [1, 2])
def test_redo_starts_dormant_neurons_anew(depth):
    """When enough updates have passed, without a jump of what the neuron says, and with empty slots."""
    sharing = redo.make(context(depth), every_updates=10)
    _, params, state = begin(sharing)
    moments = [jax.tree.map(jnp.ones_like, params)]
    activity = jnp.ones((AGENTS, WIDTH)).at[:, 2].set(0.01).at[:, 5].set(0.0)
    state = sharing.observe(state, Signals(sharing.gates(state), activity, jnp.zeros(()), ()))
    adapt = jax.jit(sharing.adapt)
    early = adapt(jax.random.key(1), CLOCK._replace(updates=9), params, moments, state)
    equal(early[:2], (params, moments))
    new, [slots], after = adapt(jax.random.key(1), CLOCK._replace(updates=10), params, moments, state)
    assert int(after.recycled) == 2
    fresh, old = (np.asarray(tree.fc1["kernel"][0]) for tree in (new, params))
    np.testing.assert_array_equal((fresh != old).any(0), np.isin(np.arange(WIDTH), [2, 5]))
    assert np.abs(fresh).max() <= 9**-0.5
    ways = [(new.deep[0]["kernel"], slots.deep[0]["kernel"])] if depth == 2 else zip(new.gru.w_in, slots.gru.w_in)  # noqa: B905
    for out, slot in ways:
        np.testing.assert_array_equal((np.asarray(out) == 0).all(1), np.isin(np.arange(WIDTH), [2, 5]))
        np.testing.assert_array_equal((np.asarray(slot) == 0).all(1), np.isin(np.arange(WIDTH), [2, 5]))
    assert not np.asarray(slots.fc1["kernel"])[..., [2, 5]].any()
    assert not np.asarray(slots.fc1["bias"])[..., [2, 5]].any()
    again = sharing.observe(after, Signals(sharing.gates(state), activity, jnp.zeros(()), ()))
    equal(adapt(jax.random.key(2), CLOCK._replace(updates=19), new, [slots], again)[0], new)
    assert float(sharing.report(new, after)["dormant"]) == 25.0


@pytest.mark.parametrize(("depth", "after"), [(1, 0), (2, 2)])
def test_masks_of_ones_are_full_sharing(depth, after):
    told = context(depth, after)
    _, shared, _ = begin(fups.make(told))
    for sharing in (snp.make(told, ratio=0.0), adaps.make(told, k=2, ratio=0.0)):
        _, params, state = begin(sharing)
        equal(sharing.per_agent_params(params, state), shared)
        for gate in jax.tree.leaves(sharing.gates(state)):
            np.testing.assert_array_equal(gate, np.ones((AGENTS, WIDTH)))
    sharing = kaleidoscope.make(told)
    _, params, state = begin(sharing)
    assert len(params.thresholds) == 1 + depth + after
    assert float(sharing.report(params, state)["masked"]) > 0
    params = params._replace(thresholds=jax.tree.map(lambda s: jnp.full_like(s, -200.0), params.thresholds))
    seen = sharing.per_agent_params(params, state)
    pairs = zip(kaleidoscope.dense_layers(seen), kaleidoscope.dense_layers(shared), strict=True)
    for own, one in pairs:
        equal(own["kernel"], jnp.broadcast_to(one["kernel"], (AGENTS, *one["kernel"].shape)))
        equal(own["bias"], one["bias"])
    equal(seen.gru, shared.gru)
    assert float(sharing.report(params, state)["masked"]) == 0


def test_the_network_takes_what_masks_leave():
    """Utilities with masks of ones are those of full sharing; with others they are not."""
    told, wanted = context(), full_sharing()
    bare = snp.make(told, ratio=0.0)
    np.testing.assert_allclose(utilities(bare, *begin(bare)), wanted, atol=1e-6)
    some = snp.make(told, ratio=0.5)
    assert np.abs(utilities(some, *begin(some)) - wanted).max() > 1e-3
    sharing = kaleidoscope.make(told)
    agent, params, state = begin(sharing)
    assert np.abs(utilities(sharing, agent, params, state) - wanted).max() > 1e-5
    params = params._replace(thresholds=jax.tree.map(lambda s: jnp.full_like(s, -200.0), params.thresholds))
    np.testing.assert_allclose(utilities(sharing, agent, params, state), wanted, atol=1e-6)


def test_one_cluster_is_full_sharing_and_identity_clusters_are_none():
    one = seps.make(context(), k=1)
    equal(one.per_agent_params(*begin(one)[1:]), begin(fups.make(context()))[1])
    apart, alone = seps.make(context(), k=9), nops.make(context())
    _, params, state = begin(apart)
    _, *rest = begin(alone)
    equal(params, rest[0])
    state = state._replace(of=jnp.arange(AGENTS))
    equal(apart.per_agent_params(params, state), alone.per_agent_params(*rest))
    first, leaf = fups.make(context()), np.asarray(params.fc1["kernel"])
    equal(jax.tree.map(lambda leaf: leaf[0], params), begin(first)[1])
    assert len(np.unique(leaf[:, 0, 0])) == AGENTS


def test_before_the_groups_are_known_everybody_is_alike():
    sharing = seps.make(context(), k=2)
    np.testing.assert_allclose(utilities(sharing, *begin(sharing)), full_sharing(), atol=1e-6)
    _, params, state = begin(sharing)
    assert int(sharing.report(params, state)["effective_params"]) == count(params) // 2
    same = adaps.make(context(), k=2, ratio=0.5)
    *_, state = begin(same)
    assert (np.ptp(np.asarray(same.gates(state)), axis=0) == 0).all()


def test_no_sharing_takes_the_same_first_step_where_agents_are_the_same():
    """Equal weights and equal data: a step of Adam, which does not mind that each agent has its share alone."""
    parts, learning, batch = prepared("vdn", learner__optimiser="adam", learner__lr=1e-3)
    n_agents = parts.env.spec.n_agents
    first = lambda leaf, axis: jnp.repeat(jnp.take(leaf, jnp.array([0]), axis), n_agents, axis)
    view = batch.view._replace(obs=first(batch.view.obs, 2), avail=first(batch.view.avail, 2))
    batch = batch._replace(view=view, actions=first(batch.actions, 2), reward=batch.reward + 1.0)
    alone = parts._replace(sharing=nops.make(Context(parts.env.spec, parts.sharing.net, Returns())))
    own = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (n_agents, *leaf.shape)), learning.params.agent)
    theirs = learning.params._replace(agent=own)
    separate = learning._replace(params=theirs, opt_state=parts.optimiser.init(theirs))
    results = [
        jax.jit(make_update(p))(jax.random.key(0), CLOCK, state, state.params, batch)
        for p, state in ((parts, learning), (alone, separate))
    ]
    (shared, one), (apart, other) = results
    np.testing.assert_allclose(one["td_loss"], other["td_loss"], rtol=1e-5)
    assert np.abs(shared.params.agent.head["kernel"] - learning.params.agent.head["kernel"]).max() > 9e-4
    for agent in range(n_agents):
        mine = jax.tree.map(lambda leaf: leaf[agent], apart.params.agent)  # noqa: B023
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5), mine, shared.params.agent)


def test_masks_are_the_agents_own_and_never_empty():
    sharing = snp.make(context(agents=40), ratio=0.3)
    *_, masks = begin(sharing, 40)
    assert 0.6 < float(sharing.report(None, masks)["live_units"]) < 0.8
    assert len(np.unique(np.asarray(masks), axis=0)) > 20  # 33 to be expected of eight units, 24 the least of 2000
    *_, bare = begin(snp.make(context(agents=40), ratio=0.99), 40)
    assert (np.asarray(bare).sum(1) >= 1).all()
    *_, deep = begin(snp.make(context(depth=2)))
    assert [m.shape for m in deep] == [(AGENTS, WIDTH)] * 2


def test_the_penalty_follows_the_td_loss():
    """As the published code balances it, written with its deque: the update at hand is in both means."""
    sharing = kaleidoscope.make(context(), diversity=0.5)
    _, params, state = begin(sharing)
    rng, seen = np.random.default_rng(0), (deque(maxlen=100), deque(maxlen=100))
    penalty, observe = jax.jit(sharing.penalty), jax.jit(sharing.observe)
    for i in range(130):
        td = float(rng.uniform(0.5, 2.0)) * (50.0 if i == 60 else 1.0)
        moved = params._replace(thresholds=jax.tree.map(lambda s, i=i: s + 5.0 + 0.02 * i, params.thresholds))
        kernels = [layer["kernel"] for layer in kaleidoscope.dense_layers(moved.net)]
        apart = float(diversity_loss(kernels, moved.thresholds))
        for window, value in zip(seen, (td, apart), strict=True):
            window.append(value)
        total, told = penalty(moved, state, jnp.float32(td), False)
        np.testing.assert_allclose(total, abs(0.5 * np.mean(seen[0]) / np.mean(seen[1])) * apart, rtol=1e-4)
        state = observe(state, Signals(None, jnp.zeros((AGENTS, WIDTH)), jnp.float32(td), told))
    before = penalty(params, state, jnp.float32(1e6), True)[0]  # a loss apart is not looked at
    np.testing.assert_allclose(
        before, kaleidoscope.balance(state, 0.5) * penalty(params, state, 0.0, True)[1], rtol=1e-5
    )
    alone = kaleidoscope.make(context(), masks=1)
    _, params, state = begin(alone)
    assert float(alone.penalty(params, state, jnp.float32(1.0), False)[0]) == 0
    assert alone.per_agent_params(params, state).fc1["kernel"].shape == (9, WIDTH)


def test_the_penalty_in_an_update_is_balanced_with_that_updates_td_loss():
    """In the first one already: the penalty is as large as `diversity` times the TD loss."""
    parts, learning, batch = prepared("vdn_kaleidoscope", sharing__diversity=0.5)
    _, log = jax.jit(make_update(parts))(jax.random.key(0), CLOCK, learning, learning.params, batch)
    td = float(log["td_loss"])
    assert td > 0.01
    np.testing.assert_allclose(float(log["loss"]) - td, -0.5 * td, rtol=1e-4)


def test_hidden_weights_are_drawn_anew():
    """Those that all masks hide, not in the first layer, when the interval is over and another one will follow."""
    sharing = kaleidoscope.make(context(), reset_steps=120, reset_ratio=1.0)  # 20 of 100 episodes
    _, params, state = begin(sharing)
    dark = jax.tree.map(lambda s: s.at[:, 0].set(9.0).at[0, 1].set(9.0), params.thresholds)
    params = params._replace(thresholds=dark)
    adapt = jax.jit(sharing.adapt)

    def at(episodes, state=state):
        return adapt(jax.random.key(1), CLOCK._replace(episodes=episodes), params, [], state)

    for episodes, intervals in ((19, 0), (39, 1), (80, 3), (99, 4)):
        equal(at(episodes, state._replace(intervals=jnp.int32(intervals)))[0], params)
    new, _, after = at(20)
    assert (int(after.reset), int(after.intervals)) == (4, 1)
    equal(new.net._replace(head={}), params.net._replace(head={}))
    equal(new.thresholds[0], dark[0])
    moved = np.asarray(new.net.head["kernel"] != params.net.head["kernel"])
    np.testing.assert_array_equal(moved, np.arange(WIDTH)[:, None] == np.zeros(4))
    assert (np.asarray(new.thresholds[1])[:, 0] < -4).all()
    equal(new.thresholds[1][:, 1:], dark[1][:, 1:])


def test_where_the_end_cannot_be_foreseen_weights_are_drawn_anew_to_the_end():
    early = context()
    early = early._replace(spec=early.spec._replace(ends_early=True))
    sharing = kaleidoscope.make(early, reset_steps=120, reset_ratio=1.0)  # 20 of at least 100 episodes
    _, params, state = begin(sharing)
    params = params._replace(thresholds=jax.tree.map(lambda s: s + 20.0, params.thresholds))
    *_, after = sharing.adapt(jax.random.key(1), CLOCK._replace(episodes=jnp.int32(440)), params, [], state)
    assert int(after.reset) == WIDTH * 4
    equal(sharing.restart(after), state)


@pytest.mark.parametrize("maker", [nops, seps, snp, adaps, kaleidoscope])
@pytest.mark.parametrize("head", [Utilities(), Quantiles(8, 8), LaggingHead(4, around=True)])
def test_nothing_is_drawn_twice(maker, head):
    """Agents, layers and masks begin with numbers of their own: no two arrays have the first ones in common."""
    agents, length = 7, 64
    told = context(agents=agents)
    told = told._replace(net=told.net._replace(hidden=length, layers=2))
    sharing = maker.make(told, **({"k": 3} if maker in (seps, adaps) else {}))
    agent = make_agent(told.spec, sharing.net, head)
    drawn = jax.device_get(sharing.init(jax.random.key(0), agent.init))
    rows = [row for leaf in jax.tree.leaves(drawn) for row in (leaf, *(leaf if leaf.ndim > 1 else ()))]
    starts = {row.reshape(-1)[:length].tobytes(): row.reshape(-1)[:length] for row in rows if row.size >= length}
    vectors = np.array([start for start in starts.values() if start.std() > 0], float)
    assert len(vectors) > 10
    together = np.corrcoef(vectors) - np.eye(len(vectors))
    assert np.abs(together).max() < 0.75


def test_layers_behind_the_gru():
    sharing = fups.make_deep(context())
    agent, params, _ = begin(sharing)
    out = agent.unroll(params, None, jnp.ones((2, 1, AGENTS, 5)), jnp.zeros((2, 1, AGENTS), int))
    x = out.hidden
    for layer in (*params.after, params.head):
        x = (jax.nn.relu(x) if layer is not params.after[0] else x) @ layer["kernel"] + layer["bias"]
    np.testing.assert_allclose(out.q, x, rtol=1e-4, atol=1e-6)
    assert len(params.after) == 2


# Those that differ most; every scheme meets some decomposition and weighting in tests/learning/test_composition.py.
SCHEMES = ["seps", "kaleidoscope_deep", "redo"]
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("nops", "snp", "adaps", "kaleidoscope")]


@pytest.mark.parametrize("scheme", [*SCHEMES, *OTHERS])
def test_schemes_go_with_any_decomposition_and_weighting(scheme):
    """Traced, not run: two seeds, independent learners, GPVD."""
    fitted = {"sharing__episodes": 8} if scheme in ("seps", "adaps") else {}
    settings = tiny(f"iql_{scheme}", weighting="gpvd", **fitted)
    parts = compose(settings)
    states = jax.eval_shape(jax.vmap(make_init(settings, parts)), jnp.arange(2, dtype=jnp.int32))
    clock, after = jax.eval_shape(make_chunk(settings, parts), start_clock(), states, 3)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, states)
    assert clock.episodes.shape == ()


@pytest.mark.parametrize(
    ("algo", "changes", "sentence"),
    [
        ("snp", {"sharing__ratio": 1}, "sharing.ratio must be at least 0 and less than 1 (got 1.0)"),
        ("adaps", {"sharing__ratio": -0.1}, "sharing.ratio must be at least 0 and less than 1 (got -0.1)"),
        ("adaps", {"sharing__k": 0}, "sharing.k must be at least 1, or none to choose"),
        ("seps", {"sharing__episodes": 0}, "sharing.episodes must be at least 1 (got 0)"),
        ("seps", {"sharing__epochs": 0}, "sharing.epochs must be at least 1 (got 0)"),
        ("seps", {"sharing__batch": 0}, "sharing.batch must be at least 1 (got 0)"),
        ("seps", {"sharing__start": "fesh"}, "sharing.start is 'fesh'; did you mean 'fresh'?"),
        ("seps", {}, "sharing.episodes must be at most the 16 episodes of replay.capacity"),
        ("seps", {"sharing__episodes": 9, "t_max": 53}, "sharing.episodes must be at most the 8"),
        ("kaleidoscope", {"sharing__masks": 4}, "sharing.masks must be between 1 and the number of agents, 3"),
        ("kaleidoscope_deep", {"sharing__diversity": -1}, "sharing.diversity must be at least 0 (got -1.0)"),
        ("kaleidoscope", {"sharing__reset_steps": 0}, "sharing.reset_steps must be at least 1 (got 0)"),
        ("kaleidoscope", {"sharing__reset_ratio": 2}, "sharing.reset_ratio must be between 0 and 1 (got 2.0)"),
        ("redo", {"sharing__tau": 1}, "sharing.tau must be at least 0 and less than 1 (got 1.0)"),
        ("redo", {"sharing__every_updates": 0}, "sharing.every_updates must be at least 1 (got 0)"),
        ("redo", {"sharing__T": 0}, "sharing.T must be at least 1 (got 0)"),
    ],
)
def test_mistakes(algo, changes, sentence):
    changes = {"evaluation__every_steps": 50, **changes} if "t_max" in changes else changes
    with pytest.raises(SettingError) as caught:
        compose(tiny(algo, **changes))
    assert str(caught.value).startswith(sentence)


def test_redo_is_watched_as_full_sharing_is():
    """What it says of neurons is what GradPS with a single clone says."""
    watch, own = gradps.make(context(), k=1, T=20), redo.make(context(), every_updates=1000)
    _, params, state = begin(own)
    signals = Signals(jnp.ones((AGENTS, WIDTH)).at[0].set(-3.0), jnp.ones((AGENTS, WIDTH)), jnp.zeros(()), ())
    told = own.report(*own.adapt(jax.random.key(0), CLOCK, params, [], own.observe(state, signals))[::2])
    params, _, seen = watch.adapt(
        jax.random.split(jax.random.key(0))[0], CLOCK, params, [], watch.observe(state.watched, signals)
    )
    wanted = watch.report(params, seen)
    assert float(told["futile"]) == 100.0
    for name in redo.REPORTED:
        np.testing.assert_array_equal(told[name], wanted[name])
