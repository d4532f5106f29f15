"""What a trained team knows, as arrays ready to log or plot."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from envs.api import EnvParams, View
from gpgrad.learner import Parts, last_actions
from gpgrad.rollout import Team
from gpgrad.types import Batch, Clock, Metrics

Diagnose = Callable[[EnvParams, Team], Metrics]


def make_diagnostics(parts: Parts) -> Diagnose:
    """diagnose(env_params, team) -> metrics; empty for worlds without a payoff table.

    For games of one step: `payoff_table` [U] * A, the learned Q_tot of every joint action, and `payoff_error`, its
    mean squared distance from the game's payoffs.
    """
    payoff = getattr(parts.env, "payoff", None)
    if payoff is None or parts.env.spec.episode_limit != 1:
        return lambda env_params, team: {}

    def diagnose(env_params: EnvParams, team: Team) -> Metrics:
        learned = payoff_table(parts, env_params, team)
        return {
            "payoff_error": jnp.square(learned - payoff(env_params)).mean(),
            "payoff_table": learned,
        }

    return diagnose


def payoff_table(parts: Parts, env_params: EnvParams, team: Team) -> jax.Array:
    """Q_tot of every joint action in the start state of a one-step game: float32 [U] * A."""
    spec = parts.env.spec
    joint = jnp.array(list(itertools.product(range(spec.n_actions), repeat=spec.n_agents)), jnp.int32)  # [B, A]
    state = parts.env.reset(jax.random.key(0), env_params)
    view: View = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (2, len(joint), *leaf.shape)), parts.env.view(env_params, state)
    )
    ones = jnp.ones((1, len(joint)), bool)
    batch = Batch(view, joint[None], jnp.zeros(ones.shape), ones, ones)
    out = parts.agent.unroll(team.params, team.gates, view.obs, last_actions(batch.actions))
    clock = Clock(*(jnp.zeros((), jnp.int32) for _ in range(3)))
    terms = parts.decomposition.terms(team.decomposition, team.decomposition, out, out, batch, clock, jax.random.key(0))
    return terms.q_tot[0].reshape([spec.n_actions] * spec.n_agents)
