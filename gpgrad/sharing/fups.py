"""Full parameter sharing: one network for all agents, with or without a one-hot agent id in its input."""

from __future__ import annotations

from gpgrad.sharing.base import Sharing
from gpgrad.types import Context


def make(context: Context) -> Sharing:
    """FuPS: one network. Whether it sees the agent's id is the training preset's `agent.agent_id`."""
    return Sharing(
        net=context.net,
        init=lambda key, agent_params: (agent_params(key), ()),
        materialise=lambda params, state: params,
    )


def make_with_id(context: Context) -> Sharing:
    """FuPS+id: one network that always sees the agent's id, whatever the preset says."""
    return make(context._replace(net=context.net._replace(agent_id=True)))
