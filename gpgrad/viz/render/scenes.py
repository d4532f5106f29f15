"""Scenes of predator-prey for `plots.board`: states, joint actions and their outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.predator_prey.env import Draws, Outcome, PredatorPrey, PredatorPreyParams, PredatorPreyState
from gpgrad.plots.board import Outcomes, Scene
from gpgrad.plots.buckets import Bucket, Member
from gpgrad.types import PyTree


def scene(
    env: PredatorPrey,
    params: PredatorPreyParams,
    state: PredatorPreyState,
    groups: np.ndarray,
    actions: np.ndarray | None = None,
) -> Scene:
    """The scene of a state. groups: int [A]. actions: int [A]; those of inactive predators are not shown."""
    prey, alive = np.asarray(state.prey), np.asarray(state.alive)
    is_stag = np.arange(env.n_prey) < env.n_stags
    return Scene(
        height=env.height,
        width=env.width,
        predators=np.asarray(state.agents),
        active=np.asarray(state.active),
        special=np.asarray(params.special),
        groups=groups,
        stags=prey[is_stag & alive],
        hares=prey[~is_stag & alive],
        actions=actions,
    )


def outcomes(
    env: PredatorPrey, params: PredatorPreyParams, state: PredatorPreyState, actions: np.ndarray, key: jax.Array
) -> Outcomes:
    """The outcomes of a step with this random key, at the cells of the prey before it."""
    draws, found = _settle(env, key, state, jnp.asarray(actions))
    order, prey, special = (np.asarray(x) for x in (draws.prey_order, state.prey, params.special))
    caught, lone = {}, {}
    for turn, tried in enumerate(np.asarray(found.catchers)):
        cell = tuple(int(x) for x in prey[order[turn]])
        if bool(found.captured[turn]):
            caught[cell] = f"{env.price(order[turn] < env.n_stags, bool((tried & special).any())):+g}"
        elif tried.any():
            lone[cell] = f"{env.penalty:+g}" if env.penalty else ""
    return Outcomes(caught, lone)


@partial(jax.jit, static_argnums=0)
def _settle(env: PredatorPrey, key: jax.Array, state: PredatorPreyState, actions: jax.Array) -> tuple[Draws, Outcome]:
    draws = env.draws(key)
    return draws, env.outcome(state, actions, draws)


def buckets(env: PredatorPrey, params: PredatorPreyParams, dump: PyTree) -> list[Bucket]:
    """Buckets of a `bucket_dump.BucketDump`, without those of which nothing is known."""
    groups = np.zeros(env.n_agents, int)
    dump = jax.tree.map(np.asarray, dump)

    def member(k: int, m: int) -> Member:
        state = jax.tree.map(lambda leaf: leaf[k, m], dump.states)
        drawn = scene(env, params, state, groups, dump.actions[k, m])
        return Member(drawn, float(dump.td_error[k, m]), float(dump.target[k, m]), int(dump.step[k, m]))

    def bucket(k: int) -> Bucket:
        others: Sequence[int] = np.flatnonzero(dump.present[k, 1:]) + 1  # type: ignore[assignment]
        return Bucket(member(k, 0), [member(k, m) for m in others], int(dump.visits[k]))

    return [bucket(int(k)) for k in np.flatnonzero(dump.present[:, 1:].any(-1))]
