"""What a trained team knows and what moves it, as arrays ready to log or plot."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs.api import EnvParams, EnvState, View, paths_of, payoff_of, roles_of
from gpgrad.errors import SettingError
from gpgrad.learning.learner import Parts, make_batch
from gpgrad.learning.rollout import Team, make_collect
from gpgrad.methods.decomposition.base import greedy_actions, masked_mean
from gpgrad.methods.nets.agent import last_actions
from gpgrad.types import AgentOut, Batch, Clock, Metrics, PyTree, SeedState, TermInputs, Terms

Diagnose = Callable[[EnvParams, Team], Metrics]
Path = tuple[tuple[int, ...], ...]  # joint actions from the start of a game
DRAWS = 32


def make_diagnostics(parts: Parts) -> Diagnose:
    """diagnose(env_params, team) -> metrics; empty for environments without a payoff table and without hidden roles.

    For games of one step: `utilities` [A, U], `payoff_table` [U] * A, the learned Q_tot of every joint action, and
    `payoff_error`, its mean squared distance from the game's payoffs. For games of a few steps that name the `paths`
    to their nodes, `utilities_NODE` and `payoff_table_NODE`. For environments with hidden roles: `roles` [A] and
    `disagreement`.
    """
    if roles := roles_of(parts.env):
        differ = make_disagreement(parts)
        return lambda env_params, team: {
            "roles": roles(env_params),
            "disagreement": differ(env_params, team),
        }
    if paths := paths_of(parts.env):
        return lambda env_params, team: {
            f"{name}_{node}": value
            for node, path in paths.items()
            for name, value in learned_game(parts, env_params, team, path)._asdict().items()
        }
    payoff = _payoff(parts)
    if payoff is None:
        return lambda env_params, team: {}

    def diagnose(env_params: EnvParams, team: Team) -> Metrics:
        learned = learned_game(parts, env_params, team)
        return {
            "payoff_error": jnp.square(learned.payoff_table - payoff(env_params)).mean(),
            **learned._asdict(),
        }

    return diagnose


def _payoff(parts: Parts) -> Callable[[EnvParams], jax.Array] | None:
    """The payoffs of a game of one step, in the learner's unit; None for other environments."""
    payoff = payoff_of(parts.env) if parts.env.spec.episode_limit == 1 else None
    return payoff and (lambda env_params: payoff(env_params) * parts.reward_scale)


def make_disagreement(parts: Parts) -> Callable[[EnvParams, Team], jax.Array]:
    """disagreement(env_params, team) -> float32 [], the fraction of agent pairs that differ in the greedy action
    on the same history.

    Each agent's history in one greedy episode, always from the same start, is given to all agents at every step;
    0 for agents that share everything.
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
        out = parts.agent.unroll(team.params, team.gates, to_all(batch.view.obs), to_all(last), key, acting=True)
        utilities = parts.decomposition.utilities(team.decomposition, out, key)
        chosen = greedy_actions(utilities, to_all(batch.view.avail))[:-1]  # [T, A, A]
        differs = (chosen[..., :, None] != chosen[..., None, :]).sum((-1, -2)) / max(everyone * (everyone - 1), 1)
        return masked_mean(differs.mean(-1), batch.valid[:, 0])

    return disagreement


class Learned(NamedTuple):
    """Learned values of one move: utilities [A, U], payoff_table [U] * A, Q_tot of all joint actions."""

    utilities: jax.Array
    payoff_table: jax.Array


def learned_game(parts: Parts, env_params: EnvParams, team: Team, path: Path = ()) -> Learned:
    """Utilities and Q_tot of every joint action in a game without chance, after the joint actions of `path`.

    Where agents draw quantile fractions, means over `DRAWS` draws.
    """
    batch, now = joint_actions(parts, env_params, path), len(path)
    clock = Clock(*(jnp.zeros((), jnp.int32) for _ in range(3)))
    last, mixer = last_actions(batch.actions), team.decomposition

    def learned(key: jax.Array) -> Learned:
        out = parts.agent.unroll(team.params, team.gates, batch.view.obs, last, key, acting=True)
        q_tot = parts.decomposition.terms(TermInputs(mixer, mixer, out, out, batch, clock, key)).q_tot[now]
        return Learned(parts.decomposition.utilities(mixer, out, key)[now, 0], q_tot)

    keys = jax.random.split(jax.random.key(0), DRAWS if parts.agent.head.random else 1)
    drawn = jax.tree.map(lambda leaf: leaf.mean(0), jax.vmap(learned)(keys))
    return drawn._replace(payoff_table=_as_table(parts, drawn.payoff_table))


def joint_actions(parts: Parts, env_params: EnvParams, path: Path = ()) -> Batch:
    """Every joint action of a game without chance after those of `path`: a batch of U ** A episodes that end there."""
    spec, key = parts.env.spec, jax.random.key(0)
    last = jnp.array(list(itertools.product(range(spec.n_actions), repeat=spec.n_agents)), jnp.int32)  # [B, A]
    actions = jnp.stack([*(jnp.broadcast_to(jnp.array(joint, jnp.int32), last.shape) for joint in path), last])
    start = parts.env.reset(key, env_params)
    start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(last), *leaf.shape)), start)

    def move(state: EnvState, joint: jax.Array) -> tuple[EnvState, tuple[EnvState, jax.Array, jax.Array]]:
        step = jax.vmap(parts.env.step, (None, None, 0, 0))(key, env_params, state, joint)
        return step.state, (step.state, step.reward, step.terminated)

    _, (later, reward, terminated) = jax.lax.scan(move, start, actions)
    states = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, later)  # [T+1, B]
    view: View = jax.vmap(jax.vmap(parts.env.view, (None, 0)), (None, 0))(env_params, states)
    return Batch(view, actions, reward * parts.reward_scale, terminated, jnp.ones_like(terminated))


def _as_table(parts: Parts, values: jax.Array) -> jax.Array:
    """Values of all joint actions [B, ...] by each agent's action: [U] * A + [...]."""
    spec = parts.env.spec
    return values.reshape(*[spec.n_actions] * spec.n_agents, *values.shape[1:])


