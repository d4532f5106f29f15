"""Every decomposition: recorded oracles, plain loops, gradient signs, individual-global-max by brute force."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad import config
from gpgrad.envs.api import EnvSpec, View
from gpgrad.errors import SettingError
from gpgrad.methods import registry
from gpgrad.methods.decomposition import base, dmix, qtran, wqmix
from gpgrad.methods.decomposition.base import Decomposition
from gpgrad.methods.nets import attention, joint_critic, layers, qplex_mixer, quantiles
from gpgrad.methods.nets.agent import HeadMaker, make_agent
from gpgrad.methods.nets.lagging_head import HeadInputs
from gpgrad.methods.nets.quantiles import Quantiles
from gpgrad.types import AgentOut, Batch, Clock, Context, NetSpec, Returns, TermInputs

SPEC = EnvSpec("none", 3, 4, 5, 7, 0, 6)
CONTEXT = Context(SPEC, NetSpec(8), Returns())
IGM = ["vdn", "qmix", "qatten", "qplex", "cw_qmix", "ow_qmix", "dmix", "ddn", "rmix"]

close = lambda a, b, rtol=1e-5: np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=1e-5)
column = lambda values: jnp.array(values)[:, None]  # as [T, B]


def clock(updates: int = 0, episodes: int = 0) -> Clock:
    return Clock(jnp.int32(episodes), jnp.int32(updates), jnp.int32(0))


def made(name: str, **settings) -> Decomposition:
    return registry.maker("decomposition", name)(CONTEXT, **settings)


def start(decomposition: Decomposition, key: jax.Array):
    """Parameters larger than initialisers make them, so that nothing is nearly linear."""
    return jax.tree.map(lambda leaf: 2 * leaf, decomposition.init(key, jnp.zeros(SPEC.state_dim)))


def played(key: jax.Array, head: HeadMaker, actions: jax.Array, steps: int = 1) -> tuple[AgentOut, Batch]:
    """Random outputs and views that are the same in every episode, which differ in actions [B, A]."""
    n, keys = len(actions), jax.random.split(key, 7)
    built, drawn = head.build(SPEC, CONTEXT.net), getattr(head, "fractions", 0)
    width = getattr(head, "width", 1)
    wide = () if width == 1 and not drawn else (max(width, drawn),)
    same = lambda x: jnp.broadcast_to(x[:, None], (steps + 1, n, *x.shape[1:]))
    noise = lambda k, *shape: same(3 * jax.random.normal(k, (steps + 1, *shape)))
    q = lambda k: noise(k, SPEC.n_agents, SPEC.n_actions, *wide)
    fractions = same(jax.random.uniform(keys[1], (steps + 1, *wide))) if built.random else None
    avail = jax.random.bernoulli(keys[2], 0.6, (steps + 1, SPEC.n_agents, SPEC.n_actions)).at[..., 1].set(True)
    hidden = noise(keys[3], SPEC.n_agents, CONTEXT.net.hidden)
    out = AgentOut(q(keys[0]), hidden, hidden, None, fractions)
    if not built.losses_of_q:  # the head's inputs are its own values
        flat, width = lambda x: x.reshape(*x.shape[:-2], -1), SPEC.n_actions * width
        layer = {"kernel": jnp.eye(width), "bias": jnp.zeros(width)}
        out = out._replace(extra=HeadInputs(flat(out.q), flat(q(keys[4]))), head_params=layer)
    view = View(noise(keys[5], SPEC.n_agents, SPEC.obs_dim), same(avail), noise(keys[6], SPEC.state_dim))
    ones, taken = jnp.ones((steps, n), bool), jnp.broadcast_to(actions, (steps, *actions.shape))
    return out, Batch(view, taken, jnp.zeros((steps, n)), ones, ones)


JOINT = jnp.array(list(itertools.product(range(SPEC.n_actions), repeat=SPEC.n_agents)), jnp.int32)


@pytest.mark.parametrize("name", IGM)
def test_individual_global_max_and_monotonicity(name):
    """By brute force over joint actions: the agents' best ones maximise Q_tot, and no utility lowers it."""
    decomposition = made(name)

    def one(key: jax.Array):
        k_params, k_played = jax.random.split(key)
        params = start(decomposition, k_params)
        out, batch = played(k_played, decomposition.head, JOINT)

        def total(q: jax.Array):
            inside = isinstance(out.extra, HeadInputs)
            extra = out.extra._replace(now=q.reshape(out.extra.now.shape)) if inside else out.extra
            o = out._replace(q=q, extra=extra)
            terms = decomposition.terms(TermInputs(params, params, o, o, batch, clock(), key))
            return terms.q_tot.sum(), terms

        slopes, terms = jax.grad(total, has_aux=True)(out.q)
        avail = batch.view.avail[0, 0]
        possible = jnp.all(jnp.take_along_axis(avail[None], JOINT[..., None], -1)[..., 0], -1)  # [B]
        best = base.greedy_actions(decomposition.utilities(params, out, key)[0, 0], avail)
        found = terms.q_tot[0][jnp.argmax(jnp.all(best == JOINT, -1))]
        return slopes, jnp.where(possible, terms.q_tot[0], -jnp.inf).max(), found, terms.q_tot_max[0]

    slopes, largest, found, told = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 8))
    close(found, largest, 1e-4)
    np.testing.assert_allclose(told, np.broadcast_to(np.asarray(largest)[:, None], told.shape), rtol=1e-4, atol=1e-4)
    assert (np.asarray(slopes) >= 0).all()
    assert (np.asarray(slopes) > 0).any((1, 2, 3, 4) if slopes.ndim == 5 else (1, 2, 3, 4, 5)).all()


