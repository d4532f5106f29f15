"""What `bench` counts and how it compares."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad import __main__ as cli
from gpgrad.analysis import bench
from gpgrad.learning import ragged_batches
from gpgrad.learning.compose import compose
from gpgrad.learning.initial import start_clock
from gpgrad.learning.ragged_batches import TimeBlocks
from gpgrad.types import Episode
from tests.helpers.tiny_runs import BOARD, TINY, tiny


def test_products_are_counted_through_loops():
    def f(a, b):
        product = lambda a, b: a @ b  # [2, 3] x [3, 5]
        once = jax.lax.platform_dependent(a, b, cpu=product, default=product)
        return jax.lax.scan(lambda carry, _: (carry @ jnp.ones((5, 5)), None), once, None, length=7)[0]

    jaxpr = jax.make_jaxpr(f)(jnp.ones((2, 3)), jnp.ones((3, 5))).jaxpr
    assert bench.count_products(jaxpr) == 2 * 2 * 3 * 5 + 7 * 2 * 2 * 5 * 5


def test_update_flops_match_the_network():
    """Counted by hand: agent forward twice and backward once, no gradient for the inputs."""
    settings = tiny("vdn")
    parts = compose(settings)
    rows = (parts.env.spec.episode_limit + 1) * settings.learner.batch_episodes * parts.env.spec.n_agents
    width, inputs, actions = 8, parts.agent.n_inputs, parts.env.spec.n_actions
    first, rest = 2 * rows * inputs * width, 2 * rows * (6 * width * width + width * actions)
    counted = 2 * first + 3 * rest + first + rest
    limit = parts.env.spec.episode_limit
    count = settings.learner.batch_episodes
    assert bench.update_flops(settings, parts, ragged_batches.whole(limit, count)) == pytest.approx(counted, rel=0.02)
    assert bench.update_flops(settings, parts, ragged_batches.whole(1, count)) == pytest.approx(
        counted * 2 / (limit + 1), rel=0.02
    )
    halves = TimeBlocks((limit // 2, limit), (count, count // 2))
    share = (limit // 2 + (limit // 2 + 1) / 2) / (limit + 1)
    assert bench.update_flops(settings, parts, halves) == pytest.approx(counted * share, rel=0.02)


@pytest.mark.parametrize(
    ("longest", "ends_early", "expected"), [(3, True, 5), (6, True, 10), (11, True, 20), (3, False, 20)]
)
def test_updates_are_counted_as_long_as_they_are(longest, ends_early, expected):
    spec = SimpleNamespace(episode_limit=20, ends_early=ends_early)
    settings = tiny("vdn")
    count = settings.learner.batch_episodes
    valid = jnp.broadcast_to(jnp.arange(20) < longest, (count, 20))
    ring = Episode((), jnp.zeros((count, 20, 2), jnp.int8), jnp.zeros((count, 20)), valid, valid)
    state: Any = SimpleNamespace(key=jax.random.key(0), replay=ring)
    parts: Any = SimpleNamespace(env=SimpleNamespace(spec=spec))
    clock = start_clock()._replace(episodes=jnp.int32(count))
    assert set(bench.update_blocks(settings, parts, clock, state)) == {ragged_batches.whole(expected, count)}


def test_ratio_is_paired():
    rng = np.random.default_rng(0)
    speed = rng.uniform(1, 10, 200)  # the machine's mood, common to both
    middle, low, high = bench.ratio(1.5 * speed * rng.normal(1, 0.01, 200), speed)
    assert low < middle < high
    assert low > 1.49
    assert high < 1.51


def test_only_pieces_asked_for_are_measured():
    calls = Counter()

    def piece(name: str) -> bench.Timed:
        return bench.Timed(lambda: calls.update([name]), 1)

    settings: Any = tiny("vdn")
    pieces = {name: piece(name) for name in ("update", "sampling", "world", "iteration")}
    ready = [bench.Setup(label, settings, pieces, 1.0, 1.0, 1, 1) for label in ("a", "b")]
    rows = bench.report(ready, bench.measure(ready, 3, ("update", "iteration")))
    assert calls == {"update": 8, "iteration": 8}  # once to warm up, of each of the two
    assert all("update ms" in row and "trained episodes/s" in row and "update ratio" in row for row in rows)
    assert not any("sampling ms" in row or "environment steps/s" in row for row in rows)


@pytest.mark.slow
def test_bench_prints_and_writes(tmp_path, capsys):
    settings = [f"--{name}={value}" for name, value in {**TINY, **BOARD}.items() if name != "decomposition.embed"]
    file = tmp_path / "bench.json"
    asked = ["--algos", "vdn", "--vary", "seeds=2", "--rounds", "3", "--json", str(file)]
    assert cli.main(["bench", *asked, *settings]) == 0
    rows = json.loads(file.read_text())
    assert [row["configuration"] for row in rows] == ["vdn seeds=2"]
    assert rows[0]["update ratio"] == 1.0
    for row in rows:
        assert all(value > 0 for name, value in row.items() if name not in ("configuration", "outside the update"))
        assert row["outside the update"] < 1
        assert row["state MiB per seed"] > row["replay MiB per seed"]
    printed = capsys.readouterr().out
    for name in ("update ms", "sampling ms", "view ms", "share of machine", "environment steps/s", "compile s"):
        assert name in printed
    assert cli.main(["bench", "--rounds", "1"]) == 2
    assert cli.main(["bench", "--vary", "seeds"]) == 2
    assert "--vary must be a setting with values, such as seeds=1,8 (got 'seeds')" in capsys.readouterr().err
