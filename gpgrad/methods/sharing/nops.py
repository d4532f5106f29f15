"""No parameter sharing: every agent has a network of its own."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gpgrad.methods.sharing.base import Sharing, own_key
from gpgrad.types import Context, PyTree

NUMERICS = 2


def make(context: Context) -> Sharing:
    """NoPS: all leaves have the leading axis A. Agent 0 starts as everybody does under full sharing.

    Source: NoPS of GradPS (ICML 2025), Section 6.1.
    """
    n_agents = context.spec.n_agents
    return Sharing(
        net=context.net,
        init=lambda key, agent_params: (independent(key, agent_params, n_agents), ()),
        per_agent_params=lambda params, state: params,
    )


def independent(key: jax.Array, agent_params: Callable[[jax.Array], PyTree], count: int) -> PyTree:
    """Sets of parameters drawn apart, leaves [count, ...]; the first is `agent_params(key)`."""
    others = jax.random.split(own_key(key), count - 1)
    return jax.vmap(agent_params)(jnp.concatenate([key[None], others]))
