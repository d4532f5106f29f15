"""Both forms of the moves, turns and rounds, agree to the bit: on recordings, random boards and crowded boards."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpgrad.envs import registry
from gpgrad.envs.predator_prey.env import N_ACTIONS, Draws, PredatorPreyState
from gpgrad.envs.predator_prey.moves import BY_PLATFORM, ROUNDS, TURNS
from tests.envs.test_traces import TRACES, assert_trees_equal, load, pick, replay
from tests.helpers.small_boards import predator_prey

BOARDS = {
    "crowded": predator_prey(5, 4, 3, height=4, width=4),
    "crowded, freezing": predator_prey(5, 4, 3, height=4, width=4, freeze=True),
    "a row": predator_prey(4, 4, 4, height=1, width=14, freeze=True),
    "predators": predator_prey(9, 1, height=4, width=4),
    "one of each": predator_prey(1, 1, height=2, width=2),
    "pp_large": registry.make("pp_large"),
    "pp_p2": registry.make("pp_p2"),
}
BATCH = 128


@functools.cache
def forms(name: str):
    env = BOARDS[name]
    both = jax.vmap(lambda *args: (env.outcome(*args, moves=TURNS), env.outcome(*args, moves=ROUNDS)))
    return jax.jit(both)


def sample(env, rng: np.random.Generator):
    """States [BATCH], actions and draws; any predators are frozen and any prey captured.

    In half of them units fill rows without gaps; in half of these, predators all do the same, so that each wants
    the cell of the next; and in a third of all, units move in the order of their ids or in the opposite one.
    """
    n, m = env.n_agents, env.n_prey
    cells = np.stack([rng.permutation(env.height * env.width)[: n + m] for _ in range(BATCH)])
    rows = rng.random((BATCH, 1)) < 0.5
    cells = np.where(rows, (cells[:, :1] + np.arange(n + m)) % (env.height * env.width), cells)
    at = np.stack([cells // env.width, cells % env.width], -1).astype(np.int8)
    gone = rng.random((BATCH, 1)) * rng.integers(0, 2, (BATCH, 1))
    active = (rng.random((BATCH, n)) >= gone) | (not env.freeze)
    alive = rng.random((BATCH, m)) >= gone
    columns = (at[:, :n], at[:, n:], active, alive, np.zeros(BATCH, np.int16))
    state = PredatorPreyState(*(jnp.asarray(column) for column in columns))
    alike = rows & (rng.random((BATCH, 1)) < 0.5)
    actions = rng.integers(0, N_ACTIONS, (BATCH, n))
    actions = np.where(alike, actions[:, :1], actions).astype(np.int32)
    choice = rng.integers(0, 12, (BATCH, m)).astype(np.int32)
    return state, actions, Draws(*(jnp.asarray(x) for x in (orders(n, rng), orders(m, rng), choice)))


def orders(size: int, rng: np.random.Generator) -> np.ndarray:
    """Orders of turns [BATCH, size]."""
    ids = np.arange(size)
    kinds = rng.integers(0, 6, BATCH)
    drawn = [ids if kind == 0 else ids[::-1] if kind == 1 else rng.permutation(size) for kind in kinds]
    return np.stack(drawn).astype(np.int32)


@pytest.mark.parametrize("name", BOARDS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_rounds_equal_turns_on_random_boards(name, seed):
    assert_trees_equal(*forms(name)(*sample(BOARDS[name], np.random.default_rng(seed))))


@pytest.mark.parametrize("name", TRACES)
def test_rounds_equal_the_recordings(name):
    trace = load(name)
    rounds = jax.jit(jax.vmap(lambda *args: trace.env.outcome(*args, moves=ROUNDS)))
    states = pick(trace.rows, trace.before)
    assert_trees_equal(rounds(states, trace.raw["actions"], trace.draws), replay(name)[1])


@pytest.mark.parametrize(("platform", "loops"), [("cpu", 2), ("cuda", 1), ("tpu", 1)])
def test_the_platform_chooses_the_form(platform, loops):
    """Two loops over turns, or one over rounds of prey."""
    env = BOARDS["crowded"]
    state, actions, draws = pick(sample(env, np.random.default_rng(0)), 0)
    traced = jax.jit(lambda *args: env.outcome(*args, moves=BY_PLATFORM)).trace(state, actions, draws)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.while") == loops
