"""Visit counts against dictionaries, and what a full run's worth of them costs."""

from __future__ import annotations

import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad.learning.compose import compose
from gpgrad.learning.initial import make_init, start_clock
from gpgrad.learning.iteration import make_chunk
from gpgrad.learning.program import make_program
from gpgrad.methods.weighting import gpvd, visits
from gpgrad.training.memory_plan import make_plan
from tests.helpers.tiny_runs import tiny

count, read = jax.jit(visits.count_visits, donate_argnums=0), jax.jit(visits.visits)


def distinct(start: int, stop: int, width: int) -> np.ndarray:
    """Different codes [N, W] without order: multiples of an odd number are a permutation of the words."""
    words = [np.arange(start, stop, dtype=np.uint64) * np.uint64(m) for m in (0x9E3779B1, 0x85EBCA77)]
    return np.stack(words[:width], -1).astype(np.uint32)


def bonus_error(read: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of equation 9's beta / sqrt(N), as a share of it."""
    got, wanted = (np.asarray(gpvd.intrinsic_reward(jnp.asarray(n), 1.0, 0.0)) for n in (read, truth))
    return np.abs(got - wanted) / wanted


def test_recorded_counts(oracles):
    """Both readings of a count: after all of a batch, and visit by visit."""
    inputs, expected = oracles["count_reward"]["inputs"], oracles["count_reward"]["expected"]
    codes, valid = inputs["codes"], jnp.array(inputs["mask"], bool)
    words = jnp.array(codes, jnp.uint32)[:, None]
    for k in (4, 32):
        counts = count(visits.make_counts(k, 100), words, valid)
        for code, times in expected["counts"].items():
            assert int(read(counts, jnp.array([int(code)], jnp.uint32))) == times
        online, seen = visits.make_counts(k, 100), []
        for i in range(len(words)):
            online = count(online, words[i], valid[i])
            seen.append(int(read(online, words[i])))
        own = [[c for c, ok in zip(codes[: i + 1], inputs["mask"], strict=False) if ok] for i in range(len(codes))]
        np.testing.assert_array_equal(seen, [own[i].count(code) for i, code in enumerate(codes)])


@pytest.mark.parametrize("k", [6, 20, 21, 32, 40, 64])
def test_counts_against_a_dictionary(k):
    """Batches with repeats and padding; every code of k bits may come, those of all zeros and all ones among them."""
    rng = np.random.default_rng(k)
    counts, truth = visits.make_counts(k, 20_000), Counter()
    limit = [min(2**32, 2 ** (k - 32 * i)) for i in range(-(-k // 32))]
    known = np.stack([rng.integers(0, high, 3000, dtype=np.uint64).astype(np.uint32) for high in limit], -1)
    known[0], known[1] = 0, [high - 1 for high in limit]
    for _ in range(4):
        batch, valid = rng.integers(0, 2500, 5000), rng.random(5000) < 0.8
        batch[:2000] %= 3
        counts = count(counts, jnp.array(known[batch]), jnp.array(valid))
        truth.update(tuple(row) for row in known[batch[valid]])
        wanted = [truth[tuple(row)] for row in known]  # the last 500 never come unless k is small
        np.testing.assert_array_equal(read(counts, jnp.array(known)), wanted)


def worst_case(steps: int, batch: int, width: int) -> tuple[np.ndarray, int]:
    """Visits of every code at the end of a run in which every step brings another one, and the bytes they take."""
    counts, every = visits.make_counts(32 * width, steps), jnp.ones(batch, bool)
    for at in range(0, steps, batch):
        counts = count(counts, jnp.asarray(distinct(at, at + batch, width)), every)
    seen = [read(counts, jnp.asarray(distinct(at, at + batch, width))) for at in range(0, steps, batch)]
    return np.concatenate(seen), sum(leaf.nbytes for leaf in jax.tree.leaves(counts))


@pytest.mark.parametrize(
    ("steps", "batch"),
    [(30_000, 3000), (30_000, 30_000), *(pytest.param(n, 10_000, marks=pytest.mark.slow) for n in (2**21, 10**7))],
)
@pytest.mark.parametrize("width", [1, 2])
def test_the_bonus_at_the_end_of_the_longest_list_of_states(steps, batch, width):
    """Every state distinct, as many as steps: nobody reads as visited more often, and next to all are found again."""
    batch = min(batch, steps)
    steps -= steps % batch
    seen, size = worst_case(steps, batch, width)
    assert seen.max() == 1
    assert (seen == 0).mean() < 0.01
    assert bonus_error(seen, np.ones(steps)).max() < 0.05
    assert size <= 6 * (1 + width) * steps


@pytest.mark.parametrize("width", [1, 2])
def test_the_bonus_where_half_of_the_steps_bring_new_states(width):
    """The other half go to a few of them, as to a start: against a dictionary, error over all codes and of the worst
    of the frequent ones.
    """
    rng, steps, batch = np.random.default_rng(0), 30_000, 1500
    counts, truth, codes = visits.make_counts(32 * width, steps), Counter(), distinct(0, steps // 2, width)
    for at in range(0, steps // 2, batch // 2):
        rows = np.concatenate([np.arange(at, at + batch // 2), rng.integers(0, 50, batch // 2) ** 2 % (at + 1)])
        counts = count(counts, jnp.asarray(codes[rows]), jnp.ones(batch, bool))
        truth.update(rows.tolist())
    wanted = np.array([truth[i] for i in range(steps // 2)])
    assert wanted.max() > 200
    error = bonus_error(np.asarray(read(counts, jnp.asarray(codes))), wanted)
    assert error.mean() < 0.001
    assert error[wanted > 10].max() == 0


def test_a_table_that_overflows_reads_what_it_lost_as_new():
    """More codes than room: those that found a slot keep their count, the others read 0 and get the bonus of one."""
    codes = jnp.asarray(distinct(0, 4000, 1))
    counts = visits.make_counts(32, 10)
    assert counts.table.shape == (1024,)
    for _ in range(3):
        counts = count(counts, codes, jnp.ones(4000, bool))
    got = np.asarray(read(counts, codes))
    assert set(got) == {0, 3}
    assert (got == 3).sum() > 1000


def test_seeds_at_once_count_as_each_by_itself():
    rng = np.random.default_rng(0)
    words = jnp.array(rng.integers(0, 300, (3, 2000, 2), dtype=np.uint32) * np.uint32(0x9E3779B1))
    valid = jnp.array(rng.random((3, 2000)) < 0.7)
    alone = [visits.count_visits(visits.make_counts(64, 900), w, v) for w, v in zip(words, valid, strict=True)]
    empty = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), visits.make_counts(64, 900))
    together = jax.vmap(visits.count_visits)(empty, words, valid)
    jax.tree.map(np.testing.assert_array_equal, together, jax.tree.map(lambda *x: jnp.stack(x), *alone))


def test_a_table_of_all_codes_is_taken_where_it_is_no_larger():
    assert visits.make_counts(20, 10).keys is None
    assert visits.make_counts(22, 2_000_000).keys is None
    assert visits.make_counts(22, 1_000_000).keys is not None
    assert visits.make_counts(32, 2_000_000).keys is not None


def test_visits_in_a_larger_table():
    codes = jnp.asarray(distinct(0, 900, 2))
    counts = count(visits.make_counts(64, 700), codes, jnp.arange(900) % 3 > 0)
    for k, steps in ((64, 7000), (64, 700)):
        moved = visits.resize(counts, visits.make_counts(k, steps))
        np.testing.assert_array_equal(read(moved, codes), read(counts, codes))
    short = count(visits.make_counts(21, 700), codes[:, :1] % 2**21, jnp.ones(900, bool))
    every = visits.resize(short, visits.make_counts(21, 10**6))
    assert every.keys is None
    np.testing.assert_array_equal(read(every, codes[:, :1] % 2**21), read(short, codes[:, :1] % 2**21))


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("g", ["identity", "zscore"])
def test_the_table_is_updated_in_place(seeds, g):
    """No copy of it in the compiled text of an iteration, neither where it is counted in nor in a branch."""
    settings = tiny("gpvd", weighting__k=40, weighting__g=g, t_max=2_000_000)
    parts = compose(settings)
    states = jax.eval_shape(jax.vmap(make_init(settings, parts)), jnp.arange(seeds, dtype=jnp.int32))
    text = jax.jit(make_chunk(settings, parts), donate_argnums=1).lower(start_clock(), states, 5).compile().as_text()
    assert f"s32[{seeds},3000000]" in text
    assert not re.findall(r"(?:s32|u32)\[(?:\d,)?3000000(?:,2)?\]\S* copy\(", text)


def test_memory_of_a_seed_names_the_counts():
    """They are part of the state beside the replay, and follow t_max."""
    needs = [
        make_plan(s, make_program(s)).state for s in (tiny("gpvd", weighting__k=64, t_max=t) for t in (10**4, 10**6))
    ]
    assert needs[1] - needs[0] == 12 * (1_500_000 - 15_000)