class Examined(NamedTuple):
    """A batch as a gradient step sees it: what the weighting prepared, with the bonus in the rewards, the agents'
    outputs, and `terms(online)` for other outputs of the online network.
    """

    aux: PyTree
    batch: Batch
    online: AgentOut
    terms: Callable[[AgentOut], Terms]


def examine(parts: Parts, clock: Clock, state: SeedState, batch: Batch) -> Examined:
    """Evaluate a batch as an update of this seed would, with its target network and visit counts."""
    weighting, aux = parts.weighting.prepare(state.weighting, clock, batch)
    rewarded = batch._replace(reward=batch.reward + parts.weighting.bonus(weighting, aux))
    gates, last = parts.sharing.gates(state.sharing), last_actions(batch.actions)

    def unroll(agent: PyTree, key: jax.Array) -> AgentOut:
        arranged = parts.sharing.per_agent_params(agent, state.sharing)
        return parts.agent.unroll(arranged, gates, batch.view.obs, last, key)

    k_online, k_target, k_terms = jax.random.split(jax.random.key(0), 3)
    target_out = unroll(state.target.agent, k_target)
    own, other = state.params.decomposition, state.target.decomposition

    def terms(online: AgentOut) -> Terms:
        return parts.decomposition.terms(TermInputs(own, other, online, target_out, rewarded, clock, k_terms))

    return Examined(aux, rewarded, unroll(state.params.agent, k_online), terms)


class GradientFlow(NamedTuple):
    """The gradient that each joint action of a one-step game has on its utilities.

    utilities: [A, U]. td_error, weights: [U] * A. flow: [U] * A + [A], gradient of that joint action's weighted loss,
    and of its share in further losses, with respect to each agent's utility of its action; a negative one raises the
    utility. Its sum over the other agents' actions is what uniform play does to a utility.
    """

    utilities: jax.Array
    td_error: jax.Array
    weights: jax.Array
    flow: jax.Array


def need_payoffs(parts: Parts) -> None:
    """Raise SettingError unless the environment is a one-step game with a payoff table and losses depend on q."""
    if _payoff(parts) is None:
        raise SettingError(f"{parts.env.spec.name} has no payoff table, expected a matrix game of one step")
    if not parts.agent.head.losses_of_q:
        raise SettingError(
            "evaluation.gradient_flow needs a decomposition whose loss is a function of the agents' values, "
            "such as qmix"
        )


def gradient_flow(parts: Parts, clock: Clock, state: SeedState) -> GradientFlow:
    """The flow at one moment of a run, from one seed's state; `state.replay` is not used.

    Raises SettingError where `need_payoffs` does.
    """
    need_payoffs(parts)
    seen = examine(parts, clock, state, joint_actions(parts, state.env_params))
    terms = seen.terms(seen.online)
    weights, _ = parts.weighting.weights(state.weighting, seen.aux, seen.batch, terms)

    def loss(q: jax.Array) -> jax.Array:
        terms = seen.terms(seen.online._replace(q=q))
        return jnp.sum(weights * terms.loss) + seen.batch.valid.sum() * terms.aux

    gradient = jax.grad(loss)(seen.online.q)[0]  # [B, A, U, ...]
    gradient = gradient.reshape(*gradient.shape[:3], -1).sum(-1)
    mine = jnp.take_along_axis(gradient, seen.batch.actions[0, ..., None], axis=-1)[..., 0]  # [B, A]
    utilities = parts.decomposition.utilities(state.params.decomposition, seen.online, jax.random.key(0))[0, 0]
    td_error = terms.q_tot[0] - terms.target[0]
    return GradientFlow(utilities, *(_as_table(parts, x) for x in (td_error, weights[0], mine)))
