"""SePS: agents that are alike share a network, found once early in the run (Christianos et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from gpgrad.methods.sharing import agent_embedding
from gpgrad.methods.sharing.agent_embedding import Draw, Groups, Settings
from gpgrad.methods.sharing.base import Fit, Sharing
from gpgrad.methods.sharing.nops import independent
from gpgrad.types import Context, Metrics, PyTree

NUMERICS = 3

Start = Literal["copy", "fresh"]


def make(
    context: Context,
    k: int | None = 3,
    episodes: int = 400,
    epochs: int = 10,
    batch: int = 128,
    start: Start = "copy",
) -> Sharing:
    """K sets of parameters, leaves [K, ...]; all agents train set 0 until the groups are known. A team trained further
    keeps the groups it has.

    k, episodes, epochs, batch: see `agent_embedding.Settings`. start: the other sets begin as copies of the first,
    optimiser slots included, or `fresh` from weights of their own, as in the published code.

    Source: SePS (ICML 2021).
    """
    settings, spec = Settings(k, episodes, epochs, batch), context.spec
    agent_embedding.check(settings)
    count = agent_embedding.most_groups(settings, spec.n_agents)

    def per_agent_params(params: PyTree, state: Groups) -> PyTree:
        if count == 1:
            return jax.tree.map(lambda leaf: leaf[0], params)
        chosen = jax.nn.one_hot(state.of, count)  # [A, K]
        return jax.tree.map(lambda leaf: jnp.tensordot(chosen, leaf, 1), params)

    def fit(
        key: jax.Array, params: PyTree, moments: list[PyTree], state: Groups, draw: Draw
    ) -> tuple[PyTree, list[PyTree], Groups]:
        found = params, moments, agent_embedding.find(key, spec, settings, draw)
        if start == "copy":
            alike = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape), (params, moments))
            found = *alike, found[-1]
        return agent_embedding.first_known(state, (params, moments, state), found)

    def report(params: PyTree, state: Groups) -> Metrics:
        size = sum(leaf.size for leaf in jax.tree.leaves(params)) // count
        used = (state.of == jnp.arange(count)[:, None]).any(-1).sum()
        return {**agent_embedding.describe(state), "effective_params": used * size}

    def init(key: jax.Array, agent_params: Callable[[jax.Array], PyTree]) -> tuple[PyTree, Groups]:
        return independent(key, agent_params, count), agent_embedding.nobody(spec.n_agents)

    return Sharing(
        net=context.net,
        init=init,
        per_agent_params=per_agent_params,
        report=report,
        fit=Fit(episodes, fit),
    )
