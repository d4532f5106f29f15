"""SNP-PS: one network, of which each agent uses a random part (Kim and Sung 2023)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gpgrad.errors import SettingError
from gpgrad.methods.sharing.base import Sharing, own_key
from gpgrad.types import Context, Gates, Metrics, NetSpec, PyTree

NUMERICS = 2


def make(context: Context, ratio: float = 0.2) -> Sharing:
    """Structured masks over the units of the dense layers before the GRU, drawn once per agent and never trained.

    ratio: the share of units an agent goes without; RMIX's lagging path has all. The paper's own output masks would
    forbid actions and stay out.

    Source: SNP-PS (AAAI 2023).
    """
    check_ratio(ratio)
    n_agents = context.spec.n_agents

    def init(key: jax.Array, agent_params: Callable[[jax.Array], PyTree]) -> tuple[PyTree, Gates]:
        return agent_params(key), draw_masks(own_key(key), context.net, n_agents, ratio)

    def report(params: PyTree, state: Gates) -> Metrics:
        del params
        return {"live_units": jnp.stack(jax.tree.leaves(state)).mean()}

    return Sharing(
        net=context.net,
        init=init,
        per_agent_params=lambda params, state: params,
        gates=lambda state: state,
        report=report,
    )


def check_ratio(ratio: float) -> None:
    """Raise SettingError unless some units stay."""
    if not 0 <= ratio < 1:
        raise SettingError(f"sharing.ratio must be at least 0 and less than 1 (got {ratio})")


def draw_masks(key: jax.Array, net: NetSpec, count: int, ratio: float) -> Gates:
    """`count` masks float32 [count, N] of zeros and ones, or a tuple of these where there are more layers than one.

    A unit is missing with probability `ratio`; each mask keeps at least one.

    Source: SNP-PS (AAAI 2023), structured masks over hidden units.
    """

    def draw(key: jax.Array) -> jax.Array:
        scores = jax.random.uniform(key, (count, net.hidden))
        kept = (scores >= ratio) | (scores == scores.max(-1, keepdims=True))
        return kept.astype(jnp.float32)

    masks = tuple(draw(k) for k in jax.random.split(key, net.layers))
    return masks[0] if net.layers == 1 else masks
