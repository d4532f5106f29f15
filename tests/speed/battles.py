"""How fast battles are: python -m tests.speed.battles 5m_vs_6m 32 1024

Prints the compilation time, then steps per second of whole episodes played by `battle_policies.nearest` with a third of
random actions, views included. SMAClite is measured in alternation where it is installed
(docs/external_environments.md). Seconds are processor time, so that a busy machine matters little.
"""

from __future__ import annotations

import sys
import time

import jax
import numpy as np

from gpgrad import envs
from tests.helpers import battle_policies

ROUNDS, NOISE = 5, 0.3


def ours(name: str, worlds: int):
    """rate() -> steps of one world a second, and the seconds of compilation."""
    env = envs.make(f"battle_{name}")

    def play(key: jax.Array):
        return battle_policies.episodes(env, key, worlds, battle_policies.nearest, NOISE)["length"]

    start = time.process_time()
    compiled = jax.jit(play).lower(jax.random.key(0)).compile()
    took = time.process_time() - start

    def rate(seed: int) -> float:
        start = time.process_time()
        length = np.asarray(compiled(jax.random.key(seed)))
        return worlds * length.max() / (time.process_time() - start)

    return rate, took


def smaclite(name: str):
    """rate() of SMAClite, or None where it is not installed or has no such map."""
    try:
        import gymnasium
        import smaclite  # noqa: F401
    except ImportError:
        return None
    if f"smaclite/{name}-v0" not in gymnasium.registry:
        return None
    game = gymnasium.make(f"smaclite/{name}-v0").unwrapped
    rng = np.random.default_rng(0)

    def rate(seed: int) -> float:
        game.reset(seed=seed)
        start, steps, done = time.process_time(), 0, False
        while not done and steps < 100:
            avail = np.array(game.get_avail_actions())
            scores = rng.random(avail.shape) + 2 * (np.arange(avail.shape[1]) >= 6)
            _, _, done, _, _ = game.step(np.argmax(np.where(avail, scores, -1), 1).tolist())
            game.get_state()
            steps += 1
        return steps / (time.process_time() - start)

    return rate


def main(name: str, *sizes: str) -> None:
    """Print a line for each number of worlds."""
    other = smaclite(name)
    for worlds in map(int, sizes or ("32", "1024")):
        rate, took = ours(name, worlds)
        mine, theirs = [], []
        for seed in range(ROUNDS):
            mine.append(rate(seed))
            theirs.append(other(seed) if other else np.nan)
        line = f"{name}, {worlds} worlds: {np.median(mine):,.0f} steps per CPU second, compiled in {took:.0f} s"
        print(line + (f"; SMAClite {np.median(theirs):,.1f}" if other else "; SMAClite is not installed"))


if __name__ == "__main__":
    main(*sys.argv[1:])
