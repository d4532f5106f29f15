"""Seeds, chunks and the two traps that make a vmapped learner slow without being wrong."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad.learning import initial
from gpgrad.learning.compose import compose
from gpgrad.learning.initial import make_init
from gpgrad.learning.iteration import make_chunk
from gpgrad.learning.program import actors
from tests.helpers.probe_envs import Probe
from tests.helpers.tiny_runs import one_seed, start, tiny


def leaves_equal(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


def count_primitives(jaxpr, name: str) -> int:
    """How often a primitive occurs, also within others; branches by platform, of which one is lowered, do not count."""
    total, platforms = 0, set()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "platform_index":
            platforms.update(map(id, equation.outvars))
        total += equation.primitive.name == name and id(equation.invars[0]) not in platforms
        for value in equation.params.values():
            for inner in jax.tree.leaves(value, is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    total += count_primitives(inner, name)
    return total


@pytest.fixture(scope="module")
def lowered():
    settings = tiny(replay__capacity=4096)
    parts = compose(settings)
    states = jax.eval_shape(jax.vmap(make_init(settings, parts)), jnp.arange(3, dtype=jnp.int32))
    return make_chunk(settings, parts), (initial.start_clock(), states, 5)


def test_target_copy_stays_a_branch_under_many_seeds(lowered):
    chunk, arguments = lowered
    assert count_primitives(jax.make_jaxpr(chunk)(*arguments).jaxpr, "cond") == 1


@pytest.mark.parametrize("seeds", [1, 3])
def test_replay_is_never_copied(lowered, seeds):
    """No copy of the ring's largest array in the compiled text; the ring is far larger than anything else."""
    chunk, (clock, states, k) = lowered
    states = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((seeds, *leaf.shape[1:]), leaf.dtype), states)
    text = jax.jit(chunk, donate_argnums=1).lower(clock, states, k).compile().as_text()
    assert f"s8[{seeds},4096,7,3,2]" in text
    assert not re.findall(r"s8\[(\d,)?4096,7,3,2\]\S* copy\(", text)


def test_chunk_length_changes_nothing():
    built, clock, states = start(tiny(), [0, 1])
    other = jax.tree.map(jnp.copy, states)
    clock_a, a = built.chunk(clock, states, 9)
    clock_b, b = clock, other
    for k in (1, 3, 5):
        clock_b, b = built.chunk(clock_b, b, k)
    leaves_equal((clock_a, a), (clock_b, b))
    assert int(clock_a.episodes) == 9
    assert int(clock_a.updates) == 6  # the fourth episode fills the first batch


def test_vmapped_seeds_equal_single_runs():
    """World traces are equal exactly while nothing was learned; the first three updates to 1e-5."""
    settings = tiny()
    built, clock, states = start(settings, [3, 4])
    _, together = built.chunk(clock, states, 6)
    for i, seed in enumerate((3, 4)):
        single, clock, state = start(settings, [seed])
        _, alone = single.chunk(clock, state, 6)
        early = lambda states, index: jax.tree.map(lambda leaf: leaf[:4], one_seed(states.replay, index))
        leaves_equal(early(alone, 0), early(together, i))
        close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        jax.tree.map(close, one_seed(alone.params, 0), one_seed(together.params, i))


def test_target_is_copied_by_episodes():
    built, clock, states = start(tiny(learner__target_every_episodes=6), [0])
    first = jax.tree.map(np.array, states.params)
    clock, states = built.chunk(clock, states, 5)
    leaves_equal(states.target, first)
    clock, states = built.chunk(clock, states, 1)
    leaves_equal(states.target, states.params)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(states.params), jax.tree.leaves(first), strict=True))


@pytest.mark.slow
def test_many_worlds_and_updates():
    settings = tiny(rollout__worlds=2, learner__updates_per_episode=1.5, learner__target_every_episodes=4)
    built, clock, states = start(settings, [0])
    clock, states = built.chunk(clock, states, 3)
    assert (int(clock.episodes), int(clock.updates)) == (6, 6)  # three updates in each of the last two iterations
    assert int(states.env_steps[0]) == int(states.replay.valid[0, :6].sum())


@pytest.mark.slow
def test_tests_depend_on_seed_and_index_alone():
    """Two methods meet the same start states and specials; another index or seed gives others."""
    one, _, a = start(tiny("qmix"), [0, 1])
    two, _, b = start(tiny("vdn"), [0, 1])
    leaves_equal(a.env_params, b.env_params)
    assert two.test(actors(b), 0)["returns"].shape == (2, 3)
    first, again = one.test(actors(a), 0), one.test(actors(a), 0)
    leaves_equal(first, again)
    assert first["returns"].shape == (2, 3)
    assert one.final(actors(a), 0)["returns"].shape == (2, 5)


def test_methods_meet_the_same_start_states():
    """In a world that pays what its start state says, returns are a picture of the start states."""
    settings = {"evaluation__episodes": 40, "rollout__worlds": 1, "learner__updates_per_episode": 1}
    pictures = []
    for algo in ("qmix", "vdn"):
        built, _, states = start(tiny(algo, "matrix_gpvd", **settings), [0, 1], Probe("observation"))
        pictures.append([np.asarray(built.test(actors(states), index)["returns"]) for index in (0, 1)])
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0][0] != pictures[0][1]).any(), "another test must draw other states"
    assert (pictures[0][0][0] != pictures[0][0][1]).any(), "another seed must draw other states"


def test_learning_happens_only_with_a_full_batch():
    built, clock, states = start(tiny(), [0])
    before = jax.tree.map(np.array, states.params)
    clock, states = built.chunk(clock, states, 3)
    assert int(clock.updates) == 0
    leaves_equal(states.params, before)