def test_qplex(oracles):
    inputs, expected = oracles["qplex"]["inputs"], oracles["qplex"]["expected"]
    w, v, lam, q, q_max = (jnp.array(inputs[name]) for name in ("w", "v", "lambda", "q", "q_max"))
    close(qplex_mixer.mix(w, v, lam, q, q_max), expected["q_tot"])
    close(qplex_mixer.mix_greedy(w, v, q_max), expected["q_tot_if_greedy"])
    slopes = jax.grad(qplex_mixer.mix, (0, 1, 2, 3))(w, v, lam, q, q_max)
    for got, name in zip(slopes, ("dw_stopgrad", "dv_stopgrad", "dlambda", "dq_stopgrad"), strict=True):
        close(got, expected[name])


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_qplex_attention_against_plain_loops(depth):
    mixer = qplex_mixer.duplex(3, 4, 6, 2, depth, "torch")
    state, actions = jax.random.normal(jax.random.key(1), (7,)), jnp.array([2, 0, 3])
    params = mixer.init(jax.random.key(0), state)
    weights = mixer.hyper(params, state)
    plain = jax.tree.map(np.asarray, params)
    sigmoid, relu = lambda x: 1 / (1 + np.exp(-x)), lambda x: np.maximum(x, 0)
    s, joint_one_hot = np.asarray(state), np.eye(4)[np.asarray(actions)].ravel()
    on_state = s @ plain["state"]["kernel"] + plain["state"]["bias"]
    on_both = np.concatenate([s, joint_one_hot]) @ plain["state_action"]["kernel"] + plain["state_action"]["bias"]
    widths = (6, 6, *((2, 6) if depth == 1 else (12, 12)))
    w, v, key, agents = np.split(on_state, np.cumsum(widths)[:-1])

    def network(name: str, x: np.ndarray, head: int) -> np.ndarray:
        x = x.reshape(2, -1)[head]
        for layer in plain[name]:
            x = relu(x) @ layer["kernel"][head] + layer["bias"][head]
        return x

    lam = sum(
        abs(network("key", key, k)) * sigmoid(network("agents", agents, k)) * sigmoid(network("action", on_both, k))
        for k in range(2)
    )
    close(mixer.attend(params, weights, actions), lam)
    close(weights.w, abs(relu(w) @ plain["w"]["kernel"] + plain["w"]["bias"]))
    close(weights.v, relu(v) @ plain["v"]["kernel"] + plain["v"]["bias"])


