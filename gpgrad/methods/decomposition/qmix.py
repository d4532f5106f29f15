"""QMIX: a monotone mix of utilities with weights from the state (Rashid et al. 2018)."""

from __future__ import annotations

from typing import Literal

from gpgrad.methods.decomposition import base
from gpgrad.methods.decomposition.base import Decomposition
from gpgrad.methods.nets import mixers
from gpgrad.types import Context, HeadSpec, Terms

NUMERICS = 1


def make(
    context: Context,
    embed: int = 32,
    hypernet_embed: int = 64,
    hypernet_layers: Literal[1, 2] = 2,
    positive: mixers.Positive = "abs",
) -> Decomposition:
    """Q_tot = ELU(q |W1(s)| + b1(s)) |W2(s)| + V(s).

    hypernet_layers: dense layers of the hypernetworks.
    embed: width E of the mixing layer. hypernet_embed: width of the hypernetworks' hidden layer, used when
    hypernet_layers is 2; with 1 they are linear. positive: what makes the mixing weights non-negative.
    """
    base.check_sizes(embed=embed, hypernet_embed=hypernet_embed)
    mixer = mixers.qmix(context.spec.n_agents, embed, hypernet_embed, hypernet_layers, positive, context.net.init)

    def terms(params, target_params, online, target, batch, clock, key) -> Terms:
        del clock, key
        u = base.select(online.q, target.q, batch, context.returns.double_q)
        now = mixer.hyper(params, base.steps(batch.view.state, slice(None, -1)))
        following = mixer.hyper(target_params, base.steps(batch.view.state, slice(1, None)))
        return base.td_terms(
            mixer.mix(now, u.taken),
            mixer.mix(now, u.greedy),
            mixer.mix(following, u.next),
            batch,
            context.returns,
        )

    return Decomposition(HeadSpec(), mixer.init, base.plain_utilities, terms)
