"""Qatten: utilities weighted by attention heads on the state and the agents' own features (Yang et al. 2020)."""

from __future__ import annotations

import jax

from gpgrad.methods.decomposition import base
from gpgrad.methods.decomposition.base import Decomposition
from gpgrad.methods.nets import attention
from gpgrad.methods.nets.heads import Utilities
from gpgrad.types import Context, TermInputs, Terms

NUMERICS = 1


def make(context: Context, heads: int = 4, embed: int = 32, hypernet_embed: int = 64) -> Decomposition:
    """Q_tot = sum_h w_h(s) sum_i alpha_hi q_i + c(s), with alpha a softmax over agents and w >= 0.

    heads: of attention. embed: width of queries and keys. hypernet_embed: width of hidden layers on the state. Keys are
    made of each agent's own slice of the state, or of its observation where states have no such slices.

    For weightings Q_tot is the value of the actions taken; its maximum, exact because Q_tot is monotone, that of the
    greedy ones.

    Source: Qatten (Yang et al., 2020), the weighted variant.
    """
    base.check_sizes(heads=heads, embed=embed, hypernet_embed=hypernet_embed)
    spec = context.spec
    mixer = attention.attention(spec.own_state_dim or spec.obs_dim, heads, embed, hypernet_embed, context.net.init)

    def own_features(view) -> jax.Array:  # [..., A, n_own]
        if not spec.own_state_dim:
            return view.obs
        own = view.state[..., : spec.n_agents * spec.own_state_dim]
        return own.reshape(*own.shape[:-1], spec.n_agents, spec.own_state_dim)

    def hyper(params, view) -> attention.AttentionWeights:
        return mixer.hyper(params, view.state, own_features(view))

    def terms(inputs: TermInputs) -> Terms:
        return base.mixed_terms(inputs, context.returns, hyper, attention.mix)

    return Decomposition(Utilities(), mixer.init, base.plain_utilities, terms)
