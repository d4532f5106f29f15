"""IQL: every agent learns its own action value from the team's reward (Tan 1993)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gpgrad.methods.decomposition import base
from gpgrad.methods.decomposition.base import Decomposition
from gpgrad.methods.nets.heads import Utilities
from gpgrad.types import Batch, Context, Returns, TermInputs, Terms

NUMERICS = 1


def make(context: Context) -> Decomposition:
    """The loss of a step is the mean of the agents' squared TD errors.

    For weightings Q_tot, its maximum and the target are sums over agents; delta is then the sum of the agents'
    TD errors. Each agent estimates the team's return, so Q_tot is A times an estimate of it, in payoff tables too.

    Source: independent Q-learning (Tan, ICML 1993).
    """
    returns = context.returns

    def terms(inputs: TermInputs) -> Terms:
        _, _, online, target, batch, _, _ = inputs
        u = base.select(online.q, target.q, batch, returns.double_q)

        def of_agents(make_targets: Callable[[jax.Array, Batch, Returns], jax.Array]) -> jax.Array:  # [T, B, A]
            return jax.vmap(lambda value: make_targets(value, batch, returns), in_axes=-1, out_axes=-1)(u.next)

        targets, one_step = of_agents(base.targets), of_agents(base.one_step)
        loss = returns.loss_factor * jnp.square(u.taken - targets).mean(-1)
        return Terms(loss, u.taken.sum(-1), u.greedy.sum(-1), targets.sum(-1), one_step.sum(-1), jnp.zeros(()), {})

    return Decomposition(Utilities(), lambda key, state: {}, base.plain_utilities, terms)
