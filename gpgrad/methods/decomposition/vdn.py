"""VDN: the joint value is the sum of utilities (Sunehag et al. 2018)."""

from __future__ import annotations

from gpgrad.methods.decomposition import base
from gpgrad.methods.decomposition.base import Decomposition
from gpgrad.methods.nets.heads import Utilities
from gpgrad.types import Context, TermInputs, Terms

NUMERICS = 1


def make(context: Context) -> Decomposition:
    """Q_tot = sum_i q_i; no parameters. Its maximum over joint actions is the sum of the agents' maxima.

    Source: VDN (AAMAS 2018).
    """

    def terms(inputs: TermInputs) -> Terms:
        _, _, online, target, batch, _, _ = inputs
        u = base.select(online.q, target.q, batch, context.returns.double_q)
        return base.td_terms(u.taken.sum(-1), u.greedy.sum(-1), u.next.sum(-1), batch, context.returns)

    return Decomposition(Utilities(), lambda key, state: {}, base.plain_utilities, terms)
