"""AdaPS: one network, of which similar agents use the same random part (Li et al. 2024).

Only the paper's summary is public; this is SNP-PS whose masks are shared inside the groups that SePS finds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from gpgrad.methods.sharing import agent_embedding
from gpgrad.methods.sharing.agent_embedding import Draw, Groups, Settings
from gpgrad.methods.sharing.base import Fit, Sharing, own_key
from gpgrad.methods.sharing.snp import check_ratio, draw_masks
from gpgrad.types import Context, Gates, PyTree

NUMERICS = 3


class State(NamedTuple):
    """groups: of agents. masks: float32 [K, N], or a tuple of these, one for each group."""

    groups: Groups
    masks: Gates


def make(
    context: Context,
    k: int | None = 3,
    episodes: int = 400,
    epochs: int = 10,
    batch: int = 128,
    ratio: float = 0.2,
) -> Sharing:
    """All agents act through the first mask until the groups are known; a team trained further keeps its groups.

    k, episodes, epochs, batch: see `agent_embedding.Settings`. ratio: the share of units that a mask hides.

    Source: AdaPS (ICASSP 2024), from its abstract.
    """
    settings, spec = Settings(k, episodes, epochs, batch), context.spec
    agent_embedding.check(settings)
    check_ratio(ratio)
    count = agent_embedding.most_groups(settings, spec.n_agents)

    def init(key: jax.Array, agent_params: Callable[[jax.Array], PyTree]) -> tuple[PyTree, State]:
        masks = draw_masks(own_key(key), context.net, count, ratio)
        return agent_params(key), State(agent_embedding.nobody(spec.n_agents), masks)

    def fit(
        key: jax.Array, params: PyTree, moments: list[PyTree], state: State, draw: Draw
    ) -> tuple[PyTree, list[PyTree], State]:
        groups = agent_embedding.find(key, spec, settings, draw)
        return params, moments, state._replace(groups=agent_embedding.first_known(state.groups, state.groups, groups))

    return Sharing(
        net=context.net,
        init=init,
        per_agent_params=lambda params, state: params,
        gates=lambda state: jax.tree.map(lambda masks: masks[state.groups.of], state.masks),
        report=lambda params, state: agent_embedding.describe(state.groups),
        fit=Fit(episodes, fit),
    )
