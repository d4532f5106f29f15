"""Full parameter sharing: one network for all agents, with or without a one-hot agent id in its input."""

from __future__ import annotations

from gpgrad.errors import SettingError
from gpgrad.methods.nets.agent import input_size
from gpgrad.methods.sharing.base import Sharing
from gpgrad.types import Context, NetSpec

NUMERICS = 1


def make(context: Context) -> Sharing:
    """FuPS: one network, which never sees the agent's id.

    Source: FuPS of GradPS (ICML 2025), Section 6.1.
    """
    return _shared(context.net._replace(agent_id=False))


def make_with_id(context: Context) -> Sharing:
    """FuPS+id: one network that always sees the agent's id.

    Source: FuPS+id of GradPS (ICML 2025), Section 6.1.
    """
    return _shared(context.net._replace(agent_id=True))


def make_deep(context: Context) -> Sharing:
    """FuPS with two more layers between GRU and head, the network that Kaleidoscope was made for.

    Source: the network 1R3 of Kaleidoscope's code (NeurIPS 2024).
    """
    return _shared(context.net._replace(after=2))


def make_wide(context: Context, k: int = 3) -> Sharing:
    """FuPS with as many parameters as k clones of the whole first layer bring: a wider network.

    Counted is a network with a number per action. Where a decomposition has more that is as wide as it (heads of
    atoms, RMIX's lagging path, WQMIX's central agents, QTRAN's joint network) that grows too.

    Source: a control of this project for GradPS (ICML 2025): as many parameters, no clones.
    """
    if k < 1:
        raise SettingError(f"sharing.k must be at least 1 (got {k})")
    spec, net = context.spec, context.net
    inputs = input_size(spec, net)
    wanted = size(net, inputs, spec.n_actions) + (min(k, spec.n_agents) - 1) * net.hidden * (inputs + 1)

    def miss(width: int) -> int:
        return abs(size(net._replace(hidden=width), inputs, spec.n_actions) - wanted)

    # The recurrent part alone grows with the square of the width, so the width sought is below this.
    width = min(range(net.hidden, 2 + int((wanted / 6) ** 0.5)), key=miss)
    return _shared(net._replace(hidden=width))


def _shared(net: NetSpec) -> Sharing:
    return Sharing(
        net=net,
        init=lambda key, agent_params: (agent_params(key), ()),
        per_agent_params=lambda params, state: params,
    )


def size(net: NetSpec, n_inputs: int, n_outputs: int) -> int:
    """Number of parameters of one agent network: dense layers, a GRU with six biases per unit, a head.

    Source: GradPS (ICML 2025), Table 12 and Table 13 count them.
    """
    width = net.hidden
    dense = (n_inputs + 1) * width + (net.layers - 1 + net.after) * (width + 1) * width
    return dense + 6 * width * (width + 1) + (width + 1) * n_outputs