def test_qatten_against_plain_loops():
    heads, embed, hidden = 2, 4, 6
    mixer = attention.attention(5, heads, embed, hidden, "torch")
    state, own = jax.random.normal(jax.random.key(1), (7,)), jax.random.normal(jax.random.key(2), (3, 5))
    q = jnp.array([1.0, -2.0, 0.5])
    params = mixer.init(jax.random.key(0), state)
    plain = jax.tree.map(np.asarray, params)
    first = np.maximum(np.asarray(state) @ plain["state"]["kernel"] + plain["state"]["bias"], 0)
    keys = np.asarray(own) @ plain["key"]["kernel"] + plain["key"]["bias"]
    weight = abs(first[12:18] @ plain["head"]["kernel"] + plain["head"]["bias"])
    total = (first[18:] @ plain["offset"]["kernel"] + plain["offset"]["bias"])[0]
    for h in range(heads):
        query = first[h * hidden : (h + 1) * hidden] @ plain["query"]["kernel"][h] + plain["query"]["bias"][h]
        scores = np.exp(keys[:, h * embed : (h + 1) * embed] @ query / embed**0.5)
        total += weight[h] * (scores / scores.sum() * np.asarray(q)).sum()
    close(attention.mix(mixer.hyper(params, state, own), q), total)


def test_qtran_losses(oracles):
    inputs, expected = oracles["qtran_base"]["inputs"], oracles["qtran_base"]["expected"]
    names = ("q_jt", "y", "q_jt_at_greedy", "v", "sum_q_taken", "sum_q_greedy")
    found = qtran.losses(*(column(inputs[name]) for name in names))
    valid = column(inputs["mask"]) > 0
    td, opt, nopt = (base.masked_mean(x, valid) for x in found)
    close((td, opt, nopt), (expected["l_td"], expected["l_opt"], expected["l_nopt"]))
    close(td + 1.0 * opt + 0.1 * nopt, expected["total"])


def test_qtran_values_against_plain_loops():
    """Agents are summed before the encoding's last layer, which must be the sum after it."""
    critic = joint_critic.joint_q(4, 8, 6, "torch")
    state, hidden = jax.random.normal(jax.random.key(1), (7,)), jax.random.normal(jax.random.key(2), (3, 8))
    actions = np.array([3, 0, 1])
    params = critic.init(jax.random.key(0), state)
    plain = jax.tree.map(np.asarray, params)
    dense, relu = lambda layer, x: x @ layer["kernel"] + layer["bias"], lambda x: np.maximum(x, 0)
    encoded = sum(
        dense(plain["encoded"], relu(dense(plain["encode"], np.concatenate([np.asarray(h), np.eye(4)[u]]))))
        for h, u in zip(hidden, actions, strict=True)
    )

    def finish(first: np.ndarray, stack: list) -> float:
        for layer in stack:
            first = dense(layer, relu(first))
        return first[0]

    prepared = critic.prepare(params, state, hidden)
    wanted = finish(dense(plain["q_state"], np.concatenate([np.asarray(state), encoded])), plain["q"])
    close(critic.value(params, prepared, jnp.array(actions)), wanted)
    close(critic.baseline(params, state), finish(dense(plain["v_state"], np.asarray(state)), plain["v"]))


def test_qtran_gradients_go_where_they_should():
    """The joint value learns from TD errors through the hidden states, utilities from the other two losses alone."""
    decomposition = made("qtran")
    out, batch = played(jax.random.key(3), decomposition.head, JOINT[:5])
    params = start(decomposition, jax.random.key(4))

    def piece(name: str):
        def value(out: AgentOut) -> jax.Array:
            terms = decomposition.terms(TermInputs(params, params, out, out, batch, clock(), jax.random.key(0)))
            return jnp.sum(getattr(terms, name))

        return jax.jit(jax.grad(value))(out)

    loss, aux = piece("loss"), piece("aux")
    assert not loss.q.any()
    assert loss.hidden.any()
    assert aux.q.any()
    assert not aux.hidden.any()


@pytest.mark.parametrize(("weigh", "suffix"), [(wqmix.optimistic_weights, "ow"), (wqmix.central_weights, "cw")])
def test_wqmix_weights(oracles, weigh, suffix):
    inputs, expected = oracles["wqmix_weights"]["inputs"], oracles["wqmix_weights"]["expected"]
    y, delta = column(inputs["y"]), column(inputs["delta"])
    greedy = jnp.all(jnp.array(inputs["actions"]) == jnp.array(inputs["greedy"]), -1)[:, None]
    weights = weigh(y + delta, y, column(inputs["q_star_at_greedy"]), greedy, inputs["alpha"])
    close(weights[:, 0], expected[f"w_{suffix}"])
    close(base.masked_mean(weights * delta**2, column(inputs["mask"]) > 0), expected[f"loss_{suffix}"])


