"""GPVD's buckets in episodes of a trained team: protected joint actions and those that interfere with them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad import plots
from gpgrad.analysis import bucket_dump
from gpgrad.analysis.bucket_dump import BucketDump
from gpgrad.envs.api import Env, EnvParams
from gpgrad.envs.predator_prey.env import PredatorPrey
from gpgrad.errors import SettingError
from gpgrad.learning import iteration, rollout
from gpgrad.learning.learner import Parts
from gpgrad.runs import logs
from gpgrad.types import Clock, SeedState
from gpgrad.viz.render import scenes


def find(
    parts: Parts,
    clock: Clock,
    state: SeedState,
    key: jax.Array,
    episodes: int,
    eps: float,
    n_buckets: int,
    n_members: int,
) -> BucketDump:
    """The buckets with the most interference in epsilon-greedy episodes of one seed's team.

    If the run's visit counts are not available (`state` of a team alone), visits in these episodes are counted. Raises
    SettingError for other weightings.
    """
    bucket_dump.need_buckets(state)

    return _collect(parts, episodes, n_buckets, n_members, clock, state, key, jnp.float32(eps))


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _collect(
    parts: Parts,
    episodes: int,
    n_buckets: int,
    n_members: int,
    clock: Clock,
    state: SeedState,
    key: jax.Array,
    eps: jax.Array,
) -> BucketDump:
    collect = rollout.make_collect(parts.env, parts.agent, parts.decomposition)
    members = iteration.team(parts, state.params, state.sharing)
    k_world, k_act = jax.random.split(key)
    played = collect(jax.random.split(k_world, episodes), k_act, state.env_params, members, eps).episodes
    seen = iteration.visited(parts, state.env_params, played)
    counted = parts.weighting.record(state.weighting, clock, seen, played.valid.reshape(-1))
    known = clock.episodes > 0
    weighting = jax.tree.map(lambda old, new: jnp.where(known, old, new), state.weighting, counted)
    return bucket_dump.buckets_of(parts, clock, state._replace(weighting=weighting), played, n_buckets, n_members)


def as_rows(dump: BucketDump) -> list[dict[str, Any]]:
    """Buckets as JSON values, each with its protected transition first, then those that interfere with it."""
    dump = jax.tree.map(np.asarray, dump)

    def transition(k: int, m: int) -> dict[str, Any]:
        state = jax.tree.map(lambda leaf: leaf[k, m], dump.states)
        named = state._asdict() if hasattr(state, "_asdict") else {"state": state}
        return {
            "kind": "interfering" if m else "protected",
            "actions": dump.actions[k, m].tolist(),
            "td_error": float(dump.td_error[k, m]),
            "target": float(dump.target[k, m]),
            "step": int(dump.step[k, m]),
            "state": {name: logs.plain(leaf) for name, leaf in named.items() if leaf is not None},
        }

    return [
        {
            "visits": int(dump.visits[k]),
            "env_steps": int(dump.env_steps),
            "transitions": [transition(k, int(m)) for m in np.flatnonzero(dump.present[k])],
        }
        for k in map(int, np.flatnonzero(dump.present[:, 1:].any(-1)))
    ]


def picture(env: Env, params: EnvParams, dump: BucketDump, stem: Path) -> list[Path]:
    """Write STEM.png, .svg, .pdf and .csv of a dump with interference. Raises SettingError for other environments."""
    if not isinstance(env, PredatorPrey):
        raise SettingError(f"{env.spec.name} has no board; --picture needs a predator-prey environment")
    found = scenes.buckets(env, params, dump)
    stem.parent.mkdir(parents=True, exist_ok=True)
    return [*plots.save(plots.draw_buckets(found), stem), plots.write_buckets(found, stem)]
