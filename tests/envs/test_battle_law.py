"""Battles played to their end beside SMAClite: the same scripted policy must have the same return, length and wins.

Single ticks are compared exactly in test_battle_traces. Whole battles diverge, since a contact between units depends on
the last bit of a float, so that their distributions are compared: with agents that act at random three times in ten.
"""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from gpgrad import envs
from tests.helpers import battle_policies

NOISE = 0.3
# Means and standard errors of SMAClite (0d6abbe, its NumPy avoidance) under `battle_policies.nearest` with that noise:
# return, length, share of wins; from 300, 250, 250, 120 and 120 episodes. Its episode of MMM2 was ended where only
# medivacs of ours were left, as SMAC ends it and `battle_MMM2` does; without that rule its length is 33.4 +- 0.5.
LAW = {
    "3m": ((4.534, 0.084), (14.297, 0.084), (0.003, 0.003)),
    "5m_vs_6m": ((4.600, 0.069), (14.216, 0.102), (0.0, 0.0)),
    "2s3z": ((10.410, 0.154), (39.380, 0.456), (0.028, 0.010)),
    "10m_vs_11m": ((7.439, 0.107), (18.092, 0.139), (0.0, 0.0)),
    "MMM2": ((6.825, 0.120), (26.583, 0.366), (0.0, 0.0)),
}
OPTIONS = {"MMM2": {"raises": True}}  # SMAClite's medivacs raise units that died in the same tick


@functools.cache
def played(name: str, episodes: int) -> np.ndarray:
    """Mean and standard error of return, length and wins: [3, 2]."""
    env = envs.make(f"battle_{name}", **OPTIONS.get(name, {}))
    play = jax.jit(lambda key: battle_policies.episodes(env, key, episodes, battle_policies.nearest, NOISE))
    rows = np.stack([np.asarray(play(jax.random.key(0))[k], float) for k in ("return", "length", "won")])
    return np.stack([rows.mean(1), rows.std(1, ddof=1) / np.sqrt(episodes)], 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(LAW))
def test_scripted_battles_have_the_law_of_smaclite(name):
    ours, theirs = played(name, 512), np.array(LAW[name])
    apart = np.abs(ours[:, 0] - theirs[:, 0])
    errors = np.hypot(ours[:, 1], theirs[:, 1])
    assert (apart <= np.maximum(3 * errors, [0.05, 0.05, 0.01])).all(), (ours, theirs)
