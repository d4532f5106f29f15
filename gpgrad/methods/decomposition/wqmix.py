"""Weighted QMIX: errors below an unconstrained critic's values count less (Rashid et al. 2020)."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp

from gpgrad.errors import SettingError
from gpgrad.methods.decomposition import base, qmix
from gpgrad.methods.decomposition.base import Decomposition
from gpgrad.methods.nets import joint_critic, mixers
from gpgrad.methods.nets.agent import last_actions, make_agent
from gpgrad.methods.nets.heads import Utilities
from gpgrad.types import Context, PyTree, TermInputs, Terms

NUMERICS = 1


class Weigh(Protocol):
    """The weights of a variant."""

    def __call__(
        self, q_tot: jax.Array, target: jax.Array, q_star: jax.Array, is_greedy: jax.Array, alpha: float
    ) -> jax.Array:
        """Weights of the loss; all [T, B]. q_star: the critic's value of the greedy joint action."""
        ...


def optimistic_weights(
    q_tot: jax.Array, target: jax.Array, q_star: jax.Array, is_greedy: jax.Array, alpha: float
) -> jax.Array:
    """1 where Q_tot is below the target, else alpha; all [T, B].

    Source: Weighted QMIX (NeurIPS 2020), optimistic weighting (OW).
    """
    del q_star, is_greedy
    return jnp.where(q_tot < target, 1.0, alpha)


def central_weights(
    q_tot: jax.Array, target: jax.Array, q_star: jax.Array, is_greedy: jax.Array, alpha: float
) -> jax.Array:
    """1 where the greedy joint action was played or the target exceeds its value q_star, else alpha; all [T, B].

    Source: Weighted QMIX (NeurIPS 2020), central weighting (CW), in the form of its deep variant.
    """
    del q_tot
    return jnp.where(is_greedy | (target > q_star), 1.0, alpha)


def weighted(done: Terms, weights: jax.Array, q_star: jax.Array, valid: jax.Array, factor: float) -> Terms:
    """The weighted loss of Q_tot and, as a further loss, that of the critic's Q* of the actions taken; all [T, B].

    Source: Weighted QMIX (NeurIPS 2020), the losses of the deep variants, both against the same target.
    """
    central_loss = base.masked_mean(jnp.square(q_star - done.target), valid)
    share = base.masked_mean((weights == 1).astype(jnp.float32), valid)
    log = {"central_loss": central_loss, "share_full_weight": share}
    return done._replace(loss=weights * done.loss, aux=factor * central_loss, log=log)


def make_optimistic(
    context: Context,
    alpha: float = 0.1,
    embed: int = 32,
    hypernet_embed: int = 64,
    hypernet_layers: Literal[1, 2] = 2,
    positive: mixers.Positive = "abs",
    central_embed: int = 256,
) -> Decomposition:
    """OW-QMIX: QMIX, weighted, on targets of a critic Q* without constraints that is trained beside it.

    alpha: the smaller weight. embed, hypernet_embed, hypernet_layers, positive: QMIX's. central_embed: width of the
    critic's mixer; its agents are of the same shape as the others and one set for all, whatever the sharing scheme.

    For weightings Q_tot is the monotone one against the critic's target, with the method's own weights in the loss, and
    its maximum that of the greedy actions; the critic's loss is a mean over valid steps, not weighted.

    Source: Weighted QMIX (NeurIPS 2020), OW-QMIX.
    """
    return _make(context, optimistic_weights, alpha, embed, hypernet_embed, hypernet_layers, positive, central_embed)


@functools.wraps(make_optimistic, assigned=("__annotations__",))
def make_central(context: Context, **settings: Any) -> Decomposition:
    """CW-QMIX: as OW-QMIX, with full weight for the greedy joint action and for what exceeds its value.

    Source: Weighted QMIX (NeurIPS 2020), CW-QMIX.
    """
    arguments = inspect.signature(make_optimistic).bind(context, **settings)
    arguments.apply_defaults()
    return _make(weigh=central_weights, **arguments.arguments)


def _make(
    context: Context,
    weigh: Weigh,
    alpha: float,
    embed: int,
    hypernet_embed: int,
    hypernet_layers: int,
    positive: mixers.Positive,
    central_embed: int,
) -> Decomposition:
    mixer = qmix.make_mixer(context, embed, hypernet_embed, hypernet_layers, positive)
    base.check_sizes(central_embed=central_embed)
    if not 0 < alpha <= 1:
        raise SettingError(f"decomposition.alpha must be more than 0 and at most 1 (got {alpha})")
    spec, net, returns = context.spec, context.net, context.returns
    agent = make_agent(spec, net, Utilities())
    critic = joint_critic.free_mixer(spec.n_agents, central_embed, net.init)

    def init(key: jax.Array, state: PyTree) -> PyTree:
        k_mixer, k_agents, k_critic = jax.random.split(key, 3)
        return {
            "mixer": mixer.init(k_mixer, state),
            "central_agents": agent.init(k_agents),
            "central_mixer": critic.init(k_critic, state),
        }

    def terms(inputs: TermInputs) -> Terms:
        params, target_params, online, target, batch, _, _ = inputs
        best, selected = base.choose(online.q, target.q, batch.view.avail, returns.double_q)

        def central(params: PyTree) -> jax.Array:  # [T+1, B, A, U]
            return agent.unroll(params["central_agents"], None, batch.view.obs, last_actions(batch.actions)).q

        def q_star(params: PyTree, q: jax.Array, actions: jax.Array, when: slice) -> jax.Array:
            state = base.steps(batch.view.state, when)
            return critic.mix(params["central_mixer"], state, base.take(q[when], actions))

        now, after = slice(None, -1), slice(1, None)
        target_q = central(target_params)
        taken = q_star(params, central(params), batch.actions, now)
        at_best = q_star(target_params, target_q, best, slice(None))  # [T+1, B]
        next_value = at_best[after] if returns.double_q else q_star(target_params, target_q, selected[after], after)
        mixing = mixer.hyper(params["mixer"], base.steps(batch.view.state, now))
        done = base.td_terms(
            mixer.mix(mixing, base.take(online.q[:-1], batch.actions)),
            mixer.mix(mixing, base.take(jax.lax.stop_gradient(online.q[:-1]), best[:-1])),
            next_value,
            batch,
            returns,
        )
        is_greedy = jnp.all(batch.actions == best[:-1], axis=-1)
        weights = jax.lax.stop_gradient(weigh(done.q_tot, done.target, at_best[now], is_greedy, alpha))
        return weighted(done, weights, taken, batch.valid, returns.loss_factor)

    return Decomposition(Utilities(), init, base.plain_utilities, terms)
