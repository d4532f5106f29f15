"""DMIX and DDN: distributions of joint values, factorised by mean and shape (DFAC, Sun et al. 2021)."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from gpgrad.methods.decomposition import base, qmix
from gpgrad.methods.decomposition.base import Decomposition
from gpgrad.methods.nets import mixers, quantiles
from gpgrad.types import AgentOut, Batch, Context, PyTree, Returns, TermInputs, Terms

NUMERICS = 2


def mean_utilities(params: PyTree, out: AgentOut, key: jax.Array) -> jax.Array:
    """The mean over the drawn fractions, which actions maximise.

    Source: DFAC (ICML 2021); IQN (ICML 2018).
    """
    del params, key
    return out.q.mean(-1)


def join(values: jax.Array, q_tot: jax.Array) -> jax.Array:
    """Z_jt(tau) = q_tot + sum_i (Z_i(tau) - E[Z_i]): values [..., A, N], q_tot [...] to [..., N].

    The mean of Z_jt is the mixed value of the agents' means, its shape the sum of the agents' shapes.

    Source: DFAC (ICML 2021), mean-shape decomposition.
    """
    return (values - values.mean(-1, keepdims=True)).sum(-2) + q_tot[..., None]


def make(
    context: Context,
    embed: int = 32,
    hypernet_embed: int = 64,
    hypernet_layers: Literal[1, 2] = 2,
    positive: mixers.Positive = "abs",
    fractions: int = 8,
    acting_fractions: int = 32,
) -> Decomposition:
    """DMIX: the joint mean is QMIX of the agents' means, the joint shape the sum of the agents' shapes.

    embed, hypernet_embed, hypernet_layers, positive: QMIX's. fractions: quantile fractions per step of the online and
    of the target network, drawn apart, the same for all agents. acting_fractions: those of acting.

    For weightings Q_tot, its maximum and the target are means over the drawn fractions: of the actions taken, of the
    greedy ones, of the target distribution. Published with the target network selecting the next action, which
    `learner.double_q` decides here; lambda returns mix quantiles one by one, which is exact for their mean alone.

    Source: DFAC (ICML 2021), DMIX.
    """
    mixer = qmix.make_mixer(context, embed, hypernet_embed, hypernet_layers, positive)
    return _make(context, mixer, fractions, acting_fractions)


def make_sum(context: Context, fractions: int = 8, acting_fractions: int = 32) -> Decomposition:
    """DDN: DMIX with VDN in the place of QMIX, so the joint quantiles are the sums of the agents'.

    Source: DFAC (ICML 2021), DDN.
    """
    return _make(context, mixers.total(), fractions, acting_fractions)


def _make(context: Context, mixer: mixers.Mixer, fractions: int, acting_fractions: int) -> Decomposition:
    """From the mixer of means."""
    base.check_sizes(fractions=fractions, acting_fractions=acting_fractions)
    returns = context.returns

    def terms(inputs: TermInputs) -> Terms:
        params, target_params, online, target, batch, _, _ = inputs
        means, target_means = online.q.mean(-1), target.q.mean(-1)
        u = base.select(means, target_means, batch, returns.double_q)
        selected = base.choose(means, target_means, batch.view.avail, returns.double_q).selected
        now = mixer.hyper(params, base.steps(batch.view.state, slice(None, -1)))
        following = mixer.hyper(target_params, base.steps(batch.view.state, slice(1, None)))
        q_tot = mixer.mix(now, u.taken)
        values = join(base.take_wide(online.q[:-1], batch.actions), q_tot)  # [T, B, N]
        next_values = join(base.take_wide(target.q[1:], selected[1:]), mixer.mix(following, u.next))
        targets = target_quantiles(next_values, batch, returns)
        loss = returns.loss_factor * quantiles.huber_loss(values, online.extra[:-1], targets)
        one_step = base.one_step(next_values.mean(-1), batch, returns)
        return Terms(loss, q_tot, mixer.mix(now, u.greedy), targets.mean(-1), one_step, jnp.zeros(()), {})

    head = quantiles.Quantiles(fractions, acting_fractions)
    return Decomposition(head, mixer.init, mean_utilities, terms, export_scale=quantiles.mean_embedding)


def target_quantiles(next_values: jax.Array, batch: Batch, returns: Returns) -> jax.Array:
    """The returns of each quantile: next_values [T, B, N] to [T, B, N], without gradient.

    Source: IQN (ICML 2018): the Bellman update of each drawn quantile.
    """
    return jax.vmap(lambda value: base.targets(value, batch, returns), in_axes=-1, out_axes=-1)(next_values)
