"""Collect whole episodes from environments in JAX with an epsilon-greedy team."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs.api import Env, EnvParams, EnvState, View
from gpgrad.learning import early_exit_loops
from gpgrad.methods.decomposition.base import Decomposition, greedy_actions
from gpgrad.methods.nets.agent import AgentNet
from gpgrad.shards import WHOLE, Shards
from gpgrad.types import Episode, Gates, Metrics, PyTree

NUMERICS = 1


class Team(NamedTuple):
    """The inputs of acting. params: agent parameters as the network takes them. gates: factors of activations,
    as `Sharing.gates` gives them. decomposition: the decomposition's parameters.
    """

    params: PyTree
    gates: Gates
    decomposition: PyTree


class Rollout(NamedTuple):
    """episodes: Episode [E, ...]. info: each environment's `Step.info`, summed over its episode ([E, ...])."""

    episodes: Episode
    info: Metrics


def epsilon(steps: jax.Array, start: float, finish: float, anneal_steps: int) -> jax.Array:
    """Exploration rate: linear decay over environment steps from start to finish, then constant."""
    return jnp.maximum(finish, start - (start - finish) / anneal_steps * steps)


def choose(key: jax.Array, utilities: jax.Array, avail: jax.Array, eps: jax.Array, shards: Shards = WHOLE) -> jax.Array:
    """Epsilon-greedy per agent over available actions: [E, A, U] to int32 [E, A].

    Over several devices, each with E of the environments, random numbers are drawn for all of them.
    """

    def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return shards.own(jax.random.uniform(key, (shape[0] * shards.count, *shape[1:])), 0)

    k_explore, k_action = jax.random.split(key)
    explore = uniform(k_explore, avail.shape[:-1]) < eps
    scores = jnp.where(avail, uniform(k_action, avail.shape), -1.0)
    return jnp.where(explore, jnp.argmax(scores, -1), greedy_actions(utilities, avail)).astype(jnp.int32)


Act = Callable[[jax.Array, Team, View, jax.Array, PyTree, jax.Array], tuple[jax.Array, PyTree]]


def make_act(agent: AgentNet, decomposition: Decomposition, shards: Shards = WHOLE) -> Act:
    """act(key, team, view, last, carry, eps) -> (actions int32 [E, A], carry), one step of a team in E environments."""

    def act(key: jax.Array, team: Team, view: View, last: jax.Array, carry: PyTree, eps: jax.Array):
        out = agent.step(team.params, team.gates, view.obs, last, carry, jax.random.fold_in(key, 2))
        k_utility, k_choice = jax.random.split(key)
        utilities = decomposition.utilities(team.decomposition, out, k_utility)
        return choose(k_choice, utilities, view.avail, eps, shards), out.carry

    return act


class _Carry(NamedTuple):
    state: EnvState  # [E, ...]
    agents: PyTree  # as AgentNet.start gives it
    last: jax.Array  # int32 [E, A]
    running: jax.Array  # bool [E]


Collect = Callable[[jax.Array, jax.Array, EnvParams, Team, jax.Array], Rollout]


def make_collect(env: Env, agent: AgentNet, decomposition: Decomposition, shards: Shards = WHOLE) -> Collect:
    """collect(world_keys [E], act_key, env_params, team, eps) -> Rollout of E environments.

    Over several devices each steps its share of the environments, if they can be shared evenly, and all get the whole
    rollout, which has the same random numbers. Heads that draw random numbers for all environments at once are computed
    on every device.
    """
    collect = _make_collect(env, agent, decomposition, WHOLE)
    if not shards.split or agent.head.random:
        return collect
    collect_own = _make_collect(env, agent, decomposition, shards)

    def collect_apart(
        world_keys: jax.Array, act_key: jax.Array, env_params: EnvParams, team: Team, eps: jax.Array
    ) -> Rollout:
        if world_keys.shape[0] % shards.count:
            return collect(world_keys, act_key, env_params, team, eps)
        return shards.whole_rows(collect_own(shards.own(world_keys, 0), act_key, env_params, team, eps))

    return collect_apart


def _make_collect(env: Env, agent: AgentNet, decomposition: Decomposition, shards: Shards) -> Collect:
    """As `make_collect`, for this device's environments alone.

    Environments step on after their end so that shapes stay static; those steps are not valid, their reward is zero and
    the state after the end is repeated. Where episodes end early, collection stops when no environment runs any more.
    """
    spec, act = env.spec, make_act(agent, decomposition, shards)

    def collect(
        world_keys: jax.Array, act_key: jax.Array, env_params: EnvParams, team: Team, eps: jax.Array
    ) -> Rollout:
        n_worlds = world_keys.shape[0]
        reset_keys, step_keys = jnp.moveaxis(jax.vmap(jax.random.split)(world_keys), 1, 0)

        def step(carry: _Carry, t: jax.Array):
            view = jax.vmap(env.view, (None, 0))(env_params, carry.state)
            actions, agents = act(jax.random.fold_in(act_key, t), team, view, carry.last, carry.agents, eps)
            keys = jax.vmap(jax.random.fold_in, (0, None))(step_keys, t)
            after = jax.vmap(env.step, (0, None, 0, 0))(keys, env_params, carry.state, actions)
            valid = carry.running

            def keep(new: jax.Array, old: jax.Array) -> jax.Array:
                return jnp.where(valid.reshape(-1, *[1] * (new.ndim - 1)), new, old)

            state = jax.tree.map(keep, after.state, carry.state)
            ended = after.terminated | (after.truncated & spec.limit_is_terminal)
            running = valid & ~after.terminated & ~after.truncated
            stored = (actions.astype(jnp.int8), jnp.where(valid, after.reward, 0.0), ended & valid, valid)
            info = jax.tree.map(lambda x: keep(x, jnp.zeros_like(x)), after.info)
            return _Carry(state, agents, actions, running), (state, stored, info)

        start = jax.vmap(env.reset, (0, None))(reset_keys, env_params)
        carry = _Carry(
            start,
            agent.start(n_worlds),
            jnp.full((n_worlds, spec.n_agents), -1, jnp.int32),
            jnp.ones(n_worlds, bool),
        )
        if spec.ends_early:
            last, (states, stored, info), made = early_exit_loops.scan_while_running(step, carry, spec.episode_limit)
            states = jax.tree.map(partial(_fill, made), states, last.state)
        else:
            _, (states, stored, info) = jax.lax.scan(step, carry, jnp.arange(spec.episode_limit))
        states = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, states)
        time_first = Episode(states, *stored)
        episodes = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), time_first)
        return Rollout(episodes, jax.tree.map(lambda leaf: leaf.sum(0), info))

    return collect


def _fill(made: jax.Array, rows: jax.Array, final: jax.Array) -> jax.Array:
    """Rows [T, ...] of the steps that were made, then the final one."""
    before_end = jnp.arange(len(rows)) < made
    return jnp.where(before_end.reshape(-1, *[1] * final.ndim), rows, final)
