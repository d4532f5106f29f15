"""Parameter counts: trained parameters, those in use, and the counts of GradPS (ICML 2025), Tables 12 and 13.

Tables 12 and 13 of the paper follow its code, dead layers included. `paper_agents` and `paper_mixer` are those counts,
found by fitting every cell of both tables; they say nothing of what we train.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from gpgrad.config.schema import Config
from gpgrad.envs import checking
from gpgrad.learning.compose import compose, example_view
from gpgrad.methods.nets.agent import count, input_size

METHODS = ("FuPS", "GradPS", "FuPS+id", "SNP", "SePS", "NoPS", "Kaleidoscope")
_MEBI = 2**20 / 10**6  # Table 13's column for NoPS is larger by this factor


class Sizes(NamedTuple):
    """Inputs of the paper's counts. inputs: of one agent, without an id. state: of the mixer. groups: K."""

    agents: int
    inputs: int
    actions: int
    state: int
    groups: int
    hidden: int = 64
    embed: int = 64
    hypernet: int = 64


class Row(NamedTuple):
    """A row of counts: parameters of the agents and of the decomposition."""

    what: str
    agents: int
    decomposition: int


def account(config: Config) -> list[Row]:
    """Parameters of a configuration: trainable, used once all neurons are cloned, used at the start."""
    checking.refuse_named(config.env.name, config.env.options)
    parts = compose(config)
    key, state = jax.random.key(0), example_view(parts.env).state
    agents, sharing = jax.jit(lambda: parts.sharing.init(key, parts.agent.init))()
    mixer = count(jax.eval_shape(lambda: parts.decomposition.init(key, state)))
    trained = count(agents)
    used = int(np.asarray(parts.sharing.report(agents, sharing).get("effective_params", trained)))
    return [
        Row("trainable", trained, mixer),
        Row("in use, all neurons cloned", trained, mixer),  # all allocated parameters can be used
        Row("in use, at the start", used, mixer),
    ]


def sizes(config: Config) -> Sizes:
    """The sizes of a configuration's environment and networks."""
    parts, mixer = compose(config), config.decomposition.options
    spec, net = parts.env.spec, parts.sharing.net._replace(agent_id=False)
    return Sizes(
        spec.n_agents,
        input_size(spec, net),
        spec.n_actions,
        spec.state_dim,
        config.sharing.options.get("k") or 1,
        config.agent.hidden,
        mixer.get("embed", Sizes._field_defaults["embed"]),
        mixer.get("hypernet_embed", Sizes._field_defaults["hypernet"]),
    )


def paper_agents(method: str, s: Sizes) -> int:
    """Agent parameters as counted in the paper. method: one of `METHODS`."""
    width, ones = s.hidden, s.agents * s.hidden  # all but two methods of the code train a layer of ones
    first, head = linear(s.inputs, width), linear(width, s.actions)
    recurrent = 6 * width * (width + 1)
    plain = 2 * first + recurrent + head  # the code has the first layer twice, once unused
    masked = 2 * first + recurrent + head + ones
    return {
        "FuPS": plain + ones,
        "FuPS+id": 2 * linear(s.inputs + s.agents, width) + recurrent + head + ones,
        "GradPS": plain + ones + s.groups * (ones + width * s.inputs),
        "SNP": masked + width * s.inputs + ones + width * s.actions + s.agents * s.actions,
        "SePS": s.groups * plain,
        "NoPS": s.agents * plain,
        "Kaleidoscope": first
        + recurrent
        + 2 * linear(width, width)
        + head
        + 3 * (width * s.inputs + 2 * width**2 + width * s.actions)
        + ones,
    }[method]


def paper_mixer(s: Sizes) -> int:
    """QMIX's parameters: four hypernetworks, two of them with a hidden layer."""
    mixing = linear(s.state, s.hypernet) + linear(s.hypernet, s.agents * s.embed)
    final = linear(s.state, s.hypernet) + linear(s.hypernet, s.embed)
    return mixing + final + 2 * linear(s.state, s.embed) + linear(s.embed, 1)


def paper_percent(method: str, s: Sizes) -> tuple[float, float]:
    """Percent of FuPS as in Table 13 (agents) and Table 12 (with the mixer)."""
    mine, reference, mixer = paper_agents(method, s), paper_agents("FuPS", s), paper_mixer(s)
    alone = 100 * mine / reference * (_MEBI if method == "NoPS" else 1.0)
    return alone, 100 * (mine + mixer) / (reference + mixer)


def linear(n_in: int, n_out: int) -> int:
    """Parameters of a dense layer with bias."""
    return (n_in + 1) * n_out
