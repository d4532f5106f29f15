"""Every decomposition with every sharing scheme and weighting: whole iterations by shape, some of them for real.

Each part alone is run for real by its golden rows (test_golden.py).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpgrad.learning import initial, iteration
from gpgrad.learning.compose import compose
from gpgrad.methods import registry
from gpgrad.types import Clock, SeedState
from tests.helpers.probe_envs import Probe
from tests.helpers.tiny_runs import tiny

NAMES = {kind: registry.names(kind) for kind in registry.KINDS}
SETTINGS = {"rollout__worlds": 4, "learner__updates_per_episode": 0.25, "learner__batch_episodes": 4}
SEVERAL = 2  # schemes that each decomposition meets in the short test


class Roles(Probe):
    """Agents that differ, for schemes that must be told so."""

    def roles(self, params):
        del params
        return jnp.arange(2)


def iterate(decomposition: str, sharing: str, weighting: str):
    """The chunk of a tiny run and the shapes of its states."""
    early = {"sharing__episodes": 4} if "episodes" in registry.options("sharing", sharing) else {}
    settings = tiny(decomposition, "matrix_gpvd", sharing=sharing, weighting=weighting, **SETTINGS, **early)
    parts = compose(settings, Roles("discount"))
    init = jax.vmap(initial.make_init(settings, parts))
    return init, iteration.make_chunk(settings, parts)


def abstractly(decomposition: str, sharing: str, weighting: str) -> None:
    init, chunk = iterate(decomposition, sharing, weighting)
    states = jax.eval_shape(init, jnp.arange(1, dtype=jnp.int32))
    clock, after = jax.eval_shape(chunk, initial.start_clock(), states, jnp.int32(1))
    assert isinstance(clock, Clock)
    assert isinstance(after, SeedState)
    same = lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype)
    assert jax.tree.all(jax.tree.map(same, states, after))


@pytest.fixture
def without_sums(monkeypatch):
    """Sums of metrics are left out of the states: finding their names would trace the iteration once more."""
    monkeypatch.setattr(initial, "make_stats", lambda settings, parts: lambda *args: {})


@pytest.mark.parametrize("index", range(len(NAMES["decomposition"])))
def test_every_part_in_some_cell(without_sums, index):
    """Each decomposition with the next schemes and weightings in turn, so that all of them take part."""
    for i in range(SEVERAL * index, SEVERAL * (index + 1)):
        cell = (NAMES[kind][i % len(NAMES[kind])] for kind in ("sharing", "weighting"))
        abstractly(NAMES["decomposition"][index], *cell)


@pytest.mark.slow
@pytest.mark.parametrize("decomposition", NAMES["decomposition"])
def test_every_cell(without_sums, decomposition):
    for sharing in NAMES["sharing"]:
        for weighting in NAMES["weighting"]:
            abstractly(decomposition, sharing, weighting)


def twice(decomposition: str, sharing: str, weighting: str) -> None:
    """Two iterations with a gradient step each and the period's end after the second."""
    init, chunk = iterate(decomposition, sharing, weighting)
    states = jax.jit(init)(jnp.arange(1, dtype=jnp.int32))
    clock, after = jax.jit(chunk)(initial.start_clock(), states, 2)
    assert (int(clock.iterations), int(clock.updates)) == (2, 2)
    leaves = zip(jax.tree.leaves(states.params), jax.tree.leaves(after.params), strict=True)
    assert all(np.isfinite(b).all() for _, b in leaves)
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), states.params, after.params)
    assert any(jax.tree.leaves(changed.agent))
    trained = jax.tree.leaves(changed.decomposition)
    assert sum(trained) >= len(trained) / 2


@pytest.mark.slow
@pytest.mark.parametrize("decomposition", NAMES["decomposition"])
def test_decompositions_for_real(without_sums, decomposition):
    twice(decomposition, "gradps", "gpvd")


@pytest.mark.slow
@pytest.mark.parametrize("sharing", [name for name in NAMES["sharing"] if name != "gradps"])
def test_sharing_schemes_for_real(without_sums, sharing):
    twice("qmix", sharing, "none")