@pytest.mark.parametrize("name", ["ow_qmix", "cw_qmix"])
def test_wqmix_trains_its_critic_apart(name):
    decomposition = made(name)
    out, batch = played(jax.random.key(3), decomposition.head, JOINT[:5])
    params = start(decomposition, jax.random.key(4))

    def piece(field: str):
        def value(params, out: AgentOut) -> jax.Array:
            terms = decomposition.terms(TermInputs(params, params, out, out, batch, clock(), jax.random.key(0)))
            return jnp.sum(getattr(terms, field))

        return jax.jit(jax.grad(value, (0, 1)))(params, out)

    touched = lambda tree: any(np.asarray(leaf).any() for leaf in jax.tree.leaves(tree))
    (loss, loss_out), (aux, aux_out) = piece("loss"), piece("aux")
    assert touched(loss["mixer"])
    assert touched(loss_out.q)
    assert not touched((loss["central_agents"], loss["central_mixer"]))
    assert touched(aux["central_agents"])
    assert touched(aux["central_mixer"])
    assert not touched((aux["mixer"], aux_out.q))


def test_dmix(oracles):
    inputs, expected = oracles["dmix"]["inputs"], oracles["dmix"]["expected"]
    values = dmix.join(jnp.array(inputs["z_agents_quantiles"]), jnp.array(inputs["qmix_of_means"]))
    close(values, expected["z_joint"])
    loss = quantiles.huber_loss(values, jnp.array(inputs["taus"]), jnp.array(inputs["z_target"]))
    close(loss, expected["loss"])


@pytest.mark.parametrize("name", registry.names("decomposition"))
def test_one_step_targets_are_the_targets_without_lambda(name):
    """`Terms.one_step` at lambda 0 is `Terms.target`, does not depend on lambda, and is not the target at 0.6."""
    found = {}
    for lam in (0.0, 0.6):
        told = CONTEXT._replace(returns=Returns(td_lambda=lam))
        decomposition = registry.maker("decomposition", name)(told)
        out, batch = played(jax.random.key(3), decomposition.head, JOINT[:2], steps=3)
        batch = batch._replace(reward=jnp.arange(6.0).reshape(3, 2), terminated=~batch.terminated)
        params = start(decomposition, jax.random.key(4))
        found[lam] = decomposition.terms(TermInputs(params, params, out, out, batch, clock(), jax.random.key(0)))
    close(found[0.0].one_step, found[0.0].target)
    close(found[0.6].one_step, found[0.0].target)
    assert (np.abs(found[0.6].target - found[0.6].one_step)[:-1] > 1e-3).all()  # all but the last step's


def test_targets_of_quantiles(oracles):
    """Each column of quantiles has the returns of its own values."""
    inputs, expected = oracles["targets"]["inputs"], oracles["targets"]["expected"]
    values, valid = np.array(inputs["target_q"]).T[1:], np.array(expected["mask_fixed"], bool)
    batch = Batch(
        View(jnp.zeros(()), jnp.zeros(()), jnp.zeros(())),
        jnp.zeros(()),
        jnp.array(inputs["reward"]).T,
        jnp.array(inputs["terminated"], bool).T,
        jnp.array(valid).T,
    )
    both = jnp.stack([jnp.array(values), jnp.zeros(values.shape)], -1)
    for lam, name in ((0.0, "one_step"), (0.6, "td_lambda_0.6_fixed")):
        got = dmix.target_quantiles(both, batch, Returns(inputs["gamma"], lam))
        close(got[..., 0].T, np.where(valid, expected[name], 0.0))
        assert np.abs(np.asarray(got[..., 1] - got[..., 0])).max() > 1


