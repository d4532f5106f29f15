"""Checks of a seed split over two devices, for a process of its own: python -m tests.helpers.sharded_runs FILE NAME...

JAX divides the CPU when it starts, so the tests' own process cannot. FILE gets the traceback of each check that failed.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from gpgrad import shards
from gpgrad.config.schema import Config
from gpgrad.learning import devices, initial, replay
from gpgrad.learning.compose import compose
from gpgrad.learning.iteration import learner_state
from gpgrad.learning.learner import Parts, make_gradient_step
from gpgrad.learning.program import actors, make_program
from gpgrad.training import checkpoint, seed_layout
from gpgrad.training.checkpoint import Position
from gpgrad.types import Episode
from tests.helpers.tiny_runs import tiny

GAME = {"rollout__worlds": 2, "learner__updates_per_episode": 1}  # all steps are in one state: one bucket
SAME = PartitionSpec()
PAIR = shards.Shards(2)


def spread(function, ins, outs):
    """The function on two devices."""
    mesh = devices.mesh(2, shards.AXIS)
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=ins, out_specs=outs, check_vma=False))


def agree(one: Any, two: Any, tolerance: float = 1e-5) -> None:
    """Integers are equal, floats up to the order of sums."""
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(two), strict=True):
        name = jax.tree_util.keystr(path)
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        a, b = np.asarray(a), np.asarray(b)
        if a.dtype.kind == "f":
            np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance, err_msg=name)
        else:
            np.testing.assert_array_equal(b, a, err_msg=name)


class States(NamedTuple):
    """Of an environment: leaves of several dtypes, keys among them."""

    place: jax.Array
    speed: jax.Array
    key: jax.Array


def numbered(numbers: Any) -> Episode:
    """Episodes identified by a number, whose last digit is the number of valid steps."""
    n = jnp.asarray(numbers)
    steps = jnp.arange(9)
    states = States(
        jnp.broadcast_to(n[:, None, None], (len(n), 10, 2)).astype(jnp.int8),
        jnp.broadcast_to(-n[:, None] / 7, (len(n), 10)),
        jax.vmap(lambda key: jax.random.split(key, 10))(jax.vmap(jax.random.key)(n)),
    )
    flags = steps < (n % 10)[:, None]
    return Episode(states, states.place[:, 1:], jnp.where(flags, -0.0, n[:, None] / 3), flags, flags)


def ring_is_the_same() -> None:
    """Insertions across the devices' border, sorted and unsorted samples, single steps: bit for bit."""
    example = jax.tree.map(lambda leaf: leaf[0], numbered([0]))
    split = PartitionSpec(shards.AXIS)

    def begin() -> Episode:
        keys = jax.vmap(jax.random.key)(jnp.zeros(12, int))
        states = States(
            jnp.zeros((12, 10, 2), jnp.int8), jnp.zeros((12, 10)), jnp.broadcast_to(keys[:, None], (12, 10))
        )
        rest = jax.tree.map(lambda leaf: jnp.zeros((12, *leaf.shape), leaf.dtype), example._replace(states=()))
        return rest._replace(states=states)

    def all_of(ring: Episode, shard: shards.Shards) -> tuple:
        key, filled = jax.random.key(5), jnp.int32(100)
        slots, times = replay.sample_steps(key, ring, filled, 7, shard)
        drawn = replay.sample(key, ring, filled, 6, shard, longest_first=True)
        if not shard.split:  # where the batch is not shared, what uses it sorts it
            drawn = jax.tree.map(lambda leaf: leaf[jnp.argsort(-drawn.valid.sum(1))], drawn)
        other = replay.sample(jax.random.key(6), ring, jnp.int32(8), 4, shard)
        return (shard.whole_rows(drawn), shard.whole_rows(other), shard.look(ring.states, slots, times), slots, times)

    insert, look = (
        jax.jit(lambda *args: replay.insert(*args)),
        jax.jit(lambda ring: all_of(ring, shards.WHOLE)),
    )
    insert_two = spread(lambda *args: replay.insert(*args, PAIR), (split, SAME, SAME), split)
    look_two = spread(lambda ring: all_of(ring, PAIR), (split,), SAME)
    one = two = begin()
    for start in range(0, 28, 4):  # slots 4 to 7 are on both devices
        new, at = numbered(range(start + 1, start + 5)), jnp.int32(start)
        one, two = insert(one, new, at), insert_two(two, new, at)
    agree(one, two, 0)
    first, second = look(one), look_two(two)
    agree(first, second, 0)
    assert (np.diff(np.asarray(first[0].valid).sum(1)) <= 0).all()
    assert len(set(np.asarray(second[1].states.place[:, 0, 0]))) == 4


