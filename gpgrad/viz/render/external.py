"""An episode of a team in an external environment, drawn by the simulator itself while the team plays it."""

from __future__ import annotations

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gpgrad.envs.external.env import ExternalEnv, ExternalState, seed_words, seeds_of
from gpgrad.envs.external.process import SimulatorError
from gpgrad.errors import SettingError
from gpgrad.learning import iteration
from gpgrad.policies.load import TrainedTeam
from gpgrad.policies.policy import make_policy
from gpgrad.types import Purpose
from gpgrad.viz.render.episode import Episode

REPLAY = ".SC2Replay"


def film(team: TrainedTeam, index: int, out: Path) -> tuple[Episode, list[np.ndarray]]:
    """The greedy episode from the seed of episode `index` of the final test, and its frames uint8 [H, W, 3].

    StarCraft II draws nothing here: its own replay is written beside `out`, and there are no frames. Raises
    SettingError if the simulator fails, or has neither pictures nor replays.
    """
    env = team.parts.env
    assert isinstance(env, ExternalEnv)
    try:
        pool = env.drawn.open(1)
        try:
            return _play(pool, env, team, index, out)
        finally:
            pool.close()
    except SimulatorError as error:
        raise SettingError(f"{env.name} cannot be drawn: {' '.join(str(error).split())}") from None


def _play(pool, env: ExternalEnv, team: TrainedTeam, index: int, out: Path) -> tuple[Episode, list[np.ndarray]]:
    policy = make_policy(team)
    act = jax.jit(policy.act)
    view = jax.jit(jax.vmap(env.view, (None, 0)))
    key, _ = jax.random.split(iteration.stream(team.actor.key, Purpose.FINAL, 0))
    words = seed_words(jax.random.split(jax.random.split(key, index + 1)[-1])[0])
    _require(pool.reset([0], seeds_of(np.asarray(words)).tolist()), pool)
    frames, actions, rewards, carry = [pool.frame(0)], [], [], policy.init(1)
    while not actions or not (pool.terminated[0] or pool.truncated[0] or len(actions) == env.sizes.episode_limit):
        state = ExternalState(pool.obs, pool.avail, pool.state if env.sizes.state_dim else None)
        seen = view((), jax.tree.map(jnp.asarray, state))
        chosen, carry = act(carry, seen.obs, seen.avail)
        _require(pool.step([0], np.asarray(chosen)), pool)
        actions.append(np.asarray(chosen)[0])
        rewards.append(float(pool.reward[0]))
        frames.append(pool.frame(0))
    played = Episode(None, np.array(actions), np.array(rewards), jax.random.split(key, len(actions)))
    drawn = [frame for frame in frames if frame is not None]
    if not drawn:
        saved = pool.replay(0)
        if not saved:
            raise SettingError(f"{env.name} cannot be drawn: its simulator has no pictures (render_mode rgb_array)")
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(saved, out.with_suffix(REPLAY))
    return played, drawn


def _require(failed: list[int], pool) -> None:
    if failed:
        raise SimulatorError("; ".join(pool.news()))
