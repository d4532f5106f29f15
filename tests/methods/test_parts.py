"""What a sharing scheme and a weighting may count on: when they are called, with what, and what comes of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad.learning import initial, program
from gpgrad.learning.compose import compose
from gpgrad.learning.program import actors
from gpgrad.methods.sharing.base import Sharing
from gpgrad.methods.weighting.base import Weighting
from tests.helpers.tiny_runs import start, tiny


def counting_sharing(width: int, n_agents: int) -> Sharing:
    """Counts its calls; has gates; marks one bias after each step and every optimiser slot when it adapts."""

    def adapt(key, clock, params, moments, state):
        head = params.head | {"bias": params.head["bias"] + 100.0}
        marked = [slot._replace(head=slot.head | {"bias": jnp.full_like(slot.head["bias"], 7.0)}) for slot in moments]
        state = state | {"adapts": state["adapts"] + 1, "at": clock.episodes, "slots": jnp.int32(len(moments))}
        return params._replace(head=head), marked, state

    def after_step(params, state):
        return params._replace(fc1=params.fc1 | {"bias": jnp.full_like(params.fc1["bias"], 0.5)})

    def observe(state, signals):
        seen = jnp.abs(signals.gate_grads).max() > 0
        return state | {"observed": state["observed"] + 1, "seen": state["seen"] + seen}

    zeros = {name: jnp.int32(0) for name in ("observed", "seen", "adapts", "at", "slots")}
    base = compose(tiny()).sharing
    return base._replace(
        init=lambda key, agent_params: (agent_params(key), zeros),
        gates=lambda state: jnp.ones((n_agents, width)),
        observe=observe,
        after_step=after_step,
        adapt=adapt,
        report=lambda params, state: {"adapts": state["adapts"]},
    )


def counting_weighting() -> Weighting:
    """Counts visits at collection and preparations; its weights and bonus show in the metrics."""
    base = compose(tiny()).weighting

    def prepare(state, clock, batch):
        return state | {"prepared": state["prepared"] + 1, "clock": clock.updates}, jnp.ones(batch.reward.shape)

    return base._replace(
        init=lambda key, state: {name: jnp.int32(0) for name in ("visits", "prepared", "clock")},
        record=lambda state, clock, states, valid: state | {"visits": state["visits"] + valid.sum()},
        prepare=prepare,
        bonus=lambda state, aux: 2 * aux,
        weights=lambda state, aux, batch, terms: (3 * aux, {"seen_next": jnp.abs(terms.one_step).max()}),
    )


def test_parts_are_called_when_and_with_what_they_expect():
    settings = tiny(learner__target_every_episodes=6)
    parts = compose(settings)
    n_agents = parts.env.spec.n_agents
    parts = parts._replace(sharing=counting_sharing(8, n_agents), weighting=counting_weighting())
    built = program.make_program(settings, parts)
    states = built.init(jnp.array([0, 1], jnp.int32))
    clock, states = built.chunk(initial.start_clock(), states, 5)
    np.testing.assert_array_equal(states.sharing["observed"], [2, 2])  # updates begin with the fourth episode
    np.testing.assert_array_equal(states.sharing["seen"], [2, 2])
    np.testing.assert_array_equal(states.sharing["adapts"], [0, 0])
    assert (np.asarray(states.params.agent.fc1["bias"]) == 0.5).all()
    np.testing.assert_array_equal(states.weighting["visits"], states.env_steps)
    np.testing.assert_array_equal(states.weighting["prepared"], [2, 2])
    np.testing.assert_array_equal(states.weighting["clock"], [1, 1])
    np.testing.assert_allclose(states.stats["weight"] / states.stats["updates"], 3)
    np.testing.assert_allclose(states.stats["bonus"] / states.stats["updates"], 2)
    assert (states.stats["seen_next"] > 0).all()
    before = np.array(states.params.agent.head["bias"])

    clock, states = built.chunk(clock, states, 1)
    np.testing.assert_array_equal(states.sharing["adapts"], [1, 1])
    np.testing.assert_array_equal(states.sharing["at"], [6, 6])
    np.testing.assert_array_equal(states.sharing["slots"], [1, 1])
    assert (np.asarray(states.params.agent.head["bias"]) > before + 90).all()
    jax.tree.map(np.testing.assert_array_equal, states.target, states.params)  # adapted first, copied then
    [slot] = [leaf for leaf in jax.tree.leaves(states.opt_state) if leaf.shape == before.shape and (leaf == 7).all()]
    assert slot.shape == before.shape
    tested = built.test(actors(states), 0)
    np.testing.assert_array_equal(tested["adapts"], [1, 1])
    assert tested["test_return"].max() <= parts.env.spec.return_scale  # no bonus in it


def test_gates_act_in_rollout_and_target_too():
    """With gates of zero every input looks the same: greedy play is one fixed sequence in all worlds."""
    settings = tiny(evaluation__episodes=6)
    parts = compose(settings)
    zero = parts.sharing._replace(gates=lambda state: jnp.zeros((3, 8)))
    differing = []
    for sharing in (parts.sharing, zero):
        agent = parts.agent
        params = agent.init(jax.random.key(0))
        obs = jax.random.normal(jax.random.key(1), (1, 6, 3, parts.env.spec.obs_dim))
        gates = sharing.gates(())
        out = agent.unroll(params, gates, obs, jnp.full((1, 6, 3), -1))
        acted = agent.step(params, gates, obs[0], jnp.full((6, 3), -1), agent.start(6))
        np.testing.assert_allclose(out.q[0], acted.q, atol=1e-6)
        differing.append(float(np.ptp(np.asarray(out.q[0]), axis=0).max()))
    assert differing[0] > 1e-3
    assert differing[1] == 0.0


@pytest.mark.slow
def test_both_methods_at_once():
    """GPVD weighs while GradPS measures and adapts, on the same backward pass."""
    settings = tiny("gpvd_gradps", learner__target_every_episodes=4, sharing__T=1, weighting__k=6)
    built, clock, states = start(settings, [0])
    clock, states = built.chunk(clock, states, 14)
    assert float(states.stats["share_downweighted"][0]) > 0
    assert int(states.sharing.periods[0]) == 3
    report = built.test(actors(states), 0)
    assert report["conflict"].shape == (1, 3, 3)
    assert float(report["conflict"].max()) > 0