def positions(settings: Config, folder: Path) -> None:
    """A run of one and of two devices, and checkpoints of each that go on in the other's program."""
    built = [make_program(settings), make_program(dataclasses.replace(settings, devices=2, shard="batch"))]
    ended, saved = [], []
    for program in built:
        clock, states = program.chunk(initial.start_clock(), program.init(jnp.array([3, 4], jnp.int32)), 7)
        kept = jax.tree.map(jnp.copy, actors(states))
        position = Position(clock, states, kept, np.zeros(2, bool), np.zeros((), np.int32))
        place = folder / str(len(saved))
        checkpoint.save(place, position, {}, 1)
        template = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), position)
        saved.append(checkpoint.read(checkpoint.found(place)[0], template))
        ended.append((*program.chunk(clock, states, 2), program.test(kept, 0)))
    agree(*ended)
    _, states, tested = ended[1]
    assert (np.asarray(states.stats["updates"]) > 8).all()
    assert (np.asarray(states.stats["share_downweighted"]) > 0).all()
    assert tested["returns"].shape == (2, 4)
    for before, program, after in zip(saved[::-1], built, ended[::-1], strict=True):
        states, _ = program.place(before.states, before.kept)
        agree(after[:2], program.chunk(before.clock, states, 2))
    text = built[1].chunk.lower(initial.start_clock(), ended[1][1], 1).compile().as_text()
    assert "s8[2,8,1,2]" in text, "a device holds half of the replay"
    assert "s8[2,16,1,2]" not in text, "a device holds half of the replay"
    sums = re.findall(r"= (\S+) all-reduce\(", text)
    assert sum(kind.startswith("f32[") for kind in sums) == 1, sums
    assert len(sums) == 2, "one sum of gradients, one of the number of valid steps"


def a_run_is_the_same() -> None:
    """GPVD, whose bucket spans devices, with GradPS, which adapts: collected and learned over two devices."""
    settings = tiny("gpvd_gradps", "matrix_gpvd", seeds=2, evaluation__episodes=4, **GAME)
    with tempfile.TemporaryDirectory() as folder:
        positions(settings, Path(folder))


def updates(parts: Parts, learner, target, env_params, episodes: Episode, key=None):
    """The same update on one device and on two."""
    key, clock = jax.random.key(1) if key is None else key, initial.start_clock()

    def step(parts: Parts):
        def run(learner, target, env_params, episodes):
            own = parts.shards.own(episodes, 0)
            return make_gradient_step(parts)(key, clock, learner, target, env_params, own)

        return run

    args = (learner, target, env_params, episodes)
    return jax.jit(step(parts))(*args), spread(step(parts._replace(shards=PAIR)), (SAME,) * 4, SAME)(*args)


def interference_crosses_devices() -> None:
    """The protected transition is on one device, the one that interferes with it on the other."""
    settings = tiny("gpvd", "matrix_gpvd", weighting__alpha=0.25, **GAME)
    parts = compose(settings)
    state = jax.jit(initial.make_init(settings, parts))(0)
    episodes = jax.tree.map(lambda leaf: leaf[:2], state.replay)
    episodes = episodes._replace(
        actions=jnp.array([[[0, 0]], [[0, 1]]], jnp.int8),  # the second shares an action with the first
        reward=jnp.array([[8.0], [-12.0]]),
        terminated=jnp.ones((2, 1), bool),
        valid=jnp.ones((2, 1), bool),
    )
    one, two = updates(parts, learner_state(state), state.target, state.env_params, episodes)
    agree(one, two)
    _, metrics = two
    found = {name: float(metrics[name]) for name in ("buckets", "share_downweighted", "share_protected", "weight")}
    assert found == {"buckets": 1, "share_downweighted": 0.5, "share_protected": 1, "weight": (1 + 0.25) / 2}, found


def random_heads_and_penalties_agree() -> None:
    """DMIX draws fractions for each episode, Kaleidoscope's penalty does not depend on the batch, lots are dealt anew.

    The episodes have unequal lengths, so the mean over valid steps is none of the devices' means.
    """
    settings = tiny("dmix", sharing="kaleidoscope", weighting="gpvd_random", weighting__k=3)
    parts = compose(settings)
    state = jax.jit(initial.make_init(settings, parts))(0)
    world = jax.vmap(parts.env.reset, (0, None))(jax.random.split(jax.random.key(0), 4), state.env_params)
    k_actions, k_reward = jax.random.split(jax.random.key(2))
    lasted = jnp.arange(6) < jnp.array([6, 5, 5, 1])[:, None]
    episodes = Episode(
        jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:, None], (4, 7, *leaf.shape[1:])), world),
        jax.random.randint(k_actions, (4, 6, 3), 0, 5).astype(jnp.int8),
        10 * jax.random.normal(k_reward, (4, 6)),
        jnp.zeros((4, 6), bool),
        lasted,
    )
    one, two = updates(parts, learner_state(state), state.target, state.env_params, episodes)
    agree(one, two)


CHECKS = {
    check.__name__: check
    for check in (
        ring_is_the_same,
        interference_crosses_devices,
        random_heads_and_penalties_agree,
        a_run_is_the_same,
    )
}


def main(file: str, *names: str) -> None:
    """Run the checks with these names, all by default."""
    seed_layout.divide_cpu(tiny(devices=2))
    assert jax.device_count() == 2, "the CPU is divided into two devices"
    failed = {}
    for name in names or CHECKS:
        try:
            CHECKS[name]()
            failed[name] = ""
        except Exception:
            failed[name] = traceback.format_exc()
    Path(file).write_text(json.dumps(failed))


if __name__ == "__main__":
    main(*sys.argv[1:])