def test_heads_that_draw_fractions():
    head = Quantiles(5, 9)
    agent = make_agent(SPEC, NetSpec(8, last_action=False), head)
    params = agent.init(jax.random.key(0))
    obs, last = jax.random.normal(jax.random.key(1), (4, 2, 3, 5)), jnp.zeros((4, 2, 3), jnp.int32)
    unroll = jax.jit(lambda p, key: agent.unroll(p, None, obs, last, key))
    out = unroll(params, jax.random.key(2))
    assert out.q.shape == (4, 2, 3, 4, 5)
    assert out.extra.shape == (4, 2, 5)
    acted = jax.eval_shape(lambda key: agent.unroll(params, None, obs, last, key, acting=True), jax.random.key(2))
    assert acted.q.shape[-1] == 9
    acted = jax.eval_shape(
        lambda key: agent.step(params, None, obs[0], last[0], agent.start(2), key), jax.random.key(3)
    )
    assert acted.q.shape == (2, 3, 4, 9)
    tau, hidden = float(out.extra[1, 1, 2]), np.asarray(out.hidden[1, 1, 0])
    phi = np.maximum(np.cos(np.pi * np.arange(64) * tau) @ params.cosine["kernel"] + params.cosine["bias"], 0)
    close(out.q[1, 1, 0, :, 2], (hidden * phi) @ params.head["kernel"] + params.head["bias"], 1e-4)
    assert not np.array_equal(unroll(params, jax.random.key(3)).q, out.q)
    own = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (3, *leaf.shape)), params)
    close(unroll(own, jax.random.key(2)).q, out.q, 1e-4)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("block", [1, 300, 10**6])
def test_values_at_fractions_by_step_are_those_of_each_step(monkeypatch, own, block):
    monkeypatch.setattr(quantiles, "BLOCK", block)  # 96 numbers a step: one, three and all steps at a time
    k_layer, k_head, k_hidden, k_fractions = jax.random.split(jax.random.key(0), 4)
    trained = quantiles.init(k_layer, 8, "torch"), layers.init_dense(k_head, 8, 4)
    if own:
        spread = lambda leaf: leaf * jnp.arange(1.0, 4.0).reshape(3, *[1] * leaf.ndim)
        trained = jax.tree.map(spread, trained)
    hidden, fractions = jax.random.normal(k_hidden, (7, 2, 3, 8)), jax.random.uniform(k_fractions, (7, 2, 2))

    def loss(trained, hidden, by_step: bool):
        values = lambda hidden, fractions: quantiles.values(*trained, hidden, fractions)
        found = (values if by_step else jax.vmap(values))(hidden, fractions)
        return jnp.square(found).sum(), found

    slope = jax.jit(jax.grad(loss, (0, 1), has_aux=True), static_argnums=2)
    slopes, expected = slope(trained, hidden, True), slope(trained, hidden, False)
    jax.tree.map(lambda a, b: close(a, b, 1e-4), slopes, expected)
    assert slopes[1].shape == (7, 2, 3, 4, 2)


def test_slopes_of_the_quantile_loss_are_its_derivatives():
    keys = jax.random.split(jax.random.key(0), 3)
    values, targets = 2 * jax.random.normal(keys[0], (5, 3, 4)), 2 * jax.random.normal(keys[1], (5, 3, 6))
    fractions = jax.random.uniform(keys[2], (5, 1, 4))

    def pairwise(values: jax.Array) -> jax.Array:
        error = targets[..., None, :] - values[..., :, None]
        huber = jnp.where(jnp.abs(error) <= 1, 0.5 * error**2, jnp.abs(error) - 0.5)
        return (jnp.abs(fractions[..., None] - (error <= 0)) * huber).mean(-1).sum(-1)

    def weighed(f):
        return jax.value_and_grad(lambda values: (f(values) * jnp.arange(1.0, 16.0).reshape(5, 3)).sum())(values)

    (loss, slopes), (expected, plain) = (
        weighed(lambda values: quantiles.huber_loss(values, fractions, targets)),
        weighed(pairwise),
    )
    close(loss, expected, 1e-3)
    close(slopes, plain)


def test_the_risk_predictor_learns():
    decomposition = made("rmix")
    out, batch = played(jax.random.key(3), decomposition.head, JOINT[:5])
    params = start(decomposition, jax.random.key(4))

    def loss(params, out: AgentOut) -> jax.Array:
        return decomposition.terms(TermInputs(params, params, out, out, batch, clock(), jax.random.key(0))).loss.sum()

    slopes, on_out = jax.jit(jax.grad(loss, (0, 1)))(params, out)
    assert np.asarray(slopes["risk"]["now"]).any()
    assert np.asarray(slopes["risk"]["before"]).any()
    assert np.asarray(on_out.extra.lagging).any()


