"""QMIX: a monotone mix of utilities with weights from the state (Rashid et al. 2018)."""

from __future__ import annotations

from typing import Literal

from gpgrad.methods.decomposition import base
from gpgrad.methods.decomposition.base import Decomposition
from gpgrad.methods.nets import mixers
from gpgrad.methods.nets.heads import Utilities
from gpgrad.types import Context, TermInputs, Terms

NUMERICS = 1


def make_mixer(
    context: Context, embed: int, hypernet_embed: int, hypernet_layers: int, positive: mixers.Positive
) -> mixers.Mixer:
    """QMIX's mixer from the settings that all decompositions with it share. Raises SettingError."""
    base.check_sizes(embed=embed, hypernet_embed=hypernet_embed)
    return mixers.qmix(context.spec.n_agents, embed, hypernet_embed, hypernet_layers, positive, context.net.init)


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

    Source: QMIX (ICML 2018).
    """
    mixer = make_mixer(context, embed, hypernet_embed, hypernet_layers, positive)

    def hyper(params, view) -> mixers.MixWeights:
        return mixer.hyper(params, view.state)

    def terms(inputs: TermInputs) -> Terms:
        return base.mixed_terms(inputs, context.returns, hyper, mixer.mix)

    return Decomposition(Utilities(), mixer.init, base.plain_utilities, terms)
