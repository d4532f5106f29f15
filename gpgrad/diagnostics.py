"""What a trained team knows, as arrays ready to log or plot."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from envs.api import EnvParams, View
from gpgrad.compose import has_roles
from gpgrad.decomposition.base import greedy_actions
from gpgrad.learner import Parts, last_actions, make_batch, masked_mean
from gpgrad.rollout import Team, make_collect
from gpgrad.types import Batch, Clock, Metrics

Diagnose = Callable[[EnvParams, Team], Metrics]


def make_diagnostics(parts: Parts) -> Diagnose:
    """diagnose(env_params, team) -> metrics; empty for worlds without a payoff table and without hidden roles.

    For games of one step: `payoff_table` [U] * A, the learned Q_tot of every joint action, and `payoff_error`, its
    mean squared distance from the game's payoffs. For worlds with hidden roles: `roles` [A] and `disagreement`.
    """
    if has_roles(parts.env):
        differ = make_disagreement(parts)
        return lambda env_params, team: {
            "roles": parts.env.roles(env_params),  # type: ignore[attr-defined]
            "disagreement": differ(env_params, team),
        }
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


def make_disagreement(parts: Parts) -> Callable[[EnvParams, Team], jax.Array]:
    """disagreement(env_params, team) -> float32 [], how often two agents in the same place would act differently.

    Every agent in turn lives one greedy episode, always the same start, and at each step all agents say what they
    would do after its observations and actions: the share of differing pairs, 0 for agents that share everything.
    """
    spec, collect = parts.env.spec, make_collect(parts.env, parts.agent, parts.decomposition)
    everyone = spec.n_agents

    def disagreement(env_params: EnvParams, team: Team) -> jax.Array:
        key = jax.random.key(0)
        episodes = collect(key[None], key, env_params, team, jnp.zeros(())).episodes
        batch = make_batch(parts.env, env_params, episodes)  # one episode, [T+1, 1, A, ...]

        def to_all(leaf: jax.Array) -> jax.Array:  # whose life it is takes the batch axis: [T+1, A, A, ...]
            return jnp.broadcast_to(leaf[:, 0, :, None], (*leaf.shape[:1], everyone, everyone, *leaf.shape[3:]))

        last = last_actions(batch.actions)
        out = parts.agent.unroll(team.params, team.gates, to_all(batch.view.obs), to_all(last))
        utilities = parts.decomposition.utilities(team.decomposition, out, key)
        chosen = greedy_actions(utilities, to_all(batch.view.avail))[:-1]  # [T, A, A]
        differs = (chosen[..., :, None] != chosen[..., None, :]).sum((-1, -2)) / max(everyone * (everyone - 1), 1)
        return masked_mean(differs.mean(-1), batch.valid[:, 0])

    return disagreement


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
