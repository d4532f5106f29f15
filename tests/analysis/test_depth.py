"""Counts of steps and launches that wait for each other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from gpgrad import __main__ as cli
from gpgrad import config
from gpgrad.analysis.depth import Depth, depth, parts_of_training, table

SQUARE = jnp.eye(2)


def products(n: int):
    """N products, one after the other, in a loop of known length."""
    return lambda x: jax.lax.scan(lambda carry, _: (carry @ carry, None), x, None, length=n)[0]


def count_to(n):
    """A loop whose length is a value."""
    return jax.lax.while_loop(lambda i: i < n, lambda i: i + 1, 0)


def by_platform(x):
    return jax.lax.platform_dependent(x, cpu=products(9), default=products(2))


CASES = {
    "elementwise": (lambda x: jnp.sin(x) + 1, SQUARE, Depth(0, 0)),
    "product": (lambda x: x @ x, SQUARE, Depth(0, 1)),
    "loop": (products(5), SQUARE, Depth(5, 10)),
    "nested": (lambda x: jax.lax.fori_loop(0, 3, lambda _, y: products(5)(y), x), SQUARE, Depth(18, 33)),
    "gradient": (jax.grad(lambda x: products(5)(x).sum()), SQUARE, Depth(10, 25)),
    "unused": (lambda x: (products(5)(x), x)[1], SQUARE, Depth(0, 0)),
    "jitted": (jax.jit(products(5)), SQUARE, Depth(5, 10)),
    "the deepest branch": (
        lambda x: jax.lax.cond(x[0, 0] > 2, products(5), products(7), x),
        SQUARE,
        Depth(7, 14),
    ),
    "length by value": (count_to, jnp.int32(7), Depth(7, 7)),
    "the longest lane": (jax.vmap(count_to), jnp.array([1, 5, 2]), Depth(5, 5)),
    "lengths in a loop": (
        lambda n: jax.lax.scan(lambda carry, i: (carry + count_to(i), None), n, jnp.arange(4))[0],
        jnp.int32(0),
        Depth(4 + 0 + 1 + 2 + 3, 4 + 0 + 1 + 2 + 3),
    ),
    "branches as taken": (
        lambda n: jax.lax.cond(n > 2, lambda: products(5)(SQUARE), lambda: SQUARE) * count_to(n),
        jnp.int32(2),
        Depth(2, 2),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_small_programs(name):
    function, argument, expected = CASES[name]
    assert depth(function, argument) == expected


@pytest.mark.parametrize(("platform", "length"), [("cpu", 9), ("cuda", 2), ("tpu", 2)])
def test_only_the_branch_of_the_platform_counts(platform, length):
    assert depth(by_platform, SQUARE, platform=platform) == Depth(length, 2 * length)
    looped = lambda n: by_platform(SQUARE) * count_to(n)
    assert depth(looped, jnp.int32(3), platform=platform) == Depth(length + 3, 2 * length + 3)


def test_collection_on_pp_large_waits_for_few_steps_on_accelerators():
    """A turn per predator and prey, 15 + 30, in each of 150 steps; in rounds a few per step."""
    settings = config.load("pp_large", "vdn", {"agent.hidden": "8", "replay.capacity": "32"})
    function, args = parts_of_training(settings)["collection"]
    turns, rounds = (depth(function, *args, platform=platform) for platform in ("cpu", "cuda"))
    assert turns.steps == 150 * (1 + 15 + 30)
    assert rounds.steps <= 5 * 150
    assert rounds.launches <= turns.launches / 4


def test_the_table(capsys, tmp_path):
    file = tmp_path / "depth.json"
    options = ["--env", "matrix_gpvd", "--algos", "vdn", "--agent.hidden", "8", "--json", str(file)]
    assert cli.main(["bench", "--depth", *options]) == 0
    shown = capsys.readouterr().out
    assert all(part in shown for part in ("collection", "update", "adaptation", "iteration", "vdn, cuda"))
    small = {"agent.hidden": 8, "sharing.episodes": 2}
    rows = {row.part: row.depth for row in table(config.load("matrix_gpvd", "vdn_seps", small), ["cuda"])}
    assert rows["fit"].steps > 0
    assert rows["collection"].steps == 1  # a step an episode
    assert rows["iteration"].steps >= rows["collection"].steps + rows["update"].steps
    assert '"part": "collection"' in file.read_text()
