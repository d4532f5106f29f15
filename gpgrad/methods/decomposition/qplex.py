"""QPLEX: duplex duelling, which can represent every joint value with individual-global-max (Wang et al. 2021)."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp

from gpgrad.methods.decomposition import base
from gpgrad.methods.decomposition.base import Decomposition
from gpgrad.methods.nets import qplex_mixer
from gpgrad.methods.nets.heads import Utilities
from gpgrad.types import Context, TermInputs, Terms

NUMERICS = 1


def make(
    context: Context, heads: int = 4, hypernet_embed: int = 64, adv_hypernet_layers: Literal[1, 2, 3] = 2
) -> Decomposition:
    """Q_tot = sum_i w_i(s) q_i + v_i(s) + (lambda_i(s, u) - 1) A_i, where the advantage A_i carries no gradient.

    heads: kernels that lambda is a sum of. hypernet_embed: width of hidden layers. adv_hypernet_layers: dense layers of
    the networks behind lambda.

    For weightings Q_tot is the value of the actions taken and its maximum that of the greedy ones, where all advantages
    are zero: exact, without a second network for lambda. As in the published code the target's advantages are measured
    from the target network's own maxima, and the attention and stop-gradient switches of its files, which it never
    reads, do not exist here.

    Since the advantages carry no gradient, punished joint actions pull utilities down until they tie while lambda
    grows: a table that it can represent, as that of `matrix_gpvd`, may take it more than 10,000 updates to learn.

    Source: QPLEX (ICLR 2021), with the stop-gradients of its code.
    """
    base.check_sizes(heads=heads, hypernet_embed=hypernet_embed)
    spec = context.spec
    mixer = qplex_mixer.duplex(
        spec.n_agents, spec.n_actions, hypernet_embed, heads, adv_hypernet_layers, context.net.init
    )

    def terms(inputs: TermInputs) -> Terms:
        params, target_params, online, target, batch, _, _ = inputs
        u = base.select(online.q, target.q, batch, context.returns.double_q)
        chosen = base.choose(online.q, target.q, batch.view.avail, context.returns.double_q).selected[1:]
        now = mixer.hyper(params, base.steps(batch.view.state, slice(None, -1)))
        following = mixer.hyper(target_params, base.steps(batch.view.state, slice(1, None)))
        next_max = jnp.where(batch.view.avail, target.q, -jnp.inf).max(-1)[1:]
        attention = mixer.attend(params, now, batch.actions)
        next_attention = mixer.attend(target_params, following, chosen)
        return base.td_terms(
            qplex_mixer.mix(now.w, now.v, attention, u.taken, u.greedy),
            qplex_mixer.mix_greedy(now.w, now.v, u.greedy),
            qplex_mixer.mix(following.w, following.v, next_attention, u.next, next_max),
            batch,
            context.returns,
        )

    return Decomposition(Utilities(), mixer.init, base.plain_utilities, terms)
