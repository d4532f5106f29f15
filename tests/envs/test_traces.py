"""Recorded episodes of the reference predator-prey, replayed with the recorded random draws, bit for bit."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad.envs.api import Step
from gpgrad.envs.predator_prey.env import Draws, Outcome, PredatorPrey, PredatorPreyState

DATA = Path(__file__).parents[1] / "data"
TRACES = ("small", "gpvd_p2", "dense")
EVENTS = {  # captured stags, captured hares, catches in vain, freezes
    "small": (14, 37, 190, 0),
    "gpvd_p2": (26, 0, 465, 55),
    "dense": (53, 79, 356, 0),
}


class Trace(NamedTuple):
    """rows: states [R]; before, after: the row of each transition's start and end [N]."""

    env: PredatorPrey
    raw: dict[str, np.ndarray]
    rows: PredatorPreyState
    before: np.ndarray
    after: np.ndarray
    draws: Draws


@functools.cache
def load(name: str) -> Trace:
    with np.load(DATA / f"stag_hunt_trace_{name}.npz") as file:
        raw = dict(file)
    args = json.loads(str(raw["meta"]))["env_args"]
    height, width = (int(side) for side in raw["grid_shape"])
    env = PredatorPrey(
        height=height,
        width=width,
        n_agents=raw["actions"].shape[1],
        n_special=len(raw["hunts"]),
        n_stags=int(raw["n_stags"]),
        n_hares=int(raw["n_hare"]),
        view_radius=int(raw["agent_obs"][0]),
        episode_limit=args["episode_limit"],
        penalty=float(args["miscapture_punishment"]),
        freeze=args["capture_freezes"],
        stag_reward=float(args["reward_stag"]),
        hare_reward=float(args["reward_hare"]),
        special_ids=",".join(str(agent) for agent in raw["hunts"]),
    )
    lengths = raw["ep_len"]
    time = np.concatenate([np.arange(length + 1) for length in lengths])
    last = np.cumsum(lengths + 1) - 1
    before = np.setdiff1d(np.arange(len(time)), last)
    columns = ("agents_pos", "prey_pos", "agents_active", "prey_alive")
    rows = PredatorPreyState(*(raw[column] for column in columns), time.astype(np.int16))
    choice = np.maximum(raw["prey_choice_idx"], 0)
    draws = Draws(*(np.asarray(x, np.int32) for x in (raw["perm_agents"], raw["perm_prey"], choice)))
    return Trace(env, raw, rows, before, before + 1, draws)


def by_turn(column: np.ndarray, trace: Trace) -> np.ndarray:
    """A column by prey id [N, P] in the order of the turns."""
    return np.take_along_axis(column, trace.draws.prey_order, axis=1)


def pick(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def assert_trees_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(actual), jax.device_get(expected))


def params_of(trace: Trace):
    return trace.env.params(jax.random.key(0))


@functools.cache
def replay(name: str) -> tuple[Step, Outcome]:
    """One step ahead from every row, [N]."""
    trace = load(name)

    def both(state, actions, draws):
        params = params_of(trace)
        return trace.env.transition(params, state, actions, draws), trace.env.outcome(state, actions, draws)

    given = pick(trace.rows, trace.before), trace.raw["actions"], trace.draws
    return jax.device_get(jax.jit(jax.vmap(both))(*given))


@pytest.mark.parametrize("name", TRACES)
def test_one_step_from_every_row(name):
    trace = load(name)
    step, outcome = replay(name)
    expected = pick(trace.rows, trace.after)
    assert_trees_equal(step.state, expected)
    np.testing.assert_array_equal(step.reward, trace.raw["reward"])
    truly = ~expected.alive.any(1) | ~expected.active.any(1)
    np.testing.assert_array_equal(step.terminated, truly)
    np.testing.assert_array_equal(step.truncated, trace.raw["info_episode_limit"] & ~truly)
    np.testing.assert_array_equal(step.terminated | step.truncated, trace.raw["terminated"])

    stags, hares, lone, freezes = EVENTS[name]
    lost = pick(trace.rows, trace.before).active & ~step.state.active
    assert (step.info["stags"].sum(), step.info["hares"].sum(), lost.sum()) == (stags, hares, freezes)
    assert (outcome.catchers.any(-1) & ~outcome.captured).sum() == lone


@pytest.mark.parametrize("name", TRACES)
def test_captures_and_free_cells(name):
    trace = load(name)
    outcome = replay(name)[1]
    np.testing.assert_array_equal(outcome.captured, by_turn(trace.raw["captured"], trace))
    np.testing.assert_array_equal(outcome.free, by_turn(np.maximum(trace.raw["prey_choice_k"], 0), trace))


@pytest.mark.parametrize("name", TRACES)
def test_views_of_every_row(name):
    trace = load(name)
    spec, n_rows = trace.env.spec, len(trace.rows.time)
    view = jax.jit(jax.vmap(trace.env.view, (None, 0)))(params_of(trace), trace.rows)
    seen = np.unpackbits(trace.raw["obs_bits"], axis=1, count=spec.n_agents * spec.obs_dim)
    board = np.unpackbits(trace.raw["state_bits"], axis=1, count=spec.state_dim)
    np.testing.assert_array_equal(view.obs, seen.reshape(n_rows, spec.n_agents, spec.obs_dim))
    np.testing.assert_array_equal(view.state.dense(), board)
    np.testing.assert_array_equal(view.avail, trace.raw["avail"])


@pytest.mark.parametrize("name", TRACES)
def test_whole_episodes_run_free(name):
    """From each first row, every later state comes from the last one computed."""
    trace = load(name)
    lengths = trace.raw["ep_len"]
    longest, firsts = int(lengths.max()), np.cumsum(lengths + 1) - lengths - 1
    starts = np.cumsum(lengths) - lengths  # the first transition of each episode
    at = np.minimum(starts[:, None] + np.arange(longest), len(trace.before) - 1)  # [E, T]

    def run(state, actions, draws):
        def step(state, now):
            after = trace.env.transition(params_of(trace), state, *now)
            return after.state, (after.state, after.reward, after.terminated | after.truncated)

        return jax.lax.scan(step, state, (actions, draws))[1]

    start = trace.env.reset_from_cells(jnp.zeros(trace.env.n_agents + trace.env.n_prey, jnp.int32))
    assert bool(start.active.all() & start.alive.all() & (start.time == 0))
    state, reward, ended = jax.jit(jax.vmap(run))(
        pick(trace.rows, firsts), trace.raw["actions"][at], pick(trace.draws, at)
    )
    played = np.arange(longest) < lengths[:, None]  # [E, T]
    assert_trees_equal(pick(state, played), pick(trace.rows, trace.after))
    np.testing.assert_array_equal(np.asarray(reward)[played], trace.raw["reward"])
    np.testing.assert_array_equal(np.asarray(ended)[played], trace.raw["terminated"])


@pytest.mark.parametrize("name", TRACES)
def test_start_rows_come_from_their_cells(name):
    trace = load(name)
    first = pick(trace.rows, 0)
    positions = np.concatenate([first.agents, first.prey]).astype(int)
    cells = positions[:, 0] * trace.env.width + positions[:, 1]
    assert_trees_equal(trace.env.reset_from_cells(jnp.asarray(cells)), first)