def test_rmix_regresses_atoms_now_and_then():
    decomposition = made("rmix", quantile_every=2, quantile_after=60)
    out, batch = played(jax.random.key(3), decomposition.head, JOINT[:5])
    batch = batch._replace(terminated=~batch.terminated)
    params = start(decomposition, jax.random.key(4))
    terms = jax.jit(lambda at: decomposition.terms(TermInputs(params, params, out, out, batch, at, jax.random.key(0))))
    usual = [terms(clock(updates, episodes)) for updates, episodes in ((0, 0), (1, 10), (2, 9))]  # 6 steps an episode
    for other in usual[1:]:
        np.testing.assert_array_equal(other.loss, usual[0].loss)
    due = terms(clock(2, 10))
    np.testing.assert_array_equal(due.q_tot, usual[0].q_tot)

    level = decomposition.utilities(params, out, jax.random.key(0))
    best = np.asarray(base.greedy_actions(level, batch.view.avail))[1, 0]
    tau, q, total = (np.arange(100) + 0.5) / 100, np.asarray(out.q), 0.0
    for i, action in enumerate(np.asarray(batch.actions)[0, 3]):
        target = float(level[0, 3, i, action]) + 0.99 * q[1, 3, i, best[i]]
        error = target[None] - q[0, 3, i, action][:, None]
        huber = np.where(abs(error) <= 1, 0.5 * error**2, abs(error) - 0.5)
        total += (abs(tau[:, None] - (error <= 0)) * huber).mean(1).sum() / 3
    close(due.loss[0, 3], total, 1e-4)


def test_shared_layers_split_and_stack():
    layer = layers.init_dense(jax.random.key(0), 5, 3)
    x = jax.random.normal(jax.random.key(1), (2, 5))
    first, rest = layers.split(layer, 2)
    close(layers.dense(first, x[:, :2]) + x[:, 2:] @ rest, layers.dense(layer, x))
    stack = layers.init_stack(jax.random.key(2), 4, 5, 3)
    y = jax.random.normal(jax.random.key(3), (2, 4, 5))
    close(layers.stacked(stack, y)[:, 2], y[:, 2] @ stack["kernel"][2] + stack["bias"][2])


@pytest.mark.parametrize("own", [False, True])
def test_a_layer_and_a_product_are_one_layer_for_many_inputs(own):
    layer = layers.init_dense(jax.random.key(0), 8, 20)
    if own:
        layer = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf, -leaf]), layer)
    matrix = jax.random.normal(jax.random.key(1), (20, 5))
    for steps in (1, 50):
        x = jax.random.normal(jax.random.key(2), (steps, 3, 8))
        close(layers.project(layer, x, matrix), layers.dense(layer, x) @ matrix, 1e-4)
        held = [v.aval.shape for e in jax.make_jaxpr(layers.project)(layer, x, matrix).eqns for v in e.outvars]
        assert any(20 in shape and steps in shape for shape in held) == (steps == 1)


@pytest.mark.parametrize(
    ("algo", "setting", "value", "sentence"),
    [
        ("qplex", "heads", 0, "decomposition.heads must be at least 1 (got 0)"),
        ("qtran", "nopt_loss", -1, "decomposition.nopt_loss must be at least 0 (got -1.0)"),
        ("cw_qmix", "alpha", 0, "decomposition.alpha must be more than 0 and at most 1 (got 0.0)"),
        ("dmix", "fractions", 0, "decomposition.fractions must be at least 1 (got 0)"),
        ("rmix", "atoms", 1, "decomposition.atoms must be at least 2 (got 1)"),
        ("rmix", "quantile_every", -1, "decomposition.quantile_every must be at least 0 (got -1)"),
        ("qatten", "embed", 0, "decomposition.embed must be at least 1 (got 0)"),
    ],
)
def test_impossible_settings_are_refused(algo, setting, value, sentence):
    from gpgrad.learning.compose import compose

    with pytest.raises(SettingError) as caught:
        compose(config.load("matrix_gpvd", algo, {f"decomposition.{setting}": value}))
    assert str(caught.value) == sentence
