"""A trained team as pure functions that act, without replay, learner or environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs.api import EnvSpec
from gpgrad.learning import rollout
from gpgrad.policies import bundled, load
from gpgrad.policies.trained import TrainedTeam
from gpgrad.types import PyTree


class Carry(NamedTuple):
    """What agents remember of N episodes. agents: as the network keeps it. last: int32 [N, A], -1 before the first."""

    agents: PyTree
    last: jax.Array


class Policy(NamedTuple):
    """One seed's team. init and act are pure and work under `jax.jit`, for N environments at once.

    spec: sizes of the environment it was trained in. env, params: that environment and what its seed drew in it, such
    as hidden roles. card: where the team comes from, see `gpgrad.policies.card`.
    init(n) -> Carry of n environments at the start of their episodes.
    act(carry, obs float32 [N, A, O], avail bool [N, A, U], key=None, epsilon=0.0) -> (actions int32 [N, A], carry).
        Greedy unless epsilon is more than 0, which needs a key; so do heads that draw quantiles (`dmix`, `ddn`), which
        without one draw the same every time.
    """

    spec: EnvSpec
    init: Callable[[int], Carry]
    act: Callable[..., tuple[jax.Array, Carry]]
    env: Any = None
    params: PyTree = None
    card: Mapping[str, Any] = {}


def load_policy(run: str | Path, seed: int | None = None) -> Policy:
    """The policy that a finished run trained; `seed` is one of the run's, by default its first.

    Raises SettingError for a folder that holds no finished run and a seed that it does not have.
    """
    return make_policy(load.load_team(Path(run), seed, finished=True))


def load_team(source: str | Path, seed: int | None = None, best: bool = False) -> Policy:
    """The policy of any trained team.

    source: "team:NAME" for a team of the package, a file that `gpgrad export --for gpgrad` wrote, or the folder of a
    run, of which an unfinished one gives the team of its newest checkpoint. seed: one of the run's, by default its
    first. best: the team of the best test, where the run has kept it. Raises SettingError where there is no such team.
    """
    text = str(source)
    path = bundled.find(text.removeprefix(bundled.PREFIX)) if text.startswith(bundled.PREFIX) else Path(source)
    return make_policy(load.load_team(path, seed, best=best))


def make_policy(team: TrainedTeam) -> Policy:
    """The functions of a team."""
    parts, members = team.parts, team.members
    agent, decomposition, spec = parts.agent, parts.decomposition, parts.env.spec

    def init(n: int) -> Carry:
        return Carry(agent.start(n), jnp.full((n, spec.n_agents), -1, jnp.int32))

    def act(
        carry: Carry, obs: jax.Array, avail: jax.Array, key: jax.Array | None = None, epsilon: float | jax.Array = 0.0
    ) -> tuple[jax.Array, Carry]:
        k_agent, k_utility, k_choice = jax.random.split(jax.random.key(0) if key is None else key, 3)
        out = agent.step(members.params, members.gates, obs, carry.last, carry.agents, k_agent)
        utilities = decomposition.utilities(members.decomposition, out, k_utility)
        actions = rollout.choose(k_choice, utilities, avail, jnp.asarray(epsilon))
        return actions, Carry(out.carry, actions)

    return Policy(spec, init, act, parts.env, team.actor.env_params, team.card)
